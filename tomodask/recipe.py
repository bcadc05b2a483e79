"""Recipe: every parameter of a run in one validated model, stored with the result."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from dask.utils import parse_bytes
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    field_validator,
)

from tomodask.errors import RecipeError, TomodaskError, nearest
from tomodask.ingest.source import SourceOptions
from tomodask.learn.networks import DEFAULT_NETWORK, NETWORKS, load_network
from tomodask.learn.options import SplitOptions, Strategy, TrainingOptions
from tomodask.preprocess import CORRECTIONS, Correction
from tomodask.projectors import BACKENDS, RAY_BACKENDS, SLICE_BACKEND
from tomodask.reconstruct import ALGORITHMS, Reconstructor

DEFAULT_CORRECTIONS = ("flatfield", "minus_log")
DEFAULT_ALGORITHM = "fbp"
NUMERICS_VERSION = 2  # raised when the same recipe gives other bytes: old ledgers are then refused

Tree = dict[str, Any]


def build(table: Mapping[str, Any], kind: str, choice: object) -> tuple[str, Any]:
    """Name and object of a table's entry from `name` or `{name: {parameter: value}}`.

    Raises
    ------
    RecipeError : an unknown name or parameter (the nearest is named), or a value out of range.
    """
    name, parameters = name_and_parameters(kind, choice)
    if name not in table:
        raise RecipeError(f"{kind} {name!r} is unknown: {nearest(name, table)}")
    return name, make(table[name], f"{kind}.{name}", parameters)


def make(cls: type, where: str, parameters: Mapping[str, Any]) -> Any:
    """A frozen dataclass from a mapping, with unknown keys refused by name."""
    known = {field.name for field in dataclasses.fields(cls)}
    for key in parameters:
        if key not in known:
            raise RecipeError(f"{where} has no parameter {key!r}: {nearest(key, known)}")
    try:
        return TypeAdapter(cls).validate_python(dict(parameters))
    except ValidationError as error:
        raise RecipeError(validation_text(error, where)) from error
    except TomodaskError as error:
        raise RecipeError(f"{where}: {error}") from error


def name_and_parameters(kind: str, choice: object) -> tuple[str, Mapping[str, Any]]:
    if isinstance(choice, str):
        return choice, {}
    if isinstance(choice, Mapping) and len(choice) == 1:
        name, parameters = next(iter(choice.items()))
        if parameters is None:
            return str(name), {}
        if isinstance(parameters, Mapping):
            return str(name), parameters
    raise RecipeError(f"{kind}: give a name or `name: {{parameter: value}}`, not {choice!r}")


def canonical(table: Mapping[str, Any], kind: str, choice: object) -> Tree:
    """{name: {every parameter: its value}}: what is stored and hashed."""
    name, built = build(table, kind, choice)
    return {name: dataclasses.asdict(built)}


def _algorithm(choice: object) -> Tree:
    return canonical(ALGORITHMS, "algorithm", choice)


def _corrections(choices: object) -> list[Tree] | None:
    if choices is None:
        return None
    if not isinstance(choices, list | tuple):
        raise RecipeError(f"corrections: give a list, not {choices!r}")
    return [canonical(CORRECTIONS, "corrections", choice) for choice in choices]


def _default_corrections(signal: str) -> tuple[str, ...]:
    """No -log of what was emitted or scattered."""
    return DEFAULT_CORRECTIONS if signal == "transmission" else ("flatfield",)


def _source_options(value: object) -> SourceOptions:
    if isinstance(value, SourceOptions):
        return value
    if not isinstance(value, Mapping):
        raise RecipeError(f"ingest: give a mapping, not {value!r}")
    options: SourceOptions = make(SourceOptions, "ingest", value)
    return options


def parse_range(value: object) -> tuple[int, int] | None:
    """(start, stop) from 'start:stop' or [start, stop]; None from None.

    Raises
    ------
    RecipeError : not two whole numbers, or an empty range.
    """
    if value is None:
        return None
    parts = value.split(":") if isinstance(value, str) else value
    try:
        start, stop = (int(part) for part in parts)  # type: ignore[attr-defined]
    except (TypeError, ValueError):
        raise RecipeError(
            f"rows and columns are START:STOP (STOP not included), not {value!r}"
        ) from None
    if not 0 <= start < stop:
        raise RecipeError(f"range {start}:{stop} holds nothing: 0 <= START < STOP is expected")
    return start, stop


def _bytes(value: object) -> int | None:
    if value is None or isinstance(value, int):
        return value
    try:
        return int(parse_bytes(str(value)))
    except ValueError:
        raise RecipeError(f"memory {value!r}: give bytes, or a text such as '8GB'") from None


def _backend(value: object) -> str:
    known = {"auto", *BACKENDS, *RAY_BACKENDS}
    if value not in known:
        raise RecipeError(f"backend {value!r} is unknown: {nearest(str(value), known)}")
    return str(value)


def _center(value: object) -> float | Literal["auto"]:
    if value == "auto":
        return "auto"
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise RecipeError(f"center {value!r}: give a detector column, or 'auto'") from None


Range = Annotated[tuple[int, int] | None, BeforeValidator(parse_range)]
Bytes = Annotated[int | None, BeforeValidator(_bytes)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


class VolumeOptions(_Section):
    """How the volume is stored."""

    chunk_rows: Literal[1, 2, 4, 8, 16, 32, 64] = Field(
        32, description="rows of a shard: the least that one task writes"
    )
    compression: Literal["none", "lz4", "zstd"] = Field(
        "none", description="of the volume's chunks: none, lz4 or zstd"
    )
    levels: int | None = Field(None, ge=1, le=7, description="pyramid levels; null: enough")


class GeometryOptions(_Section):
    """How source, object and detector stand to each other, where it is not the plain parallel beam.

    Anything set here couples the rows: the run goes over the whole volume, iteration by iteration.
    """

    source_distance_mm: float | None = Field(
        None, gt=0, description="from the source to the rotation axis; null: a parallel beam"
    )
    tilt_deg: float = Field(
        0.0, gt=-90, lt=90, description="of the rotation axis out of the detector (laminography)"
    )
    pitch_mm: float = Field(0.0, description="rise of the object a turn (helical scans)")
    poses: str | None = Field(
        None, description="table (CSV) of a pose a view: shifts in pixels, rotations in degrees"
    )
    volume_rows: int | None = Field(
        None, ge=1, description="rows of the volume, around the detector's middle; null: as many"
    )

    @property
    def couples_rows(self) -> bool:
        """Whether a slice needs other detector rows than its own."""
        return self.model_copy(update={"volume_rows": None}) != GeometryOptions()


def _network(choice: object) -> Tree:
    """{name: {every parameter: its value}}; loads torch, so it is left for those who learn."""
    name, parameters = name_and_parameters("network", choice)
    built = make(load_network(name), f"network.{name}", parameters)
    return {name: dataclasses.asdict(built)}


def _split_options(value: object) -> SplitOptions:
    return value if isinstance(value, SplitOptions) else _options(SplitOptions, "splits", value)


def _training_options(value: object) -> TrainingOptions:
    if isinstance(value, TrainingOptions):
        return value
    options: TrainingOptions = _options(TrainingOptions, "training", value)
    return options


def _options(cls: type, name: str, value: object) -> Any:
    if not isinstance(value, Mapping):
        raise RecipeError(f"denoise.{name}: give a mapping, not {value!r}")
    return make(cls, f"denoise.{name}", value)


class DenoiseOptions(_Section):
    """What is learnt from the scan to denoise it, and how it is applied."""

    method: Literal["noise2inverse", "noise2filter"] = Field(
        "noise2inverse", description="noise2inverse: a network; noise2filter: learned filters"
    )
    splits: Annotated[SplitOptions, BeforeValidator(_split_options)] = Field(
        SplitOptions(), description="how the views are divided"
    )
    network: Annotated[Tree, BeforeValidator(_network)] = Field(
        default_factory=lambda: _network(DEFAULT_NETWORK),
        description="network: " + ", ".join(NETWORKS),
    )
    slices: int = Field(
        1, ge=1, description="neighbouring slices that a 2D network sees (odd); 1: each alone"
    )
    strategy: Strategy = Field(
        "X:1", description="X:1 predicts one split from the others, 1:X the others from one; mixed"
    )
    training: Annotated[TrainingOptions, BeforeValidator(_training_options)] = Field(
        TrainingOptions(), description="how long, on how much, how fast"
    )
    mode: Literal["fast", "quality"] = Field(
        "quality", description="fast: one pass on all views; quality: the mean over the splits"
    )
    model: str | None = Field(None, description="a trained model to use; null: train one")
    start: str | None = Field(None, description="a model to begin the training with")
    keep_splits: bool = Field(False, description="keep the splits of all rows beside the output")

    @field_validator("slices")
    @classmethod
    def _is_odd(cls, slices: int) -> int:
        if slices % 2 == 0:
            raise ValueError(f"denoise.slices={slices}: an odd number is expected")
        return slices

    def as_dict(self) -> Tree:
        """Plain values."""
        tree = self.model_dump(mode="json", exclude={"splits", "training"})
        return tree | {
            "splits": dataclasses.asdict(self.splits),
            "training": dataclasses.asdict(self.training),
        }


ClusterKind = Literal["local", "slurm", "pbs", "lsf", "sge", "oar", "htcondor", "scheduler-file"]


def _cluster(value: object) -> object:
    """`cluster: slurm` is short for {kind: slurm}."""
    return {"kind": value} if isinstance(value, str) else value


class ClusterOptions(_Section):
    """Where it runs; never changes a byte of the result."""

    kind: ClusterKind = Field(
        "local",
        description="local, a batch system (slurm, pbs, lsf, sge, oar, htcondor), scheduler-file",
    )
    jobs: int = Field(1, ge=1, description="batch jobs to keep; lost ones are submitted again")
    gpus_per_job: int = Field(0, ge=0, description="GPUs of a batch job, one worker for each")
    jobqueue: Tree = Field(
        {}, description="of a job, over dask-jobqueue's own file: queue, walltime, cores, memory"
    )
    wait_s: float = Field(
        600, gt=0, description="seconds to wait for the first worker before the run gives up"
    )
    scheduler_file: str | None = Field(
        None, description="file that a running scheduler wrote (kind scheduler-file)"
    )
    workers: int | None = Field(
        None, ge=1, description="worker processes; null: one for 4 cores, two at least"
    )
    threads: int | None = Field(None, ge=1, description="threads of a worker; null: all cores")
    memory: Bytes = Field(None, description="memory of a worker, such as 8GB; null: 75 % of free")
    scheduler: str | None = Field(None, description="address of a Dask scheduler that runs already")
    dashboard: bool = Field(False, description="serve Dask's dashboard on 127.0.0.1")


class Recipe(_Section):
    """Every parameter of a run, in the order of the data's path."""

    source: str | None = Field(None, description="raw scan: HDF5, NeXus, TIFF folder, or Zarr")
    output: str | None = Field(None, description="the volume to make, an OME-Zarr store")
    scan: str | None = Field(
        None, description="scan store to make or to go on with; null: OUTPUT's name + .scan.zarr"
    )
    ingest: Annotated[SourceOptions, BeforeValidator(_source_options)] = Field(
        SourceOptions(), description="how the raw files are to be read"
    )
    rows: Range = Field(None, description="detector rows START:STOP to reconstruct; null: all")
    columns: Range = Field(None, description="detector columns START:STOP to use; null: all")
    angle_sign: Literal[1, -1] = Field(1, description="-1 where the stage turns the other way")
    corrections: Annotated[list[Tree] | None, BeforeValidator(_corrections)] = Field(
        None, description="in order; null: flatfield, then minus_log (emission: flatfield alone)"
    )
    center: Annotated[float | Literal["auto"], BeforeValidator(_center)] = Field(
        "auto", description="detector column of the rotation axis (0 = middle of the first pixel)"
    )
    center_slope: float = Field(0.0, description="columns that the axis moves a row (camera roll)")
    geometry: GeometryOptions = Field(
        GeometryOptions(), description="cone beam, tilted axis, helix, a pose a view"
    )
    algorithm: Annotated[Tree, BeforeValidator(_algorithm)] = Field(
        default_factory=lambda: _algorithm(DEFAULT_ALGORITHM),
        description="reconstruction algorithm",
    )
    backend: Annotated[str, BeforeValidator(_backend)] = Field(
        "auto",
        description="projector: auto, " + ", ".join(dict.fromkeys([*BACKENDS, *RAY_BACKENDS])),
    )
    denoise: DenoiseOptions | None = Field(
        None, description="learn to denoise from the scan itself, and do it; null: reconstruct only"
    )
    volume: VolumeOptions = Field(VolumeOptions(), description="how the volume is stored")
    cluster: Annotated[ClusterOptions, BeforeValidator(_cluster)] = Field(
        ClusterOptions(), description="where it runs"
    )
    overwrite: bool = Field(False, description="remove what an earlier, other run made")

    def correction_list(self, signal: str) -> list[Correction]:
        """The corrections themselves, in order."""
        chosen: Iterable[object] | None = self.corrections
        if chosen is None:
            chosen = _default_corrections(signal)
        return [build(CORRECTIONS, "corrections", choice)[1] for choice in chosen]

    def reconstructor(self) -> Reconstructor:
        """The algorithm itself."""
        built: Reconstructor = build(ALGORITHMS, "algorithm", self.algorithm)[1]
        return built

    def numerics(self, signal: str = "transmission") -> Tree:
        """What decides the result's bytes: nothing of paths, workers or cluster."""
        left_out = {"source", "output", "scan", "ingest", "cluster", "overwrite", "denoise"}
        tree = self.model_dump(mode="json", exclude=left_out)
        if self.geometry == GeometryOptions():  # what was made before there was a choice
            del tree["geometry"]
            tree["backend"] = SLICE_BACKEND if self.backend == "auto" else self.backend
        if self.corrections is None:
            tree["corrections"] = _corrections(_default_corrections(signal))
        if self.denoise is not None:
            tree["denoise"] = self.denoise.as_dict()
        return tree

    def plain(self) -> Recipe:
        """The same without what is learnt: reconstruction alone."""
        return self.model_copy(update={"denoise": None})

    def as_dict(self) -> Tree:
        """Plain values, for YAML and for the volume's attributes."""
        tree = self.model_dump(mode="json", exclude={"ingest", "denoise"})
        tree["ingest"] = dataclasses.asdict(self.ingest)
        tree["denoise"] = None if self.denoise is None else self.denoise.as_dict()
        return tree


