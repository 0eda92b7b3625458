r"""Detection of adversarial images by thresholding, in place of the original's Matlab scripts.

It reads the files that test_adv.py and others.py left; the scores themselves are in defenses/scores.py.

    python detect.py --dataset=mnist --attack_method=fgsm                       # table, JSON, ROC
    python detect.py --dataset=mnist --mode=select_kernel --num_kernels=1000    # kernels anew
    python detect.py --dataset=mnist --mode=select_kernel_for_attack            # 100 of them, and
    python detect.py --dataset=mnist --mode=median_for_attack                   # their densities

and --mode=fit, evaluate, figures and apply: a detector with thresholds, judged, and put to use. Only
NumPy is imported at the start; SciPy and Matplotlib where they are needed, TensorFlow by apply alone.
"""

import contextlib
import dataclasses
import itertools
import math
from functools import partial
from pathlib import Path
from typing import Any

import flags

import numpy as np

from data import DATASETS, inputs
from defenses import PUBLISHED_SCORES, SCORES
from defenses import detector as detectors
from defenses.kernels import (
    ATTACK_KERNELS,
    KERNEL_BANDWIDTH,
    density_medians,
    select_attack_kernels,
    select_kernels,
)
from defenses.scores import non_me_variance
from errors import InputError
from evaluation import judging
from evaluation.rounds import check_rounds, evaluate_rounds, round_rows, rounds_of, score_images
from figures import detection, drawing
from files import atomic, attack_results, provenance
from files import detectors as detector_files
from files.features import (
    KERNEL_MODES,
    kernels_are_stale,
    kernels_path,
    load_kernels,
    load_training_features,
    load_training_scores,
    no_kernels,
    save_kernels,
)
from files.names import (
    OBJECTIVE_OF_TAG,
    OBJECTIVE_TAG,
    attack_dir,
    kernel_dir,
    results_dir,
    training_features_path,
)
from networks import title_of
from options import detection as detection_options


@dataclasses.dataclass
class _Side:
    """One objective's part of the table."""

    results: attack_results.AttackResults
    kernels: np.ndarray
    kernels_drawn_from: int  # features; 0: the kernels were read
    table: list[dict[str, Any]] = dataclasses.field(default_factory=list)


def _auc_mode(dataset, tag, kernel_folder):
    """The AUCs of an attack: printed, as JSON, and the ROC curves of one round."""
    F = flags.FLAGS
    attack, eps_round = F.attack_method, flags.check_at_least("eps_round", 0)
    # All input is checked before anything is written, and what is slow to find comes last.
    found = [_load(*place) for place in attack_results.find(
        attack, dataset, tag, F.save_pwd).items()]
    for results in found:
        attack_results.check_features(results, kernel_folder)
        with _naming(results.folder):
            check_rounds(results.num_rows, results.eps_values, results.num_per_eps, eps_round)
    sides = [_Side(results, *_find_kernels(kernel_folder, results.objective)) for results in found]
    for side in sides:
        results = side.results
        with _naming(f"{results.folder}, kernels of {kernel_folder}"):
            side.table = evaluate_rounds(
                results.arrays, side.kernels, KERNEL_BANDWIDTH[results.objective], results.eps_values,
                results.num_per_eps, eps_round, matlab_ties=F.matlab_ties)
    for side in sides:
        if side.kernels_drawn_from:
            _save_kernels(kernel_folder, side.results.objective, side.kernels,
                          f"{side.kernels_drawn_from} training features")
    tables = {side.results.tag: side.table for side in sides}
    output = Path(F.save_pwd or attack_dir(attack, dataset))
    print(f"AUC (%) of normal against adversarial images: {attack} on {dataset}\n")
    print(judging.format_aucs(tables) + "\n")
    _write_tables(output, f"{attack}_{dataset}", tables)
    _draw_roc(output / f"roc_{attack}_{dataset}.png", f"{attack} on {dataset}", sides)


