"""Vectors of whole numbers in the compiled loops, where LLVM makes none or poor ones by itself.

Offsets count elements of a C-contiguous int32 array of any shape and are not checked. What changes
here reaches kernels that are kept on the disk only when their own file changes too: Numba looks at
no other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.datamodel import models
from numba.extending import intrinsic, register_model

LANES = 16  # a cache line; narrower machines take two or four instructions for one
SQUARE = 8  # numbers along a side of what `transpose` turns: more need too many registers

_NUMBER, _INDEX = ir.IntType(32), ir.IntType(64)
_TYPE = ir.VectorType(_NUMBER, LANES)


class _VectorType(types.Type):
    def __init__(self) -> None:
        super().__init__(name=f"int32x{LANES}")


@register_model(_VectorType)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: _VectorType) -> None:
        super().__init__(manager, kind, _TYPE)


VECTOR = _VectorType()


def _address(context: Any, builder: Any, made: Any, kind: Any, array: Any, offset: Any) -> Any:
    """Of an element of an array of type `kind`, as a pointer to what is `made` of it."""
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [offset]), made.as_pointer())


@intrinsic
def load(typing: Any, array: Any, offset: Any) -> Any:
    """The vector at an offset."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector = builder.load(_address(context, builder, _TYPE, array, *arguments))
        vector.align = 4
        return vector

    return VECTOR(array, types.int64), generate


@intrinsic
def store(typing: Any, array: Any, offset: Any, vector: Any) -> Any:
    """Write a vector at an offset."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address = _address(context, builder, _TYPE, array, *arguments[:2])
        builder.store(arguments[2], address).align = 4
        return context.get_dummy_value()

    return types.void(array, types.int64, VECTOR), generate


def _choice(sign: str, first: int, second: int) -> Callable[..., Any]:
    """Generates: argument `first` where the first two compare so, else argument `second`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        is_so = builder.icmp_signed(sign, arguments[0], arguments[1])
        return builder.select(is_so, arguments[first], arguments[second])

    return generate


@intrinsic
def lesser(typing: Any, a: Any, b: Any) -> Any:
    """Of each lane."""
    return VECTOR(VECTOR, VECTOR), _choice("<", 0, 1)


@intrinsic
def greater(typing: Any, a: Any, b: Any) -> Any:
    """Of each lane."""
    return VECTOR(VECTOR, VECTOR), _choice(">", 0, 1)


@intrinsic
def first_if_below(typing: Any, a: Any, bound: Any, b: Any) -> Any:
    """Lanes of a where they are below those of a bound, else of b."""
    return VECTOR(VECTOR, VECTOR, VECTOR), _choice("<", 0, 2)


@intrinsic
def prefetch(typing: Any, array: Any, offset: Any) -> Any:
    """Ask for the cache line of an element that is needed soon; it may lie anywhere."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address = _address(context, builder, ir.IntType(8), array, *arguments)
        kind = ir.FunctionType(ir.VoidType(), [address.type, _NUMBER, _NUMBER, _NUMBER])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(function, [address, _NUMBER(0), _NUMBER(3), _NUMBER(1)])  # read, keep, data
        return context.get_dummy_value()

    return types.void(array, types.int64), generate


@intrinsic
def transpose(
    typing: Any, source: Any, start: Any, step: Any, target: Any, begin: Any, stride: Any
) -> Any:
    """The square of lines at start, start + step, ... to lines at begin, begin + stride, ..."""
    kind = ir.VectorType(_NUMBER, SQUARE)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        def place(array: Any, first: int, number: int) -> Any:
            moved = builder.mul(arguments[first + 2], _INDEX(number))
            offset = builder.add(arguments[first + 1], moved)
            return _address(context, builder, kind, array, arguments[first], offset)

        lines = []
        for number in range(SQUARE):
            line = builder.load(place(source, 0, number))
            line.align = 4
            lines.append(line)
        for number, line in enumerate(_transposed(builder, lines)):
            builder.store(line, place(target, 3, number)).align = 4
        return context.get_dummy_value()

    long = types.int64
    return types.void(source, long, long, target, long, long), generate


def _transposed(builder: Any, lines: list[Any]) -> list[Any]:
    """Swap ever larger blocks across the diagonal."""
    size = 1
    while size < SQUARE:
        swapped = list(lines)
        for i in range(SQUARE):
            if not i & size:
                for target, shift in ((i, 0), (i + size, size)):
                    order = [
                        lane + shift if not lane & size else SQUARE + lane - size + shift
                        for lane in range(SQUARE)
                    ]
                    mask = ir.Constant(ir.VectorType(_NUMBER, SQUARE), order)
                    swapped[target] = builder.shuffle_vector(lines[i], lines[i + size], mask)
        lines, size = swapped, 2 * size
    return lines
