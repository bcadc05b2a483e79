"""The commands as Python functions of the same names.

>>> from tomodask import steps
>>> steps.reconstruct("tooth.h5", "tooth.zarr", center=296.0)  # doctest: +SKIP

Settings are those of a recipe (`tomodask init` lists them); they are checked as a recipe is.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, overload

from distributed import Client

from tomodask import control as _control
from tomodask import demo as _demo
from tomodask import describe as _describe
from tomodask import doctor as _doctor
from tomodask import jobarray as _jobarray
from tomodask import pipeline as _pipeline
from tomodask import planning as _planning
from tomodask import preview as _preview
from tomodask import samples as _samples
from tomodask.calibrate import CenterEstimate
from tomodask.cluster.joining import JoinOptions, join
from tomodask.cluster.run import Listener, silent
from tomodask.cluster.scripts import Request, batch_script
from tomodask.cluster.standing import serve
from tomodask.commented import write_commented
from tomodask.export import export_volume
from tomodask.forecast import Forecast
from tomodask.layers import Layer, assignments, recipe_file, resolve
from tomodask.recipe import Recipe
from tomodask.runfolder import RunFolder

__all__ = [
    "cancel",
    "center",
    "cluster_join",
    "cluster_script",
    "cluster_start",
    "demo",
    "denoise",
    "doctor",
    "export",
    "finalize",
    "info",
    "ingest",
    "init",
    "plan",
    "prepare",
    "preview",
    "reconstruct",
    "resume",
    "run",
    "status",
    "train",
]

demo = _demo.demo
doctor = _doctor.doctor
info = _describe.info
init = write_commented
export = export_volume
status = _control.status
cancel = _control.cancel
PathLike = str | Path


def recipe_of(source: PathLike, settings: dict[str, Any], **paths: PathLike | None) -> Recipe:
    """A recipe from keyword settings."""
    named = {name: str(path) for name, path in paths.items() if path is not None}
    return resolve([Layer("call", {**settings, "source": str(source), **named})])[0]


def ingest(
    source: PathLike,
    scan: PathLike,
    *,
    client: Client | None = None,
    listener: Listener = silent,
    **settings: Any,
) -> Path:
    """Copy a raw scan into a scan store; returns its path."""
    recipe = recipe_of(source, settings, scan=scan)
    return _pipeline.ingest(recipe, client=client, listener=listener)[0]


def center(source: PathLike, **settings: Any) -> CenterEstimate:
    """Find the centre of rotation of a raw scan, scan store or Zarr stack."""
    return _samples.center(recipe_of(source, settings))


def preview(
    source: PathLike, picture: PathLike, row: int | None = None, **settings: Any
) -> dict[str, Any]:
    """Write a PNG of three cuts, or of one detector row."""
    return _preview.preview(recipe_of(source, settings), Path(picture), row)


def reconstruct(
    source: PathLike,
    output: PathLike,
    *,
    client: Client | None = None,
    listener: Listener = silent,
    **settings: Any,
) -> _pipeline.Result:
    """Reconstruct a raw scan, scan store or Zarr stack into an OME-Zarr volume."""
    recipe = recipe_of(source, settings, output=output)
    return _pipeline.reconstruct(recipe, client=client, listener=listener)


def train(
    source: PathLike,
    model: PathLike,
    *,
    client: Client | None = None,
    listener: Listener = silent,
    **settings: Any,
) -> Any:
    """Learn to denoise from a scan alone: a model's folder; needs the extra `learn`.

    Settings of the training are those of a recipe's `denoise:`, as `denoise={"slices": 5}`.
    Returns a `learned.Trained`.
    """
    settings.setdefault("denoise", {})
    recipe = recipe_of(source, settings)
    return _learned().train(recipe, Path(model), client=client, listener=listener)


def denoise(
    source: PathLike,
    output: PathLike,
    model: PathLike | None = None,
    *,
    client: Client | None = None,
    listener: Listener = silent,
    **settings: Any,
) -> _pipeline.Result:
    """Denoise a scan, or a volume, by a model, or by one that is trained on the scan before."""
    options = {"model": None if model is None else str(model), **settings.pop("denoise", {})}
    layers = [
        Layer(
            "call", {**settings, "denoise": options, "source": str(source), "output": str(output)}
        )
    ]
    if model is not None:
        layers.insert(0, _learned().model_layer(Path(model)))
    result: _pipeline.Result = _learned().denoise(
        resolve(layers)[0], client=client, listener=listener
    )
    return result


def _learned() -> Any:
    return import_module("tomodask.learned")  # it needs torch, which takes seconds to import


def plan(
    recipe: PathLike | Recipe,
    *overrides: str,
    scan: str | None = None,
    dtype: str = "uint16",
    hardware: Mapping[str, Any] | PathLike | None = None,
    measure: bool = False,
) -> Forecast:
    """What a run of a recipe will take; refuses what can't fit.

    Parameters
    ----------
    scan : "STEPSxVIEWSxROWSxCOLUMNS" of `dtype`, for a source that is not there yet.
    hardware : fields of `Hardware` that are stated, or a file of them; None: what was measured for
        this output before, if anything was.
    measure : how fast it is is measured here, in some 20 seconds.
    """
    recipe = _recipe(recipe, overrides)
    stated, file = ({}, hardware) if not isinstance(hardware, Mapping) else (hardware, None)
    return _planning.plan(recipe, stated, file, measure=measure, scan=scan, dtype=dtype)[0]


def prepare(
    recipe: PathLike | Recipe, *overrides: str, listener: Listener = silent
) -> _jobarray.Prepared:
    """What a job array needs once: the scan store, the centre and an empty volume."""
    return _jobarray.prepare(_recipe(recipe, overrides), listener=listener)


def finalize(recipe: PathLike | Recipe, *overrides: str) -> _jobarray.Prepared:
    """Say that the volume is complete, once every element of a job array has done its share."""
    return _jobarray.finalize(_recipe(recipe, overrides))


@overload
def run(
    recipe: PathLike | Recipe,
    *overrides: str,
    client: Client | None = ...,
    listener: Listener = ...,
    shard: None = ...,
) -> _pipeline.Result: ...


@overload
def run(
    recipe: PathLike | Recipe, *overrides: str, listener: Listener = ..., shard: str
) -> _jobarray.Share: ...


def run(
    recipe: PathLike | Recipe,
    *overrides: str,
    client: Client | None = None,
    listener: Listener = silent,
    shard: str | None = None,
) -> _pipeline.Result | _jobarray.Share:
    """All steps of a recipe, a YAML file or a `Recipe`; overrides are "key=value" texts.

    shard : "3/16" for the third of 16 elements of a job array, after `prepare`: its share of the
        volume alone, in this process.
    """
    resolved = _recipe(recipe, overrides)
    if shard is not None:
        return _jobarray.run_share(resolved, shard, listener=listener)
    return _pipeline.run(resolved, client=client, listener=listener)


def _recipe(recipe: PathLike | Recipe, overrides: tuple[str, ...]) -> Recipe:
    if isinstance(recipe, Recipe):
        return recipe
    return resolve([recipe_file(recipe), assignments(overrides)])[0]


def resume(
    output: PathLike,
    *overrides: str,
    client: Client | None = None,
    listener: Listener = silent,
    **settings: Any,
) -> _pipeline.Result | Path:
    """Run the recipe again that a run kept, to its end, with other settings of the cluster, say.

    Blocks that were given up are tried again. Returns the path of a scan store where the run only
    copied.
    """
    layers = assignments(overrides), Layer("call", settings)
    recipe = _control.kept_recipe(output, *layers)
    if recipe.output is None:
        return _pipeline.ingest(recipe, client=client, listener=listener)[0]
    return _pipeline.run(recipe, client=client, listener=listener)


def cluster_script(
    recipe: PathLike, *overrides: str, system: str, request: Request | None = None
) -> str:
    """A batch script that runs a recipe inside one job, or as a job array; paths from here."""
    resolved, _ = resolve([recipe_file(recipe), assignments(overrides)])
    output = Path(_samples.required(resolved.output, "output"))
    ask = request or Request()
    return batch_script(system, Path(recipe), output, ask, overrides=overrides)


def cluster_start(run: PathLike, *, interface: str | None = None, port: int = 0) -> None:
    """Run the scheduler of a run, by its folder OUTPUT.run, until SIGTERM or ctrl-C."""
    serve(RunFolder(Path(run)), interface=interface, port=port)


def cluster_join(run: PathLike, options: JoinOptions | None = None) -> int:
    """Run workers for a run on this machine until it is over; returns how many were started."""
    return join(RunFolder(Path(run)), options or JoinOptions())
