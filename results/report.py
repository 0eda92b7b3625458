"""Draws up REPORT.md, index.html and the table of the README from results/*.json: `make report`.

    python -m results.report

Nothing is measured here: a number that is in no JSON file says "not run".
"""

import json
import sys
import textwrap
from pathlib import Path
from typing import Any

from evaluation import grid
from evaluation.defended_table import CAUTION
from evaluation.markdown import NOT_RUN
from files import atomic
from results import attackers, beyond, dgn, logit_pairing, page, pictures, rmc
from results.cells import DATASETS, HERE, load, load_beyond, short_cells, short_name
from results.tables import (
    accuracy_table,
    all_rounds_table,
    auc_table,
    distortion_table,
    readme_table,
    seconds_table,
    shape_table,
    table,
)

README = HERE.parent / "README.md"
REPORT = HERE / "REPORT.md"
BEGIN, END = "<!-- made by `make report`: begin -->", "<!-- made by `make report`: end -->"

_ACCURACY_NOTE = """\
Accuracy on normal test images. The paper trains the ResNets for 20,000 steps on MNIST and 90,000 on
CIFAR-10; ours have had the steps in the table, with the rates of the commands in REPORT.md. All other
numbers are of these networks. Our CIFAR-10 images have been through JPEG: no others could be had here.
"""
_TRAINING = f"""\
![Test accuracy against steps]({pictures.TRAINING.relative_to(HERE)})

Trainings of the CIFAR-10 networks and of ResNet-56 (one_cycle; results/networks): most of the accuracy
comes with the fall of the rate."""
_README_NOTE = """\
AUC (%) of confidence / non-ME / K-density, ResNet-32, sign attacks at eps 0.16, the round that the
released script takes (the paper names none). ▼: the published value lies above the 95 % interval of
ours. Our CIFAR-10 images have been through JPEG: no others could be had here.
"""
_README_ATTACKERS = """\
`test_adv.py --mode=challenge` finds them for any network. No attack below knows the detector.
"""
_README_END = """\
Every network, round, interval, distortion and command, the paper's six statements judged, and what was
tried where ours falls short: [results/REPORT.md](results/REPORT.md).
"""
_REPORT_NOTE = """\
# Published numbers and ours

Made by `make report` from the JSON files beside it. Published values are those of published.json
(tables of arXiv 1706.00633 v4; v1 where said). Intervals: 95 %, bootstrap over images (Wilson for
accuracies). ▼: the published value lies above the interval. What has no number says "not run".
"""
_SHORT_NOTE = """\
Every ▼ of the rounds shown and of the accuracies is looked into, also where another round reaches the
published value: which round the paper took, it does not say.
"""
_SECONDS = """\
### Seconds per adversarial example

Ours are upper bounds: other work may have run beside the attack.
"""
_DISTORTIONS = """\
### Distortions and white-box examples

Distortion: mean RMS of the change, pixels in [0, 255], over the examples that reach their goal (of JSMA
a class, so that fewer count than in the AUCs), as in the figure; of a white-box attack over all that
change the class, and, passed, over those among them that pass its detector, as in the figure. Flagged:
share of the examples that change the class whose K-density lies below the median of the training
images, 100 kernels per class (Wilson interval).
"""
_FIGURES = """\
### Figures

Of the images that the detectors were not fitted on, so that areas in them differ from those of the
tables, which count all; distortions and grids of images are of all, too.
"""


_ATTACKERS = """\
## Attackers who know the detector

**Do not rely on these detectors against such an attacker.** The tables of AUCs below are of attacks
that do not know that there is a detector. Here: the share of images, of 100 that no threshold was
fitted on, that some attack gets answered wrongly, with thresholds that refuse 5 % of normal images;
mean over the seeds (smallest to largest). Of one seed its 95 % interval. One attack of who
does not know the detector is PGD (40 steps, one start); four are those of the standard challenge: PGD,
APGD of cross entropy and of DLR (200 steps, two starts each) and noise. One attack of who does is
selective PGD against all five scores at once (200 steps, two starts); four are that, selective PGD
against K-density alone, APGD on the detector, and Square. All are lower bounds of what is possible.
all: every score has to accept. An image that is wrong without any attack counts. Refused on every
attack: of the images that some attack gets wrong those whose every wrong example is refused.
"""
_SEEDS = """\
## What a seed is worth

A ResNet-8 on MNIST, 1,500 steps, trained, attacked (1,000 images) and judged anew with each seed: mean
(smallest to largest). Kernels: 800 per class, of 10,000 training images. All other tables are of one
seed.
"""
_DEEPER = """\
## A deeper network

ResNet-56 on MNIST, a short schedule, attacked as ResNet-32 is: AUC (%), C&W on 100 images. Nothing is
published of its attacks.
"""


