"""Flags of an attack, made from the rows of attacks/, and how they become plain values."""

from typing import Any

import flags

from absl import flags as absl_flags

import attacks
from attacks import presets
from errors import InputError
from evaluation.budgets import BUDGETS
from files import paths
from files.names import ALL_SCORES
from options import landscape

# The original's sweep of test_adv.py, used when --eps is not given.
SWEEP_EPS = tuple(round(0.02 * k, 2) for k in range(1, 11))
# float32: 800 MB.
MOST_LOSSES = 200_000_000


def define() -> None:
    """Flags of test_adv.py alone."""
    # The original's default, which does nothing useful there: it is answered with the modes.
    flags.define_mode("train", "attack, merge, transfer, challenge, heatmap, loss_surface, "
                      "loss_histogram or tSNE_logits")
    flags.define_eval_batches(10)
    flags.define_path("eval_dir", "", "Accepted for the original's commands; not used.")
    flags.define_attack()
    absl_flags.DEFINE_float(
        "eps", 0.01,
        "Largest change of a pixel, in (0, 1]. Not given: attack sweeps 0.02, ..., 0.20.")
    absl_flags.DEFINE_list(
        "eps_sweep", [], "Values of eps that attack sweeps. Empty: 0.02, 0.04, ..., 0.20.")
    absl_flags.DEFINE_integer(
        "attack_batch_size", 0,
        "Images per call of the attack; 0: the fastest measured. No influence on results.")
    absl_flags.DEFINE_integer(
        "attack_chunk", 0,
        "Images that share a gradient; 0: what suits the device, 100 on a CPU and 1024 on a GPU, of "
        "searches 16 and 512. Another number changes last bits.")
    absl_flags.DEFINE_bool("jit_compile", False, "Compile the network and its gradients with XLA.")
    absl_flags.DEFINE_string(
        "target", "", "random, least_likely, all (the smallest success), none (untargeted) or a "
        "class; of matching_pgd nearest (three classes in turn) or all. Empty: the original's for the "
        "attack.")
    for setting in attacks.settings().values():
        _define_setting(setting)
    _define_published()
    landscape.define()
    flags.define_kernel_dir()
    flags.define_dgn_dir()
    _define_detector()
    absl_flags.DEFINE_string(
        "budget", "quick", f"How much --mode=challenge tries: {', '.join(BUDGETS)}.")
    absl_flags.DEFINE_bool(
        "check_steps", False, "Try twice the steps, too, on at most 100 images, and record by how much "
        "they raise what is won.")
    flags.define_path("transfer_from", "", "Folder of the results of an attack on another "
                      "network, which --mode=transfer tries on this one.")
    define_shards()


def _define_detector():
    flags.define_path(
        "detector", "", "The detector.npz by which the images are to be judged: those that it was "
        "fitted on are left out. An attack that knows it aims at it.", paths.FILE)
    absl_flags.DEFINE_list(
        "against", [], "Scores that an attack aims at, all at once: names as in detect.py --score, or "
        "all, as where not given.")
    absl_flags.DEFINE_float(
        "against_rate", 0.05, "False refusal rate of the thresholds that an attack aims at.")


def _define_published():
    absl_flags.DEFINE_string(
        "pgd_preset", "", "eps, step size, steps and restarts of pgd as the logit pairing paper has "
        "them: baseline, mid, strongest, or lite, what two cores can do of it. A given flag wins.")
    absl_flags.DEFINE_bool(
        "published_subset", False, "The paper's 1000 test images, drawn with replacement, in place of "
        "--eval_batch_count.")
    absl_flags.DEFINE_bool(
        "save_losses", False, "Leave the cross entropy of every restart and image in losses.npy; with "
        "--drop_broken=False.")


def _define_setting(setting):
    """A number without a default is a list, so that a pair can be given for two stages."""
    if setting.choices:
        absl_flags.DEFINE_string(setting.flag, setting.default, setting.help)
    elif setting.kind is bool:
        absl_flags.DEFINE_bool(setting.flag, setting.default, setting.help)
    elif setting.default is None:
        absl_flags.DEFINE_list(setting.flag, [], setting.help)
    elif setting.kind is int:
        absl_flags.DEFINE_integer(setting.flag, setting.default, setting.help)
    else:
        absl_flags.DEFINE_float(setting.flag, setting.default, setting.help)


