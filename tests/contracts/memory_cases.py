"""Measures what backends, algorithms, corrections and whole blocks take, beside what they declare.

Run as a script with a folder to write in, it prints {case: [bytes declared, bytes at the peak]}.
Each case is a process of its own, forked before any thread has started, with a worker's way to
treat freed memory; its peak is the kernel's (VmHWM) over what it had when the work began.
"""

import ctypes
import gc
import json
import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import zarr
from zarr.codecs import BloscCodec

from tomodask.cluster.local import Workers
from tomodask.geometry import Box, ParallelBeam
from tomodask.layers import Layer, resolve
from tomodask.plan import need_of_blocks, projector_need
from tomodask.preprocess import (
    Align,
    Flatfield,
    MinusLog,
    Outliers,
    Paganin,
    Stripes,
    apply_corrections,
    correction_bytes,
)
from tomodask.projections import Projections
from tomodask.projectors import available_backends, make_projector
from tomodask.reconstruct import CGLS, FBP, FISTATV, LSQR, MLEM, PDHGTV, SART, SIRT
from tomodask.runplan import BlockTask, plan_run
from tomodask.scan import Scan
from tomodask.stream import stream_block
from tomodask.volumestore import create_volume

THREADS = 2
ON_COUNTS = {"outliers": Outliers(), "flatfield": Flatfield()}
ON_TRANSMISSIONS = {
    "paganin": Paganin(delta_beta=50, energy_kev=20, distance_mm=23.5),
    "minus_log": MinusLog(),
    "stripes": Stripes(),
    "align": Align(roll_deg=0.5, center_row=48),
}
ALGORITHM_EXAMPLES = {
    "fbp": FBP(),
    "sirt": SIRT(2),
    "sart": SART(1, num_subsets=4),
    "cgls": CGLS(2),
    "lsqr": LSQR(2),
    "mlem": MLEM(2),
    "fista_tv": FISTATV(num_iterations=2, num_projections=2),
    "pdhg_tv": PDHGTV(num_iterations=2),
}

# columns, views, rows: some ten megabytes, in a second or two
BACKEND_SIZES = {"reference": (768, 8, 2), "astra": (1024, 50, 4), "numba_cpu": (512, 804, 4)}
USUAL_SIZE = (512, 804, 32)

Measured = tuple[int, Callable[[], object]]  # bytes declared, and the work


def beam(columns: int, views: int, rows: int, turn: float = np.pi, axis: float = 0.5):
    angles = np.linspace(0, turn, views, endpoint=False)
    return ParallelBeam(
        angles, rows, columns, pixel_size_um=1.0, center_of_rotation=axis * (columns - 1)
    )


def projector_case(backend: str) -> Measured:
    """FBP, then A, and the results of both; a projector each: A's plan takes less, if another."""
    columns, views, rows = BACKEND_SIZES.get(backend, USUAL_SIZE)

    def work(columns: int, views: int, rows: int) -> Callable[[], object]:
        geometry = beam(columns, views, rows)
        volume = np.ones((rows, columns, columns), np.float32)
        sinograms = np.ones((views, rows, columns), np.float32).swapaxes(0, 1)

        def both() -> object:
            box = Box((0, 0, 0), volume.shape)
            x = FBP()(sinograms, make_projector(box, geometry, backend, threads=THREADS))
            y = make_projector(box, geometry, backend, threads=THREADS)(volume)
            return y, x

        return both

    work(32, 5, 2)()  # compiled, loaded, planned: not this block's
    need = projector_need(backend, FBP(), beam(columns, views, rows), THREADS)
    results = 4 * rows * columns * (views + columns)
    return need.bytes(rows) + results, work(columns, views, rows)


def algorithm_case(name: str, turn: float, axis: float) -> Measured:
    """An algorithm with the default projector."""
    algorithm = ALGORITHM_EXAMPLES[name]

    def work(columns: int, views: int, rows: int) -> Callable[[], object]:
        geometry = beam(columns, views, rows, turn, axis)
        sinograms = np.ones((views, rows, columns), np.float32).swapaxes(0, 1)
        box = Box((0, 0, 0), (rows, columns, columns))
        return lambda: algorithm(sinograms, make_projector(box, geometry, threads=THREADS))

    work(32, 40, 2)()
    columns, views, rows = USUAL_SIZE
    geometry = beam(columns, views, rows, turn, axis)
    need = projector_need("fourier", algorithm, geometry, THREADS)
    declared = need.bytes(rows) + rows * algorithm.row_bytes(geometry) + 4 * rows * columns**2
    return declared, work(columns, views, rows)


