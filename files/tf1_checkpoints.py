"""Checkpoints of the original TensorFlow 1 code: read, described and written.

The original's Saver stores every variable of its graph under its name: those of the network
(`unit_1_0/sub1/conv1/DW`), the optimizer's slots (`.../DW/Momentum`), the shadows of the zero-debiased
moving averages (`<scope>/<scope>/moving_mean/{biased,local_step}`) and `global_step`.
"""

import contextlib
import dataclasses
import re
from collections.abc import Iterable, Mapping

import numpy as np
import tensorflow as tf

from errors import InputError, first_line
from files import atomic, checkpoints
from files.tf_paths import literal_folder

_TF1_LEAF = {"kernel": "DW", "bias": "biases"}
_NETWORK_LEAVES = {"DW", "biases", "beta", "gamma", "moving_mean", "moving_variance"}
# Every network of the original has it and none of ours: DW is its word for a kernel.
_MARK = "init/init_conv/DW"
_STEP = "global_step"
_BATCH_NORM_DECAY = 0.9
# By --Optimizer: the end of a slot's name here → in the original.
_SLOTS = {
    "sgd": {},
    "mom": {"momentum": "Momentum"},
    "adam": {"momentum": "Adam", "velocity": "Adam_1"},
    "rmsprop": {"rms": "RMSProp", "momentum": "RMSProp_1"},
}
# TF1's Adam also stores these powers, which Keras computes from the iteration.
_ADAM_BETAS = {"beta1_power": 0.9, "beta2_power": 0.999}


@dataclasses.dataclass(frozen=True)
class Structure:
    """What the variables of one of the original's checkpoints tell about its run.

    Attributes:
      channels: of the images.
      num_classes: width of the logits.
      blocks_per_stage: n of ResNet-(6n+2).
      use_bottleneck: whether the units are bottlenecks.
      optimizer: "mom", "adam" or "rmsprop" as the slots say; None without slots (sgd has none).
      step: global_step, the number of updates.
    """

    channels: int
    num_classes: int
    blocks_per_stage: int
    use_bottleneck: bool
    optimizer: str | None
    step: int


def tf1_name(name: str) -> str:
    """The original's name of a variable of ours, e.g. `logit/DW` of `logit/kernel`.

    Args:
      name: as `resnet_model.named_variables` of a network gives it.
    """
    scope, _, leaf = name.rpartition("/")
    return f"{scope}/{_TF1_LEAF.get(leaf, leaf)}"


def is_tf1(path: str) -> bool:
    """Whether `path` is a checkpoint of the original; False for ours and for what is unreadable."""
    try:
        with checkpoints.opened(path) as reader:
            return reader.has_tensor(_MARK)
    except checkpoints.UNREADABLE:
        return False


def describe(path: str) -> Structure:
    """What the original's checkpoint at `path` holds, by the names and shapes of its variables.

    Raises:
      InputError: the checkpoint is unreadable or not one of the original's.
    """
    with _naming(path), checkpoints.opened(path) as reader:
        shapes = reader.get_variable_to_shape_map()
    for name in (_MARK, "logit/DW", _STEP):
        if name not in shapes:
            raise InputError("expected a checkpoint of the original TensorFlow 1 code, with the "
                             f"variable {name}. Received: {path!r} without it.")
    # All stages have as many units: the first tells.
    blocks = {match[1] for match in (re.match(r"unit_1_(\d+)/", name) for name in shapes) if match}
    slots = [name for name, kinds in _SLOTS.items()
             if kinds and all(f"logit/DW/{kind}" in shapes for kind in kinds.values())]
    return Structure(
        channels=shapes[_MARK][2], num_classes=shapes["logit/DW"][1], blocks_per_stage=len(blocks),
        use_bottleneck=any("/sub3/" in name for name in shapes),
        optimizer=slots[0] if slots else None, step=int(_read(path, [_STEP])[_STEP]))


def restore_network(path: str, network: dict[str, tf.Variable]) -> int:
    """Assigns every variable of the network from the original's checkpoint at `path`.

    Args:
      path: prefix of the checkpoint.
      network: variables by name, as `resnet_model.named_variables` gives them.

    Returns:
      global_step of the checkpoint.

    Raises:
      InputError: the checkpoint is damaged or of another network; then nothing is assigned.
    """
    targets = {tf1_name(name): variable for name, variable in network.items()}
    _check_names(path, targets)
    values = _read(path, [*targets, _STEP])
    step = int(values.pop(_STEP))
    _assign(path, targets, values)
    checkpoints.check_finite(path, network)
    return step


def restore_optimizer(path: str, network_names: Iterable[str], optimizer: dict[str, tf.Variable],
                      optimizer_name: str) -> None:
    """Fills the slots and the iteration of an optimizer from the original's checkpoint at `path`.

    Args:
      path: prefix of the checkpoint.
      network_names: names of the network's variables.
      optimizer: its variables by name, as `resnet_model.named_variables` gives them.
      optimizer_name: "sgd", "mom", "adam" or "rmsprop".

    Raises:
      InputError: the checkpoint is damaged, lacks a slot or has one of another shape; then nothing
        is assigned.
    """
    targets = {theirs: optimizer[ours]
               for ours, theirs in _slot_names(network_names, optimizer, optimizer_name).items()}
    with _naming(path), checkpoints.opened(path) as reader:
        stored = reader.get_variable_to_shape_map()
    missing = next((name for name in targets if name not in stored), None)
    if missing:
        raise InputError(f"expected the slots of --Optimizer={optimizer_name} in the checkpoint "
                         f"{path}. Received: none called {missing}.")
    values = _read(path, [*targets, _STEP])
    _assign(path, targets | {_STEP: optimizer[f"{optimizer_name}/iteration"]}, values)


