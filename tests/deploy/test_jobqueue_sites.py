"""The jobqueue files in deploy/ are accepted by dask-jobqueue and say what they claim."""

import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import dask
import pytest
import yaml

from tomodask.cluster.certificates import make_certificates
from tomodask.cluster.joboptions import JobOptions
from tomodask.runfolder import RunFolder

DEPLOY = Path(__file__).parents[2] / "deploy"
SITES = sorted((DEPLOY / "jobqueue").glob("*.yaml"))


@pytest.fixture
def jobqueue():
    return pytest.importorskip("dask_jobqueue")


def job_options(site, folder):
    """The jobs that the command in the head of a site's file asks for."""
    command = re.search(
        r"`tomodask run RECIPE --cluster (\S+?)(?: --gpus-per-job (\d+))?`", site.read_text()
    )
    kind, gpus = command.groups()
    # Names of interfaces are the site's; all else is its file's.
    here = {"scheduler_options": {"host": "127.0.0.1"}}
    return JobOptions(kind, 2, RunFolder.of(folder / "foam.zarr"), int(gpus or 0), here)


@pytest.fixture(scope="module", params=SITES, ids=lambda site: site.stem)
def job(request, tmp_path_factory):
    """Kind, settings and job script of a run at a site; no queue is needed for it."""
    pytest.importorskip("dask_jobqueue")
    site, folder = request.param, tmp_path_factory.mktemp("run")
    options = job_options(site, folder)
    settings = dask.config.collect([str(site)])["jobqueue"][options.kind]
    name = f"jobqueue.{options.kind}"
    assert options.cluster_class, "its import brings dask-jobqueue's defaults"
    options.folder.make()
    security = make_certificates(options.folder.certificates)
    with (
        warnings.catch_warnings(),
        dask.config.set({name: dask.config.merge(dask.config.get(name), settings)}),
    ):
        warnings.simplefilter("error")  # dask-jobqueue warns of old names and of what it can't ask
        cluster = options.cluster_class(security=security, protocol="tls://", **options.keywords())
        with cluster:
            script = cluster.job_script()
    script = re.sub(r"tls://127.0.0.1:\d+", "tls://10.0.0.1:8786", script)
    script = script.replace(str(folder), "/data/me")
    script = script.replace(sys.executable, "/data/me/venv/bin/python")
    return site.stem, options.kind, settings, script


@pytest.mark.parametrize("site", SITES, ids=lambda site: site.stem)
def test_dask_jobqueue_knows_every_key_of_a_site(jobqueue, site):
    tree = yaml.safe_load(site.read_text())["jobqueue"]
    defaults = yaml.safe_load((Path(jobqueue.__file__).parent / "jobqueue.yaml").read_text())
    for kind, options in tree.items():
        assert set(options) <= set(defaults["jobqueue"][kind])
        assert not {"extra", "job-extra", "env-extra"} & set(options), "these names are retired"
        assert options["death-timeout"] >= 300
        assert isinstance(options.get("walltime", ""), str), "unquoted, YAML may read a number"


def test_a_job_script_says_what_the_site_says(job):
    _, kind, options, script = job
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


def test_a_job_script_is_the_one_that_was_looked_at(job):
    """Written anew with REWRITE_TEXTS=1; then read what changed."""
    name, _, _, script = job
    kept = Path(__file__).parent / "job_scripts" / f"{name}.txt"
    if os.environ.get("REWRITE_TEXTS"):
        kept.write_text(script)
    assert script == kept.read_text()


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
