"""Small files as instruments write them, and a file handle that records what is read."""

import io
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

Writer = Callable[..., Path]


@pytest.fixture
def counts(rng) -> np.ndarray:
    """(frames, rows, columns) whose every value differs from its neighbours."""
    return rng.integers(0, 2**16, (12, 6, 8), dtype=np.uint16)


@pytest.fixture
def write_dxchange(tmp_path) -> Writer:
    def write(counts, theta=None, units="degrees", name="scan.h5", images=(), **storage) -> Path:
        with h5py.File(tmp_path / name, "w") as file:
            file.create_dataset("exchange/data", data=counts, **storage)
            for member, frames in dict(images).items():
                file[f"exchange/{member}"] = frames
            if theta is not None:
                file["exchange/theta"] = theta
                if units is not None:
                    file["exchange/theta"].attrs["units"] = units
        return tmp_path / name

    return write


@pytest.fixture
def write_nxtomo(tmp_path) -> Writer:
    def write(counts, image_key, angles=None, units="degree", name="scan.nxs", **storage) -> Path:
        with h5py.File(tmp_path / name, "w") as file:
            entry = file.create_group("entry")
            entry.attrs["NX_class"] = "NXentry"
            entry["definition"] = "NXtomo"
            for member, kind in (
                ("instrument", "NXinstrument"),
                ("instrument/camera", "NXdetector"),
                ("sample", "NXsample"),
            ):
                entry.create_group(member).attrs["NX_class"] = kind
            if counts is not None:
                entry.create_dataset("instrument/camera/data", data=counts, **storage)
            if image_key is not None:
                entry["instrument/camera/image_key"] = image_key
            if angles is not None:
                entry["sample/rotation_angle"] = angles
                if units is not None:
                    entry["sample/rotation_angle"].attrs["units"] = units
        return tmp_path / name

    return write


class RecordingFile(io.FileIO):
    """A file that notes where it is read."""

    def __init__(self, path: Path, reads: list[tuple[int, int]]) -> None:
        super().__init__(path, "rb")
        self.reads = reads

    def readinto(self, buffer) -> int:
        self.reads.append((self.tell(), len(buffer)))
        return super().readinto(buffer)


@pytest.fixture
def chunk_reads(monkeypatch) -> Callable[..., dict[tuple[int, ...], int]]:
    """How often a call reads each chunk of a dataset from the disk, by the chunk's offset."""

    def count(path: Path, dataset: str, call: Callable[[], object]) -> dict[tuple[int, ...], int]:
        real_file, reads = h5py.File, []
        with real_file(path) as file:
            chunks = file[dataset].id
            places = [chunks.get_chunk_info(i) for i in range(chunks.get_num_chunks())]
        with monkeypatch.context() as patch:
            patch.setattr(
                h5py,
                "File",
                lambda name, mode, **how: real_file(RecordingFile(name, reads), mode, **how),
            )
            call()
        return {
            place.chunk_offset: sum(
                start < place.byte_offset + place.size and place.byte_offset < start + length
                for start, length in reads
            )
            for place in places
        }

    return count
