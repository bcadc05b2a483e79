"""Flags that several commands share, and how they become a recipe's layer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from tomodask.layers import (
    CHOSEN,
    Layer,
    assignments,
    environment_layer,
    recipe_file,
    resolve,
    set_path,
    user_layer,
)
from tomodask.recipe import Recipe

# Where a flag's value goes in the recipe.
PATHS: dict[str, str] = {
    "source": "source",
    "output": "output",
    "scan": "scan",
    "flats": "ingest.flats",
    "darks": "ingest.darks",
    "angles": "ingest.angles",
    "angles_lines": "ingest.angles_lines",
    "angle_units": "ingest.angle_units",
    "data": "ingest.data",
    "format": "ingest.format",
    "pixel_size": "ingest.pixel_size_um",
    "energy": "ingest.energy_kev",
    "distance": "ingest.distance_mm",
    "gain": "ingest.gain",
    "signal": "ingest.signal",
    "rotate_detector": "ingest.rotate_detector",
    "flip": "ingest.flip",
    "rows": "rows",
    "columns": "columns",
    "center": "center",
    "backend": "backend",
    "cluster": "cluster.kind",
    "jobs": "cluster.jobs",
    "gpus_per_job": "cluster.gpus_per_job",
    "wait": "cluster.wait_s",
    "scheduler_file": "cluster.scheduler_file",
    "workers": "cluster.workers",
    "threads": "cluster.threads",
    "memory": "cluster.memory",
    "scheduler": "cluster.scheduler",
    "dashboard": "cluster.dashboard",
    "overwrite": "overwrite",
    "algorithm": "algorithm",
    "num_iterations": f"algorithm.{CHOSEN}.num_iterations",
    "filter": f"algorithm.{CHOSEN}.filter",
    "source_distance": "geometry.source_distance_mm",
    "tilt": "geometry.tilt_deg",
    "pitch": "geometry.pitch_mm",
    "poses": "geometry.poses",
    "zingers": "corrections.outliers",
    "stripes": "corrections.stripes",
    "delta_beta": "corrections.paganin.delta_beta",
    "method": "denoise.method",
    "num_splits": "denoise.splits.num_splits",
    "split": "denoise.splits.kind",
    "network": "denoise.network",
    "slices": "denoise.slices",
    "strategy": "denoise.strategy",
    "seconds": "denoise.training.seconds",
    "voxels": "denoise.training.voxels",
    "seed": "denoise.training.seed",
    "mode": "denoise.mode",
    "model": "denoise.model",
    "start": "denoise.start",
    "keep_splits": "denoise.keep_splits",
}

READ, CORRECT, RUN = "Reading", "Correcting and reconstructing", "Running"
LEARN = "Learning"
GEOMETRY = "Geometry other than a plain parallel beam"

Source = Annotated[
    str, typer.Argument(help="Raw scan (HDF5, NeXus, TIFF folder), scan store or Zarr stack.")
]
Overrides = Annotated[
    list[str] | None, typer.Argument(help="Recipe settings, as volume.chunk_rows=16.")
]
Json = Annotated[bool, typer.Option("--json", help="Answer in JSON on stdout.")]


def _option(*names: str, panel: str, text: str, metavar: str | None = None) -> Any:
    return typer.Option(*names, help=text, rich_help_panel=panel, metavar=metavar)


Flats = Annotated[
    str | None, _option("--flats", panel=READ, text="Flat files: FILE, FOLDER or FILE:/DATASET.")
]
Darks = Annotated[
    str | None, _option("--darks", panel=READ, text="Dark files: FILE, FOLDER or FILE:/DATASET.")
]
Angles = Annotated[
    str | None,
    _option(
        "--angles",
        panel=READ,
        text="START:STOP:COUNT in degrees (STOP not included), a text file, or FILE:/DATASET.",
    ),
]
AnglesLines = Annotated[
    str | None,
    _option("--angles-lines", panel=READ, text="Lines A:B of a longer angle file to use."),
]
AngleUnits = Annotated[
    str | None,
    _option("--angle-units", panel=READ, text="degrees or radians, of angles read from a file."),
]
Data = Annotated[
    str | None, _option("--data", panel=READ, text="Dataset with the projections, in HDF5.")
]
PixelSize = Annotated[
    float | None, _option("--pixel-size", panel=READ, text="Pixel at the object, micrometres.")
]
Energy = Annotated[float | None, _option("--energy", panel=READ, text="Photon energy, keV.")]
Distance = Annotated[
    float | None, _option("--distance", panel=READ, text="Object to detector, mm.")
]
Gain = Annotated[float | None, _option("--gain", panel=READ, text="Detector counts a photon.")]
Rotate = Annotated[
    int | None,
    _option("--rotate-detector", panel=READ, text="Turn each frame by 0, 90, 180 or 270 degrees."),
]
Flip = Annotated[bool, _option("--flip", panel=READ, text="Mirror each frame's columns.")]
Rows = Annotated[
    str | None, _option("--rows", panel=CORRECT, text="Detector rows.", metavar="START:STOP")
]
Columns = Annotated[
    str | None, _option("--columns", panel=CORRECT, text="Detector columns.", metavar="START:STOP")
]
Center = Annotated[
    str | None,
    _option("--center", panel=CORRECT, text="Column of the rotation axis, or auto."),
]
Algorithm = Annotated[
    str | None, _option("--algorithm", panel=CORRECT, text="Reconstruction: fbp, sirt, cgls ...")
]
NumIterations = Annotated[
    int | None, _option("--num-iterations", panel=CORRECT, text="Of an iterative algorithm.")
]
Filter = Annotated[
    str | None, _option("--filter", panel=CORRECT, text="Window of FBP and FDK: ramp, hann ...")
]
Backend = Annotated[
    str | None, _option("--backend", panel=CORRECT, text="Projector: fourier, numba_cpu, astra ...")
]
SourceDistance = Annotated[
    float | None,
    _option("--source-distance", panel=GEOMETRY, text="Source to rotation axis, mm (cone beam)."),
]
Tilt = Annotated[
    float | None,
    _option("--tilt", panel=GEOMETRY, text="Rotation axis out of the detector's plane, degrees."),
]
Pitch = Annotated[
    float | None, _option("--pitch", panel=GEOMETRY, text="Rise of the object a turn, mm (helix).")
]
Poses = Annotated[
    str | None, _option("--poses", panel=GEOMETRY, text="CSV table of a pose a view.")
]
Zingers = Annotated[bool, _option("--zingers", panel=CORRECT, text="Remove bright outliers.")]
Stripes = Annotated[
    bool, _option("--stripes", panel=CORRECT, text="Remove stripes (rings) by sorting.")
]
DeltaBeta = Annotated[
    float | None,
    _option("--delta-beta", panel=CORRECT, text="Paganin phase retrieval with this delta/beta."),
]
Method = Annotated[
    str | None,
    _option("--method", panel=LEARN, text="noise2inverse (a network) or noise2filter (filters)."),
]
NumSplits = Annotated[
    int | None,
    _option("--num-splits", panel=LEARN, text="Splits of the views, 2, 3, 4 or 8; chosen if left."),
]
Split = Annotated[
    str | None,
    _option("--split", panel=LEARN, text="interleaved, blocks, half_turn or thinning."),
]
Network = Annotated[
    str | None, _option("--network", panel=LEARN, text="unet, msdnet, dncnn, nano.")
]
Slices = Annotated[
    int | None, _option("--slices", panel=LEARN, text="Neighbouring slices it sees (odd).")
]
Strategy = Annotated[str | None, _option("--strategy", panel=LEARN, text="X:1, 1:X or mixed.")]
Seconds = Annotated[
    float | None, _option("--seconds", panel=LEARN, text="Time of the training at most.")
]
Voxels = Annotated[
    float | None, _option("--voxels", panel=LEARN, text="Voxels that it sees at most, as 3e8.")
]
Seed = Annotated[int | None, _option("--seed", panel=LEARN, text="Of weights and patches.")]
Mode = Annotated[
    str | None,
    _option("--mode", panel=LEARN, text="quality (mean over the splits) or fast (one pass)."),
]
TrainedModel = Annotated[
    str | None, _option("--model", panel=LEARN, text="A trained model; trained anew if left.")
]
Start = Annotated[
    str | None, _option("--from", panel=LEARN, text="A model to go on from (fine-tuning).")
]
KeepSplits = Annotated[
    bool, _option("--keep-splits", panel=LEARN, text="Keep the splits of all rows.")
]
Cluster = Annotated[
    str | None,
    _option(
        "--cluster",
        panel=RUN,
        text="local, slurm, pbs, lsf, sge, oar, htcondor, or scheduler-file.",
    ),
]
Jobs = Annotated[int | None, _option("--jobs", panel=RUN, text="Batch jobs to keep running.")]
GpusPerJob = Annotated[
    int | None, _option("--gpus-per-job", panel=RUN, text="GPUs of a job, a worker for each.")
]
Wait = Annotated[
    float | None,
    _option("--wait", panel=RUN, text="Seconds to wait for the first worker.", metavar="SECONDS"),
]
SchedulerFile = Annotated[
    str | None, _option("--scheduler-file", panel=RUN, text="File of a running scheduler.")
]
NumWorkers = Annotated[int | None, _option("--workers", panel=RUN, text="Worker processes.")]
Threads = Annotated[int | None, _option("--threads", panel=RUN, text="Threads of a worker.")]
Memory = Annotated[
    str | None, _option("--memory", panel=RUN, text="Memory of a worker, such as 8GB.")
]
Scheduler = Annotated[
    str | None, _option("--scheduler", panel=RUN, text="Address of a running Dask scheduler.")
]
Dashboard = Annotated[
    bool, _option("--dashboard", panel=RUN, text="Serve Dask's dashboard on 127.0.0.1.")
]
Shard = Annotated[
    str | None,
    _option(
        "--shard",
        panel=RUN,
        text="After `tomodask prepare`: this element's share alone, in this process (1/16 ...).",
        metavar="NUMBER/COUNT",
    ),
]
Overwrite = Annotated[
    bool, _option("--overwrite", panel=RUN, text="Replace what another recipe made here.")
]
Profile = Annotated[
    bool, _option("--profile", panel=RUN, text="Tell, and keep beside OUTPUT, where the time went.")
]


def layer_of_flags(flags: Mapping[str, Any]) -> Layer:
    """The flags that were given, as a layer of the recipe."""
    tree: dict[str, Any] = {}
    for name, value in flags.items():
        if name in PATHS and value is not None and value is not False:
            path = PATHS[name].split(".")
            is_switch = path[0] == "corrections" and len(path) == 2
            set_path(tree, path, {} if is_switch and value is True else value)
    if flags.get("algorithm") is not None:
        tree["algorithm"] = {flags["algorithm"]: _parameters_of_chosen(flags)}
    if tree.get("corrections", {}).get("paganin"):
        for flag, parameter in (("energy", "energy_kev"), ("distance", "distance_mm")):
            if flags.get(flag) is not None:
                tree["corrections"]["paganin"][parameter] = flags[flag]
    return Layer("flag", tree)


def _parameters_of_chosen(flags: Mapping[str, Any]) -> dict[str, Any]:
    """The flags that set a parameter of the algorithm that another flag names."""
    start = f"algorithm.{CHOSEN}."
    return {
        PATHS[name].removeprefix(start): value
        for name, value in flags.items()
        if PATHS.get(name, "").startswith(start) and value is not None
    }


def recipe_from(
    flags: Mapping[str, Any], overrides: list[str] | None = None, file: Path | None = None
) -> tuple[Recipe, dict[str, str]]:
    """One recipe from the user's file, the environment, a recipe file, key=value and flags."""
    layers = [user_layer(), environment_layer()]
    if file is not None:
        layers.append(recipe_file(file))
    return resolve([*layers, assignments(overrides or []), layer_of_flags(flags)])


def print_json(answer: Mapping[str, Any]) -> None:
    """One JSON object on stdout."""
    typer.echo(json.dumps(answer, indent=2, default=str))
