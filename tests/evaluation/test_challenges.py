"""What a challenge does not run, and why."""

import types

import numpy as np
import pytest

from evaluation import challenges

LOGITS = np.eye(3, dtype=np.float32)[[0, 0, 1, 2]]


@pytest.mark.parametrize(("labels", "accepted", "takes", "words"), [
    ([0, 0, 1, 2], [1, 1, 1, 0], True, ""), ([0, 0, 1, 2], [0] * 4, False, ""),
    # Those that are wrong, or refused, cannot be shown.
    ([0, 0, 2, 1], [1] * 4, True, "there are 2, of classes [0]."),
    ([0, 0, 1, 2], [0, 1, 0, 0], True, "there are 1, of classes [0]."),
    ([0, 0, 1, 2], [0] * 4, True, "there are 0, of classes [].")])
def test_where_there_is_nothing_to_imitate(labels, accepted, takes, words):
    passes = np.array(accepted, bool)
    work = types.SimpleNamespace(
        crafter=types.SimpleNamespace(takes_accepted=takes, name="logit_matching"), strategy=None,
        network=types.SimpleNamespace(forward=lambda strategy: lambda x: (LOGITS, LOGITS)),
        x=np.zeros((4, 2, 2, 1), np.float32), labels=np.array(labels),
        aim=types.SimpleNamespace(passes=lambda outputs: passes))
    found = challenges.nothing_to_imitate(work)
    assert found.endswith(words) and bool(found) == bool(words)
