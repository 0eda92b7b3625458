"""Crafts adversarial examples and scores them beside the clean images, as the original's test_adv.py.

    python test_adv.py --dataset=digits --log_root=models_digits/resnet8 --num_residual_units=1 \
        --mode=attack --attack_method=fgsm --eval_batch_count=1 --RCE_train=True

With --num_shards=n --shard_index=i a run does one n-th of it; --mode=merge --num_shards=n joins them.
"""

import dataclasses
import os
import time
from collections.abc import Callable
from functools import partial

import flags

import numpy as np
import tensorflow as tf
from tqdm import tqdm

import attacks
from data import inputs
from data.pixels import to_network_input
from defenses.kernels import KERNEL_BANDWIDTH, log_kernel_density
from errors import InputError
from evaluation import checks, sweep
from evaluation import crafter as crafting
from evaluation.crafter import Crafter, input_gradients
from figures import drawing
from files import atomic, attack_parts, attack_results, provenance
from files.arrays import sha256
from files.features import KERNEL_MODES, kernels_are_stale, kernels_path, load_kernels, save_tsne
from files.names import IMAGE_GRID, kernel_dir, results_dir, tsne_dir
from networks.network import Network
from options import attack as attack_options
from options import network as network_options

# The round of the sweep that the image grid shows.
GRID_EPS = 0.1
GRID_COLUMNS = 10
# Images whose gradients are looked at before an attack.
FIRST_BATCH = 100
# Mode tSNE_logits: batches and their size of the attacks of one call, the saliency attacks and C&W;
# the attacks of which it draws a tenth.
TSNE_BATCHES = {"call": (5, 200), "saliency": (1000, 1), "carlini": (100, 10)}
TSNE_TENTH = ("fgsm", "tgsm")


@dataclasses.dataclass(frozen=True)
class Job:
    """What the flags ask for, of one attack on one network.

    Attributes:
      crafter: the attack.
      indices: the images to attack.
      target: kind of target, "" where there is no choice.
      identity: whatever decides the results, but network and images.
      log_ratio_fn: features [n, d] and classes [n] to the log density ratio [n]; None but for the
        white-box attacks.
    """

    crafter: Crafter
    indices: np.ndarray
    target: str
    identity: dict[str, object]
    log_ratio_fn: Callable | None = None

    def choose_targets(self, labels: np.ndarray, logits: np.ndarray) -> list[np.ndarray]:
        """Target classes of the images, whose true classes int [n] and clean logits are given."""
        if not self.target:
            return []
        return crafting.choose_targets(self.target, labels, logits, self.indices, flags.FLAGS.seed)


def _job(network, strategy, image_set, spec, eps_values, num_batches, batch) -> Job:
    """Reads the attack's flags and draws its images, so many batches."""
    F = flags.FLAGS
    settings, named = _settings(spec, network.objective)
    target = _target(spec, image_set.num_classes)
    if target == "none":
        settings["targeted"] = False
    log_ratio_fn = None
    if spec.uses_kernels:
        detector = _detector(network)
        log_ratio_fn = partial(_log_density_ratio, **detector)
        settings |= detector | {"density_form": F.density_form}
        named |= {name: sha256(array) for name, array in detector.items()
                  if name != "bandwidth"} | {"density_form": F.density_form}
    indices = _chosen_images(image_set, num_batches, batch, target)
    crafter = Crafter(
        network, strategy, spec, seed=F.seed, settings=settings,
        batch_size=min(F.attack_batch_size or spec.batch_size, len(indices)))
    gpus = tf.config.list_logical_devices("GPU") and F.num_gpus
    identity = {
        "device": "GPU" if gpus else "CPU", "tensorflow": tf.__version__,
        "attack_method": F.attack_method, "dataset": F.dataset, "eps": eps_values,
        "objective": network.objective.name, "seed": F.seed, "target": target,
        "num_images": len(indices), **named}
    return Job(crafter, indices, target, identity, log_ratio_fn)


