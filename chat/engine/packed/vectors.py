"""The inner loops, written for the vector unit. numba compiles them into the functions that use them.

Each result is the same bit for bit however many rows are computed side by side, because every sum is taken in one
order; so a reply depends neither on who else is served nor on how a prompt was cut into blocks.

A `tile` is the rows that one pass over the weights (or keys, or values) serves.
"""

# numba infers the types of these functions from the values that they are called with; its own have none.
# mypy: disable-error-code="no-untyped-def, no-untyped-call"

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from chat.engine.packed.byte_products import sums_over_group
from chat.engine.packed.compiled import compiled
from chat.engine.packed.instructions import BYTE, FLOAT, FLOATS, INT, INTS, LONG, Code
from chat.packed_model import GROUP, LANES
from chat.processor import has_wide_registers

SIDE_BY_SIDE = 8


def _product(tile: int) -> Callable[..., Any]:
    """Sixteen rows of packed weights, laid out as PackedModel says, times a tile of inputs, as `to_bytes` lays them.

    An input has signed bytes, for each group a scale, and `rests`, which is what the weights' way of counting leaves
    over: in 8 bits -128 times the sum of the bytes, in 4 the scale times that sum. The results begin with what lies at
    `begin`.
    """

    @intrinsic
    def product(
        context: Any, bits: Any, codes: Any, scales: Any, begin: Any, begin_stride: Any, groups: Any, inputs: Any,
        input_scales: Any, rests: Any, out: Any, out_stride: Any,
    ) -> Any:  # fmt: skip
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            bits, *_ = args
            # Not “== 8”: where LLVM knows the number it unrolls the loop that byte_products has over the registers.
            with builder.if_else(builder.icmp_signed(">", bits, LONG(4))) as (eight, four):
                with eight:
                    _write_product(Code(builder), tile, 8, *args)
                with four:
                    _write_product(Code(builder), tile, 4, *args)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 11), generate

    return product


def _write_product(
    code: Code, tile: int, bits: int, registers: Any, codes: Any, scales: Any, begin: Any, begin_stride: Any,
    groups: Any, inputs: Any, input_scales: Any, rests: Any, out: Any, out_stride: Any,
) -> None:  # fmt: skip
    builder = code.b
    totals = code.sums(tile)
    for total, row in zip(totals, code.bases(begin, begin_stride, tile), strict=True):
        builder.store(code.floats(row), total)
    rows = code.bases(inputs, LONG(GROUP), tile)
    row_scales, row_rests = code.bases(input_scales, LONG(4), tile), code.bases(rests, LONG(4), tile)
    with cgutils.for_range(builder, groups) as loop:
        group = loop.index
        of_rows = [
            code.everywhere(code.at(row, group, 4 * SIDE_BY_SIDE), INT if bits == 8 else FLOAT) for row in row_rests
        ]
        sums = sums_over_group(
            code,
            bits,
            registers,
            code.at(codes, group, GROUP * LANES * bits // 8),
            [code.at(row, group, GROUP * SIDE_BY_SIDE) for row in rows],
            # In 8 bits the weights lie 128 above their value; in 4 they begin at the group's own least.
            of_rows if bits == 8 else [ir.Constant(INTS, [0] * LANES)] * tile,
        )
        of_group = code.at(scales, group, 2 * LANES if bits == 8 else 4 * LANES)
        scale = code.halves(of_group)
        for total, added, rest, row in zip(totals, sums, of_rows, row_scales, strict=True):
            of_input = code.everywhere(code.at(row, group, 4 * SIDE_BY_SIDE), FLOAT)
            code.add_product(total, builder.sitofp(added, FLOATS), builder.fmul(scale, of_input))
            if bits == 4:
                code.add_product(total, code.halves(code.at(of_group, LONG(1), 2 * LANES)), rest)
    for total, row in zip(totals, code.bases(out, out_stride, tile), strict=True):
        code.store(builder.load(total), row)


def _scores(tile: int) -> Callable[..., Any]:
    """A tile of queries on keys: keys are 16-bit floats (blocks, size, 16), sixteen tokens side by side."""

    @intrinsic
    def scores(context: Any, queries: Any, keys: Any, size: Any, blocks: Any, out: Any, out_stride: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            code = Code(builder)
            queries, keys, size, blocks, out, out_stride = args
            rows = code.bases(queries, builder.mul(size, LONG(4)), tile)
            into = code.bases(out, out_stride, tile)
            for wide, block in _side_by_side(builder, blocks, 2 if _fit(tile, 2) else 1):
                _write_scores(code, wide, rows, keys, size, block, into)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 6), generate

    return scores


def _write_scores(code: Code, wide: int, rows: list[Any], keys: Any, size: Any, block: Any, into: list[Any]) -> None:
    """So many blocks side by side: a sum waits for its last product, and one block has too few sums to fill that."""
    builder = code.b
    totals = [code.sums(len(rows)) for _ in range(wide)]
    stride = builder.mul(size, LONG(2 * LANES))
    heres = [builder.add(keys, builder.mul(builder.add(block, LONG(side)), stride)) for side in range(wide)]
    with cgutils.for_range(builder, size) as loop:
        ones = [code.everywhere(code.at(row, loop.index, 4), FLOAT) for row in rows]
        for here, of_block in zip(heres, totals, strict=True):
            of_size = code.at(here, loop.index, 2 * LANES)
            code.fetch_ahead(of_size)
            of_sixteen = code.halves(of_size)
            for total, one in zip(of_block, ones, strict=True):
                code.add_product(total, one, of_sixteen)
    for side, of_block in enumerate(totals):
        for total, row in zip(of_block, into, strict=True):
            code.store(builder.load(total), code.at(row, builder.add(block, LONG(side)), 4 * LANES))


def _mixture(tile: int) -> Callable[..., Any]:
    """A tile of weightings times values: values are 16-bit floats (tokens, size)."""

    @intrinsic
    def mixture(
        context: Any, weights: Any, weights_stride: Any, values: Any, size: Any, tokens: Any, out: Any
    ) -> Any:  # fmt: skip
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            code = Code(builder)
            weights, weights_stride, values, size, tokens, out = args
            rows = code.bases(weights, weights_stride, tile)
            into = code.bases(out, builder.mul(size, LONG(4)), tile)
            wide = next(registers for registers in (4, 2, 1) if _fit(tile, registers))
            for registers, place in _side_by_side(builder, builder.udiv(size, LONG(LANES)), wide):
                _write_mixture(code, registers, rows, values, size, tokens, place, into)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 6), generate

    return mixture


