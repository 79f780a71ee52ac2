"""One forward pass as one compiled function that several threads run together, meeting between its parts.

Rows are tokens: a block of a prompt, or one token of each of several requests. Each row has its own cache and place, so
both are the same work. In each part a thread does its share of the rows or of the weights; a part begins when all have
ended the one before.
"""

# numba infers the types of these functions from the values that they are called with.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, call-arg, var-annotated"

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from chat.engine.packed.barrier import meet
from chat.engine.packed.compiled import compiled
from chat.engine.packed.elements import exponentials, gate, greatest, put_half
from chat.engine.packed.pipe import is_called
from chat.engine.packed.products import InBytes, lower, multiply, put_bytes, share
from chat.engine.packed.stretches import add_up, find_peaks, largest_of
from chat.engine.packed.vectors import MOST_QUERIES, mixture, scores
from chat.packed_model import GROUP, LANES


class Weights(NamedTuple):
    """Where the weights lie.

    `products`: (products, 3), four a layer and then the vocabulary's, each with the two matrices of the adapter beside
    it. `norms`: (layers, 2, width); `head_norms`: (layers, 2, head size), or no layers where there are none.
    `cos` and `sin`: (positions, half of the head size).
    """

    products: NDArray[np.void]
    norms: NDArray[np.float32]
    head_norms: NDArray[np.float32]
    last_norm: NDArray[np.float32]
    cos: NDArray[np.float32]
    sin: NDArray[np.float32]


class Rows(NamedTuple):
    """The tokens of a pass, and room for more.

    `counts`: how many there are, how many of the last get logits, and the address of these, (so many, vocabulary).
    `hidden`: (rows, width), overwritten. For each row its place, and the address and the capacity of its cache.
    What the logits of each come to: `peaks` and `sums`, (rows, stretches of the vocabulary).
    """

    counts: NDArray[np.int64]
    hidden: NDArray[np.float32]
    places: NDArray[np.int64]
    caches: NDArray[np.int64]
    capacities: NDArray[np.int64]
    peaks: NDArray[np.float32]
    sums: NDArray[np.float32]


class Scratch(NamedTuple):
    """Room for what lies between the parts.

    `inputs` are everybody's; the first index of `lowered` is the thread's and the linear layer's, that of the rest the
    thread's.
    """

    joined: NDArray[np.float32]
    attended: NDArray[np.float32]
    gated: NDArray[np.float32]
    inner: NDArray[np.float32]
    added: NDArray[np.float32]
    inputs: InBytes
    lowered: InBytes
    low: NDArray[np.float32]
    normed: NDArray[np.float32]
    queries: NDArray[np.float32]
    weightings: NDArray[np.float32]


@compiled()
def run_when_called(pipe, thread, threads, arrivals, shape, weights, rows, scratch):
    """A thread's part of one pass after the other, whenever it is called, until the pipe is closed."""
    while is_called(pipe):
        run(thread, threads, arrivals, shape, weights, rows, scratch)


