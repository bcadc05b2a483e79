"""A run keeps what it was to take and what it took; runs that went on add up."""

import json
import time
from contextlib import nullcontext
from dataclasses import dataclass, field

import pytest

from tomodask import steps
from tomodask.cluster.local import Workers
from tomodask.cluster.run import Progress
from tomodask.errors import MemoryBudgetError
from tomodask.hardware import FILE_NAME, Hardware, Rates
from tomodask.layers import Layer, resolve
from tomodask.planfact import FACT, PLAN, PlanAndFact, compare, comparison_text
from tomodask.runfolder import RunFolder


@dataclass
class Force:
    size: Workers = field(default_factory=lambda: Workers(2, 1, 2**31))


def recipe_of(source, output, **settings):
    tree = {"source": str(source), "output": str(output), "volume": {"chunk_rows": 4}, **settings}
    return resolve([Layer("test", tree)])[0]


def progress_of(stage: str, blocks: int, read: int, peak: int) -> Progress:
    progress = Progress(stage, blocks)
    for _ in range(blocks):
        progress.add({"bytes_read": read, "bytes_written": 2 * read, "peak_bytes": peak})
    progress.ended = time.monotonic()
    return progress


@pytest.fixture(scope="module")
def scan(raw_file, tmp_path_factory):
    path = tmp_path_factory.mktemp("scan") / "scan.zarr"
    return steps.ingest(raw_file.path, path, cluster={"workers": 1, "threads": 1})


@pytest.fixture
def attempt(scan, tmp_path):
    """One attempt at a run that does some blocks, and ends with an error if it is told to."""
    folder = RunFolder.of(tmp_path / "volume.zarr")

    def run(blocks: int, peak: int = 100, error: type[BaseException] | None = None, **settings):
        recipe = recipe_of(scan, tmp_path / "volume.zarr", **settings)
        ends = nullcontext() if error is None else pytest.raises(error)
        with ends, PlanAndFact(folder, recipe, Force()) as kept:
            listener = kept.listening(lambda progress: None)
            kept.planned()
            listener(progress_of("reconstruct", blocks, 10, peak))
            if error is not None:
                raise error
        return folder

    return run


def test_attempts_are_added_up_and_the_first_plan_stays(attempt):
    folder = attempt(3, peak=200, error=KeyboardInterrupt)
    first = folder.read_json(PLAN)
    attempt(2, peak=100)
    fact = folder.read_json(FACT)
    assert folder.read_json(PLAN) == first
    assert len(fact["attempts"]) == 2
    assert fact["stages"]["reconstruct"]["blocks"] == 5
    assert fact["stages"]["reconstruct"]["bytes_written"] == 100
    assert fact["peak_bytes"] == 200
    assert fact["stages"]["center"]["seconds"] >= 0


def test_a_run_that_finds_all_done_adds_nothing(attempt):
    folder = attempt(3)
    before = folder.read_json(FACT)
    attempt(0)
    assert folder.read_json(FACT) == before


def test_another_recipe_begins_a_plan_of_its_own(attempt):
    folder = attempt(3)
    attempt(1, rows="0:20")
    assert len(folder.read_json(FACT)["attempts"]) == 1
    (_, stage) = folder.read_json(PLAN)["stages"]
    assert stage["bytes_read"] < 60 * 40 * 48 * 2


def test_what_was_taken_is_kept_before_the_end(scan, tmp_path, monkeypatch):
    monkeypatch.setattr("tomodask.planfact.TOLD_SECONDS", 0.0)
    folder = RunFolder.of(tmp_path / "volume.zarr")
    recipe = recipe_of(scan, tmp_path / "volume.zarr")
    with PlanAndFact(folder, recipe, Force()) as kept:
        kept.listening(lambda progress: None)(progress_of("reconstruct", 2, 10, 5))
        assert folder.read_json(FACT)["stages"]["reconstruct"]["blocks"] == 2


def test_a_run_that_is_no_longer_ours_writes_nothing(scan, tmp_path):
    folder = RunFolder.of(tmp_path / "volume.zarr")
    recipe = recipe_of(scan, tmp_path / "volume.zarr")
    with PlanAndFact(folder, recipe, Force(), is_ours=lambda: False) as kept:
        kept.listening(lambda progress: None)(progress_of("reconstruct", 2, 10, 5))
    assert folder.read_json(FACT) is None


def test_what_can_not_be_foreseen_does_not_end_the_run(tmp_path):
    folder = RunFolder.of(tmp_path / "volume.zarr")
    recipe = recipe_of(tmp_path / "none.h5", tmp_path / "volume.zarr")
    with PlanAndFact(folder, recipe, Force()):
        pass
    assert compare(folder) == {}
    (tmp_path / "volume.zarr.run").mkdir(exist_ok=True)
    (tmp_path / "volume.zarr.run" / PLAN).write_text("no JSON")
    with PlanAndFact(folder, recipe, Force()):
        pass


def test_a_run_that_can_not_fit_is_refused_before_its_raw_files_are_copied(raw_file, tmp_path):
    cluster = {"workers": 1, "threads": 1, "memory": 440 * 2**20}
    volume = {"chunk_rows": 32}
    recipe = recipe_of(raw_file.path, tmp_path / "volume.zarr", cluster=cluster, volume=volume)
    with pytest.raises(MemoryBudgetError, match=r"smallest block.*cluster\.memory="):
        steps.run(recipe)
    assert not list(tmp_path.glob("*.scan.zarr"))


def test_a_run_is_what_its_plan_said(raw_file, tmp_path):
    """The law of the figures: bytes to a few percent, blocks to one, whole, from raw file on."""
    output = tmp_path / "volume.zarr"
    cluster = {"workers": 2, "threads": 1, "memory": 2**30}
    recipe = recipe_of(raw_file.path, output, cluster=cluster)
    folder = RunFolder.of(output)
    rates = Rates(
        source_bytes=1e9, store_bytes=1e9, read_bytes=1e9, correct_pixels=1e9, work=1e9,
        work_unit="operations", corrections=("Flatfield", "MinusLog"), write_bytes=1e9,
        center_bytes=1e9,
    )  # fmt: skip
    Hardware(measured=rates).write(folder.path / FILE_NAME)  # as `plan --measure` keeps it
    steps.run(recipe)
    compared = compare(folder)
    for stage in ("ingest", "reconstruct", "all"):
        for name, limit in (("blocks", 0), ("bytes_read", 0), ("bytes_written", 0.05)):
            pair = compared[stage][name]
            assert pair["fact"] == pytest.approx(pair["plan"], rel=limit), (stage, name)
    assert compared["all"]["seconds"]["plan"] > 0
    assert compared["all"]["memory"]["fact"] < 400 * 2**20 + 2**30
    text = comparison_text(compared)
    assert "GB a worker" in text
    assert json.dumps(compared)
