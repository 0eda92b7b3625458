"""The flags that several scripts share; reading and checking one; the start of every script.

Scripts and options/ write `import flags` and read `flags.FLAGS.<name>`; nothing else in the project
does. A script names the groups of options/ that it takes in `flags.start(__name__, ...)`, above its
other imports; importing it defines nothing. TensorFlow is not imported. Over 280 lines, but one trade:
what a command line is, from the first flag to the exit code.
"""

import difflib
import glob
import logging
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence

import environment  # before TensorFlow

from absl import flags as absl_flags
from absl import logging as absl_logging

from attacks import ATTACKS
from data import DATASETS
from errors import InputError, RunError, first_line
from files import paths
from networks import NETWORKS
from training import LR_SCHEDULES, OPTIMIZERS

FLAGS = absl_flags.FLAGS

# What a flag's value must be, in words.
_TYPES = {absl_flags.IntegerParser: "a whole number", absl_flags.FloatParser: "a number",
          absl_flags.BooleanParser: "True or False"}
# Of whole numbers: those of TensorFlow and of the files have an end.
LARGEST_WHOLE = 2**31 - 1
# Of those that ask for memory in proportion, whatever the images are.
_LARGEST = {"num_cpu_replicas": 256, "num_residual_units": 1000, "batch_size": 10**6,
            "num_classes": 10**6}

# Of the flags that set an attack's numbers.
LARGEST_NUMBER = 10**7


class _Path(absl_flags.ArgumentParser):
    """Reads a path by the one rule for them, files/paths.py."""

    syntactic_help = ""

    def __init__(self, kind: str, separator: str, pattern: bool):
        super().__init__()
        self._kind, self._separator, self._pattern = kind, separator, pattern

    def parse(self, argument: str) -> str:
        """The path, or several; absl's error for a `~` that is none."""
        # But not a folder "~", which a version that did not expand it may have left.
        if os.path.lexists(argument) and not argument.startswith("~"):
            return argument
        return self._separator.join(paths.expanded(path) for path in self._split(argument))

    def check(self, name: str, value: str | None) -> None:
        """Raises an InputError at what the system refuses."""
        # What is there is no pattern and no list.
        one = not value or os.path.lexists(value)
        for path in (value or "",) if one else self._split(value):
            if not (self._pattern and set(path) & set("*?[")) or os.path.lexists(path):
                paths.check(name, path, self._kind)

    def _split(self, value):
        return value.split(self._separator) if self._separator else [value]


def define_path(name: str, default: str | None, text: str, kind: str = paths.FOLDER, *,
                separator: str = "", pattern: bool = False) -> None:
    """Defines a flag of a path.

    Args:
      name: of the flag.
      default: of the flag.
      text: its help.
      kind: of files/paths.py, what may be there.
      separator: between several paths; "": it takes one.
      pattern: whether `*`, `?` and `[...]` stand for names, where no file has that very name.
    """
    absl_flags.DEFINE(_Path(kind, separator, pattern), name, default, text)


def define_mode(default: str, modes: str) -> None:
    """--mode, and what it can be."""
    absl_flags.DEFINE_string("mode", default, f"What to do: {modes}.")


def define_seed() -> None:
    """--seed."""
    absl_flags.DEFINE_integer("seed", 0, "Seed of everything drawn at random.")


def define_total_steps(default: int) -> None:
    """--total_steps."""
    absl_flags.DEFINE_integer("total_steps", default, "Training steps of the whole run.")


def define_lr_decay() -> None:
    """--lr_decay, which the original never reads."""
    absl_flags.DEFINE_bool("lr_decay", False, "Does nothing, as in the original.")


def define_eval_batches(default: int) -> None:
    """--eval_batch_count."""
    absl_flags.DEFINE_integer("eval_batch_count", default, "Batches to evaluate; -1: all images.")


def define_eval_once() -> None:
    """--eval_once."""
    absl_flags.DEFINE_bool("eval_once", False, "Evaluate the newest checkpoint once and end.")


def define_kernel_dir() -> None:
    """--kernel_dir."""
    define_path("kernel_dir", "", "Folder of kernels. Empty: kernel_para_<dataset>.")


