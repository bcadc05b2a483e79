"""What a run is given to work with, stated or measured, and how fast it is.

Kept as YAML, so that what was measured once on a kind of node serves all runs there. Rates of a
worker are those that it has while all the others work too.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import yaml
from dask.utils import parse_bytes
from pydantic import TypeAdapter, ValidationError

from tomodask.cluster.local import Workers, size_workers
from tomodask.cluster.systems import SYSTEMS
from tomodask.cluster.workforce import Workforce
from tomodask.errors import MissingInputError, RecipeError, nearest
from tomodask.layers import parse_yaml
from tomodask.recipe import ClusterOptions, validation_text
from tomodask.runfolder import RunFolder
from tomodask.shards import swap_in

FILE_NAME = "hardware.yaml"  # in the run folder
IMPORT_BYTES = 150 * 2**20  # of a worker that has imported what it needs, where none was measured
IDLE_BYTES = 230 * 2**20  # and compiled, or loaded, the projector
DECLARED_SHARE = 0.9  # of what blocks declare, where none was measured: tests hold 0.8 to 1


@dataclass(frozen=True)
class Rates:
    """What one worker was measured to do a second, None where it was not measured.

    source_bytes, store_bytes : raw counts read from the files; counts compressed and written.
    read_bytes : of the scan store, as they are once decoded.
    correct_pixels : detector pixels through the corrections named in `corrections`.
    work : of `work_unit`, see `work.slice_work`; written_bytes : of the volume.
    scratch_bytes : of coupled runs' arrays, read or written. alone : how many times as fast a
        worker projects where the others have nothing to do.
    center_bytes : of the sinograms in which a centre is searched for.
    start_s, import_s : seconds until there are workers, and until they have imported what they run.
    ready_s : that the first blocks take longer, until all kernels are loaded. center_ready_s : that
        the first search for a centre does.
    stretch : wall time by time foreseen from these rates, of the measurement itself.
    idle_bytes : of a worker before its first block; share : of what a block declares it takes.
    import_bytes, ingest_share : the same of a worker that only copies frames.
    compression : bytes stored of a byte of counts.
    """

    source_bytes: float | None = None
    store_bytes: float | None = None
    read_bytes: float | None = None
    correct_pixels: float | None = None
    work: float | None = None
    work_unit: str | None = None
    corrections: tuple[str, ...] = ()
    write_bytes: float | None = None
    scratch_bytes: float | None = None
    alone: float = 1.0
    center_bytes: float | None = None
    start_s: float = 0.0
    import_s: float = 0.0
    ready_s: float = 0.0
    center_ready_s: float = 0.0
    stretch: float = 1.0
    idle_bytes: int = IDLE_BYTES
    share: float = DECLARED_SHARE
    import_bytes: int = IMPORT_BYTES
    ingest_share: float = DECLARED_SHARE
    compression: float | None = None


@dataclass(frozen=True)
class Hardware:
    """Stated hardware; what is None is taken from the recipe or this machine, or is not known.

    workers, threads : processes, and threads of each; memory : bytes of a worker.
    gpus, gpu_memory : one worker for each; bytes of one.
    read_gb_s, write_gb_s : of the storage, for all workers together.
    slices_s : slices that one worker corrects and reconstructs a second.
    disk_free : bytes on the disk of scan store, volume and scratch; None: asked of this machine.
    gupdates_s : 1e9 voxels times views that one worker projects a second.
    measured : rates of a worker; what is stated goes before.
    """

    workers: int | None = None
    threads: int | None = None
    memory: int | None = None
    gpus: int = 0
    gpu_memory: int | None = None
    disk_free: int | None = None
    read_gb_s: float | None = None
    write_gb_s: float | None = None
    slices_s: float | None = None
    gupdates_s: float | None = None
    measured: Rates = Rates()

    def over(self, other: Hardware) -> Hardware:
        """The other one, with all that is stated here."""
        plain = Hardware()
        stated = {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if getattr(self, field.name) != getattr(plain, field.name)
        }
        return replace(other, **stated)

    @property
    def is_known(self) -> bool:
        """Whether there is a rate to foresee times by."""
        return self.slices_s is not None or self.measured.work is not None

    def size(self, options: ClusterOptions) -> Workers:
        """Workers as a recipe asks for them, else as stated here, else as this machine has them."""
        count, threads, memory = options.workers, options.threads, options.memory
        if options.kind in SYSTEMS and not (self.workers or self.gpus):
            force = Workforce(**options.model_dump(), folder=RunFolder(Path()))
            return force.size  # nothing is submitted for it
        count = count or self.gpus or self.workers
        threads, memory = threads or self.threads, memory or self.memory
        return size_workers(count, threads, memory)

    def write(self, path: Path) -> Path:
        """Keep it as YAML."""
        tree = {name: value for name, value in asdict(self).items() if value is not None}
        measured = {name: value for name, value in tree["measured"].items() if value is not None}
        measured["corrections"] = list(self.measured.corrections)
        tree["measured"] = measured
        path.parent.mkdir(exist_ok=True)
        swap_in(path, yaml.safe_dump(tree, sort_keys=False).encode())
        return path

    @classmethod
    def read(cls, path: Path | str) -> Hardware:
        """What `write` kept, or somebody wrote by hand.

        Raises
        ------
        MissingInputError, RecipeError : no such file; an unknown key or a value that can't be.
        """
        path = Path(path)
        if not path.is_file():
            raise MissingInputError(
                f"there is no hardware file {path}: `tomodask plan RECIPE --measure --keep {path}` "
                "makes one"
            )
        try:
            tree = parse_yaml(path.read_text())
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise RecipeError(f"{path} is not YAML: {error}") from error
        return cls.from_tree(tree, str(path))

    @classmethod
    def from_tree(cls, tree: Any, where: str) -> Hardware:
        """From a mapping; unknown keys are refused by name."""
        if not isinstance(tree, dict):
            raise RecipeError(f"{where} should hold `key: value` lines, and holds {tree!r:.60}")
        _known(cls, tree, where)
        measured = tree.get("measured") or {}
        _known(Rates, measured, f"{where}: measured")
        given = {**tree, "measured": measured}
        for name in ("memory", "gpu_memory", "disk_free"):
            if isinstance(given.get(name), str):
                given[name] = _bytes(given[name], name)
        try:
            found: Hardware = TypeAdapter(cls).validate_python(given)
        except ValidationError as error:
            raise RecipeError(validation_text(error, where)) from error
        for field in fields(cls):
            value = getattr(found, field.name)
            if isinstance(value, int | float) and (value < 0 or (value == 0 and field.default)):
                raise RecipeError(f"{where}: {field.name} = {value}: a positive number is needed")
        return found


def _known(cls: type, tree: dict[str, Any], where: str) -> None:
    known = {field.name for field in fields(cls)}
    for key in tree:
        if key not in known:
            raise RecipeError(f"{where} has no key {key!r}: {nearest(str(key), known)}")


def _bytes(text: str, name: str) -> int:
    try:
        return int(parse_bytes(text))
    except ValueError:
        raise RecipeError(f"{name} {text!r}: give bytes, or a text such as '80GB'") from None
