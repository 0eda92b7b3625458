"""The networks of arXiv v1: layers by hand-computed numbers, dropout, recipes, and every script."""

import dataclasses
import os
import shutil
import signal

import flags

import keras
import numpy as np
import pytest
import tensorflow as tf

from attacks import ATTACKS
from data import inputs
from data.pixels import to_network_input
from defenses import deployed
from errors import InputError
from files import checkpoints, provenance
from files import detectors as detector_files
from files.features import load_kernels
from networks import get_network, heads, portable, restoring, v1
from networks.running import collect
from networks.spec import NetworkSpec
from options import training as training_options
from resnet_model import named_variables, weight_decay_loss
from tests.helpers import script_runner
from tests.helpers.golden import GOLDEN
from tests.helpers.script_runner import refused, succeeded
from training import loop as training_loop
from training import optimizers, reporter

RNG = np.random.default_rng(0)


# Layers.

MNIST_CNN = {
    "conv1/kernel": (3, 3, 1, 32), "conv1/bias": (32,), "conv2/kernel": (3, 3, 32, 64),
    "conv2/bias": (64,), "hidden1/kernel": (3136, 200), "hidden1/bias": (200,),
    "hidden2/kernel": (200, 200), "hidden2/bias": (200,), "logit/kernel": (200, 10),
    "logit/bias": (10,)}
CIFAR_CNN = {
    "conv1/kernel": (3, 3, 3, 64), "conv2/kernel": (3, 3, 64, 64), "conv3/kernel": (3, 3, 64, 128),
    "conv4/kernel": (3, 3, 128, 128), "hidden1/kernel": (8192, 256), "hidden2/kernel": (256, 256),
    "logit/kernel": (256, 10), "logit/bias": (10,),
    **{f"{name}/bn/{leaf}": (width,) for leaf in ("gamma", "beta") for name, width in (
        ("conv1", 64), ("conv2", 64), ("conv3", 128), ("conv4", 128), ("hidden1", 256),
        ("hidden2", 256))}}
MLP = {"hidden1/kernel": (784, 100), "hidden1/bias": (100,), "hidden2/kernel": (100, 100),
       "hidden2/bias": (100,), "logit/kernel": (100, 10), "logit/bias": (10,)}


@pytest.mark.parametrize(("build", "image_shape", "shapes", "parameters", "width"), [
    # 320 + 18,496 + 627,400 + 40,200 + 2,010
    (v1.build_simple_cnn, (28, 28, 1), MNIST_CNN, 688426, 200),
    # Convolutions 1,728 + 36,864 + 73,728 + 147,456, dense 2,097,152 + 65,536 + 2,570, norms 1,792
    (v1.build_simple_cnn, (32, 32, 3), CIFAR_CNN, 2426826, 256),
    # 78,500 + 10,100 + 1,010
    (v1.build_mlp, (28, 28, 1), MLP, 89610, 100),
])
def test_layers_and_parameters(build, image_shape, shapes, parameters, width):
    model = build(image_shape, 10)
    trainable = {v.path for v in model.trainable_variables}
    assert {name: tuple(variable.shape) for name, variable in named_variables(model).items()
            if name.replace(".", "/") in {path.replace(".", "/") for path in trainable}} == shapes
    assert sum(np.prod(shape) for shape in shapes.values()) == parameters
    logits, features = model(np.zeros((2, *image_shape), np.float32))
    assert (logits.shape, features.shape) == ((2, 10), (2, width))
    assert logits.dtype == features.dtype == tf.float32
    counters = [name for name in named_variables(model) if name.endswith("/calls")]
    assert len(counters) == (0 if build is v1.build_mlp else 2)


def test_activations_of_the_hidden_layers():
    images = RNG.uniform(-0.5, 0.5, (20, 8, 8, 3)).astype(np.float32)
    _, gray = v1.build_simple_cnn((8, 8, 1), 10)(images[..., :1])
    _, colour = v1.build_simple_cnn((8, 8, 3), 10)(images)
    _, dense = v1.build_mlp((8, 8, 3), 10)(images)
    assert np.min(gray) > 0 and np.max(gray) < 1  # sigmoid
    for features in (colour, dense):  # ReLU
        assert np.min(features) == 0 < np.max(features)


