"""kill -9 of driver and workers while a network is trained or applied, the same command again."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tomodask.learn.model import load_model
from tomodask.volumestore import volume_metadata

RECIPE = {
    "center": 24.0,
    "volume": {"chunk_rows": 4},
    "cluster": {"workers": 2, "threads": 1},
    "denoise": {
        "network": {"unet": {"features": 4, "depth": 1, "convs": 1}},
        "training": {
            "voxels": 150 * 4096, "batch_voxels": 4096, "patch": 32, "precision": "float32",
            "patience": None,
        },
    },
}  # fmt: skip
PATIENCE = 240


def command(folder: Path, raw: Path) -> list[str]:
    tree = {**RECIPE, "source": str(raw), "output": str(folder / "v.zarr")}
    (folder / "recipe.yaml").write_text(json.dumps(tree))
    return [sys.executable, "-m", "tomodask", "run", str(folder / "recipe.yaml"), "--json"]


def start(folder: Path, raw: Path) -> subprocess.Popen:
    return subprocess.Popen(
        command(folder, raw), cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )


def kill_driver(run: subprocess.Popen) -> None:
    """And nothing else: its workers must end by themselves."""
    run.send_signal(signal.SIGKILL)
    run.wait()


def kill_worker(run: subprocess.Popen) -> None:
    """One of the processes below the driver that has done most."""
    children = psutil.Process(run.pid).children(recursive=True)
    if children:
        busiest = max(children, key=lambda child: sum(child.cpu_times()[:2]))
        os.kill(busiest.pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def uninterrupted(raw_file, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    done = start(folder, raw_file.path)
    assert done.wait(PATIENCE) == 0
    return folder


def wait_for(found, run: subprocess.Popen) -> None:
    began = time.monotonic()
    while not found() and run.poll() is None and time.monotonic() - began < PATIENCE:
        time.sleep(0.02)


def finish(folder: Path, raw: Path) -> None:
    """The same command until it ends well; a dead driver's lease may have to run out before."""
    began = time.monotonic()
    while time.monotonic() - began < PATIENCE:
        if start(folder, raw).wait(PATIENCE) == 0:
            return
        time.sleep(1)
    pytest.fail("the run did not end")


def same(folder: Path, other: Path, bytes_of) -> None:
    models = [load_model(path / "v.model") for path in (folder, other)]
    for name, weight in models[0].weights.items():
        assert (weight == models[1].weights[name]).all(), name
    assert volume_metadata(folder / "v.zarr")["complete"]
    assert bytes_of(folder / "v.zarr") == bytes_of(other / "v.zarr")


def test_a_driver_killed_in_training_ends_with_the_same_volume(
    uninterrupted, raw_file, tmp_path, bytes_of
):
    run = start(tmp_path, raw_file.path)
    log = tmp_path / "v.model.training" / "log.jsonl"
    wait_for(lambda: log.is_file() and log.stat().st_size > 0, run)
    kill_driver(run)
    assert not (tmp_path / "v.model" / "model.json").exists()
    finish(tmp_path, raw_file.path)
    same(tmp_path, uninterrupted, bytes_of)


@pytest.mark.slow
def test_a_worker_killed_in_training_is_replaced(uninterrupted, raw_file, tmp_path, bytes_of):
    run = start(tmp_path, raw_file.path)
    log = tmp_path / "v.model.training" / "log.jsonl"
    wait_for(lambda: log.is_file() and log.stat().st_size > 0, run)
    kill_worker(run)
    assert run.wait(PATIENCE) == 0
    same(tmp_path, uninterrupted, bytes_of)


@pytest.mark.slow
def test_kills_at_any_moment_end_with_the_same_volume(uninterrupted, raw_file, tmp_path, bytes_of):
    rng, killed = random.Random(1), 0
    for _ in range(6):
        run = start(tmp_path, raw_file.path)
        try:
            run.wait(rng.uniform(1.5, 14))
        except subprocess.TimeoutExpired:
            (kill_driver if rng.random() < 0.6 else kill_worker)(run)
            killed += 1
        if run.poll() is None:
            kill_driver(run)
    assert killed >= 2
    finish(tmp_path, raw_file.path)
    same(tmp_path, uninterrupted, bytes_of)
    shutil.rmtree(tmp_path, ignore_errors=True)
