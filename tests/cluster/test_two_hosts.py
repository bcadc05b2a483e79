"""A run over two hosts whose cable is pulled, or of which one crashes: the bytes of a local run."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field

import psutil
import pytest

from tests.cluster import hosts
from tests.slurm.runs import BLOCKS, Run, wait_until
from tomodask.demo import write_dxchange
from tomodask.phantom import simulate_scan

pytestmark = pytest.mark.batch  # minutes, as root

SOON = {"DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": "11s"}  # least that Dask takes, in place of 30 s


@pytest.fixture(scope="module")
def pair():
    """Two hosts; skipped where the machine can't, but with CI=true that is a failure."""
    why = hosts.missing()
    if why is None:
        try:
            with hosts.two_hosts() as made:
                yield made
            return
        except subprocess.CalledProcessError as error:
            why = f"the kernel allows no network namespaces: {error.stderr}"
    (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(why)


@pytest.fixture(scope="module")
def local_run(tmp_path_factory, bytes_of):
    """A scan store, and the bytes of a run on this host alone."""
    folder = tmp_path_factory.mktemp("local")
    source = folder / "scan.h5"
    # 24 blocks of 2 rows, each a fifth of a second's work
    write_dxchange(source, simulate_scan(48, 128, 160, seed=4, num_spheres=50))
    run = Run(folder, source, folder / "scan.zarr")
    code, told = run.end(run.tomodask("run", run.recipe, "--workers", 2))
    assert code == 0, told
    return run, bytes_of(run.output)


@dataclass
class Party:
    """A run whose scheduler and driver are on one host, with workers on the other."""

    run: Run
    here: hosts.Host
    there: hosts.Host
    environment: dict[str, str] = field(default_factory=lambda: dict(SOON))
    started: list[subprocess.Popen] = field(default_factory=list)

    def on(self, host: hosts.Host, *words: object) -> subprocess.Popen:
        """Start a command on a host; what it prints is kept."""
        with (self.run.folder / f"{host.name}.log").open("a") as log:
            process = subprocess.Popen(
                [*host.prefix, sys.executable, "-m", "tomodask", *map(str, words)],
                cwd=self.run.folder,
                env={**self.run.environment, **self.environment},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.started.append(process)
        return process

    def begin(self) -> subprocess.Popen:
        """Scheduler and driver here; returns the driver."""
        folder = self.run.run_folder
        self.on(self.here, "cluster", "start", folder.path, "--interface", self.here.interface)
        words = ("--cluster", "scheduler-file", "--scheduler-file", folder.scheduler_file)
        return self.on(self.here, "run", self.run.recipe, *words)

    def join(self, host: hosts.Host) -> subprocess.Popen:
        """A worker on a host."""
        words = ("--workers", 1, "--threads", 1, "--memory", "1GiB")
        return self.on(host, "cluster", "join", self.run.run_folder.path, *words)

    def told(self) -> str:
        return "\n".join(path.read_text() for path in sorted(self.run.folder.glob("*.log")))

    def middle(self, driver: subprocess.Popen) -> None:
        """Wait until the run is under way, but far from its end."""

        def far_enough() -> bool:
            assert driver.poll() is None, self.told()
            return self.run.blocks_done() >= 2

        wait_until(far_enough, 120)
        assert self.run.blocks_done() < BLOCKS // 2, "too late to hit it in the middle"

    def stop(self) -> None:
        for host in (self.here, self.there):
            for process in host.processes():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
        for process in self.started:
            process.wait()


@pytest.fixture
def party(pair, local_run, tmp_path):
    made = Party(Run(tmp_path, local_run[0].source, local_run[0].scan), *pair)
    yield made
    made.stop()


@pytest.fixture
def is_right(party, local_run, bytes_of):
    """The driver ends well, and the volume has the bytes of the run on one host."""

    def check(driver: subprocess.Popen) -> None:
        assert driver.wait(300) == 0, party.told()
        assert bytes_of(party.run.output) == local_run[1]

    return check


def cut(host: hosts.Host, seconds: float) -> None:
    host.cable("down")
    time.sleep(seconds)
    host.cable("up")


def test_all_listen_with_tls_on_the_cable_alone_and_the_bytes_are_right(party, is_right):
    driver = party.begin()
    party.join(party.there)
    party.middle(driver)
    for host in (party.here, party.there):
        knock = [*host.prefix, sys.executable, "-m", "tests.cluster.listening"]
        processes = map(str, host.processes())
        done = subprocess.run(
            [*knock, party.run.folder / host.name, *processes], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert set(done.stdout.split()) == {host.address}
    is_right(driver)


def test_a_cable_that_is_out_for_a_moment_costs_nothing(party, is_right):
    driver = party.begin()
    joined = party.join(party.there)
    party.middle(driver)
    worker = psutil.Process(joined.pid).children()
    cut(party.there, 1.5)
    time.sleep(1)
    assert psutil.Process(joined.pid).children() == worker
    is_right(driver)


@pytest.mark.parametrize(
    ("timeout", "seconds"),
    [("11s", 16), pytest.param("30s", 45, marks=pytest.mark.slow)],  # 30 s are the default
)
def test_workers_that_were_given_up_come_back_when_the_cable_does(
    party, is_right, timeout, seconds
):
    party.environment |= {"DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": timeout}
    driver = party.begin()
    joined = party.join(party.there)
    party.middle(driver)
    before = psutil.Process(joined.pid).children()
    cut(party.there, seconds)
    is_right(driver)
    assert not {process.pid for process in before} & {
        process.pid for process in psutil.Process(joined.pid).children()
    }, "it was never given up"


def test_the_others_finish_when_a_host_crashes(party, is_right):
    driver = party.begin()
    party.join(party.there)
    party.middle(driver)
    party.join(party.here)
    party.there.crash()
    is_right(driver)
    party.there.cable("up")