@compiled()
def run(thread, threads, arrivals, shape, weights, rows, scratch):
    """A thread's part of a forward pass. `arrivals` is the address where the threads meet."""
    tokens, wanted, logits = rows.counts
    hidden = rows.hidden[:tokens]
    for layer in range(shape.layers):
        _prepare_normed(thread, threads, hidden, weights.norms[layer, 0], shape.epsilon, scratch)
        meet(arrivals, threads)
        _join(thread, threads, weights.products[4 * layer], shape, tokens, scratch)
        meet(arrivals, threads)
        _remember(thread, threads, layer, shape, weights, rows, scratch)
        meet(arrivals, threads)
        _attend(thread, threads, layer, shape, weights, rows, scratch)
        meet(arrivals, threads)
        _prepare(thread, threads, scratch.attended[:tokens], scratch)
        meet(arrivals, threads)
        _add(thread, threads, weights.products[4 * layer + 1], hidden, scratch)
        meet(arrivals, threads)
        _prepare_normed(thread, threads, hidden, weights.norms[layer, 1], shape.epsilon, scratch)
        meet(arrivals, threads)
        _gate(thread, threads, weights.products[4 * layer + 2], shape, tokens, scratch)
        meet(arrivals, threads)
        _prepare(thread, threads, scratch.inner[:tokens], scratch)
        meet(arrivals, threads)
        _add(thread, threads, weights.products[4 * layer + 3], hidden, scratch)
        meet(arrivals, threads)
    last = hidden[tokens - wanted :]
    _prepare_normed(thread, threads, last, weights.last_norm, shape.epsilon, scratch)
    meet(arrivals, threads)
    size = shape.vocabulary
    multiply(thread, threads, weights.products[-1], 0, wanted, scratch, logits, 4 * size, 0, size)
    meet(arrivals, threads)
    first, end = share(thread, threads, rows.peaks.shape[1])
    for row in range(wanted):
        find_peaks(logits + row * size * 4, size // LANES, first, end, rows.peaks[row])
    meet(arrivals, threads)
    for row in range(wanted):
        largest = largest_of(rows.peaks[row])
        add_up(logits + row * size * 4, size // LANES, first, end, largest, np.float32(1), rows.sums[row])
    meet(arrivals, threads)


@compiled()
def _prepare_normed(thread, threads, hidden, norm, epsilon, scratch):
    """Root mean square norm (Zhang & Sennrich 2019, arXiv:1910.07467) of each row, in bytes."""
    first, end = share(thread, threads, hidden.shape[0])
    normed = scratch.normed[thread]
    for row in range(first, end):
        _norm(hidden[row], norm, epsilon, normed)
        put_bytes(normed.ctypes.data, hidden.shape[1] // GROUP, row, scratch.inputs, 0)


@compiled()
def _prepare(thread, threads, inputs, scratch):
    first, end = share(thread, threads, inputs.shape[0])
    for row in range(first, end):
        put_bytes(inputs[row].ctypes.data, inputs.shape[1] // GROUP, row, scratch.inputs, 0)


@compiled(fastmath=True)
def _norm(values, norm, epsilon, out):
    total = np.float32(0)
    for place in range(values.shape[0]):
        total += values[place] * values[place]
    factor = np.float32(1 / math.sqrt(total / values.shape[0] + epsilon))
    for place in range(values.shape[0]):
        out[place] = values[place] * factor * norm[place]


@compiled()
def _join(thread, threads, matrices, shape, tokens, scratch):
    """Queries, keys and values, side by side."""
    queries, keys = shape.heads * shape.head_size, shape.key_heads * shape.head_size
    out, stride = scratch.joined.ctypes.data, scratch.joined.shape[1] * 4
    lower(thread, matrices, tokens, scratch)
    multiply(thread, threads, matrices, 0, tokens, scratch, out, stride, 0, queries)
    multiply(thread, threads, matrices, 1, tokens, scratch, out, stride, queries, keys)
    multiply(thread, threads, matrices, 2, tokens, scratch, out, stride, queries + keys, keys)


@compiled()
def _add(thread, threads, matrices, hidden, scratch):
    """A product that is added to the hidden states."""
    width = hidden.shape[1]
    lower(thread, matrices, hidden.shape[0], scratch)
    multiply(thread, threads, matrices, 0, hidden.shape[0], scratch, scratch.added.ctypes.data, width * 4, 0, width)
    first, end = share(thread, threads, width // LANES)
    for row in range(hidden.shape[0]):
        for place in range(first * LANES, end * LANES):
            hidden[row, place] += scratch.added[row, place]


@compiled()
def _gate(thread, threads, matrices, shape, rows, scratch):
    """SwiGLU (Shazeer 2020, arXiv:2002.05202): a thread has the same rows of both halves."""
    out, stride = scratch.gated.ctypes.data, scratch.gated.shape[1] * 4
    lower(thread, matrices, rows, scratch)
    multiply(thread, threads, matrices, 0, rows, scratch, out, stride, 0, shape.inner)
    multiply(thread, threads, matrices, 1, rows, scratch, out, stride, shape.inner, shape.inner)
    first, end = share(thread, threads, shape.inner // LANES)
    for row in range(rows):
        gates = scratch.gated[row].ctypes.data + first * LANES * 4
        gate(gates, gates + shape.inner * 4, scratch.inner[row].ctypes.data + first * LANES * 4, end - first)


@compiled()
def _remember(thread, threads, layer, shape, weights, rows, scratch):
    """Write each row's keys, turned to its place (Su et al. 2021, arXiv:2104.09864), and values into its cache."""
    size, key_heads = shape.head_size, shape.key_heads
    first, end = share(thread, threads, rows.counts[0] * key_heads)
    turned = scratch.normed[thread]
    for piece in range(first, end):
        row, head = piece // key_heads, piece % key_heads
        place, of_layer = rows.places[row], rows.capacities[row] * size * 2
        keys = rows.caches[row] + (layer * 2 * key_heads + head) * of_layer
        values = keys + key_heads * of_layer
        start = (shape.heads + head) * size
        _turn(scratch.joined[row, start : start + size], weights, layer, 1, place, shape.epsilon, turned)
        block, lane = place // LANES, place % LANES
        for at in range(size):
            put_half(keys + ((block * size + at) * LANES + lane) * 2, turned[at])
        start += key_heads * size
        for at in range(size):
            put_half(values + (place * size + at) * 2, scratch.joined[row, start + at])


@compiled()
def _turn(head, weights, layer, which, place, epsilon, out):
    half = head.shape[0] // 2
    if weights.head_norms.shape[0]:
        _norm(head, weights.head_norms[layer, which], epsilon, head)
    cos, sin = weights.cos[place], weights.sin[place]
    for at in range(half):
        out[at] = head[at] * cos[at] - head[at + half] * sin[at]
        out[at + half] = head[at + half] * cos[at] + head[at] * sin[at]


@compiled()
def _attend(thread, threads, layer, shape, weights, rows, scratch):
    """Grouped-query attention (Ainslie et al. 2023, arXiv:2305.13245): tiles of queries that share a cache and keys."""
    key_heads, heads = shape.key_heads, shape.heads // shape.key_heads
    count = rows.counts[0]
    tile = max(1, MOST_QUERIES // heads)
    tiles = (count + tile - 1) // tile
    for piece in range(thread, tiles * key_heads, threads):
        head, first = piece % key_heads, piece // key_heads * tile
        end = first
        while end < count and end < first + tile:
            start = end
            while end < count and end < first + tile and rows.caches[end] == rows.caches[start]:
                end += 1
            _attend_tile(thread, layer, head, start, end, shape, weights, rows, scratch)


@compiled()
def _attend_tile(thread, layer, head, start, end, shape, weights, rows, scratch):
    size, heads = shape.head_size, shape.heads // shape.key_heads
    queries, weightings = scratch.queries[thread], scratch.weightings[thread]
    scale = np.float32(1 / math.sqrt(size))
    for row in range(start, end):
        for member in range(heads):
            at = (head * heads + member) * size
            query = queries[(row - start) * heads + member]
            _turn(scratch.joined[row, at : at + size], weights, layer, 0, rows.places[row], shape.epsilon, query)
            for place in range(size):
                query[place] *= scale
    of_layer = rows.capacities[start] * size * 2
    keys = rows.caches[start] + (layer * 2 * shape.key_heads + head) * of_layer
    values = keys + shape.key_heads * of_layer
    seen, stride = rows.places[end - 1] + 1, weightings.shape[1] * 4
    for first in range(0, (end - start) * heads, MOST_QUERIES):
        tile = min(MOST_QUERIES, (end - start) * heads - first)
        blocks = (seen + LANES - 1) // LANES
        scores(queries[first:].ctypes.data, tile, keys, size, blocks, weightings.ctypes.data, stride)
        for query in range(tile):
            _softmax(weightings[query], rows.places[start + (first + query) // heads] + 1, seen)
        mixture(weightings.ctypes.data, stride, tile, values, size, seen, queries[first:].ctypes.data)
    for row in range(start, end):
        for member in range(heads):
            at = (head * heads + member) * size
            mixed = queries[(row - start) * heads + member]
            for place in range(size):
                scratch.attended[row, at + place] = mixed[place]


@compiled(fastmath=True)
def _softmax(weights, count, filled):
    """Softmax of the first `count`, in place; zero behind them."""
    largest = greatest(weights.ctypes.data, count // LANES)
    for at in range(count // LANES * LANES, count):
        largest = max(largest, weights[at])
    exponentials(weights.ctypes.data, largest, (count + LANES - 1) // LANES)
    total = np.float32(0)
    for at in range(count):
        total += weights[at]
    inverse = np.float32(1) / total
    for at in range(count):
        weights[at] *= inverse
    for at in range(count, filled):
        weights[at] = 0
