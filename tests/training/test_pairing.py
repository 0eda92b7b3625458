"""Logit pairing against numbers made by running the authors' code (golden/README_LP.md)."""

import numpy as np
import pytest
import tensorflow as tf

from networks import heads
from networks.lenet import build_lenet
from networks.resnet20_wide import build_resnet20_wide
from tests.helpers import pairing
from tests.helpers.golden import golden
from training import NO_ATTACK, OBJECTIVES, TrainingAttack, adversarial, losses, optimizers
from training import loop as training_loop

CE = heads.get("ce")
# Theirs → ours.
TERMS = {"ce": "head_loss", "at": "adversarial_loss", "alp": "alp", "clp": "clp", "lsq": "lsq"}


def neighbours(num):
    """Rows of a batch so that its halves lie pair by pair beside each other."""
    return np.arange(num).reshape(2, -1).T.ravel()


def lenet():
    model = build_lenet((28, 28, 1), 10)
    pairing.assign_lenet(model)
    return model


def narrow_resnet():
    model = build_resnet20_wide((32, 32, 3), 10, width=8)
    pairing.assign_resnet(model)
    return model


LOSSES = [("lp_losses_lenet", "plain"), ("lp_losses_lenet", "noise0.5"),
          ("lp_losses_resnet", "eval"), ("lp_losses_resnet", "train")]


def looked_at(name, prefix):
    """The arrays; the model; images and attacked images; whether in training."""
    arrays = golden(name)
    if name == "lp_losses_lenet":
        x = pairing.images_of(arrays)
        if prefix != "plain":
            x = pairing.noisy(x, "losses_lenet/noise", 0.5)
        return arrays, lenet(), x, pairing.nudged(x, f"losses_lenet/{prefix}/adv", 0.3), False
    x = pairing.images_of_bytes("losses_resnet/images", (8, 32, 32, 3))
    if prefix == "train":
        x = pairing.noisy(x, "losses_resnet/noise", 0.06)
    adv = pairing.nudged(x, f"losses_resnet/{prefix}/adv", 16 / 255)
    return arrays, narrow_resnet(), x, adv, prefix == "train"


@pytest.mark.parametrize(("name", "prefix"), LOSSES)
def test_terms_and_their_slopes(name, prefix):
    arrays, model, x, adv, training = looked_at(name, prefix)
    labels, order = arrays["labels"].astype(np.int32), neighbours(len(x))
    with tf.GradientTape(persistent=True) as tape:
        z, features = model(x[order], training=training)
        za, _ = model(adv[order], training=training)
        batch = losses.Batch(x[order], tf.constant(labels[order]), z, features, model, CE, za)
        values = {theirs: tf.reduce_mean(losses.TERMS[ours](batch)) for theirs, ours in TERMS.items()}
        weights = dict(zip(TERMS, arrays["lambdas"], strict=False))
        total = tf.add_n([float(weights[name]) * value for name, value in values.items()])
    # Pairs have batch statistics of their own in the original.
    compared = [name for name in TERMS if not (training and name == "clp")]
    largest = np.abs(arrays[f"{prefix}/logits"]).max()
    np.testing.assert_allclose(z, arrays[f"{prefix}/logits"][order], rtol=0, atol=1e-5 * largest)
    expected = dict(zip([*TERMS, "wd", "total"], arrays[f"{prefix}/parts"], strict=True))
    for term in compared:
        np.testing.assert_allclose(values[term], expected[term], rtol=2e-5, err_msg=term)
        for logits, key in ((z, "d_logits"), (za, "d_logits_adv")):
            if f"{prefix}/{key}/{term}" in arrays:
                wanted = arrays[f"{prefix}/{key}/{term}"][order]
                slope = tape.gradient(values[term], logits,
                                      unconnected_gradients=tf.UnconnectedGradients.ZERO)
                np.testing.assert_allclose(slope, wanted, rtol=0, atol=5e-5 * np.abs(wanted).max(),
                                           err_msg=term)
    if training:
        return
    np.testing.assert_allclose(total + weights_of(arrays)["wd"] * expected["wd"], expected["total"],
                               rtol=1e-5)
    names = [pairing.original_name(v.path) for v in model.trainable_variables]
    if name == "lp_losses_resnet":
        names = [n.replace("logit_vars", "fc1_vars") for n in names]
    decay = weights_of(arrays)["wd"]
    for term, value in (("total", total), *values.items()):
        if f"{prefix}/gradnorm/{term}" in arrays:
            slopes = tape.gradient(value, model.trainable_variables,
                                   unconnected_gradients=tf.UnconnectedGradients.ZERO)
            decayed = [term == "total" and not theirs.endswith("beta") for theirs in names]
            norms = [np.linalg.norm(np.asarray(slope + decay * variable * has, np.float64))
                     for slope, variable, has in zip(slopes, model.trainable_variables, decayed,
                                                     strict=True)]
            # In whatever order. Pairs cancel in the last bias: what stands there is rounding.
            np.testing.assert_allclose(sorted(norms), sorted(arrays[f"{prefix}/gradnorm/{term}"]),
                                       rtol=1e-5, atol=1e-6, err_msg=term)
    for variable, theirs, slope in zip(model.trainable_variables, names,
                                       tape.gradient(total, model.trainable_variables), strict=True):
        key = f"{prefix}/grad_total/{theirs}"
        if key in arrays:
            # Their decay is of every variable but beta.
            got = slope if theirs.endswith("beta") else slope + decay * variable
            np.testing.assert_allclose(got, arrays[key], rtol=0, atol=2e-5 * np.abs(arrays[key]).max(),
                                       err_msg=theirs)


