"""Our training step and attacks beside the same in PyTorch: ResNet-32, MNIST size, every core.

    python -m benchmarks.torch_rivals            # pip install torch==2.13.0 (the CPU build)
    python -m benchmarks.torch_rivals BIM C&W    # of these alone

PyTorch runs its own best: eager, channels_last and torch.compile for the step; for the attacks the
input gradient of the network in eval mode, eager and compiled, in the loop of each attack. The network
has the same layers, with random weights: rates alone are compared. All alternate in one process, so
that a drift of the machine meets each of them; medians of the rounds and their ratios are printed.
"""

import sys

import flags  # noqa: F401 sets TensorFlow's environment

import numpy as np
import tensorflow as tf
import torch
from torch import nn
from torch.nn import functional

import attacks
from benchmarks.timing import median_seconds
from evaluation.crafter import Crafter
from files.checkpoints import TrainingRun
from networks import restoring
from training import loop, optimizers

BATCH, ROUNDS, STEPS = 128, 7, 4
# Whole calls of ours (attacks.ATTACKS), which would be padded otherwise.
ATTACKED, SEARCHED = 200, 160
RUN = TrainingRun("mnist", (28, 28, 1), 10, 5, "ce", "mom", BATCH, (10**6,), 10**6, 0)
SLOPE = 0.1