@contextlib.contextmanager
def _naming(where):
    """Puts the place at fault before the sentence of an InputError."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def _kernel_mode(kind, _, tag, folder):
    """Makes the kernels, or what belongs to them, of each objective that has what it takes."""
    num_kernels, seed = flags.FLAGS.num_kernels, flags.FLAGS.seed
    if kind == "attack_kernels" and not flags.FLAGS["num_kernels"].present:
        num_kernels = ATTACK_KERNELS
    made = {}
    for name, objective in OBJECTIVE_OF_TAG.items():
        if tag in ("", name) and not _missing_source(kind, folder, objective, name):
            made[objective] = _make(kind, folder, objective, num_kernels, seed)
    if not made:
        raise _missing_source(kind, folder, OBJECTIVE_OF_TAG[tag or "RCE"], tag or "<CE or RCE>")
    for objective, (array, source) in made.items():
        _save_kernels(folder, objective, array, source, kind)
        provenance.write(
            folder, f"{KERNEL_MODES[kind]}_{OBJECTIVE_TAG[objective]}",
            flags=flags.as_dict(), metrics={"shape": array.shape, "source": source})


def _missing_source(kind, folder, objective, tag):
    """The InputError that names, with `tag`, what `kind` is made from and is not there; or None."""
    if kind != "attack_kernels" and not training_features_path(folder, objective).is_file():
        return _no_training_features(folder, tag)
    needed = {"attack_kernels": "kernels", "attack_medians": "attack_kernels"}.get(kind)
    if needed is None or kernels_path(folder, objective, needed):
        return None
    return no_kernels(folder, tag, needed)


def _make(kind, folder, objective, num_kernels, seed):
    """The array of a kind of KERNEL_NAMES, and what it was made from."""
    if kind == "kernels":
        kernels, num_features = _draw_kernels(folder, objective, num_kernels, seed)
        return kernels, f"{num_features} training features"
    if kind == "attack_kernels":
        kernels = load_kernels(folder, objective)
        return (select_attack_kernels(kernels, num_kernels, seed),
                f"the {len(kernels)} of {kernels_path(folder, objective)}")
    features, labels = load_training_features(folder, objective)
    kernels = load_kernels(folder, objective, "attack_kernels")
    return (density_medians(features, labels, kernels, KERNEL_BANDWIDTH[objective]),
            f"{len(features)} training features")


def _draw_kernels(folder, objective, num_kernels, seed):
    features, labels = load_training_features(folder, objective)
    network = attack_results.features_network(folder, objective)
    num_classes = (network or {}).get("num_classes") or int(labels.max()) + 1
    kernels = select_kernels(features, labels, num_kernels, num_classes, seed)
    return kernels, len(features)


def _save_kernels(folder, objective, array, source, kind="kernels"):
    path = save_kernels(folder, objective, array, kind)
    made = (f"Median densities of {len(array)} classes" if array.ndim == 1 else
            f"Drew {len(array)} kernels for each of {array.shape[2]} classes")
    print(f"{made} from {source}: {path}")


def _no_training_features(folder, tag):
    return InputError(f"expected training_logits_{tag} in {folder}, which `python others.py "
                      "--mode=kernel_para` writes. Received: no such file.")


def _find_kernels(folder, objective):
    """Kernels, and from how many training features they were drawn: 0 when there were some to read."""
    F = flags.FLAGS
    path = kernels_path(folder, objective)
    if path is None:
        if not training_features_path(folder, objective).is_file():
            raise _no_training_features(folder, OBJECTIVE_TAG[objective])
        return _draw_kernels(folder, objective, F.num_kernels, F.seed)
    kernels = load_kernels(folder, objective)
    if F["num_kernels"].present and len(kernels) != F.num_kernels:
        raise InputError(f"num_kernels must be {len(kernels)}, the kernels per class in {path}"
                         ", or --mode=select_kernel must draw them anew. "
                         f"Received: num_kernels={F.num_kernels}.")
    if kernels_are_stale(folder, objective):
        flags.warn(f"{path} is older than the training features beside it; --mode=select_kernel "
                   "draws the kernels anew.")
    return kernels, 0


def _load(objective, folder):
    """The results of an attack; says how many NaN they hold."""
    results = attack_results.load(objective, folder, flags.check_at_least("num_per_eps", 0))
    if results.num_nan:
        flags.warn(f"{results.num_nan} NaN in entropy_nor and entropy_adv of {folder} count as the "
                   "highest non-ME, as in the original.")
    return results


def _write_tables(folder, name, tables):
    path = folder / f"auc_{name}.json"
    atomic.write_json(path, {"scores": PUBLISHED_SCORES, "objectives": tables})
    provenance.write(folder, "detect", flags=flags.as_dict(), metrics={"auc": tables})
    print(f"AUCs: {path}")


def _draw_roc(path, what, sides):
    """Draws the round of `figures.shown_eps` (all sides have one round when one was asked for)."""
    eps = detection.shown_eps([row["eps"] for row in side.table if row["n"]] for side in sides)
    curves = [curve for side in sides for curve in _roc_curves(side, eps)]
    if not curves:
        print("ROC curves: none, no image counts in any round")
        return
    at_eps = "" if eps is None else f", eps {judging.eps_text(eps)}"
    drawing.panels(path, [detection.roc_panel("normal against adversarial images", curves)],
                 f"{what}{at_eps}")
    print(f"ROC curves{at_eps}: {path}")


def _roc_curves(side, eps):
    """One curve per score of the side's round at `eps`; none where no image counts."""
    row = next((row for row in side.table if row["eps"] == eps and row["n"]), None)
    if row is None:
        return []
    results = side.results
    scored = score_images(results.arrays, side.kernels, KERNEL_BANDWIDTH[results.objective],
                                  round_rows(row["round"], results.num_per_eps))
    return [detection.roc_curve(f"{results.tag} {drawing.SCORE_STYLE[name][0]}", name, *scored[name],
                              row["auc"][name], drawing.OBJECTIVE_LINE[results.objective])
            for name in PUBLISHED_SCORES]


