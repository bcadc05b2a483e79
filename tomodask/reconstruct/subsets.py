"""Views in subsets, so that one pass over the data corrects x many times."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tomodask.errors import InputError
from tomodask.reconstruct.options import LinearMap, Problem, inverse

KEPT = 16  # subsets whose voxel weights are kept, a slice for each row; of more, they are made anew

GOLDEN = (np.sqrt(5) - 1) / 2


def golden(num_subsets: int) -> np.ndarray:
    """An order in which each subset is far from those just before, by the golden ratio."""
    return np.argsort(np.arange(num_subsets) * GOLDEN % 1)


ORDERS: dict[str, Callable[[int], Sequence[int] | np.ndarray]] = {
    "sequential": range,
    "golden": golden,
}


def check_subsets(num_subsets: int, order: str) -> None:
    """Refuse what is no number of subsets, or no order of them."""
    if num_subsets < 1:
        raise InputError(f"num_subsets={num_subsets}: at least 1 is needed")
    if order not in ORDERS:
        raise InputError(f"order {order!r}: there are {', '.join(ORDERS)}")


class Subset:
    """A problem with every n-th view alone, and how much its voxels are seen."""

    def __init__(self, problem: Problem, selection: slice, keeps_weights: bool) -> None:
        self.problem = problem.subset(selection)
        self._weights = self._voxel_weights() if keeps_weights else None

    @property
    def A(self) -> LinearMap:  # noqa: N802
        return self.problem.A

    def voxel_weights(self) -> Any:
        """1 / A.T(1) of its views."""
        return self._voxel_weights() if self._weights is None else self._weights

    def _voxel_weights(self) -> Any:
        return inverse(self.problem.column_sums(), self.A)


def subsets(problem: Problem, num_subsets: int, order: str) -> list[Subset]:
    """Subset k has the views k, k + n, k + 2 n ...; in the order of `ORDERS`.

    Raises
    ------
    InputError : there are fewer views than subsets.
    """
    if num_subsets > problem.A.num_angles:
        raise InputError(
            f"num_subsets={num_subsets}, but there are {problem.A.num_angles} views: "
            "a subset needs one at least"
        )
    return [
        Subset(problem, slice(int(first), None, num_subsets), num_subsets <= KEPT)
        for first in ORDERS[order](num_subsets)
    ]


def weights_bytes(num_subsets: int, det_count: int) -> int:
    """Of the voxel weights of a row."""
    return 4 * det_count**2 * (num_subsets if num_subsets <= KEPT else 1)
