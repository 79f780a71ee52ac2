"""The instructions that the inner loops are written in: LLVM's, at a builder's place.

Compilers do not ask memory for what will be needed: by itself a processor reads ahead only within a page of 4 KiB.

Addresses and strides are in bytes. Sixteen floats are written as one register; LLVM takes several where they are
narrower.
"""

# numba's own helpers have no types.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import struct
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from chat.packed_model import LANES

BYTE, INT, LONG = ir.IntType(8), ir.IntType(32), ir.IntType(64)
HALF, FLOAT = ir.HalfType(), ir.FloatType()
BYTES = ir.VectorType(BYTE, 4 * LANES)
INTS, HALVES, FLOATS = (ir.VectorType(kind, LANES) for kind in (INT, HALF, FLOAT))
_FETCHED_AHEAD = 4096
_LOG2_E = 1.4426950408889634
# 2^z on [0, 1): the terms of exp(z ln 2), the last fitted so that the error stays below 2e-7.
_EXP2 = (1.0, 0.6931472, 0.2402265, 0.05550411, 0.009618129, 0.0013333558)


def numbers(value: float) -> Any:
    """One number in all of sixteen lanes."""
    # As the nearest of 32 bits: LLVM takes no other constant.
    return ir.Constant(FLOATS, [struct.unpack("f", struct.pack("f", value))[0]] * LANES)


class Code:
    """Writes instructions at the builder's place."""

    def __init__(self, builder: Any) -> None:
        self.b = builder

    def function(self, name: str, result: Any, taken: list[Any]) -> Any:
        """An instruction by LLVM's name."""
        return cgutils.get_or_insert_function(self.b.module, ir.FunctionType(result, taken), name)

    def at(self, base: Any, place: Any, stride: int) -> Any:
        """The address `place` strides behind a base."""
        return self.b.add(base, self.b.mul(place, LONG(stride)))

    def bases(self, base: Any, stride: Any, tile: int) -> list[Any]:
        """The addresses of a tile's rows."""
        return [self.b.add(base, self.b.mul(stride, LONG(row))) for row in range(tile)]

    def load(self, address: Any, kind: Any, align: int) -> Any:
        """What lies at an address."""
        value = self.b.load(self.b.inttoptr(address, kind.as_pointer()))
        value.align = align
        return value

    def floats(self, address: Any) -> Any:
        """Sixteen floats."""
        return self.load(address, FLOATS, 4)

    def in_all(self, number: Any, kind: Any = FLOAT, lanes: int = LANES) -> Any:
        """One number in all lanes."""
        empty = ir.Constant(ir.VectorType(kind, lanes), ir.Undefined)
        one = self.b.insert_element(empty, number, INT(0))
        return self.b.shuffle_vector(one, empty, ir.Constant(ir.VectorType(INT, lanes), [0] * lanes))

    def halves(self, address: Any) -> Any:
        """Sixteen 16-bit floats, as floats."""
        return self.b.fpext(self.load(address, HALVES, 2), FLOATS)

    def everywhere(self, address: Any, kind: Any) -> Any:
        """The number at an address in all lanes."""
        return self.in_all(self.load(address, kind, 4), kind)

    def store(self, value: Any, address: Any, align: int = 4) -> None:
        """Write a register or a number."""
        self.b.store(value, self.b.inttoptr(address, value.type.as_pointer())).align = align

    def fetch_ahead(self, address: Any) -> None:
        """Have memory bring what lies some way behind this address."""
        pointer = ir.IntType(8).as_pointer()
        prefetch = self.function("llvm.prefetch.p0", ir.VoidType(), [pointer, INT, INT, INT])
        ahead = self.b.inttoptr(self.b.add(address, LONG(_FETCHED_AHEAD)), pointer)
        self.b.call(prefetch, [ahead, INT(0), INT(3), INT(1)])

    def sums(self, count: int) -> list[Any]:
        """Registers to add up in, zero."""
        return [cgutils.alloca_once_value(self.b, ir.Constant(FLOATS, [0.0] * LANES)) for _ in range(count)]

    def add_product(self, total: Any, one: Any, other: Any) -> None:
        """total += one * other, rounded once."""
        self.b.store(self.fma(one, other, self.b.load(total)), total)

    def fma(self, one: Any, other: Any, added: Any) -> Any:
        """one * other + added, rounded once."""
        return self.b.call(self.function("llvm.fma.v16f32", FLOATS, [FLOATS] * 3), [one, other, added])

    def each(self, operation: str, *vectors: Any) -> Any:
        """An operation of LLVM's on each of sixteen floats."""
        function = self.function(f"llvm.{operation}.v16f32", FLOATS, [FLOATS] * len(vectors))
        return self.b.call(function, vectors)

    def across(self, operation: str, vector: Any) -> Any:
        """The sum (`add`, of integers) or the largest (`fmax`, `fmaximum`) of a register's sixteen lanes."""
        kind, one = (INTS, INT) if operation == "add" else (FLOATS, FLOAT)
        name = f"llvm.vector.reduce.{operation}.v16{'i32' if kind is INTS else 'f32'}"
        return self.b.call(self.function(name, one, [kind]), [vector])

    def total(self, vector: Any) -> Any:
        """The sum of sixteen floats, neighbours first."""
        for width in (1, 2, 4, 8):
            swapped = ir.Constant(INTS, [lane ^ width for lane in range(LANES)])
            vector = self.b.fadd(vector, self.b.shuffle_vector(vector, vector, swapped))
        return self.b.extract_element(vector, INT(0))

    def exp(self, vector: Any) -> Any:
        """e to the power of each of sixteen floats, as 2^n times a polynomial; it stays finite and above zero."""
        power = self.b.fmul(vector, numbers(_LOG2_E))
        power = self.each("minnum", self.each("maxnum", power, numbers(-126.0)), numbers(126.0))
        whole = self.each("floor", power)
        rest = self.b.fsub(power, whole)
        result = numbers(_EXP2[-1])
        for term in reversed(_EXP2[:-1]):
            result = self.fma(result, rest, numbers(term))
        raised = self.b.shl(self.b.fptosi(whole, INTS), ir.Constant(INTS, [23] * LANES))
        return self.b.bitcast(self.b.add(self.b.bitcast(result, INTS), raised), FLOATS)
