"""td.operator around a backend: arrays of any library, batches, masks, views, refusals, gradients.

What the backends compute is held in tests/contracts/test_ray_backends.py.
"""

import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import tomodask as td
from tomodask.ellipsoids import aligned_ellipsoids
from tomodask.errors import DeviceError, GeometryError, InputError
from tomodask.geometry import (
    ProjectionGeometry,
    VolumeGeometry,
    in_voxels,
    laminography,
    parallel,
    volume,
)
from tomodask.projectors import device_arrays
from tomodask.projectors import operator as operator_module
from tomodask.projectors.operator import Operator
from tomodask.projectors.reference_rays import ReferenceRays
from tomodask.testing_rays import cone_views, turning_volume

ANGLES = np.arange(6) * 1.1
SPACE = volume(shape=(3, 5, 6))
CONE = cone_views(ANGLES, (4, 7))
SLICES = parallel(angles=ANGLES, shape=(3, 8))


@pytest.fixture
def A() -> Operator:  # noqa: N802  (the operator)
    return td.operator(SPACE, CONE, "reference")


@pytest.fixture
def x(rng: np.random.Generator) -> np.ndarray:
    return rng.normal(size=SPACE.shape).astype(np.float32)


@pytest.fixture
def y(rng: np.random.Generator) -> np.ndarray:
    return rng.normal(size=(4, 6, 7)).astype(np.float32)


class Watched(ReferenceRays):
    """The reference, which remembers the arrays it was given and gave."""

    seen: list[np.ndarray]

    def forward(self, volume: np.ndarray) -> np.ndarray:
        result = super().forward(volume)
        type(self).seen = [volume, result]
        return result


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> str:
    plug_in = ModuleType("watched_plug_in")
    plug_in.Watched = Watched  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "watched_plug_in", plug_in)
    return "watched_plug_in:Watched"


# ---- the pair and what it says of itself ---------------------------------------------------


def test_it_is_the_backends_pair(A: Operator, x: np.ndarray, y: np.ndarray) -> None:
    pair = ReferenceRays(in_voxels(SPACE, CONE))
    np.testing.assert_array_equal(A(x), pair.forward(x))
    np.testing.assert_array_equal(A.T(y), pair.adjoint(y))


def test_shapes_and_geometries_change_over_in_the_transpose(A: Operator) -> None:
    assert A.domain_shape == A.T.range_shape == (3, 5, 6)
    assert A.range_shape == A.T.domain_shape == (4, 6, 7)
    assert A.domain is A.volume is A.T.range is SPACE
    assert A.range is A.projections is A.T.domain is CONE
    assert A.T.T is A
    assert A.T is A.T
    assert A.num_angles == A.T.num_angles == 6
    assert A.backend == A.T.backend == "reference"
    assert repr(A) == "Operator(reference: (3, 5, 6) -> (4, 6, 7))"


@pytest.mark.parametrize(
    ("space", "views", "expected"),
    [
        (SPACE, SLICES, True),
        (SPACE, CONE, False),
        (SPACE, parallel(angles=ANGLES, shape=(5, 8)), False),  # row 1 sees slice 0
        (volume(shape=(3, 5, 6), pos=(1, 0, 0)), SLICES, False),  # as does this
        (volume(shape=(2, 5, 6), pos=(-0.5, 0, 0)), SLICES, False),  # row 2 sees no slice
        (SPACE, laminography(angles=ANGLES, shape=(3, 8), tilt=0.3), False),
    ],
)
@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_rows_are_independent_where_the_geometry_makes_them(
    space: VolumeGeometry, views: ProjectionGeometry, expected: bool, backend: str
) -> None:
    A = td.operator(space, views, backend)
    assert A.independent_rows is A.T.independent_rows is expected


def test_an_empty_row_stays_empty_to_the_last_bit(x: np.ndarray) -> None:
    x[1] = 0
    A = td.operator(SPACE, SLICES, "reference")
    assert (A(x)[1] == 0).all()
    assert (A.T(A(x))[1] == 0).all()


