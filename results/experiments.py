"""What the experiments of experiments.json compute beyond the commands of the toolkit.

    python -m results.experiments eps             # at which eps an AUC reaches the published one
    python -m results.experiments training        # how the accuracy of long trainings grew
    python -m results.experiments highcon runs    # C&W-hc against all right normal images
    python -m results.experiments white_box runs  # white-box examples against more kernels
    python -m results.experiments bandwidth runs  # K-density with other widths of its kernels

The first two read what is in results/, the others what results/reproduce.sh has left in runs, of MNIST
and the last of CIFAR-10.
"""

import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from defenses import PUBLISHED_SCORES
from defenses.kernels import KERNEL_BANDWIDTH, Kernels, density_medians
from defenses.scores import Reference, score
from errors import InputError
from evaluation import finding, metrics
from evaluation.rounds import rounds_of, successful
from files import attack_results
from files.features import load_kernels, load_training_features
from files.names import kernel_dir, results_dir
from results import pictures
from results.cells import OBJECTIVES, SWEPT, Cells, is_short, load, short_cells, short_name
from results.collect import flagged

_DATASET = "mnist"


def eps(found: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Per AUC that falls short in a shown round: at which eps of the ten it does not.

    Args:
      found: of `cells.load`.

    Yields:
      Lines of text.
    """
    for dataset, attack, objective, name in short_cells(found):
        # The others have one round: there is no other eps to look at.
        if attack not in SWEPT:
            continue
        swept = Cells(found, dataset).all(figure="auc", attack=attack, objective=objective, score=name)
        reached = [cell for cell in swept if cell["n"] and not is_short(cell)]
        best = max(swept, key=lambda cell: cell["value"] or 0)
        yield (f"{short_name(dataset)} {attack} {objective.upper()} {name}, published "
               f"{swept[0]['published']}: reached at {', '.join(map(_at, reached)) or 'no eps'}; "
               f"largest {_at(best)}")


def _at(cell):
    return (f"{cell['eps']:.2f} ({cell['value']:.1f}, {cell['low']:.1f} to {cell['high']:.1f}, "
            f"n = {cell['n']})")


def training() -> Iterator[str]:
    """Per curve of results/networks: the test accuracy at a few steps, the last among them."""
    for path in sorted(pictures.NETWORKS.glob("*/*.csv")):
        tested = pictures.tested_at(path)
        shown = [tested[len(tested) * part // 5 - 1] for part in range(1, 6) if len(tested) >= 5]
        name = path.stem if path.parent.name == "recipe" else path.parent.name
        words = (f"{accuracy:.2f} at {step:,}" for step, accuracy in shown or tested)
        yield f"{name}: {', '.join(words)}"


def highcon(work: Path, objective: str) -> Iterator[str]:
    """Whether AUCs under C&W-hc hang on its few images: per score the AUC against their own normal
    images and against all of FGSM's that are right.

    Args:
      work: folder of results/reproduce.sh.
      objective: of OBJECTIVES.

    Yields:
      Lines of text.
    """
    results, kernels = _load(work, "carliniL2_highcon", objective)
    reference = Reference(kernels)
    scored, = rounds_of("carliniL2_highcon", results, PUBLISHED_SCORES, reference,
                        rows=successful(results))
    more, _ = _load(work, "fgsm", objective)
    normal = _normal_scores(more, reference)
    for name, adversarial in scored.adversarial.items():
        own, others = scored.normal[name], normal[name]
        yield (f"{objective.upper()} {name}: AUC {100 * metrics.auc(own, adversarial):.2f} against "
               f"{len(own)} normal images, {100 * metrics.auc(others, adversarial):.2f} against "
               f"{len(others)}; normal up to {others.max():.6f}, adversarial from "
               f"{adversarial.min():.6f} to {adversarial.max():.6f}")


def _normal_scores(results, reference):
    """Scores of the right normal images; the first round holds each image once."""
    right = np.flatnonzero(results.right_normal[:results.num_per_eps])
    return score(PUBLISHED_SCORES, results.normal.rows(right), reference)


def white_box(work: Path, objective: str) -> Iterator[str]:
    """How many white-box examples are flagged with the kernels that the attack optimises against, and
    with all of the detector. Arguments and lines as of `highcon`."""
    results, every_kernel = _load(work, "carliniL2_specific", objective)
    folder = work / kernel_dir(_DATASET)
    features, labels = load_training_features(folder, objective)
    some = Kernels(load_kernels(folder, objective, "attack_kernels"), every_kernel.bandwidth)
    for drawn in (some, every_kernel):
        medians = density_medians(features, labels, drawn)
        low = flagged(results, drawn, medians)
        yield (f"{objective.upper()}: {low.sum()} of {len(low)} that change the class are flagged "
               f"with {len(drawn.features)} kernels per class")


# The round that the released script takes, and multiples of the published bandwidth.
_ROUND, _WIDTHS = 8, (1 / 16, 1 / 4, 1, 4, 16)


def bandwidth(work: Path, objective: str) -> Iterator[str]:
    """The AUC of K-density on CIFAR-10 under FGSM and C&W, with kernels of other widths. Arguments and
    lines as of `highcon`."""
    for attack, number in (("fgsm", _ROUND), ("carliniL2", 1)):
        results, kernels = _load(work, attack, objective, "cifar10")
        rows = successful(results)
        found = []
        for width in _WIDTHS:
            reference = Reference(Kernels(kernels.features, width * kernels.bandwidth))
            scored = rounds_of(attack, results, ("k_density",), reference, rows=rows)[number - 1]
            auc = metrics.auc(scored.normal["k_density"], scored.adversarial["k_density"])
            found.append(f"{100 * auc:.1f} at {width * kernels.bandwidth:.3g}")
        yield f"{objective.upper()} {attack}: AUC {', '.join(found)}"


def _load(work, attack, objective, dataset=_DATASET):
    results = attack_results.load(objective, work / results_dir(attack, dataset, objective))
    folder = work / kernel_dir(dataset)
    finding.check_features(results, folder)
    return results, Kernels(load_kernels(folder, objective), KERNEL_BANDWIDTH[objective])


OF_RUNS = {"highcon": highcon, "white_box": white_box, "bandwidth": bandwidth}


def _lines(arguments) -> Iterator[str]:
    match arguments:
        case ["eps"]:
            return eps(load())
        case ["training"]:
            return training()
        case [name, folder] if name in OF_RUNS and Path(folder).is_dir():
            return itertools.chain.from_iterable(
                OF_RUNS[name](Path(folder), objective) for objective in OBJECTIVES)
    raise InputError(f"expected eps, training, or one of {', '.join(OF_RUNS)} and the folder of "
                     f"results/reproduce.sh. Received: {arguments}.")


def main() -> int:
    """Prints what an experiment finds."""
    try:
        for line in _lines(sys.argv[1:]):
            sys.stdout.write(line + "\n")
    except InputError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
