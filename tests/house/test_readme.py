"""The commands of README and MIGRATING parse with the scripts' flags; the files they name exist."""

import importlib
import re
import shlex

import flags

import pytest
from absl import flags as absl_flags

from tests.helpers import script_runner
from tests.helpers.script_runner import ROOT

# Every script whose commands may stand in the README; programs of other folders have own flags.
COMMAND = re.compile(r"^(?:\$ )?(?:\w+=\S+ )*python3? (?:\./)?(\w+)\.py\b")


PAGES = ("README.md", "MIGRATING.md")


def _text(page):
    # Markdown's escape of the underscore is not part of a name.
    return (ROOT / page).read_text(encoding="utf-8").replace("\\_", "_")


def _readme():
    return _text("README.md")


def _fenced_lines(text):
    """Lines inside fences, those that end in a backslash joined to the next."""
    blocks = re.findall(r"^[ \t]*```[^\n]*\n(.*?)^[ \t]*```", text, re.MULTILINE | re.DOTALL)
    for block in blocks:
        yield from (line.strip() for line in re.sub(r"\\\n\s*", "", block).splitlines())


def commands_of(text):
    """(script, arguments) of every `python script.py ...` of the scripts in fences."""
    found = []
    for line in _fenced_lines(text):
        # Several commands may stand in one line.
        for part in re.split(r"\s*(?:&&|;)\s*", line):
            match = COMMAND.match(part)
            if match:
                words = shlex.split(part, comments=True)
                position = next(i for i, word in enumerate(words) if word.endswith(".py"))
                found.append((match[1], words[position + 1:]))
    return found


def test_commands_are_found_as_users_may_write_them():
    text = "\n".join([
        "```bash", "# python train.py --no", "python train.py --a='b c' \\", "    --c=d  # comment",
        "X=1 python detect.py", "```", "python outside.py", "1. step", "   ```", "   python others.py",
        "   ```"])
    assert commands_of(text) == [("train", ["--a=b c", "--c=d"]), ("detect", []), ("others", [])]


def test_there_are_commands_of_every_script():
    assert {script for script, _ in commands_of(_readme())} >= set(script_runner.SCRIPTS)


@pytest.mark.parametrize("page", PAGES)
def test_every_command_parses(page):
    commands = commands_of(_text(page))
    assert commands
    for script, arguments in commands:
        assert script in script_runner.SCRIPTS, script
        try:
            rest = script_runner.parse(script, *arguments)
            flags._check_command_line(rest)
            _check_mode(script)
        except (absl_flags.Error, ValueError) as error:
            pytest.fail(f"python {script}.py {' '.join(arguments)}: {error}")


def _check_mode(script):
    flags.check_choice("mode", importlib.import_module(script).MODES)


def test_the_commands_of_the_original_are_there():
    """ORIGINAL.md section 1: users retype them."""
    given = {(script, *sorted(arguments)) for script, arguments in commands_of(_readme())}
    for script, arguments in script_runner.ORIGINAL_COMMANDS:
        assert (script, *sorted(arguments)) in given, script


@pytest.mark.parametrize("page", PAGES)
def test_every_flag_named_exists(page):
    known = {name for script in script_runner.SCRIPTS for name in script_runner.define(script)}
    named = set(re.findall(r"`(?:\w+\.py )?--([A-Za-z_]+)", _text(page)))
    assert named <= known | {"help"}


@pytest.mark.parametrize("page", PAGES)
def test_modes_named_exist(page):
    """Of `script.py --mode=...` in the prose, be there other flags behind it."""
    for script, mode in re.findall(r"`(\w+)\.py --mode=(\w+)", _text(page)):
        assert mode in importlib.import_module(script).MODES, (script, mode)


@pytest.mark.parametrize("page", PAGES)
def test_files_named_exist(page):
    """Every file of the source in backticks or in the finder; results files are made by running."""
    text = _text(page)
    paths = set(re.findall(r"(?<![\w./-])((?:\w+/)*\w+\.(?:py|toml|sh|cff|sbatch|yaml))\b", text))
    paths |= set(re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", text))
    missing = sorted(path for path in paths if not (ROOT / path).exists())
    assert not missing


def test_the_finder_is_there():
    text = _readme()
    finder = re.search(r"^#+ [^\n]*\b(?:[Ff]inder|[Ww]here)\b[^\n]*\n(.*?)(?=^# |^## |\Z)", text,
                       re.MULTILINE | re.DOTALL)
    assert finder, "the ten-second finder has no heading"
    for path in ("networks/heads.py", "resnet_model.py", "train.py", "data/inputs.py",
                 "files/attack_results.py", "attacks/__init__.py", "detect.py", "flags.py"):
        assert path in finder[1], path


def test_make_targets_exist():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"),
                             re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z][\w-]*)`", _readme())) <= targets
    for line in _fenced_lines(_readme()):
        if line.startswith("make "):
            assert line.split()[1] in targets
