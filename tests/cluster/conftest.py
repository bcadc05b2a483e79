"""Fixtures of the tests of clusters."""

from pathlib import Path

import pytest
from distributed import Security

from tomodask.cluster.certificates import make_certificates


@pytest.fixture(scope="session")
def key_of_another(tmp_path_factory) -> Security:
    """A good key, but of another run."""
    return make_certificates(Path(tmp_path_factory.mktemp("another")) / "tls")
