"""README's section "On a cluster", followed word for word on a Slurm of two nodes."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"
SECTION = README.read_text().partition("## On a cluster\n")[2].partition("\n## ")[0]
INSTALL, FIRST_RUN, MEANWHILE, LATER = re.findall(r"```\n(.*?)```", SECTION, re.DOTALL)
RUN = "tomodask run recipe.yaml --cluster slurm --jobs 2"

# Read by the driver that is to be stopped: it submits slowly, so that nobody has to hurry.
SLOWLY = """
import time
import tomodask.cluster.run as run
submit = run._Window._submit
def slowly(*arguments):
    time.sleep(4)
    submit(*arguments)
run._Window._submit = slowly
"""

pytestmark = pytest.mark.batch


def shell(text: str, folder: Path) -> subprocess.CompletedProcess:
    """Type it into a shell that stops where a command fails; `tomodask` is on the path."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text],
        cwd=folder,
        env=os.environ | {"PATH": path},
        check=False,
        capture_output=True,
        text=True,
    )


def followed(text: str, folder: Path) -> str:
    """What the commands printed; each must end well."""
    done = shell(text, folder)
    assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def newcomer(slurm_session, tmp_path_factory) -> Path:
    """The folder of somebody who has come as far as the first run."""
    folder = tmp_path_factory.mktemp("newcomer")
    followed(FIRST_RUN, folder)
    return folder


def wait_for(holds, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_the_section_is_a_page_and_begins_with_what_it_needs():
    assert len(SECTION.splitlines()) <= 45
    assert RUN in FIRST_RUN.splitlines()
    assert [line.split()[1] for line in MEANWHILE.splitlines()] == ["status", "cancel", "resume"]
    assert INSTALL.startswith("bash deploy/wheelhouse.sh ")


def test_the_first_run_makes_the_bytes_of_a_local_run(newcomer, slurm, bytes_of):
    followed("tomodask run recipe.yaml output=local.zarr", newcomer)
    assert bytes_of(newcomer / "foam.zarr") == bytes_of(newcomer / "local.zarr")
    assert slurm.jobs() == [], "its jobs are gone with it"


def test_a_run_is_asked_stopped_and_goes_on_meanwhile(newcomer, slurm, bytes_of):
    whole = bytes_of(newcomer / "foam.zarr")
    followed("rm -r foam.*", newcomer)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    (newcomer / "slow").mkdir()
    (newcomer / "slow" / "sitecustomize.py").write_text(SLOWLY)
    python_path = os.pathsep.join(
        filter(None, [str(newcomer / "slow"), os.environ.get("PYTHONPATH", "")])
    )
    environment = os.environ | {"PATH": path, "PYTHONPATH": python_path}
    run = subprocess.Popen(RUN.split(), cwd=newcomer, env=environment, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: [job.state for job in slurm.jobs()] == ["RUNNING"] * 2)
        assert {job.node for job in slurm.jobs()} == {"n1", "n2"}
        assert {job.name for job in slurm.jobs()} == {"tomodask-foam"}
        said = followed(MEANWHILE, newcomer)
    finally:
        run.terminate()
        run.wait(60)
    assert "running" in said
    assert bytes_of(newcomer / "foam.zarr") == whole


def test_one_job_and_a_job_array_make_the_same_volume(newcomer, slurm, bytes_of):
    followed(LATER, newcomer)
    whole = bytes_of(newcomer / "foam.zarr")
    assert whole
    assert bytes_of(newcomer / "one.zarr") == whole
    assert bytes_of(newcomer / "array.zarr") == whole


def test_a_command_that_fails_would_be_noticed(tmp_path):
    with pytest.raises(AssertionError, match="no recipe"):
        followed("tomodask run nothing.yaml || { echo no recipe; false; }\necho done", tmp_path)
