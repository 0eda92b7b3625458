"""The files of learned data-generation networks: whose they are, what is missing, what is damaged."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from errors import InputError
from files import dgn as dgn_files

OURS, OTHERS = {"weights_sha256": "a" * 64}, {"weights_sha256": "b" * 64}
IDENTITY = {**OURS, "custom_loss": "nce", "learning_rate": 1e-4, "class": 3, "total_steps": 4}
ARRAYS = {"scores": np.arange(6.0).reshape(2, 3), "order": np.arange(4, dtype=np.int32)}


def variables(value):
    """What a trainer of two variables and one slot has."""
    return {"generator": [tf.Variable([value, 1.0]), tf.Variable(value)],
            "optimizer": [tf.Variable(7, dtype=tf.int64)]}


def numbers(of_trainer):
    return [variable.numpy().tolist() for part in of_trainer.values() for variable in part]


def save(path, step=4, losses=(2.0, 1.0), value=5.0, **identity):
    folder = dgn_files.GeneratorFolder(path, {**IDENTITY, **identity})
    folder.save(variables(value), step, list(losses))
    return folder


def sentence(function, *arguments):
    with pytest.raises(InputError) as error:
        function(*arguments)
    return str(error.value)


# The folder of a generator.


def test_what_was_saved_comes_back(tmp_path):
    folder = save(tmp_path / "class_3")
    assert folder.is_finished and folder.step == 4
    found = variables(0.0)
    assert folder.restore(found) == [2.0, 1.0]
    assert numbers(found) == [[5.0, 1.0], 5.0, 7]
    assert (folder.path / "training.csv").read_text() == "epoch,step,loss\n1,2,2.0\n2,4,1.0\n"
    assert json.loads((folder.path / "generator.json").read_text()) == IDENTITY
    assert folder.checkpoint == "model.ckpt-4"


def test_where_nothing_is_nothing_comes_back(tmp_path):
    folder = dgn_files.GeneratorFolder(tmp_path / "class_3", IDENTITY)
    found = variables(0.5)
    assert folder.restore(found) == [] and numbers(found) == [[0.5, 1.0], 0.5, 7]
    assert (folder.checkpoint, folder.step, folder.is_finished) == (None, 0, False)
    assert not folder.path.exists()


def test_a_save_replaces_the_one_before(tmp_path):
    folder = save(tmp_path / "class_3", step=2, losses=[2.0])
    # Not those of 20 steps, of whatever.
    (folder.path / "model.ckpt-20.index.txt").write_text("kept")
    assert not folder.is_finished
    save(tmp_path / "class_3")
    save(tmp_path / "class_3")  # once more: its own stays
    assert sorted(path.name for path in folder.path.iterdir()) == [
        "generator.json", "model.ckpt-20.index.txt", "model.ckpt-4.data-00000-of-00001",
        "model.ckpt-4.index", "training.csv"]


def test_losses_beyond_the_checkpoint_do_not_count(tmp_path):
    folder = save(tmp_path / "class_3", step=2, losses=[2.0])
    (folder.path / "training.csv").write_text("epoch,step,loss\n1,2,2.0\n2,4,1.0\n")
    assert folder.losses() == [2.0]


@pytest.mark.parametrize(("changed", "words"), [
    ({"learning_rate": 1e-3}, "learning_rate={}"), ({"total_steps": 6}, "total_steps={}"),
    ({"class": 4}, "class={}"), ({"decays": True}, "decays={}"), (OTHERS, "weights_sha256={}")])
def test_another_identity_is_refused(tmp_path, changed, words):
    save(tmp_path / "class_3")
    folder = dgn_files.GeneratorFolder(tmp_path / "class_3", {**IDENTITY, **changed})
    (name, value), = changed.items()
    before, found = str(IDENTITY.get(name))[:20], variables(0.5)
    expected = (f"{folder.path} holds a generator with {words.format(before)}: give another --dgn_dir, "
                f"or remove it. Received: {words.format(str(value)[:20])}.")
    assert sentence(folder.check) == sentence(folder.restore, found) == expected
    assert numbers(found) == [[0.5, 1.0], 0.5, 7]


def test_the_same_identity_is_the_same_in_json(tmp_path):
    folder = save(tmp_path / "class_3", shape=(28, 28, 1))
    folder.check()
    assert len(folder.restore(variables(0.0))) == 2


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "[" * 100_000, "\ufeff{}"])
def test_a_damaged_identity(tmp_path, text):
    folder = save(tmp_path / "class_3")
    (folder.path / "generator.json").write_text(text)
    expected = (f"expected what a generator was made of in {folder.path}/generator.json. "
                "Received: something else.")
    assert sentence(folder.check) == sentence(folder.restore, variables(0.0)) == expected
    find = [tmp_path.parent, tmp_path.name, OURS, range(4)]
    assert sentence(dgn_files.find_generators, *find) == expected


def test_the_weights_of_a_generator(tmp_path):
    # Eleven: by number, "10" stands behind "9".
    layers = [keras.layers.Dense(number, use_bias=False) for number in range(1, 12)]
    model = keras.Sequential([keras.Input((2,)), *layers])
    expected = [np.full(weight.shape, number, np.float32)
                for number, weight in enumerate(model.weights)]
    folder = dgn_files.GeneratorFolder(tmp_path / "class_3", IDENTITY)
    folder.save({"generator": [tf.Variable(value) for value in expected],
                 "optimizer": variables(0.0)["optimizer"]}, 4, [1.0])
    found = folder.read_generator(model)
    assert len(found) == len(expected) == 11
    for ours, value in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, value)
    model.set_weights(found)


# The generators of all classes.


def class_dir(tmp_path, label):
    return dgn_files.generator_dir(dgn_files.target_dir(tmp_path, "mnist", "mnist_5x30", "CE"), "nce",
                                   label)


def test_names_of_the_folders(tmp_path):
    assert str(class_dir("d", 3)) == "d/mnist_mnist_5x30_CE/nce/class_3"


def test_generators_of_all_classes(tmp_path):
    for label in range(3):
        save(class_dir(tmp_path, label), value=float(label), **{"class": label})
    found = dgn_files.find_generators(class_dir(tmp_path, 0).parents[1], "nce", OURS, range(3))
    assert {label: folder.path for label, folder in found.items()} == {
        label: class_dir(tmp_path, label) for label in range(3)}
    assert [folder.identity["class"] for folder in found.values()] == [0, 1, 2]


@pytest.mark.parametrize(("there", "words"), [
    (range(10), ""), ((), "those of 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 are missing"),
    ((0, 1, 2, 4, 5, 6, 8, 9), "those of 3, 7 are missing")])
def test_those_that_are_missing_are_named(tmp_path, there, words):
    for label in there:
        save(class_dir(tmp_path, label))
    find = [class_dir(tmp_path, 0).parents[1], "nce", OURS, range(10)]
    if not words:
        assert len(dgn_files.find_generators(*find)) == 10
        return
    missing = words.removeprefix("those of ").removesuffix(" are missing").replace(" ", "")
    assert sentence(dgn_files.find_generators, *find) == (
        f"expected generators of classes 0 to 9 in {class_dir(tmp_path, 0).parent}, and {words}; "
        f"dgn.py --mode=train --custom_loss=nce --classes={missing} makes them. "
        f"Received: {len(there)} generators.")


def test_only_those_that_are_asked_for_must_be_there(tmp_path):
    for label in (2, 5):
        save(class_dir(tmp_path, label))
    find = [class_dir(tmp_path, 0).parents[1], "nce", OURS]
    assert list(dgn_files.find_generators(*find, [2, 5])) == [2, 5]
    assert "expected generators of classes 2, 4, 5 in" in sentence(
        dgn_files.find_generators, *find, [2, 4, 5])


def test_one_that_is_not_finished_is_missing(tmp_path):
    for label in range(3):
        save(class_dir(tmp_path, label), **({"step": 2, "losses": [1.0]} if label == 1 else {}))
    (class_dir(tmp_path, 2) / "model.ckpt-4.index").unlink()
    assert "those of 1, 2 are missing" in sentence(
        dgn_files.find_generators, class_dir(tmp_path, 0).parents[1], "nce", OURS, range(3))


def test_generators_of_another_network_are_refused(tmp_path):
    for label in range(2):
        save(class_dir(tmp_path, label), **(OTHERS if label else {}))
    find = [class_dir(tmp_path, 0).parents[1], "nce", OURS, range(2)]
    assert sentence(dgn_files.find_generators, *find) == (
        f"{class_dir(tmp_path, 1)} was made for another network: expected "
        "weights_sha256=aaaaaaaaaaaa…. Received: bbbbbbbbbbbb….")


# Arrays.


def test_arrays_and_what_they_are_of(tmp_path):
    path = tmp_path / "below" / "relevance.npz"
    dgn_files.save_arrays(path, ARRAYS, {**OURS, "stabiliser": 0.01})
    arrays, identity = dgn_files.load_arrays(path, OURS, "")
    assert identity == {**OURS, "stabiliser": 0.01} and arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(arrays[name], array)
        assert arrays[name].dtype == array.dtype
    assert [file.name for file in path.parent.iterdir()] == ["relevance.npz"]


def test_arrays_that_are_missing(tmp_path):
    path = tmp_path / "relevance.npz"
    made_by = "--mode=analyze --custom_loss=lrp"
    assert sentence(dgn_files.load_arrays, path, OURS, made_by) == (
        f"dgn_dir has no relevance.npz of this network; dgn.py {made_by} makes it. Received: {path}.")


def test_arrays_of_another_network(tmp_path):
    path = tmp_path / "suspicion.npz"
    dgn_files.save_arrays(path, ARRAYS, OTHERS)
    assert sentence(dgn_files.load_arrays, path, OURS, "") == (
        f"{path} was made for another network: expected weights_sha256=aaaaaaaaaaaa…. "
        "Received: bbbbbbbbbbbb….")
    dgn_files.save_arrays(path, ARRAYS, {})
    assert sentence(dgn_files.load_arrays, path, OURS, "").endswith("Received: unknown….")


@pytest.mark.parametrize("identity", [None, "{", "[]", "[" * 100_000, 3.0])
def test_arrays_that_do_not_say_what_they_are_of(tmp_path, identity):
    path = tmp_path / "relevance.npz"
    np.savez(path, **ARRAYS, **({} if identity is None else {"identity": np.array(identity)}))
    assert sentence(dgn_files.load_arrays, path, OURS, "") == (
        f"expected what the arrays of {path} are of. Received: none.")


def test_arrays_that_are_cut_short(tmp_path):
    path = tmp_path / "relevance.npz"
    dgn_files.save_arrays(path, ARRAYS, OURS)
    whole = path.read_bytes()
    for contents in (b"", b"nonsense", whole[:len(whole) // 2]):
        path.write_bytes(contents)
        assert str(path) in sentence(dgn_files.load_arrays, path, OURS, "")


def test_a_write_that_fails_leaves_what_was_there(tmp_path):
    path = tmp_path / "relevance.npz"
    dgn_files.save_arrays(path, ARRAYS, OURS)
    before = path.read_bytes()
    with pytest.raises(TypeError):
        dgn_files.save_arrays(path, ARRAYS, {"set": {1}})
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_another_file_is_not_replaced(tmp_path):
    path = tmp_path / "adv_test.npz"
    np.savez(path, images=ARRAYS["scores"])
    before = path.read_bytes()
    assert sentence(dgn_files.save_arrays, path, ARRAYS, OURS) == (
        f"expected no other file at {path}: move it. Received: one.")
    assert path.read_bytes() == before
    path.unlink()
    for value in (1, 2):  # one of ours is
        dgn_files.save_arrays(path, ARRAYS, {**OURS, "eps": value})
    assert dgn_files.load_arrays(path, OURS, "")[1]["eps"] == 2


@pytest.mark.parametrize(("finished", "all_of_them"), [((), False), ((0, 2), False), ((0, 1, 2), True)])
def test_whether_there_are_generators_of_all_classes(tmp_path, finished, all_of_them):
    told = []
    for label in finished:
        save(dgn_files.generator_dir(tmp_path, "nce", label))
    assert dgn_files.has_generators(tmp_path, "nce", 3, told.append) == all_of_them
    assert told == ([] if all_of_them or not finished else [
        f"{tmp_path}/nce is left out where generators of all classes are needed: 2 of 3 are finished."])
    assert not dgn_files.has_generators(tmp_path, "lrp", 3, lambda _: pytest.fail("told of nothing"))


# Hardened networks.

HARDENED = {**OURS, "kind": "gf", "ratio": 0.5, "source": "nce", "total_steps": 6}


def harden(folder, source="nce", kind="gf", step=6, **identity):
    """A hardened network as far as its files tell."""
    path = dgn_files.robust_dir(folder, source, kind)
    dgn_files.claim_robust(path, {**HARDENED, "source": source, "kind": kind, **identity})
    (path / f"model.ckpt-{step}.index").write_bytes(b"")
    return path


def test_a_folder_is_claimed_once(tmp_path):
    path = dgn_files.robust_dir(tmp_path, "nce", "gf")
    assert path == tmp_path / "robust/nce_gf"
    for _ in range(2):
        dgn_files.claim_robust(path, HARDENED)
        assert json.loads((path / "hardened.json").read_text()) == HARDENED
    for changed in ({"ratio": 0.25}, {"total_steps": 9}, {"eps": 0.3}, OTHERS):
        (name, value), = changed.items()
        assert sentence(dgn_files.claim_robust, path, {**HARDENED, **changed}) == (
            f"{path} holds a network with {name}={str(HARDENED.get(name))[:20]}: give another "
            f"--dgn_dir, or remove it. Received: {name}={str(value)[:20]}.")
    assert json.loads((path / "hardened.json").read_text()) == HARDENED
    (path / "hardened.json").write_text("[]")
    assert sentence(dgn_files.claim_robust, path, HARDENED) == (
        f"expected what a network was hardened with in {path}/hardened.json. Received: something else.")


def test_hardened_networks_that_are_finished_are_found_by_name(tmp_path):
    told = []
    assert dgn_files.find_robust(tmp_path, OURS, told.append) == {}
    of_nce, of_pgd = harden(tmp_path), harden(tmp_path, "pgd", "online")
    unfinished = harden(tmp_path, "fgsm", "default", step=3)
    (tmp_path / "robust/of_others").mkdir()
    assert dgn_files.find_robust(tmp_path, OURS, told.append) == {
        "nce_gf": (of_nce, "nce"), "pgd_online": (of_pgd, "pgd")}
    assert told == [f"{unfinished} is left out: its training is not finished."]


def test_hardened_networks_of_another_target_are_refused(tmp_path):
    path = harden(tmp_path, **OTHERS)
    assert sentence(dgn_files.find_robust, tmp_path, OURS, print) == (
        f"{path} was made for another network: expected weights_sha256=aaaaaaaaaaaa…. "
        "Received: bbbbbbbbbbbb….")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "[" * 100_000, '{"source": 3, "total_steps": 6}',
                                  '{"source": "nce", "total_steps": "6"}'])
def test_a_damaged_record_of_a_hardened_network(tmp_path, text):
    path = harden(tmp_path)
    (path / "hardened.json").write_text(text)
    assert sentence(dgn_files.find_robust, tmp_path, OURS, print) == (
        f"expected what a network was hardened with in {path}/hardened.json. Received: something else.")
