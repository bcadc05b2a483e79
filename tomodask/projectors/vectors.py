"""Explicit vectors for numba: `LANES` float32 that are added and multiplied at once.

Numba vectorises no loop over 16 lanes by itself (1.3 G updates a second in the gridding where
these reach ten times as many), so the values are LLVM vectors, made by a few intrinsics. All work
on slices is lane by lane: a lane's bytes depend on that lane alone.
"""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
from llvmlite import binding, ir
from numba.core import cgutils, types
from numba.extending import intrinsic, models, register_model

ALIGNMENT = 64  # bytes: a vector that lies across two cache lines costs twice


def _cache_folder() -> Path | None:
    """Where kernels are kept, one copy for all workers of a machine; None where nothing can be.

    Numba notices that a kernel's own file has changed, not those of the kernels within it: so every
    version of the sources has a folder.
    """
    here = Path(__file__).parent
    files = sorted([*here.glob("lane_*.py"), *here.glob("joseph_*.py"), Path(__file__)])
    sources = b"".join(file.read_bytes() for file in files)
    name = f"tomodask-kernels-{hashlib.sha256(sources).hexdigest()[:16]}"
    given = numba.config.CACHE_DIR
    for base in [Path(given)] if given else [here / "__pycache__", Path.home() / ".cache"]:
        try:
            (base / name).mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(base / name, os.W_OK):
            return base / name
    return None


_CACHE = _cache_folder()
# No GIL, so that threads share the work and readers go on. No fastmath: NaN marks what is missing.
_OPTIONS = {
    "nogil": True, "cache": _CACHE is not None, "error_model": "numpy", "boundscheck": False,
}  # fmt: skip


def kernel(function: Callable[..., Any], **options: Any) -> Any:
    """A function compiled for this machine's processor, when it is called first."""
    given = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(_CACHE or given)
    try:
        return numba.njit(**_OPTIONS, **options)(function)
    finally:
        numba.config.CACHE_DIR = given


def inlined(function: Callable[..., Any]) -> Any:
    """A kernel that becomes part of those that call it."""
    return kernel(function, forceinline=True)


def _has(feature: str) -> bool:
    """Whether the processor that kernels are compiled for has a feature."""
    features = numba.config.CPU_FEATURES
    if features is None:
        return bool(binding.get_host_cpu_features().get(feature))
    return f"+{feature}" in features.split(",")


# As many as one instruction takes, and 8 at least: a cache line then holds two or one.
LANES = 16 if _has("avx512f") else 8
SAMPLE = 2 * LANES  # floats of a complex sample: the real parts of all lanes, then the imaginary


class _VectorType(types.Type):
    def __init__(self, lanes: int) -> None:
        self.lanes = lanes
        super().__init__(name=f"float32x{lanes}")


@register_model(_VectorType)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: _VectorType) -> None:
        super().__init__(manager, kind, _llvm(kind.lanes))


def _llvm(lanes: int) -> ir.VectorType:
    return ir.VectorType(ir.FloatType(), lanes)


VECTOR = _VectorType(LANES)
_TYPE = _llvm(LANES)
_POINTER = _TYPE.as_pointer()


