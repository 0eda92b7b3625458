"""Seconds and memory of `detect.py --mode=auc` at the paper's size, and of the K-density alone.

    python -m benchmarks.detection

The size: 10 eps of 1,000 images, 1,000 kernels in each of 10 classes, 64 features. The rival of the
K-density is scikit-learn's KernelDensity, one per class.
"""

import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from sklearn.neighbors import KernelDensity

from benchmarks.timing import median_seconds
from defenses.kernels import KERNEL_BANDWIDTH, log_kernel_density
from files import result_files
from files.features import save_kernels
from files.names import RESULT_IMAGES

ROOT = Path(__file__).resolve().parent.parent
NUM_IMAGES, NUM_KERNELS, NUM_FEATURES, NUM_CLASSES = 10_000, 1000, 64, 10
BANDWIDTH = KERNEL_BANDWIDTH["rce"]
ROUNDS = 3


def make_features(classes, rng):
    """Features [n, d] in one cloud per class."""
    # The same centres at every call: kernels and images share their clouds.
    centres = np.random.default_rng(1).normal(size=(NUM_CLASSES, NUM_FEATURES))
    return 0.3 * centres[classes] + 0.05 * rng.normal(size=(len(classes), NUM_FEATURES))


def make_kernels(rng):
    """[num_kernels, d, num_classes]."""
    return np.stack([make_features(np.full(NUM_KERNELS, c), rng) for c in range(NUM_CLASSES)], axis=2)


def write_results(folder, rng):
    """What test_adv.py leaves of FGSM and detect.py of the kernels."""
    true = rng.integers(NUM_CLASSES, size=NUM_IMAGES)
    wrong = (true + 1) % NUM_CLASSES
    result_files.save_attack_results(folder / "fgsm_mnist/RCE", {
        "labels_true": true, "labels_nor": true, "labels_adv": wrong,
        "logits_nor": make_features(true, rng), "logits_adv": make_features(wrong, rng),
        **{name: rng.random(NUM_IMAGES) for name in (
            "entropy_nor", "entropy_adv", "confidence_nor", "confidence_adv", "L2_distance")},
        # Of one pixel: auc reads no images.
        **{name: np.zeros((NUM_IMAGES, 1, 1, 1), np.float32) for name in RESULT_IMAGES}})
    save_kernels(folder / "kernel_para_mnist", "rce", make_kernels(rng))


def by_scikit_learn(features, classes, kernels):
    """log K-densities [n] up to the constant of a normalised Gaussian."""
    densities = np.empty(len(features))
    for c in range(kernels.shape[2]):
        rows = classes == c
        # exp(-d²/σ²) is a Gaussian of variance σ²/2; scikit-learn asks for its standard deviation.
        densities[rows] = KernelDensity(bandwidth=np.sqrt(BANDWIDTH / 2)).fit(
            kernels[:, :, c]).score_samples(features[rows])
    return densities


def main():
    """Prints seconds, peak memory and ratios."""
    rng = np.random.default_rng(0)
    command = [sys.executable, str(ROOT / "detect.py"), "--dataset=mnist", "--attack_method=fgsm"]
    classes = rng.integers(NUM_CLASSES, size=NUM_IMAGES)
    features, kernels = make_features(classes, rng), make_kernels(rng)
    with tempfile.TemporaryDirectory() as name:
        write_results(Path(name), rng)
        # In a process of its own: a user waits for Python's start and imports, too, and the peak is
        # then of this program alone.
        program = median_seconds({"program": lambda: subprocess.run(
            command, cwd=name, check=True, capture_output=True)}, ROUNDS)["program"]
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    seconds = median_seconds({
        "ours": lambda: log_kernel_density(features, classes, kernels, BANDWIDTH),
        "rival": lambda: by_scikit_learn(features, classes, kernels)}, ROUNDS)
    print(f"detect.py --mode=auc: {program:.2f} s, peak {peak:.0f} MiB (asked: 3 s, 1 GB)")
    print(f"K-density of {NUM_IMAGES:,} images: {seconds['ours']:.2f} s (asked: 5 s); scikit-learn's "
          f"KernelDensity: {seconds['rival']:.2f} s, {seconds['rival'] / seconds['ours']:.1f} times as "
          "long")


if __name__ == "__main__":
    main()