def _write_mixture(
    code: Code, wide: int, rows: list[Any], values: Any, size: Any, tokens: Any, place: Any, into: list[Any]
) -> None:
    """So many registers of each mixture side by side."""
    builder = code.b
    totals = [code.sums(wide) for _ in rows]
    first = code.at(values, place, 2 * LANES)
    with cgutils.for_range(builder, tokens) as loop:
        here = builder.add(first, builder.mul(builder.mul(size, LONG(2)), loop.index))
        for line in range(0, 2 * LANES * wide, _LINE):
            code.fetch_ahead(builder.add(here, LONG(line)))
        parts = [code.halves(code.at(here, LONG(part), 2 * LANES)) for part in range(wide)]
        for of_row, row in zip(totals, rows, strict=True):
            weight = code.everywhere(code.at(row, loop.index, 4), FLOAT)
            for total, part in zip(of_row, parts, strict=True):
                code.add_product(total, weight, part)
    for of_row, row in zip(totals, into, strict=True):
        for part, total in enumerate(of_row):
            code.store(builder.load(total), code.at(row, builder.add(place, LONG(part)), 4 * LANES))


def _fit(tile: int, wide: int) -> bool:
    """Whether so many sums side by side for each row stay in registers, beside what is multiplied for them."""
    in_each, registers = (1, 32) if has_wide_registers() else (2, 16)
    return in_each * wide * (tile + 1) + 1 <= registers


def _side_by_side(builder: Any, count: Any, wide: int) -> Iterator[tuple[int, Any]]:
    """Loops over so many things, several at a time and then one by one: how many, and the first of them."""
    together = builder.udiv(count, LONG(wide))
    with cgutils.for_range(builder, together) as loop:
        yield wide, builder.mul(loop.index, LONG(wide))
    if wide > 1:
        begun = builder.mul(together, LONG(wide))
        with cgutils.for_range(builder, builder.sub(count, begun)) as loop:
            yield 1, builder.add(begun, loop.index)