def test_the_simple_cnn_by_hand():
    """The one-channel network from its variables, in NumPy but for the convolutions."""
    model = v1.build_simple_cnn((8, 8, 1), 10, seed=4)
    w = {name: variable.numpy() for name, variable in named_variables(model).items()}
    x = images = RNG.uniform(-0.5, 0.5, (3, 8, 8, 1)).astype(np.float32)
    for name in ("conv1", "conv2"):
        x = np.maximum(tf.nn.conv2d(x, w[f"{name}/kernel"], 1, "SAME") + w[f"{name}/bias"], 0)
        x = x.reshape(3, x.shape[1] // 2, 2, x.shape[2] // 2, 2, -1).max(axis=(2, 4))
    x = x.reshape(3, -1)
    for name in ("hidden1", "hidden2"):
        x = 1 / (1 + np.exp(-(x @ w[f"{name}/kernel"] + w[f"{name}/bias"])))
    logits, features = model(images)
    np.testing.assert_allclose(features, x, atol=1e-6)
    np.testing.assert_allclose(logits, x @ w["logit/kernel"] + w["logit/bias"], atol=1e-5)


@pytest.mark.parametrize("shape", [(32, 32, 3), (8, 12, 3)])
def test_standardisation_is_that_of_tensorflow(shape):
    pixels = RNG.integers(0, 256, (5, *shape)).astype(np.float32)
    pixels[1] = 10.0  # constant: where the floor counts
    pixels[2] = np.where(np.arange(shape[1])[:, None] % 2, 100.0, 101.0)
    ours = v1.standardized(tf.constant(pixels / 255 - 0.5)).numpy()
    expected = tf.image.per_image_standardization(pixels).numpy()
    # Rounding of the mean, magnified by the floor.
    np.testing.assert_allclose(ours[1], expected[1], atol=1e-2)
    ours[1] = expected[1]
    np.testing.assert_allclose(ours, expected, atol=2e-4)


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_attacks_differentiate_through_the_standardisation(cpu, noise):
    network = restoring.build_network(
        cpu, NetworkSpec("npz", (8, 8, 3), 10, 0, "ce", "simple_cnn"))
    x = tf.constant(RNG.uniform(-noise, noise, (2, 8, 8, 3)).astype(np.float32))
    with tf.GradientTape() as tape:
        tape.watch(x)
        logits = network.logits(x)[:, 0]
    gradient = tape.gradient(logits, x).numpy()
    assert np.isfinite(gradient).all()
    if noise:
        assert np.abs(gradient).min(axis=(1, 2, 3)).max() < np.abs(gradient).max()
        # What changes brightness alone changes nothing.
        np.testing.assert_allclose(gradient.sum(axis=(1, 2, 3)), 0.0, atol=1e-4)


def test_initial_weights_are_by_seed():
    models = [v1.build_simple_cnn((8, 8, 3), 10, seed=seed) for seed in (5, 5, 6)]
    first, again, other = (named_variables(model) for model in models)
    for name, value in first.items():
        np.testing.assert_array_equal(value, again[name])
        if name.endswith("/kernel"):
            assert np.any(value.numpy() != other[name].numpy())


def test_simple_cnn_refuses_two_channels():
    with pytest.raises(InputError, match=r"one or three channels. Received: image_shape=\(8, 8, 2\)"):
        v1.build_simple_cnn((8, 8, 2), 10)


# Dropout.


def dropped(layer, strategy, rows=8):
    """One training call on ones, [rows, 400], shared by the replicas; the rows of all."""
    each = rows // strategy.num_replicas_in_sync

    @tf.function
    def call():
        return strategy.run(lambda: layer(tf.ones([each, 400]), training=True))

    return np.concatenate(collect(strategy, call()))


def new_dropout(strategy, seed=3):
    with strategy.scope():
        layer = v1.Dropout(seed=seed, name="dropout")
        layer.build((None, 400))
    return layer


def test_dropout_is_off_outside_of_training(cpu):
    layer = new_dropout(cpu)
    np.testing.assert_array_equal(layer(tf.ones([2, 400])), np.ones((2, 400)))
    assert layer.calls.numpy() == 0


def test_dropout_zeroes_half_and_doubles_the_rest_anew_at_each_call(cpu):
    layer = new_dropout(cpu)
    first, second = dropped(layer, cpu), dropped(layer, cpu)
    assert set(np.unique(first)) == {0.0, 2.0}
    assert abs(first.mean() - 1) < 0.1
    for a, b in ((first, second), (first[0], first[1]), (first, dropped(new_dropout(cpu, 4), cpu))):
        assert 0.4 < np.mean(a != b) < 0.6
    again = new_dropout(cpu)
    again.calls.assign(1)
    np.testing.assert_array_equal(dropped(again, cpu), second)


def test_replicas_share_the_mask_of_one(cpu, two_cpus):
    """So each has another."""
    one, two = new_dropout(cpu), new_dropout(two_cpus)
    for _ in range(2):
        np.testing.assert_array_equal(dropped(two, two_cpus), dropped(one, cpu))


# Recipes.


def record_of(image_shape, num_images, *arguments):
    """The run record of train.py for so many images."""
    script_runner.parse("train", *arguments)
    images = inputs.ImageSet(np.zeros((num_images, *image_shape), np.uint8),
                             np.zeros(num_images, np.int32), 10, "made up", False)
    return training_options.run_of(images, num_replicas=1)


RECIPE_FIELDS = ("optimizer", "learning_rate", "adam_epsilon", "weight_decay", "batch_size",
                 "total_steps", "lr_boundaries", "blocks_per_stage")


@pytest.mark.parametrize(("image_shape", "num_images", "arguments", "expected"), [
    ((4, 4, 1), 60000, ("--dataset=mnist", "--model=simple_cnn"),
     ("adam", 0.001, 1e-8, 0.0, 100, 3000, (3000,), 0)),
    ((4, 4, 1), 60000, ("--dataset=mnist", "--model=mlp"),
     ("adam", 0.001, 1e-8, 0.0, 100, 3000, (3000,), 0)),
    ((4, 4, 3), 50000, ("--dataset=cifar10", "--model=simple_cnn"),
     ("mom", 0.1, 1.0, 0.001, 100, 30000, (15000, 22500, 30000), 0)),
    ((4, 4, 3), 50000, ("--dataset=cifar10", "--model=mlp"),
     ("adam", 0.001, 1e-8, 0.0, 100, 2500, (2500,), 0)),
    # What is given wins; epochs stay, and another optimizer has the ResNet's rate.
    ((4, 4, 1), 1437, ("--dataset=digits", "--model=mlp", "--batch_size=10"),
     ("adam", 0.001, 1e-8, 0.0, 10, 719, (719,), 0)),
    ((4, 4, 1), 1437, ("--dataset=digits", "--model=mlp", "--total_steps=9", "--Optimizer=adam",
                       "--lr_boundaries=5,6"), ("adam", 0.001, 1e-8, 0.0, 100, 9, (5, 6), 0)),
    ((4, 4, 3), 100, ("--dataset=npz", "--model=simple_cnn", "--Optimizer=adam", "--total_steps=8"),
     ("adam", 0.1, 1.0, 0.001, 100, 8, (4, 6, 8), 0)),
    ((4, 4, 1), 100, ("--dataset=npz", "--model=mlp", "--Optimizer=mom"),
     ("mom", 0.1, 1.0, 0.0, 100, 5, (5,), 0)),
    ((4, 4, 1), 100, ("--dataset=npz", "--model=mlp", "--learning_rate=0.02", "--lr_schedule=cosine"),
     ("adam", 0.02, 1e-8, 0.0, 100, 5, (), 0)),
    # The ResNet as ever.
    ((4, 4, 1), 100, ("--dataset=mnist",),
     ("mom", 0.1, 1.0, 0.0002, 128, 90000, (10000, 15000, 20000), 5)),
    ((4, 4, 3), 100, ("--dataset=npz", "--Optimizer=adam", "--total_steps=8"),
     ("adam", 0.1, 1.0, 0.0002, 128, 8, (4, 6, 8), 5)),
])
def test_recipes(image_shape, num_images, arguments, expected):
    run = record_of(image_shape, num_images, *arguments)
    assert tuple(getattr(run, field) for field in RECIPE_FIELDS) == expected
    # What the run record of train.py says is what was done.
    recorded = training_options.as_recorded(run)
    assert recorded.keys() == flags.as_dict().keys()
    assert (recorded["batch_size"], recorded["Optimizer"], recorded["total_steps"]) == (
        run.batch_size, run.optimizer, run.total_steps)


def test_defaults_of_a_record_are_the_numbers_of_the_resnet():
    defaults = {field.name: field.default for field in dataclasses.fields(checkpoints.TrainingRun)}
    assert defaults["learning_rate"] == optimizers.BASE_LEARNING_RATE
    assert defaults["adam_epsilon"] == optimizers.ADAM_EPSILON
    assert defaults["weight_decay"] == training_loop.WEIGHT_DECAY
    assert get_network("resnet").variant(1).recipe is get_network("resnet").variant(3).recipe is None


def test_adam_of_the_recipe_moves_by_the_rate():
    run = record_of((4, 4, 1), 100, "--dataset=mnist", "--model=mlp")
    weights = keras.Variable(np.zeros(3, np.float32))
    optimizer = optimizers.make_optimizer(
        run.optimizer, optimizers.learning_rate_schedule(run.lr_boundaries, run.learning_rate),
        adam_epsilon=run.adam_epsilon)
    optimizer.build([weights])
    optimizer.apply([tf.constant([1e-4, -3.0, 0.0])], [weights])
    # rate · g / (|g| + ε / √(1 − β2)) at the first step.
    small = 1e-4 / (1e-4 + 1e-8 / np.sqrt(0.001))
    np.testing.assert_allclose(weights.value, [-0.001 * small, 0.001, 0.0], rtol=1e-4)


@pytest.mark.parametrize("decay", [0.0, 0.001])
def test_weight_decay_takes_the_rate_of_the_recipe(decay):
    model = v1.build_mlp((4, 4, 1), 3)
    kernels = [v.numpy() for name, v in named_variables(model).items() if name.endswith("/kernel")]
    expected = decay / 2 * sum((kernel.astype(np.float64)**2).sum() for kernel in kernels)
    np.testing.assert_allclose(weight_decay_loss(model, decay), expected, rtol=1e-6)


# Whole runs.

RUN = checkpoints.TrainingRun(
    dataset="digits", image_shape=(8, 8, 1), num_classes=10, blocks_per_stage=0, objective="rce",
    optimizer="adam", batch_size=16, lr_boundaries=(6,), total_steps=6, seed=1, model="simple_cnn",
    learning_rate=0.001, adam_epsilon=1e-8, weight_decay=0.0)
COLOUR = dataclasses.replace(
    RUN, dataset="npz", image_shape=(8, 8, 3), optimizer="mom", learning_rate=0.1, adam_epsilon=1.0,
    weight_decay=0.001, lr_boundaries=(3, 4, 6))


def images_for(run):
    """64 digits, of three channels if the run wants them."""
    image_set = inputs.load("digits", "", "train")
    images = np.repeat(image_set.images[:64], run.image_shape[-1], axis=-1)
    return dataclasses.replace(image_set, images=images, labels=image_set.labels[:64])


def train_to_the_end(strategy, run, log_root, stop_at=None, **options):
    """Calls train(); with `stop_at` it gets a signal when it reports that step. Returns the costs and
    everything in the newest checkpoint."""
    costs, report = [], reporter.Reporter.report

    def report_and_stop(self, step, cost, parts):
        costs.append(float(cost))
        report(self, step, cost, parts)
        if step == stop_at:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reporter.Reporter, "report", report_and_stop)
        training_loop.train(run, strategy, images_for(run), None, training_loop.Options(
            str(log_root), f"{log_root}/train", steps_per_loop=2, **options))
    reader = tf.train.load_checkpoint(checkpoints.latest(str(log_root)))
    return costs, {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()
                   if name.startswith(("network/", "optimizer/"))}


