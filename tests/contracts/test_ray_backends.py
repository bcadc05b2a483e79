"""Every backend for rays keeps every law, and every operator passes or is refused by name."""

import pytest

from tomodask.errors import DeviceError
from tomodask.geometry import in_voxels
from tomodask.projectors import available_backends, available_ray_backends, load_ray_backend
from tomodask.projectors.choice import GpuBackend
from tomodask.testing_rays import (
    RAY_LAWS,
    UNMATCHED_LAWS,
    an_operator_passes_or_is_refused_by_name,
    ray_cases,
)


@pytest.mark.parametrize("backend", available_ray_backends())
@pytest.mark.parametrize("law", RAY_LAWS)
def test_backend_for_rays_keeps_the_law(law: str, backend: str) -> None:
    kind = load_ray_backend(backend)
    if isinstance(kind, GpuBackend) and not kind.has_gpu():
        with pytest.raises(DeviceError, match="finds no GPU here"):
            kind(in_voxels(*ray_cases()["cone"]), 1)
        return
    if backend != "astra" or law in UNMATCHED_LAWS:  # its pair is not matched
        RAY_LAWS[law](backend)


@pytest.mark.parametrize("case", ray_cases())
@pytest.mark.parametrize(
    "backend", list(dict.fromkeys(["auto", *available_backends(), *available_ray_backends()]))
)
def test_operator_passes_or_is_refused_by_name(backend: str, case: str) -> None:
    an_operator_passes_or_is_refused_by_name(backend, case)
