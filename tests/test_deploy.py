"""What deploy/ holds is what it says it is."""

import subprocess
from pathlib import Path

import pytest

DEPLOY = Path(__file__).parents[1] / "deploy"


@pytest.mark.parametrize("script", sorted(DEPLOY.glob("*.sbatch")), ids=lambda path: path.name)
def test_batch_scripts_are_bash_and_call_the_command(script):
    subprocess.run(["bash", "-n", str(script)], check=True)
    assert "tomodask run" in script.read_text()


def test_a_batch_script_starts_a_run_with_a_worker_for_eight_cores(tmp_path):
    """Run it with a stand-in for the command, as Slurm would."""
    told = tmp_path / "told.txt"
    command = tmp_path / "tomodask"
    command.write_text(f'#!/bin/bash\necho "$@" > {told}\n')
    command.chmod(0o755)
    for cores, workers in ((4, 1), (16, 2), (64, 8)):
        subprocess.run(
            ["bash", str(DEPLOY / "one_node.sbatch"), "recipe.yaml"],
            check=True,
            env={"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_CPUS_ON_NODE": str(cores)},
        )
        assert told.read_text().split() == ["run", "recipe.yaml", "--workers", str(workers)]


def test_everything_in_the_folder_is_named_in_its_readme():
    readme = (DEPLOY / "README.md").read_text()
    for path in DEPLOY.iterdir():
        assert path.name == "README.md" or path.name in readme
