"""What the experiments of experiments.json compute beyond the commands of the toolkit.

    python -m results.experiments eps             # at which eps an AUC reaches the published one
    python -m results.experiments highcon runs    # C&W-hc against all right normal images
    python -m results.experiments white_box runs  # white-box examples against more kernels

The first reads results/*.json, the others the MNIST runs that results/reproduce.sh has left in runs.
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


def _load(work, attack, objective):
    results = attack_results.load(objective, work / results_dir(attack, _DATASET, objective))
    folder = work / kernel_dir(_DATASET)
    finding.check_features(results, folder)
    return results, Kernels(load_kernels(folder, objective), KERNEL_BANDWIDTH[objective])


OF_RUNS = {"highcon": highcon, "white_box": white_box}


def _lines(arguments) -> Iterator[str]:
    match arguments:
        case ["eps"]:
            return eps(load())
        case [name, folder] if name in OF_RUNS and Path(folder).is_dir():
            return itertools.chain.from_iterable(
                OF_RUNS[name](Path(folder), objective) for objective in OBJECTIVES)
    raise InputError(f"expected eps, or one of {', '.join(OF_RUNS)} and the folder of "
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
