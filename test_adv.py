"""Crafts adversarial examples and scores them beside the clean images, as the original's test_adv.py.

    python test_adv.py --dataset=digits --log_root=models_digits/resnet8 --num_residual_units=1 \
        --mode=attack --attack_method=fgsm --eval_batch_count=1 --RCE_train=True

With --num_shards=n --shard_index=i a run does one n-th of it; --mode=merge --num_shards=n joins them.
"""

import dataclasses
import os
from functools import partial
from pathlib import Path

import flags

from options import attack as attack_options
from options import landscape as landscape_options
from options import network as network_options
from options.victim import Victim, crafter_of, identity, job_of, open_victim

flags.start(__name__, network_options.define, network_options.define_keras, attack_options.define)

import numpy as np
from tqdm import tqdm

import attacks
from data.pixels import to_network_input
from errors import InputError
from evaluation import (
    challenges,
    evidence,
    finding,
    first_looks,
    judging,
    landscape,
    restart_curve,
    second_looks,
    sweep,
    tries,
    verdicts,
    white_box,
)
from evaluation import transfer as transfers
from evaluation.budgets import COUNT_BATCH
from evaluation.jobs import Job
from evaluation.progress import Progress
from figures import drawing
from figures import landscape as landscapes
from figures.attacked import draw_grid
from figures.restarts import panel
from files import attack_parts, attack_results, judgements, paths, provenance, result_files
from files.features import save_tsne, tsne_files
from files.names import RESTARTS_PICTURE, challenge_dir, results_dir, tsne_dir


def _sweep(victim: Victim, job: Job, batch: int, folder: Path) -> sweep.Sweep:
    """The sweep of a job, whose results go to a folder; an --eval_batch_count is `batch` images."""
    F, network, eps_values = flags.FLAGS, victim.network, job.eps_values
    indices, x, labels = victim.chosen(job, batch)
    crafter, changed = crafter_of(victim, job, len(indices))
    print(f"Num of sample per eps is {len(labels)}")
    # Before hours of crafting whose results it is to take.
    _check_output(folder)
    size = attack_parts.size_of_part(crafter.part_size, crafter.unit, len(x), F.num_shards)
    # Only where they are not the usual: a plain run's identity is that of before there were these.
    shards = {"num_shards": F.num_shards} if F.num_shards > 1 else {}
    _check_losses(crafter, len(indices))
    parts = attack_parts.Parts(folder, identity(victim, job, x, labels, indices) | changed | shards,
                               overwrite=F.overwrite)
    pieces = attack_parts.cut(len(eps_values), len(x), size, F.num_shards)
    return sweep.Sweep(
        network=network, strategy=victim.strategy, x=x, labels=labels, image_index=indices,
        eps_values=eps_values, aim=job.aim, norm=job.norm, crafter=crafter, pieces=pieces, parts=parts,
        choose_targets=partial(victim.targets, job.classes, indices))


def _check_losses(crafter, num_images):
    if flags.FLAGS.save_losses and crafter.restarts.number * num_images > attack_options.MOST_LOSSES:
        raise InputError(f"save_losses keeps at most {attack_options.MOST_LOSSES:,} losses: give fewer "
                         f"--num_restarts or images. Received: {crafter.restarts.number} restarts of "
                         f"{num_images} images.")


def _require(folder):
    paths.require_folder(folder, "save_pwd" if flags.FLAGS.save_pwd else "")


def _check_output(folder):
    _require(folder)
    flags.refuse_to_overwrite_inputs(folder, result_files.WRITTEN)


def attack(victim: Victim) -> None:
    """--mode=attack: the sweep with the original's lines, its files, a picture, the run record.

    Of several shards only the crafting, saved as parts.
    """
    job = job_of(victim)
    folder = victim.folder(job.variant)
    work = _sweep(victim, job, job.attack.count_batch, folder)
    if not flags.FLAGS.overwrite:
        _refuse_others(victim, work, folder)
    if flags.FLAGS.num_shards > 1:
        _craft_shard(job, work, folder)
        return
    _tell_of_finished(work.parts, work.pieces)
    _run_and_save(victim, job, work, folder, more_steps=flags.FLAGS.check_steps)


def merge(victim: Victim) -> None:
    """--mode=merge: what --mode=attack without shards would have left, from the parts of all shards."""
    job = job_of(victim)
    folder = victim.folder(job.variant)
    work = _sweep(victim, job, job.attack.count_batch, folder)
    missing = sweep.missing_pieces(work)
    if missing:
        raise InputError(
            f"merge needs all {len(work.pieces)} parts of the {flags.FLAGS.num_shards} shards in "
            f"{folder}/parts, and {len(missing)} are missing, the first {missing[0].name}.npz of "
            f"--shard_index={missing[0].shard}. "
            f"Received: {len(work.pieces) - len(missing)} parts.")
    _refuse_others(victim, work, folder)
    _run_and_save(victim, job, work, folder)


