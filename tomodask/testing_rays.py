"""The laws that every backend for rays of any direction keeps: `RAY_BACKENDS` and plug-ins.

Each law takes a backend's name, or "module:Class", and raises AssertionError where it is broken:

    @pytest.mark.parametrize("law", RAY_LAWS)
    def test_my_projector(law):
        RAY_LAWS[law]("my_package.rays:MyRays")

A backend's pair may be unmatched and its interpolation coarse, as that of a GPU's textures: it then
keeps `UNMATCHED_LAWS` alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import numpy as np

from tomodask.ellipsoids import Ellipsoids, aligned_ellipsoids, chiral_ellipsoids
from tomodask.errors import DeviceError, GeometryError, InputError
from tomodask.geometry import (
    ProjectionGeometry,
    VolumeGeometry,
    VoxelViews,
    cone,
    in_voxels,
    laminography,
    parallel,
    rotate,
    scale,
    translate,
    volume,
)
from tomodask.projectors import RayBackend, load_ray_backend
from tomodask.projectors.choice import backends_for
from tomodask.projectors.operator import operator

Z = (1.0, 0.0, 0.0)
Case = tuple[VolumeGeometry, ProjectionGeometry]


def cone_views(
    angles: np.ndarray, det_shape: tuple[int, int], src_orig: float = 30.0, orig_det: float = 15.0
) -> ProjectionGeometry:
    """A cone beam around z whose pixels have size 1 at the axis."""
    far = src_orig + orig_det
    height, width = (count * far / src_orig for count in det_shape)
    return cone(
        angles=angles,
        shape=det_shape,
        size=(height, width),
        src_orig_dist=src_orig,
        src_det_dist=far,
    )


def turning_volume(angles: np.ndarray, shape: tuple[int, int, int]) -> VolumeGeometry:
    """A volume that turns around z and drifts along it, in front of a detector at rest."""
    drift = translate(Z, alpha=np.linspace(-0.7, 0.7, len(angles)))
    return drift * rotate(axis=Z, angles=angles) * volume(shape=shape)


def ray_cases() -> dict[str, Case]:
    """Volumes and views that backends like to get wrong."""
    turn = np.arange(7) * 2 * np.pi / 7 + 0.1
    cube, circle = volume(shape=(6, 10, 10)), cone_views(turn, (6, 12))
    flat = parallel(angles=turn / 2, shape=(6, 12))
    rng = np.random.default_rng(7)

    def shaken(vectors: np.ndarray, by: float) -> np.ndarray:
        return vectors + by * rng.normal(size=vectors.shape)

    aside = np.where(np.arange(7) % 3 == 1, 100, 0)[:, None] * (1, 0, 0)
    return {
        "parallel": (cube, flat),
        "parallel, every 45 degrees": (
            cube,
            parallel(angles=np.arange(8) * np.pi / 4, shape=(6, 12)),
        ),
        "parallel, shifted by parts of a pixel": (
            cube,
            replace(flat, det_pos=shaken(flat.det_pos, 0.7)),
        ),
        "parallel, more rows than slices": (
            cube,
            replace(parallel(angles=turn / 2, shape=(11, 12)), det_pos=np.array([-0.5, 0, 0])),
        ),
        "parallel, fewer rows than slices": (
            cube,
            replace(parallel(angles=turn / 2, shape=(3, 12)), det_pos=np.array([2.5, 0, 0])),
        ),
        "parallel, jittering along the columns": (
            volume(shape=(6, 10, 9), size=(3, 5, 4.5), pos=(0, 0.2, -0.1)),
            scale(0.5) * replace(flat, det_pos=flat.det_u * shaken(np.zeros((7, 1)), 1.7)),
        ),
        "parallel, a volume that turns": (
            rotate(pos=(0, 0.2, 0.3), axis=Z, angles=turn) * cube,
            flat[0],
        ),
        "laminography": (cube, laminography(angles=turn, shape=(14, 12), tilt=np.deg2rad(35))),
        "rays nearly upright": (
            cube,
            laminography(angles=turn, shape=(12, 12), tilt=np.deg2rad(80)),
        ),
        "cone": (cube, circle),
        "steep cone": (cube, cone_views(turn, (13, 12), src_orig=9.0, orig_det=2.0)),
        "helical": (cube, translate(Z, alpha=np.linspace(-3, 3, 7)) * circle),
        "posed view by view": (
            cube,
            replace(
                circle,
                source=shaken(circle.source, 0.5),
                det_pos=shaken(circle.det_pos, 0.5),
                det_v=shaken(circle.det_v, 0.1),
                det_u=shaken(circle.det_u, 0.1),
            ),
        ),
        "anisotropic voxels": (volume(shape=(5, 9, 11), size=(8, 6, 10)), circle),
        "a volume that turns": (turning_volume(turn, (6, 10, 10)), circle[0]),
        "odd sizes": (volume(shape=(5, 9, 11)), cone_views(turn, (7, 13))),
        "one view": (cube, circle[2]),
        "one row": (cube, circle.take_rows(2, 3)),
        "one slice": (volume(shape=(1, 10, 10)), circle),
        "axis off the middle": (cube, replace(circle, det_pos=circle.det_pos + 3.3 * circle.det_u)),
        "detector smaller than the object": (cube, cone_views(turn, (3, 5))),
        "volume off the axis": (volume(shape=(6, 10, 10), pos=(1.3, -2.2, 3.1)), circle),
        "volume outside some views": (cube, replace(circle, det_pos=circle.det_pos + aside)),
        "source within the volume": (cube, cone_views(turn, (6, 12), src_orig=2.3, orig_det=9.0)),
    }


# ---- A and A.T -------------------------------------------------------------------------------


def rays_back_project_by_the_adjoint(backend: str) -> None:
    """<A x, y> = <x, A.T y>."""
    for name, views, kind in _projectable(backend):
        A, rng = kind(views, 1), np.random.default_rng(1)
        x = rng.normal(size=views.shape).astype(np.float32)
        Ax = A.forward(x)
        y = Ax + np.float32(0.1 * Ax.std()) * rng.normal(size=Ax.shape).astype(np.float32)
        there, back = _inner(Ax, y), _inner(x, A.adjoint(y))  # y is near A x: nothing cancels
        # float32 results of a few hundred terms: about sqrt(1000) * 6e-8
        assert abs(there - back) <= 1e-5 * abs(there), f"{name}: <Ax, y> {there}, <x, A.T y> {back}"


def rays_project_linearly(backend: str) -> None:
    """A(a x + b z) = a A(x) + b A(z), and likewise for A.T."""
    for name, views, kind in _projectable(backend):
        A, rng = kind(views, 1), np.random.default_rng(2)
        for apply, shape in ((A.forward, views.shape), (A.adjoint, views.range_shape)):
            x, z = rng.normal(size=(2, *shape)).astype(np.float32)
            expected = 3 * apply(x) - 0.5 * apply(z)
            _assert_close(apply(3 * x - 0.5 * z), expected, 1e-5, name)  # float32, as above


def rays_agree_with_the_reference(backend: str) -> None:
    """A and A.T are those of Joseph's method, to the rounding of float32, even of noise."""
    for name, views, kind in _projectable(backend):
        A, law = kind(views, 2), load_ray_backend("reference")(views, 1)
        rng = np.random.default_rng(3)
        x, y = (rng.normal(size=n).astype(np.float32) for n in (views.shape, views.range_shape))
        _assert_close(A.forward(x), law.forward(x), 1e-5, f"{name}, A")
        _assert_close(A.adjoint(y), law.adjoint(y), 1e-5, f"{name}, A.T")


