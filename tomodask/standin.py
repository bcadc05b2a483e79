"""Scans that are not there yet: what a plan looks at in place of a scan store.

A raw source says how its scan store will be cut; "100x2400x2048x2048" stands for files that nobody
has measured yet. Both give a `Scan` of which everything is known but the counts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from numcodecs.blosc import Blosc

from tomodask.errors import InputError
from tomodask.geometry import ParallelBeam
from tomodask.ingest.convert import IngestPlan
from tomodask.ingest.source import Frames, Source, SourceOptions
from tomodask.scan import Scan

PHOTONS = 5000.0  # of the noise that stands for counts
DARK_COUNTS = 100
TILE = 16  # frames and rows after which the noise comes again
# radius, distance from the axis and direction, of half the detector's width
BEADS = ((0.2, 0.5, 0.3), (0.1, 0.6, 2.0), (0.05, 0.3, 4.0))
IMAGES = 10  # flats, and darks, of a scan that nobody has measured
SAMPLE_BYTES = 64 * 2**20  # of a source's chunks that are read to see how they compress
SAMPLES = 4


@dataclass(frozen=True)
class NoiseFrames:
    """Frames of shot noise, the same every few rows: quick to make, and they pack as counts do.

    level : photons of each pixel; None: of a beam behind a smooth object.
    """

    shape: tuple[int, int, int]
    dtype: np.dtype
    level: float | None = None
    label: str = "noise"
    first_index: int = 0
    files: tuple[Path, ...] = ()

    @property
    def chunk_shape(self) -> tuple[int, int, int]:
        """Frame by frame."""
        return (1, *self.shape[1:])

    def read(self, frames: slice, rows: slice) -> np.ndarray:
        """(frames, rows, columns) of counts."""
        num_frames, height, columns = self.shape
        index = np.arange(*frames.indices(num_frames))
        noise = _noise(columns)[:, np.arange(*rows.indices(height)) % TILE]
        counts = np.empty((index.size, *noise.shape[1:]), self.dtype)
        for k, frame in enumerate(index):
            beam = self._beam(np.pi * frame / num_frames)
            counts[k] = DARK_COUNTS + beam + np.sqrt(beam) * noise[frame % TILE]
        return counts

    def _beam(self, angle: float) -> np.ndarray:
        """(columns,) photons; what lies off the axis lets the axis be found."""
        if self.level is not None:
            return np.full(self.shape[2], self.level, np.float32)
        across = np.linspace(-1, 1, self.shape[2], dtype=np.float32)
        chords = np.sqrt(np.maximum(0, 0.64 - across**2))
        for radius, distance, phase in BEADS:
            middle = distance * np.cos(angle - phase)
            chords = chords + np.sqrt(np.maximum(0, radius**2 - (across - middle) ** 2))
        return np.asarray(PHOTONS * np.exp(-chords), np.float32)


@dataclass(frozen=True)
class SomeFrames:
    """A run of frames out of a stack; it begins on an edge of the stack's chunks."""

    frames: Frames
    start: int
    count: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """(frames, rows, columns)."""
        return (self.count, *self.frames.shape[1:])

    @property
    def dtype(self) -> np.dtype:
        """As in the stack."""
        return self.frames.dtype

    @property
    def chunk_shape(self) -> tuple[int, int, int]:
        """As in the stack."""
        return self.frames.chunk_shape

    @property
    def first_index(self) -> int:
        """In the dataset."""
        return self.frames.first_index + self.start if self.frames.first_index >= 0 else -1

    @property
    def label(self) -> str:
        """As in the stack."""
        return self.frames.label

    @property
    def files(self) -> tuple[Path, ...]:
        """As in the stack."""
        return self.frames.files

    def read(self, frames: slice, rows: slice) -> np.ndarray:
        """(frames, rows, columns), as the stack reads them."""
        start, stop, _ = frames.indices(self.count)
        return self.frames.read(slice(self.start + start, self.start + stop), rows)


