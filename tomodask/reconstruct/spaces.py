"""What an algorithm does with x and y besides A and A.T, on any kind of array.

Arrays are NumPy's, CuPy's, torch's, or stored ones that are larger than memory. An algorithm adds,
multiplies and compares them with the operators of Python and the functions of `namespace(y)`, and
leaves to this file what differs from kind to kind: sums (`dot`, `norm`), neighbours (`stencil`), a
first x (`domain_zeros`), and arithmetic that passes through memory once (`fused`, `fused_norm`).

A stored array is one whose class has these two methods:

`__tomodask_dot__(other)` : the sum of self * other in float64, as a float or, which operators with
    independent rows need, as the (rows,) sums of each index along axis 0.
`__tomodask_stencil__(function, halo, *others)` : `function` of blocks along z of all the arrays,
    each grown by `halo` rows on either side (cut at the ends of the volume); what it returns, an
    array or a tuple of arrays as large as its inputs, is trimmed and stored.

Two more keep the passes over the disk few:

`evaluate()` : the array itself, worked out and stored, where arithmetic is lazy.
`__tomodask_norm__(other)` : (self, the norm of other), stored and added up in one pass.

An operator for stored arrays has `zeros_domain()`, a stored x of zeros.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil
from typing import Any

import array_api_compat
import numpy as np

from tomodask import arrays as memory
from tomodask.threads import share

Scalar = (
    float | np.ndarray
)  # one for everything, or (rows, 1, 1) float64 where rows are independent

CHUNK = 2**18  # floats of each array at once: temporaries stay in the cache, and calls cost little
LEAST_SHARED = 2**18  # floats: below, starting threads costs more than they save


def namespace(array: Any) -> Any:
    """The functions for an array's kind, by the names of the array API standard."""
    return array_api_compat.array_namespace(array)


def is_stored(array: Any) -> bool:
    """Whether an array is larger than memory and is worked on block by block."""
    return hasattr(array, "__tomodask_stencil__")


def domain_zeros(A: Any, y: Any) -> Any:
    """x = 0, float32, of y's kind and on its device."""
    if hasattr(A, "zeros_domain"):
        return A.zeros_domain()
    xp = namespace(y)
    return xp.zeros(A.domain_shape, dtype=xp.float32, device=array_api_compat.device(y))


def dot(a: Any, b: Any, A: Any) -> Scalar:
    """Inner product, added up in float64: a float, or (rows, 1, 1) for each row on its own.

    It is on the host wherever the arrays are. Where `A.independent_rows`, a row's product does not
    depend on the rows beside it.
    """
    if is_stored(a):
        rows = np.asarray(a.__tomodask_dot__(b), np.float64)
    elif isinstance(a, np.ndarray):
        rows = _row_sums(_product, (a, b), _threads(A))
    else:
        xp = namespace(a)
        axes = tuple(range(1, a.ndim))
        rows = _on_host(xp.sum(a * b, axis=axes, dtype=xp.float64))
    return rows.reshape(-1, 1, 1) if A.independent_rows else float(rows.sum())


def norm(a: Any, A: Any) -> Scalar:
    """Euclidean length, of everything or of each row: see `dot`."""
    square = dot(a, a, A)
    return np.sqrt(square) if isinstance(square, np.ndarray) else float(np.sqrt(square))


def fused(function: Callable[..., Any], *arrays: Any, A: Any, out: Any = None) -> Any:
    """`function` of arrays, element by element; returns its result, to be used instead of `out`.

    NumPy's arrays go through it in pieces that fit into the cache, on A's threads, so that a chain
    of operations reads and writes memory once; others as they are. `out` may be written to, and may
    be one of the arrays; `function` itself must not write to them.

    arrays : of one kind; the first has the shape of the result. (rows, 1, 1) scalars of `dot`,
        numbers and None go as well, also arrays that are broadcast along their axes of length 1.
    """
    like = arrays[0]
    factors = tuple(_factor(array, like) for array in arrays)
    if not isinstance(like, np.ndarray):
        found = function(*factors)
        # what replaces another array: lazy formulas of formulas would grow without end
        return found.evaluate() if out is not None and is_stored(found) else found
    result = memory.empty(like.shape, like.dtype) if out is None else out

    def piece(index: tuple[slice, ...]) -> None:
        result[index] = function(*(_part(array, index) for array in factors))

    _by_pieces(piece, like.shape, _threads(A))
    return result


