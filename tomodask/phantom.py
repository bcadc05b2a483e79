"""Objects whose projections are known exactly, and the detector that counts them.

Lengths are detector pixels and values attenuation in 1/pixel. Positions follow `geometry`: x and y
from the rotation axis, z in detector rows with 0 the middle of the first. Projections and images
are averages over whole pixels, as a detector measures them, not samples at the pixels' middles.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial import KDTree

from tomodask.errors import GeometryError, InputError

CELLS_AT_ONCE = 200_000  # projected at a time: the temporaries stay in the cache


@dataclass(frozen=True, eq=False)
class Discs:
    """Discs in one slice; where they overlap their values add up.

    x, y, radius : (num_discs,) pixels, x and y from the rotation axis.
    value : (num_discs,) attenuation that each disc adds, 1/pixel.
    """

    x: np.ndarray
    y: np.ndarray
    radius: np.ndarray
    value: np.ndarray

    def __post_init__(self) -> None:
        _check_round(self, ("x", "y", "radius", "value"))

    @property
    def mass(self) -> float:
        """Attenuation summed over the slice: what every projection sums to."""
        return float(np.pi * (self.value * self.radius**2).sum())

    def sinogram(
        self, angles: np.ndarray, det_count: int, center: float | None = None
    ) -> np.ndarray:
        """Line integrals averaged over each pixel, exact; (num_angles, det_count) float32.

        The axis lies at column `center`, in the detector's middle unless given.
        """
        center = (det_count - 1) / 2 if center is None else center
        angles = np.asarray(angles, np.float64)
        sums = np.zeros((angles.size, det_count))
        for x, y, radius, value in zip(self.x, self.y, self.radius, self.value, strict=True):
            u = x * np.cos(angles) + y * np.sin(angles) + center
            column, edges = _columns_touched(u, radius)
            # area of the disc on one side of each edge, but for a constant
            root = np.sqrt(np.maximum(radius**2 - edges**2, 0))  # rounding goes below 0
            area = edges * root + radius**2 * np.arcsin(edges / radius)
            view, cell = np.nonzero((column >= 0) & (column < det_count))
            sums[view, column[view, cell]] += value * np.diff(area, axis=1)[view, cell]
        return sums.astype(np.float32)

    def image(self, ny: int, nx: int, supersampling: int = 8) -> np.ndarray:
        """Averages over each pixel, (ny, nx) float32: exact along x, sampled lines along y."""
        y_lines = (np.arange(ny * supersampling) + 0.5) / supersampling - ny / 2
        x_edges, image = np.arange(nx + 1) - nx / 2, np.zeros((ny, nx))
        for x, y, radius, value in zip(self.x, self.y, self.radius, self.value, strict=True):
            covered = _covered(np.sqrt(np.maximum(radius**2 - (y_lines - y) ** 2, 0)), x_edges - x)
            image += value * covered.reshape(ny, supersampling, nx).mean(axis=1)
        return image.astype(np.float32)


def disc_sinogram(
    angles: np.ndarray,
    det_count: int,
    center: float | None = None,
    radius: float = 20.0,
    x: float = 0.0,
    y: float = 0.0,
    value: float = 1.0,
) -> np.ndarray:
    """Pixel-averaged line integrals of one disc, (num_angles, det_count) float32."""
    return _one_disc(radius, x, y, value).sinogram(angles, det_count, center)


def disc_image(
    ny: int, nx: int, radius: float = 20.0, x: float = 0.0, y: float = 0.0, value: float = 1.0
) -> np.ndarray:
    """Pixel averages of one disc, (ny, nx) float32."""
    return _one_disc(radius, x, y, value).image(ny, nx)


def chiral_phantom(radius: float = 40.0) -> Discs:
    """Unequal discs in a disc of `radius` pixels: no rotation turns its mirror image into it."""
    x = np.array([0.0, -0.45, 0.40, 0.35, -0.10])
    y = np.array([0.0, -0.30, -0.35, 0.45, 0.55])
    size = np.array([1.0, 0.30, 0.20, 0.12, 0.08])
    value = np.array([0.01, 0.02, 0.01, 0.03, -0.01])
    return Discs(radius * x, radius * y, radius * size, value)


@dataclass(frozen=True, eq=False)
class Foam:
    """Spheres in an upright solid cylinder that spans the detector rows 0 to `height` - 1 whole.

    x, y, z : (num_spheres,) middles; a sphere beyond the cylinder's ends is cut there.
    radius : (num_spheres,) pixels.
    value : (num_spheres,) what each sphere adds to `attenuation`: -attenuation for a void.
    cylinder_x, cylinder_y : the cylinder's own axis, from the rotation axis.
    """

    x: np.ndarray
    y: np.ndarray
    z: np.ndarray
    radius: np.ndarray
    value: np.ndarray
    cylinder_radius: float
    height: int
    attenuation: float
    cylinder_x: float = 0.0
    cylinder_y: float = 0.0

    def __post_init__(self) -> None:
        _check_round(self, ("x", "y", "z", "radius", "value"))

    def moved(self, x: float, y: float) -> Foam:
        """The same foam shifted by (x, y) pixels: an object that is off the rotation axis."""
        axis_x, axis_y = self.cylinder_x + x, self.cylinder_y + y
        return replace(self, x=self.x + x, y=self.y + y, cylinder_x=axis_x, cylinder_y=axis_y)

    def discs(self, z: float) -> Discs:
        """The plane at height `z` (not averaged over a row) as discs, the cylinder's first."""
        cut = np.abs(self.z - z) < self.radius
        x, y = np.append(self.cylinder_x, self.x[cut]), np.append(self.cylinder_y, self.y[cut])
        radii = np.sqrt(self.radius[cut] ** 2 - (self.z[cut] - z) ** 2)
        values = np.append(self.attenuation, self.value[cut])
        return Discs(x, y, np.append(self.cylinder_radius, radii), values)

    def project(
        self,
        angles: np.ndarray,
        det_rows: int,
        det_count: int,
        center: float | None = None,
        first_row: int = 0,
    ) -> np.ndarray:
        """Line integrals averaged over each pixel, exact; (num_angles, det_rows, det_count).

        The axis lies at column `center`, in the middle unless given; the detector's first row is
        the foam's row `first_row`, so that a large scan can be made a slab at a time. float32.
        """
        center = (det_count - 1) / 2 if center is None else center
        angles = np.asarray(angles, np.float64)
        edges = self._row_edges(det_rows, first_row)
        profile = self._cylinder().sinogram(angles, det_count, center)
        projections = np.asarray(profile[:, None] * np.diff(edges).astype(np.float32)[:, None])
        for index in range(self.x.size):
            self._project_sphere(index, angles, center, edges, projections)
        return projections

    def _project_sphere(
        self, index: int, angles: np.ndarray, center: float, edges: np.ndarray, out: np.ndarray
    ) -> None:
        radius, z_edges = self.radius[index], edges - self.z[index]
        start, stop = _touched(z_edges, radius)
        if start == stop:
            return
        z_edges = np.clip(z_edges[start : stop + 1], -radius, radius)[None, :, None]
        views_at_once = max(1, int(CELLS_AT_ONCE / (2 * radius + 2) / (stop - start + 1)))
        for first in range(0, angles.size, views_at_once):
            some = angles[first : first + views_at_once]
            u = self.x[index] * np.cos(some) + self.y[index] * np.sin(some) + center
            column, u_edges = _columns_touched(u, radius)
            corners = _half_ball_over_rectangle(u_edges[:, None, :], z_edges, radius)
            pixels = 2 * self.value[index] * np.diff(np.diff(corners, axis=1), axis=2)
            view, cell = np.nonzero((column >= 0) & (column < out.shape[2]))
            out[first + view, start:stop, column[view, cell]] += pixels[view, :, cell]

    def volume(
        self, nz: int, ny: int, nx: int, first_row: int = 0, supersampling: int = 4
    ) -> np.ndarray:
        """Averages over each voxel, (nz, ny, nx) float32, rows `first_row` onwards.

        Exact along x, `supersampling` x `supersampling` sampled lines over each voxel's z and y.
        """
        edges = self._row_edges(nz, first_row)
        profile = self._cylinder().image(ny, nx, supersampling)
        volume = np.asarray(profile * np.diff(edges).astype(np.float32)[:, None, None])
        for index in range(self.x.size):
            self._draw_sphere(index, edges, supersampling, volume)
        return volume

    def slice(self, z: int, ny: int, nx: int, supersampling: int = 4) -> np.ndarray:
        """Averages over each voxel of row `z`, (ny, nx) float32."""
        return np.asarray(self.volume(1, ny, nx, z, supersampling)[0])

    def _draw_sphere(
        self, index: int, row_edges: np.ndarray, supersampling: int, volume: np.ndarray
    ) -> None:
        radius = self.radius[index]
        _, ny, nx = volume.shape
        z_edges = row_edges - self.z[index]
        y_edges = np.arange(ny + 1) - ny / 2 - self.y[index]
        x_edges = np.arange(nx + 1) - nx / 2 - self.x[index]
        (z0, z1), (y0, y1), (x0, x1) = (_touched(e, radius) for e in (z_edges, y_edges, x_edges))
        heights = np.diff(z_edges[z0 : z1 + 1])  # 0 in rows beyond the cylinder's ends, else 1
        parts = (np.arange(supersampling) + 0.5) / supersampling
        z_lines = z_edges[z0:z1, None] + heights[:, None] * parts
        y_lines = y_edges[y0:y1, None] + parts
        # half chords along x, (z, sub z, y, sub y)
        half = np.sqrt(np.maximum(radius**2 - z_lines[..., None, None] ** 2 - y_lines**2, 0))
        covered = _covered(half, x_edges[x0 : x1 + 1]).mean(axis=(1, 3))
        added = self.value[index] * covered * heights[:, None, None]
        volume[z0:z1, y0:y1, x0:x1] += added.astype(np.float32)

    def _cylinder(self) -> Discs:
        return _one_disc(self.cylinder_radius, self.cylinder_x, self.cylinder_y, self.attenuation)

    def _row_edges(self, rows: int, first_row: int) -> np.ndarray:
        """(rows + 1,) heights between the rows, cut at the cylinder's ends: outside is air."""
        return np.clip(first_row + np.arange(rows + 1.0) - 0.5, -0.5, self.height - 0.5)


