"""Runs the scripts in this process, as from a shell: fresh flags, exit code, one tiny trained run."""

import ast
import contextlib
import functools
import importlib
import io
import re
from pathlib import Path
from typing import NamedTuple

import flags

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ("train", "test_nor", "test_adv", "others", "detect", "rmc", "dgn")

# The tiny run that the tests share: ResNet-8 on digits.
STEPS = 60
NETWORK = ("--dataset=digits", "--num_residual_units=1", "--RCE_train=True")
LOG_ROOT = "--log_root=models/tiny"
TRAINING = ("--batch_size=32", "--lr_boundaries=40,50", "--checkpoint_every=25", "--seed=3")


@functools.cache
def groups_of(script: str) -> tuple[str, ...]:
    """Names of the flag groups that `flags.start` is given in a script."""
    tree = ast.parse((ROOT / f"{script}.py").read_text(encoding="utf-8"))
    call, = (node for node in ast.walk(tree) if isinstance(node, ast.Call)
             and ast.unparse(node.func) == "flags.start")
    assert ast.unparse(call.args[0]) == "__name__"
    return tuple(ast.unparse(group) for group in call.args[1:])


def define(script: str) -> list[str]:
    """Defines the flags of a script in place of those of any script before; returns their names."""
    for name in flags.as_dict():
        delattr(flags.FLAGS, name)
    module = importlib.import_module(script)
    for group in groups_of(script):
        owner, name = group.split(".")
        getattr(getattr(module, owner), name)()
    return list(flags.as_dict())


def parse(script: str, *arguments: str) -> list[str]:
    """Parses a command line; raises absl's error at an unknown flag; returns what is no flag."""
    define(script)
    return flags.FLAGS([f"{script}.py", *arguments])


class Result(NamedTuple):
    """Exit code of a script, its standard output and standard error."""

    code: int
    out: str
    err: str


def run(script: str, *arguments: str, cwd: Path) -> Result:
    """Runs a script in the folder `cwd`; an exception of the script passes through."""
    argv = parse(script, *arguments)
    out, err = io.StringIO(), io.StringIO()
    main = importlib.import_module(script).main
    with (contextlib.chdir(cwd), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err)):
        code = flags.guarded(lambda: (flags.check_command_line(argv), main())[1]) or 0
    return Result(code, out.getvalue(), err.getvalue())


def succeeded(script: str, *arguments: str, cwd: Path) -> Result:
    """As `run`; a script that fails fails the test, which shows the script's sentence."""
    result = run(script, *arguments, cwd=cwd)
    assert result.code == 0, result.err
    return result


def _listing(*folders):
    """Every file with its size and time, every folder: in these train.py's lock comes and goes."""
    return {path: path.is_file() and (path.stat().st_mtime_ns, path.stat().st_size)
            for folder in folders for path in [folder, *folder.rglob("*")]}


def refused(script: str, *arguments: str, cwd: Path, words, also=()) -> str:
    """Runs a script that must refuse in one sentence, which it returns, and leave files as they are.

    `words` are patterns that the sentence must match; `also` are folders other than `cwd`.
    """
    before = _listing(cwd, *also)
    result = run(script, *arguments, cwd=cwd)
    assert result.code == 1
    sentence, = [line for line in result.err.splitlines() if not line.startswith("warning: ")]
    assert re.fullmatch(r"error: .+ Received: .+", sentence), sentence
    for pattern in words:
        assert re.search(pattern, sentence), (pattern, sentence)
    assert _listing(cwd, *also) == before
    return sentence


_tiny = {}


def tiny_run(tmp_path_factory) -> Path:
    """Folder with a finished run in models/tiny: trained once, whoever asks; do not write there."""
    if "folder" not in _tiny:
        folder = tmp_path_factory.mktemp("tiny_run")
        result = succeeded("train", *NETWORK, *TRAINING, LOG_ROOT, f"--total_steps={STEPS}",
                           cwd=folder)
        _tiny.update(folder=folder, out=result.out)
    return _tiny["folder"]


def tiny_output() -> str:
    """What the tiny run printed."""
    return _tiny["out"]


FIT = ("--dataset=digits", "--mode=fit", "--attack_method=fgsm", "--false_refusal_rate=0.05,0.1",
       "--num_kernels=50")


def fit_detector(log_root: str, folder: Path) -> Result:
    """Features, an FGSM sweep and a detector, as `FIT` says, of the ResNet-8 on digits in log_root."""
    network = (*NETWORK, f"--log_root={log_root}")
    succeeded("others", *network, "--mode=kernel_para", "--eval_batch_count=-1", cwd=folder)
    succeeded("test_adv", *network, "--mode=attack", "--attack_method=fgsm", "--eval_batch_count=1",
              cwd=folder)
    succeeded("detect", "--dataset=digits", "--mode=select_kernel", "--num_kernels=50", cwd=folder)
    return succeeded("detect", *FIT, cwd=folder)


# The original's README (ORIGINAL.md section 1), and detect.py in place of its two Matlab steps.
_ORIGINAL_COMMON = (
    "--log_root=models_mnist/resnet32", "--dataset=mnist", "--num_gpus=1",
    "--num_residual_units=5", "--RCE_train=True")
ORIGINAL_COMMANDS = (
    ("train", (*_ORIGINAL_COMMON, "--train_data_path=mnist_dataset/data_train.bin",
               "--train_dir=models_mnist/resnet32/train", "--mode=train", "--Optimizer=mom",
               "--total_steps=20000")),
    ("test_nor", (*_ORIGINAL_COMMON, "--eval_data_path=mnist_dataset/data_test.bin",
                  "--eval_dir=models_mnist/resnet32/eval", "--mode=eval")),
    ("test_adv", (*_ORIGINAL_COMMON, "--eval_data_path=mnist_dataset/test_batch.bin",
                  "--Optimizer=mom", "--mode=attack", "--attack_method=fgsm",
                  "--eval_batch_count=5")),
    ("others", (*_ORIGINAL_COMMON, "--eval_data_path=mnist_dataset/data_train.bin",
                "--mode=kernel_para", "--Optimizer=mom", "--eval_batch_count=500")),
    ("detect", ("--dataset=mnist", "--attack_method=fgsm")),
)