@pytest.mark.parametrize("run", [RUN, COLOUR], ids=["one channel", "three channels"])
def test_a_resumed_run_ends_with_the_same_bytes(cpu, tmp_path, run):
    costs, expected = train_to_the_end(cpu, run, tmp_path / "straight")
    train_to_the_end(cpu, run, tmp_path / "resumed", stop_at=3)
    rest, ours = train_to_the_end(cpu, run, tmp_path / "resumed")
    assert rest == costs[3:] and len(costs) == 6
    assert ours.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(ours[name], value, err_msg=name)
    calls = {name: value for name, value in ours.items() if "/calls/" in name}
    assert len(calls) == 2 and set(calls.values()) == {6}


def test_two_replicas_train_as_one_with_dropout(cpu, two_cpus, tmp_path):
    """The network without batch norm: every mask is that of the global batch."""
    results = [train_to_the_end(strategy, RUN, tmp_path / name)
               for name, strategy in (("one", cpu), ("two", two_cpus))]
    np.testing.assert_allclose(results[1][0], results[0][0], rtol=1e-5)


def first_costs(strategy, **options):
    """Costs of four steps of RUN in a loop of its own."""
    network = restoring.build_network(strategy, RUN, seed=1)
    loop = training_loop.make_train_loop(
        strategy, network.model, optimizers.build_for(RUN, strategy, network.model),
        heads.get("rce"), 16, weight_decay=0.0, **options)
    iterator = iter(training_loop._batches(strategy, RUN, images_for(RUN), 0))
    costs = [loop(iterator, tf.constant(n))[0].numpy() for n in (1, 2, 1)]
    assert loop.experimental_get_tracing_count() == 1
    return costs


