"""Filtered back-projection; what depends on the backend is held in tests/contracts."""

import pickle

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d

from tomodask.errors import GeometryError, InputError
from tomodask.geometry import Box, ParallelBeam
from tomodask.phantom import chiral_phantom, disc_image, disc_sinogram
from tomodask.projectors import Projector, make_projector
from tomodask.reconstruct import ALGORITHMS, FBP, fbp
from tomodask.reconstruct.filters import FILTERS

SIZE = 64
GOLDEN = np.pi * (np.sqrt(5) - 1) / 2


def projector(
    angles: np.ndarray, center: float = (SIZE - 1) / 2, det_count: int = SIZE, size: int = SIZE
) -> Projector:
    geometry = ParallelBeam(angles, 1, det_count, center_of_rotation=center)
    return make_projector(Box((0, 0, 0), (1, size, size)), geometry, "fourier")


def half_turn(num_angles: int) -> np.ndarray:
    return np.arange(num_angles) * np.pi / num_angles


def distance(size: int = SIZE) -> np.ndarray:
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    return np.asarray(np.hypot(x, y))


def rms(error: np.ndarray, where: np.ndarray) -> float:
    return float(np.sqrt(np.mean(error[where] ** 2)))


# ---- views -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "angles",
    [
        half_turn(100)[::-1],
        -half_turn(100) - 5,
        np.linspace(0, np.pi, 101),
        np.arange(200) * 2 * np.pi / 200,
        np.arange(201) * 2 * np.pi / 201,
        np.arange(144) * GOLDEN,
        np.random.default_rng(3).permutation(half_turn(100)),
        np.sort(half_turn(120) + np.random.default_rng(3).normal(scale=0.006, size=120)),
        np.concatenate((half_turn(300)[:150], half_turn(100)[50:])),
    ],
    ids=[
        "falling",
        "negative",
        "both ends",
        "full turn",
        "odd full turn",
        "golden",
        "shuffled",
        "jittered",
        "denser on one side",
    ],
)
def test_any_views_of_half_a_turn_give_the_phantom(angles: np.ndarray) -> None:
    phantom = chiral_phantom(26.0)
    truth, inside = phantom.image(SIZE, SIZE), distance() < 30
    image = FBP()(phantom.sinogram(angles, SIZE)[None], projector(angles))[0]
    even = FBP()(phantom.sinogram(half_turn(100), SIZE)[None], projector(half_turn(100)))[0]
    # unlike gaps alias a little more than even ones; wrong weights would err by several times
    assert rms(image - truth, inside) < 1.3 * rms(even - truth, inside)


def test_giving_the_first_view_again_at_the_end_changes_nothing() -> None:
    closed = np.linspace(0, np.pi, 101)
    sinogram = chiral_phantom(26.0).sinogram(closed, SIZE)[None]
    both = FBP()(sinogram, projector(closed))
    without = FBP()(sinogram[:, :-1], projector(closed[:-1]))
    # float32, and FINUFFT's 1e-4 of a view out of 100; twice the weight would change 1e-2
    assert np.abs(both - without).max() < 1e-4 * np.abs(without).max()


# ---- filtering -------------------------------------------------------------------------------


def test_a_shorter_padding_would_bend_a_flat_disc() -> None:
    """Why `padding` below 2 is refused."""
    angles, radius = half_turn(101), 30.0
    sinogram, A = disc_sinogram(angles, SIZE, radius=radius)[None], projector(half_turn(101))

    def bowl(num_samples: int) -> float:
        response = fbp.filter_response("hann", num_samples)
        image = A.filtered_adjoint(sinogram, response, np.full(101, np.pi / 101))[0]
        ring = (distance() > 22) & (distance() < 26)
        return float(abs(image[distance() < 6].mean() - image[ring].mean()))

    assert bowl(fbp.padded_length(SIZE)) < 0.002
    assert bowl(SIZE) > 0.02


@pytest.mark.parametrize("filter_name", sorted(set(FILTERS) - {"none"}))
def test_every_filter_keeps_the_value_of_a_disc(filter_name: str) -> None:
    sinogram = disc_sinogram(half_turn(101), SIZE, radius=24.0)[None]
    image = FBP(filter=filter_name)(sinogram, projector(half_turn(101)))[0]
    assert image[distance() < 16].mean() == pytest.approx(1, abs=0.005)


def test_no_filter_is_the_plain_back_projection(rng: np.random.Generator) -> None:
    A = projector(half_turn(20))
    # smooth along the detector, for filtered lines are longer and have other frequencies
    y = gaussian_filter1d(rng.normal(size=A.range_shape), 2) * np.hanning(SIZE)
    inside = distance() <= SIZE / 2 - 6
    image, expected = FBP(filter="none")(y, A)[0], np.pi / 20 * A.T(y)[0]
    assert rms(image - expected, inside) < 2e-3 * rms(expected, inside)