def test_slices_beyond_the_detector_are_zeros(x: np.ndarray) -> None:
    views = parallel(angles=ANGLES, shape=(1, 8))
    A = td.operator(SPACE, views, "fourier")
    assert A(x).shape == (1, 6, 8)
    back = A.T(np.ones(A.range_shape))
    assert (back[[0, 2]] == 0).all()
    assert (back[1] != 0).any()


# ---- views ----------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["reference", "fourier"])
@pytest.mark.parametrize("selection", [np.s_[1::4], np.array([4, 0]), 3, ANGLES > 3])
def test_some_views_see_what_they_see_among_all(
    selection: Any, backend: str, x: np.ndarray
) -> None:
    A = td.operator(SPACE, SLICES, backend, threads=2)
    part = A.views(selection)
    index = [selection] if isinstance(selection, int) else selection
    # fourier rounds the axis to 2^-16 columns
    np.testing.assert_allclose(part(x), A(x)[:, index], atol=1e-4)
    assert A[selection].range_shape == part.range_shape == A.T[selection].domain_shape
    assert (part.backend, part.threads) == (backend, 2)


def test_some_views_of_a_volume_that_moves(x: np.ndarray) -> None:
    A = td.operator(turning_volume(ANGLES, SPACE.shape), CONE[0], "reference")
    np.testing.assert_array_equal(A[2::3](x), A(x)[:, 2::3])


def test_a_view_that_sees_nothing_is_a_subset_like_any(x: np.ndarray) -> None:
    aside = np.where(np.arange(6) == 2, 100, 0)[:, None] * CONE.det_u
    views = ProjectionGeometry(
        "cone", (4, 7), CONE.source, CONE.det_pos + aside, CONE.det_v, CONE.det_u
    )
    assert (td.operator(SPACE, views, "reference")[2](x) == 0).all()


# ---- arrays -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int16, np.uint8])
def test_real_numbers_of_any_kind_become_float32(A: Operator, dtype: type) -> None:
    x = np.arange(90).reshape(A.domain_shape).astype(dtype)
    assert A(x).dtype == np.float32
    np.testing.assert_array_equal(A(x), A(x.astype(np.float32)))


def test_a_batch_is_its_members(A: Operator, rng: np.random.Generator) -> None:
    x = rng.normal(size=(2, 3, *A.domain_shape)).astype(np.float32)
    y = A(x)
    assert y.shape == (2, 3, *A.range_shape)
    np.testing.assert_array_equal(y[1, 2], A(x[1, 2]))
    np.testing.assert_array_equal(A.T(y)[0, 1], A.T(y[0, 1]))
    assert A(x[:0]).shape == (0, 3, *A.range_shape)


def test_out_is_written_and_given_back(A: Operator, x: np.ndarray, y: np.ndarray) -> None:
    torch = pytest.importorskip("torch")
    out = np.full(A.range_shape, np.nan, np.float32)
    assert A(x, out=out) is out
    np.testing.assert_array_equal(out, A(x))
    tensor = torch.full(A.domain_shape, torch.nan)
    assert A.T(torch.from_numpy(y), out=tensor) is tensor
    np.testing.assert_array_equal(tensor.numpy(), A.T(y))


