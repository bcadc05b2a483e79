"""Choosing, loading and refusing; what A and A.T compute is held in tests/contracts."""

import subprocess
import sys

import numpy as np
import pytest

from tomodask.errors import GeometryError, InputError, MissingPackageError
from tomodask.geometry import Box, ParallelBeam
from tomodask.projectors import (
    BACKENDS,
    available_backends,
    load_backend,
    make_projector,
    memory_need,
    row_centers,
)

GEOMETRY = ParallelBeam(np.linspace(0, 3, 5), 2, 8, center_of_rotation=3.5)
BOX = Box((0, 0, 0), (2, 8, 8))


def test_the_table_is_loaded_on_demand() -> None:
    code = (
        "import sys; from tomodask.projectors import available_backends; available_backends();"
        "print({'astra', 'finufft', 'numba', 'dask', 'zarr'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_all_but_astra_are_always_there() -> None:
    assert {"reference", "fourier", "finufft"} <= set(available_backends()) <= set(BACKENDS)


def test_unknown_backend_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InputError, match="'cuda': there are reference, fourier, finufft, astra"):
        load_backend("cuda")


def test_missing_package_names_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "astra", None)  # as if it were not installed
    monkeypatch.delitem(sys.modules, "tomodask.projectors.astra", raising=False)
    with pytest.raises(MissingPackageError, match=r"pip install tomodask\[astra\]"):
        load_backend("astra")


def test_an_import_error_inside_a_plug_in_is_not_hidden() -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        load_backend("no_such_module:Backend")


def test_a_plug_in_is_named_by_module_and_class() -> None:
    path = "tomodask.projectors.reference:ReferenceBackend"
    assert load_backend(path) is load_backend("reference")


def test_shapes_are_rows_and_slices_of_the_box() -> None:
    A = make_projector(Box((40, 0, 0), (42, 6, 7)), GEOMETRY, "reference", threads=3)
    assert A.domain_shape == (2, 6, 7)
    assert A.range_shape == (2, 5, 8)
    assert A.threads == 3
    assert A.geometry is GEOMETRY


@pytest.mark.parametrize(
    ("box", "geometry", "threads", "message"),
    [
        (Box((0, 0, 0), (3, 8, 8)), GEOMETRY, 1, "a box of 3 rows and a geometry of 2"),
        (Box((0, 2, 0), (2, 8, 8)), GEOMETRY, 1, "whole slices"),
        (Box((0, 0, 0), (2, 0, 8)), GEOMETRY, 1, "whole slices"),
        (BOX, ParallelBeam(np.zeros(1), 2, 8), 1, "centre of rotation is not known"),
        (BOX, GEOMETRY.with_center(np.nan), 1, "centre of rotation nan"),
        (BOX, GEOMETRY, 0, "threads=0"),
    ],
)
def test_what_no_projector_can_do_is_refused(
    box: Box, geometry: ParallelBeam, threads: int, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        make_projector(box, geometry, "reference", threads)


def test_a_filter_that_does_not_fit_is_refused() -> None:
    A = make_projector(BOX, GEOMETRY, "reference")
    y = np.zeros(A.range_shape)
    with pytest.raises(InputError, match="a filter of 6 points for 8 columns"):
        A.filtered_adjoint(y, np.ones(4), np.ones(5))
    with pytest.raises(InputError, match=r"weights of shape \(4,\) for 5 views"):
        A.filtered_adjoint(y, np.ones(9), np.ones(4))
    with pytest.raises(InputError, match="there are zero, edge"):
        A.filtered_adjoint(y, np.ones(9), np.ones(5), "mirror")  # type: ignore[arg-type]


def test_the_refusal_of_an_array_names_both_shapes() -> None:
    A = make_projector(BOX, GEOMETRY, "reference")
    with pytest.raises(GeometryError, match=r"\(2, 8, 9\): this projector takes \(2, 8, 8\)"):
        A(np.zeros((2, 8, 9)))


def test_a_widened_detector_sees_the_same_rays_and_more() -> None:
    A = make_projector(BOX, GEOMETRY, "reference")
    wide = A.widened(2, 3)
    x = np.random.default_rng(0).normal(size=A.domain_shape)
    assert wide.range_shape == (2, 5, 13)
    np.testing.assert_array_equal(wide(x)[:, :, 2:-3], A(x))
    assert A.widened(2, 3) is wide


def test_a_row_has_the_same_centre_in_every_block() -> None:
    whole = ParallelBeam(np.zeros(1), 2048, 8).with_center(1013.7, slope=0.0123)
    for start in range(0, 2048, 7):
        part = whole.take_rows(start, min(2048, start + 32))
        expected = row_centers(whole)[start : start + 32]
        np.testing.assert_array_equal(row_centers(part), expected)
    np.testing.assert_allclose(row_centers(whole), whole.centers(), atol=1e-5)


@pytest.mark.parametrize("backend", available_backends())
def test_memory_need_adds_up_what_the_backend_declares(backend: str) -> None:
    need, kind = memory_need(backend, GEOMETRY, (8, 8), 2), load_backend(backend)
    assert need.fixed == kind.memory_bytes(5, 8, (8, 8), 2)
    assert need.per_row == kind.row_bytes(5, 8, (8, 8))
