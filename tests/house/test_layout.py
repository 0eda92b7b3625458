"""The house stays in order: rules read from the syntax trees, nothing is run but two imports."""

import ast
import functools
import subprocess
import sys
from pathlib import Path

import pytest

from attacks import ATTACKS
from data import DATASETS
from defenses import SCORES
from files.names import RESULT_IMAGES, RESULT_TEXTS
from networks import NETWORKS
from training import OBJECTIVES

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = {"train", "test_nor", "test_adv", "others", "detect", "rmc", "dgn"}
GROUND = {"errors", "environment"}
# Room → the rooms it may import besides itself and the ground; one of lower level each.
ROOMS = {
    "data": set(),
    "files": {"data"},
    "resnet_model": set(),
    "networks": {"files", "data", "resnet_model"},
    "attacks": set(),
    "defenses": {"networks", "files", "data"},
    "training": {"attacks", "networks", "files", "data", "resnet_model"},
    "evaluation": {"attacks", "defenses", "networks", "files", "data"},
    "figures": {"evaluation", "defenses", "files"},
    "results": {"evaluation", "defenses", "files", "figures.drawing"},
    "flags": {"data", "attacks", "files.paths"},
    "options": {"flags", "attacks", "data", "defenses", "evaluation", "figures", "files", "networks",
                "training", "resnet_model"},
    "detector": {"defenses"},  # the old name of defenses/deployed.py
}
ROOMS |= {script: set(ROOMS) for script in SCRIPTS}
# attacks/dgn/ alone of its room holds networks.
DGN_ROOMS = {"networks", "data", "resnet_model"}
# Rooms whose first file holds rows, which every room above may read.
ROW_ROOMS = {"data", "networks", "attacks", "defenses", "training"}
ABOVE_ROWS = {"defenses", "training", "evaluation", "figures", "results", "options", "flags"}


def _module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NOT_ROOMS = {"tests", "benchmarks", "examples", "setup.py", "pretrained"}
FILES = sorted(path for path in (*ROOT.glob("*.py"), *ROOT.glob("[a-z]*/**/*.py"))
               if path.relative_to(ROOT).parts[0] not in NOT_ROOMS)
MODULES = {_module_name(path): path for path in FILES}
BELOW_SCRIPTS = sorted(name for name in MODULES
                       if name.split(".")[0] not in {*SCRIPTS, "flags", "options", "results"})


@functools.cache
def _tree(module):
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


def _imports(module):
    """Modules of this project that `module` imports, anywhere in the file; typing-only ones too."""
    found = set()
    for node in ast.walk(_tree(module)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            submodules = {f"{node.module}.{alias.name}" for alias in node.names} & set(MODULES)
            found |= submodules or {node.module}
    return {name for name in found if name.split(".")[0] in {*ROOMS, *GROUND}}


def _room(module):
    return module.split(".")[0]


def _calls(module, name):
    return [node.lineno for node in ast.walk(_tree(module)) if isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name) and node.func.id == name]


def _in_dgn(module):
    return module.split(".")[:2] == ["attacks", "dgn"]


def _may_import(module, imported):
    room, other = _room(module), _room(imported)
    rooms = ROOMS[room] | (DGN_ROOMS if _in_dgn(module) else set())
    if other in {room, *GROUND} or rooms & {other, imported}:
        return True
    return imported in ROW_ROOMS and room in ABOVE_ROWS


def test_every_module_lies_in_a_room():
    assert {_room(name) for name in MODULES} == {*ROOMS, *GROUND}


@pytest.mark.parametrize("module", sorted(set(MODULES) - GROUND))
def test_imports_point_to_lower_rooms(module):
    assert not [name for name in _imports(module) if not _may_import(module, name)]


@pytest.mark.parametrize("module", MODULES)
def test_no_underscore_is_imported(module):
    private = [alias.name for node in ast.walk(_tree(module)) if isinstance(node, ast.ImportFrom)
               and _room(node.module or "") in {*ROOMS, *GROUND} for alias in node.names
               if alias.name.startswith("_")]
    assert not private


@pytest.mark.parametrize("module", MODULES)
def test_nothing_imports_a_script(module):
    assert not _imports(module) & SCRIPTS


@pytest.mark.parametrize("module", [name for name in MODULES if name.split(".")[0] == "attacks"])
def test_attacks_know_arrays_and_callables_only(module):
    others = {name.split(".")[0] for name in _imports(module)} - {"attacks", "errors"}
    assert others <= (DGN_ROOMS if _in_dgn(module) else set())
    opened = [name for name in ("open", "Path") if _calls(module, name)]
    assert not opened


@pytest.mark.parametrize("module", BELOW_SCRIPTS)
def test_flags_stop_at_the_scripts(module):
    assert "flags" not in _imports(module)
    named = [node.lineno for node in ast.walk(_tree(module))
             if (isinstance(node, ast.Name) and node.id == "FLAGS")
             or (isinstance(node, ast.Attribute) and node.attr == "FLAGS")]
    assert not named
    assert not any("absl" in ast.unparse(node) for node in ast.walk(_tree(module))
                   if isinstance(node, ast.Import | ast.ImportFrom))


@pytest.mark.parametrize("module", MODULES)
def test_no_assert(module):
    assert not [node.lineno for node in ast.walk(_tree(module)) if isinstance(node, ast.Assert)]


@pytest.mark.parametrize("module", BELOW_SCRIPTS)
def test_no_print_below_the_scripts(module):
    assert not _calls(module, "print")


# presets.py has numbers of one of them, no attack.
@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith("attacks.")
                                    and not name.startswith(("attacks.loops", "attacks.presets"))
                                    and not _in_dgn(name)])
