"""The attacks, a row each. An attack is one file with one public function of arrays and callables.

A row holds plain values; the function is imported when it is used. To add an attack, write
attacks/<file>.py and a row here: flags, checks, help and tables are made from the rows.
"""

import dataclasses
import functools
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from typing import Any

from attacks.dgn import ANALYSES
from errors import InputError

# What an attack can be given besides the images; evaluation/crafter.py provides it.
TAKES = ("logits", "features", "seed", "labels", "scores", "scores_if_given", "head_sign", "kernels",
         "aimed_kernels", "accepted", "restarts", "targets_if_given", "generators")
# What an attacker may know, and what to say of it.
KNOWLEDGE = {
    "oblivious": "knows the network, not that there is a detector",
    "adaptive": "knows network and detector, and which scores decide",
    "scores": "sees logits and scores of any image, no gradients",
    "answers": "sees a class or NOT SURE, nothing else",
    "transfer": "knows another network, of the same data",
}


@dataclasses.dataclass(frozen=True)
class Setting:
    """A flag that sets one number or switch of some attacks.

    Attributes:
      flag: its name.
      help: what it sets.
      keyword: of the attack's function, for `kind` and `default`.
      kind: int or float: a number, of two stages one or a pair; bool: a switch, None where it is not
        given.
      smallest: of a number.
      above: whether the smallest itself is refused.
      default: of the flag; None: the function's own.
      many: whether any number of numbers may be given, all different.
      choices: instead of a keyword, value of the flag → keywords of the function.
    """

    flag: str
    help: str
    keyword: str = ""
    kind: type = float
    smallest: float = 0.0
    above: bool = False
    default: Any = None
    many: bool = False
    choices: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Attack:
    """How test_adv.py runs an attack.

    Attributes:
      file: of attacks/; its public function has the same name.
      title: in tables.
      takes: names of TAKES. "logits" or "features": its first argument is the network, from images to
        logits, or to logits and features. "seed": keywords seed and image_index. "labels": the keyword
        of that name. "restarts": keyword restart; of several rows of an image evaluation/restarts.py
        keeps the worst. "scores": keyword slack_fn, the detector as an attack sees it
        (loops/knowing.py); "scores_if_given": where --against is given; "aimed_kernels": keyword
        kernels, all of that detector; "accepted": the keyword of that name, the normal images of the
        run that it answers (loops/matching.py); "targets_if_given": keyword target, a class of each
        image, where --target names one; "generators": keyword generated, what the generator of each
        image's class has made of it.
      returns: names of what its function returns, if more than images.
      records: of what comes of each image, what results.npz tells besides what it tells of every
        attack.
      knowledge: of KNOWLEDGE, what an attacker who runs it knows; with "scores_if_given": where they
        are.
      norm: in which it measures distance; "" where a setting says.
      climbs: "cross_entropy", "margin" of a logit or "dlr", what is called flat where many clean images
        have the same; the gradient of the first or second of the predicted class must not vanish there.
        "" for an attack without a gradient.
      path: module:function that gives the length of all its steps together in units of eps, from
        num_steps, eps and what settings it has; "" where it does not start at random.
      fewest_classes: of a network that it can attack.
      uses_eps: takes eps, over which test_adv.py sweeps.
      stages: 0 where a call crafts the images; else the function returns a `Search` of so many stages.
      target: default of --target; "" where there is no choice.
      targets: kinds of --target allowed, of a search besides a class number; of another attack keys of
        NEAREST_TARGETS.
      generators: the custom loss of those that it takes (attacks/dgn/losses.py); "" of the others.
      settings: flags that set its numbers.
      version: goes up where the same numbers come to give other results: what is half done, or done, of
        another one is not gone on with.
      count_batch: images that one of --eval_batch_count stands for, as in the original.
      batch_size: images per call, the fastest measured (benchmarks/attack_throughput.py).
      part_size: images that are saved together while it runs; fixed, whatever runs it.
      tsne: batches and their size of --mode=tSNE_logits, and whether a tenth is drawn, as in the
        original.
    """

    file: str
    title: str
    takes: tuple[str, ...] = ("logits",)
    returns: tuple[str, ...] = ("adversarial",)
    records: tuple[str, ...] = ()
    knowledge: str = "oblivious"
    norm: str = "linf"
    climbs: str = "margin"
    path: str = ""
    fewest_classes: int = 2
    uses_eps: bool = True
    stages: int = 0
    target: str = ""
    targets: tuple[str, ...] = ()
    generators: str = ""
    settings: tuple[Setting, ...] = ()
    version: int = 0
    count_batch: int = 200
    batch_size: int = 200
    part_size: int = 1000
    tsne: tuple[int, int, bool] = (5, 200, False)

    @property
    def runs_network(self) -> bool:
        """Whether its first argument is the network."""
        return "logits" in self.takes or "features" in self.takes

    @property
    def has_step_size(self) -> bool:
        """Whether a flag sets the size of its steps."""
        return "step_size" in [setting.keyword for setting in self.settings]

    # Imported on use: flags.py lists the rows, and --help must not wait for TensorFlow. The cache
    # writes to __dict__, past the __setattr__ that frozen=True forbids.
    @functools.cached_property
    def function(self) -> Callable:
        """The attack itself."""
        return getattr(importlib.import_module(f"attacks.{self.file}"), self.file)

    def path_length(self, settings: Mapping[str, Any], eps: float) -> float | None:
        """Length of all steps of a start in units of eps, with such keywords of the function; None: it
        tells of none."""
        if not self.path:
            return None
        own = {name: value for name, value in settings.items() if name == "step_size"}
        return pkgutil.resolve_name(self.path)(self.num_steps(settings), eps, **own)

    def num_steps(self, settings: Mapping[str, Any]) -> int | tuple[int, ...] | None:
        """Steps, of two stages of each, with such keywords of the function; None: it tells of none."""
        parameter = inspect.signature(self.function).parameters.get("num_steps")
        return settings.get("num_steps", parameter and parameter.default)


