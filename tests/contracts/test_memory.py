"""What is declared is what is taken: 80 to 100 % of it at the peak, however many rows there are."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.contracts.memory_cases import ALGORITHM_EXAMPLES, cases
from tomodask.cluster.local import WORKER_BASE_BYTES, worker_environment
from tomodask.preprocess import CORRECTIONS
from tomodask.projectors import available_backends
from tomodask.reconstruct import ALGORITHMS

SLICES = ("parallel",)
ROOT = Path(__file__).parents[2]
CASES = list(cases(Path()))
SCRIPT = ("-m", "tests.contracts.memory_cases")


@pytest.fixture(scope="module")
def measured(tmp_path_factory) -> dict[str, tuple[int, int]]:
    """Bytes declared and bytes at the peak, by case."""
    folder = tmp_path_factory.mktemp("memory")
    done = subprocess.run(
        [sys.executable, *SCRIPT, str(folder)], cwd=ROOT, capture_output=True, text=True,
        check=True, env={**os.environ, **worker_environment(2)},
    )  # fmt: skip
    return {name: tuple(pair) for name, pair in json.loads(done.stdout).items()}


def test_every_entry_of_the_tables_is_measured():
    # those for a cone beam work on stored arrays alone: see tests/blockwise/test_memory.py
    of_slices = {
        n for n, kind in ALGORITHMS.items() if "parallel" in getattr(kind, "beams", SLICES)
    }
    assert set(ALGORITHM_EXAMPLES) == of_slices
    expected = [f"projector {name}" for name in available_backends()]
    expected += [f"algorithm {name}" for name in of_slices]
    expected += [f"correction {name}" for name in CORRECTIONS]
    assert set(expected) <= set(CASES)


@pytest.mark.parametrize("case", CASES)
def test_the_peak_is_80_to_100_percent_of_what_is_declared(measured, case):
    declared, peak = measured[case]
    told = f"{case}: declared {declared / 2**20:.1f} MiB, measured {peak / 2**20:.1f} MiB"
    assert 0.8 * declared <= peak <= declared, told


def test_memory_does_not_grow_with_the_rows(measured):
    _, few = measured["block of 96 rows"]
    _, many = measured["block of 288 rows"]
    assert many < 1.05 * few


def test_an_idle_worker_takes_no_more_than_is_set_aside_for_it():
    """A worker with everything imported and the default projector compiled or loaded."""
    code = (
        "import numpy as np, tomodask.pipeline, distributed\n"
        "from tests.contracts.memory_cases import algorithm_case, resident\n"
        "algorithm_case('fbp', np.pi, 0.5)\n"
        "print(resident('VmRSS'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True,
        env={**os.environ, **worker_environment(2)},
    )  # fmt: skip
    inputs = 4 * 32 * 804 * 512  # the case makes its sinograms too
    assert int(done.stdout) - inputs < WORKER_BASE_BYTES
