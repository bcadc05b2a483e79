"""The laws that every projector backend keeps: those in `BACKENDS` and those of plug-ins.

Each law takes a backend's name, or "module:Class", and raises AssertionError where it is broken.
The tests of a plug-in need no more than this:

    @pytest.mark.parametrize("law", PROJECTOR_LAWS)
    def test_my_projector(law):
        PROJECTOR_LAWS[law]("my_package.projector:MyBackend")
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from tomodask.errors import TomodaskError
from tomodask.geometry import Box, ParallelBeam
from tomodask.phantom import chiral_phantom, disc_image, disc_sinogram
from tomodask.projectors import Projector, load_backend, make_projector
from tomodask.projectors.rowfilter import RowFilter
from tomodask.reconstruct.fbp import FBP, padded_length
from tomodask.reconstruct.filters import filter_response


def half_turn(num_angles: int) -> np.ndarray:
    """(num_angles,) radians, even over half a turn, its end left out."""
    return np.arange(num_angles) * np.pi / num_angles


def projector_cases() -> dict[str, tuple[ParallelBeam, tuple[int, int]]]:
    """Geometries, each with the (y, x) shape of a slice, that backends like to get wrong."""
    even = ParallelBeam(half_turn(20), det_rows=2, det_count=32, center_of_rotation=15.5)
    uneven = np.array([0.1, 2.9, -0.3, 7.0, 0.1, np.pi / 2, np.pi / 4, -np.pi, 12.0])
    return {
        "even sizes": (even, (32, 32)),
        "odd sizes": (replace(even, det_count=31, center_of_rotation=15.0), (33, 29)),
        "one row, one view": (replace(even, det_rows=1, angles=np.array([0.4])), (32, 32)),
        "axis off the middle": (even.with_center(9.3), (32, 31)),
        "axis beyond the detector": (even.with_center(-4.2), (32, 32)),
        "axis that leans": (replace(even, det_rows=3).with_center(14.0, slope=1.3), (30, 32)),
        "object wider than the detector": (replace(even, det_count=12).with_center(5.0), (40, 44)),
        "object smaller than the detector": (even, (7, 12)),
        "angles in any order and range": (replace(even, angles=uneven), (32, 32)),
        "pixels of 2 um": (replace(even, pixel_size_um=2.0), (32, 32)),
        "a stage that jitters": (replace(even, column_shifts=2 * np.cos(np.arange(20))), (32, 31)),
    }


def projector(
    geometry: ParallelBeam, shape_yx: tuple[int, int], backend: str, threads: int = 1
) -> Projector:
    """A projector for all rows of a geometry."""
    return make_projector(
        Box((0, 0, 0), (geometry.det_rows, *shape_yx)), geometry, backend, threads
    )


# ---- A and A.T -------------------------------------------------------------------------------


def back_projection_is_the_adjoint(backend: str) -> None:
    """<A x, y> = <x, A.T y>."""
    for name, (geometry, shape_yx) in projector_cases().items():
        A, rng = projector(geometry, shape_yx, backend), np.random.default_rng(1)
        x = rng.normal(size=A.domain_shape).astype(np.float32)
        Ax = A(x)
        y = Ax + 0.1 * Ax.std() * rng.normal(size=A.range_shape).astype(np.float32)  # no cancelling
        there, back = _inner(Ax, y), _inner(x, A.T(y))
        # float32 results of a few hundred terms: about sqrt(1000) * 6e-8
        assert abs(there - back) <= 1e-5 * abs(there), f"{name}: <Ax, y> {there}, <x, A.T y> {back}"


def projection_is_linear(backend: str) -> None:
    """A(a x + b z) = a A(x) + b A(z), and likewise for A.T."""
    for name, (geometry, shape_yx) in projector_cases().items():
        A, rng = projector(geometry, shape_yx, backend), np.random.default_rng(2)
        for operator, shape in ((A, A.domain_shape), (A.T, A.range_shape)):
            x, z = rng.normal(size=(2, *shape)).astype(np.float32)
            expected = 3 * operator(x) - 0.5 * operator(z)
            _assert_close(operator(3 * x - 0.5 * z), expected, 1e-5, name)  # float32, as above


def projections_of_smooth_objects_agree_with_the_reference(backend: str) -> None:
    """Where no pixel is too coarse, A is Joseph's method; A.T then follows from its own law."""
    for name, (geometry, shape_yx) in projector_cases().items():
        A, law = (projector(geometry, shape_yx, kind) for kind in (backend, "reference"))
        x = np.broadcast_to(_blob(shape_yx, min(shape_yx) / 8), A.domain_shape)
        # linear interpolation blurs a blob of 4 pixels' sigma by less than 1 %, narrow ones more
        allowed = 0.01 if min(shape_yx) > 20 else 0.15
        _assert_close(A(x), law(x), allowed, name)


