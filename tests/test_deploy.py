"""What deploy/ holds is what it says it is."""

import subprocess
from pathlib import Path

import pytest

DEPLOY = Path(__file__).parents[1] / "deploy"


@pytest.mark.parametrize("script", sorted(DEPLOY.glob("*.sbatch")), ids=lambda path: path.name)
def test_batch_scripts_are_bash_and_call_the_command(script):
    subprocess.run(["bash", "-n", str(script)], check=True)
    assert "tomodask run" in script.read_text()


def test_a_batch_script_hands_its_recipe_over(tmp_path):
    """Run it with a stand-in for the command, as Slurm would."""
    told = tmp_path / "told.txt"
    command = tmp_path / "tomodask"
    command.write_text(f'#!/bin/bash\necho "$@" > {told}\n')
    command.chmod(0o755)
    script, environment = str(DEPLOY / "one_node.sbatch"), {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    subprocess.run(["bash", script, "my recipe.yaml"], check=True, env=environment)
    assert told.read_text() == "run my recipe.yaml\n"
    assert subprocess.run(["bash", script], check=False, env=environment).returncode != 0


def test_everything_in_the_folder_is_named_in_its_readme():
    readme = (DEPLOY / "README.md").read_text()
    for path in DEPLOY.iterdir():
        assert path.name == "README.md" or path.name in readme
