"""Training with stored adversarial images: gf step for step as the original's, starts, batches."""

import dataclasses
import functools
import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from data import inputs
from errors import InputError
from files.checkpoints import TrainingRun
from networks import heads, restoring
from networks.network import Network
from networks.spec import NetworkSpec
from resnet_model import FusedBatchNorm
from tests.helpers import dgn_targets
from tests.helpers.golden import golden
from training import OBJECTIVES, TrainingAttack, mixed, optimizers
from training import loop as training_loop

SPEC = NetworkSpec("mnist", (28, 28, 1), 10, 0, "ce", "mnist_5x30")
PLAIN = OBJECTIVES["plain"].weights
# Of online: what the training record tells of it.
ATTACK = TrainingAttack(0.3, 0.01, 7)


def recipe_of(kind, ratio=0.5, **changes):
    """Of batches of 100 in file order, as the golden steps are."""
    return dataclasses.replace(mixed.Recipe(kind, ratio, 1e-3, 1, 100, False, 0), **changes)


def run_of(recipe, num_images=500, spec=SPEC, attack="nce"):
    return mixed.run_of(recipe, spec, attack, num_images, ATTACK)


def image_set(images, labels):
    return inputs.ImageSet(images, np.asarray(labels, np.int32), 10, "a test", True)


def target():
    """The public target, as one that was restored."""
    return dataclasses.replace(dgn_targets.target("mnist_5x30"), expected=SPEC)


def train_loop(cpu, run, model):
    """The loop of a run as `loop.train` makes it where attacked images are given."""
    optimizer = optimizers.build_for(run, cpu, model)
    return training_loop.make_train_loop(
        cpu, model, optimizer, heads.get(run.objective), run.batch_size, attack=None,
        weights=run.objective_weights, weight_decay=run.weight_decay)


# --- gf, the original's graph from the public target's weights ---

@functools.cache
def stored():
    """The images of the golden steps and what was made of them, both as networks take them; labels."""
    arrays = golden("dgn_generation_gf_public")
    x, x_adv = (arrays[f"gf/{name}"].reshape(-1, 28, 28, 1) for name in ("x", "x_adv"))
    return image_set(x, arrays["gf/labels"]), dgn_targets.inputs(x_adv)


def kernels_and_biases(model):
    """In the order of `variable_names`: W1 ... W6, b1 ... b6."""
    values = [weight.numpy() for weight in model.weights]
    return values[::2] + values[1::2]


# Measured: losses 7.7e-7, norms 7.2e-8 (one bias, two last bits), weights 2.1e-8; with Keras's Adam
# 3.4e-6, 2.1e-7 and 6e-8.
LOSSES, NORMS, WEIGHTS = 1e-6, 1e-7, 3e-8


@pytest.mark.parametrize("ratio", [0.5, 0.8, 1.0])
def test_five_steps_of_gf_are_the_originals(cpu, ratio):
    arrays, (images, attacked) = golden("dgn_generation_gf_public"), stored()
    own = {name: arrays[f"gf/ratio{ratio}/{name}"]
           for name in ("loss", "l2norm_per_step", "after5_first8")}
    recipe = recipe_of("gf", ratio)
    run = run_of(recipe)
    batches = mixed.source(recipe, run, target(), images, np.arange(500), attacked).batches
    with cpu.scope():
        model = target().model
    loop = train_loop(cpu, run, model)
    iterator = iter(cpu.experimental_distribute_dataset(batches(0)))
    for step in range(5):
        cost, good_steps, _ = loop(iterator, tf.constant(1))
        np.testing.assert_allclose(cost, own["loss"][step], rtol=LOSSES)
        norms = [np.linalg.norm(value.astype(np.float64)) for value in kernels_and_biases(model)]
        for name, ours, norm in zip(arrays["gf/variable_names"], norms, own["l2norm_per_step"][step],
                                    strict=True):
            np.testing.assert_allclose(ours, norm, rtol=NORMS, err_msg=name)
        assert good_steps == 1
    with pytest.raises(StopIteration):
        next(iterator)
    first = [np.resize(value, 8) for value in kernels_and_biases(model)]
    np.testing.assert_allclose(first, own["after5_first8"], rtol=1e-7, atol=WEIGHTS)


