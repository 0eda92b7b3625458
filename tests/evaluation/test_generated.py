"""What generators and attacks made of images: looked at, measured, stored and found again."""

import numpy as np
import pytest
import tensorflow as tf

from attacks.fgsm import fgsm
from errors import InputError
from evaluation import generated
from files import dgn as dgn_files
from tests.helpers import dgn_targets
from tests.helpers.golden import golden

OURS, OTHERS = {"weights_sha256": "a" * 64}, {"weights_sha256": "b" * 64}
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (9, 28, 28, 1)).astype(np.uint8)
INDEX = np.array([8, 1, 2, 5])


def made(index=INDEX):
    """Of some images of a split, each telling which it is of."""
    number = np.asarray(index, np.int32)
    values = (number / 100).astype(np.float32)
    x_adv = np.broadcast_to(values[:, None, None, None], (len(number), 2, 2, 1))
    return generated.Adversarial(x_adv, number + 10, number, number + 20, number + 30)


def save(folder, source="nce", split="test", network=OURS, **identity):
    path = dgn_files.adversarial_path(folder, source, split)
    dgn_files.save_arrays(path, made()._asdict(), {**network, "source": source, **identity})
    return path


def sentence(function, *arguments):
    with pytest.raises(InputError) as error:
        function(*arguments)
    return str(error.value)


# Looked at.


@pytest.fixture(scope="module")
def network():
    return dgn_targets.target("mnist_5x30")


@pytest.mark.parametrize("changed_only", [False, True])
def test_some_images_are_looked_at_beside_their_own(network, cpu, changed_only):
    original, rows = golden("dgn_generation_gf_public"), np.array([50, 3, 17, 8, 22, 41, 9])
    images = original["generation/u"].reshape(-1, 28, 28, 1)
    x_adv = original["generation/projected"].reshape(images.shape)[rows] - np.float32(0.5)
    changed = np.isin(rows, original["generation/kept_rows"])
    assert 0 < np.count_nonzero(changed) < len(rows)
    kept = changed if changed_only else np.full(len(rows), True)
    found = generated.looked_at(network.forward(cpu), images, original["generation/labels"], rows,
                                x_adv, changed_only=changed_only)
    np.testing.assert_array_equal(found.x_adv, x_adv[kept])
    np.testing.assert_array_equal(found.index, rows[kept])
    for ours, name in (("labels", "labels"), ("pred_clean", "pred_clean"),
                       ("pred_adv", "pred_projected")):
        np.testing.assert_array_equal(getattr(found, ours), original[f"generation/{name}"][rows[kept]])
    assert {values.dtype for values in found[1:]} == {np.dtype(np.int32)}


def test_an_attack_on_stored_images_is_the_attack_on_inputs(network, cpu):
    told = []
    found = generated.attacked(network, cpu, "fgsm", IMAGES, 0.1, settings={}, seed=0,
                               listener=generated.Listener(rows_done=lambda rows, _: told.append(rows)))
    x = dgn_targets.inputs(IMAGES)
    np.testing.assert_array_equal(found, fgsm(network.logits, tf.constant(x), eps=0.1))
    assert found.dtype == np.float32 and sum(told) == len(IMAGES)
    as_float = generated.attacked(network, cpu, "fgsm", generated.pixels_of(IMAGES), 0.1, settings={},
                                  seed=0)
    np.testing.assert_array_equal(as_float, found)


def test_pgd_is_given_its_numbers_and_its_seed(network, cpu):
    numbers = {"step_size": 0.03, "num_steps": 3, "num_restarts": 2, "random_start": True}

    def attacked(**changed):
        given = {**numbers, **changed}
        seed = given.pop("seed", 0)
        return generated.attacked(network, cpu, "pgd", IMAGES, 0.2, settings=given, seed=seed)

    x, first = dgn_targets.inputs(IMAGES), attacked()
    np.testing.assert_array_equal(attacked(), first)
    # A pixel between 0 and 1 goes as far as its start and three steps take it, without a start 0.09.
    assert 0.15 < np.abs(first - x).max() <= 0.2 + 1e-6
    assert np.any(attacked(seed=1) != first)
    from_image = attacked(num_restarts=1, random_start=False)
    assert 0.085 < np.abs(from_image - x).max() <= 0.09 + 1e-6
    np.testing.assert_array_equal(attacked(num_restarts=1, random_start=False, seed=1), from_image)


# Measured.


