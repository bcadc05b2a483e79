"""`tomodask status`, `cancel` and `resume`: a run in the hands of whoever sees its files."""

from __future__ import annotations

import getpass
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tomodask.errors import InputError, MissingInputError, OutputInUseError
from tomodask.layers import Layer, recipe_file, resolve
from tomodask.recipe import Recipe
from tomodask.runfolder import DRIVER, RunFolder
from tomodask.runstate import RunState, Stage, output_of, run_state
from tomodask.writers import GOES_ON, Writer, writers_of

WAIT_SECONDS = 60.0
LOOK_SECONDS = 0.5  # between two looks whether writers have stopped
# what removes a batch job, by the kind of the cluster
REMOVERS = {
    "slurm": "scancel",
    "pbs": "qdel",
    "lsf": "bkill",
    "sge": "qdel",
    "oar": "oardel",
    "htcondor": "condor_rm",
}
RUNNING_SHOWN = 16  # lines of blocks in words; JSON has all

status = run_state


# ---- cancel ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cancellation:
    """What `cancel` did.

    stopped : whether nobody writes any more, for all that can be seen.
    stopping, lost : writers that still go on, and those that are dead or silent.
    jobs : batch jobs that nobody may remove any more; `remove` is the command that does.
    """

    output: Path
    stopped: bool
    stopping: tuple[str, ...]
    lost: tuple[str, ...]
    jobs: tuple[str, ...]
    remove: str | None
    waited_s: float
    message: str

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "output": str(self.output)}


def cancel(path: Path | str, wait_s: float = WAIT_SECONDS) -> Cancellation:
    """Ask whoever makes an output to stop, and wait until they have; what is done is kept.

    Raises
    ------
    MissingInputError : nothing is there that could be cancelled.
    InputError : the run has ended well; or the folder can't be written.
    """
    output, _ = output_of(path)
    began, state = time.monotonic(), run_state(path)
    if state.state == "not begun":
        raise MissingInputError(f"{output} is not begun, there is nothing to cancel")
    if state.state == "done":
        raise InputError(f"{output} is done, there is nothing to cancel")
    folder = RunFolder.of(output)
    try:
        who = f"{getpass.getuser()} on {socket.gethostname()}"
        folder.request_cancel(who)
    except OSError as error:
        raise InputError(
            f"the request can't be left in {folder.path} ({error.strerror}): ask whoever runs it, "
            "or call from where the folder can be written"
        ) from error
    while True:
        writers = writers_of(output)
        going = [writer for writer in writers if writer.state == "running"]
        waited = time.monotonic() - began
        if not going or waited >= wait_s:
            break
        time.sleep(min(LOOK_SECONDS, max(0.0, wait_s - waited)))
    ended = "cancelled", "done", "failed"
    lost = [writer for writer in writers if writer not in going and writer.state not in ended]
    jobs = dict.fromkeys(job for writer in (*going, *lost) for job in writer.status.jobs)
    return Cancellation(
        output=output,
        stopped=not going and not any(writer.state == "silent" for writer in lost),
        stopping=tuple(writer.name for writer in going),
        lost=tuple(writer.name for writer in lost),
        jobs=tuple(jobs),
        remove=_remover(folder, list(jobs)),
        waited_s=round(waited, 2),
        message=_outcome(output, going, lost),
    )


def _outcome(output: Path, going: Sequence[Writer], lost: Sequence[Writer]) -> str:
    told = [f"{output}: asked to stop"]
    told += [f"{_named(writer)} has not stopped yet" for writer in going]
    for writer in lost:
        sign = f"silent, last heard of {_ago(writer)}" if writer.state == "silent" else "dead"
        told.append(f"{_named(writer)} is {sign}")
    if not going and not lost:
        told = [f"{output}: stopped"]
    return f"{'; '.join(told)}. What is done is kept: `tomodask resume {output}` goes on"


def _remover(folder: RunFolder, jobs: Sequence[str]) -> str | None:
    if not jobs or not folder.recipe.is_file():
        return None
    cluster = recipe_file(folder.recipe).settings.get("cluster", {})
    kind = cluster if isinstance(cluster, str) else cluster.get("kind", "local")
    return " ".join([REMOVERS[kind], *jobs]) if kind in REMOVERS else None


# ---- resume ----------------------------------------------------------------------------------


def kept_recipe(path: Path | str, *layers: Layer) -> Recipe:
    """The recipe that a run kept, with more settings over it.

    Raises
    ------
    MissingInputError : none was kept.
    OutputInUseError : elements of a job array are at it.
    RecipeError : settings that can't be.
    """
    output, _ = output_of(path)
    folder = RunFolder.of(output)
    if not folder.recipe.is_file():
        raise MissingInputError(
            f"{folder.recipe} does not exist, so nothing is known of how {output} was to be made: "
            "give the command again that began it, it goes on where it stopped"
        )
    busy = [w for w in writers_of(output) if w.name != DRIVER and w.state == "running"]
    if busy:
        raise OutputInUseError(
            f"{output} is being written by {', '.join(map(_named, busy))}: wait until they have "
            f"ended, or stop them with `tomodask cancel {output}`"
        )
    kept = recipe_file(folder.recipe)
    # it may have been moved, or be seen under another name from here
    name = "output" if kept.settings.get("output") else "scan"
    here = Layer("path", {name: str(output.absolute())})
    return resolve([kept, here, *layers])[0]


