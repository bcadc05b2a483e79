"""Fixtures that every test may use."""

import os
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of measured scans; tests that need it say why they were skipped without it."""
    named = os.environ.get("TOMODASK_DATA")
    if not named:
        pytest.skip("TOMODASK_DATA does not name the folder of measured scans")
    folder = Path(named)
    if not folder.is_dir():
        pytest.fail(f"TOMODASK_DATA={named} is not a folder")
    return folder
