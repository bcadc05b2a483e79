"""Roll, vertical jitter and a lens, undone."""

from dataclasses import replace

import numpy as np
import pytest

from tomodask.ellipsoids import chiral_ellipsoids
from tomodask.errors import GeometryError, InputError, RecipeError
from tomodask.geometry import Box, ParallelBeam, ViewRows, parallel, volume
from tomodask.preprocess import Align
from tomodask.projections import Projections
from tomodask.projectors import make_projector
from tomodask.reconstruct import FBP

SHIFTS = (0.4, -2.0, 3.0, 1.5)
EXAMPLES = {
    "roll": Align(roll_deg=3.0, center_row=24),
    "jitter": Align(row_shifts=SHIFTS),
    "lens": Align(distortion=(1.0, 1e-4, 2e-5), center_row=20, center_column=17),
    "all": Align(2.0, SHIFTS, (1.0, 1e-4, 2e-5), 20, 17),
}
SHAPE = (4, 50, 40)


def block_of(data: np.ndarray, row_start: int = 0) -> Projections:
    geometry = ParallelBeam(np.arange(len(data)) * 0.1, *data.shape[1:], row_start=row_start)
    return Projections(data, geometry)


def pattern(row: np.ndarray, column: np.ndarray) -> np.ndarray:
    return 2 + np.cos(0.5 * column + 0.3) * np.cos(0.4 * row)


def seen(correction: Align) -> np.ndarray:
    """`pattern` as the detector that the correction mends has it: mapped back, pixel by pixel."""
    found = np.empty(SHAPE)
    i, j = np.mgrid[: SHAPE[1], : SHAPE[2]].astype(float)
    middle = 19.5 if correction.center_column is None else correction.center_column
    for view in range(SHAPE[0]):
        row, column = i, j
        if correction.distortion:
            row, column = correction._lens(SHAPE[2]).to_ideal(row, column)
        shift = correction.row_shifts[view] if correction.row_shifts else 0.0
        dy, dx = row - shift - correction.center_row, column - middle
        cos, sin = np.cos(np.deg2rad(correction.roll_deg)), np.sin(np.deg2rad(correction.roll_deg))
        # the axis, dx = 0 when aligned, is seen at dx = dy tan(roll)
        found[view] = pattern(
            correction.center_row + cos * dy + sin * dx, middle + cos * dx - sin * dy
        )
    return found.astype(np.float32)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_picture_is_what_a_straight_detector_has(name: str) -> None:
    aligned = EXAMPLES[name](block_of(seen(EXAMPLES[name]))).data
    expected = pattern(*np.mgrid[: SHAPE[1], : SHAPE[2]])
    inner = np.s_[:, 8:-8, 8:-8]
    assert np.abs(aligned - expected)[inner].max() < 5e-3
    assert np.abs(seen(EXAMPLES[name]) - expected)[inner].max() > 0.05


@pytest.mark.parametrize("name", EXAMPLES)
def test_blocks_with_their_halo_give_the_bytes_of_the_whole(
    name: str, rng: np.random.Generator
) -> None:
    correction = EXAMPLES[name]
    whole = block_of(rng.normal(size=SHAPE).astype(np.float32))
    whole.data[2, 15, 3] = np.nan
    expected = correction(whole).data
    halo = correction.halo(whole.geometry)
    assert 3 <= halo <= 12
    for start, stop in ((0, 16), (16, 33), (33, 50)):
        read = ViewRows(start, stop).grow(halo, SHAPE[1])
        block = correction(whole.trim_rows(read.start, read.stop), threads=2)
        assert block.trim_rows(start, stop).data.tobytes() == expected[:, start:stop].tobytes()


def test_fbp_after_align_is_as_good_as_of_a_straight_scan(rng: np.random.Generator) -> None:
    phantom, space, count = chiral_ellipsoids(15.0), volume(shape=40), 90
    views = parallel(angles=count, shape=(40, 46))
    truth, shifts = phantom.volume(space), rng.uniform(-3, 3, size=count)
    cos, sin = np.cos(np.deg2rad(2.0)), np.sin(np.deg2rad(2.0))
    crooked = replace(
        views,
        det_v=cos * views.det_v - sin * views.det_u,
        det_u=cos * views.det_u + sin * views.det_v,
        # the picture lies lower where the detector is higher
        det_pos=views.det_pos - shifts[:, None] * views.det_v,
    )
    align = Align(roll_deg=2.0, row_shifts=tuple(shifts), center_row=19.5)

    def error(scan: np.ndarray, correction: Align | None, slope: float = 0.0) -> float:
        geometry = ParallelBeam(np.arange(count) * np.pi / count, 40, 46)
        block = Projections(np.ascontiguousarray(scan.swapaxes(0, 1)), geometry)
        sinograms = (block if correction is None else correction(block)).sinograms()
        beam = geometry.with_center(22.5 - 19.5 * slope, slope)
        A = make_projector(Box((0, 0, 0), space.shape), beam)
        return float(np.sqrt(np.mean((FBP()(sinograms, A) - truth) ** 2)))

    best = error(phantom.line_integrals(views, supersampling=2), None)
    scan = phantom.line_integrals(crooked, supersampling=2)
    assert error(scan, align) < 1.1 * best
    assert error(scan, None) > 2 * best
    assert error(scan, None, np.tan(np.deg2rad(2.0))) > 2 * best  # an axis that leans is not all


def test_the_halo_grows_with_roll_shifts_and_lens() -> None:
    geometry = ParallelBeam(np.zeros(4), 50, 401)
    assert Align().halo(geometry) == 4
    assert Align(row_shifts=SHIFTS).halo(geometry) == 7
    # 200 columns either side of the middle times sin(1 degree), and 3 rows
    assert Align(roll_deg=1.0).halo(geometry) == 4 + 3
    assert Align(roll_deg=1.0, center_column=0.0).halo(geometry) == 7 + 3


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"roll_deg": 90.0}, RecipeError, "roll_deg 90.0: degrees from -45 to 45"),
        ({"row_shifts": (0.0, np.inf)}, RecipeError, "finite numbers"),
        ({"distortion": (0.0,)}, GeometryError, "first factor near 1"),
    ],
)
def test_parameters_that_mean_nothing_are_refused(
    parameters: dict, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        Align(**parameters)


def test_raw_counts_and_other_views_are_refused() -> None:
    with pytest.raises(InputError, match="put flatfield before"):
        Align()(block_of(np.zeros((4, 8, 8), np.uint16)))
    with pytest.raises(InputError, match="4 row shifts for 3 views"):
        Align(row_shifts=SHIFTS)(block_of(np.zeros((3, 8, 8), np.float32)))
