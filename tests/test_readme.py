"""What README claims is so: its tree, its commands, its example and its figures."""

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from tomodask import steps
from tomodask.cli import COMMANDS, GROUPS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_the_tree_is_the_tree():
    tree = README.split("## The tree")[1].split("```")[1]
    named = re.findall(r"(\w+(?:\.py|/))", tree)
    assert len(named) > 12
    for name in named:
        places = [ROOT / name, ROOT / "tomodask" / name, ROOT / "tomodask" / "cli" / name]
        assert any(place.exists() for place in places), f"README's tree names {name}"


def test_every_command_named_exists_and_every_command_is_named():
    known = {command.__name__ for command in COMMANDS}
    assert set(re.findall(r"`?(?<!from )tomodask (\w+) ", README)) - {"as"} <= known | {*GROUPS}
    for name in known:
        assert re.search(rf"\b{name}\b", README), f"README does not name the command {name}"
    for group, commands in GROUPS.items():
        names = {command.__name__ for command in commands}
        assert set(re.findall(rf"tomodask {group} (\w+)", README)) <= names


def test_files_and_targets_named_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"`?make ([\w-]+)", README):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    for link in re.findall(r"\]\(([\w/.-]+)\)", README):
        assert (ROOT / link).exists(), link


def test_the_figures_are_those_that_were_measured():
    spec = importlib.util.spec_from_file_location("readme", ROOT / "benchmarks" / "readme.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.speed_section() in README, "run `python benchmarks/readme.py`"


def test_the_python_example_runs(raw_file, tmp_path, monkeypatch):
    (tmp_path / "scan.h5").write_bytes(raw_file.path.read_bytes())
    monkeypatch.chdir(tmp_path)
    example = README.split("```python")[1].split("```")[0]
    names: dict = {}
    exec(compile(example, "README.md", "exec"), names)
    assert isinstance(names["volume"], xr.Dataset)
    assert names["pore"].dims == ("z", "y", "x")


def test_the_geometry_and_the_algorithm_written_in_ten_lines_each_reconstruct():
    example = README.split("```python")[2].split("```")[0]
    names: dict = {}
    exec(compile(example, "README.md", "exec"), names)
    A, x, y = names["A"], names["x"], names["y"]
    truth = names["chiral_ellipsoids"](18.0).volume(A.volume)
    assert np.linalg.norm(x - truth) < 0.15 * np.linalg.norm(truth)  # the edges of ellipsoids
    assert np.linalg.norm(A(x) - y) < 0.06 * np.linalg.norm(y)
    geometry, algorithm = example.split("def sirt")
    for part in (geometry.split("rng, angles")[1], algorithm):
        assert len([line for line in part.splitlines() if line.strip()]) <= 12
    aligned = names["td"].operator(
        A.volume, names["td"].parallel(angles=names["angles"], shape=(48, 80))
    )
    found = names["sirt"](y, aligned, 5)
    assert np.linalg.norm(found - truth) > 0.4 * np.linalg.norm(truth), "tilt and offset matter"


def test_the_functions_of_steps_are_the_commands():
    grouped = {f"{group}_{c.__name__}" for group, commands in GROUPS.items() for c in commands}
    assert set(steps.__all__) == {command.__name__ for command in COMMANDS} | grouped


def test_the_algorithm_in_contributing_is_one(rng):
    """The worked example is run as it stands there, on a projector of its own."""
    from tomodask.geometry import Box, ParallelBeam
    from tomodask.phantom import disc_image, disc_sinogram
    from tomodask.projectors import make_projector

    text = (ROOT / "CONTRIBUTING.md").read_text()
    code = text.split("```python")[1].split("```")[0]
    code = "\n".join(line.removeprefix("   ") for line in code.splitlines())
    prelude = (
        "from dataclasses import dataclass\nfrom typing import Any\n"
        "from tomodask.geometry import ParallelBeam\n"
        "from tomodask.reconstruct import LinearMap, Options, Problem\n"
    )
    names: dict = {}
    exec(compile(prelude + code, "CONTRIBUTING.md", "exec"), names)
    angles = np.linspace(0, np.pi, 40, endpoint=False)
    A = make_projector(
        Box((0, 0, 0), (1, 32, 32)), ParallelBeam(angles, 1, 32, center_of_rotation=15.5)
    )
    y = disc_sinogram(angles, 32, 15.5, radius=9)[None]
    seen = []
    solve = names["Landweber"](num_iterations=60, step=5e-4)
    found = solve(y, A, callbacks=[lambda iteration, x, norm: seen.append(norm)])
    assert len(seen) == 60
    truth = disc_image(32, 32, 9)
    assert np.linalg.norm(found[0] - truth) < 0.3 * np.linalg.norm(truth)
    assert np.linalg.norm(A(found) - y) < 0.1 * np.linalg.norm(y)


@pytest.mark.parametrize("line", ["make demo", "make test"])
def test_the_two_commands_stand_on_the_first_screen(line):
    assert line in "\n".join(README.splitlines()[:20])
