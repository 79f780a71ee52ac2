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
# AVX2's registers are half of what the others are written for.
_NARROW = LANES // 2
_NARROW_INTS, _NARROW_BYTES = ir.VectorType(INT, _NARROW), ir.VectorType(BYTE, 4 * _NARROW)
_SHORTS = ir.VectorType(ir.IntType(16), 2 * _NARROW)
assert GROUP // 2 * 15 * 128 < 2**15, "the sums of a group fit into 16 bits"

_Nibble = Callable[[Code, Any], Any]


def sums_over_group(
    code: Code, bits: int, registers: Any, weights: Any, inputs: Sequence[Any], begin: Sequence[Any]
) -> list[Any]:
    """Each input's products with sixteen rows' weights of one group, added to what its sums `begin` with.

    `weights` and `inputs` are addresses, laid out as PackedModel and `to_bytes` have it; `registers` is how many of 64
    bytes a group's weights fill, which is as many as a weight has bits.
    """
    if adds_up_four():
        return _step_by_step(code, _add_four, bits, weights, inputs, begin)
    if adds_up_two():
        return _in_pairs(code, bits, registers, weights, inputs, begin)
    return _step_by_step(code, _add_one_by_one, bits, weights, inputs, begin)


def _step_by_step(
    code: Code, add: Callable[..., Any], bits: int, weights: Any, inputs: Sequence[Any], begin: Sequence[Any]
) -> list[Any]:
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
            yield step, _low_nibble(code, read)
            yield step + _STEPS // 2, _high_nibble(code, read)


def _low_nibble(code: Code, read: Any) -> Any:
    return code.b.and_(read, _constant(read.type, 15))


def _high_nibble(code: Code, read: Any) -> Any:
    return code.b.lshr(read, _constant(read.type, 4))


def _constant(kind: ir.VectorType, number: int) -> Any:
    return ir.Constant(kind, [number] * kind.count)


def _add_four(code: Code, total: Any, weights: Any, four: Any) -> Any:
    dot = code.function("llvm.x86.avx512.vpdpbusd.512", INTS, [INTS, BYTES, BYTES])
    return code.b.call(dot, [total, weights, code.b.bitcast(four, BYTES)])


def _add_one_by_one(code: Code, total: Any, weights: Any, four: Any) -> Any:
    builder, of_rows = code.b, code.b.bitcast(weights, INTS)
    for place in range(4):
        weight = builder.and_(builder.lshr(of_rows, _constant(INTS, 8 * place)), _constant(INTS, 255))
        one = builder.ashr(builder.shl(four, _constant(INTS, 24 - 8 * place)), _constant(INTS, 24))
        total = builder.add(total, builder.mul(weight, one))
    return total


def _in_pairs(
    code: Code, bits: int, registers: Any, weights: Any, inputs: Sequence[Any], begin: Sequence[Any]
) -> list[Any]:
    if bits == 4:
        # The low ones are for the first sixteen inputs, the high ones for the others.
        sums = _sums_of_nibbles(code, (_low_nibble, _high_nibble), registers, weights, inputs)
        return _widened(code, begin, sums, 1)
    low, high = (
        _sums_of_nibbles(code, (nibble,), registers, weights, inputs) for nibble in (_low_nibble, _high_nibble)
    )
    return _widened(code, _widened(code, begin, low, 1), high, 16)


def _sums_of_nibbles(
    code: Code, nibbles: Sequence[_Nibble], registers: Any, weights: Any, inputs: Sequence[Any]
) -> list[list[Any]]:
    """Each input's products with weights of 0 to 15: two registers, with two sums of 16 bits for each weights' row."""
    builder = code.b
    sums = [[cgutils.alloca_once(builder, _SHORTS) for _ in range(2)] for _ in inputs]
    for total in (total for of_row in sums for total in of_row):
        builder.store(_constant(_SHORTS, 0), total)
    # How often it goes round is known only when it runs: unrolled, this did not stay in sixteen registers.
    with cgutils.for_range(builder, registers) as loop:
        here = code.at(weights, loop.index, 4 * LANES)
        code.fetch_ahead(here)
        read = [code.load(code.at(here, LONG(part), 4 * _NARROW), _NARROW_BYTES, 1) for part in range(2)]
        for place, nibble in enumerate(nibbles):
            unpacked = [nibble(code, part) for part in read]
            for of_row, row in zip(sums, inputs, strict=True):
                four = code.load(code.at(code.at(row, LONG(place), GROUP // 2), loop.index, 4), INT, 4)
                _add_two(code, of_row, unpacked, code.in_all(four, INT, _NARROW))
    return [[builder.load(total) for total in of_row] for of_row in sums]


def _add_two(code: Code, sums: Sequence[Any], weights: Sequence[Any], four: Any) -> None:
    multiply = code.function("llvm.x86.avx2.pmadd.ub.sw", _SHORTS, [_NARROW_BYTES] * 2)
    for total, part in zip(sums, weights, strict=True):
        products = code.b.call(multiply, [part, code.b.bitcast(four, _NARROW_BYTES)])
        code.b.store(code.b.add(code.b.load(total), products), total)


def _widened(code: Code, begin: Sequence[Any], sums: Sequence[Sequence[Any]], worth: int) -> list[Any]:
    """What sums come to by row, times what a nibble is worth (the high one of a byte 16), added to the beginning."""
    widen = code.function("llvm.x86.avx2.pmadd.wd", _NARROW_INTS, [_SHORTS] * 2)
    lanes = ir.Constant(INTS, list(range(LANES)))
    found = []
    for before, of_row in zip(begin, sums, strict=True):
        parts = [code.b.call(widen, [total, _constant(_SHORTS, worth)]) for total in of_row]
        found.append(code.b.add(before, code.b.shuffle_vector(*parts, lanes)))
    return found
