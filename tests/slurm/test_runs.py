"""Runs on a real Slurm whose jobs are cancelled, time out, come back: the same bytes each time."""

import os
import re
import stat
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.slurm import cluster
from tests.slurm.runs import BLOCKS, Run, wait_until
from tomodask.blocks import parse_block_id
from tomodask.demo import write_dxchange
from tomodask.doctor import doctor
from tomodask.phantom import simulate_scan
from tomodask.volumestore import volume_metadata

pytestmark = pytest.mark.batch


@pytest.fixture(scope="module")
def local_run(tmp_path_factory, bytes_of):
    """A raw file, its scan store, and the bytes of a run on this machine without Slurm."""
    folder = tmp_path_factory.mktemp("local")
    source = folder / "scan.h5"
    # 24 blocks of 2 rows, each a fifth of a second's work
    write_dxchange(source, simulate_scan(48, 128, 160, seed=4, num_spheres=50))
    run = Run(folder, source, folder / "scan.zarr")
    code, told = run.end(run.tomodask("run", run.recipe, "--workers", 2))
    assert code == 0, told
    assert run.blocks_done() == BLOCKS
    return run, bytes_of(run.output)


@pytest.fixture
def run(local_run, tmp_path, slurm):
    made = Run(tmp_path, local_run[0].source, local_run[0].scan, slurm)
    yield made
    made.stop()


@pytest.fixture
def ended_well(run, local_run, slurm, bytes_of):
    """The function that ends a driver, and looks whether all is as it should be."""

    def end(driver) -> None:
        code, told = run.end(driver)
        assert code == 0, told
        is_right()

    def is_right() -> None:
        assert volume_metadata(run.output)["complete"]
        assert bytes_of(run.output) == local_run[1]
        assert doctor(run.output).is_sound
        assert not run.run_folder.certificates.exists()
        # cancelled jobs stand there as COMPLETING until the last process is gone
        wait_until(lambda: not slurm.jobs(), patience=2 * cluster.KILL_WAIT_SECONDS)

    end.is_right = is_right
    return end


def processes_of(slurm, job: str) -> list[psutil.Process]:
    found = []
    for process in cluster.processes(slurm.folder):
        if process.name() not in cluster.DAEMONS:
            found += [process] if process.environ()["SLURM_JOB_ID"] == job else []
    return found


def running(slurm) -> list[str]:
    return [job.id for job in slurm.jobs() if job.state == "RUNNING"]


def end_of(slurm, job: str) -> str:
    """How a job has ended, in Slurm's word; it is remembered for some minutes."""
    shown = slurm.call("scontrol", "show", "job", job)
    return re.search(r"JobState=(\w+)", shown).group(1)


def two_jobs(run, slurm, driver) -> tuple[str, str]:
    """Ids of the run's jobs, when both work and some blocks are done."""
    run.wait_for(2, driver)
    wait_until(lambda: len(running(slurm)) == 2)
    first, second = running(slurm)
    return first, second


# ---- a driver here, workers in jobs ----------------------------------------------------------


def test_two_jobs_make_the_volume_of_a_local_run(run, slurm, ended_well):
    driver = run.on_slurm()
    run.wait_for(1, driver)
    assert [job.name for job in slurm.jobs()] == ["tomodask-foam"] * 2
    keys = list(run.run_folder.certificates.iterdir())
    assert keys
    assert {stat.S_IMODE(key.stat().st_mode) for key in keys} == {0o600}
    ended_well(driver)


def test_a_cancelled_job_is_replaced(run, slurm, ended_well):
    driver = run.on_slurm()
    lost, other = two_jobs(run, slurm, driver)
    slurm.call("scontrol", "suspend", other)  # it will not do the rest alone
    slurm.call("scancel", lost)
    done = run.blocks_done()
    wait_until(lambda: set(running(slurm)) - {lost, other})
    wait_until(lambda: run.blocks_done() > done)
    slurm.call("scontrol", "resume", other)
    ended_well(driver)


def test_a_job_whose_walltime_ends_in_the_middle_of_a_block_changes_no_byte(run, slurm, ended_well):
    driver = run.on_slurm()
    ending, _ = two_jobs(run, slurm, driver)
    # Slurm looks for such jobs every 30 s: until then it is to stand in the middle of a block
    for process in processes_of(slurm, ending):
        process.suspend()
    slurm.call("scontrol", "update", f"JobId={ending}", "TimeLimit=0")
    wait_until(lambda: end_of(slurm, ending) == "TIMEOUT")
    ended_well(driver)


def test_workers_leave_before_their_walltime_ends(run, slurm, ended_well):
    """Slurm counts in minutes: to it the jobs end after one, to the workers after 40 s."""
    driver = run.on_slurm("cluster.jobqueue.walltime=00:00:40")
    old = two_jobs(run, slurm, driver)
    for job in old:
        slurm.call("scontrol", "suspend", job)  # or they were done before
    time.sleep(40)
    for job in old:
        slurm.call("scontrol", "resume", job)
    done = run.blocks_done()
    wait_until(lambda: set(running(slurm)) - set(old))
    wait_until(lambda: run.blocks_done() > done)
    ended_well(driver)
    assert [end_of(slurm, job) for job in old] == ["COMPLETED"] * 2


