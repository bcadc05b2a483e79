"""A full disk ends a run with one error, and a task of a run that is over writes nothing."""

import subprocess
import time
from pathlib import Path

import pytest

from tomodask import pipeline, steps
from tomodask.cluster.local import Workers, local_cluster
from tomodask.custody import custody
from tomodask.demo import write_dxchange
from tomodask.errors import DiskFullError, InputError, OutputInUseError
from tomodask.inventory import take_inventory
from tomodask.phantom import simulate_scan
from tomodask.shards import partials_of

SETTINGS = {"volume": {"chunk_rows": 4}, "center": 23.0}


@pytest.fixture(scope="module")
def client():
    with local_cluster(Workers(1, 1, 2**30)) as client:
        yield client


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MB; `resize` makes space on it."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(options: str) -> subprocess.CompletedProcess[str]:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    done = mount("size=1m")
    if done.returncode != 0:  # test_survival.py has a test with a limit, which needs no rights
        pytest.skip(f"no file system may be mounted here: {done.stderr.strip()}")
    yield place, lambda: mount("remount,size=8m")
    # lazily: a worker that lives on keeps its log of the ledger open
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.fixture(scope="module")
def scan(raw_file, client, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("scan") / "scan.zarr"
    return steps.ingest(raw_file.path, path, client=client)


def wait_until_empty(list_files) -> None:
    """What was in flight when the run ended fails as well, and cleans up after itself."""
    deadline = time.monotonic() + 60
    while list_files():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_disk_that_fills_up_ends_the_run_and_with_space_made_it_goes_on(
    small_disk, raw_file, client, tmp_path, monkeypatch, bytes_of
):
    """Scan store and volume, 300 kB and 370 kB, beside a file that leaves room for a part."""
    place, make_space = small_disk
    monkeypatch.setattr("tomodask.blocks.TARGET_BYTES", 1)
    monkeypatch.setattr("tomodask.ingest.layout.SHARD_FRAMES", 16)

    def run(output: Path) -> None:
        steps.reconstruct(raw_file.path, output, client=client, **SETTINGS)

    output, scan, ballast = (place / n for n in ("volume.zarr", "volume.scan.zarr", "ballast"))
    for store, filled in ((scan, 740_000), (output, 400_000)):
        ballast.write_bytes(bytes(filled))
        with pytest.raises(DiskFullError) as full:
            run(output)
        assert f"no space is left for {store} (No space left on device)" in str(full.value)
        assert "still to be written. Make space and give the same command" in str(full.value)
        assert full.value.exit_code == 3
        found = take_inventory(store)
        assert 0 < len(found.ledger.done()) < len(found.units)
        wait_until_empty(lambda store=store: partials_of(store))
    assert make_space().returncode == 0
    run(output)
    run(tmp_path / "volume.zarr")
    assert bytes_of(output) == bytes_of(tmp_path / "volume.zarr")
    assert bytes_of(scan) == bytes_of(tmp_path / "volume.scan.zarr")


def test_a_store_that_finds_no_room_to_begin_with_is_not_begun(small_disk, scan, client):
    place, _ = small_disk
    (place / "ballast").write_bytes(bytes(2**20 - 3 * 4096))  # a lease finds room
    with pytest.raises(DiskFullError, match="it is not begun yet"):
        steps.reconstruct(scan, place / "volume.zarr", client=client, **SETTINGS)
    # what the run says of itself may have found room
    assert {file.name for file in place.iterdir()} <= {"ballast", "volume.zarr.run"}


def test_a_disk_with_no_room_for_a_lease_is_full(small_disk, scan, client):
    place, _ = small_disk
    with pytest.raises(OSError, match="No space"):
        (place / "ballast").write_bytes(bytes(2**21))
    with pytest.raises(DiskFullError, match="it is not begun yet"):
        steps.reconstruct(scan, place / "volume.zarr", client=client, **SETTINGS)
    assert [file.name for file in place.iterdir()] == ["ballast"]


def test_leftovers_are_gone_before_the_work_and_after_it(tmp_path):
    store = tmp_path / "v.zarr"
    store.mkdir()
    left = store / f"0.{'a' * 32}.partial"
    left.write_bytes(b"of a killed writer")
    with custody(store):
        assert not left.exists()  # its space may be what is missing
        left.write_bytes(b"of a worker that was killed with its run")
    assert not left.exists()


def test_other_errors_are_left_as_they_are(tmp_path):
    with pytest.raises(PermissionError), custody(tmp_path / "v.zarr"):
        raise PermissionError(13, "Permission denied")
    with pytest.raises(InputError, match="no folder"), custody(tmp_path / "no" / "v.zarr"):
        pass
    with pytest.raises(DiskFullError, match="quota"), custody(tmp_path / "v.zarr"):
        raise OSError(122, "Disk quota exceeded")


@pytest.fixture
def tasks_of(monkeypatch):
    """What a call of the pipeline sends to the workers, which it does here as well."""

    def collect(call) -> list:
        sent = []
        run_blocks = pipeline.run_blocks

        def spy(client, function, tasks, **options):
            sent.extend((function, task) for task in tasks)
            return run_blocks(client, function, tasks, **options)

        with monkeypatch.context() as patch:
            patch.setattr(pipeline, "run_blocks", spy)
            call()
        return sent

    return collect


def test_a_task_of_a_volume_that_was_replaced_writes_nothing(
    scan, client, tasks_of, tmp_path, bytes_of
):
    output = tmp_path / "volume.zarr"
    first = {**SETTINGS, "center": 20.0}
    (function, late), *_ = tasks_of(lambda: steps.reconstruct(scan, output, client=client, **first))
    steps.reconstruct(scan, output, client=client, overwrite=True, **SETTINGS)
    before, ledger = bytes_of(output), take_inventory(output).ledger.done()
    with pytest.raises(OutputInUseError, match="was replaced since"):
        function(late)
    assert bytes_of(output) == before
    assert take_inventory(output).ledger.done() == ledger


def test_a_task_of_a_scan_store_that_was_replaced_writes_nothing(
    raw_file, client, tasks_of, tmp_path, bytes_of
):
    path, other = tmp_path / "scan.zarr", tmp_path / "other.h5"
    write_dxchange(other, simulate_scan(40, 48, 60, seed=9, num_spheres=30))
    (function, late), *_ = tasks_of(lambda: steps.ingest(other, path, client=client))
    steps.ingest(raw_file.path, path, client=client, overwrite=True)
    before = bytes_of(path)
    with pytest.raises(OutputInUseError, match="was replaced since"):
        function(late)
    assert bytes_of(path) == before