def foam(
    radius: float,
    height: int,
    num_spheres: int,
    seed: int,
    *,
    attenuation: float = 0.01,
    sphere_radii: tuple[float, float] | None = None,
    dense_fraction: float = 0.0,
    dense_contrast: float = 1.0,
    wall: float = 0.5,
) -> Foam:
    """Voids of many sizes, none touching another, in a cylinder of `radius` x `height` pixels.

    Radii follow a density of r**-3 within `sphere_radii` (pixels; 2 % to 20 % of the cylinder's
    unless given) and are placed greatest first at random trial points that still have room; one
    that finds none shrinks, but not below the smallest. `dense_fraction` of the spheres attenuate
    (1 + `dense_contrast`) times the solid instead of nothing. At least `wall` pixels of solid stay
    around each. In the spirit of Pelt et al. 2022, doi:10.1107/S1600577521011322, whose spheres
    instead always take the widest room.

    Raises
    ------
    GeometryError : the spheres do not fit.
    """
    smallest, largest = sphere_radii or (0.02 * radius, 0.2 * radius)
    if not 0 < smallest <= largest < radius - wall:
        raise GeometryError(
            f"spheres of {smallest:g} to {largest:g} pixels in a cylinder of radius {radius:g}: "
            f"give 0 < smallest <= largest < {radius - wall:g}"
        )
    rng = np.random.default_rng(seed)
    uniform = np.sort(rng.uniform(size=num_spheres))
    radii = (largest**-2 + uniform * (smallest**-2 - largest**-2)) ** -0.5  # greatest first
    centers, radii = _place(radii, radius, height, wall, rng)
    contrast = np.where(rng.uniform(size=num_spheres) < dense_fraction, dense_contrast, -1.0)
    z, y, x = centers.T
    return Foam(x, y, z, radii, contrast * attenuation, radius, height, attenuation)


