"""The main job on a scan with known truth: raw file -> scan store -> centre -> volume -> query.

A foam of spheres with exact line integrals, Poisson counts, an uneven beam, rings and an axis that
is hidden from the reconstruction: what comes out is compared with what went in.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xarray as xr

from tomodask import pipeline, preview, samples
from tomodask.cluster.run import Listener, silent
from tomodask.errors import OutputExistsError
from tomodask.layers import Layer, resolve
from tomodask.phantom import SimulatedScan, simulate_scan
from tomodask.pictures import Cut, save_cuts
from tomodask.quality import psnr, ssim
from tomodask.recipe import Recipe

ROWS, COLUMNS, ANGLES, SPHERES = 128, 384, 600, 1200
PHOTONS = 10000.0  # a pixel of the open beam
RING_LEVEL = 0.01  # gain error of each column that the flats don't show
PIXEL_UM = 1.5
NAMES = ("scan.h5", "scan.zarr", "volume.zarr")


def demo(
    output: Path,
    *,
    seed: int | None = None,
    workers: int | None = None,
    listener: Listener = silent,
) -> dict[str, Any]:
    """Simulate, reconstruct and score; returns figures, seconds by stage and the pictures' paths.

    Raises
    ------
    OutputExistsError : the folder holds something that an earlier demo didn't make.
    """
    seed = secrets.randbelow(2**31) if seed is None else seed
    raw, scan_store, volume = _clear(output)
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
    with _timed(seconds, "query"):
        scores = _score(volume, truth, output / "slices.png")
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
            f"volume against the truth: PSNR {answer['psnr_db']:.2f} dB, SSIM {answer['ssim']:.3f}",
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
        "ingest": {"pixel_size_um": PIXEL_UM},
        "corrections": {"stripes": {"size": 5}},  # the rings are one column wide
        "algorithm": {"fbp": {"filter": "hann"}},
        "cluster": {"workers": workers},
        "overwrite": True,
    }
    return resolve([Layer("demo", settings)])[0]


def _score(volume: Path, truth: SimulatedScan, picture: Path) -> dict[str, Any]:
    """Open the volume as a user would, compare it with the truth, and draw both."""
    with xr.open_dataset(volume, engine="tomodask") as dataset:
        attenuation = dataset["attenuation"]
        found = attenuation.values
        middle = attenuation.sel(z=float(attenuation.z.mean()), method="nearest")
        row = int(np.searchsorted(attenuation.z.values, float(middle.z)))
        slice_found, unit = middle.values, str(attenuation.attrs.get("units", ""))
    expected = truth.foam.volume(*found.shape) * np.float32(1000 / PIXEL_UM)  # 1/pixel -> 1/mm
    inside = _field_of_view(truth)
    cuts = [
        Cut(slice_found, f"reconstructed, row {row}"),
        Cut(expected[row], "truth"),
        Cut(np.where(inside, slice_found - expected[row], 0), "difference"),
    ]
    save_cuts(picture, cuts[:2], unit)
    contrast = float(expected.max())
    return {
        "psnr_db": round(psnr(found, expected, contrast, inside), 3),
        "psnr_range": f"0 to the solid's attenuation, {contrast:.3f} {unit}",
        "ssim": round(ssim(found, expected, contrast, inside), 4),
    }


def _field_of_view(truth: SimulatedScan) -> np.ndarray:
    """Pixels of a slice that every view sees: the disc around the axis within the detector."""
    reach = min(truth.center_of_rotation + 0.5, COLUMNS - 0.5 - truth.center_of_rotation)
    x = np.arange(COLUMNS) - (COLUMNS - 1) / 2
    return np.asarray(np.hypot(x[None], x[:, None]) < reach - 1)


def _clear(output: Path) -> tuple[Path, Path, Path]:
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
    return paths[0], paths[1], paths[2]


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - began
