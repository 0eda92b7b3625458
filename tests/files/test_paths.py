"""The one rule for paths: what a flag means, and what is refused before any work."""

import os
import socket

import flags

import pytest

from errors import InputError
from files import paths, provenance
from tests.helpers import script_runner

# Every flag of a path, with its scripts.
PATH_FLAGS = sorted((script, name) for script in script_runner.SCRIPTS
                    for name in script_runner.define(script)
                    if type(flags.FLAGS[name].parser).__name__ == "_Path")


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working folder with one of every kind of file, and a home folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("home", "folder", "a,b"):
        os.mkdir(name)
    (tmp_path / "file").write_text("x")
    os.mkfifo("fifo")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("socket")
    os.symlink("nowhere", "dangling")
    os.symlink("loop", "loop")
    return tmp_path


def test_the_flags_of_paths_are_all_of_them():
    """A flag whose help speaks of a file or folder is one; those of text say so here."""
    words = ("Folder", "folder", "File", "file that", ".npy", "detector.npz", "TensorBoard")
    text = {"logits_layer", "features_layer", "model_input", "trust_model", "num_images"}
    for script in script_runner.SCRIPTS:
        named = {name for name in script_runner.define(script)
                 if any(word in flags.FLAGS[name].help for word in words)
                 and flags.FLAGS[name].flag_type() == "string"}
        found = {name for one, name in PATH_FLAGS if one == script}
        assert named - text <= found, script


@pytest.mark.parametrize(("script", "name"), PATH_FLAGS)
def test_every_flag_expands_the_home_folder(place, script, name):
    os.makedirs("~/stray")  # as a version that did not expand it has left
    script_runner.parse(script, f"--{name}=~/stray")
    assert flags.FLAGS[name].value == str(place / "home/stray")
    script_runner.parse(script, f"--{name}=~root/x")
    assert flags.FLAGS[name].value == os.path.expanduser("~root/x")
    script_runner.parse(script, f"--{name}=./~/x")
    assert flags.FLAGS[name].value == "./~/x"


REFUSED = {
    "fifo": "a FIFO", "socket": "a socket", "/dev/null": "a device", "dangling": "where nothing is",
    "loop": "symbolic links", "x" * 256: "256 bytes|name too long", "missing/" + "x" * 256: "264 bytes",
    "x/" * 2500: "4095 bytes|name too long", "a\0b": "null byte", "file/below": "Not a directory",
    "ram://x": "an address", "gs://bucket/x": "an address", "\udcff": "not UTF-8"}


@pytest.mark.parametrize(("path", "words"), REFUSED.items(), ids=lambda text: repr(text[:12]))
# What is no path of a --model is taken for a name, and the names there are are told.
@pytest.mark.parametrize(("script", "name"), [flag for flag in PATH_FLAGS if flag[1] != "model"])
def test_what_the_system_refuses_is_told_by_name(place, script, name, path, words):
    argv = script_runner.parse(script, f"--{name}={path}")
    with pytest.raises(InputError, match=f"(?s)^{name} must .*Received: .*(?i:{words})"):
        flags.check_command_line(argv)


@pytest.mark.parametrize("path", ["fifo", "file", "dangling", "loop", "file/below", "dangling/below",
                                  "fifo/below", "/dev/null/x", "y/" * 1950, "missing/" + "x" * 256])
def test_a_folder_to_write_is_looked_at_before_work(place, path):
    with pytest.raises(InputError, match="Received: "):
        paths.require_folder(path, "save_pwd")
    assert not os.path.lexists("missing")


@pytest.mark.parametrize("path", ["folder", "new/below", "a,b", "exp[1]", "a b", "=", "-x", "ü", "...",
                                  "folder/../new", "x" * 255, "~x/.."[1:]])
def test_any_other_name_is_a_folder_to_write(place, path):
    paths.require_folder(path, "save_pwd")
    paths.check("save_pwd", path, paths.FOLDER)


def test_a_kind_of_path_is_no_other(place):
    for path, kind in (("file", paths.FOLDER), ("folder", paths.FILE)):
        with pytest.raises(InputError, match=f"x must be {kind}. Received: x='{path}', a f"):
            paths.check("x", path, kind)
    for path, kind in (("file", paths.EITHER), ("folder", paths.EITHER), ("missing", paths.FILE)):
        paths.check("x", path, kind)


def test_the_name_of_a_network_is_no_folder(place):
    os.mkdir("mlp")
    assert not flags.is_model_file("mlp") and flags.is_model_file("folder")


@pytest.mark.parametrize("make", [os.link, os.symlink])
def test_one_file_under_two_names(place, make):
    make("file", "other")
    for name in ("file", "other", "folder/../file", f"{place}/other", "./file"):
        assert paths.same_file("file", name)
    assert not paths.same_file("file", "missing") and not paths.same_file("missing", "missing")


def test_files_that_no_record_tells_of_are_kept(place):
    provenance.refuse_others("folder", "figures", ["a.png", "b.csv"])
    os.symlink("nowhere", "folder/b.csv")
    with pytest.raises(InputError, match=r"no b.csv in folder yet .* figures_run.json"):
        provenance.refuse_others("folder", "figures", ["a.png", "b.csv"])
    provenance.write("folder", "figures", flags={}, metrics={})
    provenance.refuse_others("folder", "figures", ["a.png", "b.csv"])


@pytest.mark.parametrize("path", [
    "folder/x.npz", "./folder/../folder/x.npz", "folder/*.npz", "other.npz"])
def test_an_input_is_not_among_the_files_to_write(place, path):
    (place / "folder/x.npz").write_text("x")
    os.link("folder/x.npz", "other.npz")
    script_runner.parse("test_adv", f"--eval_data_path={path}")
    flags.refuse_to_overwrite_inputs("folder", ["y.npz"])
    with pytest.raises(InputError, match=r"whose x.npz is read. Received: eval_data_path="):
        flags.refuse_to_overwrite_inputs("folder", ["y.npz", "x.npz"])
