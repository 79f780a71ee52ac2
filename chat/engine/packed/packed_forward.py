"""The packed forward pass as the engine sees it: caches, reading, steps, and the threads."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from chat.engine.odds import Odds
from chat.engine.packed.aligned import zeros
from chat.engine.packed.crew import Crew
from chat.engine.packed.forward_pass import Rows, Scratch, Weights
from chat.engine.packed.products import LORA_PARTS, MATRIX, InBytes
from chat.engine.packed.stretches import STRETCH
from chat.engine.packed.vectors import MOST_QUERIES
from chat.packed_model import GROUP, LANES, PackedModel, Shape

_FIRST_CAPACITY = 512
_MOST_ROWS = 128
_FIELDS = len(MATRIX.names or ())


class PackedCache:
    """Keys and values of one request in 16-bit floats, filled up to `length`.

    Keys: (layers, key heads, capacity / 16, head size, 16). Values: (layers, key heads, capacity, head size). Both lie
    in one piece of memory, (layers, 2, key heads, capacity x head size).
    """

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self.held = zeros((shape.layers, 2, shape.key_heads, 0), np.float16)
        self.length = 0
        self.capacity = 0

    @property
    def nbytes(self) -> int:
        """The bytes of the keys and values of `length` tokens; what is kept free for more is not counted."""
        shape = self._shape
        return shape.layers * 2 * shape.key_heads * shape.head_size * self.length * self.held.itemsize

    def make_room(self, tokens: int) -> None:
        """See to it that so many more tokens fit."""
        needed = self.length + tokens
        if needed <= self.capacity:
            return
        capacity = -(-max(_FIRST_CAPACITY, 2 * self.capacity, needed) // LANES) * LANES
        size = self._shape.head_size
        larger = zeros((self._shape.layers, 2, self._shape.key_heads, capacity * size), np.float16)
        # Sixteen tokens lie together, so a block that is begun is taken along whole.
        filled = -(-self.length // LANES) * LANES * size
        larger[..., :filled] = self.held[..., :filled]
        self.held, self.capacity = larger, capacity

    def cut(self, start: int, end: int) -> tuple[torch.Tensor, ...]:
        """A copy of the keys and values of some tokens, whole sixteens of them."""
        assert start % LANES == end % LANES == 0, "the prefix cache works in blocks of 32"
        size = self._shape.head_size
        return (torch.from_numpy(self.held[..., start * size : end * size].copy()),)

    def extend(self, block: tuple[torch.Tensor, ...]) -> None:
        """Append keys and values that `cut` gave."""
        size = self._shape.head_size
        tokens = block[0].shape[-1] // size
        self.make_room(tokens)
        self.held[..., self.length * size : (self.length + tokens) * size] = block[0].numpy()
        self.length += tokens


_Row = tuple[int, PackedCache, int]
"""A token, the cache of its request, and its place there."""


class PackedForward:
    """The forward pass of a packed model, run by so many threads; the result does not depend on how many."""

    batched = True
    exact = True

    def __init__(self, model: PackedModel, threads: int) -> None:
        self._model = model
        self._shape = model.shape
        self._threads = threads
        self._embeddings: NDArray[np.float16] = model.get_buffer("embeddings").numpy()
        self._rows = Rows(
            counts=zeros((3,), np.int64),
            hidden=zeros((_MOST_ROWS, model.shape.width), np.float32),
            places=zeros((_MOST_ROWS,), np.int64),
            caches=zeros((_MOST_ROWS,), np.int64),
            capacities=zeros((_MOST_ROWS,), np.int64),
            peaks=zeros((_MOST_ROWS, -(-model.shape.vocabulary // STRETCH)), np.float32),
            sums=zeros((_MOST_ROWS, -(-model.shape.vocabulary // STRETCH)), np.float32),
        )
        self._positions = 0
        self._reach(_FIRST_CAPACITY)
        # So that the code is compiled, and read from where it is kept, before somebody waits for a reply.
        self.read([0], self.new_cache())

    def new_cache(self) -> PackedCache:
        """An empty cache for one request."""
        return PackedCache(self._shape)

    def read(self, token_ids: Sequence[int], cache: PackedCache) -> Odds:
        """Read some tokens of one request; the odds of what follows the last of them."""
        assert 0 < len(token_ids) <= _MOST_ROWS, "the prefix cache works in blocks of at most 128"
        cache.make_room(len(token_ids))
        rows = [(token_id, cache, cache.length + place) for place, token_id in enumerate(token_ids)]
        (odds,) = self._run(rows, 1)
        cache.length += len(token_ids)
        return odds

    def step(self, ahead: Sequence[Sequence[int]], caches: Sequence[PackedCache]) -> Sequence[Sequence[Odds]]:
        """Read the next tokens of each request; the odds of what follows each token."""
        rows: list[_Row] = []
        for token_ids, cache in zip(ahead, caches, strict=True):
            cache.make_room(len(token_ids))
            rows += [(token_id, cache, cache.length + place) for place, token_id in enumerate(token_ids)]
        found: list[Odds] = []
        for start in range(0, len(rows), _MOST_ROWS):
            part = rows[start : start + _MOST_ROWS]
            found += self._run(part, len(part))
        for token_ids, cache in zip(ahead, caches, strict=True):
            cache.length += len(token_ids)
        following = iter(found)
        return [list(islice(following, len(token_ids))) for token_ids in ahead]

    def _run(self, read: Sequence[_Row], wanted: int) -> list[Odds]:
        """Read tokens; the odds of what follows so many of the last of them."""
        token_ids, caches, places = zip(*read, strict=True)
        self._reach(max(places) + 1)
        count, rows = len(read), self._rows
        logits = zeros((wanted, self._shape.vocabulary), np.float32)
        rows.counts[:] = count, wanted, logits.ctypes.data
        rows.hidden[:count] = self._embeddings[list(token_ids)]
        rows.places[:count] = places
        rows.caches[:count] = [cache.held.ctypes.data for cache in caches]
        rows.capacities[:count] = [cache.capacity for cache in caches]
        self._crew.run()
        kept = rows.peaks[:wanted].copy(), rows.sums[:wanted].copy()
        return [Odds(*of_one) for of_one in zip(logits, *kept, strict=True)]

    def _reach(self, positions: int) -> None:
        """Have room and rotations for so many positions."""
        if positions > self._positions:
            self._positions = -(-max(positions, 2 * self._positions) // LANES) * LANES
            weights = _weights(self._model, self._positions)
            scratch = _scratch(self._shape, self._threads, self._positions)
            self._crew = Crew(self._threads, self._shape, weights, self._rows, scratch)


def _weights(model: PackedModel, positions: int) -> Weights:
    buffers = dict(model.named_buffers())

    def array(name: str) -> NDArray[Any]:
        values: NDArray[Any] = buffers[name].numpy()
        return values

    def of_layers(*names: str) -> NDArray[np.float32]:
        return np.stack([[array(f"layers.{place}.{name}") for name in names] for place in range(model.shape.layers)])

    normed_heads = "layers.0.query_norm" in buffers
    turns = torch.outer(torch.arange(positions).float(), model.get_buffer("frequencies"))
    matrices = ("", ".lora_a", ".lora_b")
    products = [[_matrix(model, buffers, f"{name}{of}") for of in matrices] for name in model.products]
    return Weights(
        products=np.array(products, MATRIX),
        norms=of_layers("before_attention", "before_mlp"),
        head_norms=of_layers("query_norm", "key_norm") if normed_heads else np.zeros((0, 2, 1), np.float32),
        last_norm=array("last_norm"),
        cos=(turns.cos() * model.rotary_scale).numpy(),
        sin=(turns.sin() * model.rotary_scale).numpy(),
    )


def _matrix(model: PackedModel, buffers: dict[str, torch.Tensor], name: str) -> tuple[int, ...]:
    """As MATRIX has it."""
    if f"{name}.codes" not in buffers:
        return (0,) * _FIELDS
    codes, scales, bias = (buffers[f"{name}.{part}"] for part in ("codes", "scales", "bias"))
    addresses = (codes.data_ptr(), scales.data_ptr(), bias.data_ptr())
    return (*addresses, model.bits(name), len(bias), codes.shape[1] * GROUP)


def _scratch(shape: Shape, threads: int, positions: int) -> Scratch:
    def floats(*size: int) -> NDArray[np.float32]:
        return zeros(size, np.float32)

    attended = shape.heads * shape.head_size
    widest = max(shape.width, shape.inner, attended)
    return Scratch(
        joined=floats(_MOST_ROWS, (shape.heads + 2 * shape.key_heads) * shape.head_size),
        attended=floats(_MOST_ROWS, attended),
        gated=floats(_MOST_ROWS, 2 * shape.inner),
        inner=floats(_MOST_ROWS, shape.inner),
        added=floats(_MOST_ROWS, shape.width),
        inputs=_in_bytes(1, widest),
        lowered=_in_bytes(threads * LORA_PARTS, shape.adapter_rank),
        low=floats(threads, _MOST_ROWS, LORA_PARTS * shape.adapter_rank),
        normed=floats(threads, max(shape.width, shape.head_size)),
        queries=floats(threads, max(MOST_QUERIES, shape.heads // shape.key_heads), shape.head_size),
        weightings=floats(threads, MOST_QUERIES, positions),
    )


def _in_bytes(count: int, columns: int) -> InBytes:
    groups = _MOST_ROWS * columns // GROUP
    return InBytes(
        codes=zeros((count, groups * GROUP), np.int8),
        scales=zeros((count, groups), np.float32),
        offsets=zeros((count, groups), np.int32),
        sums=zeros((count, groups), np.float32),
    )