def run_hash(recipe: Recipe, signal: str = "transmission", **resolved: Any) -> str:
    """Digest of all that decides the bytes: numerics and what was resolved (centre, input ...)."""
    content = {"numerics_version": NUMERICS_VERSION, **recipe.numerics(signal), **resolved}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


# ---- what is wrong with a recipe ---------------------------------------------------------------


def validation_text(
    error: ValidationError, where: str, origins: Mapping[str, str] | None = None
) -> str:
    """pydantic's findings in one line, unknown keys with the nearest known one."""
    lines = []
    for found in error.errors():
        path = [str(part) for part in found["loc"]]
        name = ".".join([where, *path] if where else path)
        origin = f" (from {origins[name]})" if origins and name in origins else ""
        if found["type"] == "extra_forbidden":
            lines.append(f"there is no key {name!r}{origin}: {nearest(path[-1], _known(path))}")
        elif found["type"] == "value_error":  # one of ours, which names the value itself
            lines.append(f"{found['ctx']['error']}{origin}")
        else:
            lines.append(f"{name} = {found['input']!r}{origin}: {found['msg'].lower()}")
    return "; ".join(lines)


def _known(path: list[str]) -> Iterable[str]:
    sections: dict[str, type[BaseModel]] = {
        "volume": VolumeOptions,
        "cluster": ClusterOptions,
        "geometry": GeometryOptions,
        "denoise": DenoiseOptions,
    }
    model = sections.get(path[0], Recipe) if len(path) > 1 else Recipe
    return model.model_fields
