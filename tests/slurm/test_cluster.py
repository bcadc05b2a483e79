"""The Slurm of the tests itself: starts quickly, runs jobs on both nodes, stops without a trace."""

import subprocess
import sys
import time

import pytest

from tests.slurm import cluster
from tests.slurm.cluster import NODES, Slurm, SlurmError
from tests.slurm.conftest import demand_slurm

pytestmark = pytest.mark.batch


def wait_until(holds) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_both_nodes_are_idle_and_no_job_waits(slurm):
    assert slurm.nodes() == dict.fromkeys(NODES, "idle")
    assert slurm.jobs() == []


def test_a_batch_job_runs_on_each_node(slurm, tmp_path):
    told = [tmp_path / name for name in NODES]
    for file in told:
        slurm.call("sbatch", "-w", file.name, "-o", file, "--wrap", "echo $SLURMD_NODENAME")
    wait_until(lambda: not slurm.jobs())
    assert [file.read_text().strip() for file in told] == list(NODES)


def test_one_job_may_span_both_nodes(slurm, tmp_path):
    told = tmp_path / "told"
    slurm.call("sbatch", "-N2", "-o", told, "--wrap", "srun printenv SLURMD_NODENAME")
    wait_until(lambda: not slurm.jobs())
    assert sorted(told.read_text().split()) == list(NODES)


def test_a_cancelled_job_leaves_no_process(slurm, tmp_path):
    """Not even one that lets SIGTERM pass, below a batch script that dies of it."""
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf')"
    told = tmp_path / "told"
    script = f'{sys.executable} -uc "{deaf}; time.sleep(600)"; echo'
    job = slurm.call("sbatch", "--parsable", "-o", told, "--wrap", script)
    wait_until(lambda: told.exists() and "deaf" in told.read_text())
    slurm.call("scancel", job)
    wait_until(lambda: not slurm.jobs())
    names = {process.name() for process in cluster.processes(slurm.folder)}
    assert names == {"munged", "slurmctld", "slurmd"}


def test_a_drained_node_starts_no_job_and_is_taken_back(slurm):
    slurm.drain(*NODES)
    slurm.call("sbatch", "-o", "/dev/null", "--wrap", "true")
    wait_until(lambda: "DRAINED" in slurm.jobs()[0].reason)
    slurm.clear()
    assert slurm.jobs() == []
    assert slurm.nodes() == dict.fromkeys(NODES, "idle")


def test_an_error_has_slurms_own_words(slurm):
    with pytest.raises(SlurmError, match="invalid partition specified: nowhere"):
        slurm.call("sbatch", "-p", "nowhere", "--wrap", "true")


@pytest.fixture
def other_folder(tmp_path):
    """For a second Slurm, which ends with the test."""
    yield tmp_path / "other"
    cluster.stop(tmp_path / "other")


def test_it_starts_beside_another_in_less_than_five_seconds(slurm, other_folder):
    began = time.monotonic()
    other = cluster.start(other_folder)
    assert time.monotonic() - began < 5
    other.call("sbatch", "-o", "/dev/null", "--wrap", "sleep 600")
    assert slurm.jobs() == []
    assert len(other.jobs()) == 1


def test_stopping_leaves_no_process_even_of_a_running_job(slurm, other_folder, tmp_path):
    """By the script, as one would at a prompt."""
    script = [sys.executable, cluster.__file__]
    started = subprocess.run(
        [*script, "start", other_folder], capture_output=True, text=True, check=True
    )
    other = Slurm(other_folder)
    assert started.stdout.strip() == str(other.conf)
    told = tmp_path / "told"
    other.call("sbatch", "-o", told, "--wrap", "echo runs; sleep 600")
    wait_until(lambda: told.exists() and told.read_text())
    assert "slurm_script" in {process.name() for process in cluster.processes(other_folder)}
    subprocess.run([*script, "stop", other_folder], check=True)
    assert list(cluster.processes(other_folder)) == []
    assert list(cluster.processes(slurm.folder)), "it stopped its neighbour too"


def test_what_is_missing_is_said_and_fails_where_ci_demands_it(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    told = "no munged, slurmctld, slurmd, sbatch on the path: apt-get install"
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match=told):
        demand_slurm()
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match=told):
        demand_slurm()
