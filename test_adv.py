"""Crafts adversarial examples and scores them beside the clean images, as the original's test_adv.py.

    python test_adv.py --dataset=digits --log_root=models_digits/resnet8 --num_residual_units=1 \
        --mode=attack --attack_method=fgsm --eval_batch_count=1 --RCE_train=True
"""

import os
import time
from collections.abc import Callable, Sequence
from functools import partial

import flags

import numpy as np
import tensorflow as tf
from tqdm import tqdm

import attacks
import detect
import inference
import plots
from attacks import _checks
from data import artifacts, inputs
from defenses import objectives
from errors import InputError

CLIP_MIN, CLIP_MAX = -0.5, 0.5
# The round of the sweep that the image grid shows.
GRID_EPS = 0.1
GRID_COLUMNS = 10
# test_adv.py's mode tSNE_logits: batches, and the attacks of which it draws a tenth only.
TSNE_BATCHES = 5
TSNE_TENTH = ("fgsm", "tgsm")


class Crafter:
    """One attack on one network, traced once, over arrays of any length.

    Args:
      network: the network under attack.
      strategy: whose replicas share the images.
      attack: from `attacks.get`.
      seed: of random noise.
      batch_size: images per call and replica; 0 is the attack's own. No influence on results.
    """

    def __init__(self, network: inference.Network, strategy: tf.distribute.Strategy,
                 attack: attacks.Attack, *, seed: int, batch_size: int = 0):
        box = {"clip_min": CLIP_MIN, "clip_max": CLIP_MAX}

        def craft(x, image_index, eps):
            if attack.uses_gradient:
                return (attack.function(network.logits, x, eps=eps, **box),)
            return (attack.function(x, eps=eps, seed=seed, image_index=image_index, **box),)

        self._run = inference.ChunkedFunction(
            strategy, craft, chunk_size=batch_size or attack.batch_size)

    def __call__(self, x: np.ndarray, image_index: np.ndarray, eps: float, *,
                 on_rows_done=None) -> np.ndarray:
        """Adversarial images like `x`, float32 [n, h, w, c]; `image_index` int [n] seeds noise."""
        adversarial, = self._run(x, image_index.astype(np.int32), on_rows_done=on_rows_done,
                                 constants=(tf.constant(eps, tf.float64),))
        return adversarial


def run_sweep(network: inference.Network, strategy: tf.distribute.Strategy, crafter: Crafter,
              x: np.ndarray, labels: np.ndarray, image_index: np.ndarray,
              eps_values: Sequence[float], *, on_rows_done: Callable = lambda eps, rows: None,
              on_round: Callable = lambda averages: None) -> tuple[dict[str, np.ndarray], list[dict]]:
    """Attacks the same images at each eps and scores them.

    Args:
      network: the network under attack.
      strategy: whose replicas share the images.
      crafter: the attack.
      x: clean network inputs float32 [n, h, w, c] in [-0.5, 0.5].
      labels: true classes int [n].
      image_index: which image of the data set each row is, int [n].
      eps_values: one round each.
      on_rows_done: told eps and the number of images that a call has finished.
      on_round: told the averages of each round.

    Returns:
      The arrays of the result files (`artifacts.RESULT_TEXTS` and `RESULT_IMAGES`), the rounds one
      after the other, and per round its averages.

    Raises:
      InputError: images outside the box, NaN, or a network that returns probabilities.
    """
    _checks.check_images(x, CLIP_MIN, CLIP_MAX)
    forward = network.forward(strategy)
    logits, features = forward(x)
    _checks.check_logits(logits)
    clean = _scores("nor", logits, features)
    rounds, averages = [], []
    for eps in eps_values:
        adversarial = crafter(x, image_index, eps, on_rows_done=partial(on_rows_done, eps))
        scored = _scores("adv", *forward(adversarial))
        rms = np.sqrt(np.mean(np.square(adversarial - x), axis=(1, 2, 3)))
        rounds.append({**scored, "L2_distance": rms, "adv_img": adversarial})
        averages.append(_averages(eps, labels, {**clean, **scored}, rms))
        on_round(averages[-1])
    # The clean images are scored once; the files repeat them for each round, as the original's do.
    repeated = {**clean, "labels_true": labels, "nor_img": x}
    results = {name: np.concatenate([array] * len(rounds)) for name, array in repeated.items()}
    results |= {name: np.concatenate([r[name] for r in rounds]) for name in rounds[0]}
    return results, averages


