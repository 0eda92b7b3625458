r"""Detection of adversarial images by thresholding, in place of the original's Matlab scripts.

The upper half are functions of arrays: the three scores of an image (confidence, non-maximal
entropy, K-density), the choice of kernels, and the AUC of normal against adversarial images. The
lower half is the program, which reads the files that test_adv.py and others.py left:

    python detect.py --dataset=mnist --attack_method=fgsm                       # table, JSON, ROC
    python detect.py --dataset=mnist --mode=select_kernel --num_kernels=1000    # kernels anew
    python detect.py --dataset=mnist --mode=select_kernel_for_attack            # 100 of them, and
    python detect.py --dataset=mnist --mode=median_for_attack                   # their densities

Every score is higher for images that look more normal. Only NumPy is imported at the start;
scikit-learn, SciPy and Matplotlib where they are needed, TensorFlow never.
"""

import contextlib
import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import flags

import numpy as np

from data import artifacts
from errors import InputError

# σ² of the kernel density, as in the original's Matlab scripts.
KERNEL_BANDWIDTH = {"ce": 1 / 0.26, "rce": 0.1 / 0.26}

SCORES = ("confidence", "non_me", "k_density")

# Kernels per class of the white-box attacks.
ATTACK_KERNELS = 100

# Elements of the distance matrix held at a time: 32 MB in float64.
_CHUNK_ELEMENTS = 4_000_000


def log_probabilities(logits: np.ndarray) -> np.ndarray:
    """Log-softmax.

    Args:
      logits: float [n, num_classes], finite, of any size; sign-adjusted (−Z for RCE).

    Returns:
      float64 [n, num_classes], ≤ 0, finite for finite logits.
    """
    logits = np.asarray(logits, np.float64)
    with np.errstate(over="ignore"):
        shifted = logits - logits.max(axis=1, keepdims=True)
    # The difference of two finite logits can overflow to -inf, whose probability 0 times its
    # logarithm would be NaN.
    shifted = np.maximum(shifted, np.finfo(np.float64).min / 2)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def confidence(logits: np.ndarray) -> np.ndarray:
    """Largest softmax probability.

    Args:
      logits: float [n, num_classes], finite; sign-adjusted (−Z for RCE).

    Returns:
      float64 [n] in [1/num_classes, 1].
    """
    return np.exp(log_probabilities(logits).max(axis=1))


def non_me(logits: np.ndarray) -> np.ndarray:
    """Non-maximal entropy −Σ_{i≠m} p̂_i log p̂_i, p̂ the softmax without its largest element m.

    Args:
      logits: float [n, num_classes], finite, num_classes ≥ 2; sign-adjusted (−Z for RCE). Of
        several largest elements, the first is left out.

    Returns:
      float64 [n] in [0, log(num_classes − 1)], the upper end where all others are equal. After RCE
      training, higher means more normal.

    Raises:
      InputError: logits is not a matrix of at least two columns.
    """
    # Differs from the original: from the logits, so that it stays finite where a probability
    # underflows to 0; equal elsewhere.
    logits = np.asarray(logits, np.float64)
    if logits.ndim != 2 or logits.shape[1] < 2:
        raise InputError(f"expected logits of shape [n, at least 2 classes]. "
                         f"Received: shape={logits.shape}.")
    num_rows, num_classes = logits.shape
    others = np.ones(logits.shape, bool)
    others[np.arange(num_rows), logits.argmax(axis=1)] = False
    log_p = log_probabilities(logits[others].reshape(num_rows, num_classes - 1))
    # The sum of rounded terms may leave the range by its last digit.
    return np.clip(-(np.exp(log_p) * log_p).sum(axis=1), 0, math.log(num_classes - 1))


