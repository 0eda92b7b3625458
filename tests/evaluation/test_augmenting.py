"""The augmented set: rows as the authors' PGD makes them, blocks, shards, and what its files refuse."""

import dataclasses
import functools
import json
import types

import numpy as np
import pytest
import tensorflow as tf

from data.pixels import from_network_input, to_network_input
from errors import InputError
from evaluation import augmenting
from evaluation.augmenting import Augmentation, Variant
from files import attack_parts
from files import rmc as files
from networks import heads
from networks.network import Network
from tests.helpers.golden import golden
from tests.helpers.rmc import digits_network

GOLDEN = dict(golden("rmc_augment").items())
# Tag → the largest distance of the float rows (golden/README_RMC.md).
TAGS = {"pgd10": 2e-7, "pgd30": 2e-7, "pgd100": 1.6e-6, "wide_pgd10": 6e-7, "wide_pgd30": 6e-7}
VARIANTS = (Variant(3, 1.6), Variant(5, 2.4))
EPS, SEED = 0.1, 2
N = 12


@functools.cache
def network():
    return Network(digits_network(GOLDEN), heads.get("ce"))


def work_of(folder, cpu, **changes):
    """What is to be crafted: of twelve digits two variants."""
    rows = np.random.default_rng(0).permutation(len(GOLDEN["labels"]))[:N]
    given = {"network": network(), "strategy": cpu, "images": GOLDEN["images_uint8"][rows],
             "labels": GOLDEN["labels"][rows], "image_index": rows, "variants": VARIANTS, "eps": EPS,
             "seed": SEED, "parts": attack_parts.Parts(folder, {"attack_method": "none"})}
    return Augmentation(**{**given, **changes})


_CRAFTERS = {}


def crafted(work, pieces=None):
    # Traced once, whoever asks.
    crafters = _CRAFTERS.setdefault((work.variants, work.eps, work.seed, len(work.labels)), {})
    augmenting.craft(work, work.pieces if pieces is None else pieces, crafters=crafters)
    return np.concatenate(list(work.blocks())) if not work.missing else None


def part_files(folder):
    return {path.name: path.read_bytes() for path in (folder / "parts").iterdir()}


# --- As the authors ---

def test_the_network_predicts_what_the_authors_attack():
    logits = network().logits(to_network_input(GOLDEN["images_uint8"]))
    np.testing.assert_array_equal(tf.argmax(logits, axis=1), GOLDEN["predicted"])


@pytest.mark.parametrize("tag", TAGS)
def test_rows_from_a_given_start_are_the_authors(tag, tmp_path, cpu, monkeypatch):
    eps, step, count = GOLDEN[f"{tag}/numbers_eps_step_count"]
    noise = tf.constant(GOLDEN[f"{tag}/start_noise"])

    def start(x, *, image_index, **_):
        # Chunks are filled up with rows of image 0.
        return x + tf.gather(noise, image_index)

    monkeypatch.setattr("attacks.pgd.random_noise", start)
    variant = Variant(int(count), step * count / eps)
    work = work_of(tmp_path, cpu, images=GOLDEN["images_uint8"], labels=GOLDEN["labels"], eps=eps,
                   image_index=np.arange(len(noise)), variants=(variant,))
    assert augmenting.step_size(work.variants[0], eps) == pytest.approx(step, rel=1e-12)
    floats = []
    monkeypatch.setattr(augmenting, "from_network_input", lambda images: (
        floats.append(images), from_network_input(images))[1])
    images = crafted(work)[:len(noise)]
    np.testing.assert_array_equal(images, GOLDEN[f"{tag}/rows_uint8"])
    np.testing.assert_allclose(floats[0] + np.float32(0.5), GOLDEN[f"{tag}/rows"], rtol=0,
                               atol=TAGS[tag])


# --- Blocks ---

