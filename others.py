"""Further jobs with a trained network and its data, as the original's others.py.

    python others.py --dataset=digits --log_root=models_digits/resnet8 --num_residual_units=1 \
        --mode=kernel_para --eval_batch_count=-1 --RCE_train=True

One trade, whatever its length: the original's name and --mode are a command line for short jobs, and
what each of them does is in the rooms.
"""

import dataclasses
import fnmatch
import os
from pathlib import Path

import flags

from options import jobs as job_options
from options import network as network_options

flags.start(__name__, network_options.define, network_options.define_keras, job_options.define)

from tqdm import tqdm

from data import get_spec, inputs
from data.pixels import to_network_input
from defenses import scores, shipping
from errors import InputError
from figures import drawing
from files import checkpoints, paths, pretrained, provenance, tf1_checkpoints
from files import detectors as detector_files
from files.features import (
    save_training_features,
    save_training_scores,
    save_tsne,
    training_files,
    tsne_files,
)
from files.images import save_bin, save_pngs
from files.names import CHECKPOINT_FILES, kernel_dir, normal_tsne_dir
from networks import get_network, heads, importing, portable, restoring, title_of
from networks.network import count_correct
from networks.spec import spec_of
from options import devices
from resnet_model import named_variables
from training import optimizers

COUNT_BATCH = 100
# As in the original: 1,000 images.
TSNE_BATCHES = 10
# Of every run of the original.
TF1_BATCH_SIZE = 128


def kernel_para() -> None:
    """Features and true labels of training images, from which detect.py draws its kernels."""
    F = flags.FLAGS
    batches = flags.check_at_least("eval_batch_count", 1, or_all=True)
    folder = kernel_dir(F.dataset)
    paths.require_folder(folder)
    # The original passes the training file as --eval_data_path, and no other.
    path = F.train_data_path or F.eval_data_path
    network, logits, features, labels = _outputs_of("train", path, batches, lambda tag: (
        provenance.refuse_others(folder, f"kernel_para_{tag}", training_files(tag))))
    # Differs from the original: it writes to the working directory, but its Matlab scripts read
    # here.
    save_training_features(folder, network.tag, features, labels)
    save_training_scores(folder, network.tag, {
        "confidence": scores.confidence(logits), "non_me": scores.non_me(logits)})
    provenance.write(
        folder, f"kernel_para_{network.tag}", flags=flags.as_dict(),
        metrics={"num_images": len(labels), "network": network.identity()})
    print(f"Features of {len(labels)} training images are in {folder}.")


def tsne_features() -> None:
    """t-SNE of the features of the first test images, as text and as a picture."""
    F = flags.FLAGS
    folder = normal_tsne_dir(F.dataset)
    paths.require_folder(folder)
    network, _, features, labels = _outputs_of("test", F.eval_data_path, TSNE_BATCHES, lambda tag: (
        provenance.refuse_others(folder, tsne_files(tag)[0], tsne_files(tag))))
    points = drawing.tsne(features, seed=F.seed)
    tag = save_tsne(folder, network.tag, points, labels)
    picture = os.path.join(folder, f"{tag}.png")
    drawing.scatter(picture, [drawing.Cloud("", points, labels)],
                  f"t-SNE of features, normal images, {F.dataset}")
    provenance.write(folder, tag, flags=flags.as_dict(), metrics={"num_images": len(points)})
    print(f"t-SNE of {len(points)} images is in {folder}, its picture in {picture}.")


