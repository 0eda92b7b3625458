"""Streams of points: killed anywhere and started again, the same bytes; and who attacks a defender."""

import dataclasses
import types

import numpy as np
import pytest

from data.inputs import ImageSet
from data.pixels import to_network_input
from defenses.rmc.adapter import Rows
from errors import RunError
from evaluation import defended, streams
from evaluation.greedy import GreedyAttack
from evaluation.model_space import KINDS, Numbers
from files import attack_parts
from files.rmc import NUM_TOLD
from tests.defenses.test_rmc_adapter import make_adapter
from tests.helpers.defenders import defender, network, points, same_state

SEED = 3
NUM_POINTS = 5
STATES = ("sequential", "reset", "frozen")
NUMBERS = Numbers(eps=0.1, step_size=0.02, num_steps=3, rounds=2)


class _Killed(BaseException):
    """What a test stops a run with."""


@pytest.fixture(autouse=True)
def _no_clock(monkeypatch):
    """Every point takes the same time, so that files can be compared byte for byte."""
    monkeypatch.setattr(streams, "time", types.SimpleNamespace(perf_counter=lambda: 0.0))


def stream(folder, number=streams.ATTACKED, **changes):
    x, queries, labels = points(NUM_POINTS)
    return dataclasses.replace(streams.Stream(
        number=number, x=x, queries=queries, labels=labels, image_index=np.array([7, 3, 90, 4, 12]),
        seed=SEED, parts=attack_parts.Parts(folder, {"attack_method": "none"})), **changes)


class Attacker:
    """Stands in for `GreedyAttack`: gives clean images back, or others, and keeps what it was given.

    As that does, it leaves other weights in the adapter `leaves`.
    """

    def __init__(self, numbers=NUMBERS, images=None, leaves=None):
        self.numbers, self.images, self.calls = numbers, images or {}, []
        self._variables = leaves.network.model.trainable_variables if leaves else ()

    def __call__(self, weights, x, label, image_index, attempt):
        self.calls.append(([list(one) for one in weights], image_index, attempt))
        for variable in self._variables:
            variable.assign(variable + 1)
        return self.images.get(image_index, x)


def features_of(made):
    return lambda x: made.adapter.outputs(x)[1]


def run(kind, one, made, point_done=lambda arrays: None):
    """Plays a stream, as a run of rmc.py does."""
    if kind == "answer":
        streams.answer(one, made, point_done)
    else:
        streams.attack(one, made, Attacker(), features_of(made), point_done)


def files(folder):
    return {path.name: path.read_bytes() for path in (folder / "parts").iterdir()}


