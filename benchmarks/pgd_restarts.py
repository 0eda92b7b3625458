"""PGD with restarts and adversarial training against the gradients they are made of, and rivals.

    python -m benchmarks.pgd_restarts            # bars of our own
    python -m benchmarks.pgd_restarts rivals     # pip install torch torchattacks foolbox
                                                 # adversarial-robustness-toolbox, those that are to run

LeNet of the logit pairing paper with random weights, 28 × 28 images, every core. Whatever is compared
alternates in one process; medians of the rounds and their ratios are printed:

- one start of 100 images, and many starts of five that nothing breaks, which share gradients, against
  the plain gradient of 100 images in a loop: at least 0.9 and 0.8 of its rate;
- starts that leave broken images alone, against all starts: at most 1.15 of the share alive;
- a training step of at50, against a plain step and 40 gradients of its batch: at most 1.1;
- rivals: PGD of the same steps from one start, of the same network where they take ours, else of the
  same layers in PyTorch.
"""

import sys
import warnings

import flags  # noqa: F401 sets TensorFlow's environment

import numpy as np
import tensorflow as tf

import attacks
from attacks.loops.ascent import GRADIENT_CHUNK
from benchmarks.timing import median_seconds
from evaluation.crafter import Clean, Crafter
from files.checkpoints import TrainingRun
from networks import restoring
from networks.network import Network
from networks.spec import NetworkSpec
from training import NO_ATTACK, OBJECTIVES, TrainingAttack, loop, optimizers

ROUNDS, NUM_STEPS, EPS, STEP_SIZE = 7, 40, 0.3, 0.01
NUM_FEW, RESTARTS_OF_FEW = 5, 40
# So that some images break at once, some late and some never.
EPS_OF_DROPPING, RESTARTS_OF_DROPPING = 0.008, 20
RIVAL_IMAGES = 200
BATCH, TRAINING_STEPS = 128, 2
SPEC = NetworkSpec("mnist", (28, 28, 1), 10, 0, "ce", "lenet")


def make_images(count: int) -> np.ndarray:
    """Images of noise, float32 [count, 28, 28, 1] in the box."""
    return np.random.default_rng(0).uniform(-0.5, 0.5, (count, 28, 28, 1)).astype(np.float32)


def our_pgd(strategy, network: Network, x: np.ndarray, *, eps: float = EPS, batch_size: int = 0,
            **settings):
    """A callable that attacks the images and returns what the crafter does."""
    crafter = Crafter(network, strategy, attacks.get("pgd"), seed=0, batch_size=batch_size, settings={
        "num_steps": NUM_STEPS, "step_size": STEP_SIZE, **settings})
    clean = Clean(np.zeros(len(x), int), np.zeros(len(x), bool))
    return lambda: crafter(x, np.arange(len(x)), eps=eps, clean=clean)


def raw_gradients(logits_fn, x: np.ndarray, number: int):
    """A callable that takes so many gradients of the cross entropy of all images, one after the
    other."""
    labels = tf.zeros(len(x), tf.int32)

    def gradient(images):
        with tf.GradientTape() as tape:
            tape.watch(images)
            loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits_fn(images))
        return tape.gradient(loss, images)

    @tf.function
    def loop_of_gradients(images):
        # Each hangs on the one before, as in an attack, or the compiler would take but one.
        return tf.while_loop(lambda i, _: i < number,
                             lambda i, image: (i + 1, images + 1e-3 * gradient(image)), (0, images),
                             parallel_iterations=1)[1]

    images = tf.constant(x)
    return lambda: loop_of_gradients(images).numpy()


def bars_of_restarts(strategy):
    """Prints PGD's rates over the raw gradient's, and what leaving images alone saves."""
    network = restoring.build_network(strategy, SPEC)
    x = make_images(GRADIENT_CHUNK)
    # A change that turns no class.
    tiny = {"eps": 1e-6, "step_size": 1e-7, "num_restarts": RESTARTS_OF_FEW, "drop_broken": True}
    few = our_pgd(strategy, network, x[:NUM_FEW], **tiny)
    if np.any(few()["first_broken"] >= 0):
        raise SystemExit("expected images that nothing breaks. Received: broken ones.")
    # Twice: two of the very same loop differ by a quarter, whatever their memory happens to be.
    median = median_seconds({
        "first raw": raw_gradients(network.logits, x, NUM_STEPS),
        "queued": our_pgd(strategy, network, x, batch_size=GRADIENT_CHUNK), "few": few,
        "second raw": raw_gradients(network.logits, x, NUM_STEPS)}, 2 * ROUNDS)
    queued = GRADIENT_CHUNK * NUM_STEPS / median["queued"]
    rate = NUM_FEW * RESTARTS_OF_FEW * NUM_STEPS / median["few"]
    for name in ("first raw", "second raw"):
        raw = GRADIENT_CHUNK * NUM_STEPS / median[name]
        print(f"{name} gradients {raw:,.0f}/s; PGD of {GRADIENT_CHUNK} images {queued / raw:.3f}, "
              f"{RESTARTS_OF_FEW} starts of {NUM_FEW} images {rate / raw:.3f}")

    both = {drop: our_pgd(strategy, network, x, eps=EPS_OF_DROPPING, drop_broken=drop,
                          num_restarts=RESTARTS_OF_DROPPING) for drop in (True, False)}
    broken = both[True]()["first_broken"]
    alive = np.where(broken < 0, RESTARTS_OF_DROPPING, broken + 1).mean() / RESTARTS_OF_DROPPING
    median = median_seconds(both, 3)
    share = median[True] / median[False]
    print(f"leaving broken images alone takes {share:.3f} of the time, with {alive:.3f} of the starts "
          f"alive: {share / alive:.3f}")


