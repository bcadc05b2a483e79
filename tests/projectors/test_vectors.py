"""Vectors are arrays that are added and multiplied lane by lane."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tomodask.projectors import vectors
from tomodask.projectors.vectors import (
    ALIGNMENT,
    LANES,
    add,
    aligned_empty,
    fma,
    fms,
    fnma,
    kernel,
    load,
    mul,
    prefetch,
    splat,
    store,
    stream,
    sub,
    transpose,
)


@kernel
def _combine(a, b, c, out):
    x, y, z = load(a, 0), load(b, 0), load(c, 0)
    results = (add(x, y), sub(x, y), mul(x, y), fma(x, y, z), fms(x, y, z), fnma(x, y, z))
    prefetch(out, 0)
    for i, vector in enumerate(results):
        store(out, i * LANES, vector)
    stream(out, 6 * LANES, splat(c[1]))


def test_operations_are_those_of_arrays_lane_by_lane(rng: np.random.Generator) -> None:
    a, b, c = rng.integers(-9, 9, size=(3, LANES)).astype(np.float32)  # products are exact
    out = aligned_empty(7 * LANES)
    _combine(a, b, c, out)
    expected = [a + b, a - b, a * b, a * b + c, a * b - c, c - a * b, np.full(LANES, c[1])]
    assert np.array_equal(out.reshape(7, LANES), expected)


def test_nan_stays_in_its_lane() -> None:
    a = np.ones(LANES, np.float32)
    a[3] = np.nan
    out = aligned_empty(7 * LANES)
    _combine(a, a, a, out)
    missing = np.isnan(out.reshape(7, LANES))
    assert missing[:6, 3].all()
    assert missing[:6].sum() == 6


@kernel
def _transpose(x, i, d, y, o, e):
    transpose(x, i, d, y, o, e)


def test_transpose_turns_vectors_into_lanes() -> None:
    x = np.arange(LANES * (LANES + 3) + 5, dtype=np.float32)
    y = np.zeros(LANES * (LANES + 7) + 2, np.float32)
    _transpose(x, 5, LANES + 3, y, 2, LANES + 7)
    block = x[5:].reshape(LANES, LANES + 3)[:, :LANES]
    assert np.array_equal(y[2:].reshape(LANES, LANES + 7)[:, :LANES], block.T)


@pytest.mark.parametrize("size", [1, 100, 10**6])
def test_buffers_begin_on_a_cache_line(size: int) -> None:
    buffer = aligned_empty(size)
    assert buffer.ctypes.data % ALIGNMENT == 0
    assert (buffer.size, buffer.dtype) == (size, np.float32)


def cache_folder(variables: dict[str, str], prelude: str = "") -> str:
    """What a new process takes as the folder of its kernels."""
    code = f"{prelude}\nfrom tomodask.projectors import vectors\nprint(vectors._CACHE)"
    environment = {**os.environ, **variables}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    ).stdout.strip()


def test_kernels_are_kept_where_numba_was_told_to(tmp_path) -> None:
    assert Path(cache_folder({"NUMBA_CACHE_DIR": str(tmp_path)})).parent == tmp_path


def test_every_version_of_the_sources_has_a_folder(tmp_path) -> None:
    """Numba does not notice that a kernel within another has changed."""
    changed = "import pathlib; read = pathlib.Path.read_bytes\n"
    changed += "pathlib.Path.read_bytes = lambda path: read(path) + b'#'"
    variables = {"NUMBA_CACHE_DIR": str(tmp_path)}
    assert cache_folder(variables) == cache_folder(variables)
    assert cache_folder(variables) != cache_folder(variables, changed)


def test_where_nothing_can_be_kept_kernels_are_compiled_all_the_same(tmp_path) -> None:
    """As in a container that is read only."""
    (tmp_path / "file").touch()
    assert cache_folder({"NUMBA_CACHE_DIR": str(tmp_path / "file")}) == "None"
    assert _combine.py_func is not None


OTHER_MACHINES = {
    "8 lanes": ("haswell", "+avx,+avx2,+fma"),
    "no fused multiply-add": ("x86-64", "-avx"),
}


@pytest.mark.slow
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="names processors of this kind")
@pytest.mark.parametrize("machine", OTHER_MACHINES)
def test_other_machines_agree_to_rounding(machine: str, tmp_path) -> None:
    """The same volume, to 1e-5, from kernels compiled for lesser processors."""
    code = (
        "import sys, numpy as np\n"
        "from tomodask.geometry import Box, ParallelBeam\n"
        "from tomodask.projectors import make_projector, vectors\n"
        "g = ParallelBeam(np.linspace(0, 3, 40), 21, 45, center_of_rotation=21.3)\n"
        "A = make_projector(Box((0, 0, 0), (21, 44, 43)), g)\n"
        "y = np.random.default_rng(0).normal(size=A.range_shape).astype('f4')\n"
        "np.save(sys.argv[1], A(A.T(y)))\n"
        "print(vectors.LANES)"
    )
    name, features = OTHER_MACHINES[machine]
    volumes = []
    for variables in ({}, {"NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": features}):
        path = tmp_path / f"{len(volumes)}.npy"
        environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache"), **variables}
        done = subprocess.run(
            [sys.executable, "-c", code, str(path)],
            env=environment, capture_output=True, text=True, check=True,
        )  # fmt: skip
        volumes.append(np.load(path))
    assert done.stdout.strip() == "8"
    here, there = volumes
    assert np.linalg.norm(there - here) < 1e-5 * np.linalg.norm(here)
    assert vectors.LANES in (8, 16)
