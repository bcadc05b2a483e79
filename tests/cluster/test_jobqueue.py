"""Workers as batch jobs: what is asked of each system, and what is refused before anything starts.

The scripts are compared with checked-in text; the tests of a real Slurm are in tests/slurm.
"""

import itertools
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import dask
import pytest
from distributed import Security

from tomodask.cluster import jobqueue
from tomodask.cluster.joboptions import JobOptions, job_name
from tomodask.cluster.jobqueue import BatchCluster, batch_cluster
from tomodask.cluster.local import Workers
from tomodask.cluster.systems import SYSTEMS, BatchSystem
from tomodask.errors import InputError, MissingPackageError
from tomodask.runfolder import RunFolder

JOBS = Path(__file__).parent / "jobs"
FOLDER = RunFolder(Path("sample 7.zarr.run"))
JOB = {"cores": 16, "memory": "64GB", "python": "python", "log_directory": "logs"}
ASKED = {
    "slurm": {"queue": "cpu", "walltime": "04:00:00"},
    "pbs": {"queue": "work", "walltime": "04:00:00"},
    "lsf": {"queue": "normal", "walltime": "04:00", "ncpus": 16, "mem": 64 * 10**9},
    "sge": {"queue": "all.q", "walltime": "04:00:00", "resource_spec": "h_vmem=64G"},
    "oar": {"queue": "default", "walltime": "04:00:00"},
    "htcondor": {"disk": "10GB"},
}
GPUS = ("slurm", "pbs", "lsf", "htcondor")


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # dask-jobqueue makes the folder of the logs


def options(kind: str = "slurm", gpus: int = 0, **settings) -> JobOptions:
    chosen = {**JOB, **ASKED[kind], **settings}
    return JobOptions(kind, 2, FOLDER, gpus_per_job=gpus, settings=chosen)


@pytest.mark.parametrize(
    ("kind", "gpus"), [*((kind, 0) for kind in SYSTEMS), *((kind, 4) for kind in GPUS)]
)
def test_the_job_of_each_system_is_the_one_that_was_looked_at(kind, gpus):
    files = dict.fromkeys(("tls_ca_file", "tls_worker_cert"), "tls/certificate.pem")
    security = Security(**files, tls_worker_key="tls/key.pem", require_encryption=True)
    script = options(kind, gpus).job_script("tls://10.0.0.1:8786", security)
    expected = JOBS / f"{kind}{'_gpus' if gpus else ''}.sh"
    assert script == expected.read_text(), f"look at it, then write it to {expected}"
    assert "tomodask.cluster.worker tls://10.0.0.1:8786" in script
    assert "tomodask-sample_7" in script
    assert f"--nworkers {gpus or 4}" in script


def test_a_job_is_cut_into_workers_evenly_and_a_device_has_one():
    assert options().workers == Workers(8, 4, 16 * 10**9)
    assert options(processes=2).workers == Workers(4, 8, 32 * 10**9)
    assert options(gpus=4).workers == Workers(8, 4, 16 * 10**9)
    assert options(cores=2).workers == Workers(2, 2, 64 * 10**9)
    with pytest.raises(InputError, match="8 workers of a job share 2 cores"):
        _ = options(gpus=8, cores=2).workers


def test_the_users_own_file_is_heeded_and_the_run_goes_over_it():
    own = {"cores": 8, "memory": "16GB", "walltime": "1-00:00:00", "worker-extra-args": ["--x"]}
    with dask.config.set(
        {"jobqueue.slurm": {**own, "job-extra-directives": ["--gres=gpu:a100:2"]}}
    ):
        plain = JobOptions("slurm", 1, FOLDER, gpus_per_job=2)
        assert plain.workers == Workers(2, 4, 8 * 10**9)
        assert plain.walltime_s == 86400
        assert plain.keywords()["worker_extra_args"][0] == "--x"
        # the site's own asks for the GPUs
        asked = plain.keywords()["job_extra_directives"]
        assert asked == ["--gres=gpu:a100:2", "--open-mode=append"]
        over = JobOptions("slurm", 1, FOLDER, settings={"cores": 4, "walltime": "90"})
        assert over.workers == Workers(1, 4, 16 * 10**9)
        assert over.walltime_s == 90 * 60


@pytest.mark.parametrize(("key", "hint"), [("wall_time", "walltime"), ("que", "queue")])
def test_an_unknown_setting_is_refused_with_the_nearest_one(key, hint):
    with pytest.raises(InputError, match=rf"slurm has no setting '{key}': did you mean '{hint}'"):
        options(**{key: 1}).keywords()


@pytest.mark.parametrize("kind", SYSTEMS)
def test_a_misspelt_setting_in_the_users_file_is_told(kind, caplog):
    options(kind).keywords()
    assert caplog.records == []  # nothing of dask-jobqueue's own file
    with dask.config.set({f"jobqueue.{kind}.death-timeouts": 5}):
        options(kind).keywords()
    (told,) = caplog.records
    words = f"jobqueue.{kind}.death_timeouts of your jobqueue.yaml"
    assert words in told.getMessage()
    assert "did you mean 'death_timeout'" in told.getMessage()


def test_what_is_ours_to_set_is_no_setting():
    for key in ("security", "worker_command", "n_workers"):
        with pytest.raises(InputError, match=key):
            options(**{key: "x"}).keywords()