def _refuse_others(victim, work, folder):
    attack_results.refuse_others(folder, victim.network.identity(), goes_on=bool(work.parts.names()))


def _craft_shard(job, work, folder):
    F = flags.FLAGS
    first_looks.look(work, job.attack, flags.warn)
    pieces = [piece for piece in work.pieces if piece.shard == F.shard_index]
    _tell_of_finished(work.parts, pieces)
    # One round: the images of all eps are counted together.
    num_images = sum(piece.rows.stop - piece.rows.start for piece in pieces)
    with Progress(num_images, 1, job.attack, tqdm.write) as progress:
        sweep.craft_pieces(work, pieces, progress)
    print(f"Shard {F.shard_index} of {F.num_shards} has made its {len(pieces)} of {len(work.pieces)} "
          f"parts in {folder}/parts; --mode=merge joins them when all are there.")


def _tell_of_finished(parts, pieces):
    finished = {piece.name for piece in pieces} & set(parts.names())
    if finished:
        print(f"Going on after {len(finished)} finished parts.")


def _run_and_save(victim, job, work, folder, *, more_steps=False, whole_box=False):
    """Crafts what is not finished yet, scores all of it, and leaves the results; tells of more steps
    and of the whole box, too, where that is asked for."""
    # Before hours are spent on what cannot move.
    looks = first_looks.look(work, job.attack, flags.warn)
    with Progress(len(work.labels), len(work.eps_values), job.attack, tqdm.write) as progress:
        attacked, averages = sweep.run_sweep(work, progress)
    if isinstance(job.known, white_box.KnownDensity):
        averages[0] |= _saved_log_ratio(job.known, attacked)
    if more_steps:
        longer = dataclasses.replace(job, settings=job.settings | {
            "num_steps": 2 * job.attack.num_steps(job.settings)})
        looks["check_steps_gain"] = second_looks.steps_gain(
            work, attacked, crafter_of(victim, longer, second_looks.MOST_IMAGES)[0])
        print(f"Twice the steps raise what is won by {100 * looks['check_steps_gain']:.1f} points.")
    files = _tell_of_restarts(job, work, attacked, folder)
    if whole_box:
        looks["whole_box_success"] = second_looks.whole_box_success(work, work.crafter)
        print(f"With the whole box to move in {100 * looks['whole_box_success']:.1f} % are won.")
    _save(victim, work, attacked, averages, folder, job.method,
          {"attack_chunk": work.crafter.chunk, "variant": job.variant, **job.knowledge(), **looks,
           **_starts(job, work), "identity_sha256": work.parts.digest}, work.parts.discard)
    result_files.remove_restart_files(folder, files)  # of results that these replace


def _starts(job, work):
    """Starts of each image, those of all its target classes, for the run record."""
    takes = "restarts" in job.attack.takes
    return {"num_restarts": work.crafter.restarts.number} if takes else {}


def _tell_of_restarts(job, work, attacked, folder):
    """What restarts have added, on screen and as a picture; the losses where they are kept. Returns the
    names of the files."""
    restarts = work.crafter.restarts
    if restarts is None or (restarts.number < 2 and not restarts.losses and not restarts.drop):
        return ()
    curves = restart_curve.of_sweep(work, attacked, job.attack.num_steps(job.settings))
    for name, curve in curves.items():
        print(*([f"{name}:"] if len(curves) > 1 else []), *curve.lines(), sep="\n")
    if restarts.losses:
        # Of the one eps that there then is.
        result_files.save_losses(folder, sweep.of_restarts(work, 0)["losses"].T)
    drawing.panels(os.path.join(folder, RESTARTS_PICTURE), [panel(curves)],
                   f"{job.variant}, worst of its restarts")
    return result_files.RESTART_FILES if restarts.losses else result_files.RESTART_FILES[1:]


def _save(victim, subject, attacked, averages, folder, method, told, when_saved=lambda: None):
    """Results, then their record, and only then what they were made of goes: whenever a kill comes,
    it is still there."""
    attacked.save(folder)
    provenance.write(folder, "test_adv", flags=flags.as_dict() | {"attack_method": method}, metrics={
        "eps": subject.eps_values, "num_per_eps": len(subject.labels), "rounds": [
            attack_results.recorded(average) for average in averages],
        **told, "fitted_images_left_out": victim.detector is not None,
        "network": victim.network.identity()})
    when_saved()
    # Last of all: results and record are safe by now, whatever Matplotlib may say.
    pictures = draw_grid(folder, attacked, subject.eps_values, method)
    print(f"Results are in {folder}{pictures}.")