def test_blocks_one_after_the_other_and_the_images_last(tmp_path, cpu):
    work = work_of(tmp_path, cpu)
    told = []
    augmenting.craft(work, work.pieces, told.append)
    assert sum(told) == N * len(VARIANTS) and not work.missing
    rows = np.concatenate(list(work.blocks()))
    assert rows.dtype == np.uint8 and len(rows) == (len(VARIANTS) + 1) * N
    labels = work.all_labels()
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(labels.reshape(-1, N), [work.labels] * (len(VARIANTS) + 1))
    blocks = rows.reshape(-1, *work.images.shape)
    np.testing.assert_array_equal(blocks[-1], work.images)
    clean = to_network_input(work.images)
    before = _loss_of_predicted(clean, clean)
    for block in blocks[:-1]:
        images = to_network_input(block)
        far = np.abs(images - clean).max(axis=(1, 2, 3))
        assert np.all(far <= EPS + 0.5 / 255 + 1e-6) and np.all(far > 0.5 * EPS)
        assert np.all(_loss_of_predicted(images, clean) > before)
    assert not np.array_equal(blocks[0], blocks[1])


def _loss_of_predicted(images, clean):
    """Cross entropy of the class that is predicted on the clean images."""
    return tf.nn.sparse_softmax_cross_entropy_with_logits(
        tf.argmax(network().logits(clean), axis=1), network().logits(images)).numpy()


def test_what_is_attacked_is_the_prediction_and_not_the_label(tmp_path, cpu):
    # Points that the same network gets wrong, as none of the images above.
    points = golden("rmc_adapt")
    images, labels = points["point_images_uint8"], points["point_labels"]
    assert np.all(points["point_labels"] != tf.argmax(network().logits(to_network_input(images)), 1))
    work = work_of(tmp_path, cpu, images=images, labels=labels, image_index=np.arange(len(labels)))
    clean, attacked = to_network_input(images), to_network_input(crafted(work)[:len(labels)])
    assert np.all(_loss_of_predicted(attacked, clean) > _loss_of_predicted(clean, clean))
    of_label = [tf.nn.sparse_softmax_cross_entropy_with_logits(labels, network().logits(x)).numpy()
                for x in (clean, attacked)]
    # Away from the prediction is, for one of them, towards its class.
    assert np.any(of_label[1] < of_label[0])


def test_float_images_become_the_nearest_grey_levels(tmp_path, cpu):
    work = work_of(tmp_path, cpu)
    floats = dataclasses.replace(work, images=(work.images / np.float32(255)),
                                 parts=attack_parts.Parts(tmp_path / "floats", {"attack_method": ""}))
    np.testing.assert_array_equal(crafted(floats), crafted(work))


def test_blocks_start_from_noises_of_their_own(tmp_path, cpu):
    """Alike but for their numbers, two blocks differ; and another seed has others."""
    same = work_of(tmp_path / "same", cpu, variants=VARIANTS[:1] * 2)
    blocks = crafted(same).reshape(3, N, -1)
    assert not np.any(np.all(blocks[0] == blocks[1], axis=1))
    other = crafted(work_of(tmp_path / "other", cpu, variants=VARIANTS[:1] * 2, seed=SEED + 1))
    assert not np.array_equal(other.reshape(3, N, -1)[0], blocks[0])


def test_an_image_depends_neither_on_the_others_nor_on_its_place(tmp_path, cpu):
    work = work_of(tmp_path, cpu)
    order = np.random.default_rng(3).permutation(N)[:7]
    some = dataclasses.replace(
        work, images=work.images[order], labels=work.labels[order],
        image_index=work.image_index[order],
        parts=attack_parts.Parts(tmp_path / "some", {"attack_method": "none"}))
    np.testing.assert_array_equal(crafted(some).reshape(3, 7, -1),
                                  crafted(work).reshape(3, N, -1)[:, order])


# --- Parts ---

@pytest.mark.parametrize("num_shards", [2, 3])
def test_parts_of_shards_are_those_of_one_run(tmp_path, cpu, monkeypatch, num_shards):
    whole = crafted(work_of(tmp_path / "large", cpu))
    monkeypatch.setattr(augmenting, "PART_SIZE", 5)
    one, shared = (work_of(tmp_path / name, cpu, num_shards=shards)
                   for name, shards in (("one", 1), ("shared", num_shards)))
    assert len(one.pieces) == 6
    # However it is cut.
    np.testing.assert_array_equal(crafted(one), whole)
    for index in reversed(range(num_shards)):
        mine = [piece for piece in shared.missing if piece.shard == index]
        assert len(mine) == 6 // num_shards
        found = crafted(shared, mine)
    np.testing.assert_array_equal(found, whole)
    assert part_files(tmp_path / "shared") == part_files(tmp_path / "one")


class _Killed(BaseException):
    """What a test stops a run with."""