def _settings(spec, objective):
    """Keywords of the attack that the flags override, and the same as JSON values."""
    F = flags.FLAGS
    kinds = {"attack_confidence": (float, 0.0, False), "attack_iterations": (int, 1, False),
             "attack_learning_rate": (float, 0.0, True), "attack_search_steps": (int, 1, False),
             "attack_initial_const": (float, 0.0, True)}
    settings = {}
    for flag, (kind, smallest, above) in kinds.items():
        values = flags.numbers(flag, kind, smallest, above=above)
        if not values:
            continue
        if flag not in spec.settings:
            raise InputError(f"{F.attack_method} takes no --{flag}. "
                             f"Received: {flag}={','.join(F[flag].value)}.")
        most = max(1, spec.stages)
        if len(values) > most:
            raise InputError(f"{flag} of {F.attack_method} must be at most {most} "
                             f"value{'s' * (most > 1)}. Received: {flag}={','.join(F[flag].value)}.")
        settings[spec.settings[flag]] = values if len(values) == most else values * most
        if most == 1:
            settings[spec.settings[flag]], = values
    settings |= _switches(spec, objective)
    return settings, dict(settings)


def _switches(spec, objective):
    """Keywords of the flags that belong to some attacks only; an InputError for any other attack."""
    F = flags.FLAGS
    flags.check_at_least("num_restarts", 1)
    abort_groups = {"image": 1, "batch": spec.count_batch}
    head_sign = float(objective.attack_logits(tf.ones([])))
    costs = {"ce": {}, "rce": {"reverse_cost": True, "head_sign": head_sign}}
    choices = {
        "jsma_pair": (F.attack_method == "jsma", {"pair": F.jsma_pair}),
        "num_restarts": (F.attack_method == "pgd", {"num_restarts": F.num_restarts}),
        "attack_cost": (F.attack_method == "fgsm", costs[flags.check_choice("attack_cost", costs)]),
        "cw_abort": (spec.uses_features and not spec.uses_kernels, {"abort_group": abort_groups[
            flags.check_choice("cw_abort", abort_groups)]}),
        "distance_from": (spec.uses_kernels, {"distance_from_clean": flags.check_choice(
            "distance_from", ("attack1", "clean")) == "clean"}),
        "density_form": (spec.uses_kernels, {}),
        "kernel_dir": (spec.uses_kernels, {}),
    }
    for name, (allowed, _) in choices.items():
        if F[name].present and not allowed:
            raise InputError(f"{F.attack_method} takes no --{name}. Received: {name}={F[name].value}.")
    return {key: value for allowed, keywords in choices.values() if allowed
            for key, value in keywords.items()}


def _target(spec, num_classes):
    given = flags.FLAGS.target
    if given and not spec.target:
        raise InputError(f"{flags.FLAGS.attack_method} takes no --target. Received: target={given!r}.")
    is_class = given.isdecimal() and int(given) < num_classes
    if given and given not in spec.targets and not is_class:
        raise InputError(f"target of {flags.FLAGS.attack_method} must be one of "
                         f"[{', '.join(spec.targets)}] or a class below {num_classes}. "
                         f"Received: target={given!r}.")
    return given or spec.target


def _detector(network):
    """Kernels, medians and bandwidth of the white-box attacks."""
    objective = network.objective.name
    folder = flags.FLAGS.kernel_dir or kernel_dir(flags.FLAGS.dataset)
    kernels = load_kernels(folder, objective, "attack_kernels")
    medians = load_kernels(folder, objective, "attack_medians")
    num_classes, num_features = (output.shape[-1] for output in network.model.outputs)
    if kernels.shape[1:] != (num_features, num_classes) or medians.shape != (num_classes,):
        raise InputError(
            f"kernels of {folder} must be of {num_features} features and {num_classes} classes, as "
            f"the network. Received: kernels={kernels.shape}, medians={medians.shape}.")
    for kind in ("attack_kernels", "attack_medians"):
        if kernels_are_stale(folder, objective, kind):
            flags.warn(f"{kernels_path(folder, objective, kind)} is older than what it "
                       f"is made from; detect.py --mode={KERNEL_MODES[kind]} makes it anew.")
    return {"kernels": kernels, "density_medians": medians,
            "bandwidth": KERNEL_BANDWIDTH[objective]}


