"""The pages' commands parse with the scripts' flags; the files, links and names on them exist."""

import ast
import importlib
import itertools
import re
import shlex

import flags

import pytest
from absl import flags as absl_flags

import attacks
from networks import NETWORKS
from tests.helpers import script_runner
from tests.helpers.script_runner import ROOT

# Every script whose commands may stand in the README; programs of other folders have own flags.
COMMAND = re.compile(r"^(?:\$ )?(?:\w+=\S+ )*python3? (?:\./)?(\w+)\.py\b")
DOCS = sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))
PAGES = ("README.md", "MIGRATING.md", *DOCS)
LONGEST_README = 220
WIDTH = 128


def _text(page):
    # Markdown's escape of the underscore is not part of a name.
    return (ROOT / page).read_text(encoding="utf-8").replace("\\_", "_")


def _readme():
    return _text("README.md")


FENCE = re.compile(r"^[ \t]*```(\w*)[^\n]*\n(.*?)^[ \t]*```[^\n]*\n?", re.MULTILINE | re.DOTALL)


def _fenced_lines(text):
    """Lines inside fences, those that end in a backslash joined to the next."""
    for _, block in FENCE.findall(text):
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
    for script, arguments in commands_of(_text(page)):
        assert script in script_runner.SCRIPTS, script
        try:
            rest = script_runner.parse(script, *arguments)
            flags.check_command_line(rest)
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
    """Every file of the source in backticks or in a finder; results files are made by running."""
    paths = set(re.findall(
        r"(?<![\w./-])((?:\w+/)*\w+\.(?:py|toml|sh|cff|sbatch|yaml))\b", _text(page)))
    missing = sorted(path for path in paths if not (ROOT / path).exists())
    assert not missing


@pytest.mark.parametrize("page", PAGES)
def test_rooms_named_exist(page):
    """Of the folders in tables and prose; those in code end in a name."""
    named = set(re.findall(r"(?<![\w./<>-])((?:[a-z_]+/)+)(?=[\s,;.:|`])", FENCE.sub("", _text(page))))
    of_runs = {"parts/", "saved_model/"}
    assert not sorted(path for path in named - of_runs if not (ROOT / path).is_dir())


LINK = re.compile(r"(?:\]\(|<img src=\")(?!https?:|mailto:)([^)#\"\s]*)(?:#([^)\"\s]*))?")


def _anchors(text):
    """The anchors that GitHub gives the headings."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_links_resolve(page):
    broken = []
    for path, anchor in LINK.findall(_text(page)):
        target = (ROOT / page).parent / path if path else ROOT / page
        if not target.exists() or (
                anchor and anchor not in _anchors(target.read_text(encoding="utf-8"))):
            broken.append((path, anchor))
    assert not broken


def test_anchors_are_those_of_github():
    text = "# A title: `code`, C&W\n```\n# no heading\n```\n## One more\n"
    assert _anchors(text) == {"a-title-code-cw", "one-more"}


def test_every_page_is_linked_from_the_readme():
    assert {path for path, _ in LINK.findall(_readme())} >= {"MIGRATING.md", *DOCS}


@pytest.mark.parametrize("page", [page for page in PAGES if page != "README.md"])
def test_a_page_says_first_whom_it_is_for(page):
    title, _, first = _text(page).split("\n")[:3]
    assert title.startswith("# ")
    assert first.startswith("For ")


def test_the_readme_is_short():
    assert len(_readme().splitlines()) <= LONGEST_README


@pytest.mark.parametrize("page", PAGES)
def test_no_line_but_of_tables_is_wide(page):
    wide = [line for line in _text(page).splitlines()
            if len(line) > WIDTH and not line.startswith("|")]
    assert not wide


def _python_blocks(page):
    return [block for language, block in FENCE.findall(_text(page)) if language == "python"]


@pytest.mark.parametrize("page", [page for page in PAGES if _python_blocks(page)])
def test_python_parses_and_imports_what_there_is(page):
    for block in _python_blocks(page):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom):
                _check_import(node)


def _check_import(node):
    path = ROOT.joinpath(*node.module.split("."))
    for alias in node.names:
        if path.is_dir() and (path / f"{alias.name}.py").is_file():
            continue
        source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        defined = {name for child in ast.parse(source.read_text(encoding="utf-8")).body
                   for name in [getattr(child, "name", None), *(
                       target.id for target in getattr(child, "targets", ()))]}
        assert alias.name in defined, ast.unparse(node)


@pytest.mark.parametrize("page", PAGES)
def test_modules_that_are_run_exist(page):
    """Of `python -m <module>`, but those that pip installs."""
    modules = set(re.findall(r"\bpython3?(?:\.\d+)? -m ([\w.]+)", _text(page)))
    assert not [name for name in modules - {"venv", "pip", "pytest"}
                if not ROOT.joinpath(*name.split(".")).with_suffix(".py").is_file()]


def test_attackers_who_know_the_detector_stand_above_the_table():
    text = _readme()
    warning = text.index("Do not rely on these detectors against an attacker who knows them")
    assert warning < text.index("| CE, published")


def test_the_finder_is_there():
    text = _readme()
    finder = re.search(r"^#+ [^\n]*\b(?:[Ff]inder|[Ww]here)\b[^\n]*\n(.*?)(?=^# |^## |\Z)", text,
                       re.MULTILINE | re.DOTALL)
    assert finder, "the ten-second finder has no heading"
    for path in ("networks/heads.py", "resnet_model.py", "train.py", "data/inputs.py",
                 "files/attack_results.py", "attacks/__init__.py", "detect.py", "flags.py"):
        assert path in finder[1], path


@pytest.mark.parametrize("page", PAGES)
def test_make_targets_exist(page):
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"),
                             re.MULTILINE))
    assert set(re.findall(r"`make ([a-z][\w-]*)", _text(page))) <= targets
    for line in _fenced_lines(_text(page)):
        if line.startswith("make "):
            assert line.split()[1] in targets


# The tables of the pages name the rows that there are, in their order.


def _first_column(page, title):
    """First cells of the table whose head begins with `title`, each name once."""
    lines = (ROOT / page).read_text(encoding="utf-8").splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"| {title} |"))
    cells = (line.split("|")[1] for line in itertools.takewhile(
        lambda line: line.startswith("|"), lines[start + 2:]))
    return list(dict.fromkeys(cell.split("(")[0].split(",")[0].strip() for cell in cells))


def test_tables_name_the_rows():
    assert _first_column("docs/attacks.md", "`--attack_method`") == list(attacks.ATTACKS)
    assert _first_column("docs/training.md", "`--model`") == list(NETWORKS)


def test_every_setting_of_an_attack_is_told():
    text = (ROOT / "docs/attacks.md").read_text(encoding="utf-8")
    assert not [flag for flag in attacks.settings() if f"--{flag}" not in text]
