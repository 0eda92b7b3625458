"""Draws up results/index.html from results/*.json, as `results.report` does REPORT.md: `make report`.

One static file that asks no network and no script; the same numbers give the same bytes. Its tables are
those of REPORT.md, so that no number stands in two forms.
"""

import html
from collections.abc import Mapping, Sequence
from typing import Any

from evaluation import grid, soundness
from evaluation.defended_table import CAUTION
from evaluation.markdown import NOT_RUN
from files.names import ALL_SCORES
from results import attackers, dgn, rmc
from results.cells import DATASETS, HERE
from results.tables import accuracy_table, auc_table, shape_table, table

PAGE = HERE / "index.html"
_TITLE = "Detectors of adversarial examples, and attackers who know them"
_NOTE = (
    "Share of images that some attack gets answered wrongly, of those that no threshold was fitted on; "
    "T refuses 5 % of normal images. Mean over the seeds (smallest to largest). Lower bounds of what "
    "is possible: an attack that was not run may get more. The CIFAR-10 networks are weak ones, which "
    "is part of what is seen there.")
_AUC_NOTE = ("AUCs (%) of confidence / non-ME / K-density, of attacks that do not know that there is a "
             "detector: they say nothing of an attacker who does. ▼: the published value lies above "
             "our 95 % interval.")
_STYLE = """
:root { color-scheme: light dark; --ink: #111; --paper: #fff; --line: #bbb; --knows: #111; --not: #bbb }
@media (prefers-color-scheme: dark) {
  :root { --ink: #eee; --paper: #161616; --line: #555; --knows: #eee; --not: #666 } }
body { color: var(--ink); background: var(--paper); font: 1rem/1.5 system-ui, sans-serif;
  margin: 0 auto; max-width: 75rem; padding: 1rem }
.claim { border-left: .4rem solid; font-size: 1.15rem; padding-left: 1rem }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-size: .85rem }
caption { text-align: left }
th, td { border: 1px solid var(--line); padding: .2rem .5rem; text-align: left; vertical-align: top }
svg { display: block; max-width: 44rem; width: 100% }
svg text { fill: currentColor; font: 12px system-ui, sans-serif }
svg .part { fill: var(--knows); stroke: currentColor } svg text.on { fill: var(--paper) }
svg .evaded_though_refused { fill-opacity: .75 } svg .natural { fill-opacity: .55 }
svg .refused { fill-opacity: .25 } svg .answered_right { fill-opacity: 0 }
svg text.refused, svg text.answered_right { fill: currentColor; fill-opacity: 1 }
svg text.natural, svg text.evaded_though_refused { fill-opacity: 1 }
svg .adaptive { fill: var(--knows) } svg .oblivious { fill: var(--not); stroke: currentColor }
code { font-size: .8rem; overflow-wrap: anywhere }
@media print { .wide { overflow: visible } table { font-size: .6rem } }
"""
# Of the chart, in units of its own.
_WIDTH, _BAR, _GROUP, _LEFT, _FULL = 400, 14, 58, 4, 330
# Of the stacked bars: height of one with its title, and the share from which on it bears its number.
_PART_GROUP, _LABELLED = 40, 0.07
# Of `evaluation.success.PARTS`.
_PARTS = {"natural": "wrong without an attack", "evaded": "wrong and accepted",
          "evaded_though_refused": "the same though refused when normal",
          "refused": "refused when normal",
          "answered_right": "right and answered under every attack"}
_WHO = {"oblivious": "does not know the detector", "adaptive": "knows the detector"}