def test_killed_and_started_again(tmp_path, cpu, monkeypatch):
    monkeypatch.setattr(augmenting, "PART_SIZE", 5)
    expected = crafted(work_of(tmp_path / "whole", cpu))
    work, save = work_of(tmp_path / "killed", cpu), attack_parts.Parts.save
    for saved in (2, 1):
        left = iter(range(saved))

        def dying(self, name, arrays, left=left):
            if next(left, None) is None:
                raise _Killed
            save(self, name, arrays)

        with monkeypatch.context() as patch:
            patch.setattr(attack_parts.Parts, "save", dying)
            with pytest.raises(_Killed):
                augmenting.craft(work, work.missing)
    assert len(work.missing) == 3
    # What is damaged counts as missing.
    (tmp_path / "killed/parts" / f"{work.pieces[0].name}.npz").write_bytes(b"damaged")
    assert len(work.missing) == 4 and work.pieces[0] in work.missing
    np.testing.assert_array_equal(crafted(work, work.missing), expected)
    assert part_files(tmp_path / "killed") == part_files(tmp_path / "whole")


def test_pixels_outside_the_box_are_refused(tmp_path, cpu):
    work = work_of(tmp_path, cpu)
    outside = dataclasses.replace(work, images=work.images / np.float32(200))
    with pytest.raises(InputError, match=r"images must lie in \[-0.5, 0.5\]"):
        augmenting.craft(outside, outside.pieces)
    assert not (tmp_path / "parts").exists()


# --- On disk ---

IDENTITY = {"weights_sha256": "a" * 64, "dataset": "digits", "variants": VARIANTS, "eps": EPS,
            "num_train": N, "seed": SEED}
NETWORK = {"weights_sha256": "a" * 64}


def test_a_network_that_diverged_is_refused(tmp_path, cpu):
    model = digits_network(GOLDEN)
    model.weights[-1].assign(np.full(model.weights[-1].shape, np.nan))
    work = work_of(tmp_path, cpu, network=Network(model, heads.get("ce")))
    with pytest.raises(InputError, match="expected finite logits"):
        augmenting.craft(work, work.pieces)
    assert len(work.missing) == len(work.pieces)


def blocks_of(number=3 * N, seed=0):
    return np.random.default_rng(seed).integers(256, size=(number, 8, 8, 1)).astype(np.uint8)


LABELS = np.tile(np.arange(N) % 10, 3)


@pytest.fixture
def saved(tmp_path):
    """Folder of an augmented set, in three pieces of unequal length, with features."""
    images = blocks_of()
    files.save(tmp_path, iter([images[:5], images[5:20], images[20:]]), LABELS, IDENTITY)
    files.save_features(tmp_path, "final", features_of(), files.load(tmp_path))
    return tmp_path


def features_of(number=3 * N, seed=1):
    return np.random.default_rng(seed).normal(size=(number, 6)).astype(np.float32)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_was_saved_is_loaded(saved):
    found = files.with_features(saved, "final", files.load(saved))
    np.testing.assert_array_equal(found.images, blocks_of())
    np.testing.assert_array_equal(found.labels, LABELS)
    np.testing.assert_array_equal(found.features, features_of())
    assert found.labels.dtype == np.int32 and found.features.dtype == np.float32
    assert found.num_clean == N and files.load(saved).features is None
    told = json.loads(json.dumps(IDENTITY))
    assert found.identity == {**told, "images_sha256": found.identity["images_sha256"]}
    assert sorted(path.name for path in saved.iterdir()) == [
        "features_final.json", "features_final.npy", "identity.json", "images.npy", "labels.npy"]
    # Read as far as it is indexed.
    assert isinstance(files.load(saved).images, np.memmap)


def test_which_set_it_is(saved, tmp_path):
    first = files.load(saved).sha256
    for changes, images in (({}, blocks_of()), ({"seed": 9}, blocks_of()), ({}, blocks_of(seed=9))):
        files.save(tmp_path / "other", [images], LABELS, IDENTITY | changes)
        is_same = not changes and np.array_equal(images, blocks_of())
        assert (files.load(tmp_path / "other").sha256 == first) == is_same


def refuse(function, *words):
    with pytest.raises(InputError) as error:
        function()
    sentence = str(error.value)
    assert "Received: " in sentence and sentence.endswith(".") and "\n" not in sentence
    for word in words:
        assert word in sentence, sentence


