"""A network as it is used after training: restored, and run over arrays of any length."""

import dataclasses
import functools
import hashlib
import math
from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

import resnet_model
import v1_networks
from data import checkpoints, inputs, tf1_checkpoints
from defenses import objectives
from errors import InputError

# Images per call of the network outside training.
CHUNK_SIZE = 200


class ChunkedFunction:
    """A function of tensors over arrays of any length: fixed chunks, one trace, every replica busy.

    Args:
      strategy: each of its replicas is given a chunk of its own.
      fn: called as fn(*rows, *constants); rows are tensors of `chunk_size` rows, zero-padded at the
        end; returns a tuple of tensors with as many rows.
      chunk_size: rows per replica and call.
      prepare: applied to each chunk of the first array, on the host.
    """

    def __init__(self, strategy: tf.distribute.Strategy, fn: Callable, *,
                 chunk_size: int = CHUNK_SIZE, prepare: Callable | None = None):
        self._strategy = strategy
        # Of a cluster those of this host: the others are not asked.
        self._replicas = len(strategy.extended.worker_devices)
        self._chunk_size = chunk_size
        self._prepare = prepare or (lambda chunk: chunk)
        self._step = tf.function(lambda rows, constants: strategy.run(fn, (*rows, *constants)))

    def __call__(self, *arrays, constants=(), on_rows_done=None) -> tuple[np.ndarray, ...]:
        """Runs over all rows.

        Args:
          *arrays: NumPy arrays with the same number of rows, at least one.
          constants: tensors, the same for every call.
          on_rows_done: called with the number of rows that each call has finished.

        Returns:
          The outputs of `fn` as NumPy arrays with the rows of `arrays`.
        """
        outputs = []
        chunks = zip(*(inputs.padded_chunks(a, self._chunk_size) for a in arrays), strict=True)
        for group in _grouped(chunks, self._replicas):
            valid = [chunk[0][1] for chunk in group]
            rows = [[part for part, _ in chunk] for chunk in group]
            for row in rows:
                row[0] = self._prepare(row[0])
            results = self._run(rows, constants)
            outputs += [[part[:n] for part in r] for r, n in zip(results, valid, strict=True)]
            if on_rows_done:
                on_rows_done(sum(valid))
        return tuple(np.concatenate(parts) for parts in zip(*outputs, strict=True))

    def _run(self, rows, constants):
        """One call; `rows[r]` are the arrays of replica r. Returns each replica's outputs."""
        # A last group that is not full repeats its first chunk on the idle replicas.
        padded = rows + [rows[0]] * (self._replicas - len(rows))
        outputs = self._step([spread(self._strategy, parts) for parts in zip(*padded, strict=True)],
                             tuple(constants))
        collected = [collect(self._strategy, out) for out in outputs]
        return [[out[r] for out in collected] for r in range(len(rows))]


def spread(strategy: tf.distribute.Strategy, arrays: Sequence[np.ndarray]):
    """One array per replica as the value that `strategy.run` hands to each."""
    if len(arrays) == 1:
        return tf.convert_to_tensor(arrays[0])
    return strategy.experimental_distribute_values_from_function(
        lambda context: tf.convert_to_tensor(arrays[context.replica_id_in_sync_group]))


def collect(strategy: tf.distribute.Strategy, value) -> list[np.ndarray]:
    """The array of each replica, of a value that `strategy.run` returned."""
    return [part.numpy() for part in strategy.experimental_local_results(value)]


def _grouped(items, size):
    group = []
    for item in items:
        group.append(item)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group


