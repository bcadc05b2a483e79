"""Fixtures of the geometry tests."""

import pytest

from tests.geometry.kinds import kinds
from tomodask.geometry import ProjectionGeometry, VolumeGeometry, volume_vec


@pytest.fixture(params=list(kinds()))
def projections(request) -> ProjectionGeometry:
    return kinds()[request.param]


@pytest.fixture
def sheared() -> VolumeGeometry:
    return volume_vec(
        shape=(7, 8, 9), pos=(0.5, -1, 1), w=(1, 0.1, 0), v=(0, 0.9, 0.2), u=(0.1, 0, 1.1)
    )