def optimizer_slots(network_names: Iterable[str], optimizer: Mapping[str, tf.Variable],
                    optimizer_name: str) -> dict[str, np.ndarray]:
    """What TF1's optimizer would store: the inverse of `restore_optimizer`; arguments as there.

    Returns:
      Arrays by the original's names, for `save`: a slot per trainable variable and kind.
    """
    names = _slot_names(network_names, optimizer, optimizer_name)
    slots = {theirs: optimizer[ours].numpy() for ours, theirs in names.items()}
    if optimizer_name == "adam":
        updates = int(optimizer["adam/iteration"].numpy())
        # TF1 keeps the power that the next update uses.
        slots |= {name: np.float32(beta ** (updates + 1)) for name, beta in _ADAM_BETAS.items()}
    return slots


def save(folder: str, network: Mapping[str, np.ndarray], slots: Mapping[str, np.ndarray],
         step: int) -> str:
    """Writes a checkpoint that the original's tf.train.Saver restores, and makes it the newest.

    Args:
      folder: where to; made where missing.
      network: arrays by our names.
      slots: arrays by the original's names, e.g. `logit/DW/Momentum`.
      step: number of updates so far.

    Returns:
      Its prefix, `<folder>/model.ckpt-<step>`.
    """
    variables = {tf1_name(name): np.asarray(value) for name, value in network.items()}
    variables |= {**_shadows(variables, step), **slots, _STEP: np.int64(step)}
    stem = f"model.ckpt-{step}"
    # The bare op, as tf.train.Checkpoint would name the variables by its own tree of objects; it
    # has a kernel for the CPU only.
    with (atomic.atomic_folder(folder) as temporary, literal_folder(temporary) as literal,
          tf.device("/cpu:0")):
        tf.raw_ops.SaveV2(
            prefix=f"{literal}/{stem}", tensor_names=list(variables),
            shape_and_slices=[""] * len(variables), tensors=list(variables.values()))
    path = f"{folder}/{stem}"
    # Last: until then nothing points to the files.
    checkpoints.write_state(folder, [path])
    return path


def _shadows(variables, step):
    """The zero-debias variables that TF1's `assign_moving_average` would have after `step` updates."""
    # Differs from the original: our averages are plain and have none. Its Saver refuses a checkpoint
    # that lacks any variable of its graph, so they are made up.
    shadows = {}
    for name, value in variables.items():
        scope, _, leaf = name.rpartition("/")
        if leaf.startswith("moving_"):
            # The debiased average is biased / (1 − 0.9^t).
            shadows[f"{scope}/{name}/biased"] = value * np.float32(1.0 - _BATCH_NORM_DECAY**step)
            shadows[f"{scope}/{name}/local_step"] = np.float32(step)
    return shadows


def _slot_names(network_names, optimizer, optimizer_name):
    """{name of a slot here: in the original} for the variables that have slots: the trainable."""
    names = {}
    for name in network_names:
        scope, _, leaf = name.rpartition("/")
        for ours, theirs in _SLOTS[optimizer_name].items():
            # Keras names a slot after its variable's path, "/" made "_" but those of our scopes.
            slot = f"{optimizer_name}/{scope}_{leaf}_{ours}"
            if slot in optimizer:
                names[slot] = f"{tf1_name(name)}/{theirs}"
    return names


def _check_names(path, targets):
    """Raises InputError unless the network variables in the checkpoint are those of `targets`."""
    with _naming(path), checkpoints.opened(path) as reader:
        stored = reader.get_variable_to_shape_map()
    found = sorted(name for name in stored if name.rpartition("/")[2] in _NETWORK_LEAVES)
    missing = next((name for name in targets if name not in stored), "none")
    unexpected = next((name for name in found if name not in targets), "none")
    if (missing, unexpected) != ("none", "none"):
        raise InputError(
            f"expected exactly the variables of the network that --num_residual_units sets in the "
            f"checkpoint {path}. Received: first missing variable={missing}, first unexpected "
            f"variable={unexpected}.")


def _assign(path, targets, values):
    for name, variable in targets.items():
        # All are compared before the first is assigned: an error leaves the network as it was.
        if values[name].shape != tuple(variable.shape):
            raise InputError(
                f"expected {name} of shape {tuple(variable.shape)}, as the data set's images and "
                f"classes ask for, in the checkpoint {path}. Received: shape={values[name].shape}.")
    for name, variable in targets.items():
        variable.assign(values[name])


def _read(path, names):
    """Name → array, all of them read before anything is done with one."""
    with _naming(path), checkpoints.opened(path) as reader:
        return {name: np.asarray(reader.get_tensor(name)) for name in names}


@contextlib.contextmanager
def _naming(path):
    """Turns what TensorFlow raises for a damaged checkpoint into an InputError naming `path`."""
    try:
        yield
    except checkpoints.UNREADABLE as error:
        raise InputError("expected a whole checkpoint of the original TensorFlow 1 code. "
                         f"Received: {path!r} ({first_line(error)}).") from error
