"""The network against the original's numbers, its layers and losses by identity."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import resnet_model
from errors import InputError
from networks import running
from resnet_model import FusedBatchNorm, RCELoss, ResNetConfig, build_resnet, named_variables
from tests.helpers.golden import golden, load_golden_weights, tf1_name

RNG = np.random.default_rng(0)
GOLDEN_NETWORKS = {"mnist_u1_rce": (28, 28, 1), "cifar10_u1_random": (32, 32, 3)}
BATCH_NORM = ("beta", "gamma", "moving_mean", "moving_variance")


def num_trainable(model):
    return sum(int(np.prod(v.shape)) for v in model.trainable_variables)


def tf1_names(model):
    return {tf1_name(name) for name in named_variables(model)}


def randomize(model):
    """Moves every variable off its initial value, so that none can be left out unseen."""
    for name, variable in named_variables(model).items():
        noise = RNG.normal(0.0, 0.3, variable.shape).astype(np.float32)
        variable.assign(np.abs(noise) + 0.5 if name.endswith("variance") else variable + noise)


# The golden numbers of the original.


@pytest.fixture(scope="module", params=list(GOLDEN_NETWORKS))
def forward(request):
    """(golden arrays, our network's: logits, features, decay and gradient norms)."""
    arrays = golden(f"forward_{request.param}")
    model = build_resnet(ResNetConfig(GOLDEN_NETWORKS[request.param], 10, 1), seed=1)
    load_golden_weights(named_variables(model), golden(f"resnet_{request.param}_weights"))
    images, labels = arrays["images"], arrays["labels"]
    ours = {}
    ours["eval_logits"], ours["eval_features"] = tf.function(model)(images, training=False)
    with tf.GradientTape() as tape:
        ours["train_logits"], ours["train_features"] = model(images, training=True)
        ours["weight_decay"] = resnet_model.weight_decay_loss(model)
        cost = RCELoss()(labels, ours["train_logits"]) + ours["weight_decay"]
    gradients = tape.gradient(cost, model.trainable_variables)
    ours["train_rce_cost_total"] = cost
    for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
        name = tf1_name(variable.path.replace(".", "/"))
        ours[f"train_rce_gradnorm/{name}"] = np.linalg.norm(np.float64(gradient))
    return arrays, ours


@pytest.mark.parametrize("name", ["eval_logits", "eval_features"])
def test_golden_eval_outputs(forward, name):
    arrays, ours = forward
    np.testing.assert_allclose(ours[name], arrays[name], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["train_logits", "train_features"])
def test_golden_train_outputs(forward, name):
    arrays, ours = forward
    # oneDNN's batch statistics are low in accuracy (golden README).
    atol = 2e-4 * np.abs(arrays[name]).max()
    np.testing.assert_allclose(ours[name], arrays[name], rtol=0, atol=atol)


def test_golden_rce_cost(forward):
    arrays, ours = forward
    loss = RCELoss()(arrays["labels"], arrays["train_logits"])
    np.testing.assert_allclose(loss, arrays["train_rce_cost_without_decay"], rtol=1e-6)
    np.testing.assert_allclose(ours["train_rce_cost_total"], arrays["train_rce_cost_total"], rtol=2e-4)


def test_golden_weight_decay_to_the_last_bit_but_one(forward):
    arrays, ours = forward
    np.testing.assert_array_max_ulp(
        np.float32(ours["weight_decay"]), np.float32(arrays["weight_decay"]), maxulp=2)


def test_golden_gradient_norms(forward):
    arrays, ours = forward
    names = [name for name in arrays.files if name.startswith("train_rce_gradnorm/")]
    assert len(names) == 23
    # Against the largest: a bias before batch statistics has next to no gradient.
    largest = max(float(arrays[name]) for name in names)
    for name in names:
        np.testing.assert_allclose(
            ours[name], arrays[name], rtol=2e-2, atol=1e-4 * largest, err_msg=name)


# Structure.


@pytest.mark.parametrize(("shape", "units", "bottleneck", "parameters"), [
    ((28, 28, 1), 1, False, 75002), ((32, 32, 3), 1, False, 75290), ((28, 28, 1), 5, False, 463866),
    ((28, 28, 1), 1, True, 126458)])
def test_number_of_parameters(shape, units, bottleneck, parameters):
    assert num_trainable(build_resnet(ResNetConfig(shape, 10, units, bottleneck))) == parameters


@pytest.mark.parametrize("name", list(GOLDEN_NETWORKS))
def test_variable_names_are_the_originals(name):
    weights = golden(f"resnet_{name}_weights").files
    expected = {n for n in weights if n != "global_step" and not n.endswith(("biased", "local_step"))}
    assert len(expected) == 37
    assert tf1_names(build_resnet(ResNetConfig(GOLDEN_NETWORKS[name], 10, 1))) == expected


def test_variable_names_of_deeper_networks():
    names = tf1_names(build_resnet(ResNetConfig((8, 8, 1), 10, 3)))
    assert "unit_3_2/residual_only_activation/init_bn/moving_mean" in names
    assert {n.split("/")[0] for n in names if n.startswith("unit_")} == {
        "unit_last", *(f"unit_{stage}_{block}" for stage in (1, 2, 3) for block in range(3))}
    assert {n for n in names if "shared_activation" in n} == {
        f"unit_1_0/shared_activation/init_bn/{leaf}" for leaf in BATCH_NORM}


def test_variable_names_of_bottleneck_networks():
    expected = {"init/init_conv/DW", "logit/DW", "logit/biases"}
    norms = ["unit_last/final_bn"]
    for stage in (1, 2, 3):
        for block in (0, 1):
            unit = f"unit_{stage}_{block}"
            first = unit == "unit_1_0"
            norms += [f"{unit}/{'common' if first else 'residual'}_bn_relu/init_bn",
                      f"{unit}/sub2/bn2", f"{unit}/sub3/bn3"]
            expected |= {f"{unit}/sub{k}/conv{k}/DW" for k in (1, 2, 3)}
        expected.add(f"unit_{stage}_0/sub_add/project/DW")
    expected |= {f"{norm}/{leaf}" for norm in norms for leaf in BATCH_NORM}
    assert tf1_names(build_resnet(ResNetConfig((8, 8, 1), 10, 2, True))) == expected


def reference_bottleneck(v, x, blocks):
    """ORIGINAL.md section 3 written down once more: eval-mode logits and features."""
    def conv(x, name, stride=1):
        return tf.nn.conv2d(x, v[f"{name}/kernel"], stride, "SAME")

    def norm_relu(x, name):
        y = tf.nn.batch_normalization(
            x, *(v[f"{name}/{leaf}"] for leaf in ("moving_mean", "moving_variance", "beta", "gamma")),
            1e-3)
        return tf.nn.leaky_relu(y, 0.1)

    x = conv(x, "init/init_conv")
    for stage in (1, 2, 3):
        for block in range(blocks):
            unit = f"unit_{stage}_{block}"
            stride = 2 if stage > 1 and block == 0 else 1
            first = unit == "unit_1_0"
            y = norm_relu(x, f"{unit}/{'common' if first else 'residual'}_bn_relu/init_bn")
            shortcut = y if first else x
            y = norm_relu(conv(y, f"{unit}/sub1/conv1", stride), f"{unit}/sub2/bn2")
            y = norm_relu(conv(y, f"{unit}/sub2/conv2"), f"{unit}/sub3/bn3")
            y = conv(y, f"{unit}/sub3/conv3")
            if block == 0:
                shortcut = conv(shortcut, f"{unit}/sub_add/project", stride)
            x = y + shortcut
    features = tf.reduce_mean(norm_relu(x, "unit_last/final_bn"), [1, 2])
    return features @ v["logit/kernel"] + v["logit/bias"], features


def test_bottleneck_network_computes_what_the_description_says():
    model = build_resnet(ResNetConfig((8, 8, 3), 10, 2, True))
    randomize(model)
    x = RNG.uniform(-0.5, 0.5, (3, 8, 8, 3)).astype(np.float32)
    logits, features = model(x, training=False)
    expected_logits, expected_features = reference_bottleneck(named_variables(model), x, 2)
    assert features.shape == (3, 256)
    scale = np.abs(expected_features).max()
    np.testing.assert_allclose(features, expected_features, rtol=1e-4, atol=1e-5 * scale)
    np.testing.assert_allclose(logits, expected_logits, rtol=1e-4, atol=1e-4 * scale)


@pytest.mark.parametrize(("shape", "classes", "bottleneck", "width"), [
    ((8, 12, 5), 7, False, 64), ((12, 4, 2), 3, True, 256), ((8, 8, 1), 2, False, 64)])
def test_any_size_divisible_by_4_and_any_channels(shape, classes, bottleneck, width):
    config = ResNetConfig(shape, classes, 1, bottleneck)
    logits, features = build_resnet(config)(np.zeros((2, *shape), np.float32))
    assert logits.shape == (2, classes)
    assert features.shape == (2, width)
    assert logits.dtype == features.dtype == tf.float32


@pytest.mark.parametrize("shape", [(30, 28, 1), (28, 30, 1), (9, 9, 3), (2, 2, 1)])
def test_other_sizes_are_refused(shape):
    with pytest.raises(InputError, match=r"divisible by 4.*Received: image_shape="):
        ResNetConfig(shape, 10, 1)


@pytest.mark.parametrize("units", [0, -1])
def test_no_units_are_refused(units):
    with pytest.raises(InputError, match=f"at least 1.*num_residual_units={units}"):
        ResNetConfig((28, 28, 1), 10, units)


def test_depth():
    assert [ResNetConfig((28, 28, 1), 10, n).depth for n in (1, 5, 9, 18)] == [8, 32, 56, 110]
    assert ResNetConfig((28, 28, 1), 10, 5, True).depth == 47


# Initial values.


@pytest.mark.parametrize("bottleneck", [False, True])
def test_initial_values(bottleneck):
    model = build_resnet(ResNetConfig((28, 28, 1), 10, 1, bottleneck), seed=3)
    for name, variable in named_variables(model).items():
        value = variable.numpy()
        if name == "logit/kernel":
            limit = np.sqrt(3.0 / value.shape[0])
            assert 0.97 * limit < np.abs(value).max() <= limit
            assert abs(value.mean()) < 0.1 * limit
            np.testing.assert_allclose(value.std(), limit / np.sqrt(3.0), rtol=0.06)
        elif name.endswith("/kernel"):
            expected = np.sqrt(2.0 / (value.shape[0] * value.shape[1] * value.shape[3]))
            deviation = 4.0 / np.sqrt(value.size)
            np.testing.assert_allclose(value.std(), expected, rtol=deviation, err_msg=name)
            assert abs(value.mean()) < deviation * expected, name
            # Not truncated: the original draws from tf.random_normal.
            if value.size > 4000:
                assert np.abs(value).max() > 2.5 * expected, name
        else:
            np.testing.assert_array_equal(
                value, 1.0 if name.endswith(("gamma", "variance")) else 0.0, err_msg=name)


def test_the_seed_alone_decides_the_initial_weights():
    config = ResNetConfig((8, 8, 1), 10, 2)
    first, again, other = (named_variables(build_resnet(config, seed=s)) for s in (5, 5, 6))
    kernels = [name for name in first if name.endswith("/kernel")]
    assert len(kernels) == 14
    for name in kernels:
        np.testing.assert_array_equal(first[name], again[name])
        assert np.any(first[name].numpy() != other[name].numpy())
    # Same shape, yet a stream of its own.
    assert np.any(first["unit_1_1/sub1/conv1/kernel"].numpy()
                  != first["unit_1_1/sub2/conv2/kernel"].numpy())


# Batch norm.


@pytest.fixture
def norm_pair():
    """Our layer and Keras's with the same odd values, and a batch."""
    x = (RNG.normal(size=(6, 5, 4, 3)) * [0.5, 2.0, 1.0] + [1.0, -2.0, 0.1]).astype(np.float32)
    pair = FusedBatchNorm(name="ours"), keras.layers.BatchNormalization(
        momentum=0.9, epsilon=1e-3, name="keras")
    for layer in pair:
        layer.build(x.shape)
        layer.gamma.assign([0.5, 1.5, -1.0])
        layer.beta.assign([0.1, -0.2, 0.3])
        layer.moving_mean.assign([0.4, -1.0, 0.2])
        layer.moving_variance.assign([0.6, 3.0, 1.4])
    return (*pair, tf.constant(x))


@pytest.mark.parametrize("training", [False, True])
def test_batch_norm_equals_keras_and_so_do_its_gradients(norm_pair, training):
    ours, theirs, x = norm_pair
    weights = tf.constant(RNG.normal(size=x.shape), tf.float32)
    results = []
    for layer in (ours, theirs):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=training)
            loss = tf.reduce_sum(y * weights)
        sources = [x, layer.gamma.value, layer.beta.value]
        results.append([y, *tape.gradient(loss, sources),
                        layer.moving_mean.value, layer.moving_variance.value])
    for our_value, their_value in zip(*results, strict=True):
        scale = np.abs(their_value).max()
        np.testing.assert_allclose(our_value, their_value, rtol=1e-3, atol=2e-4 * scale)


