"""The jobqueue files in deploy/ are accepted by dask-jobqueue and say what they claim."""

import os
import subprocess
import sys
import warnings
from pathlib import Path

import dask
import pytest
import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"
SITES = sorted((DEPLOY / "jobqueue").glob("*.yaml"))


@pytest.fixture
def jobqueue():
    return pytest.importorskip("dask_jobqueue")


def job_script(jobqueue, site):
    """What dask-jobqueue would hand to the queue at a site; no queue is needed for it."""
    ((kind, options),) = dask.config.collect([str(site)])["jobqueue"].items()
    names = {"htcondor": "HTCondorCluster"}
    cluster_class = getattr(jobqueue, names.get(kind, f"{kind.upper()}Cluster"))
    settings = dask.config.merge(dask.config.get(f"jobqueue.{kind}"), options)
    here = {"host": "127.0.0.1", "dashboard": False, "dashboard_address": "127.0.0.1:0"}
    with (
        dask.config.set({f"jobqueue.{kind}": settings}),
        cluster_class(scheduler_options=here) as cluster,
    ):
        return kind, options, cluster.job_script()


@pytest.mark.parametrize("site", SITES, ids=lambda site: site.stem)
def test_dask_jobqueue_knows_every_key_of_a_site(jobqueue, site):
    tree = yaml.safe_load(site.read_text())["jobqueue"]
    defaults = yaml.safe_load((Path(jobqueue.__file__).parent / "jobqueue.yaml").read_text())
    for kind, options in tree.items():
        assert set(options) <= set(defaults["jobqueue"][kind])
        assert not {"extra", "job-extra", "env-extra"} & set(options), "these names are retired"
        assert options["death-timeout"] >= 300
        assert isinstance(options.get("walltime", ""), str), "unquoted, YAML reads a number"


@pytest.mark.parametrize("site", SITES, ids=lambda site: site.stem)
def test_a_job_script_can_be_made_of_a_site(jobqueue, site, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # dask-jobqueue warns of old names and of what it can't ask
        kind, options, script = job_script(jobqueue, site)
    assert f"--local-directory {options['local-directory']}" in script  # the job's shell fills it
    directives = options["job-extra-directives"]
    if kind == "htcondor":
        assert all(f"{key} = {value}" in script for key, value in directives.items())
        return
    subprocess.run(["bash", "-n", "/dev/stdin"], input=script, text=True, check=True)
    mark = {"slurm": "#SBATCH", "pbs": "#PBS", "lsf": "#BSUB", "sge": "#$", "oar": "#OAR"}[kind]
    lines = [line for line in script.splitlines() if line.startswith(mark)]
    assert all(f"{mark} {directive}" in lines for directive in directives)
    for skipped in options.get("job-directives-skip", ()):
        kept = [line for line in lines if skipped in line]
        assert kept == [f"{mark} {text}" for text in directives if skipped in text]
    assert any(options["walltime"] in line for line in lines)


def test_variables_of_a_site_are_left_to_the_job(jobqueue):
    """TMPDIR is set on most login nodes, and means another folder there."""
    code = (
        "from dask_jobqueue import SGECluster\n"
        "here = {'host': '127.0.0.1', 'dashboard': False}\n"
        "print(SGECluster(scheduler_options=here)._dummy_job.job_script())"
    )
    environment = os.environ | {
        "DASK_CONFIG": str(DEPLOY / "jobqueue" / "sge.yaml"),
        "TMPDIR": "/tmp",
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True
    )
    assert "--local-directory $TMPDIR" in done.stdout
