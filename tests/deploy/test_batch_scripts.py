"""The batch scripts in deploy/batch are what the commands in its README print."""

import os
import re
import sys
from pathlib import Path

import pytest

from tomodask.cli import execute

DEPLOY = Path(__file__).parents[2] / "deploy"
ROW = re.compile(r"\| `(\w+\.sh)` \| `(--system [^`]*)` \|")
COMMANDS = dict(ROW.findall((DEPLOY / "README.md").read_text()))


def test_each_script_has_its_command():
    assert set(COMMANDS) == {path.name for path in (DEPLOY / "batch").iterdir()}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_script_is_what_its_command_prints(name, tmp_path, monkeypatch, capsys):
    """Written anew with REWRITE_TEXTS=1; then read what changed."""
    monkeypatch.chdir(tmp_path)
    Path("recipe.yaml").write_text("source: scan.h5\noutput: volume.ome.zarr\n")
    capsys.readouterr()
    assert execute(["cluster", "script", *COMMANDS[name].split(), "recipe.yaml"]) == 0
    text = capsys.readouterr().out.replace(str(tmp_path), "/data/me")
    text = text.replace(sys.executable, "/data/me/venv/bin/python")
    path = DEPLOY / "batch" / name
    if os.environ.get("REWRITE_TEXTS"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert path.read_text() == text
