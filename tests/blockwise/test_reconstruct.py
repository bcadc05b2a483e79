"""Algorithms larger than memory: the code and the result that they have in memory."""

import os
import signal
from multiprocessing import get_context

import numpy as np
import pytest

from tomodask import reconstruct
from tomodask.blockwise import forget, reconstruct_blockwise, scratch, workspace
from tomodask.cluster.local import Workers, local_cluster
from tomodask.errors import (
    DiskFullError,
    DivergedError,
    GeometryError,
    OutputExistsError,
    OutputInUseError,
)
from tomodask.geometry import cone, laminography, volume
from tomodask.lease import held
from tomodask.ledger import Ledger
from tomodask.projectors.operator import operator
from tomodask.reconstruct import CGLS, LSQR, MLEM, SART, SIRT, spaces

VOLUME = volume(shape=(40, 24, 24))
CONE = cone(angles=24, shape=(50, 32), src_orig_dist=90, src_det_dist=110)
LAMINOGRAPHY = laminography(angles=24, shape=(44, 40), tilt=0.6)
BUDGET = 3 * 2**18  # four blocks and more


def gradient_descent(y, A):
    """Of |y - A x|^2 plus a smoothed total variation: a method with a stencil, in a few lines."""
    x = spaces.domain_zeros(A, y)
    for _ in range(4):
        x += 3e-4 * A.T(y - A(x)) - 0.01 * spaces.stencil(pull_of_neighbours, 1, x)
    return x


def pull_of_neighbours(x):
    steps = np.diff(np.pad(x, ((1, 1), (0, 0), (0, 0)), mode="edge"), axis=0)
    return -np.diff(steps / np.sqrt(steps**2 + 1), axis=0)


ALGORITHMS = {
    "sirt": SIRT(num_iterations=4, min_constraint=0.0),
    "sart": SART(num_iterations=2, num_subsets=3),
    "cgls": CGLS(num_iterations=4),
    "cgls, damped": CGLS(num_iterations=4, damp=3.0),
    "lsqr": LSQR(num_iterations=4),
    "mlem": MLEM(num_iterations=4),
    "gradient descent with a stencil": gradient_descent,
}
# methods with stencils in space
ALGORITHMS |= {
    name: reconstruct.ALGORITHMS[name](num_iterations=3, dimensions=3)
    for name in ("fista_tv", "pdhg_tv")
    if name in reconstruct.ALGORITHMS
}


@pytest.fixture(scope="module")
def y():
    """Exact projections of a block within the volume, with noise."""
    rng = np.random.default_rng(1)
    x = np.zeros(VOLUME.shape, np.float32)
    x[8:30, 6:15, 7:19] = 0.1
    clean = operator(VOLUME, CONE, "numba_cpu", threads=1)(x)
    return np.maximum(clean + 0.02 * rng.normal(size=clean.shape).astype(np.float32), 0)


def run(y, algorithm, folder, projections=CONE, **options):
    x = reconstruct_blockwise(
        y, algorithm, VOLUME, projections, folder=folder, **{"budget": BUDGET} | options
    )
    return x, x.rows(0, x.shape[0])


@pytest.mark.parametrize("algorithm", ALGORITHMS.values(), ids=ALGORITHMS)
def test_an_algorithm_finds_by_blocks_what_it_finds_in_memory(tmp_path, y, algorithm):
    A = operator(VOLUME, CONE, "numba_cpu", threads=1)
    expected = algorithm(y, A)
    _, found = run(y, algorithm, tmp_path / "s")
    # float32 sums in another order, and iterations that carry it on; a wrong weight is above 1e-2
    assert np.linalg.norm(found - expected) < 1e-5 * np.linalg.norm(expected)


def test_laminography_by_blocks_is_that_in_memory(tmp_path, rng):
    A = operator(VOLUME, LAMINOGRAPHY, "numba_cpu", threads=1)
    y = A(rng.random(VOLUME.shape, dtype=np.float32))
    _, found = run(y, SIRT(num_iterations=3), tmp_path / "s", LAMINOGRAPHY, budget=2**20)
    expected = SIRT(num_iterations=3)(y, A)
    assert np.linalg.norm(found - expected) < 1e-5 * np.linalg.norm(expected)


def test_callbacks_and_divergence_are_those_in_memory(tmp_path, y):
    def wild(y, A):
        x = spaces.domain_zeros(A, y)
        return SIRT(num_iterations=30, relaxation=9.0)(y, A, x_init=x)

    with pytest.raises(DivergedError, match="iteration"):
        run(y, wild, tmp_path / "s", input_id="y")


def test_an_iteration_of_sirt_reads_and_writes_near_the_least(tmp_path, y):
    counts = []
    for iterations in (2, 4):
        folder = tmp_path / f"{iterations}"
        x, _ = run(y, SIRT(num_iterations=iterations), folder, budget=2**24)
        counts.append(x.place.counts)
    volume_bytes = 4 * np.prod(VOLUME.shape)
    read, written = (
        (getattr(counts[1], name) - getattr(counts[0], name)) / 2
        for name in ("bytes_read", "bytes_written")
    )
    # A reads x, and writes the weighted residual from y and weights; A.T reads that, x and weights
    assert read == 3 * volume_bytes + 3 * y.nbytes
    assert written == volume_bytes + y.nbytes
    # y, weights and residual, and x twice with its weights
    assert counts[1].most_files_bytes <= 3 * volume_bytes + 3 * y.nbytes


