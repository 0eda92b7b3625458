"""Evaluations on disk: what is written comes back, and the form before there was a number, too."""

import json

import pytest

from errors import InputError
from evaluation.metrics import Estimate
from files import judgements

ROW = {"attack": "fgsm", "eps": 0.1, "subset": "all", "score": "non_me", "n": 3}


def test_what_is_written_comes_back(tmp_path):
    row = ROW | {"figures": {"auroc": Estimate(0.5, 0.25, 0.75)}}
    path = judgements.save_evaluation(tmp_path, "RCE", [row], {"verdict": "words"})
    assert judgements.load_evaluation(path) == {
        "format": 2, "verdict": "words",
        "rows": [ROW | {"figures": {"auroc": {"value": 0.5, "low": 0.25, "high": 0.75}}}]}


def test_the_list_of_earlier_versions_is_format_1(tmp_path):
    path = tmp_path / "evaluation_CE.json"
    path.write_text(json.dumps([ROW]))
    assert judgements.load_evaluation(path) == {"format": 1, "rows": [ROW]}


@pytest.mark.parametrize("text", [
    "", "{}", "3", '{"format": 3, "rows": []}', '{"format": 2}', '{"format": 2, "rows": {}}',
    '{"format": "2", "rows": []}', '{"format": null, "rows": []}'])
def test_another_file_is_refused(tmp_path, text):
    path = tmp_path / "evaluation_CE.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"^expected an evaluation of detect.py, of format 1 to 2, in"):
        judgements.load_evaluation(path)
