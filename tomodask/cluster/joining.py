"""Workers of one machine that join a run, and join again for as long as its scheduler stands.

Dask's worker ends when its connection breaks. A link that was cut for minutes, or a scheduler that
was started again, must not cost a run its workers: each has a place here that is filled anew.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from distributed.comm.addressing import get_address_host

from tomodask.cluster.certificates import CERTIFICATE, KEY
from tomodask.cluster.local import Workers, size_workers
from tomodask.cluster.standing import LOOK_SECONDS, Place, address_here, find, look, own_address
from tomodask.cluster.walltime import ENDS_AT, job_end
from tomodask.cluster.worker import PRELOAD, visible_devices
from tomodask.errors import InputError, SchedulerLostError
from tomodask.runfolder import RunFolder

log = logging.getLogger(__name__)

GONE_SECONDS = 5.0  # without the scheduler's file, after which the run is over
LONELY_SECONDS = 60.0  # without a scheduler, after which a worker process ends and is begun anew
SHORT_SECONDS = 20.0  # a worker that fails sooner has a fault of its own ...
MOST_SHORT = 4  # ... and is not begun again after so many in a row
LEAVE_SECONDS = 15.0  # for a worker to end in good order
# Dask tells each loss of a connection with a traceback; that a worker's memory was full is told.
QUIET = str({"distributed": "critical", "distributed.nanny": "warning"})


@dataclass(frozen=True)
class JoinOptions:
    """The workers of this machine.

    workers, threads : processes, and threads of each; None: one a GPU, else as the machine has.
    memory : bytes a worker; None: a share of what is free.
    gpus : devices; each worker sees one.
    walltime_s : of the batch job; workers leave before it ends.
    wait_s : for a scheduler: for the first, and for one that doesn't answer any more.
    """

    workers: int | None = None
    threads: int | None = None
    memory: int | None = None
    gpus: int = 0
    walltime_s: float | None = None
    host: str | None = None
    interface: str | None = None
    wait_s: float = 600.0

    def sizes(self) -> Workers:
        """Raises InputError, MemoryBudgetError : no such workers fit."""
        return size_workers(self.workers or self.gpus or None, self.threads, self.memory)

    def devices(self) -> list[str] | None:
        """The CUDA devices, for the workers in turn; None where there is nothing to pin."""
        return visible_devices(self.gpus) if self.gpus else None

    def address(self, scheduler: str) -> str:
        """Where the workers listen: the address from which they reach the scheduler."""
        if self.host is None and self.interface is None:
            return own_address(get_address_host(scheduler))
        return address_here(self.host, self.interface)


@dataclass
class _Post:
    """A worker's place, and the process that fills it."""

    number: int
    device: str | None
    process: subprocess.Popen[bytes] | None = None
    begun: float = 0.0
    attempts: int = 0
    short: int = 0

    @property
    def is_free(self) -> bool:
        return self.process is None and self.short < MOST_SHORT

    def start(self, place: Place, crew: _Crew) -> None:
        self.attempts += 1
        # a fresh name: the scheduler may hold on to a lost worker for a while, and to its name
        name = f"{socket.gethostname()}-{os.getpid()}-{self.number}-{self.attempts}"
        arguments = {
            "--name": name,
            "--nthreads": crew.sizes.threads,
            "--nworkers": 1,
            "--memory-limit": crew.sizes.memory,
            "--host": crew.options.address(place.address),
            "--death-timeout": LONELY_SECONDS,
            **_keys(place, crew.folder),
        }
        flags = [text for flag, value in arguments.items() for text in (flag, str(value))]
        environment = {"DASK_LOGGING": QUIET, **os.environ}
        if self.device is not None:
            environment["CUDA_VISIBLE_DEVICES"] = self.device
        if crew.ends is not None:
            environment[ENDS_AT] = str(crew.ends)
        command = [sys.executable, "-m", PRELOAD, place.address, *flags]
        self.process = subprocess.Popen(command, env=environment)
        self.begun = time.monotonic()

    def look(self) -> None:
        """Notice that the process has ended."""
        if self.process is not None and self.process.poll() is not None:
            failed = self.process.returncode != 0
            short = failed and time.monotonic() - self.begun < SHORT_SECONDS
            self.short = self.short + 1 if short else 0
            self.process = None