def _address(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    """Of element `offset` of a C-contiguous float32 array of any shape, or of a `pointer`."""
    offset = arguments[1]
    if signature.args[1].bitwidth < 64:
        offset = builder.sext(offset, ir.IntType(64))
    return builder.bitcast(_element(context, builder, signature, arguments[0], offset), _POINTER)


def _element(context: Any, builder: Any, signature: Any, base: Any, offset: Any) -> Any:
    if isinstance(signature.args[0], types.Array):
        data = context.make_array(signature.args[0])(context, builder, base).data
    else:
        data = builder.inttoptr(base, ir.FloatType().as_pointer())
    return builder.gep(data, [offset])


@intrinsic
def pointer(typing: Any, array: Any) -> Any:
    """Where a float32 array lies, to be used in its place: it costs a call nothing, not counted."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        return builder.ptrtoint(data, ir.IntType(64))

    return types.int64(array), generate


@intrinsic
def broadcast(typing: Any, array: Any, index: Any) -> Any:
    """Element `index` of an array or `pointer` in every lane."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value = builder.load(_element(context, builder, signature, *arguments))
        return _splat(builder, value)

    return VECTOR(array, types.int64), generate


@intrinsic
def load(typing: Any, array: Any, offset: Any) -> Any:
    """The vector at element `offset` of a float32 array."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector = builder.load(_address(context, builder, signature, arguments))
        vector.align = 4
        return vector

    return VECTOR(array, offset), generate


@intrinsic
def store(typing: Any, array: Any, offset: Any, vector: Any) -> Any:
    """Write a vector at element `offset`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        stored = builder.store(arguments[2], _address(context, builder, signature, arguments))
        stored.align = 4
        return context.get_dummy_value()

    return types.void(array, offset, vector), generate


@intrinsic
def stream(typing: Any, array: Any, offset: Any, vector: Any) -> Any:
    """Write a vector past the caches: no line is read first that is overwritten whole.

    For an aligned array and an offset in whole vectors.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        stored = builder.store(arguments[2], _address(context, builder, signature, arguments))
        stored.align = 4 * LANES
        once = builder.module.add_metadata([ir.IntType(32)(1)])
        stored.set_metadata("nontemporal", once)
        return context.get_dummy_value()

    return types.void(array, offset, vector), generate


def _operation(arity: int, make: Callable[..., Any]) -> Any:
    """An intrinsic that takes `arity` vectors and gives one."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return make(builder, *arguments)

    if arity == 2:

        @intrinsic
        def binary(typing: Any, a: Any, b: Any) -> Any:
            return VECTOR(VECTOR, VECTOR), generate

        return binary

    @intrinsic
    def ternary(typing: Any, a: Any, b: Any, c: Any) -> Any:
        return VECTOR(VECTOR, VECTOR, VECTOR), generate

    return ternary


def _fused(builder: Any, a: Any, b: Any, c: Any) -> Any:
    if not (_has("fma") or platform.machine() in ("aarch64", "arm64")):
        return builder.fadd(builder.fmul(a, b), c)  # else every lane would be a call
    kind = ir.FunctionType(_TYPE, [_TYPE] * 3)
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fma.v{LANES}f32")
    return builder.call(function, [a, b, c])


add = _operation(2, lambda builder, a, b: builder.fadd(a, b))
sub = _operation(2, lambda builder, a, b: builder.fsub(a, b))
mul = _operation(2, lambda builder, a, b: builder.fmul(a, b))
fma = _operation(3, _fused)  # a b + c
fms = _operation(3, lambda builder, a, b, c: _fused(builder, a, b, builder.fneg(c)))  # a b - c
fnma = _operation(3, lambda builder, a, b, c: _fused(builder, builder.fneg(a), b, c))  # c - a b


@intrinsic
def splat(typing: Any, value: Any) -> Any:
    """The same float32 in every lane."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _splat(builder, arguments[0])

    return VECTOR(types.float32), generate


def _splat(builder: Any, value: Any) -> Any:
    undefined = ir.Constant(_TYPE, ir.Undefined)
    first = builder.insert_element(undefined, value, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    return builder.shuffle_vector(first, undefined, zeros)


@intrinsic
def transpose(typing: Any, x: Any, i: Any, d: Any, y: Any, o: Any, e: Any) -> Any:
    """LANES vectors at i, i + d, ... of x -> their lanes as vectors at o, o + e, ... of y."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source, target = _view(signature, arguments, 0), _view(signature, arguments, 3)
        rows = []
        for number in range(LANES):
            row = builder.load(_address(context, builder, *_moved(builder, source, number)))
            row.align = 4
            rows.append(row)
        for row, number in zip(_transposed(builder, rows), range(LANES), strict=True):
            address = _address(context, builder, *_moved(builder, target, number))
            builder.store(row, address).align = 4
        return context.get_dummy_value()

    long = types.int64
    return types.void(x, long, long, y, long, long), generate


def _view(signature: Any, arguments: Any, first: int) -> tuple[Any, ...]:
    """Array, offset and step that begin with argument `first`."""
    return signature.args[first], *arguments[first : first + 3]


def _moved(builder: Any, view: tuple[Any, ...], number: int) -> Any:
    """What `_address` takes for the vector that lies `number` steps on."""
    kind, array, offset, step = view
    moved = builder.add(offset, builder.mul(step, ir.IntType(64)(number)))
    return types.void(kind, types.int64), (array, moved)


def _transposed(builder: Any, rows: list[Any]) -> list[Any]:
    """Swap ever larger blocks across the diagonal."""
    size = 1
    while size < LANES:
        upper = [lane if not lane & size else LANES + lane - size for lane in range(LANES)]
        lower = [lane + size if not lane & size else LANES + lane for lane in range(LANES)]
        swapped = list(rows)
        for i in range(LANES):
            if not i & size:
                pair = rows[i], rows[i + size]
                swapped[i] = _shuffle(builder, *pair, upper)
                swapped[i + size] = _shuffle(builder, *pair, lower)
        rows, size = swapped, 2 * size
    return rows


def _shuffle(builder: Any, a: Any, b: Any, order: list[int]) -> Any:
    mask = ir.Constant(ir.VectorType(ir.IntType(32), LANES), order)
    return builder.shuffle_vector(a, b, mask)


@intrinsic
def prefetch(typing: Any, array: Any, offset: Any) -> Any:
    """Ask for the cache line of element `offset`, which is needed soon; it may lie anywhere."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address = builder.bitcast(
            _address(context, builder, signature, arguments), ir.IntType(8).as_pointer()
        )
        flag = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [address.type, flag, flag, flag])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(function, [address, flag(0), flag(3), flag(1)])  # read, keep, data
        return context.get_dummy_value()

    return types.void(array, offset), generate


def aligned_empty(size: int) -> np.ndarray:
    """(size,) float32 that begins on a cache line."""
    bytes_ = np.empty(4 * size + ALIGNMENT, np.uint8)
    start = -bytes_.ctypes.data % ALIGNMENT
    return bytes_[start : start + 4 * size].view(np.float32)
