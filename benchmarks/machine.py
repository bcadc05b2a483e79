"""What a figure was measured on: the machine, and how fast it calculates and moves bytes at all."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numba
import numpy as np

PACKAGES = (
    "tomodask",
    "numpy",
    "scipy",
    "numba",
    "finufft",
    "ducc0",
    "astra-toolbox",
    "zarr",
    "dask",
)
TRIAD_BYTES = 3 * 2**27  # of all three arrays: more than a cache holds
TERMS = 16  # of the polynomial; with more, too few of them are under way at once
ROUNDS = 10_000
TRIALS = 7


def describe_machine(packages: Iterable[str] = PACKAGES) -> dict[str, Any]:
    """Processor, cores that this process may use, memory, versions and the date, ready for JSON."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "load_average": round(os.getloadavg()[0], 2),
        "platform": platform.platform(),
        "versions": {"python": platform.python_version()}
        | {package: _version(package) for package in packages},
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


@lru_cache(maxsize=8)
def measure_limits(threads: int, triad_bytes: int = TRIAD_BYTES) -> dict[str, Any]:
    """The best GB/s and float32 GFLOP/s that `threads` threads reach, measured once a process.

    GB/s are those of the triad a = b + s c, three arrays counted, as STREAM does (McCalpin 1995).
    GFLOP/s are those of a polynomial by Horner's rule on values in the first cache, all of it
    multiply-adds that the compiler turns into vectors: what code can reach, a little under the
    data sheet's peak.
    """
    return {
        "threads": threads,
        "triad_gb_s": round(_triad_bytes_a_second(threads, triad_bytes) / 1e9, 1),
        "fma_gflop_s": round(_flop_a_second(threads) / 1e9, 1),
        "fma_by": "polynomial by Horner's rule, float32, in the first cache",
    }


def _triad_bytes_a_second(threads: int, triad_bytes: int) -> float:
    size = triad_bytes // 12 // threads
    arrays = [tuple(np.full(size, value, np.float32) for value in range(3)) for _ in range(threads)]
    seconds = _best_seconds(lambda mine: _triad(*mine, np.float32(0.5)), arrays)
    return 12 * size * threads / seconds


def _flop_a_second(threads: int) -> float:
    x = np.linspace(0, 0.5, 1024, dtype=np.float32)
    shares = [x.copy() for _ in range(threads)]
    seconds = _best_seconds(lambda sums: _polynomials(x, sums, ROUNDS), shares)
    return threads * ROUNDS * x.size * (2 * TERMS + 1) / seconds


@numba.njit(nogil=True, fastmath=True)
def _triad(a: np.ndarray, b: np.ndarray, c: np.ndarray, factor: float) -> None:
    for i in range(a.size):
        a[i] = b[i] + factor * c[i]


@numba.njit(nogil=True, fastmath=True)
def _polynomials(x: np.ndarray, sums: np.ndarray, rounds: int) -> None:
    for _ in range(rounds):
        for i in range(x.size):
            total = np.float32(0.1)
            for _ in range(TERMS):
                total = total * x[i] + np.float32(0.3)
            sums[i] += total


def _best_seconds(do: Callable[[Any], object], shares: list[Any]) -> float:
    """Of all shares at once, a thread each; the first, which compiles, is not counted."""
    with ThreadPoolExecutor(len(shares)) as pool:
        list(pool.map(do, shares))
        best = float("inf")
        for _ in range(TRIALS):
            began = time.perf_counter()
            list(pool.map(do, shares))
            best = min(best, time.perf_counter() - began)
    return best


def _cpu_model() -> str:
    """Name, family and model: virtual machines often hide the name alone."""
    fields: dict[str, str] = {}
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    family, model = fields.get("cpu family", "?"), fields.get("model", "?")
    return f"{fields.get('model name', platform.machine())} (family {family}, model {model})"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
