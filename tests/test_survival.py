"""kill -9 of worker, scheduler or driver while blocks run, the same command again: same bytes."""

import json
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil
import pytest

from tomodask.demo import write_dxchange
from tomodask.doctor import doctor
from tomodask.lease import lease_path
from tomodask.ledger import Ledger
from tomodask.phantom import simulate_scan
from tomodask.shards import partials_of
from tomodask.volumestore import volume_metadata

# The plain NumPy projector, as it is slow enough to be killed in the middle of a block.
SETTINGS = ("backend=reference", "volume.chunk_rows=4", "--center", "64.0")
LOCAL = ("--workers", "2")
BLOCKS = 12
PATIENCE = 120  # seconds for what should take a few

# A driver that marks the blocks which run. TARGET_BYTES is set through the code, as no flag should
# be needed for so small a volume.
DRIVER = """
import sys
from pathlib import Path
import tomodask.blocks
from tomodask import lease, pipeline
from tomodask.cli import main
from marks import Marked
tomodask.blocks.TARGET_BYTES = 1
run_blocks = pipeline.run_blocks
def marked(client, function, tasks, **options):
    return run_blocks(client, Marked(function, Path(sys.argv[1])), tasks, **options)
if __name__ == '__main__':
    pipeline.run_blocks = marked
    if sys.argv[2] != "here":
        lease.this_machine = lambda: sys.argv[2]
    lease.PATIENCE_SECONDS, lease.HEARTBEAT_SECONDS = 1.0, 0.1
    main(sys.argv[3:])
"""
MARKS = """
import os
class Marked:
    def __init__(self, function, folder):
        self.function, self.folder = function, folder
    def __call__(self, task):
        mark = self.folder / f"{os.getpid()} {task.id}"
        mark.touch()
        try:
            return self.function(task)
        finally:
            mark.unlink()
"""


@dataclass
class Bench:
    """One output to be made, and the processes that are started for it."""

    folder: Path
    source: Path
    scan: Path
    started: list[subprocess.Popen] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.marks.mkdir(parents=True)
        (self.folder / "driver.py").write_text(DRIVER)
        (self.folder / "marks.py").write_text(MARKS)

    @property
    def output(self) -> Path:
        return self.folder / "volume.zarr"

    @property
    def marks(self) -> Path:
        return self.folder / "marks"

    def python(self, *arguments: object, **options: object) -> subprocess.Popen:
        path = os.pathsep.join([str(self.folder), os.environ.get("PYTHONPATH", "")])
        environment = {**os.environ, "PYTHONPATH": path}
        pipe = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **options}
        command = [sys.executable, *map(str, arguments)]
        self.started.append(subprocess.Popen(command, env=environment, text=True, **pipe))
        return self.started[-1]

    def driver(self, *cluster: str, machine: str = "here") -> subprocess.Popen:
        """Start the command; what it says on stderr is kept for `end`."""
        paths = [self.source, self.output, "--scan", self.scan]
        arguments = [self.folder / "driver.py", self.marks, machine, "reconstruct", *paths]
        return self.python(*arguments, *SETTINGS, *(cluster or LOCAL), stderr=subprocess.PIPE)

    def end(self, driver: subprocess.Popen) -> tuple[int, str]:
        """Exit code of a driver, and all that it told."""
        told = driver.communicate(timeout=PATIENCE)[1]
        return driver.returncode, told

    def finish(self, *cluster: str) -> None:
        """The same command again, to its good end."""
        code, told = self.end(self.driver(*cluster))
        assert code == 0, told
        assert volume_metadata(self.output)["complete"]

    def done(self) -> set[str]:
        """Blocks in the ledger."""
        kept = volume_metadata(self.output)
        return (
            set(Ledger.of(self.output, kept["uuid"], kept["recipe_hash"]).done()) if kept else set()
        )

    def blocks_done(self) -> int:
        return len(self.done())

    def running(self) -> set[int]:
        """Numbers of the living processes in the middle of a block, which isn't recorded yet."""
        marks = [mark.name.split() for mark in self.marks.iterdir()]
        done = self.done()
        return {
            int(pid) for pid, block in marks if block not in done and psutil.pid_exists(int(pid))
        }

    def wait_for(self, blocks: int, driver: subprocess.Popen) -> None:
        """Until so many blocks are done and another one runs."""
        deadline = time.monotonic() + PATIENCE
        while self.blocks_done() < blocks or not self.running():
            assert driver.poll() is None, driver.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.01)  # a block takes 0.3 s; looking takes the workers' time

    def stop(self) -> None:
        for process in self.started:
            process.kill()
            process.communicate()


