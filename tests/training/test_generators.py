"""A generator in training: which images its steps see, what moves, and runs that were interrupted."""

import dataclasses
import itertools
import shutil

import numpy as np
import pytest
import tensorflow as tf

from attacks.dgn import suspicion
from attacks.dgn.target import Target
from errors import InputError, RunError
from evaluation import generated
from files import atomic
from files import dgn as dgn_files
from tests.helpers import dgn_targets
from training import generators

SHAPE = (28, 28, 1)
# Of LRP on MNIST, with a rate that shows in a few steps.
RECIPE = generators.Recipe(learning_rate=1e-3, epochs=3, batch_size=4, alpha=0.5, k=20, eps=0.3,
                           decays=False, init="original")


@pytest.fixture(scope="module")
def images():
    """Bright squares on noise, of one class: two batches and a remainder."""
    stored = np.random.default_rng(0).integers(0, 60, (11, *SHAPE), dtype=np.uint8)
    stored[:, 8:20, 8:20] += 150
    return stored


def squares(u, g):
    """A loss that hangs on everything that the generator makes."""
    return tf.reduce_mean(tf.math.squared_difference(u, g))


def values(trainer):
    """Name → bytes of all that a checkpoint holds."""
    return {f"{name}/{number}": variable.numpy().tobytes()
            for name, variables in trainer.variables.items()
            for number, variable in enumerate(variables)}


def folder_of(path, trainer, **identity):
    return dgn_files.GeneratorFolder(path, {"total_steps": trainer.total_steps, **identity})


# Which images, in which order.


@pytest.mark.parametrize("kind", ["uint8", "float32"])
def test_rows_come_in_file_order_and_the_remainder_never(images, kind):
    images = images if kind == "uint8" else generated.pixels_of(images)
    seen = []

    def spied(u, g):
        tf.numpy_function(seen.append, [u], [])
        assert g.shape == u.shape
        return squares(u, g)

    trainer = generators.Trainer(images, spied, RECIPE, 0)
    assert (trainer.steps_per_epoch, trainer.total_steps, trainer.step) == (2, 6, 0)
    # Two calls, the first of which ends within an epoch.
    losses = np.concatenate([trainer.run(3), trainer.run(6)])
    assert trainer.step == 6 and losses.shape == (6,) and losses.dtype == np.float32
    expected = generated.pixels_of(images)
    for step, u in enumerate(seen):
        start = step % 2 * 4
        # Rows differ by far more than the rounding of a division that became a product.
        np.testing.assert_array_equal(u, expected[start:start + 4], err_msg=step)
    assert len(seen) == 6


def test_a_batch_larger_than_the_class_is_refused(images):
    with pytest.raises(InputError) as error:
        generators.Trainer(images, squares, dataclasses.replace(RECIPE, batch_size=12), 0)
    assert str(error.value) == ("dgn_batch must be at most the images of the smallest class, 11. "
                                "Received: dgn_batch=12.")
    whole = generators.Trainer(images, squares, dataclasses.replace(RECIPE, batch_size=11), 0)
    assert (whole.steps_per_epoch, whole.total_steps) == (1, 3)


# The learning rate.


@pytest.mark.parametrize(("decays", "rates"), [
    (False, [1.0, 1.0, 1.0, 1.0, 1.0]), (True, [1.0, 1.0, 0.9, 0.9, 0.81])])
def test_the_rate_is_constant_or_a_staircase(images, decays, rates):
    trainer = generators.Trainer(images, squares, dataclasses.replace(RECIPE, decays=decays), 0)
    found = []
    for step in (0, 999, 1000, 1999, 2000):
        trainer.optimizer.iterations.assign(step)
        found.append(float(trainer.optimizer.learning_rate))
    np.testing.assert_allclose(found, np.array(rates) * 1e-3, rtol=1e-6)
    assert trainer.optimizer.epsilon == 1e-8


# The losses, and what they leave alone.


def suspicious(network, images):
    """Lists of all classes, from hits of images as if they were of all of them."""
    spectra = Target(network).hits(dgn_targets.inputs(images), np.arange(len(images)) % 10)
    return generators.suspicious_of(spectra, 20)


def chosen(loss_name, network, images):
    if loss_name == "susp":
        return suspicious(network, images)[4]
    return np.arange(200, 220) if loss_name == "lrp" else None