def _saved_log_ratio(density, attacked):
    """The log density ratio of the saved images' features, in float64 and for the predicted class."""
    outputs = attacked.adversarial
    ratio = density.log_ratio(outputs.features, outputs.predicted)
    mean = sweep.mean_of(ratio, attacked.per_image["success"])
    print(f"Log-density-ratio in saving results of nor/adv is {mean:f}")
    return {"log_density_ratio_saved": mean}


def transfer(victim: Victim) -> None:
    """--mode=transfer: scores here the images that an attack has made of another network's."""
    F = flags.FLAGS
    fitted = victim.detector.fitted_images if victim.detector else transfers.NONE_LEFT_OUT
    source = transfers.load(F.transfer_from, victim.image_set, victim.network.identity(), fitted)
    attack_options.check_transferred(source.attack)
    folder = victim.folder(source.variant)
    _check_output(folder)
    if not F.overwrite:
        attack_results.refuse_others(folder, victim.network.identity())
    print(f"Num of sample per eps is {len(source.labels)}")
    subject = sweep.Subject(network=victim.network, strategy=victim.strategy, x=source.x,
                            labels=source.labels, image_index=source.image_index,
                            eps_values=source.eps_values)
    row = attacks.get(source.attack)
    with Progress(len(source.labels), len(source.eps_values), row, tqdm.write) as progress:
        attacked, averages = sweep.score_rounds(subject, source.craft, progress=progress)
    _save(victim, subject, attacked, averages, folder, source.attack, source.knowledge())


def challenge(victim: Victim) -> None:
    """--mode=challenge: the attacks of --budget on a network and its detector, those that are not
    finished yet, and the verdict on all of them."""
    F, tag = flags.FLAGS, victim.network.tag
    root = challenge_dir(F.budget, F.attack_norm, F.dataset, F.save_pwd)
    provenance.refuse_others(root, f"evaluation_{tag}", judgements.evaluation_files(tag))
    planned = challenges.jobs(
        F.budget, F.attack_norm, attack_options.eps_values(attacks.get("selective_pgd")),
        victim.network, victim.detector, F.against_rate, F.detector, print)
    for number, (task, job) in enumerate(planned, 1):
        print(f"[{number}/{len(planned)}] {job.variant}")
        folder = root / results_dir(job.variant, F.dataset, tag)
        work = _sweep(victim, job, COUNT_BATCH, folder)
        if _is_finished(work, folder):
            print(f"Its results are in {folder}.")
            continue
        if why := challenges.nothing_to_imitate(work):
            print(why)
            continue
        if not F.overwrite:
            _refuse_others(victim, work, folder)
        _tell_of_finished(work.parts, work.pieces)
        _run_and_save(victim, job, work, folder, more_steps=task.looked_at_twice,
                      whole_box=task.looked_at_twice and job.norm == "linf")
    _judge(victim, root, tag)


def _is_finished(work, folder):
    """Whether the results of a sweep are there; an InputError where others are."""
    record = provenance.read(folder, "test_adv")
    if record and record["metrics"].get("identity_sha256") == work.parts.digest:
        return True
    if record and not flags.FLAGS.overwrite:
        raise InputError(f"{folder} holds the results of a challenge with other images, network, "
                         "detector or numbers: give --overwrite=True to replace them, or another "
                         f"--save_pwd. Received: {os.path.basename(folder)} of other numbers.")
    return False


def _judge(victim, root, tag):
    """Says what the detector is worth, by all results of the challenge, and saves it."""
    F, detector = flags.FLAGS, victim.detector
    wanted = finding.Wanted(F.dataset, "", tuple(attacks.ATTACKS), tag, warn=flags.warn, every=True)
    found = list(finding.judged(wanted, tag, detector, root))
    words, told = verdicts.told([evidence.run_of(results, tries.of_results(
        results, rounds, detector), detector) for _, results, rounds in found], detector)
    rows = judging.evaluate([r for *_, rounds in found for r in rounds], detector, seed=F.seed)
    path = judgements.save_evaluation(root, tag, rows, told)
    provenance.write(root, f"evaluation_{tag}", flags=flags.as_dict(), metrics={"budget": F.budget})
    print(f"\n{tag} on {F.dataset}, the {F.budget} challenge\n\n{words}")
    print(f"\nEvery figure with its 95 % interval: {path} and .csv")