def rays_through_ellipsoids_are_their_line_integrals(backend: str) -> None:
    """A of ellipsoids' voxel averages nears their exact integrals as voxels and pixels shrink."""
    for name, (coarse, fine), allowed in _refined_cases():
        kind = load_ray_backend(backend)
        if kind.refusal(in_voxels(*coarse)) is not None:
            continue
        first, second = (_error_of_ellipsoids(kind, *case) for case in (coarse, fine))
        assert second <= allowed, f"{name}: RMS error {second:.3g} of the integrals' RMS"
        # the surface is blurred over a voxel: an error of the first order, 0.61 at the most here
        assert second <= 0.7 * first, f"{name}: {second:.3g} with voxels half those of {first:.3g}"


def rays_are_measured_in_the_world(backend: str) -> None:
    """With everything three times as large, the integrals are three times as large."""
    for name in ("parallel", "cone", "a volume that turns"):
        space, projections = ray_cases()[name]
        large = scale(3) * space, scale(3) * projections
        kind = load_ray_backend(backend)
        A, B = kind(in_voxels(space, projections), 1), kind(in_voxels(*large), 1)
        x = np.random.default_rng(4).normal(size=space.shape).astype(np.float32)
        y = A.forward(x)
        _assert_close(B.forward(x), 3 * y, 1e-5, f"{name}, A")
        _assert_close(B.adjoint(y), 3 * A.adjoint(y), 1e-5, f"{name}, A.T")