@pytest.mark.parametrize("loss_name", generators.LOSSES)
def test_a_loss_falls_and_the_target_stays(images, loss_name):
    network = dgn_targets.target("mnist_5x30")
    before = network.weights_sha256()
    recipe = dataclasses.replace(RECIPE, epochs=12)
    loss = generators.LOSSES[loss_name](network, 4, recipe, chosen(loss_name, network, images))
    trainer = generators.Trainer(images, loss, recipe, 0)
    start = {variable.path: variable.numpy() for variable in trainer.model.variables}
    losses = trainer.run(trainer.total_steps)
    assert losses[-4:].mean() < losses[:2].mean() - 0.1 * np.abs(losses[:2]).mean()
    assert network.weights_sha256() == before
    # Of the generator everything moves, averages of its batch norm, too.
    assert any(path.endswith("moving_variance") for path in start)
    for variable in trainer.model.variables:
        assert np.any(variable.numpy() != start[variable.path]), variable.path


def test_the_loss_of_lrp_darkens_what_is_relevant(images):
    recipe = dataclasses.replace(RECIPE, epochs=60)
    relevant = np.arange(8 * 28 + 8, 8 * 28 + 20)
    trainer = generators.Trainer(images, generators.lrp(None, 0, recipe, relevant), recipe, 0)
    trainer.run(trainer.total_steps)
    u = generated.pixels_of(images)
    change = (trainer.model(u, training=False).numpy() - u).reshape(len(u), -1)
    others = np.setdiff1d(np.arange(change.shape[1]), relevant)
    assert change[:, others].mean() > 0.05 > change[:, relevant].mean()


def test_averages_stay_when_images_are_generated(images, tmp_path, cpu):
    trainer = generators.Trainer(images, squares, RECIPE, 0)
    trainer.run(2)
    folder = folder_of(tmp_path / "class_0", trainer)
    folder.save(trainer.variables, 2, [0.1])
    made = generated.Generators(cpu, {0: folder}, SHAPE)
    before, u = made.sha256, generated.pixels_of(images)
    first = made(u, np.zeros(len(u), np.int32))
    weights = [weight.numpy() for weight in made._model.weights]
    np.testing.assert_array_equal(made(u, np.zeros(len(u), np.int32)), first)
    for weight, after, trained in zip(weights, made._model.weights, trainer.model.weights, strict=True):
        np.testing.assert_array_equal(after.numpy(), weight)
        np.testing.assert_array_equal(trained.numpy(), weight)
    assert made.sha256 == before
    # Whatever the other images of the batch: the averages are taken, not the batch's own.
    np.testing.assert_allclose(made(u[:1], np.zeros(1, np.int32)), first[:1], rtol=0, atol=1e-6)
    np.testing.assert_allclose(trainer.model(u, training=False), first, rtol=0, atol=1e-6)
    assert np.abs(trainer.model(u, training=True) - first).max() > 1e-3


def test_each_image_is_its_class_generators(images, tmp_path, cpu):
    folders = {}
    for label in range(2):
        trainer = generators.Trainer(images, squares, RECIPE, label)
        folders[label] = folder_of(tmp_path / f"class_{label}", trainer)
        folders[label].save(trainer.variables, 1, [0.1])
    u, labels = generated.pixels_of(images), np.arange(len(images)) % 2
    both = generated.Generators(cpu, folders, SHAPE)
    mixed, swapped = both(u, labels), both(u, 1 - labels)
    for label in range(2):
        alone = both(u, np.full(len(u), label))
        np.testing.assert_allclose(mixed[labels == label], alone[labels == label], rtol=0, atol=1e-6)
        np.testing.assert_allclose(swapped[labels != label], alone[labels != label], rtol=0, atol=1e-6)
    assert np.abs(mixed - swapped).max() > 1e-3


# Runs that were interrupted.


class Killed(BaseException):
    """In place of a signal."""


class OneTrainer:
    """One trainer, traced once, whose variables start anew for each run."""

    def __init__(self, images):
        self._trainer = generators.Trainer(images, squares, RECIPE, 3)
        self._variables = [v for part in self._trainer.variables.values() for v in part]
        self._start = [variable.numpy() for variable in self._variables]

    def fresh(self):
        for variable, value in zip(self._variables, self._start, strict=True):
            variable.assign(value)
        return self._trainer


@pytest.fixture(scope="module")
def trainer(images):
    return OneTrainer(images)


