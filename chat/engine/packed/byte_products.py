"""Products of packed weights with inputs in bytes, added up over a group, in what the processor has for them.

Bytes of weights have no sign, those of inputs have. With VNNI four neighbours' products are added to a sum of 32 bits
in one step. With AVX2 two neighbours' products make a sum of 16 bits, which must not overflow: products of half a byte
stay small enough to be added up over a whole group, and a byte is two halves. Elsewhere one product is added after the
other. Whole numbers are not rounded, so all three give the same sums.
"""

# numba's own helpers have no types.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from chat.engine.packed.instructions import BYTE, BYTES, INT, INTS, LONG, Code
from chat.packed_model import GROUP, LANES
from chat.processor import adds_up_four, adds_up_two

_STEPS = GROUP // 4
_HALF = LANES // 2
_HALF_INTS, _HALF_BYTES = ir.VectorType(INT, _HALF), ir.VectorType(BYTE, 4 * _HALF)
_HALF_SHORTS = ir.VectorType(ir.IntType(16), 2 * _HALF)

Nibbles = Callable[[Code, Any], Any]


def sums_over_group(
    code: Code, bits: int, registers: Any, weights: Any, inputs: Sequence[Any], begin: Sequence[Any]
) -> list[Any]:
    """Each input's products with sixteen rows' weights of one group, added to what its sums `begin` with.

    `weights` and `inputs` are addresses, laid out as PackedModel and `to_bytes` have it; `registers` is how many of 64
    bytes a group's weights fill, which is as many as a weight has bits.
    """
    if adds_up_two() and not adds_up_four():
        return _in_pairs(code, bits, registers, weights, inputs, begin)
    add = _add_four if adds_up_four() else _add_one_by_one
    sums = list(begin)
    for step, of_step in _weights(code, weights, bits):
        for place, row in enumerate(inputs):
            sums[place] = add(code, sums[place], of_step, code.everywhere(code.at(row, LONG(step), 4), INT))
    return sums


def _weights(code: Code, address: Any, bits: int) -> Iterator[tuple[int, Any]]:
    """For each four inputs the weights of sixteen rows, as bytes."""
    for step in range(_STEPS * bits // 8):
        here = code.at(address, LONG(step), 4 * LANES)
        code.fetch_ahead(here)
        read = code.load(here, BYTES, 1)
        if bits == 8:
            yield step, read
        else:
            yield step, _lower(code, read)
            yield step + _STEPS // 2, _upper(code, read)


def _lower(code: Code, read: Any) -> Any:
    return code.b.and_(read, ir.Constant(read.type, [15] * read.type.count))


def _upper(code: Code, read: Any) -> Any:
    return code.b.lshr(read, ir.Constant(read.type, [4] * read.type.count))


def _add_four(code: Code, total: Any, weights: Any, four: Any) -> Any:
    dot = code.function("llvm.x86.avx512.vpdpbusd.512", INTS, [INTS, BYTES, BYTES])
    return code.b.call(dot, [total, weights, code.b.bitcast(four, BYTES)])


def _add_one_by_one(code: Code, total: Any, weights: Any, four: Any) -> Any:
    builder, of_rows = code.b, code.b.bitcast(weights, INTS)
    for place in range(4):
        weight = builder.and_(builder.lshr(of_rows, _in_all(8 * place)), _in_all(255))
        one = builder.ashr(builder.shl(four, _in_all(24 - 8 * place)), _in_all(24))
        total = builder.add(total, builder.mul(weight, one))
    return total


def _in_all(number: int) -> Any:
    return ir.Constant(INTS, [number] * LANES)


def _in_pairs(
    code: Code, bits: int, registers: Any, weights: Any, inputs: Sequence[Any], begin: Sequence[Any]
) -> list[Any]:
    if bits == 4:
        # The lower halves are for the first sixteen inputs, the upper for the others.
        return _add_nibbles(code, (_lower, _upper), 1, registers, weights, inputs, begin)
    lower = _add_nibbles(code, (_lower,), 1, registers, weights, inputs, begin)
    return _add_nibbles(code, (_upper,), 16, registers, weights, inputs, lower)


def _add_nibbles(
    code: Code,
    nibbles: Sequence[Nibbles],
    worth: int,
    registers: Any,
    weights: Any,
    inputs: Sequence[Any],
    begin: Sequence[Any],
) -> list[Any]:
    """Add weights of 0 to 15, times what they are worth: a sum of 16 bits comes to 16 x 15 x 127 at most."""
    builder = code.b
    zero = ir.Constant(_HALF_SHORTS, [0] * 2 * _HALF)
    sums = [[cgutils.alloca_once(builder, _HALF_SHORTS) for _ in range(2)] for _ in inputs]
    for total in (total for of_row in sums for total in of_row):
        builder.store(zero, total)
    # How often it goes round is known only when it runs: unrolled, this did not stay in sixteen registers.
    with cgutils.for_range(builder, registers) as loop:
        here = code.at(weights, loop.index, 4 * LANES)
        code.fetch_ahead(here)
        read = [code.load(code.at(here, LONG(half), 4 * _HALF), _HALF_BYTES, 1) for half in range(2)]
        for place, nibble in enumerate(nibbles):
            unpacked = [nibble(code, half) for half in read]
            for of_row, row in zip(sums, inputs, strict=True):
                first = code.at(row, LONG(place), GROUP // 2)
                _add_two(code, of_row, unpacked, code.at(first, loop.index, 4))
    return [_widened(code, before, of_row, worth) for before, of_row in zip(begin, sums, strict=True)]


def _add_two(code: Code, sums: Sequence[Any], weights: Sequence[Any], four: Any) -> None:
    multiply = code.function("llvm.x86.avx2.pmadd.ub.sw", _HALF_SHORTS, [_HALF_BYTES] * 2)
    everywhere = code.b.bitcast(code.in_all(code.load(four, INT, 4), INT, _HALF), _HALF_BYTES)
    for total, half in zip(sums, weights, strict=True):
        code.b.store(code.b.add(code.b.load(total), code.b.call(multiply, [half, everywhere])), total)


def _widened(code: Code, before: Any, sums: Sequence[Any], worth: int) -> Any:
    """What two registers' sums of 16 bits come to by row, times what they are worth, added to what was before."""
    widen = code.function("llvm.x86.avx2.pmadd.wd", _HALF_INTS, [_HALF_SHORTS] * 2)
    each = ir.Constant(_HALF_SHORTS, [worth] * 2 * _HALF)
    halves = (code.b.call(widen, [code.b.load(total), each]) for total in sums)
    return code.b.add(before, code.b.shuffle_vector(*halves, ir.Constant(INTS, list(range(LANES)))))