@pytest.fixture(scope="module")
def large_file(tmp_path_factory) -> Path:
    """320 views of 48 x 120 pixels: 12 chunk rows of 4, each a good part of a second's work.

    A slice of float64 is less than `arrays.LARGE_BYTES`: above that, a worker gives it back to the
    kernel each time, and a kernel that clears pages slowly takes as long again, or twice.
    """
    path = tmp_path_factory.mktemp("large") / "scan.h5"
    write_dxchange(path, simulate_scan(48, 120, 320, seed=4, num_spheres=50))
    return path


@pytest.fixture(scope="module")
def untouched(large_file, tmp_path_factory, bytes_of):
    """Path of the scan store, and the bytes of a run that nobody killed."""
    folder = tmp_path_factory.mktemp("untouched")
    bench = Bench(folder, large_file, folder / "scan.zarr")
    bench.finish()
    assert bench.blocks_done() == BLOCKS
    return bench.scan, bytes_of(bench.output)


@pytest.fixture
def new_bench(large_file, untouched, tmp_path):
    """Make benches for new outputs from the same scan store; all their processes end here."""
    made = []

    def new(name: str = "bench") -> Bench:
        made.append(Bench(tmp_path / name, large_file, untouched[0]))
        return made[-1]

    yield new
    for bench in made:
        bench.stop()


@pytest.fixture
def bench(new_bench) -> Bench:
    return new_bench()


def workers_of(driver: subprocess.Popen) -> list[psutil.Process]:
    """Processes that hold memory of NumPy's size: workers, not Dask's resource tracker."""
    children = psutil.Process(driver.pid).children(recursive=True)
    return [child for child in children if "spawn_main" in " ".join(child.cmdline())]


def test_a_killed_worker_changes_no_byte(bench, untouched, bytes_of):
    driver = bench.driver()
    bench.wait_for(2, driver)
    for worker in workers_of(driver):
        worker.kill()
    assert bench.blocks_done() < BLOCKS, "killed too late to hit a running block"
    assert bench.end(driver)[0] == 0
    assert bytes_of(bench.output) == untouched[1]


def test_a_killed_driver_goes_on_where_it_stopped(bench, untouched, bytes_of):
    driver = bench.driver()
    bench.wait_for(2, driver)
    driver.kill()
    driver.wait()
    assert 2 <= bench.blocks_done() < BLOCKS
    assert not volume_metadata(bench.output)["complete"]
    assert lease_path(bench.output).exists()  # of a dead owner: it hinders nobody
    bench.finish()
    assert bytes_of(bench.output) == untouched[1]


def test_an_interrupted_driver_says_that_the_same_command_goes_on(bench):
    driver = bench.driver()
    bench.wait_for(1, driver)
    driver.send_signal(signal.SIGINT)
    code, told = bench.end(driver)
    assert code == 130
    assert "the same command goes on" in told
    assert "Traceback" not in told
    assert not lease_path(bench.output).exists()


# ---- two drivers, and tasks that end late ----------------------------------------------------


def test_a_second_driver_is_refused_and_the_first_goes_on(bench, untouched, bytes_of):
    first = bench.driver()
    bench.wait_for(1, first)
    code, told = bench.end(bench.driver())
    assert code == 2
    assert f"is being written by another driver (process {first.pid} on " in told
    assert "Traceback" not in told
    assert bench.end(first)[0] == 0
    assert bytes_of(bench.output) == untouched[1]


def test_a_driver_that_slept_while_another_took_over_stops_without_harm(bench, untouched, bytes_of):
    first = bench.driver(machine="another boot of another machine")
    bench.wait_for(1, first)
    first.send_signal(signal.SIGSTOP)  # its workers do not sleep
    bench.finish()
    assert bytes_of(bench.output) == untouched[1]
    first.send_signal(signal.SIGCONT)
    code, told = bench.end(first)
    assert code == 2
    assert "no longer this driver's" in told
    assert "Traceback" not in told
    assert bytes_of(bench.output) == untouched[1]
    assert doctor(bench.output).is_sound