def page(found: Mapping[str, Any], attacked: Mapping[str, Any],
         defended: Mapping[str, Any] | None = None, made: Mapping[str, Any] | None = None) -> str:
    """The text of index.html; `found` is of `cells.load`, `attacked` of `attackers.load`, `defended` of
    `rmc.load`, `made` of `dgn.load`."""
    rows = attackers.table_rows(attacked["rows"])
    parts = [
        f"<h1>{_TITLE}</h1>",
        '<p class="claim"><strong>Do not rely on these detectors against an attacker who knows them.'
        f"</strong> {_text(attackers.sentence(attacked['rows']))}</p>",
        "<h2>Attackers who know the detector, beside those who do not</h2>", f"<p>{_NOTE}</p>",
        _chart(attacked["rows"]),
        _table("Images answered wrongly (%), by who knows what and by score",
               table(rows[0], rows[1:])) if rows else f"<p>{NOT_RUN}</p>",
        *_parts(attacked["rows"]), *_warnings(attacked.get("warnings", ())),
        *_not_checked(attacked.get("not_checked", ())), *_defended(defended), *_generated(made),
        "<h2>Accuracy on normal images</h2>", _table("Accuracy", accuracy_table(found)),
        "<h2>Published tables and ours</h2>", f"<p>{_AUC_NOTE}</p>"]
    for dataset in found:
        parts += [f"<h3>{_text(DATASETS[dataset])}</h3>",
                  _table(f"AUC (%), {DATASETS[dataset]}", auc_table(found, dataset))]
    parts += ["<h3>Statements of the paper</h3>", _table("Statements", shape_table(found)),
              "<h2>Runs</h2>", _runs("Attackers", attacked["runs"])]
    parts += [_runs(DATASETS[dataset], found[dataset]["runs"]) for dataset in found]
    return ('<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{_TITLE}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
            + "\n".join(parts) + "\n</body>\n</html>\n")


def _defended(defended):
    """The networks that adapt to each image, apart from those that do not."""
    if not defended or not defended["rows"]:
        return []
    head, *rows = rmc.table_rows(defended)
    return ["<h2>Runtime masking and cleansing, beside its controls</h2>",
            f"<p><strong>{_text(CAUTION)}</strong></p>",
            _table("A defended ResNet-8 on MNIST", table(head, rows)),
            _runs("Runtime masking and cleansing", defended["runs"])]


def _generated(made):
    """Networks that were hardened with generated images."""
    if not made:
        return []
    parts = ["<h2>Learned data-generation networks, beside what attacks them</h2>",
             f"<p><strong>{_text(grid.CAUTION)}</strong></p>"]
    for caption, rows in (
            ("Published, in brackets, and ours: right answers (%)", dgn.published_rows(made)),
            ("Right answers (%): networks side by side", dgn.grid_rows(made)),
            ("NCE images that a ResNet-32 (RCE) answers wrongly, and its detector",
             dgn.judged_rows(made)),
            ("ms an image; images from which on a generator is faster", dgn.speed_rows(made))):
        if rows:
            parts.append(_table(caption, table(rows[0], rows[1:])))
    return [*parts, *(f"<p>{_text(sentence)}</p>" for sentence in dgn.leaks(made)),
            _runs("Learned data-generation networks", made["runs"])]


def _text(value):
    return html.escape(str(value), quote=False)


def _table(caption, markdown):
    """A table of `results.tables` as HTML, which may scroll on a narrow screen."""
    head, _, *rows = ([cell.strip() for cell in line.strip().strip("|").split("|")]
                      for line in markdown)
    lines = [f'<div class="wide"><table><caption>{_text(caption)}</caption>', "<thead><tr>"
             + "".join(f'<th scope="col">{_text(cell)}</th>' for cell in head) + "</tr></thead>",
             "<tbody>"]
    for first, *rest in rows:
        lines.append(f'<tr><th scope="row">{_text(first)}</th>'
                     + "".join(f"<td>{_text(cell)}</td>" for cell in rest) + "</tr>")
    return "\n".join([*lines, "</tbody></table></div>"])