# --- A detector: fitted, judged, applied ---

def _fit_mode(dataset, tag, kernel_folder):
    """Fits a detector for each objective on the normal images of an attack's results."""
    F = flags.FLAGS
    rates = _rates()
    if not 0 < F.holdout_share < 1:
        raise InputError("holdout_share must lie in (0, 1). "
                         f"Received: holdout_share={F.holdout_share}.")
    if not 0 < F.eta < math.inf:
        raise InputError(f"eta must be finite and above 0. Received: eta={F.eta}.")
    folders = attack_results.find(F.attack_method, dataset, tag, F.save_pwd)
    if F.detector and len(folders) > 1:
        raise InputError("objective_tag must be RCE or CE where both have results and one --detector "
                         "is to be written. Received: objective_tag=''.")
    fitted = {}
    for objective, folder in folders.items():
        results = _load(objective, folder)
        kernels, _ = _find_kernels(kernel_folder, objective)
        with _naming(f"{folder}, kernels of {kernel_folder}"):
            fitted[results.tag] = _fit(results, kernels, kernel_folder, rates)
    for name, (detector, scores) in fitted.items():
        path = _detector_path(kernel_folder, name)
        detector_files.save(path, dataclasses.asdict(detector))
        folder = folders[OBJECTIVE_OF_TAG[name]]
        print(f"Fitted on {len(detector.fitted_on)} normal images of {folder}: {path}")
        for score, values in zip(SCORES, detector.thresholds, strict=True):
            print(f"  {score:<14}" + "".join(f"  T({100 * rate:g} %) = {value:.6g}"
                                            for rate, value in zip(rates, values, strict=True)))
        _tell_of_ties(name, detector, scores)


def _tell_of_ties(tag, detector, scores):
    """Says where equal scores keep a threshold from refusing the share it is for."""
    count = len(detector.fitted_on)
    for score, rate in itertools.product(SCORES, detector.false_refusal_rates):
        wanted, refused = int(rate * count), np.sum(~detector.accepts(scores, score, rate))
        if wanted - refused > 1:
            flags.warn(f"T({100 * rate:g} %) of {score}, {tag}, refuses {refused} of the {count} "
                       f"images instead of {wanted}: others are equal to it.")