def define_shards() -> None:
    """--overwrite, --num_shards and --shard_index."""
    absl_flags.DEFINE_bool("overwrite", False, "Delete unfinished parts of another run and replace "
                           "results of another network.")
    absl_flags.DEFINE_integer(
        "num_shards", 1,
        "Runs that share one job, each with its --shard_index; --mode=merge joins what they leave in "
        "<results>/parts. Runs elsewhere leave it in a folder of their own: copy the files of all into "
        "one first, no two parts have one name.")
    absl_flags.DEFINE_integer("shard_index", 0, "Which of --num_shards this run is, from 0.")


def check() -> None:
    """Looks at the flags before anything is loaded.

    Raises:
      InputError: a flag out of range, or one that the attack does not take.
    """
    F = flags.FLAGS
    flags.check_at_least("eval_batch_count", 1, or_all=True)
    flags.check_at_least("attack_batch_size", 0)
    flags.check_at_least("attack_chunk", 0)
    check_shards()
    if F.mode == "transfer":
        return _check_transfer()
    if F.mode == "challenge":
        return _check_challenge()
    flags.refuse(f"--mode={F.mode}", ("budget", *(
        name for name, modes in landscape.MODES_OF.items() if F.mode not in modes)))
    if F.mode == "loss_surface":
        return landscape.check_surface()
    if F.transfer_from:
        raise InputError("--transfer_from needs --mode=transfer. Received: mode="
                         f"{F.mode}.")
    if F.mode == "tSNE_logits":
        # Its eps is --eps, whatever is attacked.
        flags.refuse("tSNE_logits", ("pgd_preset",))
    if not 0 < F.eps <= 1:
        raise InputError(f"eps must lie in (0, 1]. Received: eps={F.eps}.")
    attack = attacks.get(F.attack_method)
    if F["eps"].present and not attack.uses_eps:
        # A warning, not an error: commands of the original are to run as typed.
        flags.warn(f"--eps does nothing for {F.attack_method}, as in the original.")
    _check_steps(attack, settings(attack))
    _check_losses(attack)
    if F.mode in ("attack", "merge"):
        _check_restarts(attack)
    _check_detector(attack)
    if F.mode == "heatmap":
        landscape.check_heatmap(attack, len(eps_values(attack)))


def _check_restarts(attack):
    from evaluation.restarts import MANY_RESTARTS  # NumPy, which --help does not need

    number, num_eps = settings(attack).get("num_restarts", 1), len(eps_values(attack))
    if number > MANY_RESTARTS and num_eps > 1:
        flags.warn(f"{number} restarts at each of {num_eps} values of eps; --eps takes one.")


def _check_steps(attack, keywords):
    F = flags.FLAGS
    if not F.check_steps:
        return
    if F.mode != "attack" or F.num_shards > 1:
        raise InputError("--check_steps needs --mode=attack without --num_shards. Received: mode="
                         f"{F.mode}, num_shards={F.num_shards}.")
    if attack.stages or not attack.uses_eps or attack.num_steps(keywords) is None:
        raise InputError(f"--check_steps needs an attack of eps and many steps. Received: "
                         f"attack_method={F.attack_method}.")


def _check_losses(attack):
    F = flags.FLAGS
    if F.published_subset:
        flags.refuse("--published_subset", ("eval_batch_count",))
        if flags.whole(F.target) is not None:
            raise InputError("--published_subset takes no class as --target: images of that class are "
                             f"among the draws. Received: target={F.target}.")
        if F.detector:
            raise InputError("--published_subset and --detector exclude each other: a detector leaves "
                             "out the images that it was fitted on. Received: both.")
    if not F.save_losses:
        return
    if "cross_entropy" not in attack.returns:
        raise InputError("save_losses needs an attack of restarts that tells its losses, pgd. "
                         f"Received: attack_method={F.attack_method}.")
    if F.drop_broken is not False:
        raise InputError("save_losses needs --drop_broken=False: broken points would have no losses. "
                         f"Received: drop_broken={F.drop_broken}.")
    if len(eps_values(attack)) > 1:
        raise InputError("save_losses needs one --eps. Received: a sweep.")


def preset(attack: attacks.Attack) -> presets.Preset | None:
    """What --pgd_preset stands for; InputError where it stands for nothing."""
    F = flags.FLAGS
    if not F.pgd_preset:
        return None
    if not attack.has_step_size:
        raise InputError("pgd_preset sets the step size, which only pgd has. Received: attack_method="
                         f"{F.attack_method}, pgd_preset={F.pgd_preset!r}.")
    flags.refuse("--pgd_preset", ("eps_sweep",))
    return presets.get(F.pgd_preset, F.dataset)