@pytest.fixture(scope="module")
def uninterrupted(images, tmp_path_factory):
    """(variables, training.csv) of a run of a trainer of its own to its end."""
    own = generators.Trainer(images, squares, RECIPE, 3)
    folder = folder_of(tmp_path_factory.mktemp("whole") / "class_0", own)
    told = []
    generators.train(own, folder, told.append)
    assert told == [0, 2, 2, 2] and folder.is_finished
    return values(own), (folder.path / "training.csv").read_text()


def finish(trainer, folder):
    """Goes on to the end; steps that were told of."""
    told, fresh = [], trainer.fresh()
    generators.train(fresh, folder, told.append)
    assert sum(told) == fresh.total_steps
    return told


def assert_same(trainer, folder, uninterrupted):
    expected, csv = uninterrupted
    found = values(trainer.fresh())
    assert found != expected  # or nothing would be shown below
    folder.restore(trainer._trainer.variables)
    found = values(trainer._trainer)
    assert [name for name in expected if found[name] != expected[name]] == []
    assert (folder.path / "training.csv").read_text() == csv
    assert sorted(path.name for path in folder.path.iterdir()) == [
        "generator.json", "model.ckpt-6.data-00000-of-00001", "model.ckpt-6.index", "training.csv"]


def test_the_record_of_the_epochs(uninterrupted):
    header, *rows = uninterrupted[1].splitlines()
    assert header == "epoch,step,loss"
    assert [row.split(",")[:2] for row in rows] == [["1", "2"], ["2", "4"], ["3", "6"]]
    losses = [float(row.split(",")[2]) for row in rows]
    assert losses[2] < losses[0]


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_an_exception_after_an_epoch_that_is_not_saved(tmp_path, trainer, uninterrupted, epoch):
    folder, calls = folder_of(tmp_path / "class_0", trainer.fresh()), itertools.count()

    def told(steps):
        if next(calls) == epoch:
            raise Killed

    with pytest.raises(Killed):
        generators.train(trainer.fresh(), folder, told)
    assert folder.step == 2 * (epoch - 1)
    assert finish(trainer, folder) == [2 * (epoch - 1), *[2] * (4 - epoch)]
    assert_same(trainer, folder, uninterrupted)


def kill_after(monkeypatch, owner, name, count, *, runs_first):
    function, calls = getattr(owner, name), itertools.count(1)

    def counted(*given, **named):
        last = next(calls) == count
        if not last or runs_first:
            function(*given, **named)
        if last:
            raise Killed

    monkeypatch.setattr(owner, name, counted)


# Files that a save renames: of the first epoch the identity, too, then losses, data and index.
@pytest.mark.parametrize(("owner", "name", "count", "runs_first", "step"), [
    (dgn_files.GeneratorFolder, "save", 1, True, 2), (dgn_files.GeneratorFolder, "save", 2, True, 4),
    (atomic, "write_csv", 1, True, 0), (atomic, "write_csv", 2, True, 2),
    (atomic, "write_csv", 3, True, 4), (atomic, "write_json", 1, True, 0),
    (tf.train.Checkpoint, "write", 2, False, 2),
    (atomic.os, "replace", 3, True, 0), (atomic.os, "replace", 4, True, 2),
    (atomic.os, "replace", 6, True, 2), (atomic.os, "replace", 7, True, 4),
    (dgn_files.Path, "unlink", 4, True, 4)])
def test_a_kill_within_a_save(tmp_path, trainer, uninterrupted, monkeypatch, owner, name, count,
                              runs_first, step):
    folder = folder_of(tmp_path / "class_0", trainer.fresh())
    kill_after(monkeypatch, owner, name, count, runs_first=runs_first)
    with pytest.raises(Killed):
        generators.train(trainer.fresh(), folder)
    monkeypatch.undo()
    assert folder.step == step
    assert len(folder.losses() if step else []) == step // 2
    finish(trainer, folder)
    assert_same(trainer, folder, uninterrupted)


def test_the_folder_of_a_save_that_a_signal_cut_short_is_no_checkpoint(tmp_path, trainer,
                                                                        uninterrupted):
    folder = folder_of(tmp_path / "class_0", trainer.fresh())
    (folder.path / ".tmp-left").mkdir(parents=True)
    (folder.path / ".tmp-left/model.ckpt-6.index").write_bytes(b"half")
    assert folder.checkpoint is None
    assert finish(trainer, folder) == [0, 2, 2, 2]
    shutil.rmtree(folder.path / ".tmp-left")
    assert_same(trainer, folder, uninterrupted)