def _place(
    radii: np.ndarray, within: float, height: int, wall: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Middles (num_spheres, 3) as (z, y, x) in a cylinder of radius `within`, and the radii."""
    num_trials = max(20_000, 20 * radii.size)
    z = rng.uniform(-0.5, height - 0.5, num_trials)
    distance = within * np.sqrt(rng.uniform(size=num_trials))
    turn = rng.uniform(0, 2 * np.pi, num_trials)
    trials = np.stack([z, distance * np.sin(turn), distance * np.cos(turn)], axis=1)
    tree, room = KDTree(trials), within - distance - wall
    chosen, placed = np.empty(radii.size, np.intp), np.empty(radii.size)
    for index, wanted in enumerate(radii):
        chosen[index] = _find_room(room, wanted, rng)
        placed[index] = taken = min(wanted, room[chosen[index]])
        if taken < radii[-1]:
            raise GeometryError(
                f"only {index} of {radii.size} spheres fit into a cylinder of radius "
                f"{within:g} and height {height}: ask for fewer or smaller ones"
            )
        # later spheres want no more than this one: trials farther off need no update
        middle = trials[chosen[index]]
        near = tree.query_ball_point(middle, taken + wanted + wall)
        gap = np.linalg.norm(trials[near] - middle, axis=1) - taken - wall
        room[near] = np.minimum(room[near], gap)
    return trials[chosen], placed


def _find_room(room: np.ndarray, wanted: float, rng: np.random.Generator) -> int:
    """A random trial point with room for a sphere of `wanted` radius, else the widest."""
    for _ in range(8):  # cheap while many trials have room
        some = rng.integers(room.size, size=256)
        fits = some[room[some] >= wanted]
        if fits.size:
            return int(fits[0])
    fits = np.flatnonzero(room >= wanted)
    return int(rng.choice(fits)) if fits.size else int(room.argmax())


@dataclass(frozen=True, eq=False)
class SimulatedScan:
    """Counts as a detector would give them, and the truth behind them.

    projections, flats, darks : (num_frames, det_rows, det_count) uint16.
    """

    projections: np.ndarray
    flats: np.ndarray
    darks: np.ndarray
    angles: np.ndarray
    foam: Foam
    center_of_rotation: float
    gain: float


def simulate_scan(
    det_rows: int,
    det_count: int,
    num_angles: int,
    seed: int,
    *,
    num_spheres: int = 300,
    photons: float = 1000.0,
    gain: float = 4.0,
    ring_level: float = 0.0,
) -> SimulatedScan:
    """A foam that fills the field of view, over half a turn, with an axis off the middle.

    The axis is drawn from the seed within 4 % of the columns around the middle; rays through the
    cylinder's axis keep about exp(-2) of the beam where they meet no void.
    """
    rng = np.random.default_rng([seed, 1])
    center = (det_count - 1) / 2 + rng.uniform(-0.04, 0.04) * det_count
    radius = 0.43 * det_count  # with the axis' 4 % air stays on both sides
    sample = foam(radius, det_rows, num_spheres, seed, attenuation=1 / radius)
    angles = np.linspace(0, np.pi, num_angles, endpoint=False)
    line_integrals = sample.project(angles, det_rows, det_count, center)
    counts = detector_counts(line_integrals, photons, seed, gain=gain, ring_level=ring_level)
    return SimulatedScan(*counts, angles, sample, center, gain)


def detector_counts(
    line_integrals: np.ndarray,
    photons: float,
    seed: int,
    *,
    gain: float = 1.0,
    dark_level: float = 100.0,
    read_noise: float = 2.0,
    beam: np.ndarray | None = None,
    ring_level: float = 0.0,
    num_flats: int = 20,
    num_darks: int = 20,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Projections, flats and darks, each (frames, det_rows, det_count) uint16 counts.

    A pixel counts `gain` times a Poisson number of photons, `photons` on average over the open
    beam, plus `dark_level` counts with Gaussian `read_noise`. `beam` (det_rows, det_count) is the
    open beam in units of its mean, `beam_profile` unless given. `ring_level` is the standard
    deviation of a gain error that each column has in the projections but not in the flats.

    Raises
    ------
    InputError : the brightest pixel would leave the 16 bits.
    """
    _, det_rows, det_count = line_integrals.shape
    rng = np.random.default_rng([seed, 2])
    open_beam = photons * (beam_profile(det_rows, det_count, seed) if beam is None else beam)
    peak = max(0.0, float(open_beam.max()))
    brightest = gain * (peak + 6 * np.sqrt(peak)) + dark_level
    if not photons > 0 or not brightest < np.iinfo(np.uint16).max:
        raise InputError(
            f"{photons:g} photons at a gain of {gain:g} reach {brightest:.0f} counts: "
            "give more than 0 photons and stay below 65535 counts"
        )
    columns = 1 + ring_level * rng.standard_normal(det_count)

    def count(expected: np.ndarray) -> np.ndarray:
        noise = dark_level + read_noise * rng.standard_normal(expected.shape)
        counts = np.rint(gain * rng.poisson(expected) + noise)
        return np.clip(counts, 0, np.iinfo(np.uint16).max).astype(np.uint16)

    projections = [count(open_beam * columns * np.exp(-view)) for view in line_integrals]
    flats = np.stack([count(open_beam) for _ in range(num_flats)])
    darks = np.stack([count(np.zeros_like(open_beam)) for _ in range(num_darks)])
    return np.stack(projections), flats, darks


def beam_profile(det_rows: int, det_count: int, seed: int) -> np.ndarray:
    """(det_rows, det_count) open beam of mean 1: brighter in the middle, 2 % between pixels."""
    rng = np.random.default_rng([seed, 3])
    rows = (np.arange(det_rows) - (det_rows - 1) / 2) / det_rows
    columns = (np.arange(det_count) - (det_count - 1) / 2) / det_count
    smooth = np.exp(-2 * rows[:, None] ** 2 - columns**2 + 0.1 * columns)
    beam = smooth * (1 + 0.02 * rng.standard_normal((det_rows, det_count)))
    return np.asarray(beam / beam.mean())


def _half_ball_over_rectangle(u: np.ndarray, z: np.ndarray, radius: float) -> np.ndarray:
    """Volume between the plane and a half ball around 0, over the rectangle from 0 to (u, z).

    Odd in u and z, both within [-radius, radius]. The closed form of the double integral of
    sqrt(r^2 - u^2 - z^2); with the root cut at 0 it also holds for corners outside the ball.
    """
    root = np.sqrt(np.maximum(radius**2 - u**2 - z**2, 0))
    volume = u * z * root / 3
    volume += u * (radius**2 / 2 - u**2 / 6) * np.arctan2(z, root)
    volume += z * (radius**2 / 2 - z**2 / 6) * np.arctan2(u, root)
    return np.asarray(volume - radius**3 / 3 * np.arctan2(u * z, radius * root))


def _columns_touched(u: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Columns that u -+ radius spans, (num_angles, width), and how far their edges lie from u.

    The distances, (num_angles, width + 1), are cut to [-radius, radius].
    """
    first = np.floor(u - radius + 0.5).astype(np.intp)[:, None]
    column = first + np.arange(int(np.ceil(2 * radius)) + 1)
    edges = np.append(column, column[:, -1:] + 1, axis=1) - 0.5 - u[:, None]
    return column, np.clip(edges, -radius, radius)


def _touched(edges: np.ndarray, radius: float) -> tuple[int, int]:
    """First and last-plus-one cell between the rising `edges` that [-radius, radius] meets."""
    start = max(0, int(np.searchsorted(edges, -radius, side="right")) - 1)
    stop = min(edges.size - 1, int(np.searchsorted(edges, radius, side="left")))
    return start, max(start, stop)


def _covered(half: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Part of each cell between `edges` that a chord from -half to half covers: a new last axis."""
    half = half[..., None]
    return np.asarray(np.diff(np.clip(edges, -half, half), axis=-1))


def _one_disc(radius: float, x: float, y: float, value: float) -> Discs:
    return Discs(np.array([x]), np.array([y]), np.array([radius]), np.array([value]))


def _check_round(shapes: Discs | Foam, names: tuple[str, ...]) -> None:
    """Make the named fields float64 lists of one length, and see that the radii are positive."""
    for name in names:
        object.__setattr__(shapes, name, np.array(getattr(shapes, name), np.float64, ndmin=1))
    lengths = {name: getattr(shapes, name).shape for name in names}
    if len(set(lengths.values())) != 1 or shapes.radius.ndim != 1 or (shapes.radius <= 0).any():
        raise GeometryError(
            f"{', '.join(names)} must be lists of one length with radii above 0, got shapes "
            f"{lengths} and a smallest radius of {shapes.radius.min(initial=np.inf):g}"
        )