@dataclass
class _Crew:
    """All workers of this machine, looked after until the run is over."""

    folder: RunFolder
    options: JoinOptions
    sizes: Workers
    ended: _Bell
    posts: list[_Post] = field(default_factory=list)

    def __post_init__(self) -> None:
        devices: Sequence[str | None] = self.options.devices() or [None]
        self.posts = [_Post(n, devices[n % len(devices)]) for n in range(self.sizes.count)]
        self.ends = job_end(self.options.walltime_s)
        self.seen = self.there = time.monotonic()

    @property
    def running(self) -> list[_Post]:
        return [post for post in self.posts if post.process is not None]

    def keep(self) -> None:
        """Fill each place until the scheduler's file is gone, or time is up."""
        while not self.ended.rung:
            time.sleep(LOOK_SECONDS)
            for post in self.posts:
                post.look()
            now = time.monotonic()
            if self.folder.scheduler_file.exists():
                self.there = now
            late = self.ends is not None and time.time() > self.ends
            gone = now - self.there > GONE_SECONDS
            if late or gone:
                if not self.running or now - self.there > GONE_SECONDS + LEAVE_SECONDS:
                    return
            elif any(post.is_free for post in self.posts):
                self._fill(now)
            elif not self.running:
                raise InputError(
                    f"each worker ended with an error within {SHORT_SECONDS:.0f} s of its start, "
                    f"{MOST_SHORT} times: see what they printed above"
                )
            else:
                self.seen = now

    def _fill(self, now: float) -> None:
        try:
            place = look(self.folder.scheduler_file)
        except InputError:  # it is being written anew
            return
        if place.answers():
            self.seen = now
            for post in self.posts:
                if post.is_free:
                    post.start(place, self)
        elif now - self.seen > self.options.wait_s and not self.running:
            raise SchedulerLostError(
                f"the scheduler at {place.address} has not answered for {self.options.wait_s:.0f} "
                "s: when it is started again, start the workers again, too"
            )

    def stop(self) -> None:
        """End all processes."""
        for post in self.running:
            assert post.process is not None
            post.process.terminate()
        deadline = time.monotonic() + LEAVE_SECONDS
        for post in self.running:
            assert post.process is not None
            try:
                post.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                post.process.kill()
                post.process.wait()


def join(folder: RunFolder, options: JoinOptions) -> int:
    """Run workers for a run on this machine until it is over, SIGTERM or ctrl-C.

    Returns how many worker processes were started.

    Raises
    ------
    InputError : no scheduler within `wait_s` seconds, or workers that fail as soon as they start.
    SchedulerLostError : it doesn't answer any more, and its file is still there.
    """
    sizes = options.sizes()
    find(folder.scheduler_file, options.wait_s)
    with _told_to_end() as ended:
        crew = _Crew(folder, options, sizes, ended)
        try:
            crew.keep()
        finally:
            crew.stop()
    return sum(post.attempts for post in crew.posts)


def _keys(place: Place, folder: RunFolder) -> dict[str, object]:
    """Flags for the keys of a run; none where Dask's own settings hold."""
    if place.security is None:
        return {}
    certificate, key = folder.certificates / CERTIFICATE, folder.certificates / KEY
    return {"--tls-ca-file": certificate, "--tls-cert": certificate, "--tls-key": key}


class _Bell:
    """Rung by a signal's handler; a threading.Event locks up if it is waited for just then."""

    rung = False

    def ring(self, *_: object) -> None:
        self.rung = True


@contextmanager
def _told_to_end() -> Iterator[_Bell]:
    """Rung by SIGTERM, SIGHUP and ctrl-C, which end us at once outside of this."""
    bell = _Bell()
    if threading.current_thread() is not threading.main_thread():
        yield bell
        return
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = {number: signal.signal(number, bell.ring) for number in numbers}
    try:
        yield bell
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