def _outputs_of(split, path, num_batches, check):
    """The network, and logits [n, L], features [n, d] and labels [n] of the split's first images in
    file order; `check` is handed the network's tag before they are computed."""
    network, strategy, image_set = network_options.open_network(split, path)
    check(network.tag)
    count = flags.num_images(
        num_batches, COUNT_BATCH, len(image_set.labels), "each is used once")
    with tqdm(total=count, unit="image", disable=None) as bar:
        finished = 0

        def tell(rows):
            nonlocal finished
            # The original's line for each of its batches of 100, however many rows a chunk has.
            for batch in range(finished // COUNT_BATCH, -(-(finished + rows) // COUNT_BATCH)):
                tqdm.write(f"The {batch} batch in total {-(-count // COUNT_BATCH)}")
            finished += rows
            bar.update(rows)

        logits, features = network.forward_stored(strategy)(
            image_set.images[:count], on_rows_done=tell)
    return network, logits, features, image_set.labels[:count]


def export_bin() -> None:
    """Writes the data set in the original's .bin format, from whatever source it comes."""
    F = flags.FLAGS
    folder = f"{F.dataset}_dataset"
    paths.require_folder(folder)
    train_set, test_set = inputs.load_for_training(
        F.dataset, F.train_data_path, F.eval_data_path, data_dir=F.data_dir,
        num_classes=F.num_classes)
    written, sets = {}, {"data_train.bin": train_set, "data_test.bin": test_set}
    # What is there may be the original's own file, which cannot be made again.
    taken = next((name for name in sets if os.path.lexists(os.path.join(folder, name))), None)
    if taken:
        raise InputError(f"export_bin expected no {taken} in {folder} yet, which is kept. "
                         "Received: one.")
    for name, image_set in sets.items():
        if image_set is not None:
            path = os.path.join(folder, name)
            save_bin(path, image_set, F.dataset)
            written[name] = len(image_set.labels)
            print(f"Wrote {written[name]} images to {path}.")
    provenance.write(folder, "export_bin", flags=flags.as_dict(),
                               metrics={"num_images": written})


def export_png() -> None:
    """Images as PNG files: test images, or those that an attack has left."""
    F = flags.FLAGS
    flags.check_at_least("num_images", 1)
    folder = flags.require("output_dir")
    paths.require_folder(folder, "output_dir")
    if next(Path(folder).glob("*.png"), None):
        raise InputError(f"output_dir must not hold PNG files yet. Received: output_dir={folder!r}.")
    if F.images:
        images, _ = inputs.load_images(F.images)
    else:
        images = to_network_input(inputs.load(
            F.dataset, F.eval_data_path, "test", data_dir=F.data_dir, num_classes=F.num_classes).images)
    save_pngs(folder, images[:F.num_images])
    print(f"Wrote {min(F.num_images, len(images))} images to {folder}.")


def info() -> None:
    """Prints what is in --log_root: the run's record and its checkpoints."""
    log_root = flags.require("log_root")
    newest = checkpoints.require_whole(log_root, flags.warn)
    if tf1_checkpoints.is_tf1(newest):
        print(f"checkpoint of the original TensorFlow 1 code: {newest}")
        for field, value in dataclasses.asdict(tf1_checkpoints.describe(newest)).items():
            print(f"{field}: {value}")
        return
    record, step = checkpoints.read_record(newest)
    for field, value in dataclasses.asdict(record).items():
        print(f"{field}: {value}")
    for path in sorted(checkpoints.all_paths(log_root), key=checkpoints.step_of):
        print(f"checkpoint: {path}")
    print(f"newest at step {step} of {record.total_steps}")


def import_checkpoint() -> None:
    """A checkpoint of the original TensorFlow 1 code as one of ours, from which train.py resumes."""
    F = flags.FLAGS
    log_root = flags.require("log_root")
    folder = _output_dir(log_root, *CHECKPOINT_FILES)
    _check_convertible(F.model)
    path = checkpoints.require_whole(log_root, flags.warn)
    run = _imported_run(path, tf1_checkpoints.describe(path))
    network, optimizer = _training_state(run)
    step = tf1_checkpoints.restore_network(path, network)
    tf1_checkpoints.restore_optimizer(path, network, optimizer, run.optimizer)
    _make(folder)
    saved = checkpoints.Checkpoints(folder, run, network, optimizer).save(step)
    _record(folder, path, step)
    print(f"Imported {path} as {saved}: {title_of(run.model, run.blocks_per_stage)} for "
          f"{F.dataset}, objective {run.objective}, --Optimizer={run.optimizer}, step {step}.")


def _imported_run(path, structure):
    """The run record of the original's checkpoint; InputError if --dataset does not fit it."""
    F = flags.FLAGS
    spec = get_spec(F.dataset)
    if spec.image_shape is None:
        raise InputError("dataset must be one whose image shape is fixed, as in the original. "
                         f"Received: dataset={F.dataset!r}.")
    if structure.use_bottleneck:
        raise InputError("expected a network without bottlenecks, which no flag can ask for. "
                         f"Received: {path!r} with bottlenecks.")
    channels = spec.image_shape[-1]
    if (structure.channels, structure.num_classes) != (channels, spec.num_classes):
        raise InputError(
            f"--dataset contradicts the checkpoint {path}: expected a network for {channels} channels "
            f"and {spec.num_classes} classes, as {F.dataset} has. Received: channels="
            f"{structure.channels}, num_classes={structure.num_classes}.")
    return checkpoints.TrainingRun(
        dataset=F.dataset, image_shape=spec.image_shape, num_classes=structure.num_classes,
        blocks_per_stage=structure.blocks_per_stage, objective=heads.name_of(F.RCE_train),
        # Only sgd leaves no slots that would tell.
        optimizer=structure.optimizer or F.Optimizer, batch_size=TF1_BATCH_SIZE,
        lr_boundaries=optimizers.default_boundaries(F.dataset, structure.step),
        # How long it was to train the file does not say: it is finished, until given more steps.
        total_steps=structure.step, seed=F.seed)


def import_keras() -> None:
    """Weights that Keras saved elsewhere as a checkpoint of ours."""
    folder, path = flags.require("log_root"), flags.require("weights")
    paths.require_folder(folder, "log_root")
    taken = checkpoints.latest(folder)
    if taken:
        raise InputError("log_root must not hold a checkpoint yet. "
                         f"Received: log_root={folder!r}, with {os.path.basename(taken)}.")
    run = _keras_run()
    network, optimizer = _training_state(run, lambda model: importing.load_weights(model, path))
    _make(folder, "log_root")
    saved = checkpoints.Checkpoints(folder, run, network, optimizer).save(0)
    _record(folder, path, 0)
    print(f"Imported {path} as {saved}: {run.model} for {run.dataset}, objective {run.objective}.")


def _keras_run():
    """The run record of weights that were trained elsewhere: what the recipe says, and no step."""
    F = flags.FLAGS
    spec, row = get_spec(F.dataset), get_network(F.model)
    if spec.image_shape is None:
        raise InputError("dataset must be one whose image shape is fixed. "
                         f"Received: dataset={F.dataset!r}.")
    recipe = row.variant(spec.image_shape[-1]).recipe
    trained = {"optimizer": F.Optimizer, "batch_size": TF1_BATCH_SIZE}
    if recipe:
        trained = {"optimizer": recipe.optimizer, "batch_size": recipe.batch_size,
                   "augment": recipe.augment, **recipe.numbers(recipe.optimizer)}
    return checkpoints.TrainingRun(
        dataset=F.dataset, image_shape=spec.image_shape, num_classes=spec.num_classes,
        blocks_per_stage=network_options.blocks_per_stage(), objective=heads.name_of(F.RCE_train),
        lr_boundaries=(), total_steps=0, seed=F.seed, model=F.model, **trained)


def export_checkpoint() -> None:
    """Our newest checkpoint under the original's names, for its tf.train.Saver."""
    log_root = flags.require("log_root")
    folder = _output_dir(log_root, *CHECKPOINT_FILES)
    path = checkpoints.require_whole(log_root, flags.warn)
    run, _ = checkpoints.read_record(path)
    _check_convertible(run.model)
    network, optimizer = _training_state(run)
    # Resumed, not restored: the original's Saver asks for the optimizer's slots, too.
    step = checkpoints.Checkpoints(log_root, run, network, optimizer).resume().step
    _make(folder)
    saved = tf1_checkpoints.save(
        folder, {name: variable.numpy() for name, variable in network.items()},
        tf1_checkpoints.optimizer_slots(network, optimizer, run.optimizer), step)
    _record(folder, path, step)
    print(f"Exported {path} as {saved}, with the original's names.")


def export_model() -> None:
    """The network as model.keras and SavedModel, which load without this project."""
    F = flags.FLAGS
    units = network_options.blocks_per_stage()
    log_root = flags.require("log_root")
    folder = _output_dir(log_root, portable.KERAS_FILE, portable.SAVED_MODEL)
    path = checkpoints.require_whole(log_root, flags.warn)
    spec = get_spec(F.dataset)
    # Where the file decides the shape (npz), only the run record still knows it.
    known = spec if spec.image_shape else checkpoints.read_record(path)[0]
    strategy = devices.make_strategy(F.num_gpus, F.num_cpu_replicas)
    network = restoring.restore(strategy, log_root, network_options.spec_of_flags(
        known.image_shape, known.num_classes, units), flags.warn)
    _make(folder)
    portable.save_model(portable.portable_model(network), folder)
    _record(folder, path, checkpoints.step_of(path))
    print(f"Exported {path} as {portable.KERAS_FILE} and {portable.SAVED_MODEL} in {folder}.")


def export_pretrained() -> None:
    """The network alone, its detector, a model card and the SHA-256 of each: a folder to ship."""
    F = flags.FLAGS
    log_root = flags.require("log_root")
    folder = _output_dir(log_root, *CHECKPOINT_FILES, pretrained.SUMS, pretrained.CARD,
                         detector_files.FILE_NAME)
    path = checkpoints.require_whole(log_root, flags.warn)
    run, step = checkpoints.read_record(path)
    strategy = devices.make_strategy(F.num_gpus, F.num_cpu_replicas)
    test_set = inputs.load(run.dataset, F.eval_data_path, "test", data_dir=F.data_dir,
                           num_classes=run.num_classes)
    network = restoring.restore(strategy, log_root, spec_of(run), flags.warn)
    detector = detector_files.default_path(kernel_dir(run.dataset), network.tag)
    shipping.check_detector(detector, network)
    num_images = len(test_set.labels)
    correct = count_correct(network.forward_stored(strategy), test_set, num_images)
    _make(folder)
    shipping.save_pretrained(folder, network, run, step, detector, correct, num_images, F.data_note)
    print(f"Exported {path} and {detector} to {folder}: {correct} of {num_images} test images right.")


def _check_convertible(model):
    """Raises an InputError for a network that the original lacks."""
    if not get_network(model).is_original:
        raise InputError(f"{flags.FLAGS.mode} expected a ResNet, the one network of the original code. "
                         f"Received: {model=}.")


def _training_state(run, change=lambda model: None):
    """Variables by name of a network, changed, and of its optimizer, as train.py makes them."""
    strategy = devices.make_strategy(flags.FLAGS.num_gpus, flags.FLAGS.num_cpu_replicas)
    network = restoring.build_network(strategy, run)
    change(network.model)
    optimizer = optimizers.build_for(run, strategy, network.model)
    return named_variables(network.model), named_variables(optimizer)


def _output_dir(log_root, *written):
    """--output_dir; InputError when it is log_root or holds what a pattern of `written` names."""
    folder = flags.require("output_dir")
    paths.require_folder(folder, "output_dir")
    if os.path.realpath(folder) == os.path.realpath(log_root):
        raise InputError(f"output_dir must be another folder than log_root. Received: both={folder!r}.")
    # Not by Path.glob, which passes over a link to nothing.
    there = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    taken = next((found for found in there
                  if any(fnmatch.fnmatchcase(found, name) for name in written)), None)
    if taken:
        raise InputError(f"output_dir must not hold an earlier {taken}, which is kept. "
                         f"Received: output_dir={folder!r}.")
    return folder


def _make(folder, name="output_dir"):
    """Makes the folder of a flag, once there is something to write in it; InputError where that
    fails."""
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise InputError(f"{name} must be a folder, or one that can be made. "
                         f"Received: {name}={folder!r} ({error.strerror}).") from error


def _record(folder, path, step):
    F = flags.FLAGS
    provenance.write(folder, F.mode, flags=flags.as_dict(),
                               metrics={"checkpoint": path, "step": step})


MODES = {"kernel_para": kernel_para, "tSNE_logits": tsne_features, "export_bin": export_bin,
         "export_png": export_png, "info": info, "import_checkpoint": import_checkpoint,
         "import_keras": import_keras,
         "export_checkpoint": export_checkpoint, "export_model": export_model,
         "export_pretrained": export_pretrained}
# Those that need a checkpoint, which a network of another hand has not.
OF_CHECKPOINTS = ("info", "import_checkpoint", "import_keras", "export_checkpoint", "export_model",
                  "export_pretrained")


def main() -> int:
    """Runs the job that --mode names."""
    mode = flags.check_choice("mode", MODES)
    if mode in OF_CHECKPOINTS:
        network_options.refuse_a_file()
    MODES[mode]()
    return 0


if __name__ == "__main__":
    flags.run(main)
