"""What the clean images tell of an attack before it starts."""

import types

import numpy as np
import pytest
import tensorflow as tf

import attacks
from attacks import apgd_dlr
from errors import InputError
from evaluation import aims, first_looks
from evaluation.sweep import Subject
from files.attack_results import Outputs
from networks.running import ChunkedFunction

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 10, 40)
LOGITS = RNG.normal(size=(40, 10)).astype(np.float32)


@pytest.mark.parametrize(("name", "twin"), [
    ("cross_entropy", lambda: tf.nn.sparse_softmax_cross_entropy_with_logits(LABELS, LOGITS)),
    ("dlr", lambda: apgd_dlr._ratio(tf.constant(LOGITS), tf.constant(LABELS, tf.int32))),
    ("margin", lambda: [np.delete(row, label).max() - row[label]
                        for row, label in zip(LOGITS, LABELS, strict=True)])])
def test_losses_are_those_that_are_climbed(name, twin):
    np.testing.assert_allclose(first_looks.loss(name, LOGITS, LABELS), np.array(twin()), rtol=1e-5,
                               atol=1e-5)


def test_the_ratio_of_logits_is_flat_where_all_others_are_alike():
    rce = np.where(np.arange(10) == LABELS[:, None], 60.0, 0.0) + 1e-3 * LOGITS
    assert first_looks.flat_share(first_looks.loss("dlr", rce, LABELS)) > 0.9
    assert first_looks.flat_share(first_looks.loss("dlr", 5 * LOGITS, LABELS)) < 0.2
    # Saturated: every image's is 0.
    assert first_looks.flat_share(np.zeros(5)) == 1


class Toy:
    """A network of two pixels, and of a gradient where the second is not 0."""

    def __init__(self, noise=0.0):
        self._noise = noise

    def logits(self, images):
        value = images[:, 0, 0, 0] * images[:, 1, 0, 0]
        return tf.stack([value, tf.zeros_like(value)], axis=1)

    def forward(self, strategy):
        def outputs(images):
            moved = self._noise * tf.random.normal([images.shape[0], 1])
            return self.logits(images) + moved, images[:, :, 0, 0]

        return ChunkedFunction(strategy, outputs)


def subject(x, noise=0.0, aim=None, eps=(0.1, 0.5)):
    return Subject(network=Toy(noise), strategy=tf.distribute.OneDeviceStrategy("CPU:0"), x=x,
                   labels=np.array([0, 1] * (len(x) // 2)), image_index=np.arange(len(x)),
                   eps_values=eps, aim=aim, norm="linf")


def test_images_without_a_gradient_are_counted_and_told():
    x = RNG.uniform(0.1, 0.5, (8, 2, 1, 1)).astype(np.float32)
    x[[2, 5]] = 0
    told = []
    found = first_looks.look(subject(x), attacks.get("selective_pgd"), told.append)
    assert found["zero_gradients_at_start"] == 2 and found["forward_spread"] == 0
    assert "exactly zero for 2 of the first 8 images" in told[0]
    with pytest.raises(InputError, match="must have input gradients"):
        first_looks.look(subject(np.zeros_like(x)), attacks.get("bim"), told.append)
    assert set(first_looks.look(subject(x), attacks.get("random"), told.append)) == {"forward_spread"}


def test_passes_of_a_random_network_differ():
    x = RNG.uniform(0.1, 0.5, (8, 2, 1, 1)).astype(np.float32)
    assert first_looks.look(subject(x, noise=1.0), attacks.get("random"), print)["forward_spread"] > 0.1


def test_who_shows_another_image_wins_where_it_is_near(monkeypatch):
    x = np.array([0.4, 0.3, 0.35, 0.0], np.float32).reshape(4, 1, 1, 1) * np.ones((1, 2, 1, 1))
    # Right is class 0 for positive products alone: images 0 and 2 are, 1 and 3 (of label 1) are not.
    monkeypatch.setattr(aims.Aim, "passes", lambda self, outputs: np.ones(4, bool))
    of = subject(x, aim=aims.Aim(types.SimpleNamespace(), ("confidence",), 0.05), eps=(0.08, 0.2))
    outputs = Outputs(np.ones(4), np.ones(4), np.zeros((4, 2)), np.array([0, 0, 0, 0]))
    monkeypatch.setattr(first_looks, "outputs_of", lambda logits, features: outputs)
    # Image 1 comes to image 2 within 0.05, image 3 to none; those of label 0 have no accepted other.
    assert first_looks.trivial_success(of, np.zeros((4, 2)), np.zeros((4, 2))) == [0.25, 0.25]


# --- The way that steps can go ---


@pytest.mark.parametrize(("name", "settings", "length"), [
    ("pgd", {}, 2.5), ("pgd", {"num_steps": 10, "step_size": 0.05}, 5.0), ("bim", {}, None),
    ("selective_pgd", {}, 80 / 10 + 70 / 25 + 50 / 80), ("selective_pgd", {"num_steps": 3}, None),
    ("apgd_ce", {"num_steps": 100}, 2 * 22), ("apgd_detector", {"num_steps": 1}, 2)])
def test_path_length(name, settings, length):
    found = attacks.get(name).path_length(settings, 0.1)
    if name == "selective_pgd" and settings:
        # Three steps cannot cross the ball: F13.
        assert found < 2
    else:
        assert found == (None if length is None else pytest.approx(length))