def define_dgn_dir() -> None:
    """--dgn_dir."""
    define_path("dgn_dir", "", "Folder of the generators of dgn.py. Empty: dgn_<dataset>.")


def define_attack() -> None:
    """The attack and the folder of its results."""
    absl_flags.DEFINE_string("attack_method", "fgsm", f"Attack: {', '.join(ATTACKS)}.")
    define_path(
        "save_pwd", None, "Folder of the results. None: <attack>_<dataset>/<RCE or CE>.")


def start(script: str, *groups: Callable[[], None], check: Callable[[], None] | None = None,
          then_import: str = "tensorflow") -> None:
    """Where a script is run: defines its flags, answers --help, and checks the command line.

    Before TensorFlow is imported, so that a mistyped flag is told at once.

    Args:
      script: its `__name__`; one that is imported defines nothing.
      *groups: the `define` functions of options/ that the script takes.
      check: raises an InputError at what else can be told now; its main checks it, too.
      then_import: what the script imports next, without the lines that TensorFlow prints then.
    """
    if script != "__main__":
        return
    environment.open_streams()
    # Library notes at level INFO are not for the user, whose lines they would interrupt.
    # Nor what it warns of: after a sentence of ours on a checkpoint it lists every variable.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    absl_logging.set_verbosity(absl_logging.WARNING)
    for define in groups:
        define()
    # absl's own help ends with exit code 1 and lists absl's flags, too.
    if {"--help", "-help", "-h", "--helpshort", "--helpfull"} & set(sys.argv[1:]):
        sys.exit(guarded(lambda: print(help_text(sys.modules[script].__doc__))))
    code = guarded(lambda: (environment.refuse_variables(), check_command_line(_parsed(sys.argv)))[-1]
                   ) or (check and guarded(check))
    if code:
        sys.exit(code)
    if then_import:
        environment.import_quietly(then_import)


def run(main: Callable[[], int | None]) -> None:
    """Runs `main` and ends with the exit code that it returns (None: 0).

    A value that the user can mend (`InputError`) or a run that cannot go on (`RunError`) ends the
    program with its message on standard error and exit code 1, without a traceback.
    """
    # Not by absl.app.run: the command line was parsed in start, before TensorFlow was imported.
    sys.exit(guarded(main))


def help_text(description: str) -> str:
    """What --help prints: a script's description, and its flags by subject with their defaults."""
    parts = [description.strip()]
    for module, defined in _by_module().items():
        for flag in defined:
            FLAGS.register_key_flag_for_module(module, flag)
        title = (sys.modules[module].__doc__ or "").split("\n")[0].split(", and how")[0].rstrip(".")
        # Without the line that absl puts first, the module's name.
        parts.append(f"{title}:\n" + FLAGS.module_help(module).strip("\n").split("\n", 1)[1])
    return "\n\n".join(parts)


def _parsed(argv):
    """What the flags leave of a command line; an InputError where one is wrong."""
    try:
        return FLAGS(argv)
    except absl_flags.UnrecognizedFlagError as error:
        near = difflib.get_close_matches(error.flagname, as_dict(), 1)
        hint = f"; the nearest is --{near[0]}" if near else ""
        raise InputError(f"expected flags of {os.path.basename(argv[0])}, which --help lists{hint}. "
                         f"Received: --{error.flagname}.") from None
    except absl_flags.IllegalFlagValueError as error:
        raise _of_another_type(error) from None
    except absl_flags.Error as error:
        raise InputError(f"expected values as --help lists them. Received: {first_line(error)}."
                         ) from None


def _of_another_type(error):
    """The InputError for a value that its flag cannot read."""
    if isinstance(error.__context__, InputError):
        return error.__context__
    # absl tells name and value in its text alone, before what it was raised for.
    text, reason = str(error), str(error.__context__)
    found = re.match(r"flag --(\w+)=(.*): ", text[:text.rfind(reason)], re.DOTALL)
    if not found or found[1] not in FLAGS:
        return InputError(f"expected values as --help lists them. Received: {first_line(error)}.")
    what = _TYPES.get(type(FLAGS[found[1]].parser), "as --help says")
    return InputError(f"{found[1]} must be {what}. Received: {found[1]}={found[2]!r}.")


