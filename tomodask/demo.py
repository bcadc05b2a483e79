"""The main job on a scan with known truth: raw file -> scan store -> centre -> volume -> denoised.

A foam of spheres with exact line integrals, few photons, an uneven beam, rings and an axis that is
hidden from the reconstruction: what comes out is compared with what went in. The network learns
from this one scan, and is held against filtered back-projection and total variation.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import h5py
import numpy as np
import xarray as xr

from tomodask import pipeline, preview, samples
from tomodask.cluster.run import Listener, silent
from tomodask.errors import OutputExistsError
from tomodask.geometry import Box
from tomodask.layers import Layer, resolve
from tomodask.phantom import SimulatedScan, simulate_scan
from tomodask.pictures import Cut, save_cuts
from tomodask.projectors import make_projector
from tomodask.projectors.operator import cores
from tomodask.quality import psnr, ssim
from tomodask.recipe import Recipe
from tomodask.reconstruct import FISTATV, Reconstructor

ROWS, COLUMNS, ANGLES, SPHERES = 128, 256, 1024, 1600
PHOTONS = 100.0  # a pixel of the open beam
GAIN = 4.0
TV_ROWS = 16  # total variation takes long: some rows in the middle tell as much
TV_WEIGHT, TV_ITERATIONS = 0.018, 60  # the best of those tried on this foam
TRAINING_SECONDS = 60.0
NOT_LEARNT = "not learnt: it takes pip install 'tomodask[learn]', and --seconds above 0"
RING_LEVEL = 0.01  # gain error of each column that the flats don't show
PIXEL_UM = 1.5
NAMES = ("scan.h5", "scan.zarr", "volume.zarr", "denoised")


def demo(
    output: Path,
    *,
    seed: int | None = None,
    workers: int | None = None,
    seconds_to_train: float = TRAINING_SECONDS,
    listener: Listener = silent,
) -> dict[str, Any]:
    """Simulate, reconstruct, denoise and score; figures, seconds by stage and pictures' paths.

    Without torch, or without seconds to train, nothing is learnt; the answer's "denoised" says so.

    Raises
    ------
    OutputExistsError : the folder holds something that an earlier demo didn't make.
    """
    seed = secrets.randbelow(2**31) if seed is None else seed
    raw, scan_store, volume, denoised = _clear(output)
    seconds: dict[str, float] = {}
    with _timed(seconds, "simulate"):
        truth = simulate_scan(
            ROWS, COLUMNS, ANGLES, seed, num_spheres=SPHERES, photons=PHOTONS, ring_level=RING_LEVEL
        )
        write_dxchange(raw, truth)
    recipe = _recipe(raw, scan_store, volume, workers)
    with _timed(seconds, "ingest"):
        pipeline.ingest(recipe, listener=listener)
    with _timed(seconds, "center"):
        estimate = samples.center(recipe)
        preview.center_picture(recipe, estimate, output / "center.png")
    with _timed(seconds, "reconstruct"):
        pipeline.reconstruct(recipe, listener=listener)
    learnt = seconds_to_train > 0 and find_spec("torch") is not None
    if learnt:
        with _timed(seconds, "denoise"):
            _denoise(recipe, denoised, seconds_to_train, listener)
    with _timed(seconds, "query"):
        found = {"FBP": _read(volume)} | ({"Noise2Inverse": _read(denoised)} if learnt else {})
    with _timed(seconds, "total variation"):
        found["TV"] = _total_variation(recipe, estimate.center)
    scores = _scores(found, truth, output / "slices.png")
    error = estimate.center - truth.center_of_rotation
    return {
        "seed": seed,
        "shape": {"angles": ANGLES, "rows": ROWS, "columns": COLUMNS},
        "center": {
            "hidden": round(truth.center_of_rotation, 4),
            "found": round(estimate.center, 4),
            "error_px": round(error, 4),
            "confident": estimate.confident,
        },
        **scores,
        "denoised": str(denoised) if learnt else NOT_LEARNT,
        "seconds": {name: round(taken, 2) for name, taken in seconds.items()},
        "pictures": [str(output / "slices.png"), str(output / "center.png")],
        "volume": str(volume),
    }


def describe(answer: dict[str, Any]) -> str:
    """The figures of a demo in words."""
    center, seconds = answer["center"], answer["seconds"]
    shape = answer["shape"]
    stages = ", ".join(f"{name} {taken:.1f} s" for name, taken in seconds.items())
    return "\n".join(
        [
            f"simulated foam: {shape['angles']} views of {shape['rows']} x {shape['columns']} "
            f"pixels, seed {answer['seed']}",
            f"centre of rotation: hidden {center['hidden']:.2f}, found {center['found']:.2f}, "
            f"error {center['error_px']:+.3f} px",
            *(
                f"{name}, against the truth: {score['psnr_db']:.2f} dB, SSIM {score['ssim']:.3f}"
                for name, score in answer["scores"].items()
            ),
            f"denoised: {answer['denoised']}",
            f"time: {stages}, in all {sum(seconds.values()):.1f} s",
            f"pictures: {', '.join(answer['pictures'])}",
            f'query: xarray.open_dataset("{answer["volume"]}", engine="tomodask")',
        ]
    )


def write_dxchange(path: Path, scan: SimulatedScan) -> None:
    """The raw file as detector software would write it: DXchange HDF5, counts and degrees."""
    with h5py.File(path, "w") as file:
        exchange = file.create_group("exchange")
        frame = (1, *scan.projections.shape[1:])
        exchange.create_dataset("data", data=scan.projections, chunks=frame)
        exchange["data_white"], exchange["data_dark"] = scan.flats, scan.darks
        exchange["theta"] = np.rad2deg(scan.angles)
        exchange["theta"].attrs["units"] = "degrees"
        for name in ("data", "data_white", "data_dark"):
            exchange[name].attrs["units"] = "counts"
        file["implements"] = "exchange:measurement:process"


def _recipe(raw: Path, scan_store: Path, volume: Path, workers: int | None) -> Recipe:
    settings = {
        "source": str(raw),
        "scan": str(scan_store),
        "output": str(volume),
        "ingest": {"pixel_size_um": PIXEL_UM, "gain": GAIN},
        "cluster": {"workers": workers},
        "overwrite": True,
    }
    return resolve([Layer("demo", settings)])[0]


def _denoise(recipe: Recipe, output: Path, seconds: float, listener: Listener) -> None:
    """Learn from the scan alone and denoise it: `tomodask run` with `denoise:` in its recipe."""
    training = {"seconds": seconds, "voxels": 1e9}
    tree = {**recipe.as_dict(), "output": str(output), "denoise": {"training": training}}
    pipeline.run(Recipe.model_validate(tree), listener=listener)


def _read(volume: Path) -> np.ndarray:
    """(z, y, x) as a user would open it."""
    with xr.open_dataset(volume, engine="tomodask") as dataset:
        return np.asarray(dataset["attenuation"].values)


def _total_variation(recipe: Recipe, center: float) -> np.ndarray:
    """(TV_ROWS, y, x) of the middle rows, in 1/mm."""
    start = (ROWS - TV_ROWS) // 2
    scan = samples.open_input(recipe.model_copy(update={"source": recipe.scan}))
    sinograms, geometry = samples.corrected_sinograms(scan, recipe, start, start + TV_ROWS)
    box = Box((0, 0, 0), (TV_ROWS, COLUMNS, COLUMNS))
    A = make_projector(box, geometry.with_center(center), threads=cores())
    solve: Reconstructor = cast(Reconstructor, FISTATV(TV_WEIGHT, TV_ITERATIONS))
    return solve(sinograms, A)


def _scores(found: dict[str, np.ndarray], truth: SimulatedScan, picture: Path) -> dict[str, Any]:
    """Each method against the truth, in the middle rows, and a picture of them side by side."""
    rows = slice((ROWS - TV_ROWS) // 2, (ROWS + TV_ROWS) // 2)
    expected = truth.foam.volume(ROWS, COLUMNS, COLUMNS)[rows]
    expected *= np.float32(1000 / PIXEL_UM)  # 1/pixel -> 1/mm
    inside, contrast = _field_of_view(truth), float(expected.max())
    scores, cuts = {}, []
    for name in [name for name in ("FBP", "TV", "Noise2Inverse") if name in found]:
        values = found[name] if len(found[name]) == TV_ROWS else found[name][rows]
        scores[name] = {
            "psnr_db": round(psnr(values, expected, contrast, inside), 3),
            "ssim": round(ssim(values, expected, contrast, inside), 4),
        }
        cuts.append(Cut(values[TV_ROWS // 2], f"{name}, {scores[name]['psnr_db']:.1f} dB"))
    save_cuts(picture, [*cuts, Cut(expected[TV_ROWS // 2], "truth")], "1/mm", like=cuts[-1:])
    return {
        "scores": scores,
        "psnr_range": f"0 to the solid's attenuation, {contrast:.3f} 1/mm",
    }


def _field_of_view(truth: SimulatedScan) -> np.ndarray:
    """Pixels of a slice that every view sees: the disc around the axis within the detector."""
    reach = min(truth.center_of_rotation + 0.5, COLUMNS - 0.5 - truth.center_of_rotation)
    x = np.arange(COLUMNS) - (COLUMNS - 1) / 2
    return np.asarray(np.hypot(x[None], x[:, None]) < reach - 1)


def _clear(output: Path) -> tuple[Path, Path, Path, Path]:
    """The demo's own files in `output`; an earlier demo's are replaced, others refused."""
    output.mkdir(parents=True, exist_ok=True)
    paths = tuple(output / name for name in NAMES)
    strangers = [
        path.name
        for path in output.iterdir()
        if not path.name.startswith(NAMES) and path.suffix not in (".png", ".json", ".ledger")
    ]
    if strangers:
        raise OutputExistsError(
            f"{output} holds {', '.join(strangers[:3])}, not of a demo: choose another folder"
        )
    return paths[0], paths[1], paths[2], output / "denoised.zarr"


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - began
