"""Learned data-generation networks: an autoencoder per class that makes adversarial images in one pass.

    python dgn.py --mode=analyze --dataset=mnist --model=mnist_5x30 --log_root=m --custom_loss=lrp
    python dgn.py --mode=train --dataset=mnist --model=mnist_5x30 --log_root=m --custom_loss=lrp
    python dgn.py --mode=generate --dataset=mnist --model=mnist_5x30 --log_root=m --custom_loss=lrp
    python dgn.py --mode=adv_train --dataset=mnist --model=mnist_5x30 --log_root=m \\
        --adv_data=dgn_mnist/mnist_mnist_5x30_CE/lrp/adv_train.npz
    python dgn.py --mode=evaluate --dataset=mnist --model=mnist_5x30 --log_root=m

analyze is not needed for --custom_loss=nce; generate makes images of --attack_method=fgsm or pgd, too.
test_adv.py takes the generators as --attack_method=dgn_lrp, dgn_nce or dgn_susp. Read docs/dgn.md
before any of its numbers.
"""

import flags

from options import dgn as dgn_options
from options import hardening
from options import network as network_options

flags.start(__name__, network_options.define, network_options.define_keras, dgn_options.define,
            hardening.define)

import dataclasses

import numpy as np
from tqdm import tqdm

from attacks.dgn import ANALYSES, relevance
from attacks.dgn.networks import check_generator
from attacks.dgn.target import Target
from data import inputs
from data.pixels import to_network_input
from errors import InputError
from evaluation import generated, grid, markdown
from evaluation.listener import Listener
from figures import dgn as pictures
from figures import drawing
from files import atomic, paths, provenance, run_lock
from files import dgn as dgn_files
from files.arrays import sha256
from training import generators, loop, mixed

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
    """--mode=generate: what the generators, or an attack, make of every image of the splits."""
    F = flags.FLAGS
    source = F.attack_method or F.custom_loss
    for split in F.splits:
        opened = _open(split)
        network, images = opened.network, opened.image_set
        folder, channels = dgn_options.target_folder(network), images.images.shape[-1]
        identity = {**network.digests(), "source": source, "split": split,
                    "eps": dgn_options.eps(channels), "clipping": F.clipping,
                    "changed_only": F.mis_classification_check,
                    "data_sha256": sha256(images.images, images.labels)}
        rows = np.flatnonzero(np.isin(images.labels, dgn_options.classes(images.num_classes)))
        if not len(rows):
            raise InputError(f"expected images of --classes in the {split} split. "
                             f"Received: classes={F.classes}, none of them there.")
        chosen = opened._replace(image_set=images.take(rows))
        x_adv, told = (_attacked if F.attack_method else _generated)(chosen, identity["eps"])
        made = generated.looked_at(network.forward(opened.strategy), images.images, images.labels,
                                   rows, x_adv, changed_only=F.mis_classification_check)
        if not len(made.labels):
            raise InputError("mis_classification_check left no image. Received: "
                             f"{len(rows)} images of {split}.")
        path = dgn_files.adversarial_path(folder, source, split)
        dgn_files.save_arrays(path, made._asdict(), identity | told.pop("identity", {}))
        right, changed, success = grid.cell(made.pred_adv, made.labels, made.pred_clean)
        provenance.write(path.parent, path.stem, flags=flags.as_dict(), metrics={
            **identity, "right": right, "changed": changed, "success_on_right": success, **told})
        print(f"{split}: {len(made.labels)} of {len(images.labels)} images, right "
              f"{100 * right.value:.2f} %, changed {100 * changed.value:.2f} %: {path}")
    _draw(folder / source / "images.png", source, images, made)


def _generated(opened, eps):
    """What generators make of images, and how far away from them."""
    F, images = flags.FLAGS, opened.image_set
    raw, x_adv = generated.projected(dgn_options.generators(opened, F.custom_loss), images.images,
                                     images.labels, eps if F.clipping else None)
    return x_adv, {"distances_before_projection": generated.distances(images.images, raw),
                   "distances": generated.distances(images.images, x_adv)}


def _attacked(opened, eps):
    """What an attack makes of images, how far away from them, and its numbers."""
    F, images = flags.FLAGS, opened.image_set
    x_adv = _baseline(opened.network, opened.strategy, F.attack_method, images.images, eps)
    settings = hardening.settings(F.attack_method, images.images.shape[-1])
    return x_adv, {"distances": generated.distances(images.images, x_adv),
                   "identity": {"settings": settings, "seed": F.seed}}


def _baseline(network, strategy, method, images, eps):
    """What an attack makes of images against a network."""
    with tqdm(total=len(images), desc=method, unit="image", disable=None) as bar:
        return generated.attacked(
            network, strategy, method, images, eps,
            settings=hardening.settings(method, images.shape[-1]), seed=flags.FLAGS.seed,
            listener=Listener(rows_done=lambda rows, successes: bar.update(rows)))


def _draw(path, source, images, made):
    """Of each class the first image of the last split, what was made of it, and the difference."""
    rows = [int(np.flatnonzero(made.labels == label)[0]) for label in np.unique(made.labels)[:_SHOWN]]
    normal = to_network_input(images.images[made.index[rows]])
    titles = [f"true {made.labels[row]}\n{made.pred_clean[row]} → {made.pred_adv[row]}" for row in rows]
    drawing.image_grid(path, normal, made.x_adv[rows], column_titles=titles,
                       title=f"{source}: predicted class of the normal → of the "
                             "generated image")
    print(f"Pictures: {path}.")