def _log_density_ratio(features, classes, *, kernels, density_medians, bandwidth):
    return np.log(density_medians)[classes] - log_kernel_density(
        features, classes, kernels, bandwidth)


def _chosen_images(image_set, num_batches, count_batch, target):
    """Indices of a random subset that depends on the seed alone: the same for every attack."""
    order = inputs.subset_indices(len(image_set.labels), -1, flags.FLAGS.seed)
    if target.isdecimal():
        # An image of the class to be reached is there already.
        order = order[image_set.labels[order] != int(target)]
        if not len(order):
            raise InputError(f"expected images of other classes than the target. "
                             f"Received: {len(image_set.labels)} images, all of class {target}.")
    count = flags.num_images(num_batches, count_batch, len(order), "all of them are attacked once")
    return order[:count]


@dataclasses.dataclass(frozen=True)
class Sweep:
    """What modes attack and merge work on.

    Attributes:
      job: the attack.
      x: its images float32 [n, h, w, c].
      labels: their classes int [n].
      eps_values: one round each; (None,) for an attack without eps.
      folder: of the result files.
      pieces: all that is crafted, over all rounds and shards.
      parts: where the finished ones are.
    """

    job: Job
    x: np.ndarray
    labels: np.ndarray
    eps_values: tuple[float | None, ...]
    folder: str | os.PathLike
    pieces: list[attack_parts.Piece]
    parts: attack_parts.Parts


def _sweep(network, strategy, image_set, spec) -> Sweep:
    F = flags.FLAGS
    eps_values = _eps_values()
    if not spec.uses_eps:
        eps_values = (None,)
    job = _job(network, strategy, image_set, spec, eps_values, F.eval_batch_count, spec.count_batch)
    x, labels = to_network_input(image_set.images[job.indices]), image_set.labels[job.indices]
    print(f"Num of sample per eps is {len(labels)}")
    folder = results_dir(F.attack_method, F.dataset, network.objective.name, F.save_pwd)
    atomic.require_folder(folder)
    sharding = {"num_shards": F.num_shards} if F.num_shards > 1 else {}
    parts = attack_parts.Parts(folder, job.identity | sharding | {
        **network.digests(), "data_sha256": sha256(x, labels, job.indices)}, overwrite=F.overwrite)
    part_size = _part_size(spec.part_size, job.crafter.unit, len(x))
    pieces = attack_parts.cut(len(eps_values), len(x), part_size, F.num_shards)
    return Sweep(job, x, labels, eps_values, folder, pieces, parts)


def _eps_values():
    """--eps, or the values of the sweep."""
    F = flags.FLAGS
    values = flags.numbers("eps_sweep", float, 0.0, above=True) or flags.SWEEP_EPS
    if max(values) > 1 or len(set(values)) < len(values):
        raise InputError("eps_sweep must be different values in (0, 1], separated by commas. "
                         f"Received: eps_sweep={','.join(F.eps_sweep)}.")
    if F["eps"].present and F["eps_sweep"].present:
        raise InputError(f"eps and eps_sweep exclude each other. Received: eps={F.eps} and "
                         f"eps_sweep={','.join(F.eps_sweep)}.")
    return (F.eps,) if F["eps"].present else values