def test_batch_norm_averages_the_biased_variance(norm_pair):
    ours, _, _ = norm_pair
    # Four values per channel: the biased variance is three quarters of the other one.
    x = RNG.normal(size=(1, 2, 2, 3)).astype(np.float32)
    ours(tf.constant(x), training=True)
    np.testing.assert_allclose(
        ours.moving_variance, 0.9 * np.float32([0.6, 3.0, 1.4]) + 0.1 * x.var((0, 1, 2)), rtol=1e-4)
    np.testing.assert_allclose(
        ours.moving_mean, 0.9 * np.float32([0.4, -1.0, 0.2]) + 0.1 * x.mean((0, 1, 2)), rtol=1e-4)


def test_batch_norm_averages_bessels_variance_where_asked():
    x = np.random.default_rng(1).normal(size=(1, 2, 2, 3)).astype(np.float32)
    ours, biased = FusedBatchNorm(0.99, bessel=True), FusedBatchNorm(0.99)
    # The images themselves are normalised alike.
    np.testing.assert_array_equal(ours(x, training=True), biased(x, training=True))
    np.testing.assert_allclose(
        ours.moving_variance, 0.99 + 0.01 * x.var((0, 1, 2), ddof=1), rtol=1e-6)
    np.testing.assert_allclose(biased.moving_variance, 0.99 + 0.01 * x.var((0, 1, 2)), rtol=1e-6)
    assert FusedBatchNorm.from_config(ours.get_config()).get_config() == ours.get_config()