def test_an_attack_is_one_file_with_one_public_function(module):
    public = [node for node in _tree(module).body
              if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")]
    assert [node.name for node in public] == [module.split(".")[1]]
    assert isinstance(public[0], ast.FunctionDef)
    # Numbers by keyword only: what stands in front of the star are callables and images.
    assert {arg.arg for arg in public[0].args.args} <= {
        "logits_fn", "x", "logits_and_features_fn"}


# Above files/, arrays have the names of the house.
DISK_NAMES = {*RESULT_TEXTS, *RESULT_IMAGES, "training_logits", "training_logitslabels",
              "training_scores"}
STEMS = ("entropy_", "confidence_", "logits_", "labels_", "training_logits", "training_scores")


@pytest.mark.parametrize("module", [name for name in MODULES if _room(name) != "files"])
def test_names_on_disk_end_at_files(module):
    named = [node.lineno for node in ast.walk(_tree(module))
             if isinstance(node, ast.Constant) and node.value in DISK_NAMES]
    made = [node.lineno for node in ast.walk(_tree(module)) if isinstance(node, ast.JoinedStr)
            and isinstance(node.values[0], ast.Constant) and node.values[0].value.startswith(STEMS)]
    assert not named + made


def _arguments(function):
    return [arg.arg for arg in function.args.args + function.args.kwonlyargs]


def test_a_score_is_a_row_and_its_formula():
    """Each row names a function f(outputs, reference) of defenses/scores.py; nobody else lists them."""
    functions = {node.name: _arguments(node) for node in _tree("defenses.scores").body
                 if isinstance(node, ast.FunctionDef)}
    assert all(functions.get(row.function) == ["outputs", "reference"] for row in SCORES.values())
    others = [(module, node.lineno) for module in MODULES if module != "defenses"
              for node in ast.walk(_tree(module)) if isinstance(node, ast.List | ast.Tuple | ast.Set)
              and {getattr(item, "value", None) for item in node.elts} >= set(SCORES)]
    assert [module for module, _ in others] == ["files.detectors"]  # those of version 0.1


def _public_definitions(body):
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from (child for child in _public_definitions(node.body)
                            if not _overrides(node, child))


def _overrides(owner, method):
    """Methods of Keras and TensorFlow base classes, which document them."""
    return bool(owner.bases) and method.name in {
        "apply", "build", "call", "update_step", "get_config", "compute_output_shape", "serialize",
        "deserialize"}


@pytest.mark.parametrize("module", MODULES)
def test_everything_public_has_a_docstring(module):
    assert ast.get_docstring(_tree(module))
    bare = [node.name for node in _public_definitions(_tree(module).body)
            if not ast.get_docstring(node)]
    assert not bare


@pytest.mark.parametrize(
    "module", sorted(set(MODULES) - {"networks.heads", "results.statements"}))
def test_only_heads_branches_on_the_head(module):
    def constants(node):
        return {child.value for child in ast.walk(node)
                if isinstance(child, ast.Constant) and isinstance(child.value, str)}

    tree = _tree(module)
    tests = [node for node in ast.walk(tree) if isinstance(node, ast.Compare | ast.MatchValue)]
    named = [node.lineno for node in tests if constants(node) & {"ce", "rce", "CE", "RCE"}]
    assert not named
    # Nor through the flag: it is turned into a name by heads.name_of.
    conditions = [node.test for node in ast.walk(tree)
                  if isinstance(node, ast.If | ast.IfExp | ast.While)]
    assert not [node.lineno for node in conditions for child in ast.walk(node)
                if getattr(child, "attr", getattr(child, "id", "")) == "RCE_train"]


# Who may compare the names of its rows: the room that holds them.
ROW_NAMES = {"networks": set(NETWORKS), "data": set(DATASETS),
             "training": set(OBJECTIVES), "attacks": set(ATTACKS) - {"random"},  # a kind of target, too
             "defenses": set(SCORES)}


@pytest.mark.parametrize(("room", "module"), [
    (room, module) for room in ROW_NAMES for module in sorted(MODULES)
    if _room(module) not in {room, "results"}])
def test_no_room_compares_the_names_of_another_rooms_rows(room, module):
    """They ask the row."""
    compared = [node.lineno for node in ast.walk(_tree(module))
                if isinstance(node, ast.Compare | ast.MatchValue)
                for child in ast.walk(node)
                if isinstance(child, ast.Constant) and child.value in ROW_NAMES[room]]
    assert not compared


@pytest.mark.parametrize("module", sorted(SCRIPTS))
def test_scripts_come_in_one_order(module):
    body = _tree(module).body
    last = body[-1]
    assert isinstance(last, ast.If) and ast.unparse(last.test) == "__name__ == '__main__'"
    run, = last.body
    assert ast.unparse(run) == "flags.run(main)"
    main, = (node for node in body if isinstance(node, ast.FunctionDef) and node.name == "main")
    assert main.end_lineno - main.lineno <= 30
    # What stands above the check of the command line is imported before it.
    start = next(node.lineno for node in body if ast.unparse(node).startswith("flags.start(__name__"))
    above = {alias.name for node in body if isinstance(node, ast.Import | ast.ImportFrom)
             and node.lineno < start for alias in node.names}
    assert not above & {"numpy", "tensorflow", "keras"}


def test_detect_flags_options_and_rows_start_light():
    options = {name for name in MODULES if _room(name) == "options"}
    rooms = ", ".join(sorted(ROW_ROOMS | options))
    code = (f"import sys, detect, flags, {rooms}; "
            "print(sorted({'tensorflow', 'keras', 'sklearn', 'scipy', 'matplotlib', "
            "'tensorflow_datasets'} & set(sys.modules)))")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True,
                          timeout=60)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr
