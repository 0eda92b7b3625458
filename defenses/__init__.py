"""What answers or refuses: the scores, a row each.

A new score is its formula in defenses/scores.py and a row here: `detect.py --mode=fit` then gives it
thresholds, evaluate, figures and apply judge, draw and list it. A detector on disk has the scores it
was fitted with, and keeps them.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Score:
    """A score that tells normal from adversarial images; higher is more normal.

    Attributes:
      function: its formula in defenses/scores.py, f(outputs, reference) → float64 [n].
      title: in pictures and tables.
      short: in the columns of detect.py.
      colour: of its lines. The colours differ in lightness by a fifth and the markers in form, so that
        pictures can be read in greyscale.
      marker: of its points.
      needs_features: whether it is made of features, and so needs kernels.
      is_published: one of the paper's three, which `detect.py --mode=auc` tells.
      same_order_as: the score that orders images as this one does (but where it underflows). Where
        lines show the order alone, that one stands for both, or lies below the dots of this one; an
        attack that aims at this score climbs that one.
      lowest: the least value it can take: a threshold there refuses nothing. None: that of a
        probability that is the largest of so many classes.
      form: what attacks climb instead, f(detector) in defenses/differentiable.py; "" if none can.
      form_of_threshold: the same of a threshold, f(detector, T).
      form_weight: units of the form that weigh as much as one of the others, where an attack aims at
        several.
    """

    function: str
    title: str
    short: str
    colour: str
    marker: str
    needs_features: bool = False
    is_published: bool = False
    same_order_as: str = ""
    lowest: float | None = 0.0
    form: str = ""
    form_of_threshold: str = "same_threshold"
    form_weight: float = 2.0


# In the order of tables.
SCORES = {
    "confidence": Score("confidence_score", "confidence", "conf.", "#F0A500", "o", is_published=True,
                        lowest=None, form="confidence_form",
                        form_of_threshold="confidence_threshold"),
    "non_me": Score("non_me_score", "non-ME", "non-ME", "#000000", "s", is_published=True,
                    form="non_me_form", form_of_threshold="non_me_threshold"),
    "kernel_non_me": Score("kernel_non_me_score", "kernel non-ME", "k. nonME", "#C8F2BA", "v",
                           same_order_as="non_me"),
    "j_score": Score("j_score_score", "J-score", "J-score", "#C0458A", "D", form="j_score_form",
                     form_of_threshold="log_threshold"),
    "k_density": Score("k_density_score", "K-density", "K-dens.", "#004C8C", "^",
                       needs_features=True, is_published=True, lowest=float("-inf"),
                       form="k_density_form", form_weight=5.0),
}
PUBLISHED_SCORES = tuple(name for name, score in SCORES.items() if score.is_published)