def test_no_set(tmp_path):
    refuse(lambda: files.load(tmp_path), f"expected an augmented set in {tmp_path}",
           "python rmc.py --mode=augment", "Received: none.")
    assert files.read_identity(tmp_path) is None


def change_pixel(folder):
    images = np.load(folder / "images.npy", mmap_mode="r+")
    images[3, 2, 2, 0] ^= 1
    images.flush()


def save_images(change):
    return lambda folder: np.save(folder / "images.npy", change(np.load(folder / "images.npy")))


def save_labels(change):
    return lambda folder: np.save(folder / "labels.npy", change(np.load(folder / "labels.npy")))


@pytest.mark.parametrize(("damage", "words"), [
    (change_pixel, "others, or damaged ones, images of shape (36, 8, 8, 1)"),
    (save_images(lambda images: images[:-1]), "others, or damaged ones, images of shape (35, 8, 8, 1)"),
    (save_images(lambda images: images / 255), "others, or damaged ones"),
    (save_images(lambda images: images[..., 0]), "others, or damaged ones"),
    (save_labels(lambda labels: labels[:-1]), "others, or damaged ones"),
    (save_labels(lambda labels: labels.astype(np.int64)), "others, or damaged ones"),
    (lambda folder: (folder / "images.npy").write_bytes(
        (folder / "images.npy").read_bytes()[:-100]), "expected a NumPy array in"),
    (lambda folder: (folder / "images.npy").unlink(), "expected a NumPy array in"),
    (lambda folder: (folder / "labels.npy").unlink(), "expected a NumPy array in"),
    (lambda folder: (folder / "identity.json").write_text("{"), "how an augmented set was made"),
    (lambda folder: (folder / "identity.json").write_text("[]"), "how an augmented set was made"),
    (lambda folder: (folder / "identity.json").write_text('{"num_train": "x"}'),
     "how an augmented set was made"),
], ids=lambda value: "" if callable(value) else value[:20])
def test_a_damaged_set_is_refused(saved, damage, words):
    damage(saved)
    before = contents(saved)
    refuse(lambda: files.load(saved), str(saved), words)
    assert contents(saved) == before


def test_a_set_of_another_network(saved):
    found = files.load(saved)
    files.check_network(saved, found, NETWORK | {"model": "mlp"})
    refuse(lambda: files.check_network(saved, found, {"weights_sha256": "b" * 64}),
           f"{saved} holds the augmented set of another network, weights_sha256=aaaaaaaaaaaa…: give "
           "its --log_root, or another --rmc_dir. Received: weights_sha256=bbbbbbbbbbbb….")
    refuse(lambda: files.check_network(saved, found, NETWORK | {"architecture_sha256": "c" * 64}),
           "architecture_sha256=unknown", "Received: architecture_sha256=cccc")


def test_features_that_are_not_there(saved):
    refuse(lambda: files.with_features(saved, "stage3", files.load(saved)),
           f'expected features_stage3.npy in {saved}, which "python rmc.py --mode=features '
           '--rmc_feature_layer=stage3" writes. Received: no such file.')


def save_features(array):
    return lambda folder: np.save(folder / "features_final.npy", array)


@pytest.mark.parametrize(("damage", "words"), [
    (lambda folder: files.save(folder, [blocks_of(seed=5)], LABELS, IDENTITY),
     "Received: features of another one."),
    (lambda folder: files.save(folder, [blocks_of()], LABELS, IDENTITY | {"seed": 9}),
     "Received: features of another one."),
    (lambda folder: (folder / "features_final.json").unlink(), "Received: features of another one."),
    (lambda folder: (folder / "features_final.json").write_text("{"), "features of another one."),
    (lambda folder: (folder / "features_final.json").write_text("[]"), "features of another one."),
    (save_features(features_of()[:-1]), "Received: float32 of shape (35, 6)."),
    (save_features(features_of().astype(np.float64)), "Received: float64 of shape (36, 6)."),
    (save_features(features_of() * np.float32(np.nan)), "expected finite features"),
    (save_features(features_of().ravel()), "Received: float32 of shape (216,)."),
    (lambda folder: (folder / "features_final.npy").write_bytes(b"x"), "expected a NumPy array in"),
], ids=lambda value: "" if callable(value) else value[:20])
def test_features_of_another_set_or_damaged_ones(saved, damage, words):
    damage(saved)
    refuse(lambda: files.with_features(saved, "final", files.load(saved)), "features_final.npy", words)


