"""A block streamed in sub-blocks is the block, and a stage that fails stops the others."""

import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from tomodask import steps
from tomodask.cluster.local import Workers
from tomodask.layers import Layer, resolve
from tomodask.ledger import Ledger
from tomodask.pipeline import reconstruct_block
from tomodask.runplan import BlockTask, plan_run
from tomodask.scan import Scan
from tomodask.stream import STAGES, Handover, StoppedError, stream_block
from tomodask.volumestore import Volume, create_volume

CHUNK_ROWS = 4
CORRECTIONS = {
    "no halo": {},
    "with a halo": {"outliers": {}, "stripes": {}},
}


@pytest.fixture(scope="module")
def scan(raw_file, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("scan") / "scan.zarr"
    return steps.ingest(raw_file.path, path, cluster={"workers": 1, "threads": 1})


def task(scan: Path, output: Path, sub_rows: int, threads: int = 1, **corrections) -> BlockTask:
    """One block of all 40 rows, written into a new volume."""
    settings = {
        "source": str(scan), "output": str(output), "center": 24.3, "rows": "1:40",
        "volume": {"chunk_rows": CHUNK_ROWS}, "corrections": corrections,
    }  # fmt: skip
    recipe, _ = resolve([Layer("test", settings)])
    plan = replace(plan_run(recipe, Scan.open(scan), Workers(1, threads, 2**31)), block_rows=40)
    volume = create_volume(output, plan.spec, plan.attributes())
    job = replace(plan.job(output, volume.uuid), sub_rows=sub_rows)
    (block,) = plan.blocks(job.ledger.done())
    return BlockTask(job, block)


@pytest.fixture(scope="module", params=CORRECTIONS)
def law(request, scan, tmp_path_factory):
    """Corrections, and the report, ledger and folder of the block that was made plainly."""
    corrections = CORRECTIONS[request.param]
    output = tmp_path_factory.mktemp("law") / "volume.zarr"
    plain = task(scan, output, 40, **corrections)
    return corrections, reconstruct_block(plain), plain.job.ledger, output


@pytest.mark.parametrize(("sub_rows", "threads"), [(4, 1), (8, 2), (12, 1), (40, 2)])
def test_any_sub_blocks_give_the_same_bytes_and_report(
    law, scan, tmp_path, bytes_of, sub_rows, threads
):
    corrections, expected, ledger, output = law
    streamed = task(scan, tmp_path / "volume.zarr", sub_rows, threads, **corrections)
    report = stream_block(streamed)
    assert bytes_of(tmp_path / "volume.zarr") == bytes_of(output)
    (entry,), (lawful,) = streamed.job.ledger.done().values(), ledger.done().values()
    assert entry.shards == lawful.shards
    seconds = report.pop("seconds")
    assert report.pop("peak_bytes") > 2**20
    # rows of a halo and of a chunk that is cut are read, and counted, by both their neighbours
    assert report.pop("bytes_read") >= expected["bytes_read"]
    if streamed.job.halo == 0 or sub_rows == 40:
        lawful_report = {key: value for key, value in expected.items() if key != "bytes_read"}
        assert report == lawful_report
    assert (report["rows"], report["bytes_written"]) == (39, expected["bytes_written"])
    assert set(seconds) == {*STAGES, "total"}
    assert min(seconds.values()) >= 0
    busy = seconds["correct"] + seconds["reconstruct"] + seconds["wait"]
    assert busy <= seconds["total"]


@dataclass(frozen=True)
class Fails:
    """A correction that raises at its second call of a run."""

    calls: ClassVar[list[int]] = []
    mixes_angles: ClassVar[bool] = False
    in_place: ClassVar[bool] = False

    def halo(self, geometry) -> int:
        return 0

    def working_bytes(self, shape, *_) -> int:
        return 0

    def __call__(self, block, threads: int = 1, out=None):
        self.calls.append(block.geometry.row_start)
        if len(self.calls) == 2:
            raise ValueError("the correction failed")
        return block.replace(data=block.data.astype(np.float32))


@dataclass(frozen=True)
class Broken(Volume):
    """A volume that raises when its third sub-block is written."""

    def write(self, z_start, slab):
        if z_start == 2 * CHUNK_ROWS:
            raise OSError(28, "No space left on device")
        return super().write(z_start, slab)


@pytest.mark.parametrize("stage", ["read", "correct", "write"])
def test_a_stage_that_fails_stops_the_others_and_its_error_comes_out(
    scan, tmp_path, monkeypatch, stage
):
    streamed = task(scan, tmp_path / "volume.zarr", CHUNK_ROWS)
    job = streamed.job
    Fails.calls.clear()
    if stage == "correct":
        job = replace(job, corrections=(Fails(),))
    if stage == "read":
        (error,) = (OSError(5, "Input/output error"),)
        load = type(job).load

        def broken(self, start: int, stop: int):
            if start > 2 * CHUNK_ROWS:
                raise error
            return load(self, start, stop)

        monkeypatch.setattr(type(job), "load", broken)
    if stage == "write":
        volume = Volume.open(job.volume)
        monkeypatch.setattr(
            type(job), "open_volume", lambda _: Broken(volume.path, volume.spec, volume.metadata)
        )
    told = {"read": "Input/output", "correct": "the correction failed", "write": "No space left"}
    with pytest.raises((OSError, ValueError), match=told[stage]):
        stream_block(replace(streamed, job=job))
    assert not [t for t in threading.enumerate() if t.name.startswith("tomodask-stream")]
    assert not list(job.volume.rglob("*.partial"))
    assert job.ledger.done() == {}
    if stage == "correct":
        return
    monkeypatch.undo()
    stream_block(streamed)  # and again: nothing of the failure is left
    assert len(Ledger(job.ledger.path).done()) == 1


def test_whoever_gives_waits_until_it_is_taken():
    belt: Handover[str] = Handover()
    order = []

    def give() -> None:
        for name in "abc":
            order.append(f"make {name}")
            belt.give(name)

    giver = threading.Thread(target=give)
    giver.start()
    for name in "abc":
        time.sleep(0.02)  # time enough to make more, were it allowed
        made = [step for step in order if step.startswith("make")]
        assert made[-1] == f"make {name}"
        assert belt.take() == name
    giver.join()


def test_who_waits_is_let_go_by_a_stop():
    belt: Handover[str] = Handover()
    ended = []

    def take() -> None:
        with pytest.raises(StoppedError):
            belt.take()
        ended.append(True)

    taker = threading.Thread(target=take)
    taker.start()
    belt.stop()
    taker.join(timeout=10)
    assert ended
    with pytest.raises(StoppedError):
        belt.give("too late")