def stated_scan(text: str, dtype: str, options: SourceOptions) -> tuple[int, Source]:
    """Steps and one step's source from "STEPSxVIEWSxROWSxCOLUMNS", or "VIEWSxROWSxCOLUMNS".

    Raises
    ------
    InputError : not three or four whole numbers, or no type of counts.
    """
    try:
        numbers = [int(part) for part in text.lower().replace("×", "x").split("x")]
        kind = np.dtype(dtype)
    except (ValueError, TypeError):
        raise InputError(
            f"scan {text!r} of {dtype!r}: give STEPSxVIEWSxROWSxCOLUMNS, such as "
            "100x2400x2048x2048, and a type such as uint16"
        ) from None
    if len(numbers) not in (3, 4) or min(numbers) < 1 or kind.kind not in "uif":
        raise InputError(
            f"scan {text!r} of {dtype!r}: three or four numbers of at least 1 are needed, "
            "STEPSxVIEWSxROWSxCOLUMNS, and counts that are integers or floats"
        )
    steps, (views, rows, columns) = (numbers[0] if len(numbers) == 4 else 1), numbers[-3:]
    return steps, noise_source((views, rows, columns), kind, options)


def noise_source(shape: tuple[int, int, int], dtype: np.dtype, options: SourceOptions) -> Source:
    """A scan over half a turn that holds noise."""
    images = NoiseFrames((IMAGES, *shape[1:]), dtype)
    return Source(
        path=Path("x".join(map(str, shape))),
        description="not measured yet",
        projections=NoiseFrames(shape, dtype),
        angles=np.linspace(0, np.pi, shape[0], endpoint=False),
        flat_frames=replace(images, level=PHOTONS),
        dark_frames=replace(images, level=0.0),
        signal=options.signal or "transmission",
        pixel_size_um=options.pixel_size_um,
        energy_kev=options.energy_kev,
        distance_mm=options.distance_mm,
    )


def scan_to_be(plan: IngestPlan) -> Scan:
    """The scan store that an ingest will make, as it will be opened."""
    source, (num_frames, rows, columns) = plan.source, plan.shape
    images = [frames for frames in (source.flat_frames, source.dark_frames) if frames is not None]
    layout = plan.layout
    return Scan(
        path=plan.path,
        arrays={name: name for name in source.stacks()},
        geometry=ParallelBeam(source.angles, rows, columns, pixel_size_um=source.pixel_size_um),
        frames=np.arange(num_frames),
        dtype=source.dtype.newbyteorder("="),
        stored_shape=plan.shape,
        chunk_shape=layout.chunk,
        shard_shape=layout.shard,
        num_flats=source.flat_frames.shape[0] if source.flat_frames else 0,
        num_darks=source.dark_frames.shape[0] if source.dark_frames else 0,
        image_bytes=sum(frames.shape[0] * frames.dtype.itemsize for frames in images),
        timestamps=source.timestamps,
        flat_times=source.flat_times,
        dark_times=source.dark_times,
        signal=source.signal,
        gain=source.gain,
        energy_kev=source.energy_kev,
        distance_mm=source.distance_mm,
        metadata=source.metadata,
        input_digest=plan.input_digest,
        is_foreign=False,
        reads_directly=True,
    )


def sampled_compression(source: Source) -> float | None:
    """Bytes that a scan store takes for a byte of counts, from some frames; None: too large a read.

    Packed as `ingest.convert` does, in chunks of 16 frames and 32 rows.
    """
    frames, rows, _ = source.shape
    shuffle = Blosc.BITSHUFFLE if source.dtype.kind in "ui" else Blosc.SHUFFLE
    codec = Blosc(cname="lz4", clevel=5, shuffle=shuffle)
    each = _read_bytes(source, min(16, frames))
    count = int(min(SAMPLES, SAMPLE_BYTES // each, math.ceil(frames / 16)))
    if count < 1:
        return None
    stored = plain = 0
    for start in np.linspace(0, frames - min(16, frames), count).astype(int):
        for row in _spread(rows):
            part = source.read(slice(int(start), int(start) + 16), slice(row, row + 32))
            stored += len(codec.encode(np.ascontiguousarray(part)))
            plain += part.nbytes
    return stored / plain


def _spread(rows: int) -> Iterable[int]:
    """First rows of three bands of 32."""
    return sorted({max(0, int(place * rows) - 16) for place in (0.2, 0.5, 0.8)})


def _read_bytes(source: Source, frames: int) -> int:
    """Bytes of the source's chunks that hold some frames of the bands that are sampled."""
    chunk_frames, chunk_rows, _ = source.chunk_shape
    rows = min(source.shape[1], 3 * max(32, chunk_rows))
    deep = math.ceil(frames / chunk_frames) * chunk_frames
    return 3 * deep * rows * source.shape[2] * source.dtype.itemsize


@lru_cache(maxsize=2)
def _noise(columns: int) -> np.ndarray:
    """(TILE, TILE, columns) of unit variance."""
    return np.random.default_rng(0).standard_normal((TILE, TILE, columns), np.float32)
