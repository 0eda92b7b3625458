"""Runtime masking and cleansing: a network that adapts to each image before it answers.

Wu, Yuan and Wu, ICML 2020 (PMLR 119:10399-10409). neighbors.py finds and splits rows of the augmented
set, adapter.py fine-tunes on them, defender.py answers with both. This file starts without TensorFlow.
"""

STATES = ("sequential", "reset", "frozen")
NEIGHBORS = ("nearest", "random")
# Which rows of the augmented set calibration draws from.
CALIBRATIONS = ("all", "clean", "none")