@dataclasses.dataclass(frozen=True)
class Network:
    """A network with its objective.

    Attributes:
      model: from images [n, h, w, c] to raw logits [n, L] and features [n, d].
      objective: gives the sign of the logits.
      expected: what it was built for; None of a network that was built otherwise.
      members: of an ensemble, the networks it consists of.
    """

    model: keras.Model
    objective: objectives.Objective
    expected: "Expected | None" = None
    members: tuple["Network", ...] = ()

    def logits(self, images: tf.Tensor) -> tf.Tensor:
        """Sign-adjusted logits float32 [n, L]: their softmax are the class probabilities."""
        return self.logits_and_features(images)[0]

    def logits_and_features(self, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Sign-adjusted logits float32 [n, L] and features float32 [n, d] of network inputs."""
        raw_logits, features = self.model(images, training=False)
        return self.objective.attack_logits(raw_logits), features

    def weights_sha256(self) -> str:
        """SHA-256 of all weights and moving averages (of an ensemble, of the members'): which network
        this is."""
        if self.members:
            digests = [bytes.fromhex(member.weights_sha256()) for member in self.members]
            return hashlib.sha256(b"".join(digests)).hexdigest()
        variables = resnet_model.named_variables(self.model)
        return sha256(*(variables[name].numpy() for name in sorted(variables)))

    def identity(self) -> dict[str, object]:
        """Which network this is, as JSON values: the fields of `expected`, and "weights_sha256"."""
        fields = dataclasses.asdict(self.expected) if self.expected else {}
        return {**fields, "weights_sha256": self.weights_sha256()}

    def forward(self, strategy: tf.distribute.Strategy) -> ChunkedFunction:
        """`logits_and_features` over network inputs float32 in [-0.5, 0.5], any number of them."""
        return ChunkedFunction(strategy, self.logits_and_features)

    def forward_stored(self, strategy: tf.distribute.Strategy) -> ChunkedFunction:
        """As `forward`, over images as they are stored: uint8, or float in [0, 1]."""
        return ChunkedFunction(strategy, self.logits_and_features, prepare=inputs.to_network_input)


def sha256(*arrays: np.ndarray) -> str:
    """SHA-256 of the bytes of arrays, in hexadecimal."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()


@dataclasses.dataclass(frozen=True)
class Expected:
    """What a script's flags and data say about the network; fields as in `checkpoints.RunRecord`."""

    dataset: str
    image_shape: tuple[int, int, int]
    num_classes: int
    blocks_per_stage: int
    objective: str
    model: str = "resnet"


def _resnet(run, *, dropout, **layers):
    del dropout  # it has none
    config = resnet_model.ResNetConfig(run.image_shape, run.num_classes, run.blocks_per_stage)
    return resnet_model.build_resnet(config, **layers)


def _simple_cnn(run, **layers):
    return v1_networks.build_simple_cnn(run.image_shape, run.num_classes, **layers)


def _mlp(run, *, seed, **_):
    return v1_networks.build_mlp(run.image_shape, run.num_classes, seed=seed)


# By --model.
BUILDERS = {"resnet": _resnet, "simple_cnn": _simple_cnn, "mlp": _mlp}


def build_model(run, *, seed: int = 0, batch_norm=resnet_model.FusedBatchNorm,
                dropout=v1_networks.Dropout, mixed_precision: str = "") -> keras.Model:
    """The Keras model of `run`, an `Expected` or a `checkpoints.RunRecord`.

    Args and result as of `v1_networks.build_simple_cnn`; a network ignores the layers it lacks.
    """
    return BUILDERS[run.model](run, seed=seed, batch_norm=batch_norm, dropout=dropout,
                               mixed_precision=mixed_precision)


def expected_of(run) -> Expected:
    """What a `checkpoints.RunRecord` says of its network."""
    return Expected(*(getattr(run, field.name) for field in dataclasses.fields(Expected)))


def build_network(strategy: tf.distribute.Strategy, run, *, seed: int = 0,
                  sync_batch_norm: bool = False, mixed_precision: str = "") -> Network:
    """A freshly initialised network for `run`, an `Expected` or a `checkpoints.RunRecord`.

    What it is computed in, and whether training shares its batch statistics among the replicas,
    belongs to a training run: see `resnet_model.build_resnet` and `FusedBatchNorm`.
    """
    batch_norm = functools.partial(resnet_model.FusedBatchNorm, synchronized=sync_batch_norm)
    with strategy.scope():
        model = build_model(run, seed=seed, batch_norm=batch_norm, mixed_precision=mixed_precision)
    return Network(model, objectives.get(run.objective), expected_of(run))


def load_weights(network: Network, path: str, expected: Expected,
                 note: Callable[[str], None] = lambda sentence: None
                 ) -> checkpoints.RunRecord | None:
    """Restores the network from the checkpoint at `path`, ours or the original's.

    Args:
      network: built for `expected`.
      path: prefix of the checkpoint.
      expected: what it must be of.
      note: told of a checkpoint of the original, whose objective nothing can check.

    Returns:
      The run record; None of a checkpoint of the original.

    Raises:
      InputError: the checkpoint is unreadable or contradicts `expected`.
    """
    variables = resnet_model.named_variables(network.model)
    if tf1_checkpoints.is_tf1(path):
        check_tf1(path, expected.model)
        step = tf1_checkpoints.restore_network(path, variables)
        note(tf1_note(path, step, expected.objective))
        return None
    record, _ = checkpoints.read_record(path)
    checkpoints.check_record(path, record, expected, checkpoints.NETWORK_FIELDS)
    checkpoints.restore_network(path, variables)
    return record


def check_tf1(path: str, model: str) -> None:
    """Raises an InputError unless `model` is what the original's checkpoint at `path` is of."""
    if model != "resnet":
        raise InputError(f"--model contradicts the checkpoint {path}: expected model='resnet', as of "
                         f"every one of the original TensorFlow 1 code. Received: {model=}.")


def tf1_note(path: str, step: int, objective: str) -> str:
    """What the user should know of a checkpoint of the original, at `step`, taken for `objective`."""
    return (f"{path} is a checkpoint of the original TensorFlow 1 code, of step {step}. It does not "
            f"tell its objective: --RCE_train decides, here for {objective.upper()}.")


def restore(strategy: tf.distribute.Strategy, log_root: str, expected: Expected,
            note: Callable[[str], None] = lambda sentence: None) -> Network:
    """The network of the newest whole checkpoint in `log_root`; InputError when there is none.

    Several folders, separated by commas, are restored as one `ensemble`. `note` is told what the user
    should know of the checkpoints that were found, a sentence each.
    """
    members = []
    for folder in log_root.split(","):
        path = checkpoints.require_whole(folder, note)
        members.append(build_network(strategy, expected))
        load_weights(members[-1], path, expected, note)
    return members[0] if len(members) == 1 else ensemble(strategy, members)


def ensemble(strategy: tf.distribute.Strategy, members: Sequence[Network]) -> Network:
    """A deep ensemble (Lakshminarayanan et al., arXiv 1612.01474) of networks for the same images.

    Its probabilities are the mean of the members', its features theirs side by side.
    """
    objective, expected = members[0].objective, members[0].expected
    with strategy.scope():
        images = keras.Input(expected.image_shape, name="images")
        # Under names of their own, which Keras asks for.
        parts = [keras.Model(member.model.inputs, member.model.outputs, name=f"member_{k}")(images)
                 for k, member in enumerate(members)]
        raw_logits, features = zip(*parts, strict=True)
        # As a factor, which Keras's symbolic tensors know; it is its own inverse.
        sign = float(objective.attack_logits(tf.ones([])))
        mean = keras.ops.logsumexp(keras.ops.log_softmax(
            sign * keras.ops.stack(raw_logits), axis=-1), axis=0) - math.log(len(members))
        outputs = sign * mean, keras.ops.concatenate(features, axis=-1)
        model = keras.Model(images, outputs, name="ensemble")
    return Network(model, objective, expected, tuple(members))


def count_correct(forward: ChunkedFunction, image_set: inputs.ImageSet, num_images: int) -> int:
    """How many of the first `num_images` images a `forward_stored` classifies correctly."""
    logits, _ = forward(image_set.images[:num_images])
    return int(np.sum(np.argmax(logits, axis=-1) == image_set.labels[:num_images]))