# ---- in words --------------------------------------------------------------------------------


def describe(state: RunState, tracebacks: bool = False) -> str:
    """The answer of `status` in words: what counts first, then a line for each that works."""
    lines = [f"{state.output}: {state.state}{_speed(state)}"]
    lines += [f"  {_stage(stage)}" for stage in state.stages]
    if state.driver is not None:
        lines.append(f"  {_writer(state.driver)}")
    lines += [f"  {_writer(element)}" for element in state.elements]
    if state.waiting and state.state != "done":
        have = "element has" if state.waiting == 1 else "elements have"
        lines.append(f"  {state.waiting} {have} not begun")
    lines += [_block(block, state.now) for block in state.running[:RUNNING_SHOWN]]
    if len(state.running) > RUNNING_SHOWN:
        lines.append(f"  and {len(state.running) - RUNNING_SHOWN} more blocks running")
    for block in state.failed:
        attempts = block.get("attempts")
        after = f" after {attempts} attempts" if attempts else ""
        lines.append(f"  failed: {block['stage']} {block['block']}{after}: {block.get('error')}")
        if tracebacks and block.get("traceback"):
            lines += [f"    {line}" for line in str(block["traceback"]).rstrip().splitlines()]
    if state.jobs and state.goes_on:
        lines.append(f"  batch jobs: {', '.join(state.jobs)}")
    if state.message:
        lines.append(f"  {state.message}")
    return "\n".join([*lines, *_advice(state)])


def _speed(state: RunState) -> str:
    rate, told = state.rate, []
    if rate is not None and state.state in ("running", "silent"):
        if rate.slices:
            told.append(f"{rate.slices:.3g} slices/s")
        told.append(f"read {rate.bytes_read / 1e6:.3g} MB/s")
        told.append(f"write {rate.bytes_written / 1e6:.3g} MB/s")
    if state.eta_s is not None:
        told.append(f"about {duration(state.eta_s)} left")
    return "".join(f", {part}" for part in told)


def _stage(stage: Stage) -> str:
    if stage.blocks is None:
        return f"{stage.name}: not begun"
    share = 100 * stage.blocks_done / max(1, stage.blocks)
    rows = f", {stage.rows_done} of {stage.rows} slices" if stage.rows is not None else ""
    done = ", complete" if stage.is_complete else ""
    where = f" ({stage.store})" if stage.store is not None and stage.name == "ingest" else ""
    counted = f"{stage.blocks_done} of {stage.blocks} blocks ({share:.3g} %)"
    return f"{stage.name}{where}: {counted}{rows}{done}"


def _named(writer: Writer) -> str:
    told = writer.status
    where = f" (process {told.pid} on {told.host})" if told.host else ""
    return f"{'the driver' if writer.name == DRIVER else writer.name}{where}"


def _writer(writer: Writer) -> str:
    told, parts = writer.status, [writer.state]
    if told.stage and writer.state in GOES_ON:
        parts.append(f"{told.stage} {told.blocks_done} of {told.blocks} blocks")
    if told.workers and writer.state in GOES_ON:
        parts.append(f"{told.workers} worker{'s' * (told.workers != 1)}")
    if writer.state in GOES_ON or writer.state == "interrupted":
        parts.append(f"last heard of {_ago(writer)}")
    if told.message and writer.name != DRIVER:
        parts.append(told.message)
    return f"{_named(writer).removeprefix('the ')}: {', '.join(parts)}"


def _block(block: Mapping[str, Any], now: float) -> str:
    since = block.get("since")
    lasting = f", for {duration(max(0.0, now - float(since)))}" if since else ""
    return f"  running: {block.get('block')} on {block.get('worker')}{lasting}"


def _ago(writer: Writer) -> str:
    return "never" if writer.heard_s is None else f"{duration(writer.heard_s)} ago"


def _advice(state: RunState) -> list[str]:
    """What to do next, where somebody has to do something."""
    goes_on = f"`tomodask resume {state.output}` goes on"
    if state.state == "running" and state.cancel_requested is not None:
        return [f"  asked to stop by {state.cancel_requested}"]
    if state.state == "silent":
        return [
            "  no sign for more than a minute: its machine may be gone, the network cut, its clock "
            f"another. Look again, or stop it: `tomodask cancel {state.output}`"
        ]
    if state.state == "failed":
        return [f"  {goes_on} and tries what failed again"]
    if state.state in ("cancelled", "interrupted"):
        last = state.stages[-1]
        if state.elements and last.blocks is not None and last.blocks_done == last.blocks:
            return ["  all blocks are done: `tomodask finalize` is left"]
        if state.waiting:
            goes_on = f"they go on if they are in the queue; else {goes_on}"
        return [] if "tomodask resume" in state.message else [f"  {goes_on}"]
    if state.state == "not begun" and state.driver is not None:
        return ["  prepared: next, `tomodask run RECIPE --shard 1/16` to 16/16"]
    return []


def duration(seconds: float) -> str:
    """'41 s', '3 min 20 s' or '2 h 5 min'."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"
