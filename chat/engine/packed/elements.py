"""What is done to numbers one by one, or to all of a row, written for the vector unit."""

# numba infers the types of these functions from the values that they are called with; its own have none.
# mypy: disable-error-code="no-untyped-def, no-untyped-call"

from __future__ import annotations

import math
from typing import Any

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from chat.engine.packed.instructions import HALF, Code, numbers
from chat.packed_model import LANES


@intrinsic
def exponentials(context: Any, values: Any, largest: Any, blocks: Any) -> Any:
    """e to the power of each value less the largest, in place, for so many blocks of sixteen."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        code = Code(builder)
        values, largest, blocks = args
        everywhere = code.in_all(largest)
        with cgutils.for_range(builder, blocks) as loop:
            here = code.at(values, loop.index, 4 * LANES)
            code.store(code.exp(builder.fsub(code.floats(here), everywhere)), here)
        return context.get_dummy_value()

    return types.void(types.intp, types.float32, types.intp), generate


@intrinsic
def greatest(context: Any, values: Any, blocks: Any) -> Any:
    """The greatest of so many blocks of sixteen; no number if one of them is none. Compilers look one by one."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        code = Code(builder)
        values, blocks = args
        lanes = cgutils.alloca_once_value(builder, numbers(-math.inf))
        with cgutils.for_range(builder, blocks) as loop:
            here = code.floats(code.at(values, loop.index, 4 * LANES))
            builder.store(code.each("maximum", builder.load(lanes), here), lanes)
        return code.across("fmaximum", builder.load(lanes))

    return types.float32(types.intp, types.intp), generate


@intrinsic
def sum_of_exponentials(context: Any, values: Any, largest: Any, divisor: Any, blocks: Any) -> Any:
    """The sum of e to the power of each value less the largest, divided, over so many blocks of sixteen."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        code = Code(builder)
        values, largest, divisor, blocks = args
        largest, divisor = code.in_all(largest), code.in_all(divisor)
        (total,) = code.sums(1)
        with cgutils.for_range(builder, blocks) as loop:
            here = code.floats(code.at(values, loop.index, 4 * LANES))
            odds = code.exp(builder.fdiv(builder.fsub(here, largest), divisor))
            builder.store(builder.fadd(builder.load(total), odds), total)
        return code.total(builder.load(total))

    return types.float32(types.intp, types.float32, types.float32, types.intp), generate


@intrinsic
def gate(context: Any, gates: Any, values: Any, out: Any, blocks: Any) -> Any:
    """x / (1 + e^-x) of each gate, times its value: the SiLU gate, for so many blocks of sixteen."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        code = Code(builder)
        gates, values, out, blocks = args
        with cgutils.for_range(builder, blocks) as loop:
            of_gates, of_values, into = (code.at(base, loop.index, 4 * LANES) for base in (gates, values, out))
            x = code.floats(of_gates)
            below = builder.fadd(numbers(1.0), code.exp(builder.fsub(numbers(0.0), x)))
            code.store(builder.fmul(builder.fdiv(x, below), code.floats(of_values)), into)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 4), generate


@intrinsic
def put_half(context: Any, address: Any, value: Any) -> Any:
    """Write a float as one of 16 bits."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        address, value = args
        builder.store(builder.fptrunc(value, HALF), builder.inttoptr(address, HALF.as_pointer()))
        return context.get_dummy_value()

    return types.void(types.intp, types.float32), generate