def training_step(strategy, objective: str):
    """A callable that runs TRAINING_STEPS steps of an objective."""
    run = TrainingRun("mnist", (28, 28, 1), 10, 0, "ce", "adam", BATCH, (10**6,), 10**6, 0,
                      model="lenet")
    network = restoring.build_network(strategy, run)
    optimizer = optimizers.build_for(run, strategy, network.model)
    attacked = objective != "plain"
    step = loop.make_train_loop(
        strategy, network.model, optimizer, network.head, BATCH, weights=OBJECTIVES[objective].weights,
        attack=TrainingAttack(EPS, STEP_SIZE, NUM_STEPS) if attacked else NO_ATTACK)
    x = make_images(BATCH)
    made = (x,) * attacked
    batches = iter(tf.data.Dataset.from_tensors((x, np.zeros(BATCH, np.int32), *made)).repeat())
    return lambda: step(batches, tf.constant(TRAINING_STEPS))[0].numpy()


def bar_of_training(strategy):
    """Prints what a step of at50 costs."""
    network = restoring.build_network(strategy, SPEC)
    median = median_seconds({
        "at50": training_step(strategy, "at50"), "plain": training_step(strategy, "plain"),
        "gradients": raw_gradients(network.logits, make_images(BATCH), NUM_STEPS)}, ROUNDS)
    parts = median["plain"] / TRAINING_STEPS + median["gradients"]
    print(f"a step of at50 takes {median['at50'] / TRAINING_STEPS / parts:.3f} of a plain step and "
          f"{NUM_STEPS} gradients")


def torch_lenet():
    """LeNet in PyTorch, in eval mode, without gradients of its weights."""
    from torch import nn

    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 3, padding=1),
        nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64 * 49, 1024), nn.ReLU(),
        nn.Linear(1024, 10)).eval().requires_grad_(False)


def foolbox_torch(network, x, labels):
    """Foolbox on PyTorch."""
    import foolbox
    import torch

    model = foolbox.PyTorchModel(torch_lenet(), bounds=(-0.5, 0.5), device="cpu")
    attack = foolbox.attacks.LinfPGD(abs_stepsize=STEP_SIZE, steps=NUM_STEPS)
    images, wanted = torch.tensor(x.transpose(0, 3, 1, 2)), torch.tensor(labels)
    return lambda: attack(model, images, wanted, epsilons=EPS)


def foolbox_tensorflow(network, x, labels):
    """Foolbox on our own network, as a tf.function."""
    import foolbox

    model = foolbox.TensorFlowModel(tf.function(network.logits), bounds=(-0.5, 0.5), device="/cpu:0")
    attack = foolbox.attacks.LinfPGD(abs_stepsize=STEP_SIZE, steps=NUM_STEPS)
    images, wanted = tf.constant(x), tf.constant(labels)
    return lambda: attack(model, images, wanted, epsilons=EPS)


def art(network, x, labels):
    """ART on our own network, as a tf.function."""
    import keras
    from art.attacks.evasion import ProjectedGradientDescentTensorFlowV2
    from art.estimators.classification import TensorFlowV2Classifier

    logits = tf.function(lambda images, training: network.logits(images))
    classifier = TensorFlowV2Classifier(
        logits, nb_classes=10, input_shape=x.shape[1:], clip_values=(-0.5, 0.5),
        loss_object=keras.losses.CategoricalCrossentropy(from_logits=True))
    attack = ProjectedGradientDescentTensorFlowV2(
        classifier, eps=EPS, eps_step=STEP_SIZE, max_iter=NUM_STEPS, num_random_init=1,
        batch_size=len(x), verbose=False)
    one_hot = np.eye(10, dtype=np.float32)[labels]
    return lambda: attack.generate(x, one_hot)


def torchattacks(network, x, labels):
    """torchattacks on PyTorch."""
    import torch
    import torchattacks as rival

    attack = rival.PGD(torch_lenet(), eps=EPS, alpha=STEP_SIZE, steps=NUM_STEPS)
    # It takes images in [0, 1].
    images, wanted = torch.tensor(x.transpose(0, 3, 1, 2) + 0.5), torch.tensor(labels)
    return lambda: attack(images, wanted)


RIVALS = {"Foolbox, PyTorch": foolbox_torch, "Foolbox, TensorFlow": foolbox_tensorflow, "ART": art,
          "torchattacks": torchattacks}


def rivals(strategy):
    """Prints the time of each rival that is installed over ours."""
    network, x = restoring.build_network(strategy, SPEC), make_images(RIVAL_IMAGES)
    labels = np.argmax(network.logits(x), axis=-1)
    calls = {"ours": our_pgd(strategy, network, x)}
    for name, make in RIVALS.items():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                calls[name] = make(network, x, labels)
        except ImportError as error:
            print(f"{name}: not run, {error}")
    median = median_seconds(calls, ROUNDS)
    ours = median.pop("ours")
    told = ", ".join(f"{name} {seconds / ours:.2f} times that" for name, seconds in median.items())
    print(f"PGD of {NUM_STEPS} steps of {RIVAL_IMAGES} images: ours {ours:.2f} s, {told}")


def main():
    """Prints the bars, or the rivals."""
    strategy = tf.distribute.OneDeviceStrategy("/cpu:0")
    if "rivals" in sys.argv[1:]:
        rivals(strategy)
        return
    bars_of_restarts(strategy)
    bar_of_training(strategy)


if __name__ == "__main__":
    main()
