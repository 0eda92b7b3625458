"""Evaluates the checkpoints of a training run on the test images, as the original's test_nor.py.

    python test_nor.py --dataset=digits --log_root=models_digits/resnet8 --num_residual_units=1 \
        --mode=eval --RCE_train=True

Ends after a checkpoint that has reached the total steps of its run; until then it waits for new ones.
"""

import contextlib
import dataclasses
import os

import flags

from options import network as network_options
from options import training as training_options

flags.start(__name__, network_options.define, network_options.define_keras,
            training_options.define_test_nor)

import tensorflow as tf

from data import inputs
from errors import InputError, RunError, first_line
from files import checkpoints, paths, provenance, tf1_checkpoints
from networks import restoring
from networks.network import Network, count_correct
from networks.spec import NetworkSpec
from options import devices

# Differs from the original: its --mode=eval crashes; both modes do what it was to do.
MODES = ("train", "eval")
# The original's batch, in which --eval_batch_count counts; how many images are computed at once is
# the network's affair.
COUNT_BATCH = 100


def evaluate(network: Network, strategy: tf.distribute.Strategy, paths,
             expected: NetworkSpec, image_set: inputs.ImageSet, num_images: int, *,
             eval_dir: str, total_steps: int | None) -> dict:
    """Evaluates checkpoints as they come, until one is finished.

    Args:
      network: built for `expected`; its weights are overwritten.
      strategy: in whose scope the network was built.
      paths: iterable of checkpoint paths.
      expected: what the checkpoints must be of.
      image_set: test images.
      num_images: the first so many are used.
      eval_dir: folder of the TensorBoard scalars Precision and Best Precision.
      total_steps: step at which to end; None: the total steps recorded in the checkpoint.

    Returns:
      Figures of the last evaluation: step, precision, best_precision, num_images.
    """
    forward = network.forward_stored(strategy)
    best, figures, scalars = 0.0, {}, _Scalars(eval_dir)
    for newest in paths:
        run, path = _load_whole(network, newest, expected)
        # The one that stands in for a damaged one may have been evaluated before.
        if path is None or figures.get("step") == checkpoints.step_of(path):
            continue
        step = checkpoints.step_of(path)
        precision = count_correct(forward, image_set, num_images) / num_images
        best = max(best, precision)
        scalars.tell(step, precision, best)
        figures = {"step": step, "precision": precision, "best_precision": best,
                   "num_images": num_images}
        # Differs from the original: it evaluates for ever.
        # One of the original's, which tells no end, is the only one there will be.
        if run is None or step >= (total_steps or run.total_steps):
            break
    return figures


def evaluate_fixed(opened: network_options.Opened, num_images: int, eval_dir: str) -> dict:
    """Evaluates a network that trains no further, of a file of Keras; as `evaluate`, at step 0."""
    precision = count_correct(opened.network.forward_stored(opened.strategy), opened.image_set,
                              num_images) / num_images
    _Scalars(eval_dir).tell(0, precision, precision)
    return {"step": 0, "precision": precision, "best_precision": precision, "num_images": num_images}


class _Scalars:
    """The line of each evaluation, and its TensorBoard scalars in a folder."""

    def __init__(self, eval_dir):
        self._eval_dir, self._writer = eval_dir, None

    def tell(self, step, precision, best):
        print(f"precision: {precision:.5f}, best precision: {best:.5f}", flush=True)
        try:
            # Not before a checkpoint has proved good: bad input leaves no file.
            self._writer = self._writer or tf.summary.create_file_writer(self._eval_dir)
            with self._writer.as_default(step=step):
                tf.summary.scalar("Precision", precision)
                tf.summary.scalar("Best Precision", best)
            self._writer.flush()  # the next checkpoint may be hours away
        except tf.errors.OpError as error:
            raise RunError(f"could not write to eval_dir={self._eval_dir!r} "
                           f"({first_line(error)}).") from error


def _load_whole(network, newest, expected):
    """Restores the newest checkpoint, or the newest whole one where that is damaged: its run record and
    its path; None twice where none is whole."""
    try:
        return restoring.load_weights(network, newest, expected, flags.warn), newest
    except checkpoints.DamagedCheckpoint as error:
        damaged = error
    path = None
    with contextlib.suppress(checkpoints.DamagedCheckpoint):
        path, _ = checkpoints.newest_whole(os.path.dirname(newest))
    if path == newest:
        # Whole, and of no use: it lacks what the network needs.
        raise damaged
    if path is None:
        flags.warn(f"{damaged} Waiting for the next one.")
        return None, None
    flags.warn(f"{damaged} Using {path} instead.")
    return restoring.load_weights(network, path, expected, flags.warn), path


def _watched_paths(log_root, timeout):
    """Each checkpoint of log_root once, as it appears; ends when none comes for `timeout` seconds."""
    newest = checkpoints.latest(log_root)
    if newest and tf1_checkpoints.is_tf1(newest):
        return [newest]
    if newest is None:
        print(f"No checkpoint in {log_root} yet: waiting for train.py.", flush=True)
    return checkpoints.as_they_come(log_root, timeout)


def _evaluate_file(batches):
    """Network, figures and folder of a --model=<file>.keras."""
    F = flags.FLAGS
    opened = network_options.open_network()
    eval_dir = _eval_dir(os.path.dirname(F.model))
    count = _count(batches, opened.image_set)
    return opened.network, evaluate_fixed(opened, count, eval_dir), eval_dir


def _evaluate_checkpoints(batches):
    """Network, figures and folder of the checkpoints in --log_root."""
    F = flags.FLAGS
    units = network_options.blocks_per_stage()
    log_root = flags.require("log_root")
    strategy = devices.make_strategy(F.num_gpus, F.num_cpu_replicas)
    image_set = inputs.load(F.dataset, F.eval_data_path, "test", data_dir=F.data_dir,
                            num_classes=F.num_classes)
    expected = network_options.spec_of_flags(
        image_set.images.shape[1:], image_set.num_classes, units)
    count = _count(batches, image_set)
    found = ([checkpoints.require_whole(log_root, flags.warn)] if F.eval_once
             else _watched_paths(log_root, F.eval_timeout))
    # The default is the original's and ends nothing: the run's own steps do.
    total_steps = F.total_steps if F["total_steps"].present else None
    eval_dir = _eval_dir(log_root)
    network = dataclasses.replace(restoring.build_network(strategy, expected),
                                  source=f"the network in {log_root}")
    figures = evaluate(network, strategy, found, expected, image_set, count,
                       eval_dir=eval_dir, total_steps=total_steps)
    if not figures:
        raise InputError(f"expected a checkpoint in log_root within --eval_timeout={F.eval_timeout} "
                         f"seconds. Received: none in log_root={log_root!r}.")
    return network, figures, eval_dir


def _eval_dir(beside):
    """--eval_dir, by default a folder where the network lies."""
    folder = flags.FLAGS.eval_dir or os.path.join(beside, "eval")
    paths.require_folder(folder, "eval_dir")
    return folder


def _count(batches, image_set):
    return flags.num_images(batches, COUNT_BATCH, len(image_set.labels), "each is evaluated once")


def main() -> int:
    """Turns the flags into an evaluation."""
    flags.check_choice("mode", MODES)
    batches = flags.check_at_least("eval_batch_count", 1, or_all=True)
    network, figures, eval_dir = (_evaluate_file if network_options.names_a_file()
                                  else _evaluate_checkpoints)(batches)
    provenance.write(eval_dir, "test_nor", flags=flags.as_dict(),
                      metrics=figures | {"network": network.identity()})
    return 0


if __name__ == "__main__":
    flags.run(main)