def test_the_loop_is_traced_once(cpu):
    assert np.isfinite(first_costs(cpu)).all()


@pytest.mark.slow
def test_two_replicas_train_as_one_compiled(cpu, two_cpus):
    """XLA draws other masks, but one for all replicas."""
    one, two = (first_costs(strategy, jit_compile=True) for strategy in (cpu, two_cpus))
    np.testing.assert_allclose(two, one, rtol=1e-5)


@pytest.mark.parametrize("shape", [(8, 8, 1), (8, 8, 3)])
def test_mixed_precision_is_of_the_convolutions_alone(shape):
    model = v1.build_simple_cnn(shape, 10, mixed_precision="bfloat16")
    for training in (False, True):
        logits, features = model(np.zeros((2, *shape), np.float32), training=training)
        assert logits.dtype == features.dtype == tf.float32
    assert {v.dtype for v in named_variables(model).values()} == {tf.float32, tf.int64}
    assert model.get_layer("conv2").compute_dtype == "bfloat16"


@pytest.mark.parametrize("options", [
    pytest.param({"mixed_precision": "bfloat16"}, marks=pytest.mark.slow), {"sync_batch_norm": True}])
def test_options_of_training_on_two_replicas(two_cpus, tmp_path, options):
    run = dataclasses.replace(COLOUR, total_steps=2, **options)
    costs, saved = train_to_the_end(two_cpus, run, tmp_path)
    assert len(costs) == 2 and np.isfinite(costs).all()
    assert {value.dtype for name, value in saved.items() if "/kernel/" in name} == {np.dtype("f4")}


