"""The pre-activation ResNet of the original (resnet_model.py) as a row builds it."""

import keras

import resnet_model


def build_resnet(image_shape: tuple[int, int, int], num_classes: int, *, blocks_per_stage: int,
                 **layers) -> keras.Model:
    """ResNet-(6 · blocks_per_stage + 2).

    Args:
      image_shape: (height, width, channels); height and width divisible by 4.
      num_classes: width of the logits.
      blocks_per_stage: at least 1.
      **layers: seed, batch_norm and mixed_precision of `resnet_model.build_resnet`, whose model it is.
    """
    config = resnet_model.ResNetConfig(image_shape, num_classes, blocks_per_stage)
    return resnet_model.build_resnet(config, **layers)