# Of attacks that take several wrong classes in turn, one a start.
NEAREST_TARGETS = {"nearest": 3, "all": None}
_TARGETED = ("random", "least_likely", "all")
_PER_STAGE = "white-box: one for both stages or two, a,b. Empty: the original's."
_CONFIDENCE = Setting(
    "attack_confidence", f"Confidence (kappa) of C&W; {_PER_STAGE}", "kappa")
_KAPPA_SWEEP = Setting(
    "kappa_sweep", "Confidences of the white-box attacks' second stage, of which each image keeps the "
    "smallest success; with distance from the clean image. Empty: --attack_confidence alone.",
    "kappa_sweep", many=True)
_STEPS = Setting(
    "attack_iterations", f"Steps per image; of C&W per search step; {_PER_STAGE}", "num_steps", int, 1)
_RATE = Setting(
    "attack_learning_rate", f"Learning rate of C&W; {_PER_STAGE}", "learning_rate", above=True)
_SEARCH_STEPS = Setting(
    "attack_search_steps", f"Binary search steps of C&W; {_PER_STAGE}", "num_search_steps", int, 1)
_CONST = Setting(
    "attack_initial_const", f"First tradeoff constant of C&W; {_PER_STAGE}", "initial_tradeoff",
    above=True)
_PAIR = Setting("jsma_pair", "jsma raises the best pair of pixels per step.", "pair", bool,
                default=False)
_RESTARTS = Setting("num_restarts", "Random starts per image.", "num_restarts", int, 1, default=1)
_DROP = Setting("drop_broken", "Whether an image that a restart has broken is left alone from then on. "
                "Not given: with more than 100 restarts.", "drop_broken", bool)
_STEP_SIZE = Setting("attack_step_size", "Change of a pixel per step of pgd. Empty: 2.5 eps / steps.",
                     "step_size", above=True)
_NORM = Setting("attack_norm", "Norm in which eps bounds the change: linf, or l2.", default="linf",
                choices={"linf": {"norm": "linf"}, "l2": {"norm": "l2"}})
_PROJECT = Setting(
    "project", "When orthogonal_pgd frees a gradient of the other: conflict (where they point apart) "
    "or always (as published).", default="conflict",
    choices={"conflict": {"project": "conflict"}, "always": {"project": "always"}})
_COST = Setting(
    "attack_cost", "What fgsm ascends: ce, or rce of the raw logits (figure 4 of arXiv v1).",
    default="ce", choices={"ce": {}, "rce": {"reverse_cost": True}})
# Differs from the original: there ten images of a batch share the rule, so that an image's result hangs
# on its neighbours.
_ABORT = Setting(
    "cw_abort", "Which images of C&W share the abort rule: image (each its own) or batch (the "
    "original's ten).", default="image", choices={"image": {"abort_group": 1},
                                                  "batch": {"abort_group": 10}})
