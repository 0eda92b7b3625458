"""A network of your own: trained with Keras, attacked with PGD and C&W, guarded by a detector.

    PYTHONPATH=. python examples/keras_network.py
"""

import environment  # noqa: F401 before TensorFlow

import keras
import numpy as np
import tensorflow as tf
from keras import layers

import attacks
import networks
from data import inputs, pixels
from defenses.deployed import Fit, fit_detector
from evaluation.crafter import Crafter

train, test = inputs.load("digits", "", "train"), inputs.load("digits", "", "test")  # pixels in [0, 1]
keras.utils.set_random_seed(0)
model = keras.Sequential([
    layers.Input((8, 8, 1)), layers.Conv2D(16, 3, activation="relu"), layers.Conv2D(32, 3),
    layers.ReLU(), layers.Flatten(), layers.Dense(32), layers.Dense(10, activation="softmax")])
model.compile("adam", "sparse_categorical_crossentropy")
model.fit(train.images, train.labels, batch_size=32, epochs=6, verbose=0)

network = networks.from_keras(model, model_input="0..1", note=print)
detector = fit_detector(network, train.images, train.labels, test.images[:180],
                        fit=Fit(num_kernels=50, false_refusal_rates=(0.05,)))
cpu = tf.distribute.OneDeviceStrategy("/cpu:0")
images, labels, index = test.images[180:280], test.labels[180:280], np.arange(100)
x = pixels.to_network_input(images)  # attacks work in [-0.5, 0.5]
pgd = Crafter(network, cpu, attacks.get("pgd"), seed=0)(x, index, eps=0.1)
numbers = {"num_steps": 50, "learning_rate": 0.05, "num_search_steps": 5}
carlini = Crafter(network, cpu, attacks.get("carliniL2"), seed=0, settings=numbers)(
    x, index, targets=[(labels + 1) % 10])

for name, shown in (("normal", x), ("PGD", pgd["adversarial"]), ("C&W", carlini["adversarial"])):
    answer = detector(np.clip(shown + 0.5, 0, 1))
    wrong = answer.labels != labels
    print(f"{name}: {wrong.sum()} of 100 wrong, {(wrong & answer.accepted).sum()} of them answered; "
          f"the first ten: {', '.join(answer.words()[:10])}")
