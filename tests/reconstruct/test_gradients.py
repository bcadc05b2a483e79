"""Differences of neighbours, their adjoint, and blocks of slices."""

import numpy as np
import pytest

from tomodask.errors import InputError
from tomodask.reconstruct import gradients, spaces
from tomodask.reconstruct.gradients import (
    ascend,
    axes,
    divergence,
    extrapolated_divergence,
    gradient,
    squared_norm_bound,
    total_variation,
)

both = pytest.mark.parametrize("dimensions", [2, 3])


@both
@pytest.mark.parametrize("shape", [(5, 6, 7), (1, 4, 9), (3, 1, 2), (1, 1, 1)])
def test_the_divergence_is_the_negative_adjoint_of_the_gradient(dimensions, shape, rng):
    x = rng.normal(size=shape)
    field = tuple(rng.normal(size=shape) for _ in axes(dimensions))
    ahead = sum(np.vdot(g, p) for g, p in zip(gradient(x, dimensions), field, strict=True))
    assert ahead == pytest.approx(-np.vdot(x, divergence(field, dimensions)), rel=1e-12, abs=1e-12)


def test_a_slope_is_constant_up_to_the_last_voxel():
    z, y, x = np.meshgrid(np.arange(3.0), np.arange(4.0), np.arange(5.0), indexing="ij")
    along_z, along_y, along_x = gradient(5 * z + 3 * y + 2 * x, 3)
    assert (along_z[:-1] == 5).all()
    assert (along_y[:, :-1] == 3).all()
    assert (along_x[:, :, :-1] == 2).all()
    for end in (along_z[-1], along_y[:, -1], along_x[:, :, -1]):
        assert not end.any()


@both
def test_the_bound_of_the_norm_holds_and_is_near(dimensions, rng):
    x = rng.normal(size=(12, 12, 12))
    for _ in range(200):
        x = -divergence(gradient(x, dimensions), dimensions)
        norm = np.linalg.norm(x)
        x /= norm
    assert 0.9 * squared_norm_bound(dimensions) < norm < squared_norm_bound(dimensions)


@both
def test_ascending_keeps_within_the_radius_of_each_row(dimensions, rng):
    x = rng.normal(size=(3, 6, 7)).astype(np.float32)
    field = tuple(rng.normal(size=x.shape).astype(np.float32) for _ in axes(dimensions))
    radius = np.array([0.5, 1.0, 0.0]).reshape(3, 1, 1)
    found = ascend(field, x, 0.3, radius, dimensions, 1)
    length = np.sqrt(sum(part**2 for part in found))
    assert (length <= radius * (1 + 1e-6)).all()
    plain = [p + 0.3 * g for p, g in zip(field, gradient(x, dimensions), strict=True)]
    inside = np.sqrt(sum(part**2 for part in plain)) < radius
    assert inside.any()
    for one, other in zip(found, plain, strict=True):
        assert np.allclose(one[inside], other[inside])


@both
def test_blocks_of_slices_give_what_the_whole_gives(dimensions, rng, monkeypatch):
    x = rng.normal(size=(37, 5, 6)).astype(np.float32)
    field = tuple(rng.normal(size=x.shape).astype(np.float32) for _ in axes(dimensions))
    radius = rng.uniform(0.1, 1, size=(37, 1, 1))

    def all_of_them():
        return (
            *gradient(x, dimensions, 2),
            divergence(field, dimensions, 2),
            extrapolated_divergence(field, field[::-1], dimensions, 2),
            *ascend(field, x, 0.3, radius, dimensions, 2),
        )

    whole = all_of_them()
    monkeypatch.setattr(gradients, "CHUNK", 30)
    for one, other in zip(all_of_them(), whole, strict=True):
        assert np.array_equal(one, other)


@both
def test_stored_arrays_are_given_to_their_stencil(dimensions, rng):
    class Stored:
        def __init__(self, array):
            self.array = array

        def __tomodask_stencil__(self, function, halo, *others):
            assert halo == dimensions - 2
            return function(self.array, *(other.array for other in others))

    x = rng.normal(size=(3, 4, 5)).astype(np.float32)
    assert spaces.is_stored(Stored(x))
    for one, other in zip(
        gradient(Stored(x), dimensions), gradient(x, dimensions), strict=True
    ):  # fmt: skip
        assert np.array_equal(one, other)


@both
def test_torch_tensors_give_what_arrays_give(dimensions, rng):
    torch = pytest.importorskip("torch")
    x = rng.normal(size=(3, 4, 5)).astype(np.float32)
    radius = np.array([0.5, 1.0, 0.1]).reshape(3, 1, 1)
    field = gradient(x, dimensions)
    tensors = gradient(torch.asarray(x), dimensions)
    pushed = ascend(tensors, torch.asarray(x), 0.5, radius, dimensions, 1)
    for one, other in zip(pushed, ascend(field, x, 0.5, radius, dimensions, 1), strict=True):
        assert one.dtype == torch.float32
        assert np.allclose(one.numpy(), other, atol=1e-6)
    assert np.allclose(divergence(tensors, dimensions).numpy(), divergence(field, dimensions))


def test_the_total_variation_of_a_box_is_its_surface():
    x = np.zeros((6, 8, 8))
    x[1:4, 2:5, 2:6] = 2.0
    # forward differences: at the far edges two or three meet in one voxel, and add as lengths
    assert total_variation(x, 2) == pytest.approx(2 * 3 * (2 * (3 + 4) - 2 + np.sqrt(2)))
    assert total_variation(x, 3) == pytest.approx(
        2
        * (2 * (9 + 12 + 12) - 2 * (3 + 3 + 4 - 3) - 3 + np.sqrt(2) * (3 + 3 + 4 - 3) + np.sqrt(3))
    )


def test_other_dimensions_are_refused():
    with pytest.raises(InputError, match="dimensions=1"):
        gradient(np.zeros((2, 2, 2)), 1)
