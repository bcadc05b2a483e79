"""What the quality benchmark compares: our methods, and the parameters to choose from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from sparse_foam import Case

from tomodask.reconstruct import CGLS, FBP, FISTATV, PDHGTV, SART, SIRT
from tomodask.reconstruct.filters import FILTERS


@dataclass(frozen=True)
class Method:
    """solve(case, **parameters) -> volume, and which parameters `tune` tries.

    like : the name of another method whose chosen parameters are taken instead.
    """

    label: str
    solve: Callable[..., np.ndarray]
    grid: tuple[dict[str, Any], ...] = ()
    like: str | None = None


def grid(**choices: tuple[Any, ...]) -> tuple[dict[str, Any], ...]:
    """Every combination, as keyword arguments."""
    return tuple(dict(zip(choices, values, strict=True)) for values in product(*choices.values()))


def tune(method: Method, score: Callable[[np.ndarray], float], case: Any) -> dict[str, Any]:
    """The parameters whose volume scores highest."""
    if len(method.grid) == 1:
        return method.grid[0]
    return max(method.grid, key=lambda parameters: score(method.solve(case, **parameters)))


def _fbp(case: Case, **parameters: Any) -> np.ndarray:
    return FBP(**parameters)(case.y, case.fourier)


def _iterate(algorithm: type[Any], *, boxed: bool = True) -> Callable[..., np.ndarray]:
    def solve(case: Case, **parameters: Any) -> np.ndarray:
        box = {"min_constraint": 0.0, "max_constraint": case.solid} if boxed else {}
        volume: np.ndarray = algorithm(**parameters, **box)(case.y, case.joseph)
        return volume

    return solve


def sirt_from_fbp(case: Case, **parameters: Any) -> np.ndarray:
    """SIRT that begins with the smooth FBP that comes near to the best window."""
    begin = FBP(**BEGIN)(case.y, case.fourier)
    box = {"min_constraint": 0.0, "max_constraint": case.solid}
    volume: np.ndarray = SIRT(**parameters, **box)(case.y, case.joseph, x_init=begin)
    return volume


BEGIN = {"filter": "hann", "cutoff": 0.5}
REGULARISATION = (0.002, 0.003, 0.004, 0.006, 0.008, 0.012)
BEST_FBP = Method(
    "FBP, best window", _fbp, grid(filter=tuple(FILTERS), cutoff=(0.3, 0.4, 0.5, 0.6, 0.8, 1.0))
)
OURS = {
    "fbp": BEST_FBP,
    "cgls": Method("CGLS", _iterate(CGLS, boxed=False), grid(num_iterations=tuple(range(3, 11)))),
    "sirt": Method(
        "SIRT",
        _iterate(SIRT),
        grid(num_iterations=(20, 40, 60, 80, 100, 140, 200), relaxation=(1.9,)),
    ),
    "sirt_from_fbp": Method(
        "SIRT begun with FBP",
        sirt_from_fbp,
        grid(num_iterations=(10, 20, 30, 40, 60, 80), relaxation=(1.9,)),
    ),
    "sart": Method(
        "SART, 8 subsets",
        _iterate(SART),
        grid(num_iterations=(5, 10, 15, 20, 30), num_subsets=(8,), relaxation=(0.5, 1.0)),
    ),
    "pdhg_tv": Method(
        "TV by PDHG", _iterate(PDHGTV), grid(regularisation=REGULARISATION, num_iterations=(200,))
    ),
    "fista_tv": Method(
        "TV by FISTA", _iterate(FISTATV), grid(regularisation=REGULARISATION, num_iterations=(100,))
    ),
    "fista_tv_3d": Method(
        "TV by FISTA, 3D",
        _iterate(FISTATV),
        grid(regularisation=REGULARISATION, num_iterations=(100,), dimensions=(3,)),
    ),
}
TV = ("pdhg_tv", "fista_tv")
CLASSICAL = ("sirt", "sirt_from_fbp", "cgls")


def quick(methods: dict[str, Method], points: int) -> Iterator[tuple[str, Method]]:
    """The same methods with at most `points` points of each grid, evenly spread."""
    for name, method in methods.items():
        step = max(1, -(-len(method.grid) // points))
        yield name, replace(method, grid=method.grid[::step])