# ---- the same, whatever lies beside ----------------------------------------------------------


def threads_do_not_change_a_byte_of_rays(backend: str) -> None:
    """One thread, two, three, and the same projector again."""
    for name, views, kind in _projectable(backend):
        rng = np.random.default_rng(5)
        x, y = (rng.normal(size=n).astype(np.float32) for n in (views.shape, views.range_shape))
        one = kind(views, 1)
        expected = one.forward(x), one.adjoint(y)
        for A in (kind(views, 2), kind(views, 3), one):
            assert A.forward(x).tobytes() == expected[0].tobytes(), f"{name}: A differs"
            assert A.adjoint(y).tobytes() == expected[1].tobytes(), f"{name}: A.T differs"


def a_view_is_the_same_alone_and_among_others(backend: str) -> None:
    """Projections of some views are those of all, of the same views."""
    for name, (space, projections) in ray_cases().items():
        if not space.is_resting:
            continue
        kind = load_ray_backend(backend)
        x = np.random.default_rng(6).normal(size=space.shape).astype(np.float32)
        whole = kind(in_voxels(space, projections), 1).forward(x)
        for chosen in (np.s_[::2], np.s_[-1:]):
            part = kind(in_voxels(space, projections[chosen]), 1).forward(x)
            # not to the byte: a backend may have a faster kernel for the views that are left
            _assert_close(part, whole[:, chosen], 1e-5, f"{name}, {chosen}")


# ---- manners ---------------------------------------------------------------------------------


def rays_read_arrays_of_any_layout(backend: str) -> None:
    """Views of arrays give what their copies give; inputs are not written to."""
    views = in_voxels(*ray_cases()["posed view by view"])
    A = load_ray_backend(backend)(views, 1)
    for apply, shape in ((A.forward, views.shape), (A.adjoint, views.range_shape)):
        plain = np.random.default_rng(7).normal(size=shape).astype(np.float32)
        kept, expected = plain.copy(), apply(plain)
        assert expected.dtype == np.float32, f"results are float32, not {expected.dtype}"
        assert plain.tobytes() == kept.tobytes(), "the input was written to"
        strided = np.repeat(plain, 2, axis=2)[:, :, ::2].transpose(2, 1, 0).copy().T
        strided.flags.writeable = False
        assert apply(strided).tobytes() == expected.tobytes(), f"strides {strided.strides}"


def wrong_arrays_are_refused_by_rays(backend: str) -> None:
    """Another shape or complex numbers are an error that names what was expected."""
    space, projections = ray_cases()["cone"]
    A = operator(space, projections, backend)
    for apply in (A, A.T):
        shape = apply.domain_shape
        for wrong in (np.zeros(shape[1:]), np.zeros((*shape, 2)), np.zeros(shape, complex)):
            expected = str(shape) if wrong.dtype != complex else "complex128"
            message = "taken"
            try:
                apply(wrong)
            except InputError as error:
                message = str(error)
            assert expected in message, f"{wrong.dtype} of shape {wrong.shape}: {message}"


def memory_of_rays_is_declared(backend: str) -> None:
    """Whole bytes that do not shrink with the size."""
    kind = load_ray_backend(backend)
    angles = np.arange(4.0)
    small, large = (
        kind.memory_bytes(in_voxels(volume(shape=n), cone_views(angles, (n, n), 4.0 * n)), 2)
        for n in (16, 32)
    )
    assert isinstance(small, int), f"{small!r} is not a whole number"
    assert 0 <= small <= large, f"{small} bytes at size 16, {large} at 32"


LAWS = (
    rays_back_project_by_the_adjoint,
    rays_project_linearly,
    rays_agree_with_the_reference,
    rays_through_ellipsoids_are_their_line_integrals,
    rays_are_measured_in_the_world,
    threads_do_not_change_a_byte_of_rays,
    a_view_is_the_same_alone_and_among_others,
    rays_read_arrays_of_any_layout,
    wrong_arrays_are_refused_by_rays,
    memory_of_rays_is_declared,
)
RAY_LAWS: Mapping[str, Callable[[str], None]] = {law.__name__: law for law in LAWS}
MATCHED_ONLY = (rays_back_project_by_the_adjoint, rays_agree_with_the_reference)
UNMATCHED_LAWS = {name: law for name, law in RAY_LAWS.items() if law not in MATCHED_ONLY}