class Unit(nn.Module):
    """The residual unit of resnet_model.py."""

    def __init__(self, channels, filters, stride, *, is_first):
        super().__init__()
        self.bn1, self.bn2 = nn.BatchNorm2d(channels), nn.BatchNorm2d(filters)
        self.conv1 = nn.Conv2d(channels, filters, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(filters, filters, 3, 1, 1, bias=False)
        self.stride, self.is_first, self.padding = stride, is_first, (filters - channels) // 2

    def forward(self, x):
        """Images [n, c, h, w] to [n, filters, h / stride, w / stride]."""
        activated = functional.leaky_relu(self.bn1(x), SLOPE)
        shortcut = activated if self.is_first else x
        if self.padding:
            shortcut = functional.avg_pool2d(shortcut, self.stride)
            shortcut = functional.pad(shortcut, (0, 0, 0, 0, self.padding, self.padding))
        x = self.conv1(activated)
        return self.conv2(functional.leaky_relu(self.bn2(x), SLOPE)) + shortcut


class ResNet(nn.Module):
    """ResNet-32 of resnet_model.py."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 16, 3, 1, 1, bias=False)
        units, channels = [], 16
        for stage, filters in enumerate((16, 32, 64)):
            for block in range(RUN.blocks_per_stage):
                stride = 2 if stage and not block else 1
                units.append(Unit(channels, filters, stride, is_first=not units))
                channels = filters
        self.units = nn.Sequential(*units)
        self.last, self.logits = nn.BatchNorm2d(64), nn.Linear(64, 10)

    def forward(self, x):
        """Images [n, 1, 28, 28] to logits [n, 10]."""
        x = functional.leaky_relu(self.last(self.units(self.first(x))), SLOPE)
        return self.logits(x.mean((2, 3)))


def torch_step(*, compiled=False, channels_last=False):
    """A callable that runs STEPS training steps of momentum with weight decay."""
    model = ResNet()
    images, labels = torch.rand(BATCH, 1, 28, 28) - 0.5, torch.randint(0, 10, (BATCH,))
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
        images = images.contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9, weight_decay=2e-4)
    forward = torch.compile(model) if compiled else model

    def run():
        for _ in range(STEPS):
            optimizer.zero_grad()
            functional.cross_entropy(forward(images), labels).backward()
            optimizer.step()

    return run


def torch_gradient(*, compiled):
    """Images and labels to the gradient of the cross entropy, in eval mode."""
    model = ResNet().eval().requires_grad_(False)
    forward = torch.compile(model) if compiled else model

    def gradient(images, labels):
        images = images.detach().requires_grad_(True)
        loss = functional.cross_entropy(forward(images), labels, reduction="sum")
        return torch.autograd.grad(loss, images)[0]

    return gradient


def torch_sign_attack(num_steps, *, compiled, project):
    """BIM, or with `project` PGD: a callable that attacks ATTACKED images."""
    gradient, eps = torch_gradient(compiled=compiled), 0.1
    x, labels = torch.rand(ATTACKED, 1, 28, 28) - 0.5, torch.randint(0, 10, (ATTACKED,))

    def run():
        image = x
        for _ in range(num_steps):
            image = image + eps / num_steps * gradient(image, labels).sign()
            if project:
                image = torch.minimum(torch.maximum(image, x - eps), x + eps)
            image = image.clamp(-0.5, 0.5)

    return run


def torch_carlini(num_steps, *, compiled):
    """C&W's inner loop for SEARCHED images: Adam in tanh space, the best image kept."""
    model = ResNet().eval().requires_grad_(False)
    forward = torch.compile(model) if compiled else model
    x, target = torch.rand(SEARCHED, 1, 28, 28) - 0.5, torch.randint(0, 10, (SEARCHED,))
    hot = functional.one_hot(target, 10).bool()
    start = torch.atanh(x * 2 * 0.999999)

    def run():
        delta = torch.zeros_like(x, requires_grad=True)
        adam = torch.optim.Adam([delta], 0.01)
        best, best_l2 = x.clone(), torch.full((SEARCHED,), float("inf"))
        for _ in range(num_steps):
            image = torch.tanh(start + delta) / 2
            logits = forward(image)
            l2 = (image - x).square().sum((1, 2, 3))
            other = logits.masked_fill(hot, -float("inf")).amax(1)
            margin = other - logits[hot]
            adam.zero_grad()
            (l2 + margin.clamp(min=0)).sum().backward()
            adam.step()
            better = (margin < 0) & (l2 < best_l2)
            best_l2 = torch.where(better, l2.detach(), best_l2)
            best = torch.where(better[:, None, None, None], image.detach(), best)

    return run


def our_step(strategy):
    """A callable that runs STEPS training steps."""
    network = restoring.build_network(strategy, RUN)
    optimizer = optimizers.build_for(RUN, strategy, network.model)
    step = loop.make_train_loop(strategy, network.model, optimizer, network.head, BATCH)
    images = tf.random.stateless_uniform([BATCH, 28, 28, 1], [0, 1], -0.5, 0.5)
    labels = tf.random.stateless_uniform([BATCH], [0, 2], 0, 10, tf.int32)
    iterator = iter(tf.data.Dataset.from_tensors((images, labels)).repeat())
    return lambda: step(iterator, tf.constant(STEPS))[0].numpy()


def our_attack(strategy, name, count, **settings):
    """A callable that attacks so many images."""
    network = restoring.build_network(strategy, RUN)
    attack = attacks.get(name)
    crafter = Crafter(network, strategy, attack, seed=0, settings=settings)
    draw = np.random.default_rng(0)
    x = draw.uniform(-0.5, 0.5, (count, 28, 28, 1)).astype(np.float32)
    targets = [draw.integers(0, 10, count).astype(np.int32)] if attack.stages else ()
    eps = {"eps": 0.1} if attack.uses_eps else {}
    return lambda: crafter(x, np.arange(count), targets=targets, **eps)


def main():
    """Prints, per work, our rate over that of each way of PyTorch."""
    strategy = tf.distribute.OneDeviceStrategy("/cpu:0")
    both = ("eager", "compile")
    works = {
        "training": lambda: {"ours": our_step(strategy), "eager": torch_step(),
                             "channels_last": torch_step(channels_last=True),
                             "compile": torch_step(compiled=True)},
        "BIM, 10 steps": lambda: {"ours": our_attack(strategy, "bim", ATTACKED), **{
            way: torch_sign_attack(10, compiled=way == "compile", project=False) for way in both}},
        "PGD, 10 steps": lambda: {"ours": our_attack(strategy, "pgd", ATTACKED, num_steps=10), **{
            way: torch_sign_attack(10, compiled=way == "compile", project=True) for way in both}},
        "C&W, 6 iterations": lambda: {
            "ours": our_attack(strategy, "carliniL2", SEARCHED, num_steps=6, num_search_steps=1),
            **{way: torch_carlini(6, compiled=way == "compile") for way in both}},
    }
    wanted = sys.argv[1:] or [""]
    for work in (work for work in works if any(work.startswith(name) for name in wanted)):
        ways = works[work]()
        median = median_seconds(ways, ROUNDS)
        rivals = ", ".join(f"{median[way] / median['ours']:.2f} times PyTorch {way}"
                           for way in ways if way != "ours")
        print(f"{work}: ours {median['ours']:.2f} s, {rivals}", flush=True)


if __name__ == "__main__":
    main()
