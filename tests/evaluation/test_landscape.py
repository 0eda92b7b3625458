"""The heat map against PGD of its own, the loss surface against one point at a time."""

import flags  # noqa: F401 sets TensorFlow's environment

import numpy as np
import pytest
import tensorflow as tf

import attacks
from errors import InputError
from evaluation import landscape
from evaluation.crafter import Crafter
from evaluation.sweep import Subject
from files.attack_parts import Parts
from networks import restoring
from networks.network import Network
from networks.spec import NetworkSpec

RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(-0.5, 0.5, (30, 8, 8, 1)).astype(np.float32)
INDEX, STEP_SIZES, ITERATIONS = np.arange(100, 130), (0.004, 0.03), (1, 3, 7)


@pytest.fixture(scope="module")
def network(cpu):
    return restoring.build_network(cpu, NetworkSpec("digits", (8, 8, 1), 10, 1, "rce", "mlp"), seed=4)


def heatmap(network, strategy, labels, folder):
    subject = Subject(network=network, strategy=strategy, x=IMAGES, labels=labels, image_index=INDEX,
                      eps_values=(0.1,))
    parts = Parts(folder, {"attack_method": "pgd"})
    return landscape.heatmap(subject, STEP_SIZES, ITERATIONS, 3, parts)


def test_a_cell_is_a_run_of_its_own(network, cpu, tmp_path):
    predicted = network.forward(cpu)(IMAGES)[0].argmax(axis=1)
    labels = np.where(np.arange(30) < 25, predicted, (predicted + 1) % 10)
    before, right = heatmap(network, cpu, labels, tmp_path)
    np.testing.assert_array_equal(before, np.arange(30) < 25)
    assert right.shape == (2, 30, 3) and not right[:, 25:].any()
    for i, step_size in enumerate(STEP_SIZES):
        for j, num_steps in enumerate(ITERATIONS):
            alone = Crafter(network, cpu, attacks.get("pgd"), seed=3, settings={
                "step_size": step_size, "num_steps": num_steps})(IMAGES, INDEX, eps=0.1)["adversarial"]
            won = network.forward(cpu)(alone)[0].argmax(axis=1) != predicted
            np.testing.assert_array_equal(right[i, :, j], before & ~won)
    assert 0 < right[:, :25].mean() < 1


def test_a_killed_heat_map_goes_on(network, cpu, tmp_path, monkeypatch):
    labels = network.forward(cpu)(IMAGES)[0].argmax(axis=1)
    expected = heatmap(network, cpu, labels, tmp_path / "whole")
    calls, save = [], Parts.save

    def killed(self, name, arrays):
        save(self, name, arrays)
        raise KeyboardInterrupt

    monkeypatch.setattr(Parts, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        heatmap(network, cpu, labels, tmp_path / "parts")
    monkeypatch.setattr(Parts, "save", lambda self, name, arrays: calls.append(name))
    found = heatmap(network, cpu, labels, tmp_path / "parts")
    assert calls == ["round01_image000000"]
    np.testing.assert_array_equal(found[1], expected[1])


class Rounded:
    """A head behind which no gradient is left."""

    @staticmethod
    def attack_logits(logits):
        return tf.round(logits * 0)


def test_a_side_along_no_gradient_is_refused(network):
    flat = Network(network.model, Rounded)
    with pytest.raises(InputError, match="the network must have input gradients"):
        landscape.square_around(flat, IMAGES[0], 6, 2, by_gradient=True)
    landscape.square_around(flat, IMAGES[0], 6, 2, by_gradient=False)


@pytest.mark.parametrize("by_gradient", [True, False])
def test_the_surface_is_the_loss_at_each_point(network, cpu, monkeypatch, by_gradient):
    monkeypatch.setattr(landscape, "_PIXELS_AT_ONCE", 4 * 64)
    image, offsets = IMAGES[0], np.linspace(-0.2, 0.2, 5)
    square = landscape.square_around(network, image, 6, 2, by_gradient=by_gradient)
    surface = landscape.loss_surface(network.forward(cpu), image, 6, square, offsets)
    for a, b in ((0, 0), (2, 2), (4, 1)):
        moved = image + offsets[a] * square[0] + offsets[b] * square[1]
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits([6], network.logits(
            tf.cast(moved[None], tf.float32)))
        assert surface[a, b] == pytest.approx(loss.numpy()[0], rel=1e-5)
    assert np.all(np.abs(square) == 1)
    # Up the gradient the loss rises.
    assert not by_gradient or surface[3, 2] > surface[2, 2] > surface[1, 2]