# ---- operators -------------------------------------------------------------------------------


def an_operator_passes_or_is_refused_by_name(backend: str, case: str) -> None:
    """`operator` projects a case of `ray_cases` as `reference` does, or says who can."""
    space, projections = ray_cases()[case]
    able = backends_for(space, projections)
    try:
        A = operator(space, projections, backend)
    except (GeometryError, DeviceError) as error:
        refusal = str(error)
    else:
        refusal = ""
    if refusal:
        assert backend not in able, f"{backend} said it could project {case}: {refusal}"
        assert all(name in refusal for name in (backend, *able)), f"{refusal}: not all named"
        return
    assert backend in ("auto", *able), f"{backend} said it could not project {case}"
    law, rng = operator(space, projections, "reference"), np.random.default_rng(8)
    noise = rng.normal(size=A.domain_shape).astype(np.float32)
    Ax = A(noise)
    y = Ax + np.float32(0.1 * Ax.std()) * rng.normal(size=Ax.shape).astype(np.float32)
    there, back = _inner(Ax, y), _inner(noise, A.T(y))
    assert abs(there - back) <= 1e-5 * abs(there), f"<Ax, y> {there}, <x, A.T y> {back}"
    middle = tuple(space.pos[0] + 0.3)
    x = aligned_ellipsoids([middle], [(20.0, 3.0, 3.4)], [1.0]).volume(space)
    # a backend of its own interpolation: the edges of an object of few voxels differ by that much
    _assert_close(A(x), law(x), 0.06, f"{backend}, {case}")


# ---- parts -----------------------------------------------------------------------------------


def _projectable(backend: str) -> Iterator[tuple[str, VoxelViews, type[RayBackend]]]:
    kind = load_ray_backend(backend)
    for name, case in ray_cases().items():
        views = in_voxels(*case)
        if kind.refusal(views) is None:
            yield name, views, kind


def _refined_cases() -> Iterator[tuple[str, tuple[Case, Case], float]]:
    """Name, the same world in 12 and in 24 voxels, and the error allowed of the latter."""
    turn = np.arange(5) * 2 * np.pi / 5 + 0.1
    shape, pixels = (12, 12, 12), (14, 14)
    cases: dict[str, Case] = {
        "parallel": (volume(shape=shape), parallel(angles=turn, shape=pixels)),
        "laminography": (
            volume(shape=shape),
            laminography(angles=turn, shape=pixels, tilt=np.deg2rad(35)),
        ),
        "cone": (volume(shape=shape), cone_views(turn, pixels)),
        "anisotropic": (volume(shape=(8, 12, 16), size=12), cone_views(turn, pixels)),
        "turning": (turning_volume(turn, shape), cone_views(turn, pixels)[0]),
    }
    for name, (space, projections) in cases.items():
        nz, ny, nx = space.shape
        halves = {axis: getattr(space, axis) / 2 for axis in ("w", "v", "u")}
        fine_space = replace(space, shape=(2 * nz, 2 * ny, 2 * nx), **halves)
        rows, columns = projections.det_shape
        halves = {axis: getattr(projections, axis) / 2 for axis in ("det_v", "det_u")}
        fine = replace(projections, det_shape=(2 * rows, 2 * columns), **halves)
        yield name, ((space, projections), (fine_space, fine)), 0.05


def _error_of_ellipsoids(
    kind: type[RayBackend], space: VolumeGeometry, projections: ProjectionGeometry
) -> float:
    objects: Ellipsoids = chiral_ellipsoids(5.0)
    exact = objects.line_integrals(projections, space, supersampling=3)
    found = kind(in_voxels(space, projections), 1).forward(objects.volume(space))
    return _rms(found - exact) / _rms(exact)


def _inner(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.vdot(a.astype(np.float64), b.astype(np.float64)))


def _rms(error: np.ndarray) -> float:
    return float(np.sqrt(np.mean(error.astype(np.float64) ** 2)))


def _assert_close(found: np.ndarray, expected: np.ndarray, part: float, what: str) -> None:
    """The RMS difference is at most a part of the expected RMS."""
    error, size = _rms(found - expected), _rms(expected)
    assert error <= part * size, f"{what}: RMS error {error:.3g} of {size:.3g}, {part:g} allowed"
