"""A scheduler that stands by itself: found by its file, trusted by its keys, gone at the end."""

import json
import signal
import stat
import subprocess
import sys
import time

import psutil
import pytest

from tests.cluster.sockets import listening, stranger_is_refused
from tomodask.cluster.certificates import make_certificates
from tomodask.cluster.standing import connect_file, find, look, serve
from tomodask.errors import InputError, OutputInUseError
from tomodask.runfolder import RunFolder


def wait_until(holds, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def folder(tmp_path) -> RunFolder:
    return RunFolder.of(tmp_path / "volume.zarr")


@pytest.fixture
def started(folder):
    processes = []

    def start(*words):
        command = [sys.executable, "-m", "tomodask", "cluster", *map(str, words)]
        processes.append(subprocess.Popen(command, stderr=subprocess.DEVNULL))
        return processes[-1]

    yield start
    for process in processes:
        process.terminate()
    for process in processes:
        process.wait(30)


def test_driver_and_workers_meet_by_the_file_and_strangers_are_refused(folder, started):
    scheduler = started("start", folder.path, "--host", "127.0.0.1")
    join = ("--workers", 1, "--threads", 3, "--memory", "1GB", "--host", "127.0.0.1")
    workers = started("join", folder.path, *join)
    wait_until(folder.scheduler_file.exists)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in folder.certificates.iterdir()}
    assert modes == {0o600}
    with connect_file(folder.scheduler_file) as client:
        client.wait_for_workers(1, timeout=60)
        assert client.submit(sum, [1, 2]).result(timeout=30) == 3
        places = listening(psutil.Process(scheduler.pid), psutil.Process(workers.pid))
        assert len(places) >= 3  # scheduler, nanny, worker
        assert {address for address, _ in places} == {"127.0.0.1"}
        assert all(stranger_is_refused(*place) for place in places)
        with pytest.raises(OutputInUseError, match="runs, at tls://127"):
            serve(folder, host="127.0.0.1")
    scheduler.send_signal(signal.SIGTERM)
    assert scheduler.wait(30) in (0, 143)
    assert not folder.scheduler_file.exists()
    assert not folder.certificates.exists()
    assert workers.wait(60) == 0  # there is nothing to come back to


def test_the_file_of_a_scheduler_that_was_killed_misleads_nobody(folder, started):
    first = started("start", folder.path, "--host", "127.0.0.1")
    wait_until(folder.scheduler_file.exists)
    first.kill()
    first.wait(30)
    assert folder.scheduler_file.exists()
    with pytest.raises(InputError, match=r"no scheduler found within 1 s: nothing with the right"):
        find(folder.scheduler_file, patience=1)
    old = json.loads(folder.scheduler_file.read_text())["id"]
    started("start", folder.path, "--host", "127.0.0.1")
    wait_until(
        lambda: folder.scheduler_file.exists() and old not in folder.scheduler_file.read_text()
    )
    with connect_file(folder.scheduler_file) as client:
        assert client.scheduler.address.startswith("tls://127.0.0.1:")


@pytest.mark.parametrize("content", [None, "{", '{"address": 5}', "[]"])
def test_what_is_no_schedulers_file_is_refused(tmp_path, content):
    path = tmp_path / "scheduler.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=r"scheduler\.json"):
        find(path, patience=0)


def test_an_interface_that_there_is_not_is_named(folder):
    with pytest.raises(InputError, match="interface 'ib9'"):
        serve(folder, interface="ib9")


def test_one_that_was_replaced_leaves_the_other_its_file_and_keys(folder, started):
    scheduler = started("start", folder.path, "--host", "127.0.0.1")
    find(folder.scheduler_file)
    make_certificates(folder.certificates)  # as a scheduler on another node does
    folder.write_json("scheduler.json", {"address": "tls://127.0.0.1:1"})
    scheduler.send_signal(signal.SIGTERM)
    assert scheduler.wait(30) == 0
    assert look(folder.scheduler_file).address == "tls://127.0.0.1:1"


def test_it_ends_by_itself_when_nobody_comes(folder, started):
    assert started("start", folder.path, "--host", "127.0.0.1", "--idle", 0.5).wait(60) == 0
    assert not folder.scheduler_file.exists()
    assert not folder.certificates.exists()


def test_an_address_that_is_not_of_this_machine_is_named(folder):
    with pytest.raises(InputError, match=r"can listen on 192\.0\.2\.77:0"):
        serve(folder, host="192.0.2.77")


def test_a_scheduler_of_dask_without_tls_is_taken_with_a_warning(tmp_path, caplog):
    path = tmp_path / "scheduler.json"
    words = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", path]
    dask = subprocess.Popen([sys.executable, "-m", "dask", "scheduler", *map(str, words)])
    try:
        with connect_file(path) as client:
            assert client.scheduler.address == json.loads(path.read_text())["address"]
        assert "whoever reaches it can run code as you" in caplog.text
    finally:
        dask.kill()
        dask.wait()
