"""Products with packed weights: each thread does its share of the rows of weights, for all inputs.

Beside the weights can stand an adapter's two matrices: what the first makes of the inputs is brought into bytes as the
inputs are, and the second adds its products to the weights' own.
"""

# numba infers the types of these functions from the values that they are called with.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, call-arg"

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from chat.engine.packed.compiled import compiled
from chat.engine.packed.vectors import first_of_row, product, to_bytes
from chat.packed_model import GROUP, LANES

MATRIX = np.dtype([(name, np.int64) for name in ("codes", "scales", "bias", "bits", "rows", "columns")])
"""Where a matrix of packed weights lies, and its size. One that is not there has no bits."""
LORA_PARTS = 3
"""Linear layers in a product at most: queries, keys and values."""


class InBytes(NamedTuple):
    """Inputs of a product as `to_bytes` writes them; the first index of each is whose they are."""

    codes: NDArray[np.int8]
    scales: NDArray[np.float32]
    offsets: NDArray[np.int32]
    sums: NDArray[np.float32]


@compiled()
def share(thread, threads, pieces):
    """The first of this thread's pieces of the work, and the one behind its last."""
    return pieces * thread // threads, pieces * (thread + 1) // threads


@compiled()
def put_bytes(values, groups, row, inputs, whose):
    """Write a row of inputs, so many groups of floats at an address, as bytes."""
    place = first_of_row(row, groups)
    to_bytes(
        values,
        groups,
        inputs.codes[whose].ctypes.data + place * GROUP,
        inputs.scales[whose].ctypes.data + place * 4,
        inputs.offsets[whose].ctypes.data + place * 4,
        inputs.sums[whose].ctypes.data + place * 4,
    )


@compiled()
def multiply(thread, threads, matrices, part, tokens, scratch, out, stride, first_row, row_count):
    """This thread's rows of a product, for all tokens, and what the adapter adds to this part of it."""
    own, lora_b = matrices[0], matrices[2]
    first, end = share(thread, threads, row_count // LANES)
    for block in range(first + first_row // LANES, end + first_row // LANES):
        into = out + block * LANES * 4
        _sixteen_rows(own, block, own.bias + block * LANES * 4, 0, scratch.inputs, 0, tokens, into, stride)
        if lora_b.bits:
            whose = thread * LORA_PARTS + part
            _sixteen_rows(lora_b, block, into, stride, scratch.lowered, whose, tokens, into, stride)


@compiled()
def _sixteen_rows(matrix, block, begin, begin_stride, inputs, whose, tokens, out, out_stride):
    groups = matrix.columns // GROUP
    rests = inputs.offsets[whose].ctypes.data if matrix.bits == 8 else inputs.sums[whose].ctypes.data
    product(
        matrix.bits,
        matrix.codes + block * groups * GROUP * LANES * matrix.bits // 8,
        matrix.scales + block * groups * LANES * (2 if matrix.bits == 8 else 4),
        begin,
        begin_stride,
        groups,
        inputs.codes[whose].ctypes.data,
        inputs.scales[whose].ctypes.data,
        rests,
        tokens,
        out,
        out_stride,
    )


@compiled()
def lower(thread, matrices, tokens, scratch):
    """What an adapter makes of the inputs first, in bytes. Each thread does all of it: to meet again takes longer."""
    lora_a, rank = matrices[1], matrices[2].columns
    if not lora_a.bits:
        return
    low = scratch.low[thread]
    for block in range(lora_a.rows // LANES):
        begin, into = lora_a.bias + block * LANES * 4, low.ctypes.data + block * LANES * 4
        _sixteen_rows(lora_a, block, begin, 0, scratch.inputs, 0, tokens, into, low.shape[1] * 4)
    for part in range(lora_a.rows // rank):
        for row in range(tokens):
            of_part = low[row].ctypes.data + part * rank * 4
            put_bytes(of_part, rank // GROUP, row, scratch.lowered, thread * LORA_PARTS + part)