@pytest.mark.parametrize("as_float", [False, True])
def test_distances_are_those_of_loops(as_float):
    images = IMAGES[:3, :3, :2]
    clean = generated.pixels_of(images) - np.float32(0.5)
    x_adv = clean + RNG.choice(np.float32([0.0, 0.1, -0.2]), clean.shape)
    linf, l2, l1, l0 = 0.0, [], [], []
    for image, adversarial in zip(clean, x_adv, strict=True):
        change = [abs(float(a) - float(b)) for a, b in zip(
            image.ravel(), adversarial.ravel(), strict=True)]
        linf = max(linf, *change)
        l2.append(sum(value**2 for value in change)**0.5)
        l1.append(sum(change) / len(change))
        l0.append(sum(value > 0 for value in change))
    found = generated.distances(generated.pixels_of(images) if as_float else images, x_adv)
    assert found == pytest.approx({"linf": linf, "l2": np.mean(l2), "l1": np.mean(l1),
                                   "l0": np.mean(l0)}, rel=1e-5)
    assert 0 < found["l0"] < 6 and found["linf"] == pytest.approx(0.2, abs=1e-6)


# Stored.


def test_what_was_stored_comes_back(tmp_path):
    path = save(tmp_path, split="train", eps=0.3)
    found, identity = generated.load(path, OURS)
    for ours, expected in zip(found, made(), strict=True):
        np.testing.assert_array_equal(ours, expected)
        assert ours.dtype == expected.dtype
    assert identity == {**OURS, "source": "nce", "eps": 0.3}
    assert path == tmp_path / "nce/adv_train.npz"


def test_what_is_missing_or_of_another_network(tmp_path):
    path = tmp_path / "nce/adv_test.npz"
    assert sentence(generated.load, path, OURS) == (
        "dgn_dir has no adv_test.npz of this network; dgn.py --mode=generate makes it. "
        f"Received: {path}.")
    save(tmp_path, network=OTHERS)
    assert sentence(generated.load, path, OURS) == (
        f"{path} was made for another network: expected weights_sha256=aaaaaaaaaaaa…. "
        "Received: bbbbbbbbbbbb….")


@pytest.mark.parametrize(("left_out", "identity"), [
    ("index", {"source": "nce"}), ("", {}), ("", {"source": 3})])
def test_another_file_of_the_same_network(tmp_path, left_out, identity):
    arrays = {name: values for name, values in made()._asdict().items() if name != left_out}
    dgn_files.save_arrays(tmp_path / "other.npz", arrays, {**OURS, **identity})
    assert sentence(generated.load, tmp_path / "other.npz", OURS) == (
        f"expected images of dgn.py --mode=generate in {tmp_path}/other.npz. Received: something else.")


def wanted(number=9, data_sha256="c" * 64):
    return generated.Wanted(("lrp", "nce", "susp", "pgd"), data_sha256, 0.3, number)


def find(folder, *given):
    """What is found, and what is warned of."""
    told = []
    return generated.load_all(folder, OURS, wanted(*given), told.append), told


@pytest.mark.parametrize("number", [1, 3, 9])
def test_of_each_source_the_first_images_are_found(tmp_path, number):
    for source in ("pgd", "lrp"):
        save(tmp_path, source, eps=0.3, data_sha256="c" * 64)
    save(tmp_path, "susp", "train", eps=0.1)
    found, told = find(tmp_path, number)
    assert list(found) == ["lrp", "pgd"] and told == []
    kept = [index for index in INDEX if index < number]
    for adversarial in found.values():
        for ours, expected in zip(adversarial, made(kept), strict=True):
            np.testing.assert_array_equal(ours, expected)


def test_another_eps_is_told(tmp_path):
    path = save(tmp_path, eps=0.25, data_sha256="c" * 64)
    found, told = find(tmp_path)
    assert list(found) == ["nce"]
    assert told == [f"{path} was made at eps 0.25, and the white-box columns at 0.3."]


def test_of_another_network_or_of_other_images_they_are_refused(tmp_path):
    path = save(tmp_path, network=OTHERS, eps=0.3, data_sha256="c" * 64)
    assert "was made for another network" in sentence(find, tmp_path)
    for identity in ({"data_sha256": "d" * 64}, {}):
        save(tmp_path, eps=0.3, **identity)
        assert sentence(find, tmp_path) == (
            f"{path} was made of other test images: --mode=generate makes it anew. "
            "Received: --eval_data_path with another SHA-256.")