def _fit(results, kernels, kernel_folder, rates):
    """The detector, and the scores its thresholds were fitted on."""
    F, arrays = flags.FLAGS, results.arrays
    check_rounds(results.num_rows, results.eps_values, results.num_per_eps, 0)
    training = load_training_scores(kernel_folder, results.objective)
    variance = non_me_variance(training["non_me"], kernels.shape[2])
    # The first round holds each image once.
    count = max(1, round(F.holdout_share * results.num_per_eps))
    rows = np.random.default_rng(F.seed).permutation(results.num_per_eps)[:count]
    bandwidth = KERNEL_BANDWIDTH[results.objective]
    kernels = kernels.astype(np.float32)  # as the file holds them
    scores = detectors.combine(
        arrays["confidence_nor"][rows], arrays["entropy_nor"][rows], arrays["logits_nor"][rows],
        arrays["labels_nor"][rows], kernels, bandwidth, variance, F.eta)
    return detectors.fit(
        scores, rates, network=_network_of(results, kernel_folder), kernels=kernels,
        bandwidth=bandwidth, non_me_variance=variance, eta=F.eta,
        fitted_on=np.sort(results.image_index[rows]),
        fitted_images=np.sort(results.image_digests[rows])), scores


def _network_of(results, kernel_folder):
    """Which network the results and the training features are of; InputError if not of one."""
    _require_network(results.network, results.folder / "test_adv_run.json")
    _require_network(attack_results.check_features(results, kernel_folder),
                     kernel_folder / f"kernel_para_{results.tag}_run.json")
    return results.network


def _require_network(network, path):
    if not network:
        raise InputError(f"expected a run record that names the network at {path}, which this version "
                         "of test_adv.py and others.py writes. Received: none.")


def _rates():
    rates = flags.numbers("false_refusal_rate", float, 0.0)
    if not rates or max(rates) >= 1:
        raise InputError("false_refusal_rate must be numbers in [0, 1), separated by commas. "
                         f"Received: false_refusal_rate={','.join(flags.FLAGS.false_refusal_rate)!r}.")
    return rates


def _detector_path(kernel_folder, tag):
    given = flags.FLAGS.detector
    return Path(given or detector_files.default_path(kernel_folder, OBJECTIVE_OF_TAG[tag]))


def _evaluate_mode(dataset, tag, kernel_folder):
    """Judges the fitted detector of each objective on all attacks there are, or on one."""
    F = flags.FLAGS
    output = _output_dir(dataset)
    for objective, detector in _fitted(tag, kernel_folder).items():
        name = OBJECTIVE_TAG[objective]
        rounds = [r for *_, rounds in _evaluated(dataset, objective, detector) for r in rounds]
        if not rounds:
            raise _no_results(dataset, [objective])
        rows = judging.evaluate(rounds, detector, seed=F.seed, matlab_ties=F.matlab_ties)
        rate = min(detector.false_refusal_rates.tolist())
        print(f"\n{name} on {dataset}, images that are right when normal and wrong when adversarial\n")
        print(judging.format_rows(rows, rate))
        _write_evaluation(output, name, rows)


def _output_dir(dataset):
    return Path(flags.FLAGS.output_dir or f"detection_{dataset}")


def _fitted(tag, kernel_folder):
    """Objective → its detector: the one of --detector, or those asked for that there are."""
    given = flags.FLAGS.detector
    paths = [Path(given)] if given else [
        path for name in OBJECTIVE_OF_TAG if tag in ("", name)
        and ((path := _detector_path(kernel_folder, name)).is_file() or tag)]
    if not paths:
        raise InputError(f"expected detector_RCE.npz or detector_CE.npz in {kernel_folder}, which "
                         "`python detect.py --mode=fit` writes. Received: no such file.")
    found = [detectors.Detector(**detector_files.load(path)) for path in paths]
    fitted = {detector.network["objective"]: detector for detector in found}
    if tag and OBJECTIVE_OF_TAG[tag] not in fitted:
        raise InputError(f"objective_tag must be that of the detector, {paths[0]}. "
                         f"Received: objective_tag={tag!r}.")
    return fitted


