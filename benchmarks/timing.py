"""Timing side by side: calls alternate, so that a drift of the machine meets each of them."""

import statistics
import time
from collections.abc import Callable, Hashable, Mapping


def median_seconds(calls: Mapping[Hashable, Callable], rounds: int, *,
                   warm_up: bool = True) -> dict[Hashable, float]:
    """Median wall seconds of each of `calls`.

    Args:
      calls: name → what is timed, without arguments.
      rounds: how often.
      warm_up: whether each is called once before, untimed; False where each has been.
    """
    # The first call traces and allocates, which no later one does.
    if warm_up:
        for call in calls.values():
            call()
    times = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - started)
    # A neighbour's burst moves a mean, and favours whom it spares; a median hardly.
    return {name: statistics.median(t) for name, t in times.items()}