def with_averages():
    """A network that has averages of what it has seen."""
    images = keras.Input((28, 28, 1))
    x = keras.layers.Conv2D(3, 5, 4, kernel_initializer=keras.initializers.GlorotUniform(1))(images)
    features = keras.layers.Flatten()(FusedBatchNorm()(x))
    logits = keras.layers.Dense(
        10, kernel_initializer=keras.initializers.GlorotUniform(2))(features)
    return keras.Model(images, (logits, features))


def bytes_after(cpu, build, weights, elements):
    """Bytes of all weights, and the parts of the last loss, of a network after its steps."""
    run = dataclasses.replace(run_of(recipe_of("gf")), objective_weights=weights)
    with cpu.scope():
        model = build()
    loop = train_loop(cpu, run, model)
    elements = tuple(map(np.stack, zip(*elements, strict=True)))
    _, good_steps, parts = loop(iter(tf.data.Dataset.from_tensor_slices(elements)),
                                tf.constant(len(elements[0])))
    assert good_steps == len(elements[0])
    return [weight.numpy().tobytes() for weight in model.weights], [float(part) for part in parts]


@pytest.mark.parametrize(("ratio", "kept"), [(1.0, "images"), (0.0, "attacked")])
def test_at_an_end_of_the_ratio_the_other_images_do_not_count(cpu, ratio, kept):
    """Ratio 1 is plain training on clean images, 0 on attacked ones, to the bit; averages, too."""
    weights = run_of(recipe_of("gf", ratio)).objective_weights
    assert len(weights) == 1
    images, attacked = stored()
    x = {"images": dgn_targets.inputs(images.images), "attacked": attacked}
    steps = [slice(start, start + 100) for start in (0, 100)]
    ours, _ = bytes_after(cpu, with_averages, weights, [
        (x["images"][rows], images.labels[rows], attacked[rows]) for rows in steps])
    plain, _ = bytes_after(cpu, with_averages, PLAIN, [
        (x[kept][rows], images.labels[rows]) for rows in steps])
    assert ours == plain


def test_each_part_of_the_loss_is_told(cpu):
    images, attacked = stored()
    clean, labels = dgn_targets.inputs(images.images[:100]), images.labels[:100]
    weights = run_of(recipe_of("gf", 0.8)).objective_weights
    _, parts = bytes_after(cpu, lambda: target().model, weights, [(clean, labels, attacked[:100])])
    expected = [np.mean(tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels, target().logits(x))) for x in (clean, attacked[:100])]
    np.testing.assert_allclose(parts, expected, rtol=1e-5)
    assert expected[1] > 2 * expected[0]  # or it would not show which is which


def test_two_replicas_share_the_batches(cpu, two_cpus):
    """Of an odd number of images, too."""
    recipe = recipe_of("gf", batch_size=25, epochs=1)
    images, attacked = stored()
    run = run_of(recipe, 75)
    source = mixed.source(recipe, run, target(), images, np.arange(75), attacked[:75])
    found = []
    for strategy in (cpu, two_cpus):
        network = restoring.build_network(strategy, run, seed=1)
        loop = train_loop(strategy, run, network.model)
        batches = iter(strategy.experimental_distribute_dataset(source.batches(0)))
        cost, good_steps, _ = loop(batches, tf.constant(run.total_steps))
        assert good_steps == run.total_steps == 3
        found.append((float(cost), network.variables()))
    np.testing.assert_allclose(found[0][0], found[1][0], rtol=1e-5)
    for name, variable in found[0][1].items():
        np.testing.assert_allclose(variable.numpy(), found[1][1][name].numpy(), rtol=0, atol=1e-6,
                                   err_msg=name)


# --- The record ---

