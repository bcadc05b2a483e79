"""Batch scripts that need no driver on a login node: a run in one job, or an array without Dask.

The scripts are printed, not submitted: a site's own lines are added to them by hand. No path stands
in a directive, as batch systems read those each by rules of its own; in the script itself a path
may hold anything but a line break.
"""

from __future__ import annotations

import math
import re
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

from tomodask.cluster.joboptions import job_name
from tomodask.cluster.local import CORES_A_WORKER
from tomodask.errors import InputError
from tomodask.runfolder import RunFolder

WORD = re.compile(r"[A-Za-z0-9_.:/@+,=-]+")  # what a queue or an account may be called
RESERVED_BYTES = 2 * 2**30  # of a node's memory, for scheduler and driver ...
RESERVED_SHARE = 0.25  # ... but never more than this of a small node


@dataclass(frozen=True)
class Request:
    """What a job asks for; raises InputError where it can't be.

    workers, cores, gpus : of each node; no cores are all of a node for this job alone.
    memory : bytes of each node.
    array : elements of a job array, each on one node; None: one job with a cluster of its own.
    name : of the job; None: after the output.
    """

    nodes: int = 1
    workers: int | None = None
    cores: int | None = None
    memory: int | None = None
    gpus: int = 0
    walltime: str = "04:00:00"
    queue: str | None = None
    account: str | None = None
    array: int | None = None
    name: str | None = None
    interface: str | None = None

    def __post_init__(self) -> None:
        counts = {"nodes": self.nodes, "workers": self.workers, "cores": self.cores}
        for name, number in {**counts, "memory": self.memory, "array": self.array}.items():
            if number is not None and number < 1:
                raise InputError(f"{name} is {number}: give at least 1")
        if self.gpus < 0:
            raise InputError(f"gpus is {self.gpus}: give 0 or more")
        if self.array is not None and self.nodes > 1:
            raise InputError(
                f"an element of a job array runs on one node, not {self.nodes}: give a larger "
                "--array, or leave it out for one job on many nodes"
            )
        for name in ("queue", "account", "name", "interface"):
            word = getattr(self, name)
            if word is not None and not WORD.fullmatch(word):
                raise InputError(f"{name} is {word!r}: letters, digits and _.:/@+,=- are taken")
        if self.cores is not None and self.cores < self.workers_a_node:
            raise InputError(
                f"{self.workers_a_node} workers of a node share {self.cores} cores: give --cores "
                "a larger number, or fewer workers"
            )
        _ = self.walltime_s

    @property
    def walltime_s(self) -> int:
        """Seconds; raises InputError where the walltime isn't [D-]HH:MM:SS."""
        match = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d\d):(\d\d)", self.walltime)
        if match is None:
            raise InputError(f"walltime is {self.walltime!r}: give HH:MM:SS, or D-HH:MM:SS")
        days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
        return ((days * 24 + hours) * 60 + minutes) * 60 + seconds

    @property
    def workers_a_node(self) -> int:
        """As asked for, else one for each GPU, else one for every 4 cores."""
        if self.workers is not None:
            return self.workers
        return self.gpus or max(1, (self.cores or 0) // CORES_A_WORKER)

    @property
    def memory_a_worker(self) -> int | None:
        """Bytes; the first node also has the scheduler and the driver."""
        if self.memory is None:
            return None
        kept = min(RESERVED_BYTES, int(RESERVED_SHARE * self.memory))
        return (self.memory - kept) // self.workers_a_node


@dataclass(frozen=True)
class ScriptSystem:
    """How one batch system is told what a job asks for, and starts a command on each node.

    launch : starts the command after it once on each node.
    index : the variable with the number of an array's element.
    after : submits a command that begins when an array has ended.
    """

    directives: Callable[[Request], list[str]]
    submit: str
    launch: Callable[[Request], str]
    index: str
    after: str


def _clock(seconds: int) -> str:
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def _mebibytes(memory: int) -> int:
    return max(1, memory // 2**20)


def _slurm(ask: Request) -> list[str]:
    lines = [f"--job-name={ask.name}", f"--time={_clock(ask.walltime_s)}"]
    lines += [f"--partition={ask.queue}"] if ask.queue else []
    lines += [f"--account={ask.account}"] if ask.account else []
    lines += [f"--nodes={ask.nodes}", "--ntasks-per-node=1"]
    lines += [f"--cpus-per-task={ask.cores}"] if ask.cores else ["--exclusive"]
    if ask.memory or not ask.cores:  # 0: all that a node has
        lines += [f"--mem={_mebibytes(ask.memory)}M" if ask.memory else "--mem=0"]
    lines += [f"--gres=gpu:{ask.gpus}"] if ask.gpus else []
    lines += [f"--array=1-{ask.array}"] if ask.array else []
    log = "%x-%A_%a.log" if ask.array else "%x-%j.log"
    return [f"#SBATCH {line}" for line in [*lines, "--requeue", "--open-mode=append"]] + [
        f"#SBATCH --output={log}"
    ]


def _slurm_launch(ask: Request) -> str:
    cores = f" --cpus-per-task={ask.cores}" if ask.cores else ""  # srun doesn't take the job's
    gpus = f" --gres=gpu:{ask.gpus}" if ask.gpus else ""
    return (
        f"srun --nodes={ask.nodes} --ntasks-per-node=1{cores}{gpus} --cpu-bind=none --no-kill "
        "--kill-on-bad-exit=0"
    )


def _pbs(ask: Request) -> list[str]:
    select = f"select={ask.nodes}"
    select += f":ncpus={ask.cores}" if ask.cores else ""
    select += f":mem={_mebibytes(ask.memory)}mb" if ask.memory else ""
    select += f":ngpus={ask.gpus}" if ask.gpus else ""
    lines = [f"-N {ask.name}", f"-l walltime={_clock(ask.walltime_s)}"]
    lines += [f"-q {ask.queue}"] if ask.queue else []
    lines += [f"-A {ask.account}"] if ask.account else []
    lines += [f"-l {select}", f"-l place=scatter{'' if ask.cores else ':excl'}"]
    lines += [f"-J 1-{ask.array}"] if ask.array else []
    return [f"#PBS {line}" for line in [*lines, "-r y", "-j oe"]]


def _pbs_launch(_: Request) -> str:
    # pbsdsh hands neither the folder nor the environment on
    return 'pbsdsh -- env "PATH=$PATH" "LD_LIBRARY_PATH=${LD_LIBRARY_PATH:-}" "HOME=$HOME"'


def _lsf(ask: Request) -> list[str]:
    slots = ask.cores or 1
    needs = f"span[ptile={slots}]"
    needs += f" rusage[mem={_mebibytes(ask.memory)}MB]" if ask.memory else ""
    name = f"{ask.name}[1-{ask.array}]" if ask.array else ask.name
    log = f"{ask.name}-%J_%I.log" if ask.array else f"{ask.name}-%J.log"
    minutes = math.ceil(ask.walltime_s / 60)
    lines = [f'-J "{name}"', f"-W {minutes // 60}:{minutes % 60:02d}"]
    lines += [f"-q {ask.queue}"] if ask.queue else []
    lines += [f"-P {ask.account}"] if ask.account else []
    lines += [f"-n {ask.nodes * slots}", f'-R "{needs}"', *([] if ask.cores else ["-x"])]
    lines += [f'-gpu "num={ask.gpus}/host"'] if ask.gpus else []
    return [f"#BSUB {line}" for line in [*lines, "-r", f"-o {log}"]]


def _lsf_launch(_: Request) -> str:
    return 'blaunch -z "$(sort -u "$LSB_DJOB_HOSTFILE" | paste -sd " ")"'


SCRIPT_SYSTEMS: Mapping[str, ScriptSystem] = {
    "slurm": ScriptSystem(
        _slurm,
        "sbatch",
        _slurm_launch,
        "SLURM_ARRAY_TASK_ID",
        "sbatch --dependency=afterany:JOB_ID --wrap {command}",
    ),
    "pbs": ScriptSystem(
        _pbs,
        "qsub",
        _pbs_launch,
        "PBS_ARRAY_INDEX",
        "echo {command} | qsub -W depend=afterany:JOB_ID",
    ),
    "lsf": ScriptSystem(
        _lsf,
        "bsub <",
        _lsf_launch,
        "LSB_JOBINDEX",
        "bsub -w 'ended(JOB_ID)' {command}",
    ),
}


def batch_script(
    system: str,
    recipe: Path,
    output: Path,
    request: Request,
    *,
    overrides: Sequence[str] = (),
    folder: Path | None = None,
    command: Sequence[str] = (sys.executable, "-m", "tomodask"),
) -> str:
    """The text of a script that makes `output` by a recipe, in one job or in an array of them.

    folder : where paths begin that aren't absolute; None: the current one.
    command : how tomodask is called on the nodes.

    Raises
    ------
    InputError : an unknown batch system, or a path with a line break.
    """
    if system not in SCRIPT_SYSTEMS:
        raise InputError(f"system is {system!r}: scripts are made for {', '.join(SCRIPT_SYSTEMS)}")
    batch, folder = SCRIPT_SYSTEMS[system], folder or Path.cwd()
    run = RunFolder.of(folder / output)
    request = replace(request, name=request.name or job_name(run))
    for text in (recipe, output, folder, *overrides, *command):
        if re.search(r"[\x00-\x1f\x7f]", str(text)):
            raise InputError(f"{str(text)!r} holds a line break, which no script can: rename it")
    values = {
        "directives": "\n".join(batch.directives(request)),
        "folder": shlex.quote(str(folder)),
        "tomodask": shlex.join(command),
        "recipe": shlex.quote(str(recipe)),
    }
    if request.array is None:
        values |= {
            "run": shlex.quote(str(run.path)),
            "launch": batch.launch(request),
            "start_options": _options(_listening(request)),
            "join_options": _options(_workers(request) | _listening(request)),
            "run_options": _options({}, overrides),
        }
        return _fill("allocation.sh", values)
    there = f"cd {shlex.quote(str(folder))} && "
    calls = {
        step: there + shlex.join([*command, step, str(recipe), *overrides])
        for step in ("prepare", "finalize")
    }
    values |= {
        "count": str(request.array),
        "index": batch.index,
        "prepare": calls["prepare"],
        "submit": batch.submit,
        "finalize": batch.after.format(command=shlex.quote(calls["finalize"])),
        "run_options": _options({"threads": request.cores}, overrides),
    }
    return _fill("array.sh", values)


def _listening(ask: Request) -> dict[str, object]:
    """Where scheduler and workers listen: not beyond the node where there is just one."""
    if ask.interface is not None:
        return {"interface": ask.interface}
    return {"host": "127.0.0.1"} if ask.nodes == 1 else {}


def _workers(ask: Request) -> dict[str, object]:
    count, memory = ask.workers_a_node, ask.memory_a_worker
    return {
        "gpus": ask.gpus or None,
        "workers": count if ask.workers or ask.gpus or ask.cores else None,
        "threads": ask.cores and ask.cores // count,
        "memory": memory and f"{_mebibytes(memory)}MiB",
        "walltime": ask.walltime_s,
    }


def _options(values: Mapping[str, object], more: Sequence[str] = ()) -> str:
    """Flags with their values, those of None left out, ready to stand behind a command."""
    flags = [f"--{name}={value}" for name, value in values.items() if value is not None]
    return "".join(f" {shlex.quote(text)}" for text in [*more, *flags])


def _fill(name: str, values: Mapping[str, str]) -> str:
    """A template with each @name@ in it filled in."""
    template = resources.files("tomodask.cluster").joinpath("templates", name).read_text()
    return re.sub(r"@([a-z_]+)@", lambda match: values[match.group(1)], template)