def log_kernel_density(features: np.ndarray, classes: np.ndarray, kernels: np.ndarray,
                       bandwidth: float) -> np.ndarray:
    """Logarithm of the K-density mean_j exp(−‖f − k_j‖²/σ²), the k_j those of each row's class.

    Args:
      features: float [n, d], penultimate layer.
      classes: int [n] in [0, num_classes), the predicted classes.
      kernels: float [num_kernels, d, num_classes].
      bandwidth: σ² > 0, see KERNEL_BANDWIDTH.

    Returns:
      float64 [n] ≤ 0, finite also where the density itself underflows to 0.

    Raises:
      InputError: shapes that do not fit, or a class without kernels.

    Source: select_kernel.m and auc_of_roc_RCE.m of the original.
    """
    features, classes = np.asarray(features, np.float64), np.asarray(classes)
    _check_density_inputs(features, classes, kernels)
    result = np.empty(len(features))
    chunk = max(1, _CHUNK_ELEMENTS // len(kernels))
    for c in np.unique(classes):
        class_kernels = np.asarray(kernels[:, :, c], np.float64)
        # ‖f − k‖² = ‖f‖² − 2fk + ‖k‖² cancels; around the kernels' mean it loses no digits.
        center = class_kernels.mean(axis=0)
        class_kernels = class_kernels - center
        rows = np.flatnonzero(classes == c)
        for start in range(0, len(rows), chunk):
            part = rows[start:start + chunk]
            result[part] = _log_mean_kernel(features[part] - center, class_kernels, bandwidth)
    return result


def _log_mean_kernel(features, kernels, bandwidth):
    """log mean_j exp(−‖f − k_j‖²/σ²) [n] of features [n, d] and kernels [num_kernels, d]."""
    exponents = features @ (2 * kernels.T)
    exponents -= np.square(kernels).sum(axis=1)
    exponents -= np.square(features).sum(axis=1)[:, None]
    np.minimum(exponents, 0, out=exponents)  # a squared distance is not negative
    exponents /= bandwidth
    largest = exponents.max(axis=1)
    exponents -= largest[:, None]
    np.exp(exponents, out=exponents)
    return largest + np.log(exponents.mean(axis=1))


def _check_density_inputs(features, classes, kernels):
    if kernels.ndim != 3 or features.ndim != 2 or features.shape[1] != kernels.shape[1]:
        raise InputError("expected features [n, d] and kernels [num_kernels, d, num_classes] with "
                         f"the same d. Received: shapes={features.shape}, {kernels.shape}.")
    if classes.size and not 0 <= classes.min() <= classes.max() < kernels.shape[2]:
        raise InputError(f"expected classes in [0, {kernels.shape[2]}), those of the kernels. "
                         f"Received: classes from {classes.min()} to {classes.max()}.")


def kernel_density(features: np.ndarray, classes: np.ndarray, kernels: np.ndarray,
                   bandwidth: float) -> np.ndarray:
    """K-density float64 [n] in [0, 1]; arguments and errors as `log_kernel_density`."""
    return np.exp(log_kernel_density(features, classes, kernels, bandwidth))


def density_medians(features: np.ndarray, labels: np.ndarray, kernels: np.ndarray,
                    bandwidth: float) -> np.ndarray:
    """Per class, the median K-density over its training features.

    Args:
      features: float [n, d], training features.
      labels: int [n], their true classes.
      kernels: float [num_kernels, d, num_classes].
      bandwidth: σ² > 0.

    Returns:
      float64 [num_classes].

    Raises:
      InputError: a class has no feature; as `log_kernel_density`.

    Source: median_for_attack.m of the original.
    """
    labels = np.asarray(labels)
    density = kernel_density(features, labels, kernels, bandwidth)
    counts = np.bincount(labels, minlength=kernels.shape[2])
    if not counts.all():
        raise InputError("expected training features of every class of the kernels. "
                         f"Received: class {int(counts.argmin())}=0 features.")
    return np.array([np.median(density[labels == c]) for c in range(len(counts))])


def select_kernels(features: np.ndarray, labels: np.ndarray, num_kernels: int, num_classes: int,
                   seed: int) -> np.ndarray:
    """Draws training features as kernels: per class, at random and without replacement.

    Args:
      features: float [n, d], training features.
      labels: int [n] in [0, num_classes), their true classes.
      num_kernels: kernels per class, at least 1.
      num_classes: number of classes.
      seed: of the draw. A class's kernels depend on nothing but its own features.

    Returns:
      [num_kernels, d, num_classes], of the features' type.

    Raises:
      InputError: a class has fewer features than num_kernels (never silently fewer), or a label is
        out of range.

    Source: select_kernel.m of the original.
    """
    features, labels = np.asarray(features), np.asarray(labels)
    if labels.size and not 0 <= labels.min() <= labels.max() < num_classes:
        raise InputError(f"expected labels in [0, {num_classes}). "
                         f"Received: labels from {labels.min()} to {labels.max()}.")
    counts = np.bincount(labels, minlength=num_classes)
    smallest = int(counts.argmin())
    if not 1 <= num_kernels <= counts[smallest]:
        raise InputError(f"num_kernels must lie in [1, {counts[smallest]}]: class {smallest} has "
                         f"{counts[smallest]} training features. "
                         f"Received: num_kernels={num_kernels}.")
    draws = [np.random.default_rng((seed, c)).choice(counts[c], num_kernels, replace=False)
             for c in range(num_classes)]
    return np.stack([features[labels == c][draw] for c, draw in enumerate(draws)], axis=2)


def select_attack_kernels(kernels: np.ndarray, num_kernels: int, seed: int) -> np.ndarray:
    """Draws some of the kernels of each class, for the white-box attacks.

    Args:
      kernels: [n, d, num_classes].
      num_kernels: kernels per class, in [1, n].
      seed: of the draw.

    Returns:
      [num_kernels, d, num_classes].

    Source: select_kernel_for_attack.m of the original, which draws 100 of 1,000.
    """
    num_drawn_from, num_features, num_classes = kernels.shape
    if not 1 <= num_kernels <= num_drawn_from:
        raise InputError(f"num_kernels must lie in [1, {num_drawn_from}], the kernels per class. "
                         f"Received: num_kernels={num_kernels}.")
    by_class = np.transpose(kernels, (2, 0, 1)).reshape(-1, num_features)
    return select_kernels(by_class, np.repeat(np.arange(num_classes), num_drawn_from), num_kernels,
                          num_classes, seed)


def auc(scores_normal: np.ndarray, scores_adversarial: np.ndarray) -> float:
    """Area under the ROC curve of normal (positive) against adversarial images.

    Args:
      scores_normal: float [n], higher = more normal. NaN counts as highest, as in the original.
      scores_adversarial: float [m].

    Returns:
      The share of pairs in which the normal image scores higher, equal scores counting half; NaN
      when a side is empty.

    Source: AUC.m of the original.
    """
    if not len(scores_normal) or not len(scores_adversarial):
        return math.nan
    from sklearn.metrics import roc_auc_score

    # Differs from the original: ties count half; there they count as its sort leaves them.
    return float(roc_auc_score(*_targets_and_ranks(scores_normal, scores_adversarial)))


def roc(scores_normal: np.ndarray, scores_adversarial: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """ROC curve of normal (positive) against adversarial images.

    Args:
      scores_normal: float [n], n ≥ 1, higher = more normal. NaN counts as highest.
      scores_adversarial: float [m], m ≥ 1.

    Returns:
      fpr, tpr: float64 [points], from (0, 0) to (1, 1).
    """
    from sklearn.metrics import roc_curve

    fpr, tpr, _ = roc_curve(*_targets_and_ranks(scores_normal, scores_adversarial))
    return fpr, tpr


def _targets_and_ranks(scores_normal, scores_adversarial):
    """1 for normal and 0 for adversarial; the scores' dense ranks, NaN highest (sklearn takes
    neither NaN nor infinity)."""
    scores = np.concatenate([scores_normal, scores_adversarial])
    ranks = np.unique(scores, return_inverse=True)[1]
    return np.arange(len(scores)) < len(scores_normal), ranks


def score_images(results: Mapping[str, np.ndarray], kernels: np.ndarray, bandwidth: float,
                 rows: slice) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Scores of the images that count: classified correctly when normal, wrongly when adversarial.

    Args:
      results: arrays of `data.artifacts.load_attack_results`.
      kernels: float [num_kernels, d, num_classes].
      bandwidth: σ² > 0.
      rows: the rows to look at, e.g. those of one eps.

    Returns:
      Per name of SCORES: (normal, adversarial), both float64 [n], n the images that count.
      "k_density" is the log-density, which orders like the density but does not underflow.

    Raises:
      InputError: a label is no class of the kernels, or features and kernels differ in width.

    Source: auc_of_roc_RCE.m of the original.
    """
    part = {name: array[rows] for name, array in results.items()}
    chosen = ((part["labels_nor"] == part["labels_true"])
              & (part["labels_adv"] != part["labels_true"]))
    part = {name: array[chosen] for name, array in part.items()}
    # Kernels were drawn by true label; each density takes those of the image's own prediction.
    density = [log_kernel_density(part[f"logits_{side}"], part[f"labels_{side}"], kernels,
                                  bandwidth) for side in ("nor", "adv")]
    return {"confidence": (part["confidence_nor"], part["confidence_adv"]),
            "non_me": (part["entropy_nor"], part["entropy_adv"]),
            "k_density": (density[0], density[1])}


def evaluate_rounds(results: Mapping[str, np.ndarray], kernels: np.ndarray, bandwidth: float,
                    eps_values: Sequence[float | None], num_per_eps: int,
                    eps_round: int = 0) -> list[dict[str, Any]]:
    """AUC of the three scores in each round of an eps sweep.

    Args:
      results: arrays of `data.artifacts.load_attack_results`, num_per_eps rows per eps.
      kernels: float [num_kernels, d, num_classes].
      bandwidth: σ² > 0.
      eps_values: eps of each round (None where an attack has none).
      num_per_eps: images per round.
      eps_round: the only round to look at, from 1; 0: all.

    Returns:
      Per round: {"round": from 1, "eps", "n": images that count, "auc": {score: float}}, the AUCs
      NaN where n is 0.

    Raises:
      InputError: there is no such round, or the rows are not num_per_eps per eps.
    """
    _check_rounds(len(results["labels_true"]), eps_values, num_per_eps, eps_round)
    table = []
    for k in [eps_round] if eps_round else range(1, len(eps_values) + 1):
        scores = score_images(results, kernels, bandwidth, round_rows(k, num_per_eps))
        table.append({"round": k, "eps": eps_values[k - 1], "n": len(scores["confidence"][0]),
                      "auc": {name: auc(*scores[name]) for name in SCORES}})
    return table


def _check_rounds(num_rows, eps_values, num_per_eps, eps_round):
    if num_rows != num_per_eps * len(eps_values):
        raise InputError(f"expected {len(eps_values)} rounds of {num_per_eps} images. "
                         f"Received: rows={num_rows}.")
    if not 0 <= eps_round <= len(eps_values):
        raise InputError(f"eps_round must lie in [0, {len(eps_values)}], 0 being all rounds. "
                         f"Received: eps_round={eps_round}.")


def round_rows(eps_round: int, num_per_eps: int) -> slice:
    """Rows of one round, counted from 1, in result files of num_per_eps images per eps."""
    return slice((eps_round - 1) * num_per_eps, eps_round * num_per_eps)


# --- The program: everything below reads and writes files and speaks to the user ---

MODES = ("auc", *artifacts.KERNEL_MODES.values())
_OBJECTIVES = {tag: objective for objective, tag in artifacts.OBJECTIVE_TAG.items()}
_SCORE_TITLES = {"confidence": "confidence", "non_me": "non-ME", "k_density": "K-density"}
# The original's sweep, for result files without a run record.
_ORIGINAL_ROUNDS = 10
_ORIGINAL_EPS_STEP = 0.02
# The ROC picture shows one round: the one asked for, or the one closest to this eps.
_PICTURE_EPS = 0.1


@dataclasses.dataclass
class _Side:
    """One objective's part of the table: its result files, their sweep, its kernels and AUCs."""

    objective: str
    folder: Path
    results: dict[str, np.ndarray]
    eps_values: list[float | None]
    num_per_eps: int
    kernels: np.ndarray | None = None
    kernels_drawn_from: int = 0  # features; 0: the kernels were read
    table: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    @property
    def tag(self):
        return artifacts.OBJECTIVE_TAG[self.objective]


def main() -> None:
    """Checks the command line and runs its mode."""
    mode = flags.check_choice("mode", MODES)
    dataset = flags.check_choice("dataset", flags.DATASETS)
    tag = flags.check_choice("objective_tag", ("", *_OBJECTIVES))
    kernel_folder = Path(flags.FLAGS.kernel_dir or artifacts.kernel_dir(dataset))
    num_kernels = flags.check_at_least("num_kernels", 1)
    if mode != "auc":
        if mode == "select_kernel_for_attack" and not flags.FLAGS["num_kernels"].present:
            num_kernels = ATTACK_KERNELS
        _kernel_mode(mode, kernel_folder, tag, num_kernels, flags.FLAGS.seed)
        return
    attack, save_pwd = flags.FLAGS.attack_method, flags.FLAGS.save_pwd
    sides = [_read_side(objective, folder, flags.check_at_least("num_per_eps", 0))
             for objective, folder in _result_folders(attack, dataset, tag, save_pwd).items()]
    _auc_mode(
        sides, attack, dataset, kernel_folder,
        Path(save_pwd) if save_pwd else artifacts.attack_dir(attack, dataset),
        eps_round=flags.check_at_least("eps_round", 0), num_kernels=num_kernels,
        only_this_many=flags.FLAGS["num_kernels"].present, seed=flags.FLAGS.seed)


def _auc_mode(sides, attack, dataset, kernel_folder, output, *, eps_round, num_kernels,
              only_this_many, seed):
    """Prints the AUCs of all sides, writes them as JSON and draws the ROC curves of one round."""
    # All input is checked before anything is written, and what is slow to find comes last.
    for side in sides:
        with _naming(side.folder):
            _check_rounds(len(side.results["labels_true"]), side.eps_values, side.num_per_eps,
                          eps_round)
    for side in sides:
        _find_kernels(side, kernel_folder, num_kernels, only_this_many, seed)
    for side in sides:
        with _naming(f"{side.folder}, kernels of {kernel_folder}"):
            side.table = evaluate_rounds(
                side.results, side.kernels, KERNEL_BANDWIDTH[side.objective], side.eps_values,
                side.num_per_eps, eps_round)
    for side in sides:
        if side.kernels_drawn_from:
            _save_kernels(kernel_folder, side.objective, side.kernels,
                          f"{side.kernels_drawn_from} training features")
    print(f"AUC (%) of normal against adversarial images: {attack} on {dataset}\n")
    print(format_table({side.tag: side.table for side in sides}) + "\n")
    _write_tables(output, f"{attack}_{dataset}", {side.tag: side.table for side in sides})
    _draw_roc(output / f"roc_{attack}_{dataset}.png", f"{attack} on {dataset}", sides)


@contextlib.contextmanager
def _naming(where):
    """Puts the place at fault before the sentence of an InputError."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def _kernel_mode(mode, folder, tag, num_kernels, seed):
    """Makes the kernels, or what belongs to them, of each objective that has what it takes."""
    kind, = (kind for kind, name in artifacts.KERNEL_MODES.items() if name == mode)
    made = {}
    for name, objective in _OBJECTIVES.items():
        if tag in ("", name) and not _missing_source(kind, folder, objective, name):
            made[objective] = _make(kind, folder, objective, num_kernels, seed)
    if not made:
        raise _missing_source(kind, folder, _OBJECTIVES[tag or "RCE"], tag or "<CE or RCE>")
    for objective, (array, source) in made.items():
        _save_kernels(folder, objective, array, source, kind)
    artifacts.write_run_record(folder, mode, flags=flags.as_dict(), metrics={
        artifacts.OBJECTIVE_TAG[objective]: {"shape": array.shape, "source": source}
        for objective, (array, source) in made.items()})


def _missing_source(kind, folder, objective, tag):
    """The InputError that names, with `tag`, what `kind` is made from and is not there; or None."""
    if kind != "attack_kernels" and not artifacts.training_features_path(folder, objective).is_file():
        return _no_training_features(folder, tag)
    needed = {"attack_kernels": "kernels", "attack_medians": "attack_kernels"}.get(kind)
    if needed is None or artifacts.kernels_path(folder, objective, needed):
        return None
    return artifacts.no_kernels(folder, tag, needed)


def _make(kind, folder, objective, num_kernels, seed):
    """The array of a kind of KERNEL_NAMES, and what it was made from."""
    if kind == "kernels":
        kernels, num_features = _draw_kernels(folder, objective, num_kernels, seed)
        return kernels, f"{num_features} training features"
    if kind == "attack_kernels":
        kernels = artifacts.load_kernels(folder, objective)
        return (select_attack_kernels(kernels, num_kernels, seed),
                f"the {len(kernels)} of {artifacts.kernels_path(folder, objective)}")
    features, labels = artifacts.load_training_features(folder, objective)
    kernels = artifacts.load_kernels(folder, objective, "attack_kernels")
    return (density_medians(features, labels, kernels, KERNEL_BANDWIDTH[objective]),
            f"{len(features)} training features")


def _draw_kernels(folder, objective, num_kernels, seed):
    features, labels = artifacts.load_training_features(folder, objective)
    kernels = select_kernels(features, labels, num_kernels, int(labels.max()) + 1, seed)
    return kernels, len(features)


def _save_kernels(folder, objective, array, source, kind="kernels"):
    path = artifacts.save_kernels(folder, objective, array, kind)
    made = (f"Median densities of {len(array)} classes" if array.ndim == 1 else
            f"Drew {len(array)} kernels for each of {array.shape[2]} classes")
    print(f"{made} from {source}: {path}")


def _no_training_features(folder, tag):
    return InputError(f"expected training_logits_{tag} in {folder}, which `python others.py "
                      "--mode=kernel_para` writes. Received: no such file.")


def _find_kernels(side, folder, num_kernels, only_this_many, seed):
    """Reads the kernels of the side; draws them from the training features when there are none."""
    path = artifacts.kernels_path(folder, side.objective)
    if path is None:
        if not artifacts.training_features_path(folder, side.objective).is_file():
            raise _no_training_features(folder, side.tag)
        side.kernels, side.kernels_drawn_from = _draw_kernels(
            folder, side.objective, num_kernels, seed)
        return
    side.kernels = artifacts.load_kernels(folder, side.objective)
    if only_this_many and len(side.kernels) != num_kernels:
        raise InputError(f"num_kernels must be {len(side.kernels)}, the kernels per class in {path}"
                         ", or --mode=select_kernel must draw them anew. "
                         f"Received: num_kernels={num_kernels}.")
    if artifacts.kernels_are_stale(folder, side.objective):
        flags.warn(f"{path} is older than the training features beside it; --mode=select_kernel "
                   "draws the kernels anew.")


def _result_folders(attack, dataset, tag, save_pwd):
    """Objective → folder of its result files, of those asked for that exist."""
    if save_pwd:
        objective = _OBJECTIVES[tag] if tag else _recorded_objective(Path(save_pwd))
        return {objective: Path(save_pwd)}
    folders = {objective: artifacts.results_dir(attack, dataset, objective)
               for name, objective in _OBJECTIVES.items() if tag in ("", name)}
    found = {objective: folder for objective, folder in folders.items() if folder.is_dir()}
    if not found:
        raise InputError(
            f"expected result files in {' or '.join(map(str, folders.values()))}, which `python "
            f"test_adv.py --mode=attack --attack_method={attack} --dataset={dataset} "
            "--log_root=... --RCE_train=...` writes. Received: no such folder.")
    return found


def _recorded_objective(folder):
    record = artifacts.read_run_record(folder, "test_adv")
    if record is None or "RCE_train" not in record["flags"]:
        raise InputError("objective_tag must be RCE or CE where no test_adv_run.json tells whose "
                         f"files they are: save_pwd={str(folder)!r}. Received: objective_tag=''.")
    return "rce" if record["flags"]["RCE_train"] else "ce"


def _read_side(objective, folder, num_per_eps):
    results = artifacts.load_attack_results(folder)
    num_nan = sum(int(np.isnan(results[name]).sum()) for name in ("entropy_nor", "entropy_adv"))
    if num_nan:
        flags.warn(f"{num_nan} NaN in entropy_nor and entropy_adv of {folder} count as the highest "
                   "non-ME, as in the original.")
    return _Side(objective, folder, results,
                 *_sweep(folder, len(results["labels_true"]), num_per_eps))


def _sweep(folder, num_rows, num_per_eps):
    """eps of each round, images per round: by the run record, else those of the original."""
    record = artifacts.read_run_record(folder, "test_adv")
    if record is not None and {"eps", "num_per_eps"} <= record["metrics"].keys():
        return record["metrics"]["eps"], num_per_eps or record["metrics"]["num_per_eps"]
    num_rounds = num_rows // num_per_eps if num_per_eps else _ORIGINAL_ROUNDS
    if num_rounds == 0 or num_rows % num_rounds or (num_per_eps and num_rows % num_per_eps):
        raise InputError(f"num_per_eps must divide the {num_rows} rows in {folder}; where there is "
                         f"no test_adv_run.json, 0 means {_ORIGINAL_ROUNDS} equal rounds. "
                         f"Received: num_per_eps={num_per_eps}.")
    eps_values = [round(_ORIGINAL_EPS_STEP * k, 10) for k in range(1, num_rounds + 1)]
    return eps_values, num_rows // num_rounds


def format_table(tables: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """The AUCs (%) of one or two objectives side by side, one line per eps, within 100 columns.

    Args:
      tables: RCE or CE → what `evaluate_rounds` returned.

    Returns:
      Lines of text; "n/a" where no image counts, "-" where an objective lacks the eps.
    """
    head = _columns("n", [_SCORE_TITLES[name] for name in SCORES])
    lines = [" " * 6 + "".join(f" | {tag:<{len(head)}}" for tag in tables).rstrip(),
             f"{'eps':>6}" + f" | {head}" * len(tables)]
    for eps in dict.fromkeys(row["eps"] for table in tables.values() for row in table):
        line = f"{_eps_text(eps):>6}"
        for table in tables.values():
            row = next((row for row in table if row["eps"] == eps), None)
            line += " | " + _format_row(row)
        lines.append(line)
    return "\n".join(lines)


def _eps_text(eps):
    if eps is None:
        return "-"
    return f"{eps:.2f}" if round(eps, 2) == eps else f"{eps:.4g}"


def _format_row(row):
    if row is None:
        return _columns("-", ["-"] * len(SCORES))
    return _columns(row["n"], ["n/a" if math.isnan(row["auc"][name]) else
                               f"{100 * row['auc'][name]:.2f}" for name in SCORES])


def _columns(first, others):
    return "  ".join([f"{first:>5}", *(f"{other:>10}" for other in others)])


def _write_tables(folder, name, tables):
    path = folder / f"auc_{name}.json"
    artifacts.write_json(path, {"scores": SCORES, "objectives": tables})
    artifacts.write_run_record(folder, "detect", flags=flags.as_dict(), metrics={"auc": tables})
    print(f"AUCs: {path}")


def _draw_roc(path, what, sides):
    """Draws the round closest to eps 0.1 (all sides have one round when one was asked for)."""
    eps = _picture_eps([side.table for side in sides])
    curves = [curve for side in sides for curve in _roc_curves(side, eps)]
    if not curves:
        print("ROC curves: none, no image counts in any round")
        return
    import plots

    at_eps = "" if eps is None else f", eps {_eps_text(eps)}"
    plots.roc_curves(path, curves, f"Normal against adversarial images: {what}{at_eps}")
    print(f"ROC curves{at_eps}: {path}")


def _picture_eps(tables):
    """The eps closest to 0.1 at which images of every objective count, or else of one."""
    counted = [{row["eps"] for row in table if row["n"]} for table in tables]
    candidates = set.intersection(*counted) or set.union(*counted)
    return min(candidates, key=lambda eps: abs((eps or 0) - _PICTURE_EPS), default=None)


def _roc_curves(side, eps):
    """One curve per score of the side's round at `eps`; none where no image counts."""
    import plots

    row = next((row for row in side.table if row["eps"] == eps and row["n"]), None)
    if row is None:
        return []
    scores = score_images(side.results, side.kernels, KERNEL_BANDWIDTH[side.objective],
                          round_rows(row["round"], side.num_per_eps))
    return [plots.RocCurve(f"{side.tag} {_SCORE_TITLES[name]}", *roc(*scores[name]),
                           row["auc"][name], name, side.objective) for name in SCORES]


if __name__ == "__main__":
    flags.run(main, flags.define_detect)
