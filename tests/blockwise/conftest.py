"""A workspace in a folder of its own."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tomodask.blockwise import StoredArray, Workspace, open_workspace
from tomodask.blockwise.passes import load

BUDGET = 2**18  # of formulas: an array of 12 x 40 x 48 has two blocks, of four pieces each


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Workspace]:
    with open_workspace(tmp_path / "scratch", "test", BUDGET) as made:
        yield made


@pytest.fixture
def put(place):
    """The function that stores an array."""

    def put(values: np.ndarray, where: Workspace = place) -> StoredArray:
        return load(where, lambda a, b: values[a:b], values.shape, "array", inline=True)

    return put