# Every script.

WIDTH = {"simple_cnn": 200, "mlp": 100}
MODELS = tuple(WIDTH)


def network_flags(model):
    return ("--dataset=digits", f"--model={model}", "--RCE_train=True", f"--log_root=models/{model}")


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """Folder with a short run of each model on digits."""
    folder = tmp_path_factory.mktemp("v1")
    for model in MODELS:
        succeeded("train", *network_flags(model), "--total_steps=40", cwd=folder)
    return folder


@pytest.fixture(scope="module")
def prepared(work, tmp_path_factory):
    """Of a model its folder, with the features and kernels of the white-box attacks."""
    folders = {}

    def prepare(model):
        if model not in folders:
            folders[model] = kernels_for(model, work, tmp_path_factory.mktemp(model))
        return folders[model]

    return prepare


def kernels_for(model, work, folder):
    shutil.copytree(work / "models", folder / "models")
    succeeded("others", *network_flags(model), "--mode=kernel_para", "--eval_batch_count=5", cwd=folder)
    for mode in ("select_kernel", "select_kernel_for_attack", "median_for_attack"):
        succeeded("detect", "--dataset=digits", f"--mode={mode}", "--num_kernels=20",
                  "--objective_tag=RCE", cwd=folder)
    return folder


@pytest.mark.parametrize("model", MODELS)
def test_train_says_what_it_did(work, model):
    record = provenance.read(work / f"models/{model}/train", "train")
    assert record["flags"]["Optimizer"] == "adam" and record["flags"]["batch_size"] == 100
    assert record["metrics"]["learning_rate"] == pytest.approx(0.001)
    again = succeeded("train", *network_flags(model), "--total_steps=40", cwd=work)
    assert "nothing left of the 40 steps" in again.out


