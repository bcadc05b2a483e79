"""Timing cases that take turns, so that a busy machine slows all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np


def seconds_of(do: Callable[[], object]) -> float:
    """Wall time of one call."""
    began = time.perf_counter()
    do()
    return time.perf_counter() - began


def take_turns(cases: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, np.ndarray]:
    """Seconds of each call, (repeats,) by name; every case runs once before anything is timed."""
    for do in cases.values():
        do()
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(repeats):
        for name, do in cases.items():
            seconds[name].append(seconds_of(do))
    return {name: np.array(each) for name, each in seconds.items()}


def rate(seconds: np.ndarray, num_slices: int) -> dict[str, Any]:
    """Median and quartiles of slices a second."""
    low, median, high = np.percentile(num_slices / seconds, [25, 50, 75])
    return {
        "slices": num_slices,
        "slices_per_second": float(median),
        "quartiles": [float(low), float(high)],
        "repeats": seconds.size,
    }


def ratio(ours: np.ndarray, theirs: np.ndarray) -> dict[str, Any]:
    """How many times as fast we are, repeat by repeat: median and quartiles.

    ours, theirs : (repeats,) seconds for the same slices.
    """
    low, median, high = np.percentile(theirs / ours, [25, 50, 75])
    return {"median": float(median), "quartiles": [float(low), float(high)]}