def _scores(suffix, logits, features):
    return {f"entropy_{suffix}": detect.non_me(logits),
            f"confidence_{suffix}": detect.confidence(logits),
            f"logits_{suffix}": features,
            f"labels_{suffix}": np.argmax(logits, axis=-1)}


def _averages(eps, labels, scores, rms):
    return {
        "eps": eps,
        "precision_nor": float(np.mean(scores["labels_nor"] == labels)),
        "precision_adv": float(np.mean(scores["labels_adv"] == labels)),
        "confidence_nor": float(scores["confidence_nor"].mean()),
        "confidence_adv": float(scores["confidence_adv"].mean()),
        "non_me_nor": float(scores["entropy_nor"].mean()),
        "non_me_adv": float(scores["entropy_adv"].mean()),
        "L2_distance": float(rms.mean()),
    }


def attack(network: inference.Network, strategy: tf.distribute.Strategy,
           image_set: inputs.ImageSet, spec: attacks.Attack) -> None:
    """--mode=attack: the sweep with the original's lines, its files, a picture, the run record."""
    F = flags.FLAGS
    eps_values = (F.eps,) if F["eps"].present else flags.SWEEP_EPS
    indices = _chosen_images(image_set, F.eval_batch_count, spec.count_batch)
    print(f"Num of sample per eps is {len(indices)}")
    crafter = Crafter(network, strategy, spec, seed=F.seed, batch_size=F.attack_batch_size)
    with _Progress(len(indices), len(eps_values), spec.count_batch) as progress:
        results, averages = run_sweep(
            network, strategy, crafter, inputs.to_network_input(image_set.images[indices]),
            image_set.labels[indices], indices, eps_values,
            on_rows_done=progress.rows_done, on_round=progress.round_done)
    folder = artifacts.results_dir(F.attack_method, F.dataset, network.objective.name, F.save_pwd)
    artifacts.save_attack_results(folder, results)
    shown = min(range(len(eps_values)), key=lambda k: abs(eps_values[k] - GRID_EPS))
    picture = _draw_grid(folder, results, shown, len(indices), eps_values[shown])
    artifacts.write_run_record(folder, "test_adv", flags=flags.as_dict(), metrics={
        "eps": eps_values, "num_per_eps": len(indices), "rounds": averages})
    print(f"Results are in {folder}, pictures of eps {eps_values[shown]:g} in {picture}.")


def _chosen_images(image_set, num_batches, count_batch):
    """Indices of a random subset that depends on the seed alone: the same for every attack."""
    available = len(image_set.labels)
    count = flags.num_images(
        num_batches, count_batch, available, "all of them are attacked once")
    return inputs.subset_indices(available, count, flags.FLAGS.seed)


def _draw_grid(folder, results, shown, num_per_eps, eps):
    first = slice(shown * num_per_eps, shown * num_per_eps + min(GRID_COLUMNS, num_per_eps))
    titles = [f"true {true}\n{clean} → {adversarial}" for true, clean, adversarial in zip(
        results["labels_true"][first], results["labels_nor"][first], results["labels_adv"][first],
        strict=True)]
    path = os.path.join(folder, artifacts.IMAGE_GRID)
    plots.image_grid(path, results["nor_img"][first], results["adv_img"][first],
                     column_titles=titles, title=f"{flags.FLAGS.attack_method}, eps {eps:g}: "
                     "predicted class of the normal → of the adversarial image")
    return path


