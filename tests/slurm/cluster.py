"""A real Slurm with two nodes on this machine, for the tests. Needs root, slurm-wlm and munge.

    python tests/slurm/cluster.py start DIR    # prints the SLURM_CONF that sbatch must see
    python tests/slurm/cluster.py stop DIR     # ends jobs and daemons; logs stay in DIR

All it writes lies in DIR, and its ports are free ones, so several may run beside each other.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
DAEMONS = ("munged", "slurmctld", "slurmd", "slurmstepd")
NODES = ("n1", "n2")
START_SECONDS = 10  # it takes less than one
KILL_WAIT_SECONDS = 3

# Why not the defaults:
# - pgid: linuxproc loses the children of a batch script that dies of its SIGTERM; cgroups
#   aren't there on every machine.
# - cred_expire: a requeued job starts again no sooner than that, after 120 s by default.
# - config_overrides: the nodes have CPUs and memory as written here, whatever the machine has.
# - sched_interval: what waits for a time and not for another job is looked at so often only.
CONF = """\
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={control}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
StateSaveLocation={folder}/state
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmdLogFile={folder}/slurmd-%n.log
SlurmdSpoolDir={folder}/spool-%n
SlurmdParameters=config_overrides
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=500
AccountingStorageType=accounting_storage/none
SchedulerParameters=sched_min_interval=0,batch_sched_delay=0,bf_interval=1,sched_interval=1
ReturnToService=2
MpiDefault=none
KillWait={kill_wait}
"""
NODE = "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=2 RealMemory=8000\n"
PARTITION = "PartitionName=cpu Nodes=n[1-2] Default=YES MaxTime=INFINITE State=UP\n"


class SlurmError(RuntimeError):
    """Slurm can't be had here; the message says why."""


@dataclass(frozen=True)
class Job:
    """One line of squeue."""

    id: str
    name: str
    state: str
    node: str
    reason: str


@dataclass(frozen=True)
class Slurm:
    """A Slurm whose configuration, state, sockets and logs lie in one folder."""

    folder: Path

    @property
    def conf(self) -> Path:
        return self.folder / "slurm.conf"

    @property
    def environment(self) -> dict[str, str]:
        """The environment in which sbatch, squeue and dask-jobqueue speak to this Slurm."""
        return {**os.environ, "SLURM_CONF": str(self.conf)}

    def call(self, *command: object, timeout: float = 30) -> str:
        """What a command of Slurm prints; an error holds its own words."""
        words = [str(word) for word in command]
        done = subprocess.run(
            words, env=self.environment, capture_output=True, text=True, timeout=timeout
        )
        if done.returncode:
            raise SlurmError(f"{' '.join(words)}: exit code {done.returncode}: {done.stderr}")
        return done.stdout.strip()

    def jobs(self) -> list[Job]:
        """All that is in the queue; elements of a job array one by one."""
        lines = self.call("squeue", "--noheader", "--array", "-o", "%i|%j|%T|%N|%r").splitlines()
        return [Job(*line.split("|")) for line in lines]

    def nodes(self) -> dict[str, str]:
        """State of each node: 'idle', 'mixed', 'draining', ..."""
        lines = self.call("sinfo", "--noheader", "-N", "-o", "%N %T").splitlines()
        return dict(line.split() for line in lines)

    def drain(self, *nodes: str) -> None:
        """Start no more jobs there; what runs goes on."""
        names = ",".join(nodes)
        self.call("scontrol", "update", f"NodeName={names}", "State=DRAIN", "Reason=test")

    def clear(self) -> None:
        """Cancel every job, wait until they are gone, and take drained nodes back."""
        deadline = time.monotonic() + 10 * KILL_WAIT_SECONDS
        while jobs := self.jobs():
            self.call("scancel", *{job.id for job in jobs})
            if time.monotonic() > deadline:
                raise SlurmError(f"jobs don't end: {jobs}")
            time.sleep(0.2)
        held = [name for name, state in self.nodes().items() if state.startswith(("drain", "down"))]
        if held:
            self.call("scontrol", "update", f"NodeName={','.join(held)}", "State=RESUME")
        wait_for_nodes(self)


