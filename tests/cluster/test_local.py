"""The embedded cluster: loopback, TLS, sized on purpose."""

import contextlib
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from tests.cluster.listening import listeners
from tests.slurm.runs import Run
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


def test_everything_listens_on_loopback_alone_and_speaks_tls(key_of_another):
    with local_cluster(Workers(2, 1, 2**30)) as client:
        assert client.scheduler.address.startswith("tls://127.0.0.1:")
        me = psutil.Process()
        found = listeners([me, *me.children(recursive=True)])
        assert {listener.ip for listener in found} == {"127.0.0.1"}
        assert len(found) == 5, "a scheduler, and two workers with their nannies"
        for listener in found:
            listener.refuses_strangers(key_of_another)
        assert len(client.nthreads()) == 2, "knocking has harmed nobody"


def test_a_whole_run_listens_on_loopback_alone_with_tls(tmp_path, raw_file, key_of_another):
    """All its processes, from the first to the last moment, seen from outside."""
    run = Run(tmp_path, raw_file.path, tmp_path / "scan.zarr")
    driver = run.tomodask("run", run.recipe, "center=23.5", "--workers", 2)
    process, addresses, knocked = psutil.Process(driver.pid), set(), 0
    while driver.poll() is None:
        with contextlib.suppress(psutil.NoSuchProcess):
            found = listeners([process, *process.children(recursive=True)])
            addresses |= {listener.ip for listener in found}
        if not knocked and run.blocks_done():
            for listener in found:
                listener.refuses_strangers(key_of_another)
            knocked = len(found)
        time.sleep(0.01)
    assert driver.returncode == 0, run.told(driver)
    assert addresses == {"127.0.0.1"}
    assert knocked >= 5


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


def test_a_scheduler_that_does_not_answer_is_named():
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