@dataclass
class Cluster:
    """`dask scheduler` and `dask worker` on loopback, each a process of its own."""

    bench: Bench
    num_workers: int
    port: int = 0
    scheduler: subprocess.Popen | None = None
    workers: list[subprocess.Popen] = field(default_factory=list)

    def __post_init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.start()

    @property
    def address(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"

    def start(self) -> None:
        dask = ("-m", "dask")
        place = ("--host", "127.0.0.1", "--no-dashboard")
        self.scheduler = self.bench.python(*dask, "scheduler", *place, "--port", self.port)
        one = ("--nthreads", 1, "--no-nanny", "--memory-limit", "1GB")
        local = ("--local-directory", self.bench.folder / "scratch")
        self.workers = [
            self.bench.python(*dask, "worker", self.address, *place, *one, *local)
            for _ in range(self.num_workers)
        ]

    def stop(self) -> None:
        for process in (self.scheduler, *self.workers):
            process.kill()
            process.wait()


def test_a_task_that_ends_late_changes_nothing(bench, untouched, bytes_of):
    cluster = Cluster(bench, 1)
    given_up = bench.driver("--scheduler", cluster.address)
    bench.wait_for(1, given_up)
    (zombie,) = cluster.workers
    zombie.send_signal(signal.SIGSTOP)
    (mark,) = bench.marks.iterdir()  # it stands in the middle of this block
    given_up.kill()
    bench.finish()
    logs = set(bench.output.with_name("volume.zarr.ledger").rglob("writer-*.jsonl"))
    zombie.send_signal(signal.SIGCONT)
    while mark.exists():
        assert zombie.poll() is None
        time.sleep(0.01)
    late = set(bench.output.with_name("volume.zarr.ledger").rglob("writer-*.jsonl")) - logs
    assert mark.name.split()[1] in "".join(log.read_text() for log in late)  # it did write
    assert bench.blocks_done() == BLOCKS
    assert bytes_of(bench.output) == untouched[1]
    assert doctor(bench.output).is_sound


# ---- no space --------------------------------------------------------------------------------


def test_writers_that_hit_a_limit_end_the_run_and_the_same_command_goes_on(
    bench, untouched, bytes_of
):
    """A limit on the size of files fails in the middle of a write, as a full disk does."""
    driver = bench.driver()
    bench.wait_for(2, driver)
    for worker in workers_of(driver):
        worker.rlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
    code, told = bench.end(driver)
    assert code == 3
    assert "no space is left" in told
    assert "the same command" in told
    assert "Traceback" not in told
    assert 2 <= bench.blocks_done() < BLOCKS
    assert partials_of(bench.output) == []
    bench.finish()
    assert bytes_of(bench.output) == untouched[1]


# ---- random kills ----------------------------------------------------------------------------


@dataclass
class Kill:
    """One line of the log: when which process was killed, and whether a block was running.

    A worker is hit if it is in the middle of a block itself; of scheduler and driver any worker.
    """

    seed: int
    victim: str
    moment_seconds: float
    blocks_done: int
    hit: bool


def kill_at_random(bench: Bench, victim: str, seed: int) -> Kill:
    """Kill a process of this kind at a random moment, then run the same command to its end."""
    rng = random.Random(seed)
    cluster = Cluster(bench, 2) if victim == "scheduler" else None
    where = ("--scheduler", cluster.address) if cluster else LOCAL
    began, driver = time.monotonic(), bench.driver(*where)
    bench.wait_for(rng.randrange(BLOCKS - 2), driver)
    time.sleep(rng.uniform(0, 0.2))
    end: Callable[[], None]
    if victim == "worker":
        chosen = rng.choice(workers_of(driver))
        end, hit = chosen.kill, chosen.pid in bench.running()
    else:
        end = (cluster.scheduler if cluster else driver).kill
        hit = bool(bench.running())
    kill = Kill(seed, victim, round(time.monotonic() - began, 3), bench.blocks_done(), hit)
    end()
    code, told = bench.end(driver)
    assert "Traceback" not in told
    if cluster:
        assert code == 3, told
        assert f"the scheduler at {cluster.address} is gone" in told
        cluster.stop()
        cluster.start()
    assert (code == 0) == (victim == "worker")
    bench.finish(*where)
    if cluster:
        cluster.stop()
    return kill


def hits(new_bench, untouched, log: Path, bytes_of, kills: int) -> int:
    """How many of so many kills hit a running block; each run ends with the same bytes."""
    victims = ("worker", "scheduler", "driver")
    done: list[Kill] = []
    for seed in range(kills):
        bench = new_bench(f"kill{seed}")
        done.append(kill_at_random(bench, victims[seed % 3], seed))
        with log.open("a") as file:
            file.write(json.dumps(asdict(done[-1])) + "\n")
        assert bytes_of(bench.output) == untouched[1]
        assert doctor(bench.output).is_sound
    for victim in victims:
        of_kind = [kill for kill in done if kill.victim == victim]
        print(f"{victim}: {len(of_kind)} kills, {sum(kill.hit for kill in of_kind)} hit a block")
    print(f"{kills} kills, {kills} identical volumes; moments and victims in {log}")
    return sum(kill.hit for kill in done)


@pytest.mark.slow
def test_random_kills_change_no_byte(new_bench, untouched, tmp_path, bytes_of):
    assert hits(new_bench, untouched, tmp_path / "kills.jsonl", bytes_of, kills=3) >= 0.8 * 3


@pytest.mark.soak
def test_many_random_kills_change_no_byte(new_bench, untouched, tmp_path, bytes_of):
    assert hits(new_bench, untouched, tmp_path / "kills.jsonl", bytes_of, kills=30) >= 0.8 * 30