def _chart(rows: Sequence[Mapping[str, Any]]) -> str:
    """Bars of both attackers per budget, all scores at once, as SVG; nothing without rows."""
    means = attackers.means(rows)
    if not means:
        return ""
    bars, said = [], []
    for number, (name, by_attacker) in enumerate(means.items()):
        top = 16 + number * _GROUP
        bars.append(f'<text x="{_LEFT}" y="{top}">{_text(name)}</text>')
        for place, (attacker, words) in enumerate(_WHO.items()):
            value, y = by_attacker.get(attacker), top + 6 + place * (_BAR + 4)
            shown = NOT_RUN if value is None else f"{100 * value:.0f} %"
            width = _FULL * (value or 0)
            bars += [f'<rect class="{attacker}" x="{_LEFT}" y="{y}" width="{width:.1f}" '
                     f'height="{_BAR}"/>',
                     f'<text x="{_LEFT + width + 6:.1f}" y="{y + 11}">{shown}</text>']
            said.append(f"{name}, an attacker who {words}: {shown}")
    label = f"Images answered wrongly although all scores accept. {'; '.join(said)}."
    # Told by their places: in dark mode light is dark.
    legend = ("Per budget the upper bar, outlined, is of attackers who do not know the detector, "
              f"the lower of those who do; score: {ALL_SCORES}, every score has to accept.")
    height = 16 + len(means) * _GROUP
    return f"{_svg(height, label, bars)}\n<p>{legend}</p>"


def _svg(height, label, drawn):
    return (f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{html.escape(label)}">\n'
            + "\n".join(drawn) + "\n</svg>")


def _parts(rows):
    """What became of the images under who knows the detector, as stacked bars; nothing without rows."""
    found = attackers.parts_of(rows)
    if not found:
        return []
    bars, said = [], []
    for number, (name, parts) in enumerate(found.items()):
        top, left = 16 + number * _PART_GROUP, _LEFT
        bars.append(f'<text x="{_LEFT}" y="{top}">{_text(name)}</text>')
        for part in _PARTS:
            width = (_WIDTH - 2 * _LEFT) * parts[part]
            bars.append(f'<rect class="part {part}" x="{left:.1f}" y="{top + 6}" '
                        f'width="{width:.1f}" height="{_BAR}"/>')
            if parts[part] >= _LABELLED:
                bars.append(f'<text class="on {part}" x="{left + 3:.1f}" y="{top + 17}">'
                            f"{100 * parts[part]:.0f}</text>")
            left += width
        told = ", ".join(f"{words} {100 * parts[part]:.0f} %" for part, words in _PARTS.items()
                         if parts[part])
        said.append(f"{name}: {told}")
    height = 16 + len(found) * _PART_GROUP
    label = f"What became of the images. {'; '.join(said)}."
    return ["<h3>What becomes of the images, under who knows the detector</h3>",
            _svg(height, label, bars),
            f"<p>From left to right, in %: {', '.join(_PARTS.values())}. The first three are answered "
            "wrongly.</p>"]


def _not_checked(networks):
    """What nobody has looked at, each list of flags once."""
    by_flags = {}
    for one in networks:
        if one["flags"]:
            name = f"{DATASETS[one['dataset']]} {one['objective'].upper()}, seed {one['seed']}"
            by_flags.setdefault(tuple(one["flags"]), []).append(name)
    return [f"<p>{_text('; '.join(names))}. {_text(soundness.not_checked(flags))}</p>"
            for flags, names in by_flags.items()]


def _warnings(raised):
    """What the evaluations themselves say against their figures, each sentence once."""
    seeds = {}
    for one in raised:
        network = f"{DATASETS[one['dataset']]} {one['objective'].upper()}"
        seeds.setdefault((network, one["flag"], one["sentence"]), []).append(str(one["seed"]))
    items = [f"<li>{_text(network)}, seed {', '.join(own)}: {_text(sentence)} ({_text(flag)})</li>"
             for (network, flag, sentence), own in seeds.items()]
    return ["<h3>Reasons for doubt, raised by the evaluations themselves</h3>", "<ul>", *items,
            "</ul>"] if items else []


def _runs(title, runs):
    if not runs:
        return f"<p>{_text(title)}: {NOT_RUN}</p>"
    items = "\n".join(
        f"<li>{_text(name)}: <code>{_text(run['command'])}</code>, seed {run['seed']}, "
        f"{_text(run['hardware'])}</li>" for name, run in runs.items())
    return f"<details><summary>{_text(title)}, commands</summary><ul>\n{items}\n</ul></details>"
