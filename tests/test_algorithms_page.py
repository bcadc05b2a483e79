"""docs/algorithms.md does what it says."""

from pathlib import Path

import numpy as np

import tomodask as td
from tomodask.reconstruct import ALGORITHMS

PAGE = (Path(__file__).parents[1] / "docs" / "algorithms.md").read_text()


def test_the_blocks_of_the_page_run(capsys):
    names: dict = {}
    for block in PAGE.split("```python")[1:]:
        exec(compile(block.split("```")[0], "algorithms.md", "exec"), names)
    error = np.linalg.norm(names["x"] - names["truth"])
    assert error < 0.1 * np.linalg.norm(names["truth"])
    assert "[" in capsys.readouterr().out


def test_its_table_has_the_fields_of_the_classes():
    for line in PAGE.splitlines():
        if not line.startswith("| `"):
            continue
        name, _, told = (cell.strip() for cell in line.strip("|").split("|"))
        kind = getattr(td, name.strip("`"))
        assert kind in ALGORITHMS.values()
        fields = set(kind.__dataclass_fields__) - {"num_iterations", "circle"}
        expected = {field.strip("`") for field in told.split(", ")} - {"box"}
        if "box" in told:
            expected |= {"min_constraint", "max_constraint"}
        assert fields == expected
