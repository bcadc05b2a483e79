"""Scheduler and workers on two hosts: the link is cut, heals late or soon, a host vanishes.

The hosts are network namespaces, which root may make, and see the same files. Run by `make
test-batch`.
"""

import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from tests.slurm.runs import BLOCKS, Run, wait_until
from tomodask.cluster.run import WINDOW
from tomodask.demo import write_dxchange
from tomodask.phantom import simulate_scan

pytestmark = pytest.mark.batch
ADDRESSES = {"front": "10.213.77.1", "back": "10.213.77.2"}


def ip(*words: str) -> str:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


@dataclass
class Hosts:
    """Two network namespaces with a link between them, each with an address and a loopback."""

    name: str
    started: list[subprocess.Popen] = field(default_factory=list)

    def space(self, host: str) -> str:
        return f"{self.name}-{host}"

    def make(self) -> None:
        links = {host: f"{host[0]}{self.name}"[:15] for host in ADDRESSES}
        for host in ADDRESSES:
            ip("netns", "add", self.space(host))
        front, back = links.values()
        ip("link", "add", front, "type", "veth", "peer", "name", back)
        for host, address in ADDRESSES.items():
            space, link = self.space(host), links[host]
            ip("link", "set", link, "netns", space)
            ip("-n", space, "link", "set", link, "name", "eth0")
            ip("-n", space, "addr", "add", f"{address}/24", "dev", "eth0")
            ip("-n", space, "link", "set", "eth0", "up")
            ip("-n", space, "link", "set", "lo", "up")

    def link(self, state: str) -> None:
        ip("-n", self.space("front"), "link", "set", "eth0", state)

    def tomodask(self, host: str, run: Run, *words: object) -> subprocess.Popen:
        """Start a command on a host; all that it prints goes to a file beside the recipe."""
        command = [sys.executable, "-m", "tomodask", *map(str, words)]
        with (run.folder / f"{host}-{len(self.started)}.log").open("w") as log:
            self.started.append(
                subprocess.Popen(
                    ["ip", "netns", "exec", self.space(host), *command],
                    cwd=run.folder, env=run.environment, stdout=log, stderr=log,
                )
            )  # fmt: skip
        return self.started[-1]

    def kill(self, host: str) -> None:
        """No process of a host says good-bye."""
        for pid in ip("netns", "pids", self.space(host)).split():
            try:
                psutil.Process(int(pid)).kill()
            except psutil.NoSuchProcess:
                continue

    def remove(self) -> None:
        for host in ADDRESSES:
            self.kill(host)
            ip("netns", "del", self.space(host))
        for process in self.started:
            process.wait(30)


def told(folder: Path) -> str:
    return "\n".join(f"== {log.name}\n{log.read_text()}" for log in sorted(folder.glob("*.log")))


@pytest.fixture
def hosts():
    if os.geteuid() != 0 or shutil.which("ip") is None:
        why = "two hosts need root and the command `ip` (iproute2)"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(why)
    made = Hosts(f"td{os.getpid()}")
    try:
        made.make()
    except RuntimeError as error:
        made.remove()
        pytest.skip(f"this machine makes no network namespaces: {error}")
    yield made
    made.remove()


@pytest.fixture(scope="module")
def local_run(tmp_path_factory, bytes_of):
    folder = tmp_path_factory.mktemp("local")
    write_dxchange(folder / "scan.h5", simulate_scan(48, 128, 160, seed=4, num_spheres=50))
    run = Run(folder, folder / "scan.h5", folder / "scan.zarr")
    code, words = run.end(run.tomodask("run", run.recipe, "--workers", 2))
    assert code == 0, words
    return run, bytes_of(run.output)


@pytest.fixture
def run(local_run, tmp_path) -> Run:
    return Run(tmp_path, local_run[0].source, local_run[0].scan)


@pytest.fixture
def at_work() -> tuple[str, ...]:
    """Hosts with a worker."""
    return ("front", "back")


@pytest.fixture
def tcp_s(request, monkeypatch) -> int:
    """Seconds until a silent peer is given up: Dask's default is 30, the least it takes is 11."""
    seconds = getattr(request, "param", 30)
    monkeypatch.setenv("DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP", f"{seconds}s")
    return seconds


@pytest.fixture
def driver(hosts, run, at_work, tcp_s):
    """A scheduler and the driver in front, a worker on some hosts; some blocks are done."""
    folder = run.run_folder
    hosts.tomodask("front", run, "cluster", "start", folder.path, "--host", ADDRESSES["front"])
    for host in at_work:
        address = ADDRESSES[host]
        size = ("--workers", 1, "--threads", 1, "--memory", "2GB")
        hosts.tomodask(host, run, "cluster", "join", folder.path, "--host", address, *size)
    wait_until(folder.scheduler_file.exists)
    by_file = ("--cluster", "scheduler-file", "--scheduler-file", folder.scheduler_file)
    process = hosts.tomodask("front", run, "run", run.recipe, *by_file)

    def all_work() -> bool:
        assert process.poll() is None, told(run.folder)
        statuses = folder.statuses()
        return bool(statuses) and statuses[0].workers == len(at_work) and run.blocks_done() >= 2

    wait_until(all_work)
    return process


def end(run: Run, process: subprocess.Popen) -> None:
    assert process.wait(300) == 0, told(run.folder)


def test_a_link_that_is_cut_and_heals_in_the_middle_changes_no_byte(
    hosts, run, driver, local_run, bytes_of
):
    assert run.blocks_done() < BLOCKS, "too late to hit it in the middle"
    hosts.link("down")
    time.sleep(4)
    hosts.link("up")
    end(run, driver)
    assert bytes_of(run.output) == local_run[1]


def test_a_host_that_vanishes_leaves_its_blocks_to_the_other(
    hosts, run, driver, local_run, bytes_of
):
    assert run.blocks_done() < BLOCKS, "too late to hit it in the middle"
    hosts.link("down")  # nothing says that it is gone
    hosts.kill("back")
    end(run, driver)
    assert bytes_of(run.output) == local_run[1]


@pytest.mark.parametrize("tcp_s", [11, pytest.param(30, marks=pytest.mark.slow)], indirect=True)
@pytest.mark.parametrize("at_work", [("back",)])
def test_workers_cut_off_for_longer_than_tcp_is_patient_come_back(
    hosts, run, driver, local_run, bytes_of, tcp_s
):
    hosts.link("down")
    done = run.blocks_done()
    time.sleep(1.5 * tcp_s)
    assert run.blocks_done() <= done + WINDOW + 1 < BLOCKS  # what the worker had was done
    hosts.link("up")
    end(run, driver)
    assert bytes_of(run.output) == local_run[1]


def test_nothing_listens_beyond_the_two_addresses_and_nothing_without_tls(hosts, run, driver):
    for host, address in ADDRESSES.items():
        space = hosts.space(host)
        knock = [sys.executable, "-m", "tests.cluster.sockets", *ip("netns", "pids", space).split()]
        done = subprocess.run(
            ["ip", "netns", "exec", space, *knock], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == [address]
    end(run, driver)