# In an epoch of 137 images there are 13 batches of 10, and 7 images that are left out.
@pytest.mark.parametrize(("kind", "ratio", "expected"), [
    ("gf", 0.5, {"training_objective": "susp_gf", "adam_epsilon": 1e-8,
                 "objective_weights": (("head_loss", 0.5), ("adversarial_loss", 0.5))}),
    ("gf", 0.75, {"training_objective": "susp_gf", "adam_epsilon": 1e-8,
                  "objective_weights": (("head_loss", 0.75), ("adversarial_loss", 0.25))}),
    ("default", 0.75, {"training_objective": "susp_default", "adam_epsilon": 1e-7,
                       "objective_weights": (("head_loss", 1.0),)}),
    ("online", 0.75, {"training_objective": "at50", "adam_epsilon": 1e-7, "attack_eps": 0.3,
                      "attack_step_size": 0.01, "attack_iterations": 7,
                      "objective_weights": (("head_loss", 0.75), ("adversarial_loss", 0.25))})])
def test_what_is_recorded(kind, ratio, expected):
    recipe = recipe_of(kind, ratio, learning_rate=3e-4, epochs=4, batch_size=10, seed=5)
    found = run_of(recipe, 137, attack="susp")
    assert found == TrainingRun(
        **dataclasses.asdict(SPEC), optimizer="adam", batch_size=10, lr_boundaries=(52,),
        total_steps=52, seed=5, learning_rate=3e-4, weight_decay=0.0, augment=False, **expected)


def test_the_rate_stays_to_the_last_step():
    run = run_of(recipe_of("gf", epochs=3))
    schedule = optimizers.rate_of(run)
    assert {float(schedule(step)) for step in range(run.total_steps)} == {np.float32(1e-3)}
    assert run.total_steps == 15


@pytest.mark.parametrize("kind", ["gf", "default", "online"])
def test_a_batch_of_more_than_all_images(kind):
    with pytest.raises(InputError) as error:
        run_of(recipe_of(kind, batch_size=138), 137)
    assert str(error.value) == ("adv_batch must be at most the 137 images that it trains on. "
                                "Received: adv_batch=138.")
    assert run_of(recipe_of(kind, batch_size=137, epochs=3), 137).total_steps == 3


# --- default ---

def coded(number):
    """Images that tell which they are; every third; what was made of those, which tells it, too."""
    codes = np.arange(number, dtype=np.uint8)
    index = np.arange(0, number, 3)
    attacked = np.broadcast_to(index.reshape(-1, 1, 1, 1) / np.float32(255), (len(index), 2, 2, 1))
    return (image_set(np.broadcast_to(codes.reshape(-1, 1, 1, 1), (number, 2, 2, 1)), codes % 7),
            index, -attacked.astype(np.float32))


@pytest.mark.parametrize(("ratio", "batch_size", "replaced"), [
    (0.5, 8, 4), (0.5, 7, 4), (0.3, 8, 3), (0.0, 8, 0), (1.0, 8, 8), (0.01, 8, 1)])
