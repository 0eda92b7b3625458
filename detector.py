"""Moved: `from defenses.deployed import load_detector`."""

import warnings

from defenses.deployed import Answer, LoadedDetector, load_detector  # noqa: F401 the old import line

warnings.warn("detector.py has moved: from defenses.deployed import load_detector", DeprecationWarning,
              stacklevel=2)