def test_a_requeued_job_comes_back_and_works_on(run, slurm, ended_well):
    driver = run.on_slurm()
    again, other = two_jobs(run, slurm, driver)
    slurm.call("scontrol", "suspend", other)
    slurm.call("scontrol", "requeue", again)
    wait_until(lambda: again not in running(slurm))
    done = run.blocks_done()
    wait_until(lambda: again in running(slurm))
    wait_until(lambda: run.blocks_done() > done)
    assert len(slurm.jobs()) == 2, "it was replaced too"
    slurm.call("scontrol", "resume", other)
    ended_well(driver)


def test_jobs_of_a_drained_node_are_replaced_on_another(run, slurm, ended_well):
    driver = run.on_slurm()
    lost, other = two_jobs(run, slurm, driver)
    (left,) = {job.node for job in slurm.jobs()}  # one core each: both fit on the first node
    slurm.drain(left)
    slurm.call("scontrol", "suspend", other)
    slurm.call("scancel", lost)
    wait_until(lambda: {job.node for job in slurm.jobs() if job.state == "RUNNING"} - {left})
    done = run.blocks_done()
    wait_until(lambda: run.blocks_done() > done)
    slurm.call("scontrol", "resume", other)
    ended_well(driver)


def test_jobs_of_a_node_that_fails_come_back_on_another(run, slurm, ended_well):
    driver = run.on_slurm()
    two_jobs(run, slurm, driver)
    (failed,) = {job.node for job in slurm.jobs()}
    slurm.call("scontrol", "update", f"NodeName={failed}", "State=DOWN", "Reason=test")
    ended_well(driver)


# ---- no driver here --------------------------------------------------------------------------


def script_of(run, *options: object) -> str:
    small = ("--cores", 1, "--memory", "4GB", "--interface", "lo")
    command = ("cluster", "script", "--system", "slurm", *small, *options, run.recipe)
    code, told = run.end(run.tomodask(*command))
    assert code == 0, told
    return told


def test_a_script_runs_it_all_on_two_nodes_and_goes_on_when_requeued(run, slurm, ended_well):
    job = run.submit(script_of(run, "--nodes", 2))
    run.wait_for(2)
    (at_work,) = slurm.jobs()
    assert (at_work.name, at_work.node, at_work.state) == ("tomodask-foam", "n[1-2]", "RUNNING")
    slurm.call("scontrol", "requeue", job)
    wait_until(lambda: not running(slurm))
    assert run.blocks_done() < BLOCKS
    wait_until(lambda: not slurm.jobs())
    log = (run.folder / f"tomodask-foam-{job}.log").read_text()
    assert end_of(slurm, job) == "COMPLETED", log
    assert "Restarts=1" in slurm.call("scontrol", "show", "job", job)
    ended_well.is_right()


def test_an_element_of_a_job_array_is_killed_and_submitted_again(run, slurm, ended_well):
    code, told = run.end(run.tomodask("prepare", run.recipe))
    assert code == 0, told
    script = script_of(run, "--array", 3)
    killed = f"{run.submit(script)}_2"

    def second_is_at_work() -> bool:
        assert killed in {job.id for job in slurm.jobs()}, "too late to hit it in the middle"
        return any(16 <= parse_block_id(block)[0] < 32 for block in run.done())  # the middle third

    wait_until(second_is_at_work)
    slurm.call("scancel", killed)
    wait_until(lambda: not slurm.jobs())
    code, told = run.end(run.tomodask("finalize", run.recipe))
    assert code == 3, told
    assert "2/3" in told
    run.submit(script, "--array=2")
    wait_until(lambda: not slurm.jobs())
    code, told = run.end(run.tomodask("finalize", run.recipe))
    assert code == 0, told
    ended_well.is_right()


# ---- bad input -------------------------------------------------------------------------------


def test_without_sbatch_on_the_path_the_ways_out_are_named(run):
    code, told = run.end(run.on_slurm(PATH=os.fspath(Path(sys.executable).parent)))
    assert code == 2, told
    assert "there is no sbatch on the path of this machine" in told
    assert "tomodask cluster script" in told
    assert "Traceback" not in told


def test_a_partition_that_does_not_exist_is_told_in_the_words_of_sbatch(run, slurm):
    code, told = run.end(run.on_slurm("cluster.jobqueue.queue=nowhere"))
    assert code == 2, told
    assert "sbatch: error: invalid partition specified: nowhere" in told
    assert "Traceback" not in told
    assert not run.run_folder.certificates.exists()


def test_jobs_that_never_start_are_told_with_what_the_queue_says(run, slurm):
    slurm.drain(*cluster.NODES)
    code, told = run.end(run.on_slurm("--wait", 5))
    assert code == 2, told
    assert "none of the 2 jobs has started a worker within 5 s" in told
    assert "PENDING Nodes required for job are DOWN, DRAINED" in told
    assert "Traceback" not in told
    assert not run.run_folder.certificates.exists()
    wait_until(lambda: not slurm.jobs(), patience=10)