def missing() -> str | None:
    """Why no Slurm can be started here, or None."""
    absent = [name for name in PROGRAMS if not shutil.which(name)]
    if absent:
        return f"no {', '.join(absent)} on the path: apt-get install slurm-wlm munge"
    if os.geteuid() != 0:
        return "slurmd starts jobs for other users: that needs root"
    return None


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, all different."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for held in sockets:
            held.bind(("127.0.0.1", 0))
        return [held.getsockname()[1] for held in sockets]
    finally:
        for held in sockets:
            held.close()


def configuration(folder: Path) -> str:
    """Text of slurm.conf, with free ports."""
    host = socket.gethostname().split(".")[0]  # slurmctld wants `hostname -s`
    control, *ports = free_ports(1 + len(NODES))
    conf = CONF.format(host=host, folder=folder, control=control, kill_wait=KILL_WAIT_SECONDS)
    nodes = zip(NODES, ports, strict=True)
    return conf + "".join(NODE.format(name=n, host=host, port=p) for n, p in nodes) + PARTITION


def start(folder: Path) -> Slurm:
    """Start munged, slurmctld and one slurmd a node; when it returns, all nodes are idle."""
    if why := missing():
        raise SlurmError(why)
    folder = folder.resolve()
    (folder / "state").mkdir(parents=True, exist_ok=True)
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    slurm = Slurm(folder)
    for _ in range(3):  # a port may be taken between our look and the daemon's
        slurm.conf.write_text(configuration(folder))
        try:
            start_daemons(slurm)
            wait_for_nodes(slurm)
        except (SlurmError, OSError) as error:
            stop(folder)
            failed = error
        else:
            return slurm
    logs = "\n".join(log.read_text()[-1000:] for log in sorted(folder.glob("*.log")))
    raise SlurmError(f"Slurm doesn't start in {folder}: {failed}\n{logs}")


def start_daemons(slurm: Slurm) -> None:
    """Each becomes a daemon by itself, and its call returns when it listens."""
    place = slurm.folder
    munge = {
        "--socket": "munge.socket",
        "--key-file": "munge.key",
        "--pid-file": "munged.pid",
        "--log-file": "munged.log",
        "--seed-file": "munged.seed",
    }
    # --force: it runs as root, in a folder that others can't enter
    slurm.call("munged", "--force", *(f"{flag}={place / name}" for flag, name in munge.items()))
    slurm.call("slurmctld", "-c")
    for node in NODES:
        slurm.call("slurmd", "-N", node)


def wait_for_nodes(slurm: Slurm) -> None:
    """Until every node is idle."""
    deadline = time.monotonic() + START_SECONDS
    while (states := slurm.nodes()) != dict.fromkeys(NODES, "idle"):
        if time.monotonic() > deadline:
            raise SlurmError(f"nodes aren't idle after {START_SECONDS} s but {states}")
        time.sleep(0.05)


def processes(folder: Path) -> Iterator[psutil.Process]:
    """Daemons of this Slurm and all processes of its jobs; not the dead that nobody waited for."""
    conf = str(folder.resolve() / "slurm.conf")
    for process in psutil.process_iter():
        try:
            if process.status() == psutil.STATUS_ZOMBIE:
                continue
            ours = process.environ().get("SLURM_CONF") == conf
            if process.name() in DAEMONS:
                # slurmstepd writes its title over its environment, but stays in the logs' folder
                ours = ours or process.cwd() == str(folder.resolve())
            else:
                ours = ours and "SLURM_JOB_ID" in process.environ()
        except psutil.Error:  # it ended while we looked
            continue
        if ours:
            yield process


def stop(folder: Path) -> None:
    """End jobs and daemons. What doesn't end by itself is killed."""
    for end in (psutil.Process.terminate, psutil.Process.kill):
        for process in processes(folder):
            with contextlib.suppress(psutil.NoSuchProcess):
                end(process)
        deadline = time.monotonic() + KILL_WAIT_SECONDS
        while left := list(processes(folder)):
            if time.monotonic() > deadline:
                break
            time.sleep(0.05)
    if left:
        raise SlurmError(f"these processes of {folder} don't end: {left}")


def main(arguments: list[str]) -> int:
    """`start DIR` or `stop DIR`."""
    if len(arguments) != 2 or arguments[0] not in ("start", "stop"):
        print(__doc__, file=sys.stderr)
        return 2
    try:
        if arguments[0] == "start":
            print(start(Path(arguments[1])).conf)
        else:
            stop(Path(arguments[1]))
    except SlurmError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