def correction_case(name: str) -> Measured:
    """A correction of raw counts, or of transmissions."""
    correction = {**ON_COUNTS, **ON_TRANSMISSIONS}[name]

    def work(shape: tuple[int, int, int]) -> Callable[[], object]:
        counts = np.random.default_rng(0).integers(900, 1100, shape, np.uint16)
        frames = np.full((10, *shape[1:]), 1200, np.uint16)
        block = Projections(
            counts if name in ON_COUNTS else (counts / np.float32(1200)).astype(np.float32),
            beam(shape[2], shape[0], shape[1]), flats=frames, darks=frames // 100,
        )  # fmt: skip
        return lambda: apply_corrections((correction,), block, THREADS)

    work((4, 40, 32))()
    shape = (400, 96, 512)
    itemsize = 2 if name in ON_COUNTS else 4
    return correction_bytes((correction,), shape, itemsize, THREADS), work(shape)


def write_scan(path: Path, columns: int, views: int, rows: int) -> None:
    """A stack in the layout of a scan store."""
    group = zarr.create_group(path)
    counts = np.random.default_rng(0).integers(900, 1100, (views, rows, columns), np.uint16)
    group.create_array(
        "data", data=counts, chunks=(16, 32, columns), shards=(128, -(-rows // 32) * 32, columns),
        compressors=BloscCodec(cname="lz4", shuffle="bitshuffle", typesize=2),
    )  # fmt: skip
    frames = np.full((10, rows, columns), 1200, np.uint16)
    group.create_array("flats", data=frames, chunks=(10, 32, columns))
    group.create_array("darks", data=frames // 100, chunks=(10, 32, columns))
    angles = group.create_array("theta", data=np.linspace(0, 180, views, endpoint=False))
    angles.attrs["units"] = "degrees"


def stream_case(folder: Path, rows: int) -> Measured:
    """A whole block of sub-blocks of 32 rows, from the scan on the disk to the volume."""

    def work(columns: int, views: int, rows: int) -> tuple[int, Callable[[], object]]:
        fresh = Path(tempfile.mkdtemp(dir=folder))
        source, output = fresh / "scan.zarr", fresh / "volume.zarr"
        write_scan(source, columns, views, rows)
        settings = {"source": str(source), "output": str(output), "center": columns / 2}
        recipe, _ = resolve([Layer("test", settings)])
        scan = Scan.open(source)
        plan = plan_run(recipe, scan, Workers(1, THREADS, 2**31))
        plan = replace(plan, sub_rows=32, block_rows=-(-rows // 32) * 32)
        need = need_of_blocks(
            scan, plan.columns, plan.corrections, recipe.reconstructor(), recipe.backend,
            THREADS, plan.spec,
        )  # fmt: skip
        volume = create_volume(output, plan.spec, plan.attributes())
        job = plan.job(output, volume.uuid)
        (block,) = plan.blocks(job.ledger.done())
        return need.bytes(32), lambda: stream_block(BlockTask(job, block))

    work(32, 40, 8)[1]()
    return work(384, 600, rows)


def cases(folder: Path) -> dict[str, Callable[[], Measured]]:
    found: dict[str, Callable[[], Measured]] = {}
    for backend in available_backends():
        found[f"projector {backend}"] = lambda backend=backend: projector_case(backend)
    for name in ALGORITHM_EXAMPLES:
        found[f"algorithm {name}"] = lambda name=name: algorithm_case(name, np.pi, 0.5)
    found["algorithm fbp, half acquisition"] = lambda: algorithm_case("fbp", 2 * np.pi, 0.05)
    for name in (*ON_COUNTS, *ON_TRANSMISSIONS):
        found[f"correction {name}"] = lambda name=name: correction_case(name)
    for rows in (96, 288):
        found[f"block of {rows} rows"] = lambda rows=rows: stream_case(folder, rows)
    return found


def resident(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return 1024 * int(line.split()[1])
    raise OSError(f"the kernel does not tell {field}")


def measure(case: Callable[[], Measured]) -> tuple[int, int]:
    """Bytes declared, and bytes at the peak."""
    declared, work = case()
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # or the work would find its memory in what was freed before
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = resident("VmRSS")
    kept = work()
    peak = resident("VmHWM") - before
    del kept
    return declared, peak


def measure_apart(case: Callable[[], Measured]) -> tuple[int, int]:
    """The same in a process of its own, which starts with what is imported here."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(write, json.dumps(measure(case)).encode())
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    os.close(write)
    with os.fdopen(read) as answer:
        text = answer.read()
    os.waitpid(child, 0)
    declared, peak = json.loads(text)
    return declared, peak


if __name__ == "__main__":
    chosen = sys.argv[2:]
    answers = {
        name: measure_apart(case)
        for name, case in cases(Path(sys.argv[1])).items()
        if not chosen or any(part in name for part in chosen)
    }
    print(json.dumps(answers))
