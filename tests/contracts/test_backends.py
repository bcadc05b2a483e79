"""Every projector backend that is installed keeps every law."""

import pytest

from tomodask.projectors import available_backends
from tomodask.testing import PROJECTOR_LAWS


@pytest.mark.parametrize("backend", available_backends())
@pytest.mark.parametrize("law", PROJECTOR_LAWS)
def test_backend_keeps_the_law(law: str, backend: str) -> None:
    PROJECTOR_LAWS[law](backend)
