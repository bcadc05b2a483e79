"""A scheduler of its own: found by its file, never by one that a dead scheduler left."""

import json
import logging
import signal
import stat
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import psutil
import pytest

from tests.cluster.listening import listeners
from tomodask.cluster.certificates import make_certificates
from tomodask.cluster.standing import connect_file, find, look, serve
from tomodask.errors import InputError, OutputInUseError
from tomodask.runfolder import RunFolder


@contextmanager
def started(folder: RunFolder, *options: str):
    """`tomodask cluster start` on loopback, killed at the end if it still runs."""
    command = [sys.executable, "-m", "tomodask", "cluster", "start", str(folder.path)]
    process = subprocess.Popen([*command, "--host", "127.0.0.1", *options])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path / "foam.zarr.run")


def test_its_file_and_keys_are_there_while_it_runs_and_gone_afterwards(folder, key_of_another):
    with started(folder) as scheduler:
        place = find(folder.scheduler_file)
        assert place.address.startswith("tls://127.0.0.1:")
        told = folder.read_json("scheduler.json")
        assert told["pid"] == scheduler.pid
        modes = [stat.S_IMODE(path.stat().st_mode) for path in folder.certificates.iterdir()]
        assert modes == [0o600] * 2
        assert stat.S_IMODE(folder.certificates.stat().st_mode) == 0o700
        (listener,) = listeners([psutil.Process(scheduler.pid)])
        listener.refuses_strangers(key_of_another)
        with connect_file(folder.scheduler_file) as client:
            assert client.nthreads() == {}
        scheduler.send_signal(signal.SIGTERM)
        assert scheduler.wait(20) == 0
    assert list(folder.path.iterdir()) == []


def test_a_file_that_a_killed_scheduler_left_misleads_nobody(folder):
    with started(folder) as scheduler:
        old = find(folder.scheduler_file)
        scheduler.kill()
        scheduler.wait()
        assert look(folder.scheduler_file).address == old.address
        assert not old.answers()
        with started(folder), connect_file(folder.scheduler_file) as client:
            assert client.nthreads() == {}


def test_a_second_one_for_the_same_run_is_refused_while_the_first_runs(folder):
    with started(folder):
        address = find(folder.scheduler_file).address
        with pytest.raises(OutputInUseError, match=f"runs, at {address}"):
            serve(folder, host="127.0.0.1")
        assert look(folder.scheduler_file).answers()


def test_one_that_was_replaced_leaves_the_other_its_file_and_keys(folder):
    with started(folder) as scheduler:
        find(folder.scheduler_file)
        make_certificates(folder.certificates)  # as a scheduler on another node does
        folder.write_json("scheduler.json", {"address": "tls://127.0.0.1:1"})
        scheduler.send_signal(signal.SIGTERM)
        assert scheduler.wait(20) == 0
    assert look(folder.scheduler_file).address == "tls://127.0.0.1:1"


def test_it_ends_by_itself_when_nobody_comes(folder):
    with started(folder, "--idle", "0.5") as scheduler:
        assert scheduler.wait(30) == 0
    assert not folder.scheduler_file.exists()


def test_a_driver_waits_for_a_scheduler_that_is_being_started(folder):
    told = []
    folder.make()
    thread = threading.Thread(
        target=lambda: told.append(find(folder.scheduler_file, patience=60)), daemon=True
    )
    thread.start()
    time.sleep(0.5)
    with started(folder):
        thread.join(60)
        assert told[0].address == look(folder.scheduler_file).address


def test_what_is_no_scheduler_is_named(folder, tmp_path):
    with pytest.raises(InputError, match=r"within 0 s: there is no .*scheduler\.json"):
        find(folder.scheduler_file, patience=0.0)
    folder.make()
    folder.scheduler_file.write_text("[]")
    with pytest.raises(InputError, match="no scheduler's file"):
        look(folder.scheduler_file)
    folder.write_json("scheduler.json", {"address": "tls://127.0.0.1:9"})
    with pytest.raises(InputError, match=r"answers at tls://127\.0\.0\.1:9, which .* names"):
        find(folder.scheduler_file, patience=0.3)
    with pytest.raises(InputError, match=r"interface 'ib77': .*lo"):
        serve(folder, interface="ib77")
    with pytest.raises(InputError, match=r"can listen on 192\.0\.2\.77:0"):
        serve(RunFolder(tmp_path / "other.run"), host="192.0.2.77")


def test_a_scheduler_of_dask_without_tls_is_taken_with_a_warning(tmp_path, caplog):
    path = tmp_path / "scheduler.json"
    words = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", path]
    dask = subprocess.Popen([sys.executable, "-m", "dask", "scheduler", *map(str, words)])
    try:
        with caplog.at_level(logging.WARNING), connect_file(path) as client:
            assert client.scheduler.address == json.loads(path.read_text())["address"]
        assert "whoever reaches it can run code as you" in caplog.text
    finally:
        dask.kill()
        dask.wait()
