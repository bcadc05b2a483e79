"""A Slurm for the whole session, with an empty queue for each test."""

import os
from collections.abc import Iterator

import pytest

from tests.slurm import cluster


def demand_slurm() -> None:
    """Skip where Slurm can't be had; but where CI=true says that it must be there, fail."""
    if why := cluster.missing():
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(why)


@pytest.fixture(scope="session")
def slurm_session(tmp_path_factory) -> Iterator[cluster.Slurm]:
    demand_slurm()
    folder = tmp_path_factory.mktemp("slurm")
    slurm = cluster.start(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(slurm.conf))
        yield slurm
    cluster.stop(folder)


@pytest.fixture
def slurm(slurm_session) -> Iterator[cluster.Slurm]:
    """Two idle nodes and no job. Jobs and drained nodes that a test leaves do not outlive it."""
    slurm_session.clear()
    yield slurm_session
    slurm_session.clear()