def test_a_lower_cutoff_quiets_noise_and_widens_edges(rng: np.random.Generator) -> None:
    A = projector(half_turn(100))
    noise = rng.normal(size=A.range_shape)
    disc = disc_sinogram(half_turn(100), SIZE, radius=20.0)[None]
    loud, quiet = FBP()(noise, A), FBP(cutoff=0.5)(noise, A)
    assert quiet.std() < 0.5 * loud.std()  # noise power goes as the cutoff cubed
    slope = [np.abs(np.diff(FBP(cutoff=c)(disc, A)[0][32])).max() for c in (1.0, 0.5)]
    assert slope[1] < 0.8 * slope[0]


@pytest.mark.parametrize(("ratio", "allowed"), [(1.2, 0.15), (1.6, 0.03), (2.0, 0.25)])
def test_edge_padding_flattens_an_object_wider_than_the_detector(
    ratio: float, allowed: float
) -> None:
    angles = half_turn(200)
    sinogram = disc_sinogram(angles, SIZE, radius=ratio * SIZE / 2)[None]
    A = projector(angles)
    zero, edge = (FBP(pad_mode=mode)(sinogram, A)[0] for mode in ("zero", "edge"))
    inside, rim = distance() < 0.42 * SIZE, (distance() > 0.46 * SIZE) & (distance() < 0.49 * SIZE)
    assert abs(edge[inside].mean() - 1) < allowed  # the figures in rowfilter.py
    assert edge[inside].std() < 0.5 * zero[inside].std()
    assert abs(edge[rim] - 1).mean() < 0.5 * abs(zero[rim] - 1).mean()


def test_edge_padding_changes_nothing_where_the_edges_are_air() -> None:
    sinogram, A = disc_sinogram(half_turn(50), SIZE, radius=24.0)[None], projector(half_turn(50))
    np.testing.assert_array_equal(FBP(pad_mode="edge")(sinogram, A), FBP()(sinogram, A))


# ---- the field of view -----------------------------------------------------------------------


@pytest.mark.parametrize("center", [31.5, 25.2, 40.0])
def test_the_circle_is_what_every_view_sees(center: float) -> None:
    A = projector(half_turn(30), center)
    y = np.ones(A.range_shape)
    radius = min(center + 0.5, SIZE - 0.5 - center)
    whole, cut = FBP(circle=False)(y, A)[0], FBP()(y, A)[0]
    np.testing.assert_array_equal(cut, np.where(distance() <= radius, whole, 0))
    assert (whole[distance() > radius] != 0).any()


def test_each_slice_has_the_circle_of_its_own_axis() -> None:
    geometry = ParallelBeam(half_turn(10), 3, SIZE).with_center(20.0, slope=3.0)
    A = make_projector(Box((0, 0, 0), (3, SIZE, SIZE)), geometry, "fourier")
    volume = FBP()(np.ones(A.range_shape), A)
    np.testing.assert_array_equal(fbp.view_radius(geometry), [20.5, 23.5, 26.5])
    for image, radius in zip(volume, (20.5, 23.5, 26.5), strict=True):
        np.testing.assert_array_equal(image != 0, distance() <= radius)


@pytest.mark.parametrize("turns", [1, 2])
def test_an_axis_beyond_the_detector_is_refused(turns: int) -> None:
    A = projector(turns * half_turn(30), center=-1.0)
    with pytest.raises(GeometryError, match="axis at column -1 lies beyond a detector of 64"):
        FBP()(np.ones(A.range_shape), A)


def test_slice_and_detector_may_differ_in_size() -> None:
    angles = half_turn(120)
    for det_count, size in ((64, 40), (64, 101), (63, 80)):
        sinogram = disc_sinogram(angles, det_count, None, radius=10.0, x=3.0, y=-8.0)[None]
        A = projector(angles, (det_count - 1) / 2, det_count, size)
        image = FBP()(sinogram, A)[0]
        truth = disc_image(size, size, radius=10.0, x=3.0, y=-8.0)
        inside = distance(size) < min(size, det_count) / 2 - 2
        assert rms(image - truth, inside) < 0.06  # a sharp edge of radius 10, 60 columns


# ---- parameters ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"filter": "hanning"}, "no filter 'hanning'"),
        ({"cutoff": 0.0}, "cutoff=0"),
        ({"padding": 1.5}, "padding=1.5: 2 to 16"),
        ({"padding": float("nan")}, "padding=nan"),
        ({"pad_mode": "mirror"}, "there are zero, edge"),
    ],
)
def test_parameters_out_of_range_are_refused(parameters: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        FBP(**parameters)


def test_parameters_travel_and_compare() -> None:
    assert pickle.loads(pickle.dumps(FBP("hann", 0.8))) == FBP(filter="hann", cutoff=0.8) != FBP()
    assert ALGORITHMS["fbp"] is FBP


@pytest.mark.parametrize("det_count", [2, 3, 45, 64, 1013, 2560])
def test_padded_rows_are_even_and_long_enough(det_count: int) -> None:
    length = fbp.padded_length(det_count)
    assert length % 2 == 0
    assert 2 * det_count <= length < 2.5 * det_count + 4


def test_only_a_full_turn_declares_memory_for_widening() -> None:
    half, full = (ParallelBeam(half_turn(50) * turns, 4, 64) for turns in (1, 2))
    assert FBP().row_bytes(half) == 0
    assert FBP().row_bytes(full) == 4 * 50 * 128
