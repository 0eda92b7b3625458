"""The grid of hardened networks: its cells against loops, columns, sentences, and its forms."""

import csv
import json

import numpy as np
import pytest

from evaluation import grid
from evaluation.generated import Adversarial
from evaluation.success import share
from files import atomic

RNG = np.random.default_rng(0)
N, CLASSES = 40, 5
LABELS = RNG.integers(0, CLASSES, N).astype(np.int32)
# An image is the class that a network says of it, and a number that tells it from others.
X = np.stack([np.where(RNG.random(N) < 0.7, LABELS, RNG.integers(0, CLASSES, N)), np.arange(N)], axis=1)
# Of a file that was filtered: some images, out of order.
INDEX = np.array([7, 3, 30, 31, 2, 39, 0, 18])


def answer(x):
    return x[:, 0]


def made_of(index):
    """What a source made of some images: other classes for some of them."""
    x_adv = np.stack([RNG.integers(0, CLASSES, len(index)), index], axis=1)
    return Adversarial(x_adv, LABELS[index], index.astype(np.int32), X[index, 0], x_adv[:, 0])


def counted(values):
    """(share, n) of a list of answers, by a loop."""
    return (sum(values) / len(values) if values else None), len(values)


def naive(x_adv, labels, index):
    """The three shares of a cell, image by image."""
    right, changed, success = [], [], []
    for image, label, row in zip(x_adv, labels, index, strict=True):
        said, before = answer(image[None])[0], answer(X[row][None])[0]
        right.append(bool(said == label))
        changed.append(bool(said != before))
        if before == label:
            success.append(bool(said != label))
    return [counted(values) for values in (right, changed, success)]


def shown(cell):
    return [one and (one.value, one.n) for one in cell]


STORED = {"lrp": made_of(INDEX), "pgd": made_of(np.arange(N))}
ADAPTIVE = {"nce": made_of(INDEX[::-1])}
# Most are taken for the class of their generator.
WRONG_CLASSES = grid.wrong_classes(LABELS, CLASSES, 1)
WRONG = {"lrp": (np.stack([np.where(RNG.random(N) < 0.6, WRONG_CLASSES, X[:, 0]), np.arange(N)], 1),
                 WRONG_CLASSES)}
OWN = {"fgsm": made_of(np.arange(N)).x_adv, "pgd": made_of(np.arange(N)).x_adv}


@pytest.fixture(scope="module")
def cells():
    return grid.row(answer, X, LABELS, stored=STORED, wrong=WRONG, own=OWN, adaptive=ADAPTIVE)


# The cells.


def test_each_cell_is_that_of_a_loop(cells):
    every = np.arange(N)
    expected = {"clean": [counted((X[:, 0] == LABELS).tolist()), None, None]}
    for column, made in (("lrp", STORED["lrp"]), ("pgd", STORED["pgd"]),
                         ("adaptive nce", ADAPTIVE["nce"])):
        expected[column] = naive(made.x_adv, made.labels, made.index)
    for column, x_adv in (("lrp of a wrong class", WRONG["lrp"][0]), ("white-box fgsm", OWN["fgsm"]),
                          ("white-box pgd", OWN["pgd"])):
        expected[column] = naive(x_adv, LABELS, every)
    leaked = [bool(image[0] == label) for image, label in zip(*WRONG["lrp"], strict=True)]
    expected["lrp of a wrong class: that class"] = [counted(leaked), None, None]
    assert {column: shown(cell) for column, cell in cells.items()} == expected
    assert expected["lrp of a wrong class"][0] < expected["lrp of a wrong class: that class"][0]
    # The three shares are three, and the images of a filtered file are not the first ones.
    assert len({value for value, _ in expected["lrp"]}) == 3
    assert shown(cells["lrp"]) != naive(STORED["lrp"].x_adv, STORED["lrp"].labels, every[:len(INDEX)])


def test_intervals_are_those_of_shares(cells):
    assert cells["clean"].right == share(X[:, 0] == LABELS)
    assert cells["pgd"].changed == share(STORED["pgd"].x_adv[:, 0] != X[:, 0])


def test_where_no_image_was_right_there_is_no_success():
    before, labels = np.array([1, 2]), np.array([0, 0])
    found = grid.cell(np.array([0, 2]), labels, before)
    assert (found.right.value, found.changed.value, found.success.n) == (0.5, 0.5, 0)
    assert np.isnan(found.success.value)


def test_a_row_without_attackers_is_what_it_says_of_clean_images():
    found = grid.row(answer, X, LABELS, stored={}, wrong={}, own={}, adaptive={})
    assert list(found) == ["clean"] and found["clean"][1:] == (None, None)


# Wrong classes.


