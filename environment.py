"""What TensorFlow reads when it is loaded: imported before it, wherever a program starts.

What the user has set stays.
"""

import os

# oneDNN's kernels are off by default on x86 CPUs without AVX-512, where they train ResNet-32 about
# 1.7 times faster (benchmarks/train_throughput.py).
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
