"""Further jobs with a trained network and its data, as the original's others.py.

    python others.py --dataset=digits --log_root=models_digits/resnet8 --num_residual_units=1 \
        --mode=kernel_para --eval_batch_count=-1 --RCE_train=True
"""

import dataclasses
import os

import flags

import tensorflow as tf
from tqdm import tqdm

import inference
import plots
from data import artifacts, checkpoints, inputs
from defenses import objectives

COUNT_BATCH = 100
TSNE_BATCHES = 10


def kernel_para() -> None:
    """Features and true labels of training images, from which detect.py draws its kernels."""
    F = flags.FLAGS
    batches = flags.check_at_least("eval_batch_count", 1, or_all=True)
    # The original passes the training file as --eval_data_path.
    path = F.eval_data_path or F.train_data_path
    features, labels, objective = _features_of("train", path, batches)
    folder = artifacts.kernel_dir(F.dataset)
    artifacts.save_training_features(folder, objective, features, labels)
    artifacts.write_run_record(folder, f"kernel_para_{artifacts.OBJECTIVE_TAG[objective]}",
                               flags=flags.as_dict(), metrics={"num_images": len(labels)})
    print(f"Features of {len(labels)} training images are in {folder}.")


def tsne_features() -> None:
    """t-SNE of the features of the first test images, as text and as a picture."""
    F = flags.FLAGS
    features, labels, objective = _features_of("test", F.eval_data_path, TSNE_BATCHES)
    points = plots.tsne(features, seed=F.seed)
    folder = artifacts.normal_tsne_dir(F.dataset)
    tag = artifacts.save_tsne(folder, objective, points, labels)
    picture = os.path.join(folder, f"{tag}.png")
    plots.scatter(picture, points, labels, title=f"t-SNE of features, normal images, {F.dataset}")
    artifacts.write_run_record(folder, tag, flags=flags.as_dict(), metrics={"num_images": len(points)})
    print(f"t-SNE of {len(points)} images is in {folder}, its picture in {picture}.")


def _features_of(split, path, num_batches):
    """Features [n, d], labels [n] of the split's first images in file order, and the objective."""
    F = flags.FLAGS
    flags.check_at_least("num_residual_units", 1)
    log_root = flags.require("log_root")
    strategy = flags.make_strategy(F.num_gpus, F.num_cpu_replicas)
    image_set = inputs.load(F.dataset, path, split, data_dir=F.data_dir, num_classes=F.num_classes)
    objective = objectives.name_of(F.RCE_train)
    network = inference.restore(strategy, log_root, inference.Expected(
        F.dataset, image_set.images.shape[1:], image_set.num_classes, F.num_residual_units, objective),
        flags.warn)
    count = flags.num_images(
        num_batches, COUNT_BATCH, len(image_set.labels), "each is used once")
    with tqdm(total=count, unit="image", disable=None) as bar:
        _, features = network.forward_stored(strategy)(
            image_set.images[:count], on_rows_done=bar.update)
    return features, image_set.labels[:count], objective


def export_bin() -> None:
    """Writes the data set in the original's .bin format, from whatever source it comes."""
    F = flags.FLAGS
    train_set, test_set = inputs.load_for_training(
        F.dataset, F.train_data_path, F.eval_data_path, data_dir=F.data_dir,
        num_classes=F.num_classes)
    folder = f"{F.dataset}_dataset"
    written = {}
    for name, image_set in (("data_train.bin", train_set), ("data_test.bin", test_set)):
        if image_set is not None:
            path = os.path.join(folder, name)
            inputs.save_bin(path, image_set, F.dataset)
            written[name] = len(image_set.labels)
            print(f"Wrote {written[name]} images to {path}.")
    artifacts.write_run_record(folder, "export_bin", flags=flags.as_dict(),
                               metrics={"num_images": written})


def info() -> None:
    """Prints what is in --log_root: the run's record and its checkpoints."""
    log_root = flags.require("log_root")
    newest = checkpoints.require_whole(log_root, flags.warn)
    record, step = checkpoints.read_record(newest)
    for field, value in dataclasses.asdict(record).items():
        print(f"{field}: {value}")
    for path in tf.train.get_checkpoint_state(log_root).all_model_checkpoint_paths:
        print(f"checkpoint: {path}")
    print(f"newest at step {step} of {record.total_steps}")


MODES = {"kernel_para": kernel_para, "tSNE_logits": tsne_features, "export_bin": export_bin,
         "info": info}


def main() -> int:
    """Runs the job that --mode names."""
    MODES[flags.check_choice("mode", MODES)]()
    return 0


if __name__ == "__main__":
    flags.run(main, flags.define_common, flags.define_others)
