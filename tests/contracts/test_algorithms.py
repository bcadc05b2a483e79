"""Every algorithm x geometry: something like the object comes out, or it is refused by name."""

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

import tomodask as td
from tomodask.ellipsoids import aligned_ellipsoids
from tomodask.errors import GeometryError
from tomodask.reconstruct import ALGORITHMS
from tomodask.testing_rays import Case, cone_views, turning_volume

ANGLES = np.arange(24) * 2 * np.pi / 24
SPACE = td.volume(shape=(8, 12, 12))


def cases() -> dict[str, Case]:
    circle = cone_views(ANGLES, (12, 16))
    rng = np.random.default_rng(0)
    posed = replace(circle, det_pos=circle.det_pos + 0.3 * rng.normal(size=(24, 3)))
    return {
        "slices": (SPACE, td.parallel(angles=ANGLES / 2, shape=(8, 16))),
        "cone": (SPACE, circle),
        "helical": (SPACE, td.translate((1, 0, 0), alpha=np.linspace(-2, 2, 24)) * circle),
        "laminography": (SPACE, td.laminography(angles=ANGLES, shape=(16, 16), tilt=0.5)),
        "posed view by view": (SPACE, posed),
        "a volume that turns": (turning_volume(ANGLES, SPACE.shape), circle[0]),
    }


@pytest.mark.parametrize("case", cases())
@pytest.mark.parametrize("name", ALGORITHMS)
def test_algorithm_reconstructs_or_is_refused_by_name(name: str, case: str) -> None:
    space, projections = cases()[case]
    A = td.operator(space, projections)
    balls = aligned_ellipsoids([(0, 1.5, -1), (1, -2, 2.2)], [3.0, 1.8], [1.0, 0.5])
    truth, y = balls.volume(space), balls.line_integrals(projections, space, supersampling=2)
    kind: Any = ALGORITHMS[name]
    iterates = "num_iterations" in {field.name for field in fields(kind)}
    refusal = ""
    try:
        found = kind(num_iterations=10)(y, A) if iterates else kind()(y, A)
    except GeometryError as error:
        refusal = str(error)
    if refusal:
        assert kind.__name__ in refusal, f"{refusal}: {kind.__name__} is not named"
        assert not iterates, "an iterative method needs nothing but A and A.T"
        return
    assert found.shape == A.domain_shape
    # ten iterations of the slowest, and 24 views: 0.9 and more; another object: about 0
    assert np.corrcoef(found.ravel(), truth.ravel())[0, 1] > 0.8