def guarded(function: Callable[[], int | None]) -> int | None:
    """What `function` returns; where it raises what is told to the user, the exit code."""
    try:
        code = function()
        # Here, where a reader that has gone is still one of our cases; the interpreter's own flush
        # at the end would print a traceback.
        sys.stdout.flush()
        return code
    except (InputError, RunError) as error:
        return _ended(f"error: {error}", 1)
    except BrokenPipeError:
        # Whoever read our lines, `head` for one, has gone: nobody is left to be told.
        return _ended("", 141)  # what a shell reports for SIGPIPE
    except OSError as error:
        # Whatever a disk or a folder refuses is not a defect of ours; what has no number comes not from
        # the system.
        if error.errno is None:
            raise
        return _ended(f"error: {error}.", 1)
    except KeyboardInterrupt:
        # What a shell reports for SIGINT.
        return _ended("interrupted; the same command goes on where it can.", 130)


def _ended(sentence, code):
    """The exit code, after a sentence on standard error; streams that take nothing are left alone."""
    for stream, text in ((sys.stdout, ""), (sys.stderr, f"{sentence}\n" if sentence else "")):
        try:
            stream.write(text)
            stream.flush()
        except OSError:
            # Or the interpreter would flush it once more, and print a traceback.
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return code


def check_command_line(argv: Sequence[str]) -> None:
    """Raises an InputError at what is no flag, and at a name that there is not.

    Args:
      argv: what the flags have left of the command line, the script first.
    """
    if len(argv) > 1:
        raise InputError(f"expected flags only, each as --name=value. Received: {argv[1]!r}.")
    for name, allowed in (("dataset", DATASETS), ("attack_method", ATTACKS),
                          ("Optimizer", OPTIMIZERS), ("model", NETWORKS),
                          ("lr_schedule", LR_SCHEDULES)):
        # No data set is one only to the modes that load images, no model to detect.py: they say so.
        if name in FLAGS and FLAGS[name].value != FLAGS[name].default and not (
                name == "model" and "trust_model" in FLAGS and is_model_file(FLAGS.model)):
            check_choice(name, allowed)
    for flag in _of_the_project():
        if isinstance(flag.parser, _Path):
            flag.parser.check(flag.name, flag.value)
        elif isinstance(flag.value, int) and flag.name != "seed":
            _check_size(flag)
    # What numpy.random.RandomState takes.
    if not 0 <= FLAGS.seed < 2**32:
        raise InputError(f"seed must lie in [0, 2**32). Received: seed={FLAGS.seed}.")
    if "lr_decay" in FLAGS and FLAGS.lr_decay:
        warn("--lr_decay does nothing, as in the original; the rate falls at --lr_boundaries.")


def _check_size(flag):
    largest = _LARGEST.get(flag.name, LARGEST_WHOLE)
    if not -LARGEST_WHOLE <= flag.value <= largest:
        raise InputError(f"{flag.name} must be a whole number of at most {largest}. "
                         f"Received: {flag.name}={flag.value}.")


def whole(text: str) -> int | None:
    """The number that digits 0 to 9 are, up to LARGEST_WHOLE; None of any other text."""
    digits = text.strip()
    # int() takes the digits of every script, and of more than 4,300 none.
    if not (digits.isascii() and digits.isdecimal() and len(digits) <= len(str(LARGEST_WHOLE))):
        return None
    return int(digits) if int(digits) <= LARGEST_WHOLE else None


def is_model_file(model: str) -> bool:
    """Whether a --model is the path of a Keras model and not the name of a network."""
    # The name of a network is one, whatever folder has that name, too.
    return model not in NETWORKS and ("." in model or os.sep in model or os.path.isdir(model))


def check_choice(name: str, allowed: Iterable[str]) -> str:
    """Value of the flag `name`; raises InputError listing `allowed` when it is none of them."""
    value = FLAGS[name].value
    # Differs from the original: it prints a line and goes on.
    if value not in allowed:
        raise InputError(
            f"{name} must be one of [{', '.join(allowed)}]. Received: {name}={value!r}.")
    return value


