"""Fits against the authors' own class (golden/README_RMC.md), and what a fit leaves alone."""

import numpy as np
import pytest

from data.pipeline import NO_CROP
from data.pixels import to_network_input
from defenses.rmc.adapter import Adapter, Rows, State, StopRule, state_of
from errors import RunError
from networks import heads
from networks.network import Network
from tests.helpers.golden import golden
from tests.helpers.rmc import digits_network
from training.optimizers import make_optimizer

# Read once: an npz decompresses an array at each access.
GOLDEN = dict(golden("rmc_adapt").items())
RUNS = sorted({name.split("/")[0] for name in GOLDEN if "numbers_lr" in name})
# Five times the distances of an independent loop: losses and weights and Adam's slots (relative),
# logits (absolute).
TIGHT = {"losses": 5e-7, "weights": 5e-8, "m": 8e-7, "v": 1.5e-5, "logits": 3e-6}
LONG = {"losses": 9e-3, "weights": 3e-3, "m": 1e-1, "v": 5e-3, "logits": 6e-2}
MEASURED = {
    "capped": TIGHT,
    "rce_objective": {"losses": 4e-6, "weights": 2e-6, "m": 2e-5, "v": 2e-5, "logits": 4e-5},
    "sequence/point0_adapt": {"losses": 1.6e-5, "weights": 1.4e-6, "m": 3e-5, "v": 2e-5,
                              "logits": 2e-5},
    "sequence/point0_calibrate": {"losses": 2.2e-5, "weights": 1.5e-5, "m": 1.5e-4, "v": 2e-5,
                                  "logits": 2e-4}}


def _phases(run):
    found = {name.rsplit("/", 1)[0] for name in GOLDEN if name.startswith(f"{run}/")
             and name.endswith("/train_rows")}
    return sorted(found, key=lambda phase: (phase.rsplit("_", 1)[0], phase.endswith("calibrate")))


PHASES = [phase for run in RUNS for phase in _phases(run)]


def make_adapter(head="ce", *, rate=1e-3, batch=128, epochs=100, patience=5, augment=False):
    model = digits_network(GOLDEN)
    optimizer = make_optimizer("adam", rate, adam_epsilon=1e-7)
    optimizer.build(model.trainable_variables)
    return Adapter(Network(model, heads.get(head)), optimizer, batch_size=batch, epochs=epochs,
                   patience=patience, augment=augment)


def _name(variable):
    return "/".join(variable.path.split("/")[-2:])


def _slot_names(adapter):
    """Of each of the optimizer's variables its name in the goldens; None of the learning rate."""
    trained = {_name(v).replace("/", "_"): _name(v) for v in adapter.network.model.trainable_variables}
    found = []
    for variable in adapter._optimizer.variables:
        leaf = variable.path.split("/")[-1]
        kind = "m" if leaf.endswith("momentum") else "v"
        own = next((name for key, name in trained.items()
                    if leaf in (f"{key}_momentum", f"{key}_velocity")), None)
        found.append("adam_iterations" if leaf == "iteration" else own and f"adam_{kind}/{own}")
    return found


def _state_after(adapter, phase):
    """The state that is stored after a phase."""
    slots = [adapter.initial.slots[number] if name is None else GOLDEN[f"{phase}/{name}"]
             for number, name in enumerate(_slot_names(adapter))]
    return State([GOLDEN[f"{phase}/weights/{_name(v)}"]
                  for v in adapter.network.model.trainable_variables], slots)


def _rows(rows):
    return Rows(GOLDEN["images_uint8"][rows], GOLDEN["labels"][rows].astype(np.int32))


def _distance(found, expected):
    return np.linalg.norm(found - expected) / max(np.linalg.norm(expected), 1e-30)


_ADAPTERS = {}


def _adapter_of(run):
    if run not in _ADAPTERS:
        rate, epochs, patience, _, batch, _ = GOLDEN[f"{run}/numbers_lr_epochs_patience_k_batch_seed"]
        _ADAPTERS[run] = make_adapter("rce" if run.startswith("rce") else "ce", rate=float(rate),
                                      batch=int(batch), epochs=int(epochs), patience=int(patience))
    return _ADAPTERS[run]