def _evaluated(dataset, objective, detector, work=None):
    """Attack, results and rounds of the results there are of an objective, of all attacks or of one, in
    the folder `work` or else where flags say."""
    for attack, folder in _finished(dataset, objective, work):
        results = _load(objective, folder)
        _require_network(results.network, folder / "test_adv_run.json")
        attack_results.check_network(results, detector.network, "the detector")
        with _naming(folder):
            is_fitted = np.isin(results.image_digests, detector.fitted_images)
            if is_fitted.all():
                raise InputError("expected images that the detector was not fitted on. Received: none.")
            check_rounds(results.num_rows, results.eps_values, results.num_per_eps, 0)
            yield attack, results, rounds_of(
                attack, results.arrays, results.image_digests, is_fitted, results.eps_values,
                results.num_per_eps, detector)


def _finished(dataset, objective, work):
    """Attack and folder of the results there are; says which attacks are unfinished."""
    F = flags.FLAGS
    if F.save_pwd and work is None:
        found = attack_results.find(F.attack_method, dataset, F.objective_tag, F.save_pwd)
        return [(F.attack_method, found[objective])] if objective in found else []
    attacks = [F.attack_method] if F["attack_method"].present else flags.ATTACK_METHODS
    folders = {attack: (work or Path()) / results_dir(attack, dataset, objective)
               for attack in attacks}
    finished = []
    for attack, folder in folders.items():
        if attack_results.is_unfinished(folder):
            flags.warn(f"{folder} is left out: its attack is unfinished; the same command of "
                       "test_adv.py goes on with it.")
        elif folder.is_dir():
            finished.append((attack, folder))
    return finished


def _no_results(dataset, objectives):
    tags = " or ".join(OBJECTIVE_TAG[objective] for objective in objectives)
    return InputError(f"expected result files of test_adv.py in <attack>_{dataset}/{tags}. "
                      "Received: none.")


def _write_evaluation(folder, tag, rows):
    path = folder / f"evaluation_{tag}.json"
    atomic.write_json(path, [row | {"figures": {
        name: estimate._asdict() for name, estimate in row["figures"].items()}} for row in rows])
    keys = ("attack", "eps", "subset", "score", "n")
    atomic.write_csv(
        folder / f"evaluation_{tag}.csv", (*keys, "figure", "value", "low", "high"),
        ((*(row[key] for key in keys), name, *estimate)
         for row in rows for name, estimate in row["figures"].items()))
    provenance.write(folder, f"evaluation_{tag}", flags=flags.as_dict(), metrics={})
    print(f"\nEvery figure with its 95 % interval: {path} and .csv")


def _figures_mode(dataset, tag, kernel_folder):
    """Draws the papers' figures from the results of every attack there are, or of one."""
    F = flags.FLAGS
    fitted = _fitted(tag, kernel_folder)
    attacked = {}
    for objective, detector in fitted.items():
        for attack, results, rounds in _evaluated(dataset, objective, detector):
            attacked.setdefault(attack, {})[objective] = _attacked(attack, results, rounds)
    if not attacked:
        raise _no_results(dataset, fitted)
    unknown = set(F.tsne_attack) - {*attacked, "all"}
    if unknown:
        raise InputError("tsne_attack must be all or of the attacks with results, "
                         f"{', '.join(attacked)}. Received: tsne_attack={','.join(F.tsne_attack)!r}.")
    networks = {objective: detector.network for objective, detector in fitted.items()}
    drawn = detection.drawings(attacked, fitted, _what(dataset, networks.values()), F.seed,
                             _beside(dataset))
    if not drawn:
        raise InputError("expected results of several eps, or with images that are right when normal "
                         "and wrong when adversarial. Received: neither.")
    folder = _output_dir(dataset)
    for name, draw in drawn.items():
        draw(folder / f"{name}.png")
    provenance.write(folder, "figures", flags=flags.as_dict(), metrics={"networks": networks})
    print(f"{len(drawn)} figures, each with its numbers as .csv, are in {folder}: {', '.join(drawn)}")


