"""Vectors whose lanes are read at places of their own, for interpolation along a line."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic

from tomodask.projectors.vectors import (
    _TYPE,
    LANES,
    VECTOR,
    _address,
    _element,
    _has,
    _splat,
)

WINDOW = 2 * LANES  # floats among which `pick` chooses
_INTEGERS = ir.VectorType(ir.IntType(32), LANES)
_CAN_PERMUTE = _has("avx512f")


@intrinsic
def lane_numbers(typing: Any) -> Any:
    """0, 1, 2, ... as float32."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return ir.Constant(_TYPE, [float(lane) for lane in range(LANES)])

    return VECTOR(), generate


@intrinsic
def floor(typing: Any, x: Any) -> Any:
    """The whole number at or below, lane by lane."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _call(builder, f"llvm.floor.v{LANES}f32", arguments[0])

    return VECTOR(VECTOR), generate


@intrinsic
def clip(typing: Any, x: Any, low: Any, high: Any) -> Any:
    """x, at least `low` and at most `high`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x, low, high = arguments
        x = builder.select(builder.fcmp_ordered("<", x, low), low, x)
        return builder.select(builder.fcmp_ordered(">", x, high), high, x)

    return VECTOR(VECTOR, VECTOR, VECTOR), generate


@intrinsic
def hat(typing: Any, distance: Any) -> Any:
    """1 - |distance|, or 0 from a distance of 1 on."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        near = _call(builder, f"llvm.fabs.v{LANES}f32", arguments[0])
        weight = builder.fsub(_splat(builder, ir.Constant(ir.FloatType(), 1.0)), near)
        zero = ir.Constant(_TYPE, [0.0] * LANES)
        return builder.select(builder.fcmp_ordered(">", weight, zero), weight, zero)

    return VECTOR(VECTOR), generate


@intrinsic
def gather(typing: Any, array: Any, offset: Any, places: Any) -> Any:
    """Elements `offset` + place of a float32 array; places are whole numbers."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _gathered(context, builder, signature, arguments)

    return VECTOR(array, offset, VECTOR), generate


@intrinsic
def pick(typing: Any, array: Any, offset: Any, places: Any) -> Any:
    """`gather` for places from 0 up to, not including, `WINDOW`: two loads and a permutation."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if not _CAN_PERMUTE:
            return _gathered(context, builder, signature, arguments)
        low, high = (_load(context, builder, signature, arguments, moved) for moved in (0, LANES))
        places = builder.fptosi(arguments[2], _INTEGERS)
        kind = ir.FunctionType(_TYPE, [_TYPE, _INTEGERS, _TYPE])
        name = "llvm.x86.avx512.vpermi2var.ps.512"
        permute = cgutils.get_or_insert_function(builder.module, kind, name)
        return builder.call(permute, [low, places, high])

    return VECTOR(array, offset, VECTOR), generate


def _load(context: Any, builder: Any, signature: Any, arguments: Any, moved: int) -> Any:
    offset = builder.add(arguments[1], arguments[1].type(moved))
    vector = builder.load(_address(context, builder, signature, (arguments[0], offset)))
    vector.align = 4
    return vector


def _gathered(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    """One lane after the other: no slower than an instruction for it, and there everywhere."""
    array, offset, vector = arguments
    places = builder.fptosi(vector, _INTEGERS)
    gathered = ir.Constant(_TYPE, ir.Undefined)
    for lane in range(LANES):
        number = ir.Constant(ir.IntType(32), lane)
        place = builder.sext(builder.extract_element(places, number), offset.type)
        element = _element(context, builder, signature, array, builder.add(offset, place))
        gathered = builder.insert_element(gathered, builder.load(element), number)
    return gathered


def _call(builder: Any, name: str, value: Any) -> Any:
    kind = ir.FunctionType(_TYPE, [_TYPE])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [value])