def num_images(attack: attacks.Attack) -> int:
    """At most so many images, as a preset says; 0: as many as --eval_batch_count."""
    found = preset(attack)
    return found.num_images if found and not flags.FLAGS["eval_batch_count"].present else 0


def _check_challenge():
    """The challenge decides what is run: numbers of one attack would do nothing."""
    F = flags.FLAGS
    flags.check_choice("budget", BUDGETS)
    flags.check_choice("attack_norm", attacks.settings()["attack_norm"].choices)
    if not F.detector:
        raise InputError("challenge needs the --detector that is to be challenged. "
                         "Received: detector=''.")
    if not 0 < F.eps <= 1:
        raise InputError(f"eps must lie in (0, 1]. Received: eps={F.eps}.")
    flags.refuse("challenge", (
        "attack_method", "target", "against", "kernel_dir", "num_shards", "check_steps",
        "transfer_from", "pgd_preset", "published_subset", "save_losses", *landscape.MODES_OF,
        *(name for name in attacks.settings() if name != "attack_norm")))


def _check_transfer():
    """What decides the images was decided where they were made."""
    F = flags.FLAGS
    if not F.transfer_from:
        raise InputError("transfer needs --transfer_from, the folder of results that are to be tried. "
                         "Received: transfer_from=''.")
    flags.refuse("transfer", (
        "eps", "eps_sweep", "target", "against", "against_rate", "kernel_dir", "num_shards",
        "eval_batch_count", "budget", "check_steps", "pgd_preset", "published_subset", "save_losses",
        *landscape.MODES_OF, *attacks.settings()))


def check_transferred(method: str) -> None:
    """Raises an InputError when --attack_method is given, and the results are of another."""
    flag = flags.FLAGS["attack_method"]
    if flag.present and flag.value != method:
        raise InputError(f"attack_method must be {method}, that of the results to try, or not be "
                         f"given. Received: attack_method={flag.value}.")


def _check_detector(attack):
    F = flags.FLAGS
    aims = "scores" in attack.takes or ("scores_if_given" in attack.takes and F["against"].present)
    asked = "kernels" in attack.takes and (density()[0] or density()[1] is not None)
    if (aims or asked) and not F.detector:
        raise InputError(f"{F.attack_method} needs the --detector that it aims at. "
                         "Received: detector=''.")
    if not aims:
        without = "" if "scores_if_given" not in attack.takes else " without --against"
        of_threshold = "kernels" in attack.takes and density()[1] is not None
        flags.refuse(F.attack_method + without, ("against",) if of_threshold else (
            "against", "against_rate"))


def density() -> tuple[bool, float | None]:
    """Whether an attack knows all kernels of the detector, and the rate whose threshold it is to
    reach; None: the median."""
    F = flags.FLAGS
    return F.attack_kernels == "detector", (
        F.against_rate if F.density_goal == "threshold" else None)


def against() -> list[str]:
    """--against; where it is not given, every score."""
    return flags.FLAGS.against or [ALL_SCORES]


def settings(attack: attacks.Attack) -> dict[str, Any]:
    """Keywords of the attack's function that the flags set.

    Raises:
      InputError: a number out of range, too many, or a flag that the attack does not take.
    """
    _refuse_others(attack)
    keywords = {}
    for setting in attack.settings:
        keywords |= _keywords(setting, attack.stages)
    return _as_published(attack, keywords) | (_check_sweep() if "kappa_sweep" in keywords else {})


def _as_published(attack, keywords):
    """The keywords, those of a preset among them where no flag says otherwise."""
    F, found = flags.FLAGS, preset(attack)
    numbers = {"attack_step_size": "step_size", "attack_iterations": "num_steps",
               "num_restarts": "num_restarts"}
    for flag, keyword in numbers.items() if found else ():
        if not F[flag].present:
            keywords = keywords | {keyword: getattr(found, keyword)}
    if "num_restarts" in keywords and (found or F.published_subset):
        # What is published counts a point as broken by whichever restart breaks it.
        keywords = {"drop_broken": True} | keywords
    if F.save_losses:
        keywords = keywords | {"keep_losses": True}
    return keywords


def _check_sweep():
    """What a sweep over confidences decides itself."""
    # Of several confidences the smallest change counts, and that is one of the clean image.
    flags.refuse("--kappa_sweep", ("attack_confidence", "distance_from"))
    return {"distance_from_clean": True}


def _refuse_others(attack):
    own = {setting.flag for setting in attack.settings}
    others = [name for name in attacks.settings() if name not in own]
    flags.refuse(flags.FLAGS.attack_method,
                 others + ([] if "kernels" in attack.takes else ["kernel_dir"]))