def fused_norm(
    function: Callable[..., tuple[Any, Any]], *arrays: Any, A: Any, out: Any = None
) -> tuple[Any, Scalar]:
    """`fused` of a function that returns two arrays: the first one, and the norm of the second."""
    like = arrays[0]
    factors = tuple(_factor(array, like) for array in arrays)
    if not isinstance(like, np.ndarray):
        found, counted = function(*factors)
        if is_stored(found):
            return found.__tomodask_norm__(counted)  # type: ignore[no-any-return]
        return found, norm(counted, A)
    result = memory.empty(like.shape, like.dtype) if out is None else out

    def piece(result: np.ndarray, *parts: Any) -> np.ndarray:
        found, counted = function(*parts)
        squares = _product(counted, counted)
        result[...] = found
        return squares

    rows = _row_sums(piece, (result, *factors), _threads(A))
    squares: Scalar = rows.reshape(-1, 1, 1) if A.independent_rows else float(rows.sum())
    return result, squares**0.5


def stencil(function: Callable[..., Any], halo: int, *arrays: Any) -> Any:
    """`function` of volumes whose voxels need `halo` neighbours along z on either side.

    It gets the volumes whole, or parts of them (stored arrays), and returns an array or a tuple of
    arrays of the shape of its arguments; at the ends of what it gets, it may do as at those of the
    volume. A function along y and x alone has a halo of 0.
    """
    if is_stored(arrays[0]):
        return arrays[0].__tomodask_stencil__(function, halo, *arrays[1:])
    return function(*arrays)


def divided(numerator: Scalar, denominator: Scalar) -> Scalar:
    """The quotient of scalars, 0 where the denominator is: a row of zeros is solved by a step 0."""
    if isinstance(denominator, np.ndarray):
        by = np.where(denominator == 0, 1.0, denominator)
        return np.where(denominator == 0, 0.0, numerator / by)
    return float(numerator) / denominator if denominator != 0 else 0.0


def zero_up_to(value: Scalar, least: Scalar) -> Scalar:
    """The value where it is above `least` or NaN, otherwise 0."""
    if isinstance(value, np.ndarray):
        return np.where(value <= least, 0.0, value)
    return 0.0 if value <= least else value


def _factor(array: Any, like: Any) -> Any:
    """Scalars of `dot` as float32 of the kind of `like`; everything else as it is."""
    if not isinstance(array, np.ndarray) or array.dtype != np.float64 or array.shape[1:] != (1, 1):
        return array
    single = array.astype(np.float32)
    if isinstance(like, np.ndarray) or is_stored(like):
        return single
    return namespace(like).asarray(single, device=array_api_compat.device(like))


def _on_host(array: Any) -> np.ndarray:
    """A few numbers, copied from wherever they are."""
    return np.asarray(array.get() if hasattr(array, "get") else array.tolist(), np.float64)


def _threads(A: Any) -> int:
    return int(getattr(A, "threads", 1))


def _product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Sums of a * b along the last axis in float32, over the others in float64: one for each row.

    A copy of the arrays in float64 would cost more than A; sums of one line lose nothing visible.
    """
    lines = np.einsum("zyx,zyx->zy", a, b)
    return np.asarray(lines.sum(axis=1, dtype=np.float64))


def _row_sums(work: Callable[..., np.ndarray], arrays: tuple[Any, ...], threads: int) -> np.ndarray:
    """(rows,) sums over pieces, in an order that depends neither on threads nor on other rows."""
    shape = arrays[0].shape
    lines = _lines_at_once(shape)
    sums = np.zeros((shape[0], ceil(shape[1] / lines)))

    def piece(index: tuple[slice, ...]) -> None:
        rows, begin = index[0], index[1].start
        sums[rows, begin // lines] = work(*(_part(array, index) for array in arrays))

    _by_pieces(piece, shape, threads)
    return np.asarray(sums.sum(axis=1))


def _by_pieces(
    work: Callable[[tuple[slice, ...]], None], shape: tuple[int, ...], threads: int
) -> None:
    """Call `work` for parts along the first two axes, each of about `CHUNK` elements."""
    lines = _lines_at_once(shape)
    rows = max(1, CHUNK // (lines * shape[2])) if lines == shape[1] else 1
    pieces = [
        (slice(row, row + rows), slice(line, line + lines))
        for row in range(0, shape[0], rows)
        for line in range(0, shape[1], lines)
    ]
    shared = threads if shape[0] * shape[1] * shape[2] >= LEAST_SHARED else 1

    def one(number: int) -> None:
        with np.errstate(over="ignore", invalid="ignore"):  # the norms tell, and of which row
            work(pieces[number])

    share(one, len(pieces), shared)


def _lines_at_once(shape: tuple[int, ...]) -> int:
    return max(1, min(shape[1], CHUNK // max(1, shape[2])))


def _part(array: Any, index: tuple[slice, ...]) -> Any:
    """Where an array is broadcast, all of it."""
    if not isinstance(array, np.ndarray) or array.ndim < 2:
        return array
    return array[
        tuple(part if n > 1 else slice(None) for part, n in zip(index, array.shape, strict=False))
    ]