@pytest.mark.parametrize("phase", PHASES)
def test_a_fit_as_the_authors(phase):
    run = phase.split("/")[0]
    adapter = _adapter_of(run)
    before = PHASES.index(phase) - 1
    # Long fits drift apart: each phase begins where the authors' phase before ended.
    starts_anew = before < 0 or PHASES[before].split("/")[0] != run
    adapter.restore(adapter.initial if starts_anew else _state_after(adapter, PHASES[before]))
    orders = GOLDEN[f"{phase}/orders"]
    epochs, cap = int(GOLDEN[f"{phase}/epochs"]), len(orders)
    none = np.full(orders.shape[1], NO_CROP)
    history = adapter.fit(_rows(GOLDEN[f"{phase}/train_rows"]), _rows(GOLDEN[f"{phase}/val_rows"]),
                          lambda epoch: (orders[min(epoch, cap - 1)], none))
    assert history.epochs == epochs
    bound = MEASURED.get(phase, MEASURED.get(run, LONG))
    np.testing.assert_allclose(history.step_losses[0], GOLDEN[f"{phase}/train_loss_per_step"][0],
                               rtol=5 * 1.2e-7 if starts_anew else 5 * bound["losses"])
    np.testing.assert_allclose(history.step_losses, GOLDEN[f"{phase}/train_loss_per_step"],
                               rtol=5 * bound["losses"])
    np.testing.assert_allclose(history.validation_losses, GOLDEN[f"{phase}/val_loss_per_epoch"],
                               rtol=5 * bound["losses"])
    found, expected = adapter.snapshot(), _state_after(adapter, phase)
    assert max(map(_distance, found.weights, expected.weights)) <= 5 * bound["weights"]
    for name, slot, wanted in zip(_slot_names(adapter), found.slots, expected.slots, strict=True):
        assert name is None or _distance(slot, wanted) <= 5 * bound[
            "v" if name.startswith("adam_v") else "m"], name
    point = GOLDEN[f"{run}/points"][int(phase.split("point")[1].split("_")[0])]
    x = to_network_input(GOLDEN["point_images_uint8"][point:point + 1])
    logits, _ = adapter.outputs(x)
    raw = adapter.network.head.sign * logits
    np.testing.assert_allclose(raw, GOLDEN[f"{phase}/logits_of_point"], atol=5 * bound["logits"],
                               rtol=0)


def _some(number, seed=0):
    rng = np.random.default_rng(seed)
    return _rows(rng.integers(len(GOLDEN["labels"]), size=number))


def _draw(number, seed=0):
    rng = np.random.default_rng(seed)
    return lambda _: (rng.permutation(number), np.full(number, NO_CROP))


def test_statistics_of_batch_norm_stay_and_its_scale_learns():
    adapter = make_adapter(epochs=2)
    statistics = {v.path: v.numpy() for v in adapter.network.model.non_trainable_variables}
    adapter.fit(_some(50), _some(10, 1), _draw(50))
    for variable in adapter.network.model.non_trainable_variables:
        np.testing.assert_array_equal(variable.numpy(), statistics[variable.path])
    moved = {_name(v): not np.array_equal(v.numpy(), before) for v, before in zip(
        adapter.network.model.trainable_variables, adapter.initial.weights, strict=True)}
    assert all(moved.values())
    assert adapter.drift() > 0


@pytest.mark.parametrize(("losses", "epochs"), [
    ([1, 2, 2, 2, 2, 2], 6), ([3, 2, 1, 1, 1, 1, 1, 1], 8), (list(range(100, 0, -1)), 100),
    ([1, 1, 1, 1, 1, 1, 1], 6)])
def test_the_stop_rule(losses, epochs):
    rule = StopRule(100, 5)
    seen = next(number for number, loss in enumerate(losses, 1) if rule.ends_after(loss))
    assert seen == epochs


def test_a_restored_state_is_the_same_bit_for_bit_and_steps_as_before():
    adapter = make_adapter(epochs=3)
    adapter.fit(_some(40), _some(10, 1), _draw(40))
    middle = adapter.snapshot()
    first = adapter.fit(_some(40, 2), _some(10, 3), _draw(40, 5))
    after = adapter.snapshot()
    # Through arrays, as a file holds it.
    adapter.restore(state_of(middle.arrays()))
    for found, expected in zip(adapter.snapshot(), middle, strict=True):
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one, other)
    second = adapter.fit(_some(40, 2), _some(10, 3), _draw(40, 5))
    np.testing.assert_array_equal(first.step_losses, second.step_losses)
    for one, other in zip(adapter.snapshot().weights, after.weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_fits_of_all_lengths_share_one_trace():
    adapter = make_adapter(epochs=1)
    for number in (128, 77, 51, 200):
        adapter.fit(_some(number), _some(9 + number % 7, 1), _draw(number))
        adapter.outputs(np.zeros((number % 5 + 1, 8, 8, 1), np.float32))
    assert adapter._run_epoch.experimental_get_tracing_count() == 1
    assert adapter._run_outputs.experimental_get_tracing_count() == 1


def test_a_fit_that_diverges_is_told():
    adapter = make_adapter(rate=float("nan"), epochs=3)
    with pytest.raises(RunError, match="has diverged: its loss is nan"):
        adapter.fit(_some(40), _some(10, 1), _draw(40))


def test_without_a_crop_augmentation_changes_nothing_and_with_one_it_does():
    plain, augmented = make_adapter(epochs=1), make_adapter(epochs=1, augment=True)
    losses = plain.fit(_some(40), _some(10, 1), _draw(40)).step_losses
    np.testing.assert_array_equal(
        augmented.fit(_some(40), _some(10, 1), _draw(40)).step_losses, losses)
    augmented.restore(augmented.initial)
    order, _ = _draw(40)(0)
    cropped = augmented.fit(_some(40), _some(10, 1), lambda _: (order, np.zeros(40, np.int64)))
    assert cropped.step_losses[0] != losses[0]
