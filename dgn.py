"""Learned data-generation networks: an autoencoder per class that makes adversarial images in one pass.

    python dgn.py --mode=analyze --dataset=mnist --model=mnist_5x30 --log_root=m --custom_loss=lrp
    python dgn.py --mode=train --dataset=mnist --model=mnist_5x30 --log_root=m --custom_loss=lrp
    python dgn.py --mode=generate --dataset=mnist --model=mnist_5x30 --log_root=m --custom_loss=lrp

analyze is not needed for --custom_loss=nce. Then --attack_method=dgn_lrp, dgn_nce or dgn_susp of
test_adv.py. Read docs/dgn.md before any of its numbers.
"""

import flags

from options import dgn as dgn_options
from options import network as network_options

flags.start(__name__, network_options.define, network_options.define_keras, dgn_options.define)

import numpy as np
from tqdm import tqdm

from attacks.dgn import ANALYSES, relevance
from attacks.dgn.networks import check_generator
from attacks.dgn.target import Target
from data.pixels import to_network_input
from errors import InputError
from evaluation import generated
from figures import drawing
from files import dgn as dgn_files
from files import paths, provenance, run_lock
from files.arrays import sha256
from training import generators

# Images of each class in the picture.
_SHOWN = 10


def _open(split):
    """The target and the images of a split."""
    F = flags.FLAGS
    opened = network_options.open_network(
        split, F.train_data_path if split == "train" else F.eval_data_path)
    paths.require_folder(dgn_options.folder(), "dgn_dir" if F.dgn_dir else "")
    return opened


def analyze() -> None:
    """--mode=analyze: which pixels speak for each class, or which units fire when the target errs."""
    F, name = flags.FLAGS, ANALYSES[flags.FLAGS.custom_loss]
    if not name:
        raise InputError(f"{F.custom_loss} needs no analysis: --mode=train follows. "
                         f"Received: custom_loss={F.custom_loss!r}.")
    opened = _open(F.analysis_split)
    network, images = opened.network, opened.image_set
    folder = dgn_options.target_folder(network)
    arrays = _ANALYSED[name](network, to_network_input(images.images), images.labels)
    identity = {**network.digests(), **dgn_options.analysis(),
                "data_sha256": sha256(images.images, images.labels)}
    dgn_files.save_arrays(folder / f"{name}.npz", arrays, identity)
    provenance.write(folder, name, flags=flags.as_dict(), metrics=identity)
    print(f"The analysis of {len(images.labels)} images is in {folder / f'{name}.npz'}.")


def _relevance(network, x, labels):
    found = relevance.relevance(network, x, labels, stabiliser=flags.FLAGS.lrp_eps)
    print(f"{found.num_below_zero} of {len(x)} images started below 0, where signs turn round.")
    return {"scores": found.scores, "num_images": found.num_images,
            "order": relevance.most_relevant(found.scores, found.scores.shape[1] - 1)}


def _suspicion(network, x, labels):
    spectra = Target(network).hits(x, labels, threshold=flags.FLAGS.activation_threshold)
    _warn_of_classes_without_errors(spectra[0])
    return {f"counts_{number:03d}": spectrum for number, spectrum in enumerate(spectra)}


# Of each analysis: what it finds, and what a loss takes of it for each class.
_ANALYSED = {"relevance": _relevance, "suspicion": _suspicion}
_TAKEN = {"relevance": lambda arrays, k: relevance.most_relevant(arrays["scores"], k),
          "suspicion": lambda arrays, k: generators.suspicious_of(
              [arrays[name] for name in sorted(arrays)], k)}


def _warn_of_classes_without_errors(spectrum):
    wrong = spectrum[:, 1::2].reshape(len(spectrum), 2, -1)[:, :, 0].sum(axis=1)
    for label in np.flatnonzero(wrong == 0):
        flags.warn("susp needs images of both kinds, right and wrong, of every class: all scores are "
                   f"0 and the first units are taken. Received: class {label} with 0 errors.")