class _Progress:
    """Progress bar over all rounds, and the original's lines above it."""

    def __init__(self, num_per_eps, num_rounds, count_batch):
        self._num_per_eps, self._count_batch = num_per_eps, count_batch
        self._rows = 0
        self._started = time.perf_counter()
        self._bar = tqdm(total=num_per_eps * num_rounds, unit="image", disable=None)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._bar.close()

    def rows_done(self, eps, rows):
        num_batches = -(-self._num_per_eps // self._count_batch)
        seconds = time.perf_counter() - self._started
        before, self._rows = self._rows, self._rows + rows
        finished = (num_batches if self._rows == self._num_per_eps
                    else self._rows // self._count_batch)
        for batch in range(before // self._count_batch, finished):
            tqdm.write(f"The {batch} batch in total {num_batches}, the eps = {eps:f} "
                       f"({seconds:f} sec)")
        self._bar.update(rows)

    def round_done(self, a):
        for words, name in (("Precision", "precision"), ("Confidence", "confidence"),
                            ("non-ME", "non_me")):
            tqdm.write(f"{words} on nor images is {a[name + '_nor']:f}, "
                       f"on adv images is {a[name + '_adv']:f}")
        # Differs from the original: the average of this eps, not of all rounds so far.
        tqdm.write(f"Average L2-distance between nor and adv imgs is {a['L2_distance']:f}")
        self._rows = 0
        self._started = time.perf_counter()


def tsne_features(network: inference.Network, strategy: tf.distribute.Strategy,
                  image_set: inputs.ImageSet, spec: attacks.Attack) -> None:
    """--mode=tSNE_logits: t-SNE of the features of normal and adversarial images together."""
    F = flags.FLAGS
    indices = _chosen_images(image_set, TSNE_BATCHES, spec.count_batch)
    x, labels = inputs.to_network_input(image_set.images[indices]), image_set.labels[indices]
    crafter = Crafter(network, strategy, spec, seed=F.seed, batch_size=F.attack_batch_size)
    forward = network.forward(strategy)
    _, normal = forward(x)
    _, adversarial = forward(crafter(x, indices, F.eps))
    order = _tsne_rows(len(x), spec.count_batch, tenth=F.attack_method in TSNE_TENTH)
    is_adversarial = order >= len(x)
    points = plots.tsne(np.concatenate([normal, adversarial])[order], seed=F.seed)
    true_labels = np.concatenate([labels, labels])[order]
    folder = artifacts.tsne_dir(F.attack_method, F.dataset)
    tag = artifacts.save_tsne(folder, network.objective.name, points, true_labels, is_adversarial)
    picture = os.path.join(folder, f"{tag}.png")
    plots.scatter(picture, points, true_labels, is_adversarial,
                  title=f"t-SNE of features, {F.attack_method} at eps {F.eps:g}")
    artifacts.write_run_record(folder, tag, flags=flags.as_dict(), metrics={
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


MODES = {"attack": attack, "tSNE_logits": tsne_features}


def main() -> int:
    """Turns the flags into an attack."""
    F = flags.FLAGS
    mode = MODES[flags.check_choice("mode", MODES)]
    flags.check_at_least("num_residual_units", 1)
    flags.check_at_least("eval_batch_count", 1, or_all=True)
    flags.check_at_least("attack_batch_size", 0)
    if not 0 < F.eps <= 1:
        raise InputError(f"eps must lie in (0, 1]. Received: eps={F.eps}.")
    spec = attacks.get(F.attack_method)
    log_root = flags.require("log_root")
    strategy = flags.make_strategy(F.num_gpus)
    image_set = inputs.load(F.dataset, F.eval_data_path, "test", data_dir=F.data_dir,
                            num_classes=F.num_classes)
    network = inference.restore(strategy, log_root, inference.Expected(
        F.dataset, image_set.images.shape[1:], image_set.num_classes, F.num_residual_units,
        objectives.name_of(F.RCE_train)))
    print(f"attacking method is {F.attack_method}")
    print(f"mode is {F.mode}")
    mode(network, strategy, image_set, spec)
    return 0


if __name__ == "__main__":
    flags.run(main, flags.define_common, flags.define_test_adv)