def heatmap(victim: Victim) -> None:
    """--mode=heatmap: accuracy over step sizes and numbers of steps of PGD, from one start."""
    F, job = flags.FLAGS, job_of(victim)
    folder, (eps,) = victim.folder(job.variant), job.eps_values
    step_sizes, iterations = landscape_options.axes()
    _require(folder)
    indices, x, labels = victim.chosen(job, job.attack.count_batch)
    parts = attack_parts.Parts(folder, identity(victim, job, x, labels, indices) | {
        "mode": F.mode, "step_sizes": step_sizes, "iterations": iterations,
        "attack_chunk": F.attack_chunk}, overwrite=F.overwrite)
    identities = [victim.network.identity()]
    _check_pictures(folder, landscapes.HEATMAP_FILES, identities, goes_on=bool(parts.names()))
    subject = sweep.Subject(network=victim.network, strategy=victim.strategy, x=x, labels=labels,
                            image_index=indices, eps_values=(eps,))
    first_looks.look(subject, job.attack, flags.warn)
    before, right = landscape.heatmap(
        subject, step_sizes, iterations, F.seed, parts, chunk=F.attack_chunk)
    landscapes.save_heatmap(folder, step_sizes, iterations, right)
    accuracy = right.mean(axis=1)
    size, stop = np.unravel_index(accuracy.argmin(), accuracy.shape)
    provenance.write(folder, F.mode, flags=flags.as_dict(), metrics={
        "num_images": len(x), "eps": eps, "lowest": float(accuracy.min()), "networks": identities})
    parts.discard()
    # Last of all: numbers and record are safe by now.
    picture = folder / "heatmap.png"
    drawing.heatmap(picture, step_sizes, iterations, 100 * accuracy.T,
                    f"{len(x)} images under PGD of one start, eps {eps:g}")
    print(f"Accuracy falls from {100 * before.mean():.1f} % to {100 * accuracy.min():.1f} %, at step "
          f"size {step_sizes[size]:.4g} after {iterations[stop]} steps. The heat map is in {picture}.")


def _check_pictures(folder, files, identities, *, goes_on=False):
    """Refuses to replace what is of no run of this mode, or of another network's."""
    F = flags.FLAGS
    if not goes_on:
        provenance.refuse_others(folder, F.mode, files)
    if not F.overwrite:
        provenance.refuse_other_networks(folder, F.mode, identities)


def _check_image_index(number, what):
    index = flags.FLAGS.image_index
    if not 0 <= index < number:
        raise InputError(f"image_index must be below the {number} images {what}. "
                         f"Received: image_index={index}.")


