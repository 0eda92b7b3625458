"""files/attack_results.py: whose the results are, and which image each row is."""

import numpy as np
import pytest

from data.pixels import to_network_input
from errors import InputError
from files import attack_results, provenance, result_files
from files.names import RESULT_IMAGES, RESULT_TEXTS

NUM_ROWS = 20


@pytest.fixture
def folder(tmp_path):
    """Result files as the original leaves them: no run record, nothing per image."""
    arrays = {name: np.zeros(NUM_ROWS) for name in RESULT_TEXTS}
    arrays |= {name: np.zeros((NUM_ROWS, 3)) for name in ("logits_nor", "logits_adv")}
    arrays |= {name: np.zeros((NUM_ROWS, 4, 4, 1)) for name in RESULT_IMAGES}
    arrays["entropy_adv"][3:5] = np.nan
    result_files.save_attack_results(tmp_path, arrays)
    return tmp_path


def test_files_of_the_original_tell_no_image_and_no_network(folder):
    results = attack_results.load("rce", folder)
    assert (results.tag, results.num_rows, results.num_nan) == ("RCE", NUM_ROWS, 2)
    assert (results.num_per_eps, results.eps_values[0], results.eps_values[-1]) == (2, 0.02, 0.2)
    assert results.per_image is None and results.network is None
    with pytest.raises(InputError, match=r"expected results\.npz in"):
        results.image_index  # noqa: B018 a property


def test_a_run_record_tells_sweep_and_network(folder):
    provenance.write(folder, "test_adv", flags={"RCE_train": False}, metrics={
        "eps": [0.1, 0.3], "num_per_eps": 10, "network": {"weights_sha256": "b" * 64}})
    results = attack_results.load("ce", folder)
    assert (results.eps_values, results.num_per_eps) == ([0.1, 0.3], 10)
    assert results.network == {"weights_sha256": "b" * 64}


def test_images_are_those_of_results_npz(folder):
    images = np.tile(np.arange(10), 2)
    np.savez(folder / "results.npz", image_index=images)
    np.testing.assert_array_equal(attack_results.load("ce", folder).image_index, images)


def test_an_image_has_one_digest_wherever_it_lies(folder):
    levels = np.random.default_rng(0).integers(0, 256, (NUM_ROWS, 4, 4, 1)).astype(np.uint8)
    levels[7] = levels[2]
    np.save(folder / "nor_img.npy", to_network_input(levels))
    digests = attack_results.load("ce", folder).image_digests
    assert digests[7] == digests[2] and len(np.unique(digests)) == NUM_ROWS - 1
    np.save(folder / "nor_img.npy", to_network_input(levels[::-1]))
    np.testing.assert_array_equal(attack_results.load("ce", folder).image_digests, digests[::-1])
    np.save(folder / "nor_img.npy", to_network_input(levels[:3]))
    with pytest.raises(InputError, match=r"20 images in nor_img\.npy"):
        attack_results.load("ce", folder).image_digests  # noqa: B018 a property


def test_an_attack_with_parts_and_no_results_is_unfinished(folder):
    (folder / "parts").mkdir()
    assert not attack_results.is_unfinished(folder)
    (folder / RESULT_TEXTS[0]).unlink()
    assert attack_results.is_unfinished(folder)
    assert not attack_results.is_unfinished(folder / "nowhere")


# --- Of a defended network ---

DEFENSE = {"name": "rmc", "state": "reset", "neighbors": "random", "k": 10}
DEFENDED = {"eps": [None], "num_per_eps": NUM_ROWS, "network": {"weights_sha256": "b" * 64},
            "variant": "gmsa_avg", "defense": DEFENSE, "stream": "both"}


def test_a_record_of_rmc_tells_the_defense(folder):
    assert attack_results.load("ce", folder).label == "CE"
    provenance.write(folder, "rmc", flags={"RCE_train": False}, metrics=DEFENDED)
    results = attack_results.load("ce", folder)
    assert (results.eps_values, results.num_per_eps, results.defense) == ([None], NUM_ROWS, DEFENSE)
    assert (results.tag, results.label) == ("CE", "CE under rmc reset random")
    assert results.defended_network == {"weights_sha256": "b" * 64, "defense": DEFENSE}
    assert attack_results.read_record(folder)["name"] == "rmc"


def test_what_defends_is_of_records_of_rmc_alone(folder):
    provenance.write(folder, "test_adv", flags={}, metrics=DEFENDED)
    results = attack_results.load("ce", folder)
    assert results.defense is None and results.defended_network == results.network
    assert attack_results.read_record(folder)["name"] == "test_adv"


@pytest.mark.parametrize(("stream", "what"), [("clean", "clean"), ("adv", "attacked")])
def test_half_of_a_defended_network_is_refused(tmp_path, stream, what):
    """Without looking for the files that it lacks."""
    provenance.write(tmp_path, "rmc", flags={}, metrics=DEFENDED | {"stream": stream})
    with pytest.raises(InputError) as error:
        attack_results.load("ce", tmp_path)
    assert str(error.value) == (f"{tmp_path} holds {what} images only (--rmc_stream={stream}): "
                                f"detect.py needs both. Received: rmc_stream='{stream}'.")


def test_records_of_two_are_refused(folder):
    for name in ("test_adv", "rmc"):
        provenance.write(folder, name, flags={}, metrics=DEFENDED)
    with pytest.raises(InputError, match=r"holds run records of two.*Received: both\.$"):
        attack_results.load("ce", folder)


@pytest.mark.parametrize(("name", "value"), [
    ("eps", [2.0]), ("num_per_eps", True), ("network", None), ("network", "resnet"),
    ("network", {"num_classes": 1}), ("defense", None), ("defense", ["rmc"]),
    ("defense", DEFENSE | {"state": 3}), ("defense", DEFENSE | {"neighbors": "a b"}),
    ("variant", None), ("variant", "../pgd"), ("stream", None), ("stream", ["both"])])
def test_a_damaged_record_of_rmc_is_named(folder, name, value):
    provenance.write(folder, "rmc", flags={}, metrics=DEFENDED | {name: value})
    with pytest.raises(InputError, match=rf"expected {name} of an attack in .*rmc_run\.json, as this "
                                         r"version of rmc\.py writes it\. Received: "):
        attack_results.load("ce", folder)


def test_an_attack_is_not_written_over_a_defended_network(tmp_path):
    """Not over half of one either, which has no result files."""
    provenance.write(tmp_path, "rmc", flags={}, metrics=DEFENDED | {"stream": "clean"})
    with pytest.raises(InputError, match=r"a defended network.*Received: rmc_run\.json"):
        attack_results.refuse_others(tmp_path, {})
