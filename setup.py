"""Installs the scripts and packages of the clone: `pip install -e .` (no wheel is promised)."""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent

setup(
    name="reverse-cross-entropy-tf2",
    version="0.1.0",
    description="Reverse cross-entropy training and detection of adversarial examples, TensorFlow 2",
    license="Apache-2.0",
    python_requires=">=3.11",
    # Whatever lies here: a new module or room is listed nowhere.
    py_modules=sorted(path.stem for path in HERE.glob("*.py") if path.name != "setup.py"),
    packages=find_packages(exclude=["tests", "tests.*", "benchmarks", "results"]),
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
        # The rivals that benchmarks/attack_throughput.py is run against. benchmarks/torch_rivals.py
        # wants the CPU build of torch==2.13.0, which is not named here: PyPI's brings CUDA along.
        "bench": ["adversarial-robustness-toolbox==1.20.*", "foolbox==3.3.*", "cleverhans==4.0.*"],
    },
)