def test_a_share_of_each_batch_is_replaced(ratio, batch_size, replaced):
    assert replaced == math.ceil(ratio * batch_size)
    recipe = recipe_of("default", ratio, batch_size=batch_size, epochs=3)
    images, index, attacked = coded(60)
    run = run_of(recipe, len(index))
    source = mixed.source(recipe, run, target(), images, index, attacked)
    seen, number = [], 0
    for x, labels in source.batches(0):
        number += 1
        # Clean images are 0 and above once 0.5 is added, attacked ones at most 0 and of negative codes.
        pixels = x.numpy()
        assert np.ptp(pixels, axis=(1, 2, 3)).max() == 0 and len(pixels) == batch_size
        values = pixels[:, 0, 0, 0]
        np.testing.assert_array_equal(labels, codes_of(values, replaced) % 7)
        seen.append(codes_of(values, replaced))
    assert number == run.total_steps == 3 * (20 // batch_size)
    epochs = np.reshape(seen, (3, -1))
    assert all(len(set(epoch)) == len(epoch) and set(epoch) <= set(index) for epoch in epochs.tolist())
    # Shuffled, in an order of its own each time: those that are replaced are not always the same.
    assert len({tuple(epoch) for epoch in epochs.tolist()}) == 3


def codes_of(values, replaced):
    """Which image each row of a `coded` batch is of, its first rows being attacked."""
    codes = np.concatenate([-values[:replaced], values[replaced:] + np.float32(0.5)]) * 255
    np.testing.assert_allclose(codes, np.rint(codes), rtol=0, atol=1e-4)
    return np.rint(codes).astype(int)


def test_default_goes_on_from_the_target(cpu):
    recipe, of_target = recipe_of("default"), target()
    run = run_of(recipe)
    network = restoring.build_network(cpu, run, seed=run.seed)
    before = of_target.weights_sha256()
    assert network.weights_sha256() != before
    source_of(recipe, run, of_target).initialise(network)
    assert network.weights_sha256() == before
    network.model.weights[0].assign_add(np.ones((784, 30)))
    assert of_target.weights_sha256() == before


def source_of(recipe, run, of_target):
    images, attacked = stored()
    return mixed.source(recipe, run, of_target, images, np.arange(500), attacked)


# --- Fresh networks ---

def fresh(cpu, model, image_shape, seed=3, kind="gf"):
    """(target, network as a source starts it, the same network as it was built)."""
    spec = NetworkSpec("npz", image_shape, 10, 0, "ce", model)
    recipe = recipe_of(kind, seed=seed)
    run = run_of(recipe, spec=spec)
    of_target, network, built = (restoring.build_network(cpu, run, seed=number)
                                 for number in (0, seed, seed))
    source_of(recipe, run, of_target).initialise(network)
    return of_target, network, built


# Kernel → what the original takes for its fan-in: of a convolution its height alone.
@pytest.mark.parametrize(("model", "image_shape", "fans"), [
    ("mnist_5x30", (28, 28, 1), {"hidden1": 784, "hidden2": 30, "hidden3": 30, "hidden4": 30,
                                 "hidden5": 30, "logit": 30}),
    ("cifar_cnn", (32, 32, 3), {"conv1": 3, "conv2": 3, "conv3": 3, "hidden": 1024, "logit": 64})])
def test_a_fresh_network_starts_as_the_originals(cpu, model, image_shape, fans):
    of_target, network, built = fresh(cpu, model, image_shape)
    assert of_target.weights_sha256() == restoring.build_network(
        cpu, of_target.expected, seed=0).weights_sha256()
    assert network.weights_sha256() != built.weights_sha256()
    found = {name: variable.numpy() for name, variable in network.variables().items()}
    kernels = {name: found.pop(f"{name}/kernel") for name in fans}
    for name, fan in fans.items():
        np.testing.assert_array_equal(found.pop(f"{name}/bias"), np.float32(0.1))
        sigma, values = math.sqrt(2 / fan), kernels[name].astype(np.float64).ravel()
        assert np.abs(values).max() <= 2 * sigma * (1 + 1e-6)
        assert stats.kstest(values / sigma, stats.truncnorm(-2, 2).cdf).pvalue > 1e-3, name
    assert not found
    # Each kernel has a stream of its own.
    assert len({value.tobytes()[:400] for value in kernels.values()}) == len(fans)


def test_another_seed_is_another_start(cpu):
    shas = [fresh(cpu, "mnist_5x30", (28, 28, 1), seed)[1].weights_sha256() for seed in (3, 3, 4)]
    assert shas[0] == shas[1] != shas[2]


@pytest.mark.parametrize(("model", "image_shape"), [("mlp", (8, 8, 1)), ("resnet", (8, 8, 1))])
def test_a_network_that_the_original_does_not_know_keeps_its_start(cpu, model, image_shape):
    spec = NetworkSpec("npz", image_shape, 10, int(model == "resnet"), "ce", model)
    run = run_of(recipe_of("gf", seed=3), spec=spec)
    network = restoring.build_network(cpu, run, seed=3)
    before = network.weights_sha256()
    of_target = Network(network.model, network.head, spec)
    source_of(recipe_of("gf", seed=3), run, of_target).initialise(network)
    assert network.weights_sha256() == before
