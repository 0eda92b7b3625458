"""Flaws of an attack on a detector that show in its own results: the checks, one function each.

Carlini et al. 2019 (arXiv 1902.06705) and Pintor et al. 2022 (arXiv 2106.09947) tell how evaluations
fail. Each check gets arrays and numbers and gives a `Caveat`, or None where there is nothing to say;
`evaluation/evidence.py` finds what they need in results and run records.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from data.pixels import HALF_GREY_LEVEL
from evaluation.known_robustness import Known
from evaluation.soundness import Caveat

# Shares from which on a flag is raised.
_SPREAD, _ZERO_STEPS, _FLAT = 1e-4, 0.05, 0.5
_QUERIES_AHEAD, _RESTART_ADDS, _LATE, _LATE_SHARE = 0.002, 0.01, 0.2, 0.9
_BACKWARDS, _OBLIVIOUS_ALONE, _NOISE, _DISAGREES = 0.02, 0.01, 0.10, 0.005
# Multiples of eps that cross the ball.
_ACROSS_THE_BALL = 2.0


def randomised(passes: Sequence[np.ndarray]) -> Caveat | None:
    """F1.

    Args:
      passes: of two or more forward passes of the same images the outputs, float [n, d].
    """
    return spread_of(spread_of_passes(passes))


def spread_of_passes(passes: Sequence[np.ndarray]) -> float:
    """The largest difference of outputs [n, d] of passes, scaled to norm 1."""
    scaled = [outputs / (np.linalg.norm(outputs, axis=1, keepdims=True) + 1e-12) for outputs in passes]
    return float(max(np.abs(one - scaled[0]).max(initial=0.0) for one in scaled))


def spread_of(spread: float) -> Caveat | None:
    """F1, of the largest difference of outputs scaled to norm 1."""
    if spread <= _SPREAD:
        return None
    return Caveat("F1", f"Two forward passes of the same images differ by {spread:.2g}: the network or "
                  "its detector is random, and an attack needs the mean over many passes.",
                  {"spread": spread})


def zero_gradient(name: str, zero_steps: np.ndarray | None, num_steps: int,
                  at_start: int = 0) -> Caveat | None:
    """F3.

    Args:
      name: of the attack.
      zero_steps: int [n], steps of each image that had no gradient at all; None where unknown.
      num_steps: of each image.
      at_start: images that had none at their start.
    """
    share = 0.0 if zero_steps is None else float(np.sum(zero_steps) / (max(num_steps, 1)
                                                                       * max(len(zero_steps), 1)))
    # An image that never moved had none at its start, either.
    stuck = max(at_start, 0 if zero_steps is None else int((zero_steps >= num_steps).sum()))
    if not stuck and share <= _ZERO_STEPS:
        return None
    return Caveat("F3", f"{name}: the gradient is exactly zero in {_percent(share)} % of the steps, "
                  f"and {stuck} images have none where they start: what is climbed is flat, by "
                  "rounding or by design, and a low success rate says nothing.",
                  {"attack": name, "share_of_steps": share, "images_at_start": stuck})


def flat_loss(name: str, share: float) -> Caveat | None:
    """F4, of `first_looks.flat_share` at the start."""
    if share <= _FLAT:
        return None
    return Caveat("F4", f"{name}: the loss it climbs is the same for {_percent(share)} % of the images "
                  "at the start (within 1 %), as DLR is on RCE networks: it saturates, and the attack "
                  "is weak for that reason.", {"attack": name, "share": share})


def queries_beat_gradients(images: np.ndarray, queries: np.ndarray,
                           gradients: np.ndarray) -> Caveat | None:
    """F5.

    Args:
      images: which they are, [n].
      queries: which of them attacks without gradients have won, bool [n].
      gradients: which the best attack with gradients has won, bool [n].
    """
    ahead = float(np.mean(queries) - np.mean(gradients))
    if ahead <= _QUERIES_AHEAD:
        return None
    alone = np.asarray(images)[queries & ~gradients].tolist()
    return Caveat("F5", f"An attack that only asks for scores wins {_percent(ahead)} points more than "
                  f"any that follows gradients, {len(alone)} images alone: the gradients mislead.",
                  {"points": 100 * ahead, "images": alone})


def last_restart(name: str, first_broken: np.ndarray, num_restarts: int) -> Caveat | None:
    """F6, of the restart int [n] that first won each image, −1 for none; of two restarts or more."""
    share = float(np.mean(np.asarray(first_broken) == num_restarts - 1))
    if share <= _RESTART_ADDS:
        return None
    return Caveat("F6", f"{name}: the last of {num_restarts} restarts still won {_percent(share)} "
                  "points: more restarts win more.", {"attack": name, "points": 100 * share})


def not_converged(name: str, best_step: np.ndarray, evaded: np.ndarray, num_steps: int,
                  gain: float | None = None) -> Caveat | None:
    """F7.

    Args:
      name: of the attack.
      best_step: int [n], the step whose image was kept.
      evaded: which images it won, bool [n].
      num_steps: of each image.
      gain: by how much twice the steps raise the success rate, a share; None where not tried.
    """
    late = float(np.mean(best_step[evaded] > _LATE_SHARE * num_steps)) if np.any(evaded) else 0.0
    if gain is not None and abs(gain) > _RESTART_ADDS:
        return Caveat("F7", f"{name}: twice the steps change what it wins by {_percent(gain)} points.",
                      {"attack": name, "gain": gain})
    # Twice the steps, where they were tried, say what the late steps only suggest; of an attack that
    # wins every image there is nothing that they could add.
    if gain is not None or late <= _LATE or np.all(evaded):
        return None
    return Caveat("F7", f"{name}: {_percent(late)} % of its successes were still improving in the last "
                  f"tenth of {num_steps} steps: more steps may win more.",
                  {"attack": name, "share_late": late, "num_steps": num_steps})


def large_budget(eps: float, rate: float, trivial: float = 0.0) -> Caveat | None:
    """F8.

    Args:
      eps: that bounds the change of a pixel, or of an image in L2.
      rate: what the attack wins, a share; at eps 1 an image may become any other.
      trivial: what showing another normal image wins, a share.
    """
    if rate < min(trivial, 1.0) and eps < 1:
        return Caveat("F8", f"At eps {eps:g} the attacks win {_percent(rate)} %, and whoever shows the "
                      f"nearest normal image of another class wins {_percent(trivial)} %: they are "
                      "too weak.", {"eps": eps, "success_rate": rate, "trivial": trivial})
    if eps < 1 or rate >= 1:
        return None
    return Caveat("F8", f"At eps {eps:g} an attacker may show any image at all, and the attacks win "
                  f"only {_percent(rate)} %: they are too weak.", {"eps": eps, "success_rate": rate})


def falls_with_eps(name: str, sweep: Mapping[float, np.ndarray]) -> Caveat | None:
    """F9, of which images one attack has won at each eps alone, bool [n]."""
    worst = max(((float(np.mean(sweep[small] & ~sweep[large])), small, large)
                 for small in sweep for large in sweep if small < large), default=(0.0, 0.0, 0.0))
    if worst[0] <= _BACKWARDS:
        return None
    return Caveat("F9", f"{name}: {_percent(worst[0])} % of the images are won at eps {worst[1]:g} and "
                  f"not at {worst[2]:g}: with more room it is worse, so it does not use it.",
                  {"attack": name, "share": worst[0], "eps": worst[1], "larger_eps": worst[2]})


def weaker_wins(weaker: str, won: np.ndarray, stronger: str, won_by_stronger: np.ndarray,
                least: float = _OBLIVIOUS_ALONE) -> Caveat | None:
    """F9: an attacker who knows less, or takes one step instead of many, wins what the other does not.

    Args:
      weaker: its name.
      won: the images it has won, bool [n].
      stronger: name of the other.
      won_by_stronger: of the same images.
      least: share of images above which that is odd.
    """
    share = float(np.mean(won & ~won_by_stronger))
    if share <= least:
        return None
    return Caveat("F9", f"{weaker} wins {_percent(share)} % of the images that {stronger} does not: "
                  "the stronger attack is not as strong as it could be.",
                  {"weaker": weaker, "stronger": stronger, "share": share})


def short_path(name: str, path_length: float) -> Caveat | None:
    """F13, of the sum of all step lengths in units of eps."""
    if path_length >= _ACROSS_THE_BALL:
        return None
    return Caveat("F13", f"{name}: all its steps together are {path_length:.3g} eps long and cannot "
                  "cross the ball, 2 eps.", {"attack": name, "path_length": path_length})


def small_budget(name: str, norm: str, eps: float) -> Caveat | None:
    """F13, of an eps that no grey level can tell."""
    if norm != "linf" or eps >= HALF_GREY_LEVEL or eps <= 0:
        return None
    return Caveat("F13", f"{name}: eps {eps:.3g} is less than half a grey level: an image stored in 8 "
                  "bits is the normal one.", {"attack": name, "eps": eps})


def refuses_noise(name: str, rate: float, noise: np.ndarray, normal: np.ndarray,
                  eps: float) -> Caveat | None:
    """F14, of which random-noise images of this eps, and which normal ones, are refused, bool [n]."""
    more = float(np.mean(noise) - np.mean(normal))
    if more <= _NOISE:
        return None
    return Caveat("F14", f"{name} at {_percent(rate)} % refuses {_percent(np.mean(noise))} % of images "
                  f"with random noise of eps {eps:g}, and {_percent(np.mean(normal))} % of normal "
                  "ones: a low success rate says that change is refused, not attack.",
                  {"score": name, "rate": rate, "eps": eps, "points_more": 100 * more})


def beyond_what_is_known(norm: str, eps: float, right: float, known: Known) -> Caveat | None:
    """F15, of the share of images that are right and answered at eps, against a figure at eps / 2."""
    if right <= known.accuracy:
        return None
    return Caveat("F15", f"{norm} {eps:g}: {_percent(right)} % stay right and answered, which would "
                  f"imply a classifier that is right on as many at {eps / 2:.3g}, where the best known "
                  f"is {_percent(known.accuracy)} % ({known.source}, {known.year}): implausible unless "
                  "shown.", {"norm": norm, "eps": eps, "right": right, "known": known.accuracy,
                             "source": known.source})


def judge_disagrees(name: str, by_attack: np.ndarray, by_judge: np.ndarray) -> Caveat | None:
    """F16, of the images that the attack says it has won, in float32, and those the judge says so of,
    in float64; bool [n]."""
    share = float(np.mean(by_attack != by_judge))
    if share <= _DISAGREES:
        return None
    return Caveat("F16", f"{name}: attack and judge disagree on {_percent(share)} % of the images: "
                  "what the attack climbs is not what decides.", {"attack": name, "share": share})


def _percent(share):
    return f"{100 * share:.3g}"
