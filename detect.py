r"""Detection of adversarial images by thresholding, in place of the original's Matlab scripts.

It reads the files that test_adv.py and others.py left; the scores themselves are in defenses/scores.py.

    python detect.py --dataset=mnist --attack_method=fgsm                       # table, JSON, ROC
    python detect.py --dataset=mnist --mode=select_kernel --num_kernels=1000    # kernels anew
    python detect.py --dataset=mnist --mode=select_kernel_for_attack            # 100 of them, and
    python detect.py --dataset=mnist --mode=median_for_attack                   # their densities

and --mode=fit, evaluate, figures and apply: a detector with thresholds, judged, and put to use. What
rmc.py left of a network that it defends comes by its folder, and is never mixed with others:

    python detect.py --dataset=mnist --save_pwd=rmc_pgd_mnist/CE/sequential_nearest

Only NumPy is imported at the start; SciPy and Matplotlib where they are needed, TensorFlow by apply
alone.
"""

import dataclasses
from functools import partial
from pathlib import Path

import environment
import flags

from options import detection as detection_options

flags.start(__name__, detection_options.define, then_import="")

from data import inputs
from defenses import PUBLISHED_SCORES, SCORES
from defenses import detector as detectors
from defenses.scores import Reference
from errors import InputError
from evaluation import attackers, evidence, finding, fitting, judging, tries, verdicts
from evaluation.rounds import check_rounds, rounds_of, successful
from figures import attackers as attackers_drawn
from figures import curves, detection, drawing
from files import judgements, paths, provenance
from files.features import KERNEL_MODES, save_kernels
from files.names import head_of_tag
from options import network as network_options


def auc(dataset: str, tag: str, kernel_folder: Path) -> None:
    """--mode=auc: the AUCs of an attack: printed, as JSON, and the ROC curves of one round."""
    F = flags.FLAGS
    wanted = detection_options.wanted(dataset, either=True)
    attack, folder = wanted.attack, detection_options.auc_folder(dataset)
    paths.require_folder(folder)
    provenance.refuse_others(folder, "detect", judgements.auc_files(attack, dataset))
    found = _checked_results(wanted, tag)
    names = _told_scores(found)
    # Found for all before a score is computed, and saved after the last: an error leaves nothing
    # half done.
    kernels = (_kernels_of(found, kernel_folder)
               if any(SCORES[name].needs_features for name in names) else {})
    rounds = {}
    for results in found:
        reference = Reference(kernels[results.tag][0]) if kernels else None
        with finding.naming(f"{results.folder}, kernels of {kernel_folder}"):
            rounds[results.tag] = rounds_of(attack, results, names, reference, rows=_counted(results))
    tables = {name: judging.auc_table(scored, F.eps_round, matlab_ties=F.matlab_ties)
              for name, scored in rounds.items()}
    for name, (drawn, num_features) in kernels.items():
        if num_features:
            _save_kernels(kernel_folder, name, drawn.features, f"{num_features} training features")
    what = f"{attack} on {dataset}"
    told = {results.label: tables[results.tag] for results in found}
    print(f"AUC (%) of normal against adversarial images: {what}\n")
    print(judging.format_aucs(told) + "\n")
    path = judgements.save_aucs(folder, attack, dataset, names, told)
    provenance.write(folder, "detect", flags=flags.as_dict(), metrics={"auc": told})
    print(f"AUCs: {path}")
    defended = [results.label for results in found if results.defense]
    _draw_roc(folder / f"roc_{attack}_{dataset}.png", ", ".join([what, *defended]), rounds, tables)


def _checked_results(wanted, tag):
    """All input is checked before anything is written, and what is slow to find comes last."""
    eps_round = flags.check_at_least("eps_round", 0)
    found = [finding.load(*place, wanted) for place in finding.find(
        flags.FLAGS.attack_method, wanted.dataset, tag, wanted.save_pwd).items()]
    finding.check_one_kind(found)
    for results in found:
        with finding.naming(results.folder):
            check_rounds(results, eps_round)
    return found


def _told_scores(found):
    """Names of the scores that --mode=auc tells of results; says which it leaves out."""
    if flags.FLAGS.defended or not found[0].defense:
        return PUBLISHED_SCORES
    told = tuple(name for name in PUBLISHED_SCORES if not SCORES[name].needs_features)
    others = [SCORES[name].title for name in PUBLISHED_SCORES if name not in told]
    flags.warn(f"{', '.join(others)} is left out: kernels of the network as it was trained do not "
               f"belong to the features of {' and '.join(results.label for results in found)}; "
               "--defended=True takes them all the same.")
    return told


def _kernels_of(found, kernel_folder):
    for results in found:
        finding.check_features(results, kernel_folder)
    return {results.tag: fitting.find_kernels(kernel_folder, results.tag, detection_options.draw(),
                                              flags.warn) for results in found}