def _beside(dataset):
    """The rounds of the networks whose results lie in the folder --beside, by network and attack."""
    if not flags.FLAGS.beside:
        return {}
    work = Path(flags.FLAGS.beside)
    found = {}
    for tag, objective in OBJECTIVE_OF_TAG.items():
        path = detector_files.default_path(work / kernel_dir(dataset), objective)
        if path.is_file():
            detector = detectors.Detector(**detector_files.load(path))
            found[f"{tag} of {work.name}"] = {
                attack: sorted(rounds, key=lambda r: r.eps or 0)
                for attack, _, rounds in _evaluated(dataset, objective, detector, work)}
    if not any(found.values()):
        raise InputError("beside must be a folder with results of test_adv.py and a detector of "
                         f"detect.py for {dataset}. Received: beside={str(work)!r}.")
    return found


def _attacked(attack, results, rounds):
    """Of the results only what is drawn: all of them together may be gigabytes."""
    F, order = flags.FLAGS, sorted(range(len(rounds)), key=lambda k: rounds[k].eps or 0)
    features = detection.tsne_features(results.arrays, results.num_per_eps, F.seed) if (
        {attack, "all"} & set(F.tsne_attack)) else ()
    return detection.Attacked(
        [rounds[k] for k in order],
        detection.minimal_distortions(results.per_image),
        [features[k] for k in order if features], results.cost)


def _what(dataset, networks):
    """Data set and networks as titles call them: mnist, ResNet-32."""
    names = [title_of(network["model"], network["blocks_per_stage"])
             for network in networks if "model" in network]
    return ", ".join(dict.fromkeys([dataset, *names]))


def _apply_mode(_, tag, kernel_folder):
    """Answers for new images: on screen and as CSV."""
    F = flags.FLAGS
    score = flags.check_choice("score", SCORES)
    images, names = inputs.load_images(flags.require("images"))
    if not F.detector and not tag:
        raise InputError("objective_tag must be RCE or CE where no --detector is given. "
                         "Received: objective_tag=''.")
      # TensorFlow, which nothing else here needs

    _tell_what_is_left_out(F.images, names)
    from defenses import deployed  # TensorFlow, which nothing else here needs

    answer = deployed.load_detector(
        _detector_path(kernel_folder, tag), log_root=F.log_root, score=score,
        false_refusal_rate=_rates()[0])(images)
    words = answer.words()
    atomic.write_csv(
        F.answers, ("image", "answer", "label", *SCORES),
        zip(names, words, answer.labels.tolist(), *(answer.scores[name].tolist()
            for name in SCORES), strict=True))
    width = max(len("image"), *map(len, names))
    print(f"{'image':<{width}}  {'answer':>8}" + "".join(f"  {name:>13}" for name in SCORES))
    for row, name in enumerate(names):
        print(f"{name:<{width}}  {words[row]:>8}" + "".join(
            f"  {answer.scores[key][row]:>13.6g}" for key in SCORES))
    print(f"{answer.accepted.sum()} of {len(names)} answered, {score} at least {answer.threshold:.6g}: "
          f"{F.answers}")


def _tell_what_is_left_out(path, names):
    if Path(path).is_dir():
        others = sorted(file.name for file in Path(path).iterdir()
                        if file.is_file() and file.name not in names)
        if others:
            flags.warn(f"{len(others)} files of {path} are left out, as they are no .png: "
                       f"{', '.join(others[:3])}{', ...' if len(others) > 3 else ''}.")


MODES = {"auc": _auc_mode,
         **{mode: partial(_kernel_mode, kind) for kind, mode in KERNEL_MODES.items()},
         "fit": _fit_mode, "evaluate": _evaluate_mode, "figures": _figures_mode, "apply": _apply_mode}


def _dataset(mode):
    """--dataset, or what the detector of a mode that reads one is for."""
    F = flags.FLAGS
    if F.detector and not F.dataset and mode in ("evaluate", "figures", "apply"):
        return detector_files.load(F.detector)["network"]["dataset"]
    return flags.check_choice("dataset", DATASETS)


def main() -> None:
    """Checks the command line and runs its mode."""
    mode = flags.check_choice("mode", MODES)
    dataset = _dataset(mode)
    tag = flags.check_choice("objective_tag", ("", *OBJECTIVE_OF_TAG))
    flags.check_at_least("num_kernels", 1)
    MODES[mode](dataset, tag, Path(flags.FLAGS.kernel_dir or kernel_dir(dataset)))


if __name__ == "__main__":
    flags.run(main, detection_options.define)
