"""What deploy/ holds is what it says it is."""

import re
import subprocess
from pathlib import Path

import pytest

DEPLOY = Path(__file__).parents[2] / "deploy"
SCRIPTS = sorted([*DEPLOY.glob("**/*.sh"), *DEPLOY.glob("**/*.sbatch")])


def relative(path):
    return str(path.relative_to(DEPLOY))


@pytest.mark.parametrize("script", SCRIPTS, ids=relative)
def test_scripts_are_bash_and_stop_at_the_first_error(script):
    subprocess.run(["bash", "-n", str(script)], check=True)
    assert re.search(r"^set -\w*eu", script.read_text(), re.MULTILINE)


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
    for path in DEPLOY.rglob("*"):
        assert path.name in readme or path.name == "README.md", relative(path)


def test_the_package_uses_nothing_of_the_folder():
    package = DEPLOY.parent / "tomodask"
    for path in package.rglob("*.py"):
        assert not re.search(r"deploy/|[\"']deploy[\"']", path.read_text()), path