def test_a_job_without_cores_or_memory_is_refused_before_anything_starts():
    with pytest.raises(InputError, match=r"needs memory: give .*memory=64GB"):
        _ = JobOptions("pbs", 1, FOLDER, settings={"cores": 4}).workers


def test_gpus_of_a_site_that_differs_must_be_asked_for_by_the_user():
    with pytest.raises(InputError, match=r"sge asks for GPUs.*job_extra_directives"):
        options("sge", 2).keywords()
    told = options("sge", 2, job_extra_directives=["-l gpu=2"])
    assert "#$ -l gpu=2" in told.job_script("tls://s:1")


def test_without_dask_jobqueue_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "dask_jobqueue", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'tomodask\[hpc\]'"):
        _ = options().workers


def test_without_the_command_that_submits_it_is_said_where_to_go(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    told = r"no sbatch on the path.*tomodask cluster script"
    with pytest.raises(InputError, match=told), batch_cluster(options()):
        pass
    assert not FOLDER.path.exists()


def test_a_path_that_job_scripts_can_not_hold_is_refused(monkeypatch):
    monkeypatch.setattr(BatchSystem, "require", lambda self: None)
    with pytest.raises(InputError, match=r"sample 7.*without spaces"), batch_cluster(options()):
        pass


@pytest.mark.parametrize(
    ("output", "name"),
    [("a/sample 7.zarr", "sample_7"), ("scan.ome.zarr", "scan"), ("x" * 99, "x" * 40)],
)
def test_jobs_are_named_after_the_volume(output, name):
    assert job_name(RunFolder.of(output)) == f"tomodask-{name}"


# ---- jobs that are lost ----------------------------------------------------------------------


class Queue:
    """A batch system's answers, and a cluster of dask-jobqueue that submits to it."""

    def __init__(self, ids):
        self.states = dict.fromkeys(ids, "RUNNING")
        self.workers = {f"w-{n}": SimpleNamespace(job_id=name) for n, name in enumerate(ids)}
        self.connected = [*self.workers]
        self.scaled = 0

    def scheduler_info(self, n_workers):
        return {"workers": {f"tls://{name}": {"name": name} for name in self.connected}}

    def sync(self, function, *arguments):
        with pytest.raises(StopIteration):
            function(*arguments).send(None)

    def scale(self, jobs):
        self.scaled += 1
        for number in range(jobs):
            self.workers.setdefault(f"w-{number}", SimpleNamespace(job_id=f"9{number}"))


@pytest.fixture
def queue(monkeypatch):
    queue = Queue(["11", "12"])
    monkeypatch.setattr(BatchSystem, "states", lambda self, ids: queue.states)
    return queue


@pytest.fixture
def batch(queue):
    return BatchCluster(options(), queue, queue, [])


def test_a_job_that_is_gone_is_replaced_at_the_second_look(queue, batch):
    batch._heal()
    assert queue.scaled == 0
    del queue.states["12"]
    queue.connected.remove("w-1")
    batch._heal()
    assert queue.scaled == 0
    batch._heal()
    assert queue.scaled == 1
    assert batch.jobs() == ["11", "91"]


def test_a_job_that_waits_again_or_whose_worker_is_there_is_not_replaced(queue, batch):
    queue.states["12"] = "PENDING BeginTime"  # requeued
    queue.connected = ["w-0-1"]  # one of two processes of the first job
    del queue.states["11"]  # and a queue that forgets
    for _ in range(3):
        batch._heal()
    assert queue.scaled == 0


def test_a_job_that_was_refused_is_submitted_again(queue, batch):
    queue.workers["w-1"].job_id = None
    queue.connected.remove("w-1")
    batch._heal()
    batch._heal()
    assert batch.jobs() == ["11", "91"]


def test_a_queue_that_does_not_answer_changes_nothing(queue, batch):
    queue.states, queue.connected = None, []
    for _ in range(3):
        batch._heal()
    assert queue.scaled == 0
    assert batch.words() == "squeue doesn't answer"


def test_while_there_are_no_workers_the_queue_is_quoted(queue, batch):
    queue.connected = []
    queue.states["11"] = "PENDING Resources"
    batch._heal()
    assert re.fullmatch("Slurm says: 11 PENDING Resources; 12 RUNNING", batch.said)


def test_jobs_that_end_at_once_are_submitted_later_and_later(queue, batch, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(jobqueue.time, "monotonic", lambda: now[0])
    queue.states, queue.connected = {}, []
    submitted = []
    for _ in range(200):
        before = queue.scaled
        batch._heal()
        if queue.scaled > before:
            submitted.append(now[0])
        now[0] += jobqueue.HEAL_SECONDS
    pauses = [b - a for a, b in itertools.pairwise(submitted)]
    assert pauses == sorted(pauses)
    assert pauses[0] <= 30
    assert len(submitted) < 8


def test_where_all_jobs_have_ended_nobody_waits(queue, batch, tmp_path):
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "job-11.err").write_text("line one\npython: command not found\n")
    object.__setattr__(batch.options, "folder", SimpleNamespace(logs=logs))
    queue.nthreads = dict
    batch._refuse_if_all_ended()
    queue.states = {}
    batch._refuse_if_all_ended()
    with pytest.raises(InputError, match=r"all 2 jobs have ended.*python: command not found"):
        batch._refuse_if_all_ended()
