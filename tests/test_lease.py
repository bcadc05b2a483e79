"""One driver at a time: whoever owns a store is left alone, whoever is gone is replaced."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tomodask import lease
from tomodask.errors import InputError, OutputInUseError
from tomodask.lease import held, lease_path, owner_of

OWN = """
import sys
from pathlib import Path
from tomodask import lease
from tomodask.errors import OutputInUseError
lease.HEARTBEAT_SECONDS, lease.PATIENCE_SECONDS = 0.05, float(sys.argv[3])
if sys.argv[2] == "elsewhere":
    lease.this_machine = lambda: "another boot of another machine"
try:
    with lease.held(Path(sys.argv[1])) as mine:
        print("held", flush=True)
        sys.stdin.readline()
        mine.check()
        print("still held", flush=True)
except OutputInUseError as error:
    print(error, flush=True)
"""
FOREVER = 1000.0  # a test that must not wait hangs if it does


@pytest.fixture
def store(tmp_path) -> Path:
    return tmp_path / "volume.zarr"


@pytest.fixture
def start(store):
    """Start processes that take the lease; each prints `held` and keeps it until a line comes."""
    started = []

    def own(where: str = "here", patience: float = FOREVER) -> subprocess.Popen:
        arguments = [sys.executable, "-c", OWN, str(store), where, str(patience)]
        pipe = subprocess.PIPE
        started.append(subprocess.Popen(arguments, stdin=pipe, stdout=pipe, text=True))
        return started[-1]

    yield own
    for process in started:
        process.kill()
        process.communicate()


def first_line(process: subprocess.Popen) -> str:
    return process.stdout.readline().strip()


@pytest.fixture
def owner(start):
    """A process that holds the lease, here or elsewhere."""

    def own(where: str = "here") -> subprocess.Popen:
        process = start(where)
        assert first_line(process) == "held"
        return process

    return own


@pytest.fixture
def patience(monkeypatch):
    """Set how long an owner elsewhere may be silent."""

    def set_seconds(seconds: float) -> None:
        monkeypatch.setattr(lease, "PATIENCE_SECONDS", seconds)
        monkeypatch.setattr(lease, "LOOK_SECONDS", 0.02)

    set_seconds(FOREVER)
    return set_seconds


@pytest.mark.parametrize("where", ["here", "elsewhere"])
def test_a_second_driver_is_refused_and_told_who_the_first_is(owner, patience, store, where):
    first = owner(where)
    with pytest.raises(OutputInUseError) as refused, held(store):
        pass
    host, since = os.uname().nodename, owner_of(store).since
    assert f"process {first.pid} on {host}, since {since}" in str(refused.value)
    first.stdin.write("\n")
    assert first.communicate()[0] == "still held\n"
    assert not lease_path(store).exists()


def test_a_lease_ends_with_its_block_whatever_ends_it(store):
    def interrupted() -> None:
        with held(store):
            assert owner_of(store).pid == os.getpid()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with held(store):
        pass
    assert os.listdir(store.parent) == []


def test_a_killed_owner_on_this_machine_is_replaced_at_once(owner, patience, store):
    first = owner()
    first.kill()
    first.wait()
    with held(store) as mine:
        assert mine.is_held()
        assert owner_of(store).pid == os.getpid()


def test_a_killed_owner_whose_parent_has_not_noticed_is_dead_too(owner, patience, store):
    first = owner()
    first.kill()
    os.waitid(os.P_PID, first.pid, os.WEXITED | os.WNOWAIT)  # it stays a zombie of ours
    with held(store) as mine:
        assert mine.is_held()


def test_a_process_that_was_given_a_dead_ones_number_is_not_the_owner(owner, patience, store):
    owner()
    content = json.loads(lease_path(store).read_text())
    content["owner"]["started"] = "1"
    lease_path(store).write_text(json.dumps(content))
    assert owner_of(store) is None
    with held(store) as mine:
        assert mine.is_held()


def test_a_silent_owner_elsewhere_is_replaced_after_a_while(owner, patience, store):
    owner("elsewhere").kill()
    patience(0.5)
    with held(store) as mine:
        assert mine.is_held()


def test_a_paused_owner_elsewhere_is_replaced_and_notices_when_it_goes_on(owner, patience, store):
    first = owner("elsewhere")
    first.send_signal(signal.SIGSTOP)
    patience(0.5)
    with held(store) as mine:
        written = lease_path(store).read_bytes()
        first.send_signal(signal.SIGCONT)
        first.stdin.write("\n")
        told = first.communicate()[0]
        assert f"process {os.getpid()}" in told
        assert "no longer this driver's" in told
        assert lease_path(store).read_bytes() == written  # neither its beats nor its end undo ours
        mine.check()


def test_of_many_takers_of_a_dead_lease_one_has_it(owner, start, store):
    owner("elsewhere").kill()
    takers = [start("here", patience=0.5) for _ in range(6)]
    told = [first_line(taker) for taker in takers]
    assert told.count("held") == 1
    assert sum("is being written by another driver" in line for line in told) == 5


def test_who_is_overtaken_in_the_moment_of_taking_over_is_refused(owner, store, monkeypatch):
    first = owner()
    first.kill()
    first.wait()

    def somebody_else_does_so_too(_: float) -> None:
        other = {**vars(owner_of(store)), "token": "other"}
        lease_path(store).write_text(json.dumps({"owner": other}))

    monkeypatch.setattr(lease.time, "sleep", somebody_else_does_so_too)
    with pytest.raises(OutputInUseError, match="by another driver"), held(store):
        pass
    assert owner_of(store).token == "other"


@pytest.mark.parametrize("content", ["", "{", '{"owner": {}}'], ids=["empty", "cut", "strange"])
def test_a_damaged_lease_is_replaced_after_a_while(patience, store, content):
    lease_path(store).write_text(content)
    assert owner_of(store) is None
    patience(0.1)
    with held(store) as mine:
        assert mine.is_held()


def test_a_link_to_a_store_has_the_lease_of_the_store(store, tmp_path):
    link = tmp_path / "link.zarr"
    link.symlink_to(store)
    with held(store), pytest.raises(OutputInUseError), held(link):
        pass


def test_a_lease_that_was_removed_is_lost(store):
    with held(store) as mine:
        told = []
        listener = mine.watched(told.append)
        listener("first")
        lease_path(store).unlink()
        with pytest.raises(OutputInUseError, match="was removed"):
            listener("second")
    assert told == ["first"]


def test_without_a_folder_there_is_nothing_to_make(tmp_path):
    with pytest.raises(InputError, match="there is no folder"), held(tmp_path / "no" / "v.zarr"):
        pass