_SEARCH_START = Setting(
    "cw_search_start", "Where a search step of C&W starts: anew (the original's) or continued (with "
    "the change and the moments of the step before, never aborted).", default="anew",
    choices={"anew": {}, "continued": {"continued": True}})
# Differs from the original: its density has a floor, under which the gradient is exactly zero.
_DENSITY = Setting(
    "density_form", "Density of the white-box attacks: log (logsumexp) or original.", default="log",
    choices={"log": {"density_form": "log"}, "original": {"density_form": "original"}})
_DISTANCE = Setting(
    "distance_from", "Where the white-box attacks measure distance from: attack1 (the result of their "
    "first stage) or clean.", default="attack1", choices={"attack1": {"distance_from_clean": False},
                                                          "clean": {"distance_from_clean": True}})

# Both reach the attack as the kernels and densities that it takes: evaluation/white_box.py.
_KERNELS = Setting(
    "attack_kernels", "Kernels that the white-box attacks know: files (those of --kernel_dir) or "
    "detector (all of the --detector).", default="files", choices={"files": {}, "detector": {}})
_DENSITY_GOAL = Setting(
    "density_goal", "Density that the white-box attacks are to reach: the median of the class, or the "
    "threshold of the --detector at --against_rate.", default="median",
    choices={"median": {}, "threshold": {}})

# Sizes are whole chunks of a search's 16 rows, of C&W also whole groups of the ten that may share the
# abort rule: no gradient is spent on padding.
_CARLINI = {
    "norm": "l2", "takes": ("features",), "stages": 1, "uses_eps": False, "target": "random",
    "targets": (*_TARGETED, "none"), "count_batch": 10, "batch_size": 160, "part_size": 160,
    "tsne": (100, 10, False),
    "settings": (_CONFIDENCE, _STEPS, _RATE, _SEARCH_STEPS, _CONST, _ABORT, _SEARCH_START)}
_SALIENCY = {"norm": "l0", "stages": 1, "target": "least_likely", "targets": _TARGETED,
             "count_batch": 1, "batch_size": 192, "part_size": 192, "tsne": (1000, 1, False)}
# Without _ABORT: the original runs these at batch size 1, where no image shares the rule.
_WHITE_BOX = _CARLINI | {
    "knowledge": "adaptive", "records": ("first_success", "log_ratio"),
    "takes": ("features", "kernels"), "stages": 2, "targets": _TARGETED, "count_batch": 1,
    "batch_size": 64, "part_size": 64,
    "settings": (_CONFIDENCE, _STEPS, _RATE, _SEARCH_STEPS, _CONST, _SEARCH_START, _KAPPA_SWEEP,
                 _DENSITY, _DISTANCE, _KERNELS, _DENSITY_GOAL)}

# Images of a batch: fewer than of other attacks, as each takes many steps.
_APGD = {"takes": ("logits", "seed", "labels", "restarts"), "norm": "", "count_batch": 10,
         "path": "attacks.loops.apgd:path_length",
         "returns": ("adversarial", "wrong", "merit", "best_step", "zero_gradient_steps"),
         "records": ("best_step", "restart", "zero_gradient_steps"),
         "settings": (_STEPS, _RESTARTS, _DROP, _NORM)}
_KNOWING = {"takes": ("features", "seed", "labels", "restarts", "scores"), "knowledge": "adaptive",
            "norm": "", "count_batch": 10, "path": "attacks.loops.climbing:path_length",
            "returns": ("adversarial", "wrong", "merit", "evaded", "best_step",
                        "zero_gradient_steps"),
            "records": ("evaded", "merit", "best_step", "restart", "zero_gradient_steps")}

# Its steps are queries, and its distance is what it finds: no eps, no start but one.
_DECISIONS = {"takes": ("features", "seed", "labels", "scores", "accepted"), "climbs": "",
              "knowledge": "answers", "norm": "", "uses_eps": False, "count_batch": 10,
              "returns": ("adversarial", "evaded", "queries"), "records": ("evaded", "queries"),
              "settings": (_STEPS, _NORM)}