def loss_surface(victim: Victim) -> None:
    """--mode=loss_surface: the loss over a square around one image, for each network of --log_root."""
    F, images = flags.FLAGS, victim.image_set
    folder = victim.folder("loss_surface")
    identities = [network.identity() for network in victim.each.values()]
    _require(folder)
    _check_pictures(folder, landscapes.SURFACE_FILES, identities)
    _check_image_index(len(images.labels), "there are")
    image = to_network_input(images.images[F.image_index:F.image_index + 1])[0]
    label, by_gradient = int(images.labels[F.image_index]), landscape_options.by_gradient()
    offsets = np.linspace(-F.surface_radius, F.surface_radius, F.surface_grid)
    surfaces = {}
    for name, network in victim.each.items():
        square = landscape.square_around(network, image, label, F.seed, by_gradient=by_gradient)
        found = landscape.loss_surface(network.forward(victim.strategy), image, label, square, offsets)
        surfaces[name], middle = found, found[F.surface_grid // 2, F.surface_grid // 2]
        print(f"Cross entropy around image {F.image_index} of {name}: {found.min():.4g} to "
              f"{found.max():.4g}, at the image {middle:.4g}.")
    landscapes.save_surfaces(folder, surfaces, offsets)
    provenance.write(folder, F.mode, flags=flags.as_dict(), metrics={"networks": identities})
    picture = folder / "surface.png"
    sides = ("sign of the gradient" if by_gradient else "random signs", "random signs")
    drawing.surfaces(picture, surfaces, offsets, sides, f"image {F.image_index}, class {label}")
    print(f"The surface is in {picture}.")


def loss_histogram(victim: Victim) -> None:
    """--mode=loss_histogram: the cross entropies of one image's restarts, of an earlier attack."""
    F, job = flags.FLAGS, job_of(victim)
    folder = victim.folder(job.variant)
    losses = result_files.load_losses(folder)
    attack_results.refuse_others(folder, victim.network.identity())
    _check_image_index(losses.shape[1], f"of {folder}")
    own = losses[:, F.image_index]
    found = attack_results.load(victim.network.tag, folder)
    label, before = (int(values[F.image_index]) for values in (
        found.labels, found.per_image["predicted_before"]))
    # PGD climbs that of the class that was predicted before: of another class nothing was kept.
    of = "the label" if label == before else f"class {before}, predicted before the attack"
    # From here on the class has less than an equal share, so that another one wins.
    line = float(np.log(victim.image_set.num_classes))
    picture = os.path.join(folder, "loss_histogram.png")
    drawing.histogram(picture, own, line, f"cross entropy of {of}",
                      f"{len(own)} restarts of image {F.image_index}, {job.variant}")
    if label != before:
        print(f"Image {F.image_index} is of class {label} and was wrong before the attack: its losses "
              f"are of class {before}.")
    print(f"{np.count_nonzero(own > line)} of {len(own)} restarts of image {F.image_index} lie above "
          f"log {victim.image_set.num_classes} = {line:.4f}. The histogram is in {picture}.")


def tsne_features(victim: Victim) -> None:
    """--mode=tSNE_logits: t-SNE of the features of normal and adversarial images together."""
    F, job = flags.FLAGS, job_of(victim)
    # --eps counts here, its default, too, as in the original: its attack mode alone ignores it.
    eps = F.eps if job.attack.uses_eps else None
    folder, written = tsne_dir(F.attack_method, F.dataset), tsne_files(victim.network.tag)
    paths.require_folder(folder)
    provenance.refuse_others(folder, written[0], written)
    num_batches, batch, tenth = job.attack.tsne
    indices = victim.images(job.target, num_batches, batch)
    x, labels = to_network_input(victim.image_set.images[indices]), victim.image_set.labels[indices]
    crafter, _ = crafter_of(victim, job, len(indices))
    forward = victim.network.forward(victim.strategy)
    logits, normal = forward(x)
    # Differs from the original: there C&W attacks the true label in this mode, and crashes.
    subject = sweep.Subject(network=victim.network, strategy=victim.strategy, x=x, labels=labels,
                            image_index=indices, eps_values=(eps,), aim=job.aim, norm=job.norm)
    crafted = crafter(x, indices, eps=eps, targets=victim.targets(job.classes, indices, logits),
                      clean=sweep.clean_of(subject, crafter, logits, normal))
    _, adversarial = forward(crafted["adversarial"])
    order = _tsne_rows(len(x), batch, tenth=tenth)
    is_adversarial = order >= len(x)
    points = drawing.tsne(np.concatenate([normal, adversarial])[order], seed=F.seed)
    true_labels = np.concatenate([labels, labels])[order]
    tag = save_tsne(folder, victim.network.tag, points, true_labels, is_adversarial)
    picture = os.path.join(folder, f"{tag}.png")
    at_eps = "" if eps is None else f" at eps {eps:g}"
    drawing.scatter(picture, [drawing.Cloud("", points, true_labels, is_adversarial)],
                    f"t-SNE of features, {F.attack_method}{at_eps}")
    provenance.write(folder, tag, flags=flags.as_dict(), metrics={
        "num_images": len(points), "num_adversarial": int(is_adversarial.sum())})
    print(f"t-SNE of {len(points)} images is in {folder}, its picture in {picture}.")


def _tsne_rows(num_images, count_batch, *, tenth):
    """The original's order: per batch its normal rows, then its adversarial ones (row + n)."""
    rows = []
    # Batches of the original, however many images our attack takes at once.
    for start in range(0, num_images, count_batch):
        batch = np.arange(start, min(start + count_batch, num_images))
        drawn = batch[:max(1, len(batch) // 10)] if tenth else batch
        rows += [batch, drawn + num_images]
    return np.concatenate(rows)


MODES = {"attack": attack, "merge": merge, "transfer": transfer, "challenge": challenge,
         "heatmap": heatmap, "loss_surface": loss_surface, "loss_histogram": loss_histogram,
         "tSNE_logits": tsne_features}


def main() -> int:
    """Turns the flags into an attack."""
    F = flags.FLAGS
    mode = MODES[flags.check_choice("mode", MODES)]
    attack_options.check()
    victim = open_victim(each=mode is loss_surface)
    # Words of the original here and in evaluation/: users search their logs for them.
    if mode not in (challenge, loss_surface):
        print(f"attacking method is {F.attack_method}")
    print(f"mode is {F.mode}")
    mode(victim)
    return 0


if __name__ == "__main__":
    flags.run(main)
