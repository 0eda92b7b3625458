"""Whether two versions of the project write the same bytes: train, attack, judge on digits with both.

    python -m benchmarks.same_bytes 60de2b2          # that commit against the working tree

Run records (`*_run.json`) hold dates and are left out, and so is what a command of the newer version
alone writes. Pictures are compared by their pixels. Prints one line a command and exits with 1 where a
file differs.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
_NETWORK = ("--dataset=digits", "--num_residual_units=1", "--RCE_train=True", "--log_root=models/r8")
_ATTACK = ("test_adv.py", *_NETWORK, "--mode=attack")
_QUICK = ("--attack_iterations=30", "--attack_search_steps=3", "--attack_learning_rate=0.1")
COMMANDS = (
    ("train.py", *_NETWORK, "--total_steps=60", "--batch_size=32"),
    ("others.py", *_NETWORK, "--mode=kernel_para", "--eval_batch_count=-1"),
    ("detect.py", "--dataset=digits", "--mode=select_kernel", "--num_kernels=20"),
    ("detect.py", "--dataset=digits", "--mode=select_kernel_for_attack", "--num_kernels=10"),
    ("detect.py", "--dataset=digits", "--mode=median_for_attack"),
    (*_ATTACK, "--attack_method=fgsm", "--eval_batch_count=1"),
    (*_ATTACK, "--attack_method=bim", "--eval_batch_count=1", "--eps_sweep=0.1,0.2"),
    (*_ATTACK, "--attack_method=tgsm", "--eval_batch_count=1", "--eps=0.1"),
    (*_ATTACK, "--attack_method=pgd", "--eval_batch_count=1", "--eps=0.1", "--num_restarts=3",
     "--attack_iterations=10"),
    (*_ATTACK, "--attack_method=jsma", "--eval_batch_count=20", "--eps=0.3"),
    (*_ATTACK, "--attack_method=carliniL2", "--eval_batch_count=2", *_QUICK),
    (*_ATTACK, "--attack_method=carliniL2_specific", "--eval_batch_count=10", *_QUICK),
    ("detect.py", "--dataset=digits", "--attack_method=fgsm"),
    ("detect.py", "--dataset=digits", "--mode=fit", "--attack_method=fgsm"),
    ("detect.py", "--dataset=digits", "--mode=evaluate"),
    ("detect.py", "--dataset=digits", "--mode=figures"),
)


@contextlib.contextmanager
def checkout(revision: str) -> Iterator[Path]:
    """A folder with the files of a commit."""
    with tempfile.TemporaryDirectory() as folder:
        # Not a worktree: it would leave its name in .git if this is killed.
        archive = subprocess.run(["git", "archive", revision], cwd=ROOT, check=True,
                                 capture_output=True)
        subprocess.run(["tar", "x", "-C", folder], input=archive.stdout, check=True)
        yield Path(folder)


def run(code: Path, work: Path, command: tuple[str, ...]) -> None:
    """One command of the version in `code`, in the folder `work`."""
    environment = {**os.environ, "PYTHONPATH": str(code)}
    done = subprocess.run([sys.executable, str(code / command[0]), *command[1:]], cwd=work,
                          env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{code}: {' '.join(command)}\n{done.stderr[-2000:]}")


def _same(old, new):
    if old.suffix == ".png":
        return np.array_equal(np.asarray(Image.open(old)), np.asarray(Image.open(new)))
    if old.suffix == ".npz":  # a zip holds dates
        with np.load(old) as one, np.load(new) as other:
            return all(np.array_equal(one[name], other[name], equal_nan=one[name].dtype.kind == "f")
                       for name in one.files)
    return old.read_bytes() == new.read_bytes()


def _is_compared(path):
    return path.is_file() and not path.name.endswith("_run.json") and not {
        "events", "model", "checkpoint"} & set(path.name.split("."))


def main() -> int:
    """Runs every command with both versions and compares all that lies there afterwards."""
    with (checkout(sys.argv[1]) as old, tempfile.TemporaryDirectory() as one,
          tempfile.TemporaryDirectory() as other):
        works, differing, seen = (Path(one), Path(other)), set(), set()
        for command in COMMANDS:
            for code, work in zip((old, ROOT), works, strict=True):
                run(code, work, command)
            found = {path.relative_to(one) for path in Path(one).rglob("*") if _is_compared(path)}
            # After each command, so that a difference is told of the one that made it, not of all
            # that read it.
            fresh = sorted(found - seen)
            bad = [name for name in fresh if not (works[1] / name).is_file()
                   or not _same(works[0] / name, works[1] / name)]
            print(f"{len(fresh) - len(bad)} of {len(fresh)} files the same: {' '.join(command)}"
                  + "".join(f"\n    differs: {name}" for name in bad), flush=True)
            seen, differing = found, differing | set(bad)
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
