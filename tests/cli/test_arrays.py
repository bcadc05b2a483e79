"""A job array from the command line: prepare, run --shard, finalize."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tomodask.cli import execute
from tomodask.runfolder import RunFolder
from tomodask.volumestore import Volume


@pytest.fixture(scope="module")
def scan(raw_file, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("arrays") / "scan.zarr"
    assert execute(["ingest", str(raw_file.path), str(path), "--workers", "1"]) == 0
    return path


@pytest.fixture
def recipe(scan, tmp_path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(
        f"source: {scan}\noutput: {tmp_path / 'volume.zarr'}\ncenter: 24.5\n"
        "volume: {chunk_rows: 4}\n"
    )
    return path


def test_prepare_elements_and_finalize_answer_in_json(recipe, tmp_path, capsys):
    def answer(*arguments: str, code: int = 0) -> dict:
        capsys.readouterr()
        assert execute([*arguments, "--json"]) == code
        return json.loads(capsys.readouterr().out)

    prepared = answer("prepare", str(recipe))
    assert prepared["chunk_rows"] == 10
    assert prepared["center"] == 24.5
    first = answer("run", str(recipe), "--shard", "1/2")
    assert first["chunk_rows"] == [0, 5]
    assert first["rows"] == 20
    missing = answer("finalize", str(recipe), code=3)
    assert missing["again"] == ["2/2"]
    assert not missing["complete"]
    assert answer("run", str(recipe), "--shard", "1/2")["blocks"] == 0
    answer("run", str(recipe), "--shard", "2/2")
    assert answer("finalize", str(recipe))["complete"]
    assert Volume.open(tmp_path / "volume.zarr").metadata["complete"]


def test_each_says_in_words_what_comes_next(recipe, capsys):
    def said(*arguments: str) -> str:
        capsys.readouterr()
        assert execute(list(arguments)) == 0
        return capsys.readouterr().out

    assert f"tomodask run {recipe} --shard 1/16" in said("prepare", str(recipe))
    assert "element 1/1 of" in said("run", str(recipe), "--shard", "1/1")
    assert "had nothing left to do" in said("run", str(recipe), "--shard", "1/1")
    assert "is complete" in said("finalize", str(recipe))


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["run", "--shard", "0/16"], 2, "the first is 1/16 and the last 16/16"),
        (["run", "--shard", "3"], 2, "give NUMBER/COUNT, such as 3/16"),
        (["run", "--shard", "1/2"], 2, "is not prepared"),
        (["run", "--shard", "1/2", "--profile"], 2, "--profile is for a whole run"),
        (["run", "--shard", "1/2", "--cluster", "slurm"], 2, "--cluster is for a whole run"),
        (["finalize"], 2, "is not prepared"),
    ],
)
def test_what_can_not_be_done_ends_with_one_message(recipe, capsys, arguments, code, message):
    command, *flags = arguments
    assert execute([command, str(recipe), *flags]) == code
    assert message in capsys.readouterr().err


SLOW = """
import sys, time
import tomodask.blocks
from tomodask import jobarray
from tomodask.cli import main
tomodask.blocks.TARGET_BYTES = 1
stream_block = jobarray.stream_block
def slow(task):
    report = stream_block(task)
    time.sleep(1)
    return report
jobarray.stream_block = slow
main(sys.argv[1:])
"""


def test_an_element_listens_to_nobody_and_ends_on_sigterm(recipe, tmp_path):
    assert execute(["prepare", str(recipe)]) == 0
    command = [sys.executable, "-c", SLOW, "run", str(recipe), "--shard", "1/1"]
    element = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    folder, deadline = RunFolder.of(tmp_path / "volume.zarr"), time.monotonic() + 60
    while not any(status.running for status in folder.statuses()):
        assert time.monotonic() < deadline
        assert element.poll() is None
        time.sleep(0.05)
    process = psutil.Process(element.pid)
    assert process.children() == []
    assert process.net_connections() == []
    os.kill(element.pid, signal.SIGTERM)
    assert element.wait(30) == 143
    _prepare, status = folder.statuses()
    assert status.state == "interrupted"
    assert execute(["run", str(recipe), "--shard", "1/1"]) == 0
    assert execute(["finalize", str(recipe)]) == 0
