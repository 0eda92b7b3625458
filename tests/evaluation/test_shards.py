"""One attack made by several runs of test_adv.py: joined, its files are those of one, byte for byte."""

import itertools
import os
import re
import shutil

import numpy as np
import pytest

import attacks
from errors import InputError
from evaluation import crafter
from files import attack_parts
from files.features import save_kernels
from options import attack as attack_options
from tests.helpers import script_runner
from tests.helpers.script_runner import NETWORK, run

CARLINI = ("--attack_search_steps=2", "--attack_learning_rate=0.1")
# Attack, flags; parts of three shards, per round.
CASES = {
    "fgsm": ("fgsm", ("--eval_batch_count=1",), 2),
    "random": ("random", ("--eval_batch_count=-1",), 2),
    "jsma": ("jsma", ("--eval_batch_count=20", "--attack_iterations=8", "--eps=0.3"), 2),
    "carliniL2": ("carliniL2", ("--eval_batch_count=3", "--attack_iterations=5", *CARLINI), 2),
    "batch": ("carliniL2", ("--eval_batch_count=9", "--attack_iterations=5", *CARLINI,
                            "--cw_abort=batch"), 2),
    "white_box": ("carliniL2_highden", ("--eval_batch_count=20", "--attack_iterations=3", *CARLINI), 2),
}
FGSM = CASES["fgsm"][1]
THREE = "--num_shards=3"


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """Folder of the tiny run; read only."""
    return script_runner.tiny_run(tmp_path_factory)


@pytest.fixture(scope="session")
def kernel_dir(tmp_path_factory):
    """Kernels of no use but to be moved towards."""
    folder = tmp_path_factory.mktemp("kernels")
    kernels = np.random.default_rng(0).uniform(size=(20, 64, 10))
    save_kernels(folder, "rce", kernels, "attack_kernels")
    save_kernels(folder, "rce", np.full(10, 0.1), "attack_medians")
    return folder


@pytest.fixture
def script(tiny, kernel_dir, monkeypatch):
    """Runs test_adv.py --mode=mode on the tiny run, over two eps."""
    monkeypatch.setattr(attack_options, "SWEEP_EPS", (0.1, 0.3))

    def run_script(name, mode, *more, cwd):
        cwd.mkdir(exist_ok=True)
        given = (f"--kernel_dir={kernel_dir}",) if "kernels" in attacks.get(name).takes else ()
        return run("test_adv", *NETWORK, f"--log_root={tiny}/models/tiny", f"--mode={mode}",
                   f"--attack_method={name}", *given, *more, cwd=cwd)

    return run_script


@pytest.fixture
def fgsm(script):
    """Runs a mode of FGSM, which must succeed; returns what it printed."""
    def run_fgsm(mode, *more, cwd):
        result = script("fgsm", mode, *FGSM, *more, cwd=cwd)
        assert result.code == 0, result.err
        return result.out

    return run_fgsm


_whole = {}


@pytest.fixture
def whole(fgsm, tmp_path):
    """Name → bytes of the files of FGSM by one run; made once."""
    if not _whole:
        fgsm("attack", cwd=tmp_path / "whole")
        _whole.update(files(tmp_path / "whole/fgsm_digits/RCE"))
    return _whole


@pytest.fixture
def crafted(monkeypatch):
    """Numbers of images that are crafted, call by call."""
    counts = []
    call = crafter.Crafter.__call__
    monkeypatch.setattr(crafter.Crafter, "__call__", lambda self, x, *args, **more: (
        counts.append(len(x)), call(self, x, *args, **more))[1])
    return counts


def shard(index, num_shards=3):
    return f"--shard_index={index}", f"--num_shards={num_shards}"


def files(folder):
    """Name → bytes of all files but the run record, which holds flags, date and seconds."""
    return {name: (folder / name).read_bytes() for name in os.listdir(folder)
            if name != "test_adv_run.json"}


def part_names(folder):
    return sorted(path.stem for path in (folder / "parts").glob("*.npz"))


@pytest.mark.parametrize("case", [
    pytest.param(case, marks=pytest.mark.slow) if case in ("jsma", "batch", "white_box") else case
    for case in CASES])
