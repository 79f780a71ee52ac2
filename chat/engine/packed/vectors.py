"""The inner loops, written for the vector unit: LLVM instructions that numba compiles into the functions that use them.

Compilers do not find these instructions by themselves: a product of bytes that adds up four neighbours in one step
(VNNI; where a processor lacks it, the same sums in more steps), and a barrier. Each result is the same bit for bit
however many rows are computed side by side, because every sum is taken in one order; so a reply depends neither on who
else is served nor on how a prompt was cut into blocks.

Addresses and strides are in bytes. Sixteen floats fill a register; a `tile` is the rows that one pass over the weights
(or keys, or values) serves.
"""

# numba infers the types of these functions from the values that they are called with; its own have none.
# mypy: disable-error-code="no-untyped-def, no-untyped-call"

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from chat.packed_model import GROUP, LANES
from chat.processor import is_x86, multiplies_bytes

_BYTE, _INT, _LONG = ir.IntType(8), ir.IntType(32), ir.IntType(64)
_HALF, _FLOAT = ir.HalfType(), ir.FloatType()
_BYTES = ir.VectorType(_BYTE, 4 * LANES)
_INTS, _HALVES, _FLOATS = (ir.VectorType(kind, LANES) for kind in (_INT, _HALF, _FLOAT))
_STEPS = GROUP // 4


class _Code:
    """Writes instructions at the builder's place."""

    def __init__(self, builder: Any) -> None:
        self.b = builder
        self._fma = self._function("llvm.fma.v16f32", _FLOATS, [_FLOATS] * 3)

    def _function(self, name: str, result: Any, taken: list[Any]) -> Any:
        return cgutils.get_or_insert_function(self.b.module, ir.FunctionType(result, taken), name)

    def at(self, base: Any, place: Any, stride: int) -> Any:
        """The address `place` strides behind a base."""
        return self.b.add(base, self.b.mul(place, _LONG(stride)))

    def bases(self, base: Any, stride: Any, tile: int) -> list[Any]:
        """The addresses of a tile's rows."""
        return [self.b.add(base, self.b.mul(stride, _LONG(row))) for row in range(tile)]

    def load(self, address: Any, kind: Any, align: int) -> Any:
        value = self.b.load(self.b.inttoptr(address, kind.as_pointer()))
        value.align = align
        return value

    def floats(self, address: Any) -> Any:
        """Sixteen floats."""
        return self.load(address, _FLOATS, 4)

    def halves(self, address: Any) -> Any:
        """Sixteen 16-bit floats, as floats."""
        return self.b.fpext(self.load(address, _HALVES, 2), _FLOATS)

    def everywhere(self, address: Any, kind: Any) -> Any:
        """One number in all lanes."""
        empty = ir.Constant(ir.VectorType(kind, LANES), ir.Undefined)
        one = self.b.insert_element(empty, self.load(address, kind, 4), _INT(0))
        return self.b.shuffle_vector(one, empty, ir.Constant(_INTS, [0] * LANES))

    def store(self, vector: Any, address: Any) -> None:
        self.b.store(vector, self.b.inttoptr(address, vector.type.as_pointer())).align = 4

    def weights(self, address: Any, bits: int) -> Iterator[tuple[int, Any]]:
        """A group's weights, for each four inputs those of sixteen rows, as bytes."""
        for step in range(_STEPS * bits // 8):
            read = self.load(self.at(address, _LONG(step), 4 * LANES), _BYTES, 1)
            if bits == 8:
                yield step, read
            else:
                yield step, self.b.and_(read, ir.Constant(_BYTES, [15] * 4 * LANES))
                yield step + _STEPS // 2, self.b.lshr(read, ir.Constant(_BYTES, [4] * 4 * LANES))

    def sums(self, count: int) -> list[Any]:
        """Registers to add up in, zero."""
        return [cgutils.alloca_once_value(self.b, ir.Constant(_FLOATS, [0.0] * LANES)) for _ in range(count)]

    def add_product(self, total: Any, one: Any, other: Any) -> None:
        """total += one * other, rounded once."""
        self.b.store(self.b.call(self._fma, [one, other, self.b.load(total)]), total)

    def add_bytes(self, total: Any, unsigned: Any, signed: Any) -> Any:
        """total + the products of four neighbouring bytes, for each of sixteen."""
        if not multiplies_bytes():
            return self._add_bytes_in_steps(total, unsigned, signed)
        name = "llvm.x86.avx512.vpdpbusd.512"
        dot = self._function(name, _INTS, [_INTS, _BYTES, _BYTES])
        return self.b.call(dot, [total, unsigned, self.b.bitcast(signed, _BYTES)])

    def _add_bytes_in_steps(self, total: Any, unsigned: Any, signed: Any) -> Any:
        wide = ir.VectorType(_INT, 4 * LANES)
        products = self.b.mul(self.b.zext(unsigned, wide), self.b.sext(self.b.bitcast(signed, _BYTES), wide))
        for first in range(4):
            every_fourth = ir.Constant(_INTS, [first + 4 * lane for lane in range(LANES)])
            total = self.b.add(total, self.b.shuffle_vector(products, products, every_fourth))
        return total


def _product(tile: int) -> Callable[..., Any]:
    """Sixteen rows of packed weights, laid out as PackedModel says, times a tile of inputs.

    An input has signed bytes, and for each group a scale and -128 times the sum of its bytes. The sums begin with the
    rows' bias.
    """

    @intrinsic
    def product(
        context: Any, bits: Any, codes: Any, scales: Any, bias: Any, groups: Any, inputs: Any, input_scales: Any,
        offsets: Any, out: Any, out_stride: Any,
    ) -> Any:  # fmt: skip
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            bits, *rest = args
            with builder.if_else(builder.icmp_signed("==", bits, _LONG(8))) as (eight, four):
                with eight:
                    _write_product(_Code(builder), tile, 8, *rest)
                with four:
                    _write_product(_Code(builder), tile, 4, *rest)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 10), generate

    return product