def train() -> None:
    """--mode=train: a generator for each class of --classes."""
    F, opened = flags.FLAGS, _open("train")
    network, images = opened.network, opened.image_set
    folder, recipe = dgn_options.target_folder(network), dgn_options.recipe(images.images.shape[-1])
    # All that can be wrong before the first of them is trained.
    check_generator(tuple(images.images.shape[1:]), recipe.init)
    classes = dgn_options.classes(images.num_classes)
    counts = np.bincount(images.labels, minlength=images.num_classes)
    empty = next((label for label in classes if not counts[label]), None)
    if empty is not None:
        raise InputError(f"expected training images of class {empty}. Received: none.")
    chosen = _chosen(folder, network, images.num_classes, recipe.k)
    generators.check_batch(recipe, int(min(counts[label] for label in classes)))
    for label in classes:
        rows = images.images[images.labels == label]
        loss = generators.LOSSES[F.custom_loss](network, label, recipe, chosen[label])
        trainer = generators.Trainer(rows, loss, recipe, F.seed * images.num_classes + label)
        path = dgn_files.generator_dir(folder, F.custom_loss, label)
        identity = {**network.digests(), **dgn_options.training(recipe), "class": label,
                    "data_sha256": sha256(rows), "total_steps": trainer.total_steps}
        of_class = dgn_files.GeneratorFolder(path, identity)
        with run_lock.hold(str(path)), tqdm(total=trainer.total_steps, desc=f"class {label}",
                                            unit="step", disable=None) as bar:
            generators.train(trainer, of_class, bar.update)
        print(f"class {label}: {trainer.total_steps} steps on {len(rows)} images, mean loss of the "
              f"last epoch {of_class.losses()[-1]:.4g}: {path}")


def _chosen(folder, network, num_classes, k):
    """What a loss has of each class from the analysis: pixels, units, or nothing."""
    loss = flags.FLAGS.custom_loss
    name = ANALYSES[loss]
    if not name:
        return [None] * num_classes
    arrays, _ = dgn_files.load_arrays(folder / f"{name}.npz", network.digests(),
                                      f"--mode=analyze --custom_loss={loss}")
    return _TAKEN[name](arrays, k)


def generate() -> None:
    """--mode=generate: what the generators make of every image of the splits."""
    F = flags.FLAGS
    for split in F.splits:
        opened = _open(split)
        network, images = opened.network, opened.image_set
        folder, eps = dgn_options.target_folder(network), dgn_options.eps(images.images.shape[-1])
        made = generated.generate(
            dgn_options.generators(opened, F.custom_loss), network.forward(opened.strategy),
            images.images, images.labels,
            eps if F.clipping else None, changed_only=F.mis_classification_check)
        if not len(made.labels):
            raise InputError("mis_classification_check left no image. Received: "
                             f"{len(images.labels)} images of {split}.")
        path = folder / F.custom_loss / f"adv_{split}.npz"
        identity = {**network.digests(), "custom_loss": F.custom_loss, "split": split, "eps": eps,
                    "clipping": F.clipping, "changed_only": F.mis_classification_check,
                    "data_sha256": sha256(images.images, images.labels)}
        dgn_files.save_arrays(path, made._asdict(), identity)
        right = np.mean(made.pred_adv == made.labels)
        print(f"{split}: {len(made.labels)} of {len(images.labels)} images, right {100 * right:.2f} %, "
              f"changed {100 * np.mean(made.pred_adv != made.pred_clean):.2f} %: {path}")
    _draw(folder / F.custom_loss / "images.png", images, made)


def _draw(path, images, made):
    """Of each class the first image of the last split, what was made of it, and the difference."""
    rows = [int(np.flatnonzero(made.labels == label)[0]) for label in np.unique(made.labels)[:_SHOWN]]
    normal = to_network_input(images.images[made.index[rows]])
    titles = [f"true {made.labels[row]}\n{made.pred_clean[row]} → {made.pred_adv[row]}" for row in rows]
    drawing.image_grid(path, normal, made.x_adv[rows], column_titles=titles,
                       title=f"dgn_{flags.FLAGS.custom_loss}: predicted class of the normal → of the "
                             "generated image")
    print(f"Pictures: {path}.")


MODES = {"analyze": analyze, "train": train, "generate": generate}


def main() -> None:
    """Checks the command line and runs its mode."""
    mode = MODES[flags.check_choice("mode", MODES)]
    dgn_options.check()
    mode()


if __name__ == "__main__":
    flags.run(main)