def test_bessels_variance_counts_the_images_of_all_replicas(two_cpus):
    x = np.random.default_rng(1).normal(size=(2, 2, 2, 3)).astype(np.float32)
    with two_cpus.scope():
        layer = FusedBatchNorm(0.99, synchronized=True, bessel=True)
        layer.build(x.shape)
    halves = running.spread(two_cpus, np.split(x, 2))
    tf.function(lambda images: two_cpus.run(layer, (images,), {"training": True}))(halves)
    np.testing.assert_allclose(
        layer.moving_variance, 0.99 + 0.01 * x.var((0, 1, 2), ddof=1), rtol=1e-6)


def test_batch_norm_in_eval_mode_leaves_the_averages_alone(norm_pair):
    ours, _, x = norm_pair
    before = [v.numpy() for v in ours.variables]
    ours(x, training=False)
    for old, variable in zip(before, ours.variables, strict=True):
        np.testing.assert_array_equal(old, variable)


def test_batch_norm_has_kerass_variables():
    ours, theirs = (
        build_resnet(ResNetConfig((8, 8, 1), 10, 1), batch_norm=layer)
        for layer in (FusedBatchNorm, lambda name: keras.layers.BatchNormalization(
            momentum=0.9, epsilon=1e-3, name=name)))
    assert {n: v.shape for n, v in named_variables(ours).items()} == {
        n: v.shape for n, v in named_variables(theirs).items()}