@intrinsic
def to_bytes(context: Any, values: Any, groups: Any, codes: Any, scales: Any, offsets: Any, sums: Any) -> Any:
    """Each group of a row as whole numbers from -127 to 127, a scale, and their sum: -128 times it, and scale times.

    SIDE_BY_SIDE rows lie group by group: the first group of each, then the second. So a product knows where its tile's
    rows lie from each other when it is compiled; where they were a variable stride apart it took half as long again.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        code = Code(builder)
        values, groups, codes, scales, offsets, sums = args
        with cgutils.for_range(builder, groups) as loop:
            here = code.at(values, loop.index, 4 * GROUP)
            halves = [code.floats(code.at(here, LONG(half), 4 * LANES)) for half in range(GROUP // LANES)]
            sizes = code.each("maxnum", *(code.each("fabs", half) for half in halves))
            largest = code.across("fmax", sizes)
            some = builder.fcmp_ordered(">", largest, FLOAT(0))
            inverse = code.in_all(builder.select(some, builder.fdiv(FLOAT(127), largest), FLOAT(0)))
            total = INT(0)
            for place, half in enumerate(halves):
                whole = builder.fptosi(code.each("rint", builder.fmul(half, inverse)), INTS)
                total = builder.add(total, code.across("add", whole))
                into = code.at(code.at(codes, loop.index, GROUP * SIDE_BY_SIDE), LONG(place), LANES)
                code.store(builder.trunc(whole, ir.VectorType(BYTE, LANES)), into, align=1)
            scale = builder.fdiv(largest, FLOAT(127))
            stride = 4 * SIDE_BY_SIDE
            code.store(scale, code.at(scales, loop.index, stride))
            code.store(builder.mul(total, INT(-4 * GROUP)), code.at(offsets, loop.index, stride))
            code.store(builder.fmul(scale, builder.sitofp(total, FLOAT)), code.at(sums, loop.index, stride))
        return context.get_dummy_value()

    return types.void(*[types.intp] * 6), generate


_product_1, _product_2, _product_4, _product_8 = (_product(tile) for tile in (1, 2, 4, 8))
_scores_1, _scores_2, _scores_3, _scores_6 = (_scores(tile) for tile in (1, 2, 3, 6))
_mixture_1, _mixture_2, _mixture_3, _mixture_6 = (_mixture(tile) for tile in (1, 2, 3, 6))
_LINE = 64
# Elsewhere eight rows' sums would not stay in registers.
_EIGHT_FIT = has_wide_registers()
MOST_QUERIES = 6
"""Queries in a tile at most."""


@compiled()
def first_of_row(row, groups):
    """How many groups lie before the first of a row."""
    return row // SIDE_BY_SIDE * SIDE_BY_SIDE * groups + row % SIDE_BY_SIDE


@compiled()
def product(
    bits, codes, scales, begin, begin_stride, groups, inputs, input_scales, rests, rows, out, out_stride
):  # fmt: skip
    """Sixteen rows of weights times any number of inputs, as many of them at a time as the registers hold."""
    row = 0
    while row < rows:
        left, place = rows - row, first_of_row(row, groups)
        x, s, r = inputs + place * GROUP, input_scales + place * 4, rests + place * 4
        b, y = begin + row * begin_stride, out + row * out_stride
        if _EIGHT_FIT and left >= 8:
            _product_8(bits, codes, scales, b, begin_stride, groups, x, s, r, y, out_stride)
            row += 8
        elif left >= 4:
            _product_4(bits, codes, scales, b, begin_stride, groups, x, s, r, y, out_stride)
            row += 4
        elif left >= 2:
            _product_2(bits, codes, scales, b, begin_stride, groups, x, s, r, y, out_stride)
            row += 2
        else:
            _product_1(bits, codes, scales, b, begin_stride, groups, x, s, r, y, out_stride)
            row += 1


@compiled()
def scores(queries, rows, keys, size, blocks, out, out_stride):
    """The products of queries, at most MOST_QUERIES, with blocks of sixteen keys."""
    row = 0
    while row < rows:
        left = rows - row
        q, y = queries + row * size * 4, out + row * out_stride
        if left >= 6:
            _scores_6(q, keys, size, blocks, y, out_stride)
            row += 6
        elif left >= 3:
            _scores_3(q, keys, size, blocks, y, out_stride)
            row += 3
        elif left == 2:
            _scores_2(q, keys, size, blocks, y, out_stride)
            row += 2
        else:
            _scores_1(q, keys, size, blocks, y, out_stride)
            row += 1


@compiled()
def mixture(weights, weights_stride, rows, values, size, tokens, out):
    """The sums of values, each times its weight, for each of some weightings."""
    row = 0
    while row < rows:
        left = rows - row
        w, y = weights + row * weights_stride, out + row * size * 4
        if left >= 6:
            _mixture_6(w, weights_stride, values, size, tokens, y)
            row += 6
        elif left >= 3:
            _mixture_3(w, weights_stride, values, size, tokens, y)
            row += 3
        elif left == 2:
            _mixture_2(w, weights_stride, values, size, tokens, y)
            row += 2
        else:
            _mixture_1(w, weights_stride, values, size, tokens, y)
            row += 1
