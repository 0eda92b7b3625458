"""Run records, <name>_run.json: how the files beside them came about."""

import contextlib
import datetime
import importlib.metadata
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import environment

from errors import InputError, first_line
from files import atomic

_RECORDED_PACKAGES = ("tensorflow", "keras", "tensorflow-datasets", "numpy", "scipy",
                      "scikit-learn", "matplotlib", "absl-py")

# What tells one network from another in its JSON values, in words.
DIGESTS = {"weights_sha256": "weights", "architecture_sha256": "an architecture"}


def digest_that_differs(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str | None:
    """The key of `DIGESTS` in which two networks, as their JSON values tell them, are two; or None."""
    return next((key for key in DIGESTS if found.get(key) != wanted.get(key)), None)


def shown(network: Mapping[str, Any], digest: str) -> str:
    """The beginning of one of `DIGESTS` of a network."""
    return f"{network.get(digest, 'unknown')[:12]}…"


def write(folder: str | os.PathLike, name: str, *, flags: Mapping[str, Any],
          metrics: Mapping[str, Any]) -> Path:
    """Writes `<name>_run.json`: how the files beside it came about.

    Args:
      folder: where to; made where missing.
      name: the script, e.g. "test_adv".
      flags: flag name → value of this run; its "seed", if any, is repeated at the top level.
      metrics: what the run measured. NaN and ±inf become null.

    Returns:
      The path written.
    """
    path = Path(folder) / f"{name}_run.json"
    # Quoted, and without the folder of the script, so that it can be typed in another clone.
    command = shlex.join([os.path.basename(sys.argv[0]), *sys.argv[1:]])
    atomic.write_json(path, {"name": name, "command": f"python {command}", "seed": flags.get("seed"),
                            **provenance(), "flags": flags, "metrics": metrics})
    return path


def provenance() -> dict[str, Any]:
    """When and with what something is made: "date", "git_revision", "versions", "hardware", "threads"
    of a TensorFlow operation."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "git_revision": _git_revision(),
        "versions": {package: _version(package) for package in _RECORDED_PACKAGES},
        "hardware": f"{os.cpu_count()} cores {_processor()}",
        "threads": environment.num_threads(),
    }


def read(folder: str | os.PathLike, name: str) -> dict[str, Any] | None:
    """Reads what `write` wrote; None when there is no such file.

    Raises:
      InputError: the file is not a run record.
    """
    path = Path(folder) / f"{name}_run.json"
    if not path.is_file():
        return None
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    # Nested a thousand times, JSON is one of Python's RecursionErrors.
    except (ValueError, RecursionError) as error:
        raise InputError(f"expected JSON in {path}. Received: {first_line(error)}.") from None
    parts = [record.get(name) for name in ("flags", "metrics")] if isinstance(record, dict) else []
    if not parts or not all(isinstance(part, dict) for part in parts):
        raise InputError(f"expected a run record with flags and metrics in {path}. "
                         f"Received: {type(record).__name__} without them.")
    return record


def refuse_others(folder: str | os.PathLike, name: str, files: Iterable[str]) -> None:
    """Raises an InputError when one of these files lies in a folder without the run record `name`: what
    tells of no run may not be made again."""
    if (Path(folder) / f"{name}_run.json").is_file():
        return
    taken = next((file for file in files if os.path.lexists(Path(folder) / file)), None)
    if taken:
        raise InputError(f"expected no {taken} in {folder} yet but with the {name}_run.json of the run "
                         "that made it; without, it is kept: move it. Received: one.")


def refuse_other_networks(folder: str | os.PathLike, name: str,
                          networks: Sequence[Mapping[str, Any]]) -> None:
    """Raises an InputError when the run record `name` in a folder tells of a network, in its metrics
    "networks", that is none of these."""
    record = read(folder, name)
    told = record["metrics"].get("networks") if record else None
    for found in told if isinstance(told, list) else []:
        if not isinstance(found, dict):
            raise InputError(f"expected networks in {folder}/{name}_run.json. Received: {found!r}.")
        digests = [digest_that_differs(found, network) for network in networks]
        if all(digests):
            raise InputError(
                f"{folder} holds the {name} of another network, with {DIGESTS[digests[0]]} of SHA-256 "
                f"{shown(found, digests[0])}: give --overwrite=True to replace it, or another "
                f"--save_pwd. Received: a network with {shown(networks[0], digests[0])}.")


def _version(package):
    try:
        # Not by importing it: detect.py, which has not loaded TensorFlow, records its version, too.
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor():
    """Name of the processor where Linux tells it, or else its kind."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _git_revision():
    """Commit of the checkout this code lies in, "-dirty" if edited; None outside of a checkout."""
    try:
        done = subprocess.run(
            # No tag is to match: a commit must be told by its number alone.
            ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty",
             "--abbrev=40", "--exclude=*"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
