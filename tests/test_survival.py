"""kill -9 of a worker or of the driver while blocks run, the same command again: the same bytes."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tomodask.demo import write_dxchange
from tomodask.ledger import Ledger
from tomodask.phantom import simulate_scan
from tomodask.volume import volume_metadata

# The plain NumPy projector, as it is slow enough to be killed in the middle of a block.
SETTINGS = ("backend=reference", "volume.chunk_rows=4", "--center", "64.0", "--workers", "2")
BLOCKS = 16


def command(source: Path, output: Path, scan: Path) -> list[str]:
    # TARGET_BYTES is set through the code, as no flag should be needed for so small a volume.
    code = (
        "import sys, tomodask.blocks as blocks; blocks.TARGET_BYTES = 1\n"
        "from tomodask.cli import main\n"
        "if __name__ == '__main__': main(sys.argv[1:])"
    )
    script = scan.parent / "driver.py"
    script.write_text(code)
    paths = [str(source), str(output), "--scan", str(scan)]
    return [sys.executable, str(script), "reconstruct", *paths, *SETTINGS]


def blocks_done(output: Path) -> int:
    kept = volume_metadata(output)
    return len(Ledger.of(output, kept["uuid"], kept["recipe_hash"]).done()) if kept else 0


def workers_of(driver: subprocess.Popen) -> list[psutil.Process]:
    """Processes that hold memory of NumPy's size: workers, not Dask's resource tracker."""
    children = psutil.Process(driver.pid).children(recursive=True)
    return [child for child in children if "spawn_main" in " ".join(child.cmdline())]


def run_until_a_block_runs(arguments: list[str], output: Path) -> subprocess.Popen:
    """Start the driver and return while its second to last-but-one block is being made."""
    driver = subprocess.Popen(arguments, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while blocks_done(output) < 2:
        assert driver.poll() is None, "the driver ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return driver


@pytest.fixture(scope="module")
def large_file(tmp_path_factory) -> Path:
    """160 views of 64 x 128 pixels: 16 chunk rows of 4, each a good part of a second's work."""
    path = tmp_path_factory.mktemp("large") / "scan.h5"
    write_dxchange(path, simulate_scan(64, 128, 160, seed=4, num_spheres=50))
    return path


@pytest.fixture(scope="module")
def untouched(large_file, tmp_path_factory, bytes_of):
    """Paths of the scan store, and the bytes of a run that nobody killed."""
    folder = tmp_path_factory.mktemp("untouched")
    scan, output = folder / "scan.zarr", folder / "volume.zarr"
    subprocess.run(command(large_file, output, scan), check=True, stderr=subprocess.DEVNULL)
    assert blocks_done(output) == BLOCKS
    return scan, bytes_of(output)


def test_a_killed_worker_changes_no_byte(large_file, untouched, tmp_path, bytes_of):
    scan, expected = untouched
    output = tmp_path / "volume.zarr"
    driver = run_until_a_block_runs(command(large_file, output, scan), output)
    for worker in workers_of(driver):
        worker.send_signal(signal.SIGKILL)
    assert blocks_done(output) < BLOCKS, "killed too late to hit a running block"
    assert driver.wait(timeout=120) == 0
    assert bytes_of(output) == expected


def test_a_killed_driver_goes_on_where_it_stopped(large_file, untouched, tmp_path, bytes_of):
    scan, expected = untouched
    output = tmp_path / "volume.zarr"
    arguments = command(large_file, output, scan)
    driver = run_until_a_block_runs(arguments, output)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    assert 2 <= blocks_done(output) < BLOCKS
    assert not volume_metadata(output)["complete"]
    again = subprocess.run(arguments, check=False, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert bytes_of(output) == expected
    assert volume_metadata(output)["complete"]


def test_an_interrupted_driver_says_that_the_same_command_goes_on(large_file, untouched, tmp_path):
    scan, _ = untouched
    output = tmp_path / "volume.zarr"
    arguments = command(large_file, output, scan)
    driver = subprocess.Popen(
        arguments, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    while blocks_done(output) < 1:
        assert driver.poll() is None
        time.sleep(0.01)
    driver.send_signal(signal.SIGINT)
    _, told = driver.communicate(timeout=60)
    assert driver.returncode == 130
    assert "the same command goes on" in told
    assert "Traceback" not in told


def kill_at_random(
    arguments: list[str], output: Path, expected: dict[str, bytes], bytes_of, seed: int
) -> bool:
    """Kill a worker or the driver at a random moment, then run again; was a block running?"""
    rng = random.Random(seed)
    driver = subprocess.Popen(arguments, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    goal, pause = rng.randrange(BLOCKS), rng.uniform(0, 0.2)
    while blocks_done(output) < goal or volume_metadata(output) is None:
        assert driver.poll() is None
        time.sleep(0.002)
    time.sleep(pause)
    workers = workers_of(driver)
    victim = rng.choice([driver.pid, *(worker.pid for worker in workers)])
    hit = driver.poll() is None and bool(workers) and blocks_done(output) < BLOCKS
    with contextlib.suppress(ProcessLookupError):
        os.kill(victim, signal.SIGKILL)
    print(f"seed {seed}: killed {'driver' if victim == driver.pid else 'worker'} at block {goal}")
    driver.wait(timeout=120)
    again = subprocess.run(arguments, check=False, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert bytes_of(output) == expected
    assert volume_metadata(output)["complete"]
    return hit


def hits(large_file, untouched, folder: Path, bytes_of, kills: int) -> int:
    """How many of so many kills hit a running block; each run ends with the same bytes."""
    scan, expected = untouched
    found = 0
    for seed in range(kills):
        output = folder / f"volume{seed}.zarr"
        arguments = command(large_file, output, scan)
        found += kill_at_random(arguments, output, expected, bytes_of, seed)
    return found


@pytest.mark.slow
def test_random_kills_change_no_byte(large_file, untouched, tmp_path, bytes_of):
    assert hits(large_file, untouched, tmp_path, bytes_of, kills=5) >= 4


@pytest.mark.soak
def test_many_random_kills_change_no_byte(large_file, untouched, tmp_path, bytes_of):
    assert hits(large_file, untouched, tmp_path, bytes_of, kills=20) >= 16