@pytest.mark.parametrize(
    "out", [np.empty((4, 6, 8), np.float32), np.empty((4, 6, 7)), [0.0], "torch"]
)
def test_an_out_that_does_not_fit_is_refused(A: Operator, x: np.ndarray, out: Any) -> None:
    if isinstance(out, str):
        out = pytest.importorskip("torch").empty(A.range_shape)
    with pytest.raises(InputError, match=r"\(4, 6, 7\), float32, of the library"):
        A(x, out=out)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((3, 5)), r"volume \(z, y, x\) of shape \(3, 5\).*takes \(3, 5, 6\)"),
        (np.zeros((3, 6, 5)), r"of shape \(3, 6, 5\)"),
        (np.zeros((3, 5, 6), bool), "dtype bool: real numbers"),
        (np.zeros((3, 5, 6), complex), "dtype complex128"),
        (np.full((3, 5, 6), "a"), "dtype <U1"),
    ],
)
def test_wrong_arrays_are_refused_with_what_is_right(
    A: Operator, array: np.ndarray, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        A(array)


# ---- torch ------------------------------------------------------------------------------------


def test_a_tensor_is_read_and_given_without_a_copy(watched: str, x: np.ndarray) -> None:
    torch = pytest.importorskip("torch")
    A, tensor = td.operator(SPACE, CONE, watched), torch.from_numpy(x)
    result = A(tensor)
    given, made = Watched.seen
    assert isinstance(result, torch.Tensor)
    assert result.dtype == torch.float32
    assert given.ctypes.data == tensor.data_ptr()
    assert made.ctypes.data == result.data_ptr()


def test_tensors_of_other_layouts_and_types_are_taken(A: Operator, x: np.ndarray) -> None:
    torch = pytest.importorskip("torch")
    expected = A(x)
    strided = torch.from_numpy(x.transpose(2, 1, 0).copy()).permute(2, 1, 0)
    np.testing.assert_array_equal(A(strided).numpy(), expected)
    np.testing.assert_array_equal(A(strided.double()).numpy(), expected)
    with pytest.raises(InputError, match=r"bfloat16.*float32"):
        A(strided.bfloat16())
    with pytest.raises(InputError, match="dtype bool"):
        A(strided > 0)


def test_a_gradient_is_not_lost_unasked(A: Operator, x: np.ndarray) -> None:
    torch = pytest.importorskip("torch")
    tensor = torch.from_numpy(x).requires_grad_()
    with pytest.raises(InputError, match=r"A\.autograd\(x\) passes it on"):
        A(tensor)
    with torch.no_grad():
        assert not A(tensor).requires_grad
    with pytest.raises(InputError, match="needs a torch tensor, got ndarray"):
        A.autograd(x)


@pytest.mark.filterwarnings("ignore:Input #0 requires gradient and is not a double")
@pytest.mark.parametrize("masked", [False, True])
def test_gradients_are_those_of_finite_differences(masked: bool, rng: np.random.Generator) -> None:
    """A is linear: steps of 1 are exact, so float32's rounding is all that is left."""
    torch = pytest.importorskip("torch")
    space, views = volume(shape=(2, 3, 4)), cone_views(ANGLES[:2], (3, 4))
    mask = rng.normal(size=space.shape) > 0 if masked else None
    A = td.operator(space, views, "reference", volume_mask=mask)
    for map_, shape in ((A, (2, *A.domain_shape)), (A.T, A.range_shape)):
        x = torch.from_numpy(rng.normal(size=shape).astype(np.float32)).requires_grad_()
        # values of about 10, six digits of them
        assert torch.autograd.gradcheck(map_.autograd, x, eps=1.0, atol=1e-4, rtol=1e-4)


@pytest.mark.filterwarnings("ignore:Input #. requires gradient and is not a double")
def test_gradients_have_gradients(rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    A = td.operator(volume(shape=(2, 2, 3)), cone_views(ANGLES[:2], (2, 3)), "reference")
    x = torch.from_numpy(rng.normal(size=A.domain_shape).astype(np.float32)).requires_grad_()
    g = torch.from_numpy(rng.normal(size=A.range_shape).astype(np.float32)).requires_grad_()

    def square(x: Any) -> Any:
        return A.autograd(x) ** 2

    assert torch.autograd.gradgradcheck(square, x, g, eps=0.5, atol=1e-2, rtol=1e-3)


def test_the_gradient_of_the_misfit_is_the_back_projected_residual(
    A: Operator, x: np.ndarray, y: np.ndarray
) -> None:
    torch = pytest.importorskip("torch")
    tensor = torch.from_numpy(x).double().requires_grad_()
    misfit = ((A.autograd(tensor) - torch.from_numpy(y)) ** 2).sum() / 2
    misfit.backward()
    assert tensor.grad.dtype == torch.float64  # that of x
    np.testing.assert_allclose(tensor.grad.numpy(), A.T(A(x) - y), rtol=1e-5, atol=1e-5)


# ---- slices -----------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["reference", "fourier"])
@pytest.mark.parametrize("size", [1.0, 0.25])
def test_filtered_back_projection_takes_an_operator(backend: str, size: float) -> None:
    torch = pytest.importorskip("torch")
    space = volume(shape=(2, 32, 32), size=(2 * size, 32 * size, 32 * size))
    views = parallel(angles=60, shape=(2, 40), size=(2 * size, 40 * size))
    A = td.operator(space, views, backend)
    ball = aligned_ellipsoids([(0, 2 * size, -3 * size)], [10 * size], [0.7])
    y = ball.line_integrals(views, supersampling=2)
    image = td.FBP(filter="hann")(y, A)
    assert image[:, 14:22, 9:17].mean() == pytest.approx(0.7, rel=0.02)  # in 1/length of the world
    tensor = td.FBP(filter="hann")(torch.from_numpy(y), A)
    np.testing.assert_array_equal(tensor.numpy(), image)


def test_filtered_back_projection_is_refused_where_there_are_no_slices(
    A: Operator, y: np.ndarray
) -> None:
    with pytest.raises(GeometryError, match=r"FBP needs slices.*it is a cone beam: take.*SIRT"):
        td.FBP()(y, A)
    taller = td.operator(SPACE, parallel(angles=ANGLES, shape=(5, 8)), "reference")
    with pytest.raises(GeometryError, match="does not project them one by one"):
        td.FBP()(np.ones(taller.range_shape), taller)
    masked = td.operator(SPACE, SLICES, "reference", volume_mask=np.ones(SPACE.shape))
    with pytest.raises(InputError, match="FBP takes no masks"):
        td.FBP()(np.ones(masked.range_shape), masked)
    with pytest.raises(DeviceError, match="on a GPU"):
        td.FBP()(OnGpu((3, 6, 8), dlpack=True), td.operator(SPACE, SLICES, "reference"))


# ---- GPUs -------------------------------------------------------------------------------------


class OnGpu:
    """What CuPy and torch show of an array on a GPU."""

    def __init__(self, shape: tuple[int, ...], dlpack: bool) -> None:
        self.shape, self.dtype = shape, np.dtype(np.float32)
        if dlpack:
            self.__dlpack__ = self.refuse
            self.__dlpack_device__ = lambda: (2, 0)  # kDLCUDA
        else:
            self.__cuda_array_interface__ = {"shape": shape, "typestr": "<f4", "version": 3}

    def refuse(self, *_: Any, **__: Any) -> None:
        raise AssertionError("the array must not be read")

    __array__ = refuse


@pytest.mark.parametrize("dlpack", [True, False])
def test_an_array_on_a_gpu_is_not_copied_behind_ones_back(A: Operator, dlpack: bool) -> None:
    for map_, what in ((A, "volume"), (A.T, "projections")):
        with pytest.raises(DeviceError, match=rf"{what}.*'reference' runs on the CPU.*x\.cpu\(\)"):
            map_(OnGpu(map_.domain_shape, dlpack))


def test_a_gpu_backend_is_named_where_there_is_one(
    A: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operator_module, "gpu_backends", lambda: ["astra"])
    with pytest.raises(DeviceError, match="or take a backend that runs there: astra"):
        A(OnGpu(A.domain_shape, dlpack=True))


class TorchRays(ReferenceRays):
    """A backend on a GPU that torch's tensors on the CPU play."""

    @staticmethod
    def has_gpu() -> bool:
        return True

    def forward(self, volume: Any) -> Any:
        return type(volume)(super().forward(volume.numpy()))

    def adjoint(self, projections: Any) -> Any:
        return type(projections)(super().adjoint(projections.numpy()))


def test_arrays_on_a_gpu_stay_there(
    monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    torch = pytest.importorskip("torch")
    plug_in = ModuleType("torch_plug_in")
    plug_in.TorchRays = TorchRays  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch_plug_in", plug_in)
    monkeypatch.setattr(operator_module, "is_on_gpu", lambda array: torch.is_tensor(array))
    masks = {"volume_mask": rng.random(SPACE.shape) > 0.3, "projection_mask": rng.random((6, 1))}
    A = td.operator(SPACE, CONE, "torch_plug_in:TorchRays", **masks)
    law = td.operator(SPACE, CONE, "reference", **masks)
    x = rng.normal(size=(2, *SPACE.shape))
    found = A(torch.from_numpy(x))
    assert torch.is_tensor(found)
    np.testing.assert_allclose(found.numpy(), law(x), rtol=1e-6)
    np.testing.assert_allclose(A.T(found).numpy(), law.T(law(x)), rtol=1e-5, atol=1e-5)
    with pytest.raises(InputError, match=r"dtype torch\.bool: real numbers"):
        A(torch.zeros(SPACE.shape, dtype=torch.bool))


def test_memory_that_the_cpu_can_read_is_no_gpu() -> None:
    torch = pytest.importorskip("torch")
    assert not device_arrays.is_on_gpu(np.zeros(2))
    assert not device_arrays.is_on_gpu(torch.zeros(2))
    assert not device_arrays.is_on_gpu([1.0])


# ---- masks ------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["reference", "fourier"])
def test_masks_keep_the_adjoint(backend: str, rng: np.random.Generator) -> None:
    A = td.operator(
        SPACE,
        SLICES,
        backend,
        volume_mask=rng.random(SPACE.shape) > 0.4,
        projection_mask=rng.random((1, 6, 8)),
    )
    x = rng.normal(size=A.domain_shape).astype(np.float32)
    Ax = A(x)
    y = Ax + np.float32(0.1) * rng.normal(size=Ax.shape).astype(np.float32)
    there, back = np.vdot(Ax.astype(float), y), np.vdot(x.astype(float), A.T(y))
    assert there == pytest.approx(back, rel=1e-5)


def test_masks_are_factors_before_and_after(A: Operator, x: np.ndarray, y: np.ndarray) -> None:
    inside, weights = np.zeros(SPACE.shape, bool), np.linspace(0, 2, 6)[:, None]
    inside[:, 1:4, 2:5] = True
    masked = td.operator(SPACE, CONE, "reference", volume_mask=inside, projection_mask=weights)
    np.testing.assert_allclose(masked(x), A(x * inside) * weights, rtol=1e-5)
    np.testing.assert_allclose(masked.T(y), A.T(y * weights) * inside, rtol=1e-5, atol=1e-6)
    x[~inside] = np.nan
    assert np.isfinite(masked(x)).all()
    np.testing.assert_array_equal(masked[1::2](x), masked(x)[:, 1::2])


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        ({"volume_mask": np.ones((3, 5, 5))}, r"volume mask.*\(3, 5, 5\).*\(3, 5, 6\)"),
        ({"projection_mask": np.ones((4, 6))}, r"projection mask.*\(4, 6\).*\(4, 6, 7\)"),
        ({"volume_mask": np.full((3, 5, 6), np.nan)}, "finite factors"),
        ({"volume_mask": np.full((3, 5, 6), 1j)}, "dtype complex128"),
    ],
)
def test_masks_that_do_not_fit_are_refused(masks: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        td.operator(SPACE, CONE, "reference", **masks)


def test_no_threads_are_refused() -> None:
    with pytest.raises(InputError, match="threads=0"):
        td.operator(SPACE, CONE, "reference", threads=0)


def test_a_volume_of_other_steps_than_the_views_is_refused() -> None:
    with pytest.raises(GeometryError, match="5 steps and 6 views"):
        td.operator(turning_volume(ANGLES[:5], SPACE.shape), CONE, "reference")


def test_a_volume_that_no_view_sees_is_refused() -> None:
    beside = volume(shape=(3, 5, 6), pos=(0, 0, 8.5))
    with pytest.raises(GeometryError, match="no view sees the volume"):
        td.operator(beside, parallel(angles=np.zeros(1), shape=(3, 8)))
    one_of_two = parallel(angles=np.array([0, np.pi / 2]), shape=(3, 8))
    assert td.operator(beside, one_of_two, "reference").num_angles == 2