def test_a_kill_while_it_is_saved_leaves_no_set_and_no_features_of_another(saved):
    def blocks():
        yield blocks_of(20, seed=7)
        raise _Killed

    with pytest.raises(_Killed):
        files.save(saved, blocks(), LABELS, IDENTITY)
    refuse(lambda: files.load(saved), "expected an augmented set in")
    # What is made in its place is not taken to be that which the features are of.
    files.save(saved, [blocks_of(seed=7)], LABELS, IDENTITY)
    refuse(lambda: files.with_features(saved, "final", files.load(saved)), "features of another one")


def test_a_kill_while_features_are_saved_leaves_none(saved, monkeypatch):
    def dying(*_):
        raise _Killed

    found = files.load(saved)
    monkeypatch.setattr(files, "atomic", types.SimpleNamespace(
        write_npy=files.atomic.write_npy, write_json=dying))
    with pytest.raises(_Killed):
        files.save_features(saved, "final", features_of(seed=8), found)
    refuse(lambda: files.with_features(saved, "final", found), "features of another one")


def test_the_same_set_is_not_refused_and_others_are(saved):
    files.refuse_others(saved, IDENTITY)
    before = contents(saved)
    for name, value in (("eps", 0.2), ("seed", 9), ("variants", VARIANTS[:1]),
                        ("weights_sha256", "b" * 64)):
        told = json.loads(json.dumps(IDENTITY[name]))
        refuse(lambda name=name, value=value: files.refuse_others(saved, IDENTITY | {name: value}),
               f"{saved} holds an augmented set with {name}={told!r}: give --overwrite=True",
               f"Received: {name}={json.loads(json.dumps(value))!r}.")
    assert contents(saved) == before


@pytest.mark.parametrize("name", ["images.npy", "labels.npy"])
def test_files_of_nobody_are_refused(tmp_path, name):
    files.refuse_others(tmp_path, IDENTITY)
    (tmp_path / "notes.txt").write_text("mine")
    files.refuse_others(tmp_path, IDENTITY)
    (tmp_path / name).write_text("mine")
    refuse(lambda: files.refuse_others(tmp_path, IDENTITY), f"expected no {name} in {tmp_path}",
           f"Received: {name} alone.")


# --- Points ---

def columns():
    return {name: np.arange(4) + number if number % 2 else np.arange(4) / 3
            for number, name in enumerate(files.POINTS)}


def test_points_are_loaded_as_they_were_saved(tmp_path):
    # In whatever order.
    files.save_points(tmp_path, dict(reversed(columns().items())))
    found = files.load_points(tmp_path)
    assert tuple(found) == files.POINTS
    for name, array in columns().items():
        np.testing.assert_array_equal(found[name], array)
    lines = (tmp_path / "points.csv").read_text().splitlines()
    assert len(lines) == 5 and lines[0] == ",".join(files.POINTS)
    np.testing.assert_array_equal(
        [[float(value) for value in line.split(",")] for line in lines[1:]],
        np.stack(list(columns().values()), axis=1))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(files.POINTS_WRITTEN)


@pytest.mark.parametrize("change", [
    lambda arrays: arrays.pop("seconds"), lambda arrays: arrays.update(own=np.arange(4))])
def test_columns_that_are_no_points(tmp_path, change):
    arrays = columns()
    change(arrays)
    refuse(lambda: files.save_points(tmp_path, arrays), "points must hold", "missing or unknown=[")
    assert not list(tmp_path.iterdir())


def test_points_that_are_damaged(tmp_path):
    refuse(lambda: files.load_points(tmp_path), "expected points.npz in", "Received: no such file.")
    for change in (lambda arrays: arrays.pop("seconds"),
                   lambda arrays: arrays.update(seconds=np.arange(5)),
                   lambda arrays: arrays.update(seconds=np.array(["a"] * 4)),
                   lambda arrays: arrays.update({name: array[:, None] for name, array in
                                                 arrays.items()})):
        arrays = columns()
        change(arrays)
        np.savez(tmp_path / "points.npz", **arrays)
        refuse(lambda: files.load_points(tmp_path), "expected numbers stream, position")