_PAIRING = """\
## Logit pairing

LeNets on MNIST, attacked by PGD with the presets of the logit pairing paper (arXiv 1810.12042) on its
1,000 draws of test images: ours in % [95 % interval] (published); ▼ where the published one lies above.
Ours are trained far shorter (the authors' launch script has 100 epochs): clp and lsq 26 epochs, plain
5, the others 2, with a training attack of 10 steps of 0.04 in place of 40 of 0.01. No figure of these
short trainings says what the published networks do.
"""
_PAIRING_OTHERS = """\
### Networks that nothing is published of

LeNets on MNIST where no other network is named, the same attacks, in % [95 % interval]. CIFAR-10's are
of ten epochs without crops and flips. The authors' is resnet20_wide, nine times as large as ResNet-32:
73.9 clean, 2.8 at baseline and 0.0 at strongest with clp, 81.7, 27.0 and 1.7 with lsq.
"""
_PAIRING_STEPS = """\
### Apparent robustness takes time to appear

Accuracy under baseline, one start of 40 steps, on the way of the two trainings, in %:
"""


_RMC = """\
## Runtime masking and cleansing

ResNet-8 on MNIST (1,500 steps, CE), eps 0.3, an augmented set of 4 times 5,000 images, adaptations of
at most 20 epochs; shares with 95 % intervals: what lies closer together is no difference. pgd is made
on the network as it was trained; fpa and gmsa follow the defender (5 rounds, docs/rmc.md), and a fresh
one answers.
"""
_RMC_DEEP = """\
### The shipped ResNet-32 (RCE), an augmented set of 4 times 2,000 images
"""
_RMC_PUBLISHED = """\
### Published: ImageNet, ResNet-152, accuracy / attack success, in %

From the README of the authors' code, whose header calls the first number an error rate: code and bold
type show that it is accuracy. Their committed attack takes its gradient at an image that the network
does not see: on a small network, at 16/255 in 30 steps, it leaves 90 % right where PGD leaves 25 %.
The published rows may rest on a weaker attack than their names say; which code made them nobody can
tell. No number of theirs for MNIST or CIFAR-10 could be had.
"""


_DGN = """\
## Learned data-generation networks

MNIST, target mnist_5x30, eps 0.3: one generator a class, trained with one of three custom losses (NCE
30 of 100 published epochs; LRP 50 of 150; SUSP 60 of 600 at ten times the rate), and networks hardened
with what they make (gf: half the loss of clean images, half of attacked ones; published epochs). In
brackets what the original's repository tells; how long its networks and ours were trained differs.
"""
_DGN_GRID = """\
### The grid: right answers, in %

Networks side by side: the target, and what was hardened with images of lrp, nce, susp, fgsm or pgd made
once against the target (gf), or with PGD at every step (pgd_online).
"""
_DGN_SOURCES = """\
### What was made of the test images

Of the CIFAR-10 generators, three classes and an hour of training, no figure is to be compared with a
published one.
"""
_DGN_JUDGED = """\
### Do generated images pass as normal? The shipped ResNet-32 (RCE, MNIST) and its detector

NCE generators against that network; of images that it answers wrongly:
"""
_DGN_SPEED = """\
### Speed: ms an image

In brackets the number of images from which on a generator, its training counted, is the faster one;
never: it is the slower one.
"""


def readme_part(found, attacked=()) -> str:
    """What stands between the markers of the README."""
    claim = ("**Do not rely on these detectors against an attacker who knows them.** "
             f"{attackers.sentence(list(attacked))} {_README_ATTACKERS}")
    return "\n".join([textwrap.fill(claim, 110), "", _README_NOTE, *readme_table(found), "",
                      _README_END])


def report(found, experiments, more=None, attacked=None, paired=None, defended=None, made=None) -> str:
    """The text of REPORT.md; `more` is of `cells.load_beyond`, `attacked` of `attackers.load`, `paired`
    of `logit_pairing.load`, `defended` of `rmc.load`, `made` of `dgn.load`."""
    more = more or {"deeper": [], "seeds": [], "runs": {}}
    lines = [_REPORT_NOTE, "## Accuracy", "", _ACCURACY_NOTE, *accuracy_table(found), "",
             _TRAINING, "",
             "## Statements of the paper", "", "Judged in every round that is shown.", "",
             *shape_table(found), ""]
    lines += _attackers_part(attacked or {"rows": [], "runs": {}})
    for dataset in found:
        lines += [f"## {DATASETS[dataset]}", "",
                  "### AUC (%): published, and ours in three rounds", "",
                  *auc_table(found, dataset), "",
                  "### AUC: every round", "", *all_rounds_table(found, dataset), "",
                  _DISTORTIONS, *distortion_table(found, dataset), "",
                  _SECONDS, *seconds_table(found, dataset), "",
                  _FIGURES, *pictures.lines(dataset),
                  "### Runs", "", *map(_run_line, found[dataset]["runs"].items()), ""]
    for note, rows in ((_SEEDS, beyond.seeds_table(more)), (_DEEPER, beyond.deeper_table(more))):
        lines += [note, *(table(*rows[:1], rows[1:]) if rows else [NOT_RUN]), ""]
    lines += ["### Runs", "", *map(_run_line, more["runs"].items()), ""] if more["runs"] else []
    lines += _pairing_part(paired) if paired and paired["rows"] else []
    lines += _defended_part(defended) if defended and defended["rows"] else []
    lines += _generated_part(made) if made else []
    lines += ["## Where ours falls short: what was tried", "", _SHORT_NOTE]
    for entry in experiments:
        cells = ", ".join(map(_cell_name, entry["cells"]))
        lines += [f"### {entry['question']}", "", f"Cells: {cells}.", "",
                  *(f"- `{command}`" for command in entry["commands"]), "", entry["finding"], ""]
    tried = {tuple(cell) for entry in experiments for cell in entry["cells"]}
    untried = [cell for cell in short_cells(found) if cell not in tried]
    if untried:
        lines += [f"Not looked into yet: {', '.join(map(_cell_name, untried))}."]
    return "\n".join(lines).rstrip() + "\n"