def _counted(results):
    """The rows of --eps_round (0: of all rounds) that count; others are not worth a density."""
    chosen, eps_round = successful(results), flags.FLAGS.eps_round
    if eps_round:
        chosen[:(eps_round - 1) * results.num_per_eps] = False
        chosen[eps_round * results.num_per_eps:] = False
    return chosen


def _draw_roc(path, what, rounds, tables):
    """Draws the round of `detection.shown_eps` (all networks have one when one was asked for)."""
    eps = detection.shown_eps([row["eps"] for row in table if row["n"]] for table in tables.values())
    rows = {tag: next((row for row in table if row["eps"] == eps and row["n"]), None)
            for tag, table in tables.items()}
    shown = {tag: rounds[tag][row["round"] - 1] for tag, row in rows.items() if row}
    if not shown:
        print("ROC curves: none, no image counts in any round")
        return
    at_eps = "" if eps is None else f", eps {judging.eps_text(eps)}"
    panel = curves.roc_together("normal against adversarial images", shown,
                                {tag: rows[tag]["auc"] for tag in shown})
    drawing.panels(path, [panel], f"{what}{at_eps}")
    print(f"ROC curves{at_eps}: {path}")


def kernels(kind: str, _: str, tag: str, folder: Path) -> None:
    """--mode=select_kernel and others: makes the kernels, or what belongs to them, of each network that
    has what it takes."""
    draw = detection_options.draw(kind)
    paths.require_folder(folder, "kernel_dir" if flags.FLAGS.kernel_dir else "")
    made = {name: fitting.make(kind, folder, name, draw) for name in finding.tags(tag)
            if not fitting.missing_source(kind, folder, name, name)}
    if not made:
        raise fitting.missing_source(kind, folder, tag or "RCE", tag or "<CE or RCE>")
    # Saved when all are made, for the same reason as detectors.
    for name, (array, source) in made.items():
        _save_kernels(folder, name, array, source, kind)
        provenance.write(folder, f"{KERNEL_MODES[kind]}_{name}", flags=flags.as_dict(),
                         metrics={"shape": array.shape, "source": source})


def _save_kernels(folder, tag, array, source, kind="kernels"):
    path = save_kernels(folder, tag, array, kind)
    made = (f"Median densities of {len(array)} classes" if array.ndim == 1 else
            f"Drew {len(array)} kernels for each of {array.shape[2]} classes")
    print(f"{made} from {source}: {path}")


def fit(dataset: str, tag: str, kernel_folder: Path) -> None:
    """--mode=fit: a detector for each network, fitted on the normal images of an attack's results."""
    F, how, wanted = flags.FLAGS, detection_options.fit(), detection_options.wanted(dataset)
    detection_options.require_own("detector")
    detection_options.check_new_detector(kernel_folder)
    folders = finding.find(F.attack_method, dataset, tag, F.save_pwd)
    if F.detector and len(folders) > 1:
        raise InputError("objective_tag must be RCE or CE where both have results and one --detector "
                         "is to be written. Received: objective_tag=''.")
    fitted = {}
    for name, folder in folders.items():
        results = finding.load(name, folder, wanted)
        found, _ = fitting.find_kernels(kernel_folder, name, detection_options.draw(), flags.warn)
        with finding.naming(f"{folder}, kernels of {kernel_folder}"):
            detector, scores = fitting.fit(results, found, kernel_folder, how)
        fitted[name] = (dataclasses.replace(detector, network=results.defended_network), scores,
                        results.label)
    # Saved when all are fitted: an error in one leaves the detectors that were there.
    for name, (detector, scores, label) in fitted.items():
        path = detection_options.detector_path(kernel_folder, name)
        detectors.save(path, detector)
        whose = f", {label}" if label != name else ""
        print(f"Fitted on {len(detector.fitted_on)} normal images of {folders[name]}{whose}: {path}")
        print(judging.format_thresholds(detector))
        for sentence in fitting.ties(label, detector, scores):
            flags.warn(sentence)


def evaluate(dataset: str, tag: str, kernel_folder: Path) -> None:
    """--mode=evaluate: judges the detector of each network on all attacks there are, or on one."""
    F, folder = flags.FLAGS, detection_options.output_folder(dataset)
    paths.require_folder(folder, "output_dir" if F.output_dir else "")
    wanted = detection_options.wanted(dataset, all_attacks=True, variants=True)
    detection_options.require_own("output_dir")
    for name, detector in finding.fitted_detectors(tag, kernel_folder, F.detector).items():
        provenance.refuse_others(folder, f"evaluation_{name}", judgements.evaluation_files(name))
        found = list(finding.judged(wanted, name, detector))
        rounds = [r for *_, scored in found for r in scored]
        if not rounds:
            raise finding.no_results(dataset, [name])
        words, told = verdicts.told([evidence.run_of(results, tries.of_results(
            results, scored, detector), detector) for _, results, scored in found], detector)
        rows = judging.evaluate(rounds, detector, seed=F.seed, matlab_ties=F.matlab_ties)
        # All are of this detector's network, defended or not.
        label, defense = found[0][1].label, found[0][1].defense
        print(f"\n{label} on {dataset}, attackers who know the detector and who do not\n\n{words}")
        print(f"\n{label} on {dataset}, images that are right when normal and wrong when adversarial\n")
        # One rate fits the screen, the strictest; the files hold all.
        print(judging.format_rows(rows, min(detector.false_refusal_rates.tolist())))
        more = {"defense": defense} if defense else {}
        path = judgements.save_evaluation(folder, name, rows, told | more)
        provenance.write(folder, f"evaluation_{name}", flags=flags.as_dict(), metrics=more)
        print(f"\nEvery figure with its 95 % interval: {path} and .csv")


