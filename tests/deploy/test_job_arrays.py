"""The job array scripts submit what they say, in the order that the work needs."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

DEPLOY = Path(__file__).parents[2] / "deploy"

# Stands in for sbatch, qsub and bsub: keeps the job with the environment it would run in.
QUEUE = """#!{python}
import json, os, pathlib, sys
folder = pathlib.Path(os.environ["JOBS"])
number = 101 + len(list(folder.glob("*.json")))
job = dict(options=sys.argv[1:], script=sys.stdin.read(), environment=dict(os.environ))
(folder / f"{{number}}.json").write_text(json.dumps(job))
name = pathlib.Path(sys.argv[0]).name
print({{"sbatch": f"{{number}};site", "qsub": f"{{number}}[].server"}}.get(
    name, f"Job <{{number}}> is submitted to queue <normal>."))
"""
TOMODASK = """#!{python}
import json, os, sys
with open(os.environ["CALLS"], "a") as file:
    file.write(json.dumps(sys.argv[1:]) + chr(10))
"""
SYSTEMS = {
    "slurm": ("sbatch", "SLURM_ARRAY_TASK_ID", "--array=1-3", r"--dependency=after\w+:(\S+)"),
    "pbs": ("qsub", "PBS_ARRAY_INDEX", "1-3", r"depend=after\w+:(\S+)"),
    "lsf": ("bsub", "LSB_JOBINDEX", "shards[1-3]", r"(?:done|ended)\((\S+)\)"),
}


def write_command(path, text):
    path.write_text(text.format(python=sys.executable))
    path.chmod(0o755)


@pytest.fixture
def submit(tmp_path):
    """Submits RECIPE by a script of deploy/array to a queue that keeps what it is given."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "jobs").mkdir()
    (tmp_path / "my recipe.yaml").touch()
    write_command(tmp_path / "bin" / "tomodask", TOMODASK)

    def submit(system, *arguments):
        write_command(tmp_path / "bin" / SYSTEMS[system][0], QUEUE)
        environment = {
            "PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin",
            "JOBS": str(tmp_path / "jobs"),
            "CALLS": str(tmp_path / "calls.jsonl"),
            "PBS_O_WORKDIR": str(tmp_path),
        }
        script = str(DEPLOY / "array" / f"{system}.sh")
        done = subprocess.run(
            ["bash", script, *arguments],
            cwd=tmp_path,
            env=environment,
            check=False,
            capture_output=True,
            text=True,
        )
        jobs = sorted((tmp_path / "jobs").glob("*.json"))
        return done, [json.loads(job.read_text()) for job in jobs]

    return submit


def run_job(job, **variables):
    """What the queue does with it when its turn comes."""
    subprocess.run(
        ["bash", "-s"],
        input=job["script"],
        env=job["environment"] | variables,
        check=True,
        text=True,
    )


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_element_is_called_between_prepare_and_finalize(submit, system, tmp_path):
    _, index, array_option, _ = SYSTEMS[system]
    done, (prepare, array, finalize) = submit(system, "my recipe.yaml", "3")
    assert done.returncode == 0, done.stderr
    assert array_option in array["options"]
    run_job(prepare)
    for element in (2, 1, 3):  # in any order
        run_job(array, **{index: str(element)})
    run_job(finalize)
    recipe = str(tmp_path / "my recipe.yaml")
    calls = [json.loads(line) for line in (tmp_path / "calls.jsonl").read_text().splitlines()]
    shards = [["run", recipe, "--shard", f"{element}/3"] for element in (2, 1, 3)]
    assert calls == [["prepare", recipe], *shards, ["finalize", recipe]]


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_array_waits_for_prepare_and_finalize_for_the_array(submit, system):
    *_, pattern = SYSTEMS[system]
    _, (prepare, array, finalize) = submit(system, "my recipe.yaml", "3")
    named = {"slurm": "{}", "pbs": "{}[].server", "lsf": "{}"}[system]
    waits = [re.search(pattern, " ".join(job["options"])) for job in (prepare, array, finalize)]
    assert [wait and wait[1] for wait in waits] == [None, named.format(101), named.format(102)]


@pytest.mark.parametrize("system", SYSTEMS)
def test_finalize_comes_after_failed_elements_too(submit, system):
    """It is the one that lists what is missing."""
    _, (_, array, finalize) = submit(system, "my recipe.yaml")
    assert re.search("afterok|done", " ".join(array["options"]))
    assert re.search("afterany|ended", " ".join(finalize["options"]))


@pytest.mark.parametrize("system", SYSTEMS)
def test_nothing_is_submitted_without_a_recipe(submit, system):
    done, jobs = submit(system)
    assert done.returncode != 0
    assert "RECIPE.yaml" in done.stderr
    assert not jobs
