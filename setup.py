"""Installs the scripts and packages of the clone: `pip install -e .` (no wheel is promised)."""

from setuptools import setup

setup(
    name="reverse-cross-entropy-tf2",
    version="0.1.0",
    description="Reverse cross-entropy training and detection of adversarial examples, TensorFlow 2",
    license="Apache-2.0",
    python_requires=">=3.11",
    py_modules=["cluster", "crafting", "detect", "detector", "environment", "errors", "evaluation",
                "exporting", "figures", "flags", "inference", "metrics", "optimizers", "others",
                "plots", "recipes", "resnet_model", "scoring", "sweep", "test_adv", "test_nor",
                "train", "v1_networks"],
    packages=["attacks", "data", "defenses"],
    install_requires=[
        "absl-py>=2.0",
        "matplotlib>=3.8",
        "numpy>=1.26",
        "pillow>=10.0",
        "scikit-learn>=1.4",
        "scipy>=1.11",
        "tensorflow>=2.16",  # tested with 2.21
        "tensorflow-datasets>=4.9",
        "tqdm>=4.66",
        "importlib_resources",  # needed, but not installed, by tensorflow-datasets 4.9.10
        "tensorboard",  # needed by tf.summary, but not installed by TensorFlow 2.21
    ],
    extras_require={
        "test": ["pytest>=8.0", "pytest-xdist>=3.5", "ruff>=0.8"],
        "gpu": ["tensorflow[and-cuda]>=2.16"],
        # The rivals that benchmarks/attack_throughput.py is run against.
        "bench": ["adversarial-robustness-toolbox==1.20.*", "foolbox==3.3.*", "cleverhans==4.0.*"],
    },
)