def check_number(name: str, smallest: float, *, above: bool = False) -> float:
    """Value of the number flag `name`, finite and from `smallest` (not itself if `above`), else an
    InputError."""
    value = FLAGS[name].value
    # Written so that NaN fails.
    if (value > smallest if above else value >= smallest) and value < float("inf"):
        return value
    raise InputError(f"{name} must be {'above' if above else 'at least'} {smallest}. "
                     f"Received: {name}={value}.")


def check_at_least(name: str, smallest: int, *, or_all: bool = False) -> int:
    """Value of the integer flag `name`; below `smallest` (but −1 if `or_all`) an InputError."""
    value = FLAGS[name].value
    if value >= smallest or (or_all and value == -1):
        return value
    also = " (or -1 for all)" if or_all else ""
    raise InputError(f"{name} must be at least {smallest}{also}. Received: {name}={value}.")


def numbers(name: str, kind: type, smallest: float, *, above: bool = False) -> tuple:
    """Values of the list flag `name` as int or float from `smallest` (not itself if `above`) to
    LARGEST_NUMBER, else InputError."""
    received = FLAGS[name].value
    try:
        values = tuple(kind(text) for text in received)
    except ValueError:
        values = (float("nan"),)
    if all((value > smallest if above else value >= smallest) and value <= LARGEST_NUMBER
           for value in values):
        return values
    what = "whole numbers" if kind is int else "numbers"
    raise InputError(f"{name} must be {what} {'above' if above else 'of at least'} {smallest} and at "
                     f"most {LARGEST_NUMBER:g}. Received: {name}={','.join(received)}.")


def refuse(whom: str, names: Iterable[str]) -> None:
    """Raises an InputError when one of these flags is given: numbers that do nothing would be taken
    for those of the result."""
    for name in names:
        if FLAGS[name].present:
            given = FLAGS[name].value
            raise InputError(f"{whom} takes no --{name}. Received: {name}="
                             f"{','.join(given) if isinstance(given, list) else given}.")


def require(name: str) -> str:
    """Value of the string flag `name`; InputError when it is empty."""
    if not FLAGS[name].value:
        raise InputError(f"--{name} must be given. Received: {name}=''.")
    return FLAGS[name].value


def refuse_to_overwrite_inputs(folder: str | os.PathLike, names: Iterable[str]) -> None:
    """Raises an InputError when a file of these names in a folder that is to be written is one that a
    flag names to be read."""
    for flag in _of_the_project():
        if not isinstance(flag.parser, _Path) or not flag.value:
            continue
        read = [flag.value] if os.path.lexists(flag.value) else glob.glob(flag.value)
        for name in names:
            if any(paths.same_file(os.path.join(folder, name), path) for path in read):
                raise InputError(f"expected another folder to write in than {os.fspath(folder)}, whose "
                                 f"{name} is read. Received: {flag.name}={flag.value!r}.")


def num_images(batches: int, batch_size: int, available: int, once: str) -> int:
    """How many images --eval_batch_count means: its batches, −1 or too many of them all there are.

    Args:
      batches: value of the flag, or a script's own number of batches.
      batch_size: images that one batch counts for.
      available: images there are.
      once: end of the line that says so when more are asked for than there are.
    """
    wanted = available if batches == -1 else batches * batch_size
    # Differs from the original: it wraps round and counts images twice.
    if wanted > available:
        print(f"{wanted} images asked for, {available} found: {once}.")
    return min(wanted, available)


def as_dict() -> dict[str, object]:
    """Every flag of this project with its value, for the run record."""
    return {flag.name: flag.value for flag in _of_the_project()}


def _of_the_project():
    """The flags that are defined here and in options/."""
    return [flag for defined in _by_module().values() for flag in defined]


def _by_module():
    """Module → the flags that it defines, of options/ and of this one, which comes last."""
    ours = {module: defined for module, defined in FLAGS.flags_by_module_dict().items()
            if module.startswith("options.")}
    return ours | {__name__: FLAGS.flags_by_module_dict().get(__name__, [])}


def warn(message: str) -> None:
    """One warning line on standard error."""
    print(f"warning: {message}", file=sys.stderr)
