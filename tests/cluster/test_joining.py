"""Workers that join a run come back for as long as its scheduler stands, and end with it."""

import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack

import psutil
import pytest

from tests.cluster.sockets import listening, stranger_is_refused
from tests.slurm.runs import wait_until
from tomodask.cluster.joining import JoinOptions, join
from tomodask.cluster.local import available_cores, workers_of
from tomodask.cluster.standing import connect_file
from tomodask.errors import InputError
from tomodask.runfolder import RunFolder

GIB = 2**30


class Party:
    """A scheduler and what has joined it, as commands of their own."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.processes: list[subprocess.Popen] = []
        self.scheduler = self.tomodask("start", "--host", "127.0.0.1")

    def tomodask(self, verb: str, *words: str, **environment: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "tomodask", "cluster", verb, str(self.folder.path), *words]
        process = subprocess.Popen(command, env={**os.environ, **environment})
        self.processes.append(process)
        return process

    def join(self, *words: str, **environment: str) -> subprocess.Popen:
        return self.tomodask("join", "--threads=1", "--memory=1GiB", *words, **environment)

    def stop(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                for child in family(process):
                    child.kill()
            process.kill()
            process.wait()


@pytest.fixture
def party(tmp_path):
    with ExitStack() as stack:
        made = Party(RunFolder(tmp_path / "foam.zarr.run"))
        stack.callback(made.stop)
        yield made


@pytest.fixture
def client(party):
    with connect_file(party.folder.scheduler_file) as client:
        yield client


def family(process: subprocess.Popen) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def all_ended(processes: list[psutil.Process]) -> bool:
    """A zombie has ended too: nobody has asked how."""
    _, alive = psutil.wait_procs(processes, timeout=5)
    return all(process.status() == psutil.STATUS_ZOMBIE for process in alive)


def test_a_worker_that_is_lost_is_replaced_and_all_end_with_the_scheduler(party, client):
    joined = party.join("--workers=2")
    client.wait_for_workers(2, timeout=60)
    assert workers_of(client).memory == GIB
    before = set(client.nthreads())
    lost, *_ = psutil.Process(joined.pid).children()
    for process in (lost, *lost.children(recursive=True)):
        process.kill()
    wait_until(lambda: len(client.nthreads()) == 2 and set(client.nthreads()) != before, 60)
    assert len(set(client.nthreads()) & before) == 1, "the other was left alone"
    left = family(joined)
    party.scheduler.send_signal(signal.SIGTERM)
    assert joined.wait(30) == 0
    assert all_ended(left)


def test_workers_that_are_told_to_end_leave_at_once(party, client):
    joined = party.join("--workers=1")
    client.wait_for_workers(1, timeout=60)
    left = family(joined)
    joined.send_signal(signal.SIGTERM)
    assert joined.wait(20) == 0
    assert all_ended(left)
    wait_until(lambda: client.nthreads() == {}, 20)


def test_workers_join_a_scheduler_that_was_killed_and_started_again(party, client):
    joined = party.join("--workers=1")
    client.wait_for_workers(1, timeout=60)
    party.scheduler.kill()
    party.scheduler.wait()
    party.tomodask("start", "--host", "127.0.0.1")
    with connect_file(party.folder.scheduler_file) as later:
        later.wait_for_workers(1, timeout=60)
        assert joined.poll() is None


def test_each_worker_sees_one_gpu_of_those_that_the_job_was_given(party, client):
    party.join("--gpus=2", CUDA_VISIBLE_DEVICES="GPU-a1,GPU-b2,GPU-c3")
    client.wait_for_workers(2, timeout=60)
    seen = client.run(os.getenv, "CUDA_VISIBLE_DEVICES").values()
    assert sorted(seen) == ["GPU-a1", "GPU-b2"]


def test_workers_leave_before_their_job_ends_and_do_not_come_back(party, client):
    began = time.monotonic()
    joined = party.join("--workers=1", "--walltime=6")
    client.wait_for_workers(1, timeout=60)
    assert joined.wait(60) == 0
    assert time.monotonic() - began < 40
    assert party.scheduler.poll() is None


def test_nobody_listens_but_with_tls_on_the_address_towards_the_scheduler(party, client):
    joined = party.join("--workers=2")
    client.wait_for_workers(2, timeout=60)
    places = listening(psutil.Process(party.scheduler.pid), psutil.Process(joined.pid))
    assert len(places) == 5
    assert {address for address, _ in places} == {"127.0.0.1"}
    assert all(stranger_is_refused(*place) for place in places)
    assert len(client.nthreads()) == 2, "knocking has harmed nobody"


def test_without_a_scheduler_the_wait_ends_and_says_for_what(tmp_path):
    with pytest.raises(InputError, match=r"within 0 s: there is no .*tomodask cluster start"):
        join(RunFolder(tmp_path / "foam.zarr.run"), JoinOptions(wait_s=0.0))


def test_there_are_as_many_workers_as_gpus_unless_told():
    assert JoinOptions(gpus=3, threads=1).sizes().count == 3
    assert JoinOptions(gpus=3, workers=1, threads=1).sizes().count == 1
    cores = available_cores()
    assert JoinOptions(threads=1).sizes().count == max(min(2, cores), cores // 4)