def assert_same_files(folder, expected):
    found = files(folder)
    assert found.keys() == expected.keys()
    assert [name for name in found if found[name] != expected[name]] == []


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Name → bytes of what a run that nothing stopped leaves, by kind and state; made once."""
    found = {}

    def make(kind, state):
        if (kind, state) not in found:
            folder = tmp_path_factory.mktemp("whole")
            run(kind, stream(folder), defender(state=state))
            found[kind, state] = files(folder)
        return found[kind, state]

    return make


@pytest.fixture
def played(monkeypatch):
    """Queries of the points that a defender answers, as they come."""
    seen, answer = [], streams.Defender.answer
    monkeypatch.setattr(streams.Defender, "answer", lambda self, point: (
        seen.append(point), answer(self, point))[1])
    return seen


# --- Killed and started again ---

# Where a kill hurts: before the state is there, between it and the part, behind both.
KILLS = {"state": "save_progress", "part": "save", "told": None}


def start_killed(kind, folder, state, where, count):
    """Plays a stream up to the `count`-th time, from 1, that it comes to a place."""
    seen = 0

    def dying(function):
        def counted(*given):
            nonlocal seen
            seen += 1
            if seen == count:
                raise _Killed
            return function(*given)
        return counted

    with pytest.MonkeyPatch.context() as patch:
        told = dying(lambda arrays: None)
        if KILLS[where]:
            told = lambda arrays: None  # noqa: E731 it counts the other function
            patch.setattr(attack_parts.Parts, KILLS[where],
                          dying(getattr(attack_parts.Parts, KILLS[where])))
        with pytest.raises(_Killed):
            run(kind, stream(folder), defender(state=state), told)


@pytest.mark.parametrize("kind", ["answer", "attack"])
@pytest.mark.parametrize(("state", "where"), [
    (state, where) for state in STATES for where in KILLS
    # Who carries nothing over has no state to save.
    if (state, where) not in {("reset", "state"), ("frozen", "state")}])
def test_a_killed_stream_ends_with_the_same_bytes(tmp_path, whole, played, kind, state, where):
    expected = whole(kind, state)
    for count in (1, 3, NUM_POINTS) if kind == "answer" else (3,):
        folder = tmp_path / str(count)
        start_killed(kind, folder, state, where, count)
        done = len(stream(folder).finished)
        assert done == (count if where == "told" else count - 1)
        assert stream(folder).is_finished == (done == NUM_POINTS)
        played.clear()
        told, made = [], defender(state=state)
        # As another run leaves them: a stream that goes on takes nothing from who plays it.
        garbage = made.adapter.initial
        made.start(garbage._replace(weights=[array + 1 for array in garbage.weights]))
        run(kind, stream(folder), made, told.append)
        assert_same_files(folder, expected)
        # Each point is told of, those that were there too, and none is played twice.
        assert len(told) == NUM_POINTS and stream(folder).is_finished
        queries = {tuple(point.query) for point in played}
        assert len(queries) == NUM_POINTS - done


def test_killed_again_and_again(tmp_path, whole):
    for where, count in (("part", 1), ("told", 1), ("state", 2), ("part", 1), ("state", 1),
                         ("told", 4)):
        start_killed("answer", tmp_path, "sequential", where, count)
    run("answer", stream(tmp_path), defender())
    assert_same_files(tmp_path, whole("answer", "sequential"))


def test_what_is_finished_is_played_once(tmp_path, whole, played):
    for state in STATES:
        folder, made = tmp_path / state, defender(state=state)
        run("answer", stream(folder), made)
        after = made.adapter.snapshot()
        played.clear()
        told = []
        made.start()
        streams.answer(stream(folder), made, told.append)
        assert not played
        np.testing.assert_array_equal(
            [arrays["logits"][0] for arrays in told], stream(folder).arrays()["logits"])
        assert_same_files(folder, whole("answer", state))
        # One that carries over is left as after the last point.
        assert same_state(made.adapter.snapshot(), after)


def test_the_state_after_the_last_point(tmp_path):
    made = defender()
    run("answer", stream(tmp_path), made)
    after = made.adapter.snapshot()
    made.start()
    streams.final_state(stream(tmp_path), made)
    assert same_state(made.adapter.snapshot(), after)
    assert made.adapter.drift() == stream(tmp_path).arrays()["drift"][-1] > 0


def progress(folder):
    path, = (folder / "parts").glob("*.progress")
    return path


DAMAGES = {"deleted": lambda path: path.unlink(), "damaged": lambda path: path.write_bytes(b"damaged"),
           "cut": lambda path: path.write_bytes(path.read_bytes()[:-40]),
           "empty": lambda path: path.write_bytes(b"")}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("count", [3, NUM_POINTS])
def test_without_its_state_a_stream_is_played_again_to_the_same_bytes(tmp_path, whole, played, damage,
                                                                      count):
    start_killed("answer", tmp_path, "sequential", "told", count)
    DAMAGES[damage](progress(tmp_path))
    played.clear()
    told = []
    run("answer", stream(tmp_path), defender(), told.append)
    assert len(played) == len(told) == NUM_POINTS
    assert_same_files(tmp_path, whole("answer", "sequential"))


def test_it_goes_on_from_the_newest_state_that_is_there(tmp_path, whole, played):
    start_killed("answer", tmp_path, "sequential", "told", 2)
    older = progress(tmp_path)
    kept = older.read_bytes()
    start_killed("answer", tmp_path, "sequential", "told", 4)  # of two that were there
    progress(tmp_path).unlink()
    older.write_bytes(kept)
    played.clear()
    run("answer", stream(tmp_path), defender())
    assert len(played) == NUM_POINTS - 2
    assert_same_files(tmp_path, whole("answer", "sequential"))


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_part_is_made_anew(tmp_path, whole, played, state, damage):
    run("answer", stream(tmp_path), defender(state=state))
    DAMAGES[damage](tmp_path / "parts" / f"{stream(tmp_path).name(2)}.npz")
    assert stream(tmp_path).finished == [0, 1, 3, 4]
    played.clear()
    run("answer", stream(tmp_path), defender(state=state))
    # The state before it is gone: only who carries nothing over can play it alone.
    assert len(played) == (NUM_POINTS if state == "sequential" else 1)
    assert_same_files(tmp_path, whole("answer", state))


def test_only_who_carries_over_saves_states(whole):
    for kind in ("answer", "attack"):
        for state in STATES:
            names = [name for name in whole(kind, state) if name.endswith(".progress")]
            assert len(names) == (state == "sequential"), names


# --- What is told of a point ---

def test_what_is_kept_of_a_point(tmp_path):
    made, (x, queries, labels) = defender(), points(NUM_POINTS)
    run("answer", stream(tmp_path), made)
    found = stream(tmp_path).arrays()
    made.start()
    nearest, drift = [], []
    for position in range(NUM_POINTS):
        point = streams.Point(x[position], queries[position], (
            SEED, streams.ATTACKED, int(stream(tmp_path).image_index[position])))
        answered = made.answer(point)
        np.testing.assert_array_equal(found["logits"][position], answered.logits)
        np.testing.assert_array_equal(found["features"][position], answered.features)
        losses = answered.adapted.validation_losses
        assert (found["validation_first"][position], found["validation_last"][position],
                found["validation_best"][position]) == (losses[0], losses[-1], min(losses))
        assert found["epochs_adapt"][position] == 2
        assert found["epochs_calibrate"][position] == made.finish(point).epochs
        nearest.append(answered.nearest)
        drift.append(made.adapter.drift())
        assert (found["webnn"][position], found["deepnn"][position]) == (
            answered.webnn, answered.deepnn)
    np.testing.assert_array_equal(found["predicted"], found["logits"].argmax(axis=1))
    np.testing.assert_array_equal(found["label"], labels)
    np.testing.assert_array_equal(found["nearest"], np.array(nearest)[:, :NUM_TOLD])
    np.testing.assert_array_equal(found["drift"], drift)
    rows = made.augmented
    np.testing.assert_allclose(found["share_true_label"],
                               (rows.labels[nearest] == labels[:, None]).mean(axis=1))
    np.testing.assert_allclose(found["share_adversarial"],
                               (np.array(nearest) < len(rows.labels) * 3 // 4).mean(axis=1))
    assert len(np.unique(found["share_adversarial"])) > 1


def test_a_frozen_defender_tells_of_no_fit(tmp_path):
    run("answer", stream(tmp_path), defender(state="frozen"))
    found = stream(tmp_path).arrays()
    for name in ("epochs_adapt", "epochs_calibrate", "drift"):
        assert not found[name].any()
    for name in ("first", "best", "last"):
        assert np.isnan(found[f"validation_{name}"]).all()


def test_clean_and_attacked_streams_draw_otherwise(tmp_path):
    found = []
    for number in (streams.CLEAN, streams.ATTACKED):
        run("answer", stream(tmp_path, number), defender(state="reset"))
        found.append(stream(tmp_path, number).arrays()["logits"])
    assert not any(np.array_equal(*pair) for pair in zip(*found, strict=True))


# --- Shards ---

@pytest.mark.parametrize("state", ["reset", "frozen"])
def test_shards_together_leave_what_one_run_leaves(tmp_path, whole, state):
    for index in (1, 2, 0):
        assert not stream(tmp_path).is_finished
        told = []
        streams.answer(stream(tmp_path, shard=(index, 3)), defender(state=state), told.append)
        assert len(told) == {1: 2, 2: 3, 0: 5}[index]  # its own, and those that were there before
    assert stream(tmp_path).is_finished
    assert_same_files(tmp_path, whole("answer", state))


# --- What diverges ---

def test_a_fit_that_diverges_names_the_point(tmp_path, monkeypatch, whole):
    made = defender(state="reset")
    fit, calls = made.adapter.fit, []

    def diverging(*given):
        calls.append(given)
        if len(calls) == 3:
            raise RunError("has diverged: its loss is nan")
        return fit(*given)

    with monkeypatch.context() as patch:
        patch.setattr(made.adapter, "fit", diverging)
        with pytest.raises(RunError) as error:
            streams.answer(stream(tmp_path), made)
    assert str(error.value) == ("the adaptation of point 3 has diverged: its loss is nan; the stream "
                                "is finished up to point 2.")
    assert stream(tmp_path).finished == [0, 1]
    # What it left goes on.
    streams.answer(stream(tmp_path), made)
    assert_same_files(tmp_path, whole("answer", "reset"))


def test_a_rate_that_is_too_large_is_a_run_that_diverges(tmp_path):
    made = streams.Defender(make_adapter(rate=float("inf"), epochs=2), defender().augmented,
                            defender().settings)
    with pytest.raises(RunError, match=r"point 1 has diverged: its loss is nan; .* up to point 0\."):
        streams.answer(stream(tmp_path), made)
    assert not (tmp_path / "parts").exists()


# --- The attack ---

@pytest.mark.parametrize("state", STATES)
def test_the_attacker_knows_the_state_and_gives_it_back(tmp_path, played, monkeypatch, state):
    made = defender(state=state)
    attacker = Attacker(dataclasses.replace(NUMBERS, rounds=3), leaves=made.adapter)
    before_answers, after_answers, features_at = [], [], []
    answer, features = streams.Defender.answer, features_of(made)

    def answering(self, point):
        before_answers.append(self.adapter.snapshot())
        found = answer(self, point)
        after_answers.append(self.adapter.snapshot())
        return found

    def looking(x):
        features_at.append(made.adapter.snapshot())
        return features(x)

    monkeypatch.setattr(streams.Defender, "answer", answering)
    begun = made.adapter.initial
    one = stream(tmp_path, streams.ATTACKER)
    streams.attack(one, made, attacker, looking)
    rounds = one.arrays()["rounds"]
    assert rounds.sum() == len(attacker.calls) == len(played) == len(before_answers)
    assert 1 in rounds and 3 in rounds  # the goldens' points are wrong at once, the rows right
    # Features are of the network as it was trained.
    assert all(same_state(found, begun) for found in features_at)
    call = 0
    state_now = begun
    for position, number in enumerate(rounds):
        expected = [state_now.weights]
        for attempt in range(number):
            weights, index, told_attempt = attacker.calls[call]
            assert (index, told_attempt) == (one.image_index[position], attempt)
            # Those before the point, and behind them what each round has found.
            assert len(weights) == attempt + 1
            assert all(np.array_equal(a, b) for ours, theirs in zip(weights, expected, strict=True)
                       for a, b in zip(ours, theirs, strict=True))
            # Each round adapts anew, from the state before the point.
            assert same_state(before_answers[call], state_now)
            expected.append(after_answers[call].weights)
            call += 1
        if state == "sequential":
            # The copy goes on from the last image.
            made.start(after_answers[call - 1])
            made.finish(played[call - 1])
            state_now = made.adapter.snapshot()
    if state == "sequential":
        streams.final_state(one, made)
        assert same_state(made.adapter.snapshot(), state_now)


def test_it_stops_at_the_first_wrong_answer_and_keeps_that_image(tmp_path):
    x, _, labels = points(NUM_POINTS)
    index = stream(tmp_path).image_index
    # Of the rows, which are right, the second is shown as an image of another class.
    other = x[3] if labels[3] != labels[4] else x[2]
    attacker = Attacker(dataclasses.replace(NUMBERS, rounds=4), {int(index[4]): other})
    one, made = stream(tmp_path, streams.ATTACKER), defender(state="frozen")
    streams.attack(one, made, attacker, features_of(made))
    found = one.arrays()
    right = found["predicted"] == labels
    np.testing.assert_array_equal(found["rounds"], np.where(right, 4, 1))
    assert right[3] and not right[4]
    np.testing.assert_array_equal(found["adversarial"][4], other)
    np.testing.assert_array_equal(found["adversarial"][:4], x[:4])


def test_the_replay_draws_otherwise_than_the_attacker(tmp_path, monkeypatch):
    made, orders = defender(state="reset"), []
    fit = made.adapter.fit

    def spy(train, validation, draw):
        orders.append((Rows(*validation).images, draw(0)[0]))
        return fit(train, validation, draw)

    monkeypatch.setattr(made.adapter, "fit", spy)
    attacker = Attacker(dataclasses.replace(NUMBERS, rounds=2))
    one = stream(tmp_path, streams.ATTACKER)
    streams.attack(one, made, attacker, features_of(made))
    attacked, rounds = orders.copy(), one.arrays()["rounds"]
    orders.clear()
    streams.answer(stream(tmp_path, streams.ATTACKED), made)
    # The same images, with the same neighbours, and not one of the draws.
    starts = np.cumsum([0, *rounds[:-1]])
    for position, (validation, order) in enumerate(orders):
        for theirs, their_order in attacked[starts[position]:starts[position] + rounds[position]]:
            assert not np.array_equal(order, their_order)
            assert not np.array_equal(validation, theirs)
    # Nor do the rounds of a point share one.
    assert rounds.max() == 2
    position = rounds.argmax()
    assert not np.array_equal(attacked[starts[position]][1], attacked[starts[position] + 1][1])


@pytest.fixture(scope="module")
def greedy():
    """Kind → attack, each traced once."""
    one = network()
    return {kind: GreedyAttack(one, KINDS[kind], NUMBERS, SEED) for kind in KINDS}


def two_weights():
    made = defender(state="sequential")
    first = made.adapter.initial.weights
    x, queries, _ = points()
    made.answer(streams.Point(x[0], queries[0], (1,)))
    return first, made.adapter.snapshot().weights


@pytest.mark.parametrize("kind", KINDS)
def test_the_image_stays_in_ball_and_box(greedy, kind):
    x, _, labels = points(NUM_POINTS)
    for number in range(NUM_POINTS):
        image = greedy[kind](two_weights(), x[number], labels[number], number, 0)
        assert image.shape == x[number].shape and image.dtype == np.float32
        assert np.abs(image - x[number]).max() <= NUMBERS.eps + 1e-6
        assert np.abs(image).max() <= 0.5
        assert np.abs(image - x[number]).max() > 0.5 * NUMBERS.eps


def test_of_one_model_all_three_are_the_same(greedy):
    x, _, labels = points(NUM_POINTS)
    first, second = two_weights()
    for number in range(NUM_POINTS):
        images = [attack([first], x[number], labels[number], number, 0) for attack in greedy.values()]
        assert all(np.array_equal(images[0], image) for image in images)
        # FPA looks at the newest alone; the others at all.
        given = x[number], labels[number], number, 0
        np.testing.assert_array_equal(greedy["fpa"]([second, first], *given), images[0])
        # Twice the same loss leads to the same image.
        np.testing.assert_array_equal(greedy["gmsa_avg"]([first, first], *given), images[0])


def test_models_change_the_image_of_those_who_look_at_all(greedy):
    x, _, labels = points(NUM_POINTS)
    first, second = two_weights()
    given = x[3], labels[3], 3, 0
    both = greedy["gmsa_avg"]([first, second], *given)
    for one in (first, second):
        assert not np.array_equal(both, greedy["gmsa_avg"]([one], *given))
    assert not np.array_equal(greedy["fpa"]([first, second], *given), greedy["fpa"]([first], *given))


def test_the_minimum_takes_so_many_steps_for_each_model(greedy):
    x, _, labels = points(NUM_POINTS)
    first, _ = two_weights()
    longer = GreedyAttack(network(), KINDS["fpa"], dataclasses.replace(
        NUMBERS, num_steps=3 * NUMBERS.num_steps), SEED)
    given = x[3], labels[3], 3, 0
    np.testing.assert_array_equal(greedy["gmsa_min"]([first] * 3, *given), longer([first], *given))
    assert not np.array_equal(longer([first], *given), greedy["fpa"]([first], *given))


def test_a_start_follows_from_image_and_round_alone(greedy):
    x, _, labels = points(NUM_POINTS)
    weights = [two_weights()[0]]
    found = greedy["fpa"](weights, x[3], labels[3], 3, 0)
    np.testing.assert_array_equal(greedy["fpa"](weights, x[3], labels[3], 3, 0), found)
    for index, attempt in ((4, 0), (3, 1)):
        assert not np.array_equal(greedy["fpa"](weights, x[3], labels[3], index, attempt), found)


def test_a_real_attack_is_traced_once_and_lowers_the_margin(tmp_path, greedy):
    made = defender()
    attacker = GreedyAttack(made.adapter.network, KINDS["gmsa_avg"], NUMBERS, SEED)
    one = stream(tmp_path, streams.ATTACKER)
    streams.attack(one, made, attacker, features_of(made))
    assert attacker._run.experimental_get_tracing_count() == 1
    found, (x, _, labels) = one.arrays(), points(NUM_POINTS)
    assert np.abs(found["adversarial"] - x).max() <= NUMBERS.eps + 1e-6
    logits, clean = (network().logits(images).numpy() for images in (found["adversarial"], x))
    assert np.all(logits[range(NUM_POINTS), labels] < clean[range(NUM_POINTS), labels])
    assert made.adapter.drift() > 0


# --- Which images ---

LABELS = np.random.default_rng(0).integers(10, size=60)


@pytest.mark.parametrize("kind", ["shuffled", "file", "by_class"])
def test_no_image_is_in_the_stream_and_held_out(kind):
    stream_rows, heldout = defended.Order(kind, 20, 30, 4).rows(LABELS)
    assert (len(stream_rows), len(heldout)) == (20, 30)
    assert len({*stream_rows, *heldout}) == 50
    # As many as there are left.
    stream_rows, heldout = defended.Order(kind, 50, 30, 4).rows(LABELS)
    assert len({*stream_rows, *heldout}) == 60
    assert not len(defended.Order(kind, 60, 30, 4).rows(LABELS)[1])
    assert not len(defended.Order(kind, 20, 0, 4).rows(LABELS)[1])


@pytest.mark.parametrize("kind", ["shuffled", "file"])
def test_a_smaller_number_is_a_prefix(kind):
    longer, _ = defended.Order(kind, 30, 5, 4).rows(LABELS)
    for number in (1, 7, 29):
        np.testing.assert_array_equal(defended.Order(kind, number, 5, 4).rows(LABELS)[0],
                                      longer[:number])


def test_orders():
    shuffled, by_class, file = (defended.Order(kind, 30, 10, 4).rows(LABELS)
                                for kind in ("shuffled", "by_class", "file"))
    np.testing.assert_array_equal(file[0], np.arange(30))
    np.testing.assert_array_equal(file[1], np.arange(30, 40))
    # The same images; the classes one after the other, within each in the order drawn.
    assert set(by_class[0]) == set(shuffled[0])
    assert np.all(np.diff(LABELS[by_class[0]]) >= 0)
    for label in range(10):
        np.testing.assert_array_equal(by_class[0][LABELS[by_class[0]] == label],
                                      shuffled[0][LABELS[shuffled[0]] == label])
    np.testing.assert_array_equal(by_class[1], shuffled[1])
    assert not np.array_equal(shuffled[0], defended.Order("shuffled", 30, 10, 5).rows(LABELS)[0])


def test_chosen_images_are_those_of_their_rows():
    images = np.random.default_rng(1).integers(256, size=(60, 8, 8, 1)).astype(np.uint8)
    order = defended.Order("by_class", 20, 10, 4)
    for found, rows in zip(defended.choose(ImageSet(images, LABELS, 10, "own", True), order),
                           order.rows(LABELS), strict=True):
        np.testing.assert_array_equal(found.x, to_network_input(images[rows]))
        np.testing.assert_array_equal(found.labels, LABELS[rows])
        np.testing.assert_array_equal(found.image_index, rows)
        assert found.x_adv is None and found.target is None