def projections_of_discs_are_their_line_integrals(backend: str) -> None:
    """A of a disc, averaged over pixels, is its chords, averaged over the detector's pixels."""
    for center, det_count, shape_yx in (
        (23.5, 48, (48, 48)),
        (20.2, 45, (47, 50)),
        (9.0, 20, (48, 48)),
    ):
        geometry = ParallelBeam(half_turn(30), 1, det_count, center_of_rotation=center)
        A = projector(geometry, shape_yx, backend)
        exact = disc_sinogram(geometry.angles, det_count, center, radius=12.3, x=4.6, y=-3.1)
        projected = A(disc_image(*shape_yx, radius=12.3, x=4.6, y=-3.1)[None])[0]
        # the disc's edge is sharper than a pixel: about one part in a hundred of its chords
        _assert_close(projected, exact, 0.02, f"axis at {center} of {det_count}")


def lengths_are_in_millimetres_where_the_pixel_is_known(backend: str) -> None:
    """A pixel of 2 um makes line integrals 0.002 times those of a pixel of length 1."""
    (plain, shape_yx), (sized, _) = (
        projector_cases()[name] for name in ("even sizes", "pixels of 2 um")
    )
    A, scaled = projector(plain, shape_yx, backend), projector(sized, shape_yx, backend)
    x = np.random.default_rng(3).normal(size=A.domain_shape).astype(np.float32)
    y = A(x)
    _assert_close(scaled(x), 0.002 * y, 1e-6, "A")
    _assert_close(scaled.T(y), 0.002 * A.T(y), 1e-6, "A.T")


# ---- filtered back-projection ----------------------------------------------------------------


def filtered_adjoint_is_filtering_then_the_adjoint(backend: str) -> None:
    """A backend's own shortcut gives, where all views see, what its parts give."""
    sinogram = chiral_phantom(20.0).sinogram(half_turn(60), 48)
    geometry = ParallelBeam(half_turn(60), 1, 48, center_of_rotation=23.5)
    A = projector(geometry, (48, 48), backend)
    weights = np.linspace(0.01, 0.1, 60)
    response = filter_response("shepp-logan", padded_length(48))
    filtered = np.empty((1, 60, 48), np.float32)
    RowFilter(response, weights).apply(sinogram, out=filtered[0])
    inside = _distance((48, 48)) < 21  # nearer the edge the tails of the filter count
    together = A.filtered_adjoint(sinogram[None], response, weights)[0]
    _assert_close(together[inside], A.T(filtered)[0][inside], 0.005, "inside the detector")


def fbp_gives_a_disc_its_value(backend: str) -> None:
    """A disc of value 1 comes out flat: no bowl, no offset, in 1/pixel as in 1/mm."""
    angles = half_turn(101)
    sinogram = disc_sinogram(angles, 64, radius=24.0)[None]
    inside, outside = _distance((64, 64)) < 18, _distance((64, 64)) > 28
    for pixel_size_um, value in ((None, 1.0), (2.0, 1 / 0.002)):
        geometry = ParallelBeam(angles, 1, 64, center_of_rotation=31.5, pixel_size_um=pixel_size_um)
        image = FBP()(sinogram, projector(geometry, (64, 64), backend))[0] / value
        where = f"pixel size {pixel_size_um}"
        # the windowless ramp rings by about 1 % near the edge, far less on average
        assert abs(image[inside].mean() - 1) < 0.003, f"{where}: value {image[inside].mean()}"
        middle, rim = image[_distance((64, 64)) < 6].mean(), image[inside].mean()
        assert abs(middle - rim) < 0.01, f"{where}: middle {middle}, whole {rim}"
        assert abs(image[outside].mean()) < 0.005, f"{where}: outside {image[outside].mean()}"