def figures(dataset: str, tag: str, kernel_folder: Path) -> None:
    """--mode=figures: draws the papers' figures from the results of every attack, or of one."""
    F = flags.FLAGS
    wanted = detection_options.wanted(dataset, all_attacks=True, variants=True)
    folder = detection_options.output_folder(dataset)
    paths.require_folder(folder, "output_dir" if F.output_dir else "")
    detection_options.require_own("output_dir")
    fitted = finding.fitted_detectors(tag, kernel_folder, F.detector)
    attacked, tried, labels = {}, {name: [] for name in fitted}, dict(zip(fitted, fitted, strict=True))
    for name, detector in fitted.items():
        for attack, results, rounds in finding.judged(wanted, name, detector):
            labels[name] = results.label
            tried[name] += tries.of_results(results, rounds, detector)
            # What was aimed at a detector says little of AUCs.
            if attack in wanted.attacks:
                attacked.setdefault(attack, {})[name] = detection.attacked(
                    results, rounds, F.seed, tsne=bool({attack, "all"} & set(F.tsne_attack)))
    if not any(tried.values()):
        raise finding.no_results(dataset, fitted)
    detection_options.check_tsne(attacked)
    beside = finding.beside(wanted, Path(F.beside)) if F.beside else {}
    networks = {head_of_tag(name): detector.network for name, detector in fitted.items()}
    names = detection_options.network_names(dataset, networks.values())
    drawn = detection.drawings(attacked, fitted, names, F.seed, beside) | attackers_drawn.drawings(
        {labels[name]: attackers.rows(rounds, fitted[name]) for name, rounds in tried.items()}, names)
    if not drawn:
        raise InputError("expected results of several eps, or with images that are right when normal "
                         "and wrong when adversarial. Received: neither.")
    provenance.refuse_others(folder, "figures", (
        f"{name}{suffix}" for name in drawn for suffix in (".png", ".csv")))
    for name, draw in drawn.items():
        draw(folder / f"{name}.png")
    provenance.write(folder, "figures", flags=flags.as_dict(), metrics={"networks": networks})
    print(f"{len(drawn)} figures, each with its numbers as .csv, are in {folder}: {', '.join(drawn)}")


def apply(_: str, tag: str, kernel_folder: Path) -> None:
    """--mode=apply: answers for new images, on screen and as CSV."""
    F = flags.FLAGS
    score = flags.check_choice("score", SCORES)
    detection_options.check_answers()
    images, names = inputs.load_images(flags.require("images"))
    if not F.detector and not tag:
        raise InputError("objective_tag must be RCE or CE where no --detector is given. "
                         "Received: objective_tag=''.")
    path = detection_options.detector_path(kernel_folder, tag)
    finding.check_trained(path, detectors.load(path))
    _tell_what_is_left_out(F.images, names)
    environment.import_quietly("tensorflow")  # which nothing else here needs
    from defenses import deployed

    answer = deployed.load_detector(
        path, log_root=F.log_root, model=F.model, trust_model=network_options.trusts_model(),
        score=score, false_refusal_rate=detection_options.rates()[0])(images)
    judgements.save_answers(F.answers, names, answer)
    print(judging.format_answers(names, answer))
    print(f"{answer.accepted.sum()} of {len(names)} answered, {score} at least {answer.threshold:.6g}: "
          f"{F.answers}")


def _tell_what_is_left_out(path, names):
    if not Path(path).is_dir():
        return
    others = sorted(file.name for file in Path(path).iterdir()
                    if file.is_file() and file.name not in names)
    if others:
        flags.warn(f"{len(others)} files of {path} are left out, as they are no .png: "
                   f"{', '.join(others[:3])}{', ...' if len(others) > 3 else ''}.")


MODES = {"auc": auc, **{mode: partial(kernels, kind) for kind, mode in KERNEL_MODES.items()},
         "fit": fit, "evaluate": evaluate, "figures": figures, "apply": apply}


def main() -> None:
    """Checks the command line and runs its mode."""
    mode = flags.check_choice("mode", MODES)
    dataset = detection_options.dataset(mode)
    tag = detection_options.objective_tag()
    flags.check_at_least("num_kernels", 1)
    MODES[mode](dataset, tag, detection_options.kernel_folder(dataset))


if __name__ == "__main__":
    flags.run(main)