def test_shards_leave_the_bytes_of_one_run(script, tmp_path, crafted, case):
    name, arguments, per_round = CASES[case]
    total = per_round * (2 if name in ("fgsm", "random") else 1)
    result = script(name, "attack", *arguments, cwd=tmp_path / "whole")
    assert result.code == 0, result.err
    whole = files(tmp_path / "whole" / f"{name}_digits/RCE")
    num_images, done = sum(crafted), 0
    crafted.clear()
    folder = tmp_path / f"shards/{name}_digits/RCE"
    for index in (2, 0, 1):
        num_calls = len(crafted)
        result = script(name, "attack", *arguments, *shard(index), cwd=tmp_path / "shards")
        assert result.code == 0, result.err
        mine = len(range(index, total, 3))
        assert (f"Shard {index} of 3 has made its {mine} of {total} parts in "
                f"{name}_digits/RCE/parts; --mode=merge joins them") in result.out
        assert "Precision" not in result.out
        num_batches = -(-sum(crafted[num_calls:]) // attacks.get(name).count_batch)
        assert re.findall(r"^The (\d+) batch in total (\d+)", result.out, re.M) == [
            (str(batch), str(num_batches)) for batch in range(num_batches)]
        done += mine
        if done:
            assert os.listdir(folder) == ["parts"] and len(part_names(folder)) == done
    # Each image once and none of them twice.
    assert sum(crafted) == num_images and done == total
    crafted.clear()
    result = script(name, "merge", *arguments, THREE, cwd=tmp_path / "shards")
    assert result.code == 0, result.err
    assert not crafted
    joined = files(folder)
    assert joined.keys() == whole.keys() and "results.npz" in joined and "images.png" in joined
    assert [key for key in joined if joined[key] != whole[key]] == []


class _Killed(BaseException):
    """What a test stops a run with."""


def test_a_killed_shard_goes_on_and_a_finished_one_does_nothing(
        fgsm, script, whole, tmp_path, monkeypatch, crafted):
    work = tmp_path / "shards"
    fgsm("attack", *shard(1, 2), cwd=work)
    save, counter = attack_parts.Parts.save, itertools.count()

    def dying(self, name, arrays):
        if next(counter):
            raise _Killed
        save(self, name, arrays)

    with monkeypatch.context() as patch:
        patch.setattr(attack_parts.Parts, "save", dying)
        with pytest.raises(_Killed):
            fgsm("attack", *shard(0, 2), cwd=work)
    folder = work / "fgsm_digits/RCE"
    assert part_names(folder) == ["round00_image000000", "round00_image000100", "round01_image000100"]
    crafted.clear()
    assert "Going on after 1 finished parts." in fgsm("attack", *shard(0, 2), cwd=work)
    assert crafted == [100]
    assert "Going on after 2 finished parts." in fgsm("attack", *shard(0, 2), cwd=work)
    assert crafted == [100]
    (folder / "parts/round01_image000100.npz").write_bytes(b"damaged")
    result = script("fgsm", "merge", *FGSM, "--num_shards=2", cwd=work)
    assert result.code == 1 and "1 are missing, the first round01_image000100.npz" in result.err
    fgsm("attack", *shard(1, 2), cwd=work)
    fgsm("merge", "--num_shards=2", cwd=work)
    assert files(folder) == whole


def test_parts_of_separate_folders_are_copied_together(fgsm, script, whole, tmp_path):
    for index in range(3):
        fgsm("attack", *shard(index), cwd=tmp_path / f"machine{index}")
    folder = tmp_path / "machine2/fgsm_digits/RCE"
    assert part_names(folder) == ["round01_image000000"]
    shutil.copytree(tmp_path / "machine0/fgsm_digits/RCE/parts", folder / "parts", dirs_exist_ok=True)
    before = files(folder / "parts")
    result = script("fgsm", "merge", *FGSM, THREE, cwd=tmp_path / "machine2")
    assert result.code == 1
    assert re.fullmatch(
        r"error: merge needs all 4 parts of the 3 shards in fgsm_digits/RCE/parts, and 1 are missing, "
        r"the first round00_image000100.npz of --shard_index=1. Received: 3 parts.",
        result.err.strip()), result.err
    assert files(folder / "parts") == before
    shutil.copytree(tmp_path / "machine1/fgsm_digits/RCE/parts", folder / "parts", dirs_exist_ok=True)
    # Whoever copies the parts alone has copied enough.
    (folder / "parts/identity.json").unlink()
    fgsm("merge", THREE, cwd=tmp_path / "machine2")
    assert files(folder) == whole
    # Once more finds nothing, and leaves the results.
    result = script("fgsm", "merge", *FGSM, THREE, cwd=tmp_path / "machine2")
    assert result.code == 1 and "and 4 are missing" in result.err
    assert files(folder) == whole


def test_merge_refuses_parts_of_other_flags_and_leaves_them(fgsm, script, tmp_path):
    fgsm("attack", *shard(2), cwd=tmp_path)
    folder = tmp_path / "fgsm_digits/RCE"
    before = files(folder / "parts")
    for mode, more, words in (
            ("merge", ("--seed=1", THREE), "with seed=0"),
            ("merge", ("--num_shards=2",), "with num_shards=3"),
            ("attack", shard(0, 4), "with num_shards=3"),
            ("attack", (), "with num_shards=3")):
        result = script("fgsm", mode, *FGSM, *more, cwd=tmp_path)
        assert result.code == 1
        assert re.fullmatch(rf"error: .*parts holds unfinished parts of another run, {words}: .* "
                            r"Received: .*", result.err.strip()), result.err
        assert files(folder / "parts") == before and os.listdir(folder) == ["parts"]


def test_a_part_copied_from_another_run_is_noticed(fgsm, script, tmp_path):
    fgsm("attack", *shard(0, 2), cwd=tmp_path)
    fgsm("attack", *shard(1, 2), "--seed=1", cwd=tmp_path / "other")
    folder = tmp_path / "fgsm_digits/RCE"
    for path in (tmp_path / "other/fgsm_digits/RCE/parts").glob("*.npz"):
        shutil.copy(path, folder / "parts")
    result = script("fgsm", "merge", *FGSM, "--num_shards=2", cwd=tmp_path)
    assert result.code == 1
    assert re.fullmatch(r"error: .*round00_image000100.npz must be a part of this run, .*: remove it\. "
                        r"Received: identity=\w+, .*", result.err.strip()), result.err
    assert os.listdir(folder) == ["parts"]


# --- The folder of several runs at once ---


PARTS = tuple(f"round00_image{start:06d}" for start in (0, 100, 200))


def test_starting_beside_others_changes_nothing(tmp_path):
    first, second = (attack_parts.Parts(tmp_path, {"a": 1}) for _ in range(2))
    assert not (tmp_path / "parts").exists()
    first.save(PARTS[0], {"x": np.arange(3)})
    written = os.stat(tmp_path / "parts/identity.json")
    third = attack_parts.Parts(tmp_path, {"a": 1}, overwrite=True)
    for name, parts in ((PARTS[1], second), (PARTS[2], third)):
        parts.save(name, {"x": np.arange(3)})
    assert first.names() == list(PARTS)
    # Not even written again: a rename would have made another file of it.
    assert os.stat(tmp_path / "parts/identity.json").st_ino == written.st_ino
    assert list(first.load(PARTS[1])) == ["x"]


def test_of_two_runs_that_start_at_once_the_later_to_save_is_refused(tmp_path):
    first, second = (attack_parts.Parts(tmp_path, {"a": a}) for a in (1, 2))
    first.save(PARTS[0], {"x": np.arange(3)})
    with pytest.raises(InputError, match="another run, with a=1"):
        second.save(PARTS[0], {"x": np.arange(4)})
    assert len(first.load(PARTS[0])["x"]) == 3


def test_the_pieces_of_a_sweep():
    pieces = attack_parts.cut(2, 250, 100, 4)
    assert [piece.name for piece in pieces] == [
        f"round{number:02d}_image{start:06d}" for number in (0, 1) for start in (0, 100, 200)]
    assert [piece.shard for piece in pieces] == [0, 1, 2, 3, 0, 1]
    assert [piece.rows for piece in pieces[:3]] == [slice(0, 100), slice(100, 200), slice(200, 250)]


# --- Bad input ---


@pytest.mark.parametrize(("mode", "arguments", "sentence"), [
    ("attack", shard(3), r"shard_index must lie in \[0, 3\)"),
    ("attack", shard(-1), r"shard_index must lie in \[0, 3\)"),
    ("attack", ["--num_shards=0"], "num_shards must be at least 1"),
    ("merge", ["--num_shards=-2"], "num_shards must be at least 1"),
    ("attack", ["--shard_index=0"], "shard_index needs a --num_shards of at least 2"),
    ("attack", ["--shard_index=1"], "shard_index needs a --num_shards of at least 2"),
    ("merge", shard(0), "merge takes no --shard_index"),
    ("merge", [THREE, "--overwrite=True"], "merge takes no --overwrite"),
    ("merge", [], "merge needs the --num_shards of the shards"),
    ("merge", [THREE], "merge needs all 4 parts of the 3 shards .*, and 4 are missing, the first "
                       "round00_image000000.npz of --shard_index=0"),
    ("tSNE_logits", [THREE], "tSNE_logits must be one run"),
    ("tSNE_logits", ["--shard_index=0"], "tSNE_logits must be one run"),
])
def test_bad_flags_get_one_sentence_and_leave_nothing(script, tmp_path, mode, arguments, sentence):
    result = script("fgsm", mode, *FGSM, *arguments, cwd=tmp_path)
    assert result.code == 1
    assert re.fullmatch(rf"error: .*{sentence}.* Received: .+", result.err.strip()), result.err
    assert not list(tmp_path.iterdir())