def fbp_puts_a_disc_in_its_place(backend: str) -> None:
    """The centroid of a disc off the axis is within 0.05 pixels, for odd and even sizes."""
    angles = half_turn(80)
    for det_count, center, shape_yx in (
        (48, 23.5, (48, 48)),
        (47, 23.0, (47, 47)),
        (48, 22.3, (45, 48)),
        (47, 24.1, (46, 45)),
    ):
        geometry = ParallelBeam(angles, 1, det_count, center_of_rotation=center)
        sinogram = disc_sinogram(angles, det_count, center, radius=6.0, x=7.3, y=-4.6)[None]
        image = FBP(filter="hann")(sinogram, projector(geometry, shape_yx, backend))[0]
        y, x = _positions(shape_yx)
        weight = np.where(np.hypot(x - 7.3, y + 4.6) < 9, image, 0)
        found = (weight * x).sum() / weight.sum(), (weight * y).sum() / weight.sum()
        error = np.hypot(found[0] - 7.3, found[1] + 4.6)
        assert error < 0.05, (
            f"{shape_yx} from {det_count} columns: (x, y) = {found}, not (7.3, -4.6)"
        )


def fbp_does_not_mirror(backend: str) -> None:
    """A phantom that differs from its mirror images comes out as itself."""
    phantom, angles = chiral_phantom(26.0), half_turn(100)
    geometry = ParallelBeam(angles, 1, 64, center_of_rotation=30.4)
    image = FBP()(phantom.sinogram(angles, 64, 30.4)[None], projector(geometry, (64, 64), backend))
    truth = phantom.image(64, 64)
    error = _rms(image[0] - truth)
    mirrored = min(_rms(image[0] - other) for other in (truth[::-1], truth[:, ::-1], truth.T))
    assert error < 0.3 * mirrored, f"error {error}, against the nearest mirror image {mirrored}"


# ---- same bytes, whatever lies beside --------------------------------------------------------


def a_row_is_the_same_alone_and_among_others(backend: str) -> None:
    """Slab by slab equals all at once to the byte, with an axis that leans and rows of any kind."""
    geometry = ParallelBeam(half_turn(40), 7, 32, row_start=5).with_center(14.0, slope=0.3)
    whole = projector(geometry, (32, 32), backend)
    x, y = _unlike_rows(whole.domain_shape), _unlike_rows(whole.range_shape)
    results = whole(x), whole.T(y), FBP()(y, whole)
    for start, stop in ((0, 3), (3, 4), (4, 7)):
        part = projector(geometry.take_rows(start, stop), (32, 32), backend)
        rows = slice(start, stop)
        for expected, found in zip(
            results, (part(x[rows]), part.T(y[rows]), FBP()(y[rows], part)), strict=True
        ):
            _assert_same(found, expected[rows], f"rows {start}:{stop}")


def threads_do_not_change_a_byte(backend: str) -> None:
    """One thread, two, and the same projector again."""
    geometry = ParallelBeam(half_turn(40), 5, 33, center_of_rotation=16.2)
    one, two = (projector(geometry, (33, 32), backend, threads) for threads in (1, 2))
    x, y = _unlike_rows(one.domain_shape), _unlike_rows(one.range_shape)
    expected = one(x), one.T(y), FBP()(y, one)
    for A, what in ((two, "two threads"), (two, "two threads again"), (one, "one thread again")):
        for first, later in zip(expected, (A(x), A.T(y), FBP()(y, A)), strict=True):
            _assert_same(later, first, what)


def a_missing_row_spoils_no_other(backend: str) -> None:
    """A row with one NaN gives a slice of NaN within the field of view, others not one."""
    geometry = ParallelBeam(half_turn(40), 4, 32, center_of_rotation=15.5)
    A = projector(geometry, (32, 32), backend, threads=2)
    y = np.ones(A.range_shape, np.float32)
    y[1, 3, 4] = np.nan
    volume = FBP()(y, A)
    assert np.isnan(volume[1][_distance((32, 32)) <= 15]).all(), "the missing row must be NaN"
    assert (volume[1][_distance((32, 32)) > 17] == 0).all(), "outside the field of view it is 0"
    assert np.isfinite(volume[[0, 2, 3]]).all(), "the other rows must not be NaN"


# ---- manners ---------------------------------------------------------------------------------