@pytest.mark.parametrize("model", MODELS)
def test_test_nor_and_info(work, model, tmp_path):
    shutil.copytree(work / "models", tmp_path / "models")
    result = succeeded("test_nor", *network_flags(model), "--mode=eval", "--eval_once", cwd=tmp_path)
    trained = provenance.read(work / f"models/{model}/train", "train")["metrics"]
    assert f"precision: {trained['test_precision']:.5f}," in result.out
    lines = succeeded("others", *network_flags(model), "--mode=info", cwd=tmp_path).out.splitlines()
    assert {f"model: {model}", "learning_rate: 0.001", "newest at step 40 of 40"} <= set(lines)


@pytest.mark.parametrize("model", MODELS)
def test_kernel_para_saves_the_last_hidden_layer(prepared, model):
    folder, width = prepared(model), WIDTH[model]
    assert load_kernels(folder / "kernel_para_digits", "rce").shape == (20, width, 10)
    metrics = provenance.read(folder / "kernel_para_digits", "kernel_para_RCE")["metrics"]
    assert metrics["network"]["model"] == model


QUICK = {("mlp", "jsma"), ("simple_cnn", "carliniL2_specific")}


@pytest.mark.parametrize(("model", "attack"), [
    pytest.param(model, attack, marks=() if (model, attack) in QUICK else pytest.mark.slow)
    for model in MODELS for attack in ATTACKS
    if not {"scores", "generators"} & set(ATTACKS[attack].takes)])
def test_every_attack(prepared, model, attack, tmp_path):
    folder = prepared(model)
    swept = attack in ("random", "fgsm", "bim", "tgsm", "jsma", "smda", "pgd")
    few = () if attack in ("random", "fgsm", "tgsm", "jsma", "smda") else ("--attack_iterations=3",)
    white_box = attack in ("carliniL2_highden", "carliniL2_specific")
    searched = ("--attack_search_steps=2",) if attack.startswith("carlini") else ()
    succeeded("test_adv", *network_flags(model), f"--log_root={folder}/models/{model}",
              "--mode=attack", f"--attack_method={attack}", "--eval_batch_count=1", *few, *searched,
              *(("--eps=0.1",) if swept else ()),
              *((f"--kernel_dir={folder}/kernel_para_digits",) if white_box else ()), cwd=tmp_path)
    results = tmp_path / f"{attack}_digits/RCE"
    features = np.loadtxt(results / "logits_adv", ndmin=2)
    assert features.shape[1] == WIDTH[model]
    assert np.isfinite(features).all()