def _write_product(
    code: _Code, tile: int, bits: int, codes: Any, scales: Any, bias: Any, groups: Any, inputs: Any, input_scales: Any,
    offsets: Any, out: Any, out_stride: Any,
) -> None:  # fmt: skip
    builder = code.b
    totals = code.sums(tile)
    for total in totals:
        builder.store(code.floats(bias), total)
    by_group = builder.mul(groups, _LONG(4))
    rows = code.bases(inputs, builder.mul(groups, _LONG(GROUP)), tile)
    row_scales, row_offsets = code.bases(input_scales, by_group, tile), code.bases(offsets, by_group, tile)
    with cgutils.for_range(builder, groups) as loop:
        group = loop.index
        of_rows = [code.everywhere(code.at(row, group, 4), _INT) for row in row_offsets]
        # In 8 bits the weights lie 128 above their value; in 4 they begin at the group's own least.
        sums = list(of_rows) if bits == 8 else [ir.Constant(_INTS, [0] * LANES)] * tile
        for step, weights in code.weights(code.at(codes, group, GROUP * LANES * bits // 8), bits):
            for place, row in enumerate(rows):
                four = code.everywhere(code.at(code.at(row, group, GROUP), _LONG(step), 4), _INT)
                sums[place] = code.add_bytes(sums[place], weights, four)
        numbers = code.at(scales, group, 2 * LANES if bits == 8 else 4 * LANES)
        scale = code.halves(numbers)
        for total, added, offset, row in zip(totals, sums, of_rows, row_scales, strict=True):
            of_input = code.everywhere(code.at(row, group, 4), _FLOAT)
            code.add_product(total, builder.sitofp(added, _FLOATS), builder.fmul(scale, of_input))
            if bits == 4:
                least = code.halves(code.at(numbers, _LONG(1), 2 * LANES))
                code.add_product(total, builder.sitofp(offset, _FLOATS), builder.fmul(least, of_input))
    for total, row in zip(totals, code.bases(out, out_stride, tile), strict=True):
        code.store(builder.load(total), row)


def _scores(tile: int) -> Callable[..., Any]:
    """A tile of queries on keys: keys are 16-bit floats (blocks, size, 16), sixteen tokens side by side."""

    @intrinsic
    def scores(context: Any, queries: Any, keys: Any, size: Any, blocks: Any, out: Any, out_stride: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            code = _Code(builder)
            queries, keys, size, blocks, out, out_stride = args
            rows = code.bases(queries, builder.mul(size, _LONG(4)), tile)
            into = code.bases(out, out_stride, tile)
            totals = code.sums(tile)
            with cgutils.for_range(builder, blocks) as over_blocks:
                block = over_blocks.index
                here = code.at(keys, builder.mul(block, size), 2 * LANES)
                for total in totals:
                    builder.store(ir.Constant(_FLOATS, [0.0] * LANES), total)
                with cgutils.for_range(builder, size) as over_size:
                    of_sixteen = code.halves(code.at(here, over_size.index, 2 * LANES))
                    for total, row in zip(totals, rows, strict=True):
                        one = code.everywhere(code.at(row, over_size.index, 4), _FLOAT)
                        code.add_product(total, one, of_sixteen)
                for total, row in zip(totals, into, strict=True):
                    code.store(builder.load(total), code.at(row, block, 4 * LANES))
            return context.get_dummy_value()

        return types.void(*[types.intp] * 6), generate

    return scores


def _mixture(tile: int, registers: int) -> Callable[..., Any]:
    """A tile of weightings times values: values are 16-bit floats (tokens, size), 16 x `registers` of them mixed."""

    @intrinsic
    def mixture(
        context: Any, weights: Any, weights_stride: Any, values: Any, size: Any, tokens: Any, out: Any
    ) -> Any:  # fmt: skip
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            code = _Code(builder)
            weights, weights_stride, values, size, tokens, out = args
            totals = [code.sums(registers) for _ in range(tile)]
            rows = code.bases(weights, weights_stride, tile)
            by_token = builder.mul(size, _LONG(2))
            with cgutils.for_range(builder, tokens) as loop:
                here = builder.add(values, builder.mul(loop.index, by_token))
                parts = [code.halves(code.at(here, _LONG(part), 2 * LANES)) for part in range(registers)]
                for of_row, row in zip(totals, rows, strict=True):
                    weight = code.everywhere(code.at(row, loop.index, 4), _FLOAT)
                    for total, part in zip(of_row, parts, strict=True):
                        code.add_product(total, weight, part)
            for of_row, row in zip(totals, code.bases(out, builder.mul(size, _LONG(4)), tile), strict=True):
                for part, total in enumerate(of_row):
                    code.store(builder.load(total), code.at(row, _LONG(part), 4 * LANES))
            return context.get_dummy_value()

        return types.void(*[types.intp] * 6), generate

    return mixture


@intrinsic
def put_half(context: Any, address: Any, value: Any) -> Any:
    """Write a float as one of 16 bits."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        address, value = args
        builder.store(builder.fptrunc(value, _HALF), builder.inttoptr(address, _HALF.as_pointer()))
        return context.get_dummy_value()

    return types.void(types.intp, types.float32), generate


@intrinsic
def meet(context: Any, arrivals: Any, threads: Any) -> Any:
    """Wait for all threads. `arrivals` is the address of two 64-bit integers: how many are here, and the round.

    A thread that waits long lets others have the processor, so that work beside this one does not stop it.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        arrivals, threads = args
        here = builder.inttoptr(arrivals, _LONG.as_pointer())
        turn = builder.inttoptr(builder.add(arrivals, _LONG(64)), _LONG.as_pointer())
        now = builder.load_atomic(turn, "acquire", 8)
        before = builder.atomic_rmw("add", here, _LONG(1), "acq_rel")
        last = builder.icmp_signed("==", builder.add(before, _LONG(1)), threads)
        with builder.if_else(last) as (the_last, the_others):
            with the_last:
                builder.store_atomic(_LONG(0), here, "release", 8)
                builder.atomic_rmw("add", turn, _LONG(1), "acq_rel")
            with the_others:
                _spin_while(builder, turn, now)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp), generate


def _spin_while(builder: Any, turn: Any, now: Any) -> None:
    module = builder.module
    give_way = cgutils.get_or_insert_function(module, ir.FunctionType(_INT, []), "sched_yield")
    spins = cgutils.alloca_once_value(builder, _LONG(0))
    test, spin, done = (builder.append_basic_block(name) for name in ("test", "spin", "done"))
    builder.branch(test)
    builder.position_at_end(test)
    same = builder.icmp_signed("==", builder.load_atomic(turn, "acquire", 8), now)
    builder.cbranch(same, spin, done)
    builder.position_at_end(spin)
    if is_x86():
        pause = cgutils.get_or_insert_function(module, ir.FunctionType(ir.VoidType(), []), "llvm.x86.sse2.pause")
        builder.call(pause, [])
    count = builder.add(builder.load(spins), _LONG(1))
    builder.store(count, spins)
    long = builder.icmp_signed("==", builder.and_(count, _LONG(_SPINS - 1)), _LONG(0))
    with builder.if_then(long):
        builder.call(give_way, [])
    builder.branch(test)
    builder.position_at_end(done)


_SPINS = 4096
_product_1, _product_2, _product_4, _product_8 = (_product(tile) for tile in (1, 2, 4, 8))
_scores_1, _scores_2, _scores_3, _scores_6 = (_scores(tile) for tile in (1, 2, 3, 6))
_mixture_1, _mixture_2, _mixture_3, _mixture_6 = (_mixture(tile, 4) for tile in (1, 2, 3, 6))
_narrow_mixture = _mixture(1, 1)
MOST_QUERIES = 6
"""Queries in a tile at most."""


@njit(nogil=True, cache=True)
def product(bits, codes, scales, bias, groups, inputs, input_scales, offsets, rows, out, out_stride):
    """Sixteen rows of weights times any number of inputs, as many of them at a time as the registers hold."""
    row = 0
    while row < rows:
        left = rows - row
        x, s, o = inputs + row * groups * 32, input_scales + row * groups * 4, offsets + row * groups * 4
        y = out + row * out_stride
        if left >= 8:
            _product_8(bits, codes, scales, bias, groups, x, s, o, y, out_stride)
            row += 8
        elif left >= 4:
            _product_4(bits, codes, scales, bias, groups, x, s, o, y, out_stride)
            row += 4
        elif left >= 2:
            _product_2(bits, codes, scales, bias, groups, x, s, o, y, out_stride)
            row += 2
        else:
            _product_1(bits, codes, scales, bias, groups, x, s, o, y, out_stride)
            row += 1


@njit(nogil=True, cache=True)
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


@njit(nogil=True, cache=True)
def mixture(weights, weights_stride, rows, values, size, tokens, out):
    """The sums of values, each times its weight, for each of some weightings."""
    wide = size // 64 * 64
    for row in range(rows):
        for place in range(wide, size, 16):
            w, y = weights + row * weights_stride, out + (row * size + place) * 4
            _narrow_mixture(w, weights_stride, values + place * 2, size, tokens, y)
    for place in range(0, wide, 64):
        row = 0
        while row < rows:
            left = rows - row
            w, y = weights + row * weights_stride, out + (row * size + place) * 4
            if left >= 6:
                _mixture_6(w, weights_stride, values + place * 2, size, tokens, y)
                row += 6
            elif left >= 3:
                _mixture_3(w, weights_stride, values + place * 2, size, tokens, y)
                row += 3
            elif left == 2:
                _mixture_2(w, weights_stride, values + place * 2, size, tokens, y)
                row += 2
            else:
                _mixture_1(w, weights_stride, values + place * 2, size, tokens, y)
                row += 1
