"""Reconstructions of K splits and of all views, of the rows that a network learns from.

A folder with a volume for each split (`split0.zarr`, ...), one of all views (`full.zarr`), and
`splits.json`, which says which rows are in them, by which share of the angles each split is to be
weighted, and which rows are held out. Rows that nobody learns from are missing (NaN), and take no
space. One ledger lists what is done in all of the volumes.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tomodask.errors import FormatError, OutputExistsError
from tomodask.ledger import Ledger, remove_ledgers
from tomodask.shards import ShardEntry, swap_in, sync_folder
from tomodask.volumestore import Volume, VolumeSpec, create_volume, remove_volume

FORMAT_VERSION = 1
NOTE = "splits.json"
FULL = "full.zarr"

Slab = tuple[int, int]


@dataclass(frozen=True)
class SplitStore:
    """The splits at `path`; `metadata` is what `splits.json` holds."""

    path: Path
    metadata: Mapping[str, Any]

    @classmethod
    def open(cls, path: Path | str) -> SplitStore:
        """Raises FormatError where no splits are, or a newer version's."""
        metadata = splits_metadata(path)
        if metadata is None:
            raise FormatError(
                f"{path} holds no splits of tomodask: its {NOTE} is missing or says otherwise; "
                "`tomodask train` makes them"
            )
        return cls(Path(path), metadata)

    @property
    def uuid(self) -> str:
        """Minted when the store was made: names its ledger."""
        return str(self.metadata["uuid"])

    @property
    def digest(self) -> str:
        """Of all that decides the bytes."""
        return str(self.metadata["digest"])

    @property
    def num_splits(self) -> int:
        return len(self.metadata["weights"])

    @property
    def weights(self) -> np.ndarray:
        """(K,) shares of the angles, which sum to 1."""
        return np.array(self.metadata["weights"], np.float64)

    @property
    def training(self) -> list[Slab]:
        """Rows [start, stop) to learn from, slab by slab."""
        return [(int(a), int(b)) for a, b in self.metadata["training"]]

    @property
    def held_out(self) -> list[Slab]:
        """Rows [start, stop) that only judge what was learnt."""
        return [(int(a), int(b)) for a, b in self.metadata["held_out"]]

    @property
    def ledger(self) -> Ledger:
        """Which rows are done, in all of the volumes."""
        return Ledger.of(self.path, self.uuid, self.digest)

    def split(self, k: int) -> Volume:
        """The reconstruction of split k."""
        return Volume.open(self.path / _split_name(k))

    @property
    def full(self) -> Volume:
        """The reconstruction of all views."""
        return Volume.open(self.path / FULL)

    def volumes(self) -> dict[str, Volume]:
        """All of them by the names of their folders: the splits, then the full one."""
        names = [_split_name(k) for k in range(self.num_splits)]
        return {name: Volume.open(self.path / name) for name in [*names, FULL]}

    def write(self, z_start: int, splits: np.ndarray, full: np.ndarray | None) -> list[ShardEntry]:
        """Write rows from `z_start` on, splits (K, rows, y, x) and full (rows, y, x)."""
        assert full is not None
        entries: list[ShardEntry] = []
        slabs = [*splits, full]
        for (name, volume), slab in zip(self.volumes().items(), slabs, strict=True):
            entries += [entry.below(name) for entry in volume.write(z_start, slab)]
        return entries

    def note(self, **found: Any) -> SplitStore:
        """Keep what was found out about the splits (normalisation, independence, ...)."""
        metadata = {**self.metadata, **found}
        swap_in(self.path / NOTE, json.dumps(metadata, indent=2).encode())
        sync_folder(self.path)
        return SplitStore(self.path, metadata)


def create_splits(
    path: Path,
    spec: VolumeSpec,
    *,
    digest: str,
    weights: Sequence[float],
    training: Sequence[Slab],
    held_out: Sequence[Slab],
    attributes: Mapping[str, Any],
) -> SplitStore:
    """Make empty volumes for K = len(weights) splits and the full reconstruction.

    Killed before its end it leaves no `splits.json`; the next call goes on.

    spec : of each volume. attributes : kept with the splits and with each volume; JSON.
    """
    path.mkdir(exist_ok=True)
    for name in [*(_split_name(k) for k in range(len(weights))), FULL]:
        remove_volume(path / name)  # of a call that was killed
        create_volume(path / name, spec, {**attributes, "recipe_hash": digest, "split": name})
    metadata = {
        **attributes,
        "kind": "splits",
        "format_version": FORMAT_VERSION,
        "uuid": uuid.uuid4().hex,
        "digest": digest,
        "weights": [float(weight) for weight in weights],
        "training": [list(slab) for slab in training],
        "held_out": [list(slab) for slab in held_out],
    }
    return SplitStore(path, {}).note(**metadata)


def splits_metadata(path: Path | str) -> dict[str, Any] | None:
    """What `splits.json` in a folder holds; None where there is none of tomodask's.

    Raises
    ------
    FormatError : written by a newer tomodask.
    """
    try:
        metadata = json.loads((Path(path) / NOTE).read_bytes())
        if metadata["kind"] != "splits":
            return None
        version = int(metadata["format_version"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if version > FORMAT_VERSION:
        raise FormatError(
            f"{path} has format version {version}, this tomodask reads up to {FORMAT_VERSION}: "
            "update tomodask"
        )
    return dict(metadata)


def remove_splits(path: Path | str) -> list[Path]:
    """Remove a folder of splits, and nothing that tomodask did not make; returns what stays."""
    path = Path(path)
    if not path.exists():
        return []
    if not path.is_dir():
        raise OutputExistsError(f"{path} is a file, not a folder of splits: nothing was removed")
    kept = remove_ledgers(path)
    (path / NOTE).unlink(missing_ok=True)
    for entry in sorted(path.iterdir()):
        is_ours = entry.name == FULL or entry.name.startswith("split")
        kept += remove_volume(entry) if is_ours and entry.is_dir() else [entry]
    if not any(path.iterdir()):
        path.rmdir()
    return kept


def _split_name(k: int) -> str:
    return f"split{k}.zarr"