def _part_size(largest, unit, num_images):
    """Images per part: small enough that every shard has some, without influence on results."""
    num_shards = flags.FLAGS.num_shards
    if num_shards == 1:
        return largest
    per_shard = -(-num_images // num_shards)
    return min(-(-per_shard // unit) * unit, largest)


def attack(network: Network, strategy: tf.distribute.Strategy,
           image_set: inputs.ImageSet, spec: attacks.Attack) -> None:
    """--mode=attack: the sweep with the original's lines, its files, a picture, the run record.

    Of several shards only the crafting, saved as parts.
    """
    work = _sweep(network, strategy, image_set, spec)
    if not flags.FLAGS.overwrite:
        attack_results.refuse_others(work.folder, network.identity())
    if spec.uses_gradient:
        _check_gradients(network, work.x[:FIRST_BATCH], spec)
    if flags.FLAGS.num_shards > 1:
        _craft_shard(network, strategy, spec, work)
        return
    _tell_of_finished(work.parts, work.pieces)
    _run_and_save(network, strategy, spec, work)


def merge(network: Network, strategy: tf.distribute.Strategy,
          image_set: inputs.ImageSet, spec: attacks.Attack) -> None:
    """--mode=merge: what --mode=attack without shards would have left, from the parts of all shards."""
    work = _sweep(network, strategy, image_set, spec)
    missing = [piece for piece in work.pieces if work.parts.load(piece.name) is None]
    if missing:
        raise InputError(
            f"merge needs all {len(work.pieces)} parts of the {flags.FLAGS.num_shards} shards in "
            f"{work.folder}/parts, and {len(missing)} are missing, the first {missing[0].name}.npz of "
            f"--shard_index={missing[0].shard}. "
            f"Received: {len(work.pieces) - len(missing)} parts.")
    _run_and_save(network, strategy, spec, work)


def _craft_shard(network, strategy, spec, work):
    F = flags.FLAGS
    pieces = [piece for piece in work.pieces if piece.shard == F.shard_index]
    _tell_of_finished(work.parts, pieces)
    # One round: the images of all eps are counted together.
    num_images = sum(piece.rows.stop - piece.rows.start for piece in pieces)
    with _Progress(num_images, 1, spec) as progress:
        sweep.craft_shard(
            network, strategy, work.job.crafter, work.x, work.job.indices, work.eps_values, pieces,
            work.parts, choose_targets=partial(work.job.choose_targets, work.labels),
            on_rows_done=progress.rows_done, on_stage_done=progress.stage_done)
    print(f"Shard {F.shard_index} of {F.num_shards} has made its {len(pieces)} of {len(work.pieces)} "
          f"parts in {work.folder}/parts; --mode=merge joins them when all are there.")


def _tell_of_finished(parts, pieces):
    finished = {piece.name for piece in pieces} & set(parts.names())
    if finished:
        print(f"Going on after {len(finished)} finished parts.")


def _run_and_save(network, strategy, spec, work):
    """Crafts what is not finished yet, scores all of it, and leaves the results."""
    job, folder, eps_values, num_images = work.job, work.folder, work.eps_values, len(work.labels)
    with _Progress(num_images, len(eps_values), spec) as progress:
        results, per_image, averages = sweep.run_sweep(
            network, strategy, job.crafter, work.x, work.labels, job.indices, eps_values,
            work.pieces, work.parts, choose_targets=partial(job.choose_targets, work.labels),
            on_rows_done=progress.rows_done, on_stage_done=progress.stage_done,
            on_round=progress.round_done)
    if job.log_ratio_fn:
        averages[0] |= _saved_log_ratio(job.log_ratio_fn, results, per_image)
    attack_results.save_attack_results(folder, results, per_image)
    provenance.write(folder, "test_adv", flags=flags.as_dict(), metrics={
        "eps": eps_values, "num_per_eps": num_images, "rounds": averages,
        "network": network.identity()})
    work.parts.discard()
    print(f"Results are in {folder}{_draw_grid(folder, results, eps_values, num_images)}.")


def _check_gradients(network, x, spec):
    gradients = input_gradients(network, x, cross_entropy=spec.ascends_cross_entropy)
    num_zero = checks.check_gradients(gradients)
    if num_zero:
        flags.warn(f"the input gradient is exactly zero for {num_zero} of the first {len(x)} images: "
                   "the attack cannot move those.")


def _saved_log_ratio(log_ratio_fn, results, per_image):
    """The log density ratio of the saved images' features, in float64 and for the predicted class."""
    ratio = log_ratio_fn(results["logits_adv"], results["labels_adv"])
    mean = sweep.mean_of(ratio, per_image["success"])
    print(f"Log-density-ratio in saving results of nor/adv is {mean:f}")
    return {"log_density_ratio_saved": mean}


def _draw_grid(folder, results, eps_values, num_per_eps):
    """Draws some images of the round closest to GRID_EPS; returns the words that say so."""
    if results["nor_img"].shape[-1] not in (1, 3):
        return ""  # no picture has other channels
    shown = min(range(len(eps_values)), key=lambda k: abs((eps_values[k] or 0) - GRID_EPS))
    eps = eps_values[shown]
    first = slice(shown * num_per_eps, shown * num_per_eps + min(GRID_COLUMNS, num_per_eps))
    titles = [f"true {true}\n{clean} → {adversarial}" for true, clean, adversarial in zip(
        results["labels_true"][first], results["labels_nor"][first], results["labels_adv"][first],
        strict=True)]
    path = os.path.join(folder, IMAGE_GRID)
    at_eps = "" if eps is None else f", eps {eps:g}"
    drawing.image_grid(path, results["nor_img"][first], results["adv_img"][first],
                     column_titles=titles, title=f"{flags.FLAGS.attack_method}{at_eps}: "
                     "predicted class of the normal → of the adversarial image")
    return f", pictures{'' if eps is None else f' of eps {eps:g}'} in {path}"


class _Progress:
    """Progress bar over all rounds, and the original's lines above it."""

    def __init__(self, num_per_eps, num_rounds, spec):
        self._num_per_eps, self._spec = num_per_eps, spec
        self._num_batches = -(-num_per_eps // spec.count_batch)
        self._rows, self._successes = 0, 0
        self._stage_rows = [0] * spec.stages
        self._started = time.perf_counter()
        self._bar = tqdm(total=num_per_eps * num_rounds, unit="image", disable=None)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._bar.close()

    def rows_done(self, eps, rows, successes):
        before, self._rows = self._rows, self._rows + rows
        finished = (self._num_batches if self._rows == self._num_per_eps
                    else self._rows // self._spec.count_batch)
        at_eps = "" if eps is None else f", the eps = {eps:f} "
        for batch in range(before // self._spec.count_batch, finished):
            tqdm.write(f"The {batch} batch in total {self._num_batches}{at_eps}"
                       f"({self._seconds():f} sec)")
        if successes is not None:
            self._successes += successes
            self._bar.set_postfix(successes=self._successes, refresh=False)
        self._bar.update(rows)

    def stage_done(self, stage, success):
        if self._spec.stages < 2:
            return
        for is_success in success:
            tqdm.write(f"Finish attack {stage}. The {self._stage_rows[stage - 1]} batch in total "
                       f"{self._num_batches}({self._seconds():f} sec) "
                       f"{'Success' if is_success else 'Fail'}")
            self._stage_rows[stage - 1] += 1

    def round_done(self, a):
        for words, name in (("Precision", "precision"), ("Confidence", "confidence"),
                            ("non-ME", "non_me")):
            tqdm.write(f"{words} on nor images is {a[name + '_nor']:f}, "
                       f"on adv images is {a[name + '_adv']:f}")
        tqdm.write(f"Average L2-distance between nor and adv imgs is {a['L2_distance']:f}")
        if a["eps"] is None:
            first = a.get("num_first_success", a["num_success"])
            tqdm.write(f"Num of attacking success is {a['num_success']}")
            tqdm.write(f"Total success num of attack 1 is {first}")
            tqdm.write(f"Total efficient num of attack 1 is {a['num_kept']}")
        if "log_density_ratio" in a:
            tqdm.write("Log-density-ratio in attacking function of nor/adv is "
                       f"{a['log_density_ratio']:f}")
        self._rows = 0
        self._started = time.perf_counter()

    def _seconds(self):
        return time.perf_counter() - self._started


def tsne_features(network: Network, strategy: tf.distribute.Strategy,
                  image_set: inputs.ImageSet, spec: attacks.Attack) -> None:
    """--mode=tSNE_logits: t-SNE of the features of normal and adversarial images together."""
    F = flags.FLAGS
    eps = F.eps if spec.uses_eps else None
    family = "call" if not spec.stages else "carlini" if spec.uses_features else "saliency"
    num_batches, batch = TSNE_BATCHES[family]
    job = _job(network, strategy, image_set, spec, (eps,), num_batches, batch)
    x, labels = to_network_input(image_set.images[job.indices]), image_set.labels[job.indices]
    forward = network.forward(strategy)
    logits, normal = forward(x)
    crafted = job.crafter(x, job.indices, eps=eps, targets=job.choose_targets(labels, logits))
    _, adversarial = forward(crafted["adversarial"])
    order = _tsne_rows(len(x), batch, tenth=F.attack_method in TSNE_TENTH)
    is_adversarial = order >= len(x)
    points = drawing.tsne(np.concatenate([normal, adversarial])[order], seed=F.seed)
    true_labels = np.concatenate([labels, labels])[order]
    folder = tsne_dir(F.attack_method, F.dataset)
    tag = save_tsne(folder, network.objective.name, points, true_labels, is_adversarial)
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
    for start in range(0, num_images, count_batch):
        batch = np.arange(start, min(start + count_batch, num_images))
        drawn = batch[:max(1, len(batch) // 10)] if tenth else batch
        rows += [batch, drawn + num_images]
    return np.concatenate(rows)


MODES = {"attack": attack, "merge": merge, "tSNE_logits": tsne_features}


def _check_shards():
    F = flags.FLAGS
    num_shards = flags.check_at_least("num_shards", 1)
    if F.mode == "tSNE_logits" and (num_shards > 1 or F["shard_index"].present):
        raise InputError("tSNE_logits must be one run, without --num_shards and --shard_index. "
                         f"Received: num_shards={num_shards}, shard_index={F.shard_index}.")
    if F.mode == "merge":
        _check_merge()
    elif F["shard_index"].present and num_shards == 1:
        raise InputError("--shard_index needs a --num_shards of at least 2. "
                         f"Received: num_shards={num_shards}.")
    if not 0 <= F.shard_index < num_shards:
        raise InputError(f"shard_index must lie in [0, {num_shards}). "
                         f"Received: shard_index={F.shard_index}.")


def _check_merge():
    F = flags.FLAGS
    if F.num_shards == 1:
        raise InputError("merge needs the --num_shards of the shards, at least 2. "
                         "Received: num_shards=1.")
    # It would delete what is to be joined, on account of one mistyped flag.
    for name in ("shard_index", "overwrite"):
        if F[name].present:
            raise InputError(f"merge takes no --{name}. Received: {name}={F[name].value}.")


def main() -> int:
    """Turns the flags into an attack."""
    F = flags.FLAGS
    mode = MODES[flags.check_choice("mode", MODES)]
    flags.check_at_least("eval_batch_count", 1, or_all=True)
    flags.check_at_least("attack_batch_size", 0)
    _check_shards()
    if not 0 < F.eps <= 1:
        raise InputError(f"eps must lie in (0, 1]. Received: eps={F.eps}.")
    spec = attacks.get(F.attack_method)
    if F["eps"].present and not spec.uses_eps:
        flags.warn(f"--eps does nothing for {F.attack_method}, as in the original.")
    network, strategy, image_set = network_options.open_network()
    print(f"attacking method is {F.attack_method}")
    print(f"mode is {F.mode}")
    mode(network, strategy, image_set, spec)
    return 0


if __name__ == "__main__":
    flags.run(main, network_options.define, network_options.define_keras, attack_options.define)