def _attackers_part(attacked):
    rows = attackers.table_rows(attacked["rows"])
    lines = [_ATTACKERS, attackers.sentence(attacked["rows"]), ""]
    if rows:
        lines += [*table(rows[0], rows[1:]), "", "### Runs", "",
                  *map(_run_line, attacked["runs"].items()), ""]
    return lines


def _pairing_part(paired):
    rows, others, on_the_way = (make(paired) for make in (
        logit_pairing.table_rows, logit_pairing.other_rows, logit_pairing.rows_by_steps))
    return [_PAIRING, *table(rows[0], rows[1:]), "",
            *(f"- {statement}: {judged}" for statement, judged in logit_pairing.findings(paired)), "",
            _PAIRING_OTHERS, *table(others[0], others[1:]), "",
            _PAIRING_STEPS, *table(on_the_way[0], on_the_way[1:]), "", "### Runs", "",
            *map(_run_line, paired["runs"].items()), ""]


def _defended_part(defended):
    rows = rmc.table_rows(defended)
    deep = defended.get("resnet32", {"rows": [], "runs": {}})
    lines = [_RMC, f"**{CAUTION}**", "", *table(rows[0], rows[1:]), ""]
    if deep["rows"]:
        rows = rmc.table_rows(deep)
        lines += [_RMC_DEEP, *table(rows[0], rows[1:]), ""]
    return [*lines, _RMC_PUBLISHED, *table(rmc.PUBLISHED[0], rmc.PUBLISHED[1:]), "", "### Runs", "",
            *map(_run_line, (defended["runs"] | deep["runs"]).items()), ""]


def _generated_part(made):
    lines = [_DGN, f"**{grid.CAUTION}**", ""]
    for note, rows in ((None, dgn.published_rows(made)), (_DGN_GRID, dgn.grid_rows(made)),
                       (_DGN_SOURCES, dgn.source_rows(made)), (_DGN_JUDGED, dgn.judged_rows(made)),
                       (_DGN_SPEED, dgn.speed_rows(made)), (None, dgn.bar_rows(made))):
        if rows:
            lines += [*([note] if note else []), *table(rows[0], rows[1:]), ""]
        if note is _DGN_GRID:
            lines += [*(f"- {sentence}" for sentence in dgn.leaks(made)), "",
                      f"![The grid]({dgn.PICTURES[0]})", ""]
        if note is _DGN_SOURCES:
            lines += [line for path in dgn.PICTURES[1:] for line in (
                f"![{path}]({path})", "")]
    return [*lines, "### Runs", "", *map(_run_line, made["runs"].items()), ""]


def _run_line(item):
    name, run = item
    versions = ", ".join(f"{package} {run['versions'][package]}" for package in (
        "tensorflow", "keras", "numpy", "scikit-learn"))
    steps = f"network of {run['steps']:,} steps, " if "steps" in run else ""
    return (f"- {name}: `{run['command']}`; {steps}seed {run['seed']}, {run['date']}, "
            f"{run['hardware']}, commit {(run['git_revision'] or 'unknown')[:12]}, {versions}")


def _cell_name(cell):
    dataset, what, objective, score = cell
    return f"{short_name(dataset)} {what} {objective.upper()} {score}"


def load_experiments(folder: Path = HERE) -> list[dict[str, Any]]:
    """experiments.json: each with the cells it is about, a question, the commands and the finding."""
    path = folder / "experiments.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []


def with_part(readme: str, part: str) -> str:
    """The README with `part` between the markers."""
    head, _, rest = readme.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n{part}{END}{tail}"


def main() -> int:
    """Writes the README's part, REPORT.md and index.html."""
    pictures.draw_training()
    found = load()
    whole = report(found, load_experiments(), load_beyond(), attackers.load(), logit_pairing.load(),
                   rmc.load(), dgn.load())
    for path, text in ((README, with_part(README.read_text(encoding="utf-8"), readme_part(
            found, attackers.load()["rows"]))),
                       (REPORT, whole), (page.PAGE, page.page(
                           found, attackers.load(), rmc.load(), dgn.load()))):
        with atomic.atomic_path(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
        sys.stdout.write(f"{path.relative_to(HERE.parent)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