# Weight decay.


def test_weight_decay_counts_kernels_only():
    model = build_resnet(ResNetConfig((8, 8, 1), 10, 1))
    randomize(model)
    kernels = [v.numpy() for n, v in named_variables(model).items() if n.endswith("kernel")]
    assert len(kernels) == 8
    expected = 0.0002 * sum(np.sum(np.float64(k) ** 2) for k in kernels) / 2
    np.testing.assert_allclose(resnet_model.weight_decay_loss(model), expected, rtol=1e-6)


# Reverse cross-entropy.


def logits_and_labels(num_classes, n=6):
    logits = RNG.normal(0.0, 3.0, (n, num_classes)).astype(np.float32)
    return tf.constant(logits), tf.constant(RNG.integers(0, num_classes, n), tf.int32)


def rce(labels, logits):
    return RCELoss(reduction="none")(labels, logits)


@pytest.mark.parametrize("num_classes", [2, 3, 10])
def test_rce_is_cross_entropy_against_the_reverse_label(num_classes):
    logits, labels = logits_and_labels(num_classes)
    reverse = (1.0 - tf.one_hot(labels, num_classes)) / (num_classes - 1)
    expected = -np.sum(reverse * tf.nn.log_softmax(logits), axis=-1)
    np.testing.assert_allclose(rce(labels, logits), expected, rtol=1e-5)