def test_only_the_volume_stays_on_the_disk(tmp_path, y):
    folder = tmp_path / "s"
    x, _ = run(y, SIRT(num_iterations=2), folder)
    assert [file.name for file in folder.glob("*.float32")] == [f"{x.file.name}.float32"]
    forget(folder)
    assert list(tmp_path.iterdir()) == []


# ---- going on ---------------------------------------------------------------------------------


def killed_at(event: int, y, algorithm, folder):
    """In a process of its own: at its `event`-th write, sync or record it is no more."""
    left = event

    def counted(function):
        def count(*arguments, **options):
            nonlocal left
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **options)

        return count

    scratch.Files.write = counted(scratch.Files.write)
    scratch.Files.sync = counted(scratch.Files.sync)
    Ledger.record = counted(Ledger.record)
    workspace.create = counted(workspace.create)
    workspace.remove = counted(workspace.remove)
    run(y, algorithm, folder)


@pytest.mark.parametrize("name", ["sirt", "cgls", "gradient descent with a stencil"])
def test_killed_at_any_moment_it_goes_on_to_the_same_bytes(tmp_path, y, rng, name):
    algorithm = ALGORITHMS[name]
    _, expected = run(y, algorithm, tmp_path / "whole")
    context, kills = get_context("fork"), 0
    while True:
        event = int(rng.integers(1, 80))
        child = context.Process(target=killed_at, args=(event, y, algorithm, tmp_path / "killed"))
        child.start()
        child.join()
        if child.exitcode == 0:
            break
        assert child.exitcode == -signal.SIGKILL
        kills += 1
    assert kills >= 3
    x, found = run(y, algorithm, tmp_path / "killed")
    np.testing.assert_array_equal(found, expected)
    assert x.place.counts.bytes_written == 0  # all was done, and is known


def test_an_error_that_unwinds_the_algorithm_loses_nothing(tmp_path, y, monkeypatch):
    _, expected = run(y, ALGORITHMS["cgls"], tmp_path / "whole")
    write, calls = scratch.Files.write, 0

    def full(self, *arguments):
        nonlocal calls
        calls += 1
        if calls > 200:
            raise OSError(28, "No space left on device")
        write(self, *arguments)

    monkeypatch.setattr(scratch.Files, "write", full)
    with pytest.raises(DiskFullError, match="the same command again"):
        run(y, ALGORITHMS["cgls"], tmp_path / "full")
    assert calls == 201
    monkeypatch.undo()
    x, found = run(y, ALGORITHMS["cgls"], tmp_path / "full")
    np.testing.assert_array_equal(found, expected)
    assert x.place.counts.bytes_written < 201 * expected.nbytes


def test_a_cluster_that_loses_a_worker_gives_the_same_bytes(tmp_path, y):
    algorithm = SIRT(num_iterations=3)
    _, expected = run(y, algorithm, tmp_path / "alone")
    told = []

    def listener(progress):
        told.append(progress.stage)
        if len(told) == 60:
            (pid, *_) = client.run(os.getpid).values()
            os.kill(pid, signal.SIGKILL)

    with local_cluster(Workers(2, 1, 2**30)) as client:
        _, found = run(y, algorithm, tmp_path / "two", client=client, listener=listener)
    assert len(told) > 60
    np.testing.assert_array_equal(found, expected)


def load_rows(start, stop):
    """Projections from a function, as a worker would correct them."""
    rows = np.arange(start, stop, dtype=np.float32)[:, None, None]
    return np.broadcast_to(1 + rows / 100, (stop - start, 24, 32))


def test_projections_come_from_a_function_on_the_workers(tmp_path):
    y = load_rows(0, 50)
    _, expected = run(y, SIRT(num_iterations=1), tmp_path / "array")
    _, found = run(load_rows, SIRT(num_iterations=1), tmp_path / "function", input_id="rows")
    np.testing.assert_array_equal(found, expected)


# ---- refusals ---------------------------------------------------------------------------------


def test_a_folder_belongs_to_one_run(tmp_path, y):
    folder = tmp_path / "s"
    run(y, SIRT(num_iterations=1), folder)
    for other in (
        lambda: run(y, SIRT(num_iterations=2), folder),
        lambda: run(y + 1, SIRT(num_iterations=1), folder),
        lambda: run(y, SIRT(num_iterations=1), folder, budget=2**24),
    ):
        with pytest.raises(OutputExistsError, match="another run"):
            other()
    strange = tmp_path / "mine"
    strange.mkdir()
    (strange / "thesis.tex").touch()
    with pytest.raises(OutputExistsError, match=r"thesis\.tex"):
        run(y, SIRT(num_iterations=1), strange)


def test_a_folder_in_use_is_refused(tmp_path, y):
    with held(tmp_path / "s"), pytest.raises(OutputInUseError, match="process"):
        run(y, SIRT(num_iterations=1), tmp_path / "s")


def test_bad_projections_are_refused(tmp_path, y):
    with pytest.raises(GeometryError, match=r"\(49, 24, 32\): the geometry says \(50, 24, 32\)"):
        run(y[1:], SIRT(), tmp_path / "s")
    with pytest.raises(GeometryError, match="need an input_id"):
        run(load_rows, SIRT(), tmp_path / "s")
    with pytest.raises(GeometryError, match="rows 0 to"):
        run(lambda a, b: y[a : b - 1], SIRT(), tmp_path / "s", input_id="short")