def weights_of(arrays):
    return dict(zip([*TERMS, "wd"], map(float, arrays["lambdas"]), strict=True))


# --- Five steps of Adam ---

STEPS = [("plain", "noise0")] + [
    (name, mode) for name in ("clp", "lsq") for mode in ("noise0", "noise0.5")] + [
    (name, mode) for name in ("alp", "at50", "at50_alp") for mode in ("given_adv", "given_start")]


@pytest.mark.parametrize(("name", "mode"), STEPS)
def test_five_steps(monkeypatch, cpu, name, mode):
    arrays = golden("lp_steps_lenet")
    x, labels = pairing.images_of(arrays), arrays["labels"].astype(np.int32)
    order, attack, elements = neighbours(16), NO_ATTACK, []
    for step in range(5):
        rows = slice(16 * step, 16 * (step + 1))
        own = x[rows]
        if mode == "noise0.5":
            own = pairing.noisy(own, f"steps/noise/{step}", 0.5)
        more = []
        if mode == "given_adv":
            more = [pairing.nudged(own, f"steps/adv/{step}", 0.3)[order]]
        if mode == "given_start":
            more = [pairing.nudged(own, f"steps/start/{step}", 0.3)[order]]
        elements.append((own[order], labels[rows][order], *more))
    if mode == "given_adv":
        monkeypatch.setattr(adversarial, "craft", lambda model, head, images, labels, start, _: start)
    if mode == "given_start":
        attack = TrainingAttack(0.3, 20.4 / 255, 5)
    with cpu.scope():
        model = lenet()
        optimizer = optimizers.make_optimizer("adam", 1e-3, adam_epsilon=1e-6)
        optimizer.build(model.trainable_variables)
    loop = training_loop.make_train_loop(cpu, model, optimizer, CE, 16, weight_decay=0.0, attack=attack,
                                         weights=OBJECTIVES[name].weights)
    iterator = iter(tf.data.Dataset.from_tensor_slices(tuple(map(np.stack, zip(
        *elements, strict=True)))))
    prefix = f"{name}/{mode}"
    names = arrays[f"{prefix}/part_names"].tolist()
    # A few signs flip on the way and grow: README_LP.md, tolerances.
    held = 2 if mode == "given_start" else 5
    tolerance = 2e-3 if mode == "given_start" else 5e-5
    for step in range(held):
        cost, _, parts = loop(iterator, tf.constant(1))
        expected = dict(zip(names, arrays[f"{prefix}/parts"][step], strict=True))
        np.testing.assert_allclose(cost, expected["total"], rtol=tolerance)
        # A term of weight 0 is none of ours.
        ours = dict(zip([key for key, _ in OBJECTIVES[name].weights], parts, strict=False))
        for theirs in set(expected) & set(TERMS) if len(ours) > 1 else ():
            if TERMS[theirs] in ours:
                np.testing.assert_allclose(ours[TERMS[theirs]], expected[theirs], rtol=tolerance,
                                           err_msg=theirs)
        if mode == "given_start":
            continue
        norms = dict(zip(arrays["variable_names"].tolist(), arrays[f"{prefix}/l2norm"][step],
                         strict=True))
        for variable in model.trainable_variables:
            np.testing.assert_allclose(np.linalg.norm(variable.numpy().astype(np.float64)),
                                       norms[pairing.original_name(variable.path)], rtol=5e-6)
    if held == 5:
        first = x[:16]
        np.testing.assert_allclose(model(first)[0], arrays[f"{prefix}/logits_batch0_after"], rtol=0,
                                   atol=2e-3 if name == "at50" else 5e-4)


def test_the_attack_of_a_step_is_pgd_on_the_true_label():
    """Two steps by hand, with the network's own slopes."""
    model = build_lenet((8, 8, 1), 10)
    draw = np.random.default_rng(0)
    x = draw.uniform(-0.5, 0.5, (6, 8, 8, 1)).astype(np.float32)
    start = np.clip(x + draw.uniform(-0.1, 0.1, x.shape), -0.5, 0.5).astype(np.float32)
    labels = tf.constant(draw.integers(0, 10, 6), tf.int32)
    for head in heads.HEADS.values():
        image = tf.constant(start)
        for _ in range(2):
            with tf.GradientTape() as tape:
                tape.watch(image)
                loss = tf.nn.sparse_softmax_cross_entropy_with_logits(
                    labels, head.sign * model(image)[0])
            moved = image + 0.07 * tf.sign(tape.gradient(loss, image))
            image = tf.clip_by_value(tf.clip_by_value(moved, x - 0.1, x + 0.1), -0.5, 0.5)
        made = adversarial.craft(model, head, tf.constant(x), labels, tf.constant(start),
                                 TrainingAttack(0.1, 0.07, 2))
        np.testing.assert_allclose(made, image, rtol=0, atol=1e-6)