def _keywords(setting, stages):
    """Keywords of one setting; none where the function's own number stays."""
    flag = flags.FLAGS[setting.flag]
    if setting.choices:
        return dict(setting.choices[flags.check_choice(setting.flag, setting.choices)])
    if setting.kind is bool:
        return {} if flag.value is None else {setting.keyword: flag.value}
    if setting.default is not None:
        return {setting.keyword: flags.check_number(
            setting.flag, setting.smallest, above=setting.above)}
    values = flags.numbers(setting.flag, setting.kind, setting.smallest, above=setting.above)
    if setting.many:
        if len(set(values)) < len(values):
            raise InputError(f"{setting.flag} must be different numbers, separated by commas. "
                             f"Received: {setting.flag}={','.join(flag.value)}.")
        return {setting.keyword: values} if values else {}
    most = max(1, stages)
    if len(values) > most:
        raise InputError(f"{setting.flag} of {flags.FLAGS.attack_method} must be at most {most} "
                         f"value{'s' * (most > 1)}. Received: {setting.flag}={','.join(flag.value)}.")
    if not values:
        return {}
    # One number of an attack of two stages is for both.
    return {setting.keyword: values[0] if most == 1 else values if len(values) == most
            else values * most}


def target(attack: attacks.Attack, num_classes: int) -> str:
    """Kind of target, "" where the attack leaves no choice; InputError where it has no such kind."""
    given = flags.FLAGS.target
    if given and not attack.targets:
        raise InputError(f"{flags.FLAGS.attack_method} takes no --target. Received: target={given!r}.")
    number = flags.whole(given)
    by_class = attack.stages > 0 or "targets_if_given" in attack.takes
    is_class = by_class and number is not None and number < num_classes
    if given and given not in attack.targets and not is_class:
        classes = f" or a class below {num_classes}" * by_class
        raise InputError(f"target of {flags.FLAGS.attack_method} must be one of "
                         f"[{', '.join(attack.targets)}]{classes}. Received: target={given!r}.")
    # Of an attack that may be left without classes "none" is its default.
    return "" if given == "none" and not attack.target else given or attack.target


def eps_values(attack: attacks.Attack) -> tuple[float | None, ...]:
    """--eps, or the values of the sweep; (None,) for an attack without eps."""
    F = flags.FLAGS
    values = flags.numbers("eps_sweep", float, 0.0, above=True) or SWEEP_EPS
    if max(values) > 1 or len(set(values)) < len(values):
        raise InputError("eps_sweep must be different values in (0, 1], separated by commas. "
                         f"Received: eps_sweep={','.join(F.eps_sweep)}.")
    if F["eps"].present and F["eps_sweep"].present:
        raise InputError(f"eps and eps_sweep exclude each other. Received: eps={F.eps} and "
                         f"eps_sweep={','.join(F.eps_sweep)}.")
    if not attack.uses_eps:
        return (None,)
    # Differs from the original: it ignores --eps in this mode. The default, 0.01, cannot tell whether
    # it was given; absl can.
    if F["eps"].present:
        return (F.eps,)
    found = preset(attack)
    return (found.eps,) if found else values


def check_shards() -> None:
    """Raises an InputError where --num_shards and --shard_index are wrong, or not for --mode."""
    F = flags.FLAGS
    num_shards = flags.check_at_least("num_shards", 1)
    if F.mode == "tSNE_logits" and (num_shards > 1 or F["shard_index"].present):
        raise InputError("tSNE_logits must be one run, without --num_shards and --shard_index. "
                         f"Received: num_shards={num_shards}, shard_index={F.shard_index}.")
    if F.mode == "merge":
        _check_merge()
    elif F["shard_index"].present and num_shards == 1:
        raise InputError("--shard_index needs a --num_shards of at least 2. "
                         f"Received: num_shards={num_shards}.")
    if not 0 <= F.shard_index < num_shards:
        raise InputError(f"shard_index must lie in [0, {num_shards}). "
                         f"Received: shard_index={F.shard_index}.")


def _check_merge():
    F = flags.FLAGS
    if F.num_shards == 1:
        raise InputError("merge needs the --num_shards of the shards, at least 2. "
                         "Received: num_shards=1.")
    # It would delete what is to be joined, on account of one mistyped flag.
    for name in ("shard_index", "overwrite"):
        if F[name].present:
            raise InputError(f"merge takes no --{name}. Received: {name}={F[name].value}.")
