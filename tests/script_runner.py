"""Runs the scripts in this process, as from a shell: fresh flags, exit code, one tiny trained run."""

import ast
import contextlib
import functools
import importlib
import io
from pathlib import Path
from typing import NamedTuple

import flags

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = ("train", "test_nor", "test_adv", "others", "detect")

# The tiny run that the tests share: ResNet-8 on digits.
STEPS = 60
NETWORK = ("--dataset=digits", "--num_residual_units=1", "--RCE_train=True")
LOG_ROOT = "--log_root=models/tiny"
TRAINING = ("--batch_size=32", "--lr_boundaries=40,50", "--checkpoint_every=25", "--seed=3")


@functools.cache
def groups_of(script: str) -> tuple[str, ...]:
    """Names of the flag groups that `flags.run` is given at the end of a script."""
    tree = ast.parse((ROOT / f"{script}.py").read_text(encoding="utf-8"))
    call, = (node for node in ast.walk(tree) if isinstance(node, ast.Call)
             and ast.unparse(node.func) == "flags.run")
    assert ast.unparse(call.args[0]) == "main"
    return tuple(group.attr for group in call.args[1:])


def define(script: str) -> list[str]:
    """Defines the flags of a script in place of those of any script before; returns their names."""
    for flag in list(flags.FLAGS.get_flags_for_module("flags")):
        delattr(flags.FLAGS, flag.name)
    for group in groups_of(script):
        getattr(flags, group)()
    return [flag.name for flag in flags.FLAGS.get_flags_for_module("flags")]


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
        code = flags._guarded(main, argv) or 0
    return Result(code, out.getvalue(), err.getvalue())


_tiny = {}


def tiny_run(tmp_path_factory) -> Path:
    """Folder with a finished run in models/tiny: trained once, whoever asks; do not write there."""
    if "folder" not in _tiny:
        folder = tmp_path_factory.mktemp("tiny_run")
        result = run("train", *NETWORK, *TRAINING, LOG_ROOT, f"--total_steps={STEPS}", cwd=folder)
        assert result.code == 0, result.err
        _tiny.update(folder=folder, out=result.out)
    return _tiny["folder"]


def tiny_output() -> str:
    """What the tiny run printed."""
    return _tiny["out"]


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