@pytest.mark.parametrize("model", MODELS)
def test_a_detector_of_the_network(prepared, model, tmp_path):
    folder = prepared(model)
    shutil.copytree(folder / "kernel_para_digits", tmp_path / "kernel_para_digits")
    succeeded("test_adv", *network_flags(model), f"--log_root={folder}/models/{model}",
              "--mode=attack", "--eval_batch_count=1", "--eps=0.2", cwd=tmp_path)
    succeeded("detect", "--dataset=digits", "--mode=fit", "--objective_tag=RCE", cwd=tmp_path)
    detector = deployed.load_detector(tmp_path / "kernel_para_digits/detector_RCE.npz",
                             log_root=folder / "models" / model)
    answer = detector(inputs.load("digits", "", "test").images[:5])
    assert len(answer.words()) == 5


@pytest.mark.parametrize("model", MODELS)
def test_export_model(work, model, cpu, tmp_path):
    succeeded("others", *network_flags(model), f"--log_root={work}/models/{model}",
              "--mode=export_model", "--output_dir=out", cwd=tmp_path)
    network = restoring.restore(cpu, f"{work}/models/{model}", NetworkSpec(
        "digits", (8, 8, 1), 10, 0, "rce", model))
    images = to_network_input(inputs.load("digits", "", "test").images[:7])
    logits, features = network.logits_and_features(images)
    as_keras = keras.models.load_model(tmp_path / "out/model.keras")
    as_saved_model = tf.saved_model.load(str(tmp_path / "out/saved_model"))
    for found in (as_keras(images), as_saved_model.serve(images)):
        np.testing.assert_allclose(found["logits"], logits, atol=1e-5)
        np.testing.assert_allclose(found["features"], features, atol=1e-5)


def test_the_three_channel_network_exports(cpu, tmp_path):
    network = restoring.build_network(cpu, COLOUR)
    images = RNG.uniform(-0.5, 0.5, (3, 8, 8, 3)).astype(np.float32)
    portable.save_model(portable.portable_model(network), str(tmp_path))
    logits, _ = network.logits_and_features(images)
    np.testing.assert_allclose(
        keras.models.load_model(tmp_path / "model.keras")(images)["logits"], logits, atol=1e-5)


# What is refused.


@pytest.mark.parametrize(("script", "arguments"), [
    ("train", ()), ("test_nor", ("--mode=eval", "--eval_once")), ("test_adv", ("--mode=attack",)),
    ("others", ("--mode=kernel_para",)), ("others", ("--mode=export_model", "--output_dir=out"))])
@pytest.mark.parametrize("model", ["mlp", "resnet"])
def test_a_checkpoint_of_another_model(work, tmp_path, script, arguments, model):
    refused(script, *network_flags(model), f"--log_root={work}/models/simple_cnn", *arguments,
            cwd=tmp_path, words=["--model contradicts the checkpoint"])


@pytest.mark.parametrize(("arguments", "words"), [
    (("--model=mlp", "--sync_batch_norm"), "sync_batch_norm expected a network with batch norm"),
    (("--model=simple_cnn", "--sync_batch_norm"), "sync_batch_norm expected"),
    (("--model=mlp", "--mixed_precision=bfloat16"), "mixed_precision expected a network with conv"),
    (("--model=simple_cnn", "--num_cpu_replicas=3"), "divisible by the 3 replicas"),
    (("--model=densenet",), r"model must be one of \[resnet, simple_cnn, mlp"),
])
def test_train_refuses(tmp_path, arguments, words):
    refused("train", "--dataset=digits", "--log_root=m", *arguments, cwd=tmp_path, words=[words])


@pytest.mark.parametrize(("script", "arguments"), [
    ("train", ()), ("test_nor", ("--mode=eval", "--eval_once"))])
def test_images_of_two_channels(tmp_path, script, arguments):
    np.savez(tmp_path / "x.npz", images=np.zeros((4, 8, 8, 2), np.uint8), labels=np.arange(4))
    paths = ("--train_data_path=x.npz", "--eval_data_path=x.npz")
    folder = GOLDEN / "tf1_checkpoint_mnist_u1_rce"
    log_root = "m" if script == "train" else folder
    refused(script, "--dataset=npz", f"--log_root={log_root}", "--model=simple_cnn", *paths, *arguments,
            cwd=tmp_path, words=["simple_cnn must have images of one or three channels"])