# Without --attack_norm: only its moves in L-inf are here.
_SQUARE = {"takes": ("features", "seed", "labels", "restarts", "scores_if_given"), "climbs": "",
           "knowledge": "scores", "count_batch": 10,
           "returns": ("adversarial", "wrong", "merit", "evaded", "queries"),
           "records": ("evaded", "merit", "restart", "queries")}

# By --attack_method, in the order of the README.
ATTACKS = {
    "random": Attack("random_noise", "random noise", takes=("seed",), climbs=""),
    "fgsm": Attack("fgsm", "FGSM", takes=("logits", "head_sign"), climbs="cross_entropy",
                   settings=(_COST,), tsne=(5, 200, True)),
    "bim": Attack("bim", "BIM", climbs="cross_entropy", settings=(_STEPS,)),
    # Climbs no "cross_entropy" that could vanish: the slope of its loss by the logits is softmax −
    # label, and no entry of that label, ±0.5, is one that saturated probabilities reach.
    "tgsm": Attack("tgsm", "ILCM", settings=(_STEPS,), tsne=(5, 200, True)),
    "jsma": Attack("jsma", "JSMA", settings=(_STEPS, _PAIR), **_SALIENCY),
    "smda": Attack("smda", "SMDA", settings=(_STEPS,), **_SALIENCY),
    "carliniL2": Attack("carliniL2", "C&W L2", **_CARLINI),
    "carliniL2_highcon": Attack("carliniL2_highcon", "C&W L2 hc", **_CARLINI),
    # Flags highden and specific run one class of the original, CarliniL2_specific: only numbers differ.
    "carliniL2_highden": Attack("carliniL2_highden", "white-box", **_WHITE_BOX),
    "carliniL2_specific": Attack("carliniL2_specific", "white-box hc", **_WHITE_BOX),
    "pgd": Attack("pgd", "PGD", takes=("logits", "seed", "restarts", "targets_if_given"),
                  climbs="cross_entropy", targets=("none", "least_likely", "random"),
                  path="attacks.loops.ascent:path_length",
                  returns=("adversarial", "wrong", "merit", "cross_entropy"),
                  settings=(_STEPS, _STEP_SIZE, _RESTARTS, _DROP)),
    "selective_pgd": Attack("selective_pgd", "selective PGD", version=1,  # second starts go deep
                            settings=(_STEPS, _RESTARTS, _DROP, _NORM), **_KNOWING),
    "orthogonal_pgd": Attack("orthogonal_pgd", "orthogonal PGD",
                             settings=(_STEPS, _RESTARTS, _DROP, _NORM, _PROJECT), **_KNOWING),
    "matching_pgd": Attack(
        "matching_pgd", "matching PGD", target="nearest", targets=tuple(NEAREST_TARGETS),
        settings=(_STEPS, _RESTARTS, _DROP, _NORM),
        **_KNOWING | {"takes": (*_KNOWING["takes"], "aimed_kernels")}),
    "logit_matching": Attack("logit_matching", "logit matching",
                             settings=(_STEPS, _RESTARTS, _DROP, _NORM),
                             **_KNOWING | {"takes": (*_KNOWING["takes"], "accepted")}),
    "apgd_ce": Attack("apgd_ce", "APGD-CE", climbs="cross_entropy", **_APGD),
    "apgd_dlr": Attack("apgd_dlr", "APGD-DLR", climbs="dlr", fewest_classes=3, **_APGD),
    "apgd_detector": Attack("apgd_detector", "APGD detector",
                            settings=(_STEPS, _RESTARTS, _DROP, _NORM),
                            **_KNOWING | {"path": _APGD["path"]}),
    "square": Attack("square", "Square", settings=(_STEPS, _RESTARTS, _DROP), **_SQUARE),
    "hopskipjump": Attack("hopskipjump", "HopSkipJump", **_DECISIONS),
    **{f"dgn_{loss}": Attack("projection", f"DGN {loss.upper()}", takes=("generators",), climbs="",
                             generators=loss) for loss in ANALYSES},
}


def settings() -> dict[str, Setting]:
    """The settings of all attacks by flag, each once."""
    return {setting.flag: setting for attack in ATTACKS.values() for setting in attack.settings}


def get(name: str) -> Attack:
    """The attack that --attack_method=name runs, or an InputError that lists what there is."""
    if name not in ATTACKS:
        raise InputError(f"attack_method must be one of [{', '.join(ATTACKS)}]. "
                         f"Received: attack_method={name!r}.")
    return ATTACKS[name]