def test_a_finished_generator_is_left_as_it_is(tmp_path, trainer, uninterrupted):
    folder = folder_of(tmp_path / "class_0", trainer.fresh())
    finish(trainer, folder)
    before = {path: path.stat().st_mtime_ns for path in folder.path.iterdir()}
    assert finish(trainer, folder) == [6]
    assert {path: path.stat().st_mtime_ns for path in folder.path.iterdir()} == before
    assert_same(trainer, folder, uninterrupted)


def test_more_steps_than_a_call_has(tmp_path, trainer, uninterrupted, monkeypatch):
    monkeypatch.setattr(generators, "_STEPS_PER_CALL", 1)
    folder = folder_of(tmp_path / "class_0", trainer.fresh())
    assert finish(trainer, folder) == [0, 2, 2, 2]
    assert_same(trainer, folder, uninterrupted)


# A loss that is not finite, or explodes.


@pytest.mark.parametrize(("bad", "shown"), [(np.nan, "nan"), (-np.inf, "-inf"), (2e6, "2e")])
def test_a_bad_loss_stops_it_and_leaves_what_was_saved(images, tmp_path, bad, shown):
    wrong = tf.Variable(0.0)
    trainer = generators.Trainer(images, lambda u, g: squares(u, g) + wrong, RECIPE, 0)
    folder, calls = folder_of(tmp_path / "class_0", trainer), itertools.count()

    def told(steps):
        if next(calls) == 1:  # after the first epoch
            wrong.assign(bad)

    with pytest.raises(RunError, match=rf"diverged before step 4: its loss is {shown}.*--dgn_lr"):
        generators.train(trainer, folder, told)
    assert folder.step == 2 and len(folder.losses()) == 1


def test_a_loss_far_below_zero_is_none(images):
    trainer = generators.Trainer(images, lambda u, g: squares(u, g) - 1e9, RECIPE, 0)
    assert trainer.run(1)[0] < -1e8


# Which units a loss is given.


def spectrum(scores):
    """A hit spectrum [1, 4, ...] with these scores: of 10 wrong answers and 10 right ones."""
    of_wrong = np.rint(10 * np.asarray(scores)).astype(np.int32)
    return np.stack([10 - of_wrong, of_wrong, of_wrong, 10 - of_wrong])[np.newaxis]


def test_a_network_without_convolutions_has_one_list_over_all_sites():
    spectra = [spectrum([0.1, 0.9, 0.3]), spectrum([0.8, 0.2, 1.0])]
    np.testing.assert_allclose(suspicion.tarantula(spectra[0])[0], [0.1, 0.9, 0.3])
    (found,), = generators.suspicious_of(spectra, 3)
    np.testing.assert_array_equal(found, [5, 1, 3])  # units count on from site to site
    with pytest.raises(InputError, match=r"k must lie in \[1, 6\]\. Received: k=7\."):
        generators.suspicious_of(spectra, 7)


def test_a_network_with_convolutions_has_a_list_of_each_site():
    maps = np.array([[[0.1, 0.9, 0.5], [0.3, 0.7, 0.5]]])  # means 0.2, 0.8, 0.5
    of_class, = generators.suspicious_of([spectrum(maps), spectrum([0.4, 0.1, 0.6, 0.9])], 2)
    assert [sorted(site.tolist()) for site in of_class] == [[1, 2], [2, 3]]
    # Of a site with fewer, all.
    of_class, = generators.suspicious_of([spectrum(maps), spectrum([0.4, 0.1, 0.6, 0.9])], 4)
    assert [sorted(site.tolist()) for site in of_class] == [[0, 1, 2], [0, 1, 2, 3]]


def test_each_class_has_its_own():
    spectra = [np.concatenate([spectrum([0.9, 0.1, 0.2]), spectrum([0.1, 0.2, 0.9])])]
    assert [found[0].tolist() for found in generators.suspicious_of(spectra, 1)] == [[0], [2]]
    # Without a wrong answer all scores are 0, and the first are taken.
    never = np.zeros((1, 4, 5), np.int32)
    never[:, 0] = 7
    assert generators.suspicious_of([never], 2)[0][0].tolist() == [0, 1]
