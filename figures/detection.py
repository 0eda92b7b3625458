"""The figures of the first paper version (arXiv 1706.00633v1) and of the last, from attacked images.

`drawings` says which of them belong to the attacks there are; their curves are in curves.py. What is
drawn comes by the tag of its network.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from defenses.detector import Detector
from evaluation import judging, metrics
from evaluation.rounds import Round
from figures import curves, drawing
from files import attack_results
from files.attack_results import AttackResults
from files.names import head_of_tag

# Images of a t-SNE panel, each as a normal and as an adversarial point.
TSNE_IMAGES = 350

# What shows one round of a sweep shows the one closest to this eps.
_SHOWN_EPS = 0.1
_PIXEL_RANGE = 255


@dataclasses.dataclass(frozen=True)
class Attacked:
    """What is drawn of one attack on one network.

    Attributes:
      rounds: in order of eps.
      distortions: of `minimal_distortions`.
      features: per round what `tsne_features` takes; empty where no t-SNE is wanted.
      cost: --attack_cost, "ce" or "rce".
    """

    rounds: Sequence[Round]
    distortions: np.ndarray
    features: Sequence[tuple[np.ndarray, np.ndarray]] = ()
    cost: str = attack_results.USUAL_COST


def attacked(results: AttackResults, rounds: Sequence[Round], seed: int, *, tsne: bool) -> Attacked:
    """Of results only what is drawn: all of them together may be gigabytes.

    Args:
      results: of the attack.
      rounds: of the same, in their order.
      seed: of what is drawn of the features.
      tsne: whether the features are wanted.
    """
    order = sorted(range(len(rounds)), key=lambda k: rounds[k].eps or 0)
    features = tsne_features(results, seed) if tsne else ()
    return Attacked([rounds[k] for k in order], minimal_distortions(results.per_image),
                    [features[k] for k in order if features], results.cost)


def drawings(attacked: Mapping[str, Mapping[str, Attacked]], detectors: Mapping[str, Detector],
             networks: str, seed: int = 0,
             beside: Mapping[str, Mapping[str, Sequence[Round]]] | None = None
             ) -> dict[str, Callable[[Any], None]]:
    """Every figure that the results allow: its name → what draws it to a path.

    Args:
      attacked: attack → tag → what is drawn of it.
      detectors: tag → its detector.
      networks: what stands in the titles for data set and network.
      seed: of the bootstrap and the t-SNE.
      beside: name of another network → attack → its rounds in order of eps, for the thresholds.

    Curves over eps need several eps of each objective, those of a round images that count.
    """
    # What draws, not pictures: callers choose by name, and t-SNE, which takes seconds, waits till then.
    drawn = {}
    rounds = {attack: {tag: a.rounds for tag, a in by_tag.items()}
              for attack, by_tag in attacked.items()}
    swept = {attack: by_tag for attack, by_tag in rounds.items()
             if all(len(sweep) > 1 for sweep in by_tag.values())}
    if swept:
        drawn["robustness"] = partial(drawing.panels, row=curves.robustness(swept),
                                      title=f"accuracy under attack, {networks}")
    bars = distortions(attacked, seed)
    if any(bar.n for bar in bars):
        drawn["distortions"] = partial(
            drawing.bars, row=bars, ylabel="mean RMS of minimal distortions (pixels of 0 to 255)",
            title=f"minimal distortions, {networks}")
    for attack, by_tag in attacked.items():
        shown_as = _with_cost(attack, by_tag.values())
        panels = {}
        if attack in swept:
            others = {name: sweeps[attack] for name, sweeps in (beside or {}).items()
                      if attack in sweeps}
            panels = _over_eps(shown_as, swept[attack], detectors, networks, others)
        panels |= _at_one_eps(shown_as, by_tag, networks, seed)
        drawn |= {f"{name}_{attack}": draw for name, draw in panels.items()}
    return drawn


def _with_cost(attack, attacked):
    """The name of an attack in titles, with what it raises where that is not the usual cost."""
    costs = sorted({a.cost for a in attacked})
    if costs == [attack_results.USUAL_COST]:
        return attack
    return f"{attack} ({' and '.join(costs).upper()} cost)"


def _over_eps(attack, rounds, detectors, networks, beside):
    rows = {"auroc": (curves.auroc_against_eps(rounds), f"normal against {attack}"),
            "top_half": (curves.top_half(rounds), f"normal and {attack} images mixed")}
    sweeps = {**rounds, **beside}
    largest = max(len(r.image) for sweep in sweeps.values() for r in sweep)
    common = set.intersection(*({r.eps for r in sweep} for sweep in sweeps.values()))
    if common:
        # The hardest that all networks were attacked at.
        eps = max(common)
        at_eps = {name: next(r for r in sweep if r.eps == eps) for name, sweep in sweeps.items()}
        rows["thresholds"] = curves.against_threshold(at_eps), f"{attack}, eps {judging.eps_text(eps)}"
    rows["scores"] = curves.scores_against_eps(rounds, detectors), f"{attack} images"
    below = f"{networks}, {largest} images an eps"
    return {name: partial(drawing.panels, row=row, title=f"{title}\n{below}")
            for name, (row, title) in rows.items()}


def _at_one_eps(attack, attacked, networks, seed):
    """ROC curves and, where features are there, t-SNE of the round of `shown_eps`."""
    counted = {tag: [r.eps for r in a.rounds if r.subset("successful").any()]
               for tag, a in attacked.items()}
    eps = shown_eps(counted.values())
    shown = {tag: next(k for k, r in enumerate(attacked[tag].rounds) if r.eps == eps)
             for tag, values in counted.items() if eps in values}
    if not shown:
        return {}
    title = f"{attack if eps is None else f'{attack}, eps {judging.eps_text(eps)}'}\n{networks}"
    drawn = {"roc": partial(
        drawing.panels, title=f"normal against {title}",
        row=curves.roc({tag: attacked[tag].rounds[k] for tag, k in shown.items()}))}
    features = {tag: attacked[tag].features[k] for tag, k in shown.items()
                if attacked[tag].features}
    if features:
        drawn["tsne"] = partial(_draw_tsne, features=features, seed=seed,
                                title=f"t-SNE of features, normal and {title}")
    return drawn


def shown_eps(counted: Iterable[Iterable[float | None]]) -> float | None:
    """Which round of a sweep a figure of one round shows.

    Args:
      counted: of each objective, the eps at which images count.

    Returns:
      The eps closest to 0.1 at which images of every objective count, or else of one; None where an
      attack has no eps, or no image counts.
    """
    counted = [set(values) for values in counted]
    candidates = set.intersection(*counted) or set.union(*counted)
    return min(candidates, key=lambda eps: abs((eps or 0) - _SHOWN_EPS), default=None)


def minimal_distortions(per_image: Mapping[str, np.ndarray]) -> np.ndarray:
    """RMS of the smallest perturbation that succeeds, for pixels of 0 to 255.

    Args:
      per_image: of `files.result_files.load_per_image`.

    Returns:
      float [m], of each image that is kept at any eps the RMS at the smallest such eps. As nothing is
      fitted, every image counts.
    """
    rows = np.flatnonzero(per_image["kept"])
    rows = rows[np.argsort(per_image["eps"][rows], kind="stable")]
    # return_index gives the first of equal ones: after the stable sort the smallest eps.
    first = np.unique(per_image["image_index"][rows], return_index=True)[1]
    return _PIXEL_RANGE * per_image["rms"][rows[first]]


def distortions(attacked: Mapping[str, Mapping[str, Attacked]], seed: int = 0) -> list[drawing.Bar]:
    """v4's minimal distortions: mean and 95 % bootstrap interval per attack and objective.

    Args:
      attacked: attack → tag → what is drawn of it.
      seed: of the bootstrap.
    """
    return [drawing.Bar(attack, head_of_tag(tag), len(a.distortions), *(
        metrics.mean(a.distortions, seed=seed) if len(a.distortions) else [np.nan] * 3))
            for attack, by_tag in attacked.items()
            for tag, a in by_tag.items()]


def tsne_features(results: AttackResults, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    """Of each round the features float [2k, d] and true classes int [2k] of k ≤ TSNE_IMAGES images,
    drawn by `seed`, the same in each round: the normal ones, then in the same order the adversarial."""
    drawn = np.sort(np.random.default_rng(seed).permutation(results.num_per_eps)[:TSNE_IMAGES])
    rounds = []
    for start in range(0, results.num_rows, results.num_per_eps):
        rows = start + drawn
        features = [outputs.features[rows] for outputs in (results.normal, results.adversarial)]
        rounds.append((np.concatenate(features), np.tile(results.labels[rows], 2)))
    return rounds


def _draw_tsne(path, features, seed, title):
    """Figures 2 and 9 of v1. Here, not in `drawings`, t-SNE is computed: it takes seconds."""
    drawing.scatter(path, [
        drawing.Cloud(tag, drawing.tsne(values, seed), classes,
                    np.arange(len(classes)) >= len(classes) // 2)
        for tag, (values, classes) in features.items()], title, numbers=True)