@pytest.mark.parametrize("num_classes", [2, 3, 10])
def test_a_wrong_class_is_any_other_alike(num_classes):
    labels = np.repeat(np.arange(num_classes), 3000).astype(np.int32)
    found = grid.wrong_classes(labels, num_classes, 3)
    assert np.all(found != labels) and found.min() == 0 and found.max() == num_classes - 1
    pairs = np.zeros((num_classes, num_classes), int)
    for label, other in zip(labels.tolist(), found.tolist(), strict=True):
        pairs[label, other] += 1
    expected = 3000 / (num_classes - 1)
    others = pairs[~np.eye(num_classes, dtype=bool)]
    # Six deviations of a binomial.
    assert np.abs(others - expected).max() <= 6 * np.sqrt(expected)


def test_wrong_classes_are_those_of_the_seed():
    first, again, other = (grid.wrong_classes(LABELS, CLASSES, seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert np.any(first != other)


# Columns and sentences.


def test_columns_in_order(cells):
    found = grid.columns(["lrp", "nce"], ("fgsm", "pgd"))
    assert found == [
        "clean", "lrp", "nce", "fgsm", "pgd",
        "lrp of a wrong class", "lrp of a wrong class: that class",
        "nce of a wrong class", "nce of a wrong class: that class",
        "white-box fgsm", "white-box pgd", "adaptive lrp", "adaptive nce"]
    assert set(cells) <= set(found)


def of(**shares):
    """Cells of these right answers of 20."""
    return {name.replace("_", " "): grid.Cell(share(np.arange(20) < number))
            for name, number in shares.items()}


# Of 20: from 19 on the interval lies above that of 10.
@pytest.mark.parametrize(("own", "told"), [(9, False), (11, False), (18, False), (19, True)])
def test_a_row_that_reads_the_class_off_its_images_is_told_of(own, told):
    rows = {"target": of(clean=1, nce=20), "nce_gf": of(clean=10, nce=own, lrp=20)}
    found = grid.leaks(rows, {"nce_gf": "nce"})
    assert len(found) == told
    if told:
        low, high = (100 * value for value in share(np.arange(20) < 19)[1:3])
        assert found[0].startswith(f"nce_gf is right on 95.0 % [{low:.1f}, {high:.1f}] of the images "
                                   "of nce, and on 50.0 % [")
        assert found[0].endswith("] of clean ones: it reads the class off the perturbation.")


def test_a_row_whose_own_images_were_not_made_is_not_told_of():
    assert grid.leaks({"pgd_online": of(clean=10, nce=20)}, {"pgd_online": "pgd"}) == []


def test_the_caution_names_its_columns():
    named = [form.removesuffix(" {}") for form in (grid.OWN, grid.ADAPTIVE)]
    assert named == ["white-box", "adaptive"]
    assert all(name in grid.CAUTION for name in named)


# Forms.


def test_rows_of_text_stand_side_by_side():
    rows = {"target": of(clean=13, nce=0), "nce_gf": of(clean=20, adaptive_nce=1)}
    assert grid.format_rows(rows, ["clean", "nce", "white-box pgd", "adaptive nce"]) == [
        ["right, % of", "target", "nce_gf"], ["clean", "65.00", "100.00"],
        ["nce", "0.00", "not run"], ["white-box pgd", "not run", "not run"],
        ["adaptive nce", "not run", "5.00"]]


NOTHING = grid.cell(np.array([0]), np.array([0]), np.array([1]))  # of no image that was right


def test_json_has_what_there_is(tmp_path, cells):
    rows = {"target": cells, "nce_gf": {"clean": cells["clean"], "nce": NOTHING}}
    atomic.write_json(tmp_path / "grid.json", grid.as_json(rows))
    found = json.loads((tmp_path / "grid.json").read_text())
    assert {name: list(row) for name, row in found.items()} == {
        name: list(row) for name, row in rows.items()}
    for column, cell in cells.items():
        fields = ("right", "changed", "success")[:1 if cell.changed is None else 3]
        assert found["target"][column] == {field: list(getattr(cell, field)) for field in fields}
    assert found["nce_gf"]["nce"]["success"] == [None, None, None, 0]


def test_csv_has_a_line_for_each_cell(tmp_path, cells):
    rows = {"target": cells, "nce_gf": {"clean": cells["clean"], "nce": NOTHING}}
    atomic.write_csv(tmp_path / "grid.csv", *grid.as_table(rows))
    with open(tmp_path / "grid.csv", newline="") as file:
        found = list(csv.DictReader(file))
    assert [(line["network"], line["column"]) for line in found] == [
        (name, column) for name, row in rows.items() for column in row]
    for line in found:
        cell = rows[line["network"]][line["column"]]
        assert [float(line[name]) for name in ("right", "low", "high", "n")] == list(cell.right)
        for name, one in (("changed", cell.changed), ("success_on_right", cell.success)):
            value = float(line[name])
            assert np.isnan(value) if one is None or not one.n else value == one.value