def arrays_of_any_layout_are_read_and_left_alone(backend: str) -> None:
    """Views, other float types and integers give the same as float32; inputs are not written to."""
    geometry = ParallelBeam(half_turn(10), 3, 16, center_of_rotation=7.5)
    A = projector(geometry, (16, 15), backend)
    for operator, shape in ((A, A.domain_shape), (A.T, A.range_shape)):
        plain = np.random.default_rng(4).integers(-9, 9, size=shape).astype(np.float32)
        expected, kept = operator(plain), plain.copy()
        assert expected.dtype == np.float32, f"results are float32, not {expected.dtype}"
        _assert_same(plain, kept, "the input")
        turned = np.ascontiguousarray(np.swapaxes(plain, 0, 1))
        for other in (np.swapaxes(turned, 0, 1), plain.astype(np.float64), plain.astype(np.int16)):
            other.flags.writeable = False
            _assert_same(operator(other), expected, f"{other.dtype}, strides {other.strides}")


def wrong_arrays_are_refused(backend: str) -> None:
    """Another shape or complex numbers are an error that tells the shape expected."""
    geometry = ParallelBeam(half_turn(10), 3, 16, center_of_rotation=7.5)
    A = projector(geometry, (16, 16), backend)
    wrong = np.zeros((3, 10, 17)), np.zeros((16, 10)), np.zeros(A.range_shape, complex)
    for array in wrong:
        for operator in (A, A.T):
            try:
                operator(array)
            except TomodaskError:
                continue
            raise AssertionError(f"{array.dtype} of shape {array.shape} was taken")


def memory_is_declared(backend: str) -> None:
    """Whole bytes that do not shrink with the size."""
    kind = load_backend(backend)
    small, large = (
        (kind.memory_bytes(n, n, (n, n), 2), kind.row_bytes(n, n, (n, n))) for n in (64, 128)
    )
    for smaller, larger in zip(small, large, strict=True):
        assert isinstance(smaller, int), f"{smaller!r} is not a whole number"
        assert 0 <= smaller <= larger, f"{smaller} bytes at size 64, {larger} at 128"


PROJECTOR_LAWS: Mapping[str, Callable[[str], None]] = {
    law.__name__: law
    for law in (
        back_projection_is_the_adjoint,
        projection_is_linear,
        projections_of_smooth_objects_agree_with_the_reference,
        projections_of_discs_are_their_line_integrals,
        lengths_are_in_millimetres_where_the_pixel_is_known,
        filtered_adjoint_is_filtering_then_the_adjoint,
        fbp_gives_a_disc_its_value,
        fbp_puts_a_disc_in_its_place,
        fbp_does_not_mirror,
        a_row_is_the_same_alone_and_among_others,
        threads_do_not_change_a_byte,
        a_missing_row_spoils_no_other,
        arrays_of_any_layout_are_read_and_left_alone,
        wrong_arrays_are_refused,
        memory_is_declared,
    )
}


def _unlike_rows(shape: tuple[int, ...]) -> np.ndarray:
    """Random rows, one a million times brighter than the rest, one missing, one all zeros."""
    rows = np.random.default_rng(5).normal(size=shape).astype(np.float32)
    rows[1] *= 1e6
    rows[2] = np.nan
    rows[4] = 0
    return rows


def _blob(shape_yx: tuple[int, int], sigma: float) -> np.ndarray:
    y, x = _positions(shape_yx)
    return np.exp(-((x - 1.2) ** 2 + (y + 0.7) ** 2) / (2 * sigma**2)).astype(np.float32)


def _positions(shape_yx: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """y (ny, 1) and x (nx,) from the rotation axis."""
    y, x = (np.arange(size) - (size - 1) / 2 for size in shape_yx)
    return y[:, None], x


def _distance(shape_yx: tuple[int, int]) -> np.ndarray:
    y, x = _positions(shape_yx)
    return np.asarray(np.hypot(x, y))


def _inner(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.vdot(a.astype(np.float64), b.astype(np.float64)))


def _rms(error: np.ndarray) -> float:
    return float(np.sqrt(np.mean(error.astype(np.float64) ** 2)))


def _assert_close(found: np.ndarray, expected: np.ndarray, part: float, what: str) -> None:
    """The RMS difference is at most a part of the expected RMS."""
    error, size = _rms(found - expected), _rms(expected)
    assert error <= part * size, f"{what}: RMS error {error:.3g} of {size:.3g}, {part:g} allowed"


def _assert_same(found: np.ndarray, expected: np.ndarray, what: str) -> None:
    assert found.tobytes() == expected.tobytes(), f"{what}: the bytes differ"
