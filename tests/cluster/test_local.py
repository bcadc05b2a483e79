"""The embedded cluster: loopback, TLS, sized on purpose."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from tests.cluster.sockets import listening, stranger_is_refused
from tomodask import steps
from tomodask.cluster.local import (
    WORKER_BASE_BYTES,
    Workers,
    available_cores,
    available_memory,
    connect,
    local_cluster,
    size_workers,
    workers_of,
)
from tomodask.errors import InputError, MemoryBudgetError


def test_everything_listens_on_loopback_alone_and_refuses_who_has_no_certificate(
    raw_file, tmp_path
):
    """While a whole run goes on: scheduler and nannies in this process, workers below it."""
    me, places = psutil.Process(), set()
    before = listening(me)

    def look(progress):
        if progress.workers == 2 and len(found := listening(me) - before) > len(places):
            assert all(stranger_is_refused(*place) for place in found)
            places.update(found)

    steps.reconstruct(
        raw_file.path, tmp_path / "volume.zarr", listener=look, cluster={"workers": 2}
    )
    assert len(places) >= 5  # a scheduler, two nannies, two workers
    assert {address for address, _ in places} == {"127.0.0.1"}


def test_the_scheduler_speaks_tls():
    with local_cluster(Workers(1, 1, 2**30)) as client:
        assert client.scheduler.address.startswith("tls://127.0.0.1:")


def test_workers_get_the_threads_they_were_given():
    with local_cluster(Workers(1, 3, 2**30)) as client:
        told = client.submit(os.environ.get, "OMP_NUM_THREADS").result()
        assert told == "3"
        assert list(client.nthreads().values()) == [1]
        assert workers_of(client) == Workers(1, 3, 2**30)


def test_all_cores_are_used_unless_told():
    cores = available_cores()
    for workers in (1, 2, cores):
        size = size_workers(workers)
        assert size.threads * size.count <= max(cores, workers)
        assert size.threads == max(1, cores // workers)
    assert size_workers(1, 5).threads == 5
    default = size_workers()
    assert default.count == max(min(2, cores), cores // 4)
    assert default.count * default.memory <= available_memory()


def test_too_little_memory_is_refused_with_both_numbers():
    with pytest.raises(MemoryBudgetError, match=r"0\.10 GiB and takes 0\.39 GiB"):
        size_workers(1, memory=int(0.1 * 2**30))
    assert size_workers(1, memory=WORKER_BASE_BYTES + 5).budget == 5
    with pytest.raises(InputError, match="0 workers"):
        size_workers(0)


def test_a_scheduler_that_does_not_answer_is_named(monkeypatch):
    monkeypatch.setattr("tomodask.cluster.local.CONNECT_SECONDS", 0.5)
    with pytest.raises(InputError, match=r"tcp://127\.0\.0\.1:9"), connect("tcp://127.0.0.1:9"):
        pass


def test_workers_that_end_for_good_are_replaced():
    with local_cluster(Workers(2, 1, 2**30)) as client:
        before = set(client.nthreads())
        for nanny in [*client.cluster.workers.values()]:
            client.cluster.sync(nanny.close)
        deadline = time.monotonic() + 60
        while len(set(client.nthreads()) - before) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert client.submit(sum, [1, 2]).result(timeout=30) == 3


DRIVER = """
import sys, time
from tomodask.cluster.local import Workers, local_cluster
if __name__ == "__main__":
    with local_cluster(Workers(2, 1, 2**30)) as client:
        print("up", flush=True)
        time.sleep(60)
"""


def test_no_worker_outlives_a_killed_driver(tmp_path):
    script = tmp_path / "driver.py"
    script.write_text(DRIVER)
    driver = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    assert driver.stdout.readline().strip() == "up"
    children = psutil.Process(driver.pid).children(recursive=True)
    assert len(children) >= 2
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    deadline = time.monotonic() + 20
    while any(child.is_running() for child in children) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(child.is_running() for child in children)