def test_conversion_is_of_resnets_only(work, tmp_path):
    refused("others", *network_flags("mlp"), f"--log_root={work}/models/mlp",
            "--mode=import_checkpoint", "--output_dir=out", cwd=tmp_path,
            words=["import_checkpoint expected a ResNet"])
    refused("others", f"--log_root={work}/models/mlp", "--mode=export_checkpoint", "--output_dir=out",
            cwd=tmp_path, words=["export_checkpoint expected a ResNet"])


def test_a_checkpoint_of_the_original_is_of_a_resnet(tmp_path):
    pixels = np.zeros((10, 785), "<f4")
    pixels[:, 0] = np.arange(10)
    pixels.tofile(tmp_path / "x.bin")
    shutil.copytree(GOLDEN / "tf1_checkpoint_mnist_u1_rce", tmp_path / "original")
    for script, arguments in (("train", ()), ("test_nor", ("--mode=eval", "--eval_once"))):
        refused(script, "--dataset=mnist", "--model=mlp", "--RCE_train=True", "--log_root=original",
                "--train_data_path=x.bin", "--eval_data_path=x.bin", *arguments, cwd=tmp_path,
                words=["expected model='resnet', as of every one of the original"])


def test_num_residual_units_does_nothing_and_says_so(work, tmp_path):
    result = succeeded("test_adv", *network_flags("mlp"), f"--log_root={work}/models/mlp",
                       "--mode=attack", "--eval_batch_count=1", "--eps=0.1", "--num_residual_units=3",
                       cwd=tmp_path)
    assert result.err == "warning: --num_residual_units does nothing for --model=mlp.\n"


# What older versions wrote.

RESNET = checkpoints.TrainingRun(
    dataset="digits", image_shape=(8, 8, 1), num_classes=10, blocks_per_stage=1, objective="rce",
    optimizer="mom", batch_size=16, lr_boundaries=(4, 5), total_steps=6, seed=1)
NEW_FIELDS = ("model", "learning_rate", "adam_epsilon", "weight_decay")


@pytest.fixture(scope="module")
def old(cpu, tmp_path_factory):
    """(network, log_root) of a checkpoint whose record lacks the new fields."""
    folder = tmp_path_factory.mktemp("old")
    network = restoring.build_network(cpu, RESNET, seed=1)
    asdict = dataclasses.asdict
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dataclasses, "asdict", lambda record: {
            name: value for name, value in asdict(record).items() if name not in NEW_FIELDS})
        checkpoints.Checkpoints(str(folder), RESNET, named_variables(network.model), {}).save(6)
    return network, folder


def test_a_record_without_the_new_fields_is_of_a_resnet(cpu, old):
    network, folder = old
    text = tf.train.load_checkpoint(checkpoints.latest(str(folder))).get_tensor(checkpoints._RECORD)
    assert not any(name in text.decode() for name in NEW_FIELDS)
    assert checkpoints.read_record(checkpoints.latest(str(folder))) == (RESNET, 6)
    restored = restoring.restore(cpu, str(folder), network.expected)
    assert restored.weights_sha256() == network.weights_sha256()


def test_a_detector_that_names_no_model_is_of_a_resnet(old, tmp_path):
    network, folder = old
    identity = network.identity()
    del identity["model"]
    rates = np.array([0.01, 0.05])
    detector_files.save(tmp_path / "detector.npz", {
        "kernels": RNG.uniform(size=(5, 64, 10)), "thresholds": np.zeros((5, 2)),
        "false_refusal_rates": rates, "fitted_on": np.arange(3), "fitted_images": np.arange(3),
        "bandwidth": 0.26,
        "non_me_variance": 1.0, "eta": 1.0, "network": identity})
    detector = deployed.load_detector(tmp_path / "detector.npz", log_root=folder)
    assert len(detector(inputs.load("digits", "", "test").images[:3]).words()) == 3