def test_rce_reduces_to_the_mean():
    logits, labels = logits_and_labels(10)
    assert rce(labels, logits).shape == (6,)
    np.testing.assert_allclose(RCELoss()(labels, logits), np.mean(rce(labels, logits)), rtol=1e-6)


def test_rce_of_two_classes_is_cross_entropy_of_the_other():
    logits, labels = logits_and_labels(2)
    expected = tf.nn.sparse_softmax_cross_entropy_with_logits(1 - labels, logits)
    np.testing.assert_allclose(rce(labels, logits), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("num_classes", [2, 3, 10])
def test_minimum_of_rce_is_the_log_of_the_number_of_wrong_classes(num_classes):
    labels = tf.range(num_classes)
    best = -50.0 * tf.eye(num_classes)
    with tf.GradientTape() as tape:
        tape.watch(best)
        loss = rce(labels, best)
    np.testing.assert_allclose(loss, np.log(num_classes - 1), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(tape.gradient(loss, best), 0.0, atol=1e-6)
    logits, labels = logits_and_labels(num_classes, n=100)
    assert np.all(rce(labels, logits) >= np.log(num_classes - 1) - 1e-6)


def test_rce_does_not_change_with_a_shift_of_the_logits():
    logits, labels = logits_and_labels(10)
    np.testing.assert_allclose(rce(labels, logits + 7.0), rce(labels, logits), rtol=1e-5)


@pytest.mark.parametrize("true_class", [0, 1, 2])
def test_rce_of_extreme_logits_has_finite_value_and_gradient(true_class):
    logits = tf.constant([[1e4, -1e4, 0.0]])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = rce(tf.constant([true_class]), logits)
    gradient = tape.gradient(loss, logits).numpy()
    # log softmax is (0, -2e4, -1e4).
    np.testing.assert_allclose(loss, [(3e4 - [0.0, 2e4, 1e4][true_class]) / 2], rtol=1e-5)
    reverse = np.full(3, 0.5)
    reverse[true_class] = 0.0
    np.testing.assert_allclose(gradient, [[1.0, 0.0, 0.0] - reverse], atol=1e-6)


def test_the_reversed_head_is_the_negative():
    logits, _ = logits_and_labels(10)
    np.testing.assert_array_equal(resnet_model.reversed_logits(logits), -logits.numpy())