def adv_train() -> int:
    """--mode=adv_train: a network that is hardened with stored images, or attacked at every step."""
    F, opened = flags.FLAGS, _open_for_hardening()
    network, images = opened.network, opened.image_set
    folder, channels = dgn_options.target_folder(network), images.images.shape[-1]
    made, source = _adversarial_data(network, images) if F.adv_data else (
        None, hardening.ONLINE)
    recipe = hardening.recipe(source, channels)
    online = hardening.online(dgn_options.eps(channels), channels)
    run = mixed.run_of(recipe, network.expected, source, len(made.labels if made else images.labels),
                       online, num_replicas=opened.strategy.num_replicas_in_sync)
    path = dgn_files.robust_dir(folder, source, F.adv_type)
    options = loop.Options(
        str(path), str(path / "train"), checkpoint_every=run.total_steps // recipe.epochs,
        keep_checkpoints=1, note=tqdm.write, warn=flags.warn)
    test_set = inputs.load_beside(
        images, F.dataset, F.eval_data_path, data_dir=F.data_dir) if F.eval_data_path else None
    # Behind all that may be refused: the folder is this training's from here on.
    of_data = {"data_sha256": sha256(*made)} if made else {
        "data_sha256": sha256(images.images, images.labels),
        **{f"attack_{name}": value for name, value in dataclasses.asdict(online).items()}}
    dgn_files.claim_robust(path, {
        **network.digests(), **dataclasses.asdict(recipe), "source": source,
        "total_steps": run.total_steps, **of_data})
    code, figures = loop.train(
        run, opened.strategy, images, test_set, options,
        made and mixed.source(recipe, run, network, images, made.index, made.x_adv))
    loop.record(options, flags.as_dict(), figures)
    if not code:
        print(f"The hardened network is --log_root={path}.")
    return code


def _open_for_hardening():
    network_options.refuse_a_file()
    opened = _open("train")
    if opened.network.members:
        raise InputError("adv_train hardens one network. "
                         f"Received: log_root={flags.FLAGS.log_root!r}.")
    return opened


def _adversarial_data(network, images):
    """What --adv_data holds, and what made it; InputError where it was made of other images."""
    made, identity = generated.load(flags.FLAGS.adv_data, network.digests())
    if identity.get("data_sha256") != sha256(images.images, images.labels) or (
            made.index.max() >= len(images.labels)):
        raise InputError("adv_data and the training images must have the same rows. Received: "
                         f"{len(images.labels)} images, {len(made.labels)} adversarial ones of others.")
    return made, identity["source"]


def evaluate() -> None:
    """--mode=evaluate: the target and its hardened networks under all that was made."""
    opened = _open("test")
    images, folder = opened.image_set, dgn_options.target_folder(opened.network)
    wanted = generated.Wanted(
        (*ANALYSES, *hardening.BASELINES), sha256(images.images, images.labels),
        dgn_options.eps(images.images.shape[-1]), dgn_options.num_images(len(images.labels)))
    images = images.take(slice(wanted.number))
    opened = opened._replace(image_set=images)
    attackers = {"stored": _stored(opened.network, wanted), "wrong": _wrong(opened)}
    adaptive = wanted._replace(sources=tuple(ANALYSES))
    robust = dgn_files.find_robust(folder, opened.network.digests(), flags.warn)
    rows = {"target": _row(opened, attackers, {})}
    for name, (path, _) in robust.items():
        row_of = network_options.open_network(log_root=str(path), image_set=images)
        rows[name] = _row(row_of, attackers, _stored(row_of.network, adaptive))
    columns = grid.columns(list(ANALYSES), hardening.BASELINES)
    atomic.write_json(folder / "grid.json", grid.as_json(rows))
    atomic.write_csv(folder / "grid.csv", *grid.as_table(rows))
    pictures.draw_grid(folder / "grid.png", rows, columns)
    provenance.write(folder, "grid", flags=flags.as_dict(), metrics={
        "n": wanted.number, "eps": wanted.eps, "networks": list(rows)})
    print(grid.CAUTION, markdown.table(grid.format_rows(rows, columns)),
          *grid.leaks(rows, {name: source for name, (_, source) in robust.items()}),
          f"The grid is in {folder}: grid.json, grid.csv, grid.png.", sep="\n\n")


def _stored(network, wanted):
    """Source → what it made of test images against a network, where that was done."""
    return generated.load_all(dgn_options.target_folder(network), network.digests(), wanted, flags.warn)


def _wrong(opened):
    """Custom loss → what generators of wrong classes make of the images, and these classes."""
    images = opened.image_set
    classes = grid.wrong_classes(images.labels, images.num_classes, flags.FLAGS.seed)
    eps = dgn_options.eps(images.images.shape[-1])
    wrongly = opened._replace(image_set=dataclasses.replace(images, labels=classes))
    return {loss: (generated.projected(dgn_options.generators(wrongly, loss), images.images, classes,
                                       eps)[1], classes)
            for loss in ANALYSES if dgn_files.has_generators(
                dgn_options.target_folder(opened.network), loss, images.num_classes, flags.warn)}


def _row(opened, attackers, adaptive):
    """The cells of a network."""
    network, images = opened.network, opened.image_set
    forward, eps = network.forward(opened.strategy), dgn_options.eps(images.images.shape[-1])
    own = {method: _baseline(network, opened.strategy, method, images.images, eps)
           for method in hardening.BASELINES}
    return grid.row(lambda x: forward(x)[0].argmax(axis=-1), to_network_input(images.images),
                    images.labels, **attackers, own=own, adaptive=adaptive)


MODES = {"analyze": analyze, "train": train, "generate": generate, "adv_train": adv_train,
         "evaluate": evaluate}


def main() -> int | None:
    """Checks the command line and runs its mode."""
    mode = MODES[flags.check_choice("mode", MODES)]
    dgn_options.check()
    return mode()


if __name__ == "__main__":
    flags.run(main)
