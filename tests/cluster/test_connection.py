"""A scheduler that is killed ends a run with one error that says how to go on."""

import logging
import subprocess
import sys
import time
from dataclasses import dataclass

import pytest

from tomodask.cluster import connection
from tomodask.cluster.connection import require_scheduler, scheduler_needed
from tomodask.cluster.local import connect
from tomodask.cluster.run import run_blocks
from tomodask.errors import SchedulerLostError


@dataclass(frozen=True)
class Task:
    id: str


def work(_: Task) -> dict:
    raise AssertionError("no worker ever joins")


@pytest.fixture
def scheduler(tmp_path):
    """`dask scheduler` as a process of its own, with its address."""
    arguments = ["scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
    told = tmp_path / "scheduler.log"
    with told.open("w") as file:
        process = subprocess.Popen([sys.executable, "-m", "dask", *arguments], stderr=file)
    while "Scheduler at:" not in told.read_text():
        assert process.poll() is None
        time.sleep(0.02)
    yield process, told.read_text().split("Scheduler at:")[1].split()[0]
    process.kill()
    process.wait()


def test_a_run_whose_scheduler_is_killed_ends_and_says_how_to_go_on(scheduler, monkeypatch):
    process, address = scheduler
    monkeypatch.setattr(connection, "RECONNECT_SECONDS", 0.5)
    with connect(address) as client:
        require_scheduler(client)

        def kill(progress) -> None:
            if process.poll() is None:
                process.kill()
                process.wait()

        with pytest.raises(SchedulerLostError, match=f"{address} is gone.*same command goes on"):
            run_blocks(client, work, [Task("a"), Task("b")], stage="test", listener=kill)
        with pytest.raises(SchedulerLostError):
            require_scheduler(client)
        with pytest.raises(SchedulerLostError), scheduler_needed(client):
            raise OSError("timed out")
    assert SchedulerLostError.exit_code == 3


def test_errors_of_other_kinds_are_left_as_they_are(scheduler, monkeypatch):
    _, address = scheduler
    monkeypatch.setattr(connection, "NOTICE_SECONDS", 0.1)
    before = [handler.level for handler in logging.getLogger("distributed").handlers]
    with (
        connect(address) as client,
        pytest.raises(OSError, match="hiccup"),
        scheduler_needed(client),
    ):
        raise OSError("the disk hiccuped")
    assert before == [handler.level for handler in logging.getLogger("distributed").handlers]
