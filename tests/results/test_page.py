"""results/index.html: one file that stands alone, well formed, with the numbers of the JSON."""

from html.parser import HTMLParser

import pytest

from results import attackers, cells, dgn, page, rmc
from tests.results.test_attackers import ROWS, row

VOID = {"meta", "rect"}
RUN = {"command": "python test_adv.py --a='<b>'", "seed": 0, "hardware": "2 cores"}


class Parsed(HTMLParser):
    """Raises where a tag is not closed in order; collects what is read."""

    def __init__(self, text):
        super().__init__()
        self.open, self.links, self.ids, self.tags, self.text = [], [], [], [], ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.links += [value for name, value in attrs if name in ("src", "href", "srcset")]
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_page_and_json_agree():
    text = page.PAGE.read_text(encoding="utf-8")
    assert text == page.page(
        cells.load(), attackers.load(), rmc.load(), dgn.load()), "run `make report`"


@pytest.mark.parametrize("attacked", [
    {"rows": [], "runs": {}}, {"rows": ROWS, "runs": {"mnist_rce": RUN}}, attackers.load()],
    ids=["nothing", "some", "shipped"])
def test_it_is_well_formed_and_stands_alone(attacked):
    text = page.page(cells.load(), attacked)
    found = Parsed(text)
    assert all(link.startswith("#") for link in found.links)
    assert "url(" not in text and "@import" not in text and "<script" not in text
    assert len(set(found.ids)) == len(found.ids)
    assert all("scope" in given for tag, given in found.tags if tag == "th")
    assert all(given.get("aria-label") for tag, given in found.tags if tag == "svg")
    assert len(text.encode()) < 2_000_000


def test_the_bars_are_the_numbers():
    found = Parsed(page.page({}, {"rows": ROWS, "runs": {"mnist_rce": RUN}}))
    svg, = (given for tag, given in found.tags if tag == "svg")
    assert "MNIST RCE, L-inf eps 0.2, an attacker who knows the detector: 95 %" in svg["aria-label"]
    assert "MNIST RCE, L-inf eps 0.2, an attacker who does not know the detector: 20 %" in (
        svg["aria-label"])
    assert "eps 8/255, an attacker who does not know the detector: not run" in svg["aria-label"]
    widths = [float(given["width"]) for tag, given in found.tags if tag == "rect"]
    assert widths == pytest.approx([66, 313.5, 0, 330])
    assert RUN["command"] in found.text


def test_what_becomes_of_the_images_is_drawn_and_told():
    parts = {"natural": 0.1, "evaded": 0.5, "evaded_though_refused": 0.0, "refused": 0.0,
             "answered_right": 0.4}
    rows = [row(0.6) | {"parts": parts}]
    found = Parsed(page.page({}, {"rows": rows, "runs": {}, "not_checked": [
        {"dataset": "mnist", "objective": "rce", "seed": 0, "flags": ["F15"]}]}))
    label = [given["aria-label"] for tag, given in found.tags if tag == "svg"][-1]
    assert label == ("What became of the images. MNIST RCE, L-inf eps 0.2: wrong without an attack "
                     "10 %, wrong and accepted 50 %, right and answered under every attack 40 %.")
    widths = [float(given["width"]) for tag, given in found.tags
              if tag == "rect" and given["class"].startswith("part")]
    assert widths == pytest.approx([39.2, 196, 0, 0, 156.8])
    assert "MNIST RCE, seed 0. Not checked: what eps/2 would imply" in found.text


def test_reasons_for_doubt_are_told_once():
    raised = [{"dataset": "mnist", "objective": "rce", "seed": seed, "flag": "F9",
               "sentence": "1 < 2 fails."} for seed in (0, 2)]
    found = Parsed(page.page({}, {"rows": ROWS, "runs": {}, "warnings": raised}))
    assert found.text.count("MNIST RCE, seed 0, 2: 1 < 2 fails. (F9)") == 1


def test_what_was_not_run_is_said():
    assert "not run" in Parsed(page.page({}, {"rows": [], "runs": {}})).text
