"""The packed forward pass as the engine sees it: caches, reading, steps, and the threads."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from chat.engine.packed.forward_pass import Rows, Scratch, Shape, run
from chat.engine.packed.vectors import GROUP, LANES, MOST_QUERIES
from chat.engine.packed.weights import aligned, pack_model

_FIRST_CAPACITY = 512
_MOST_ROWS = 128


class PackedCache:
    """Keys and values of one request in 16-bit floats, filled up to `length`.

    `keys`: (layers, key heads, capacity / 16, head size, 16); `values`: (layers, key heads, capacity, head size); both in
    one piece of memory, (layers, 2, key heads, capacity x head size).
    """

    def __init__(self, layers: int, shape: Shape) -> None:
        self._layers, self._shape = layers, shape
        self.held = aligned((layers, 2, shape.key_heads, 0), np.float16)
        self.length = 0
        self.capacity = 0

    @property
    def nbytes(self) -> int:
        """The bytes of the keys and values of `length` tokens; what is kept free for more is not counted."""
        return self._layers * 2 * self._shape.key_heads * self._shape.head_size * self.length * 2

    def make_room(self, tokens: int) -> None:
        """See to it that so many more tokens fit."""
        needed = self.length + tokens
        if needed <= self.capacity:
            return
        capacity = -(-max(_FIRST_CAPACITY, 2 * self.capacity, needed) // LANES) * LANES
        size = self._shape.head_size
        larger = aligned((self._layers, 2, self._shape.key_heads, capacity * size), np.float16)
        # Sixteen tokens lie together, so a block that is begun is taken along whole.
        filled = -(-self.length // LANES) * LANES * size
        larger[..., :filled] = self.held[..., :filled]
        self.held, self.capacity = larger, capacity

    def cut(self, start: int, end: int) -> tuple[torch.Tensor, ...]:
        """A copy of the keys and values of some tokens, whole sixteens of them."""
        assert start % LANES == 0 and end % LANES == 0, "the prefix cache works in blocks of 32"
        size = self._shape.head_size
        return (torch.from_numpy(self.held[..., start * size : end * size].copy()),)

    def extend(self, block: tuple[torch.Tensor, ...]) -> None:
        """Append keys and values that `cut` gave."""
        size = self._shape.head_size
        tokens = block[0].shape[-1] // size
        self.make_room(tokens)
        self.held[..., self.length * size : (self.length + tokens) * size] = block[0].numpy()
        self.length += tokens


class PackedForward:
    """The forward pass of a Llama, Mistral, Qwen 2 or Qwen 3 model on 8-bit weights."""

    batched = True

    def __init__(self, model: Any, threads: int, positions: int) -> None:
        self._model = pack_model(model, positions)
        self._threads = threads
        self._scratch = _scratch(self._model.shape, threads, positions)
        self._others = ThreadPoolExecutor(max(1, threads - 1), thread_name_prefix="marginalia-engine")
        # How many threads have arrived and the round, each in a cache line of its own.
        self._arrivals = aligned((16,), np.int64)

    def new_cache(self) -> PackedCache:
        """An empty cache for one request."""
        return PackedCache(self._model.weights.norms.shape[0], self._model.shape)

    def read(self, token_ids: Sequence[int], cache: PackedCache) -> torch.Tensor:
        """Read some tokens of one request; the logits that follow the last of them."""
        assert 0 < len(token_ids) <= _MOST_ROWS
        places = range(cache.length, cache.length + len(token_ids))
        logits = self._run(token_ids, [cache] * len(token_ids), places, wanted=1)
        cache.length += len(token_ids)
        return logits[0]

    def step(self, token_ids: Sequence[int], caches: Sequence[PackedCache]) -> Sequence[torch.Tensor]:
        """Read one token of each request; the logits that follow each."""
        logits = self._run(token_ids, caches, [cache.length for cache in caches], wanted=len(caches))
        for cache in caches:
            cache.length += 1
        return logits.unbind()

    def _run(
        self, token_ids: Sequence[int], caches: Sequence[PackedCache], places: Sequence[int], wanted: int
    ) -> torch.Tensor:
        for cache, place in zip(caches, places, strict=True):
            cache.make_room(place + 1 - cache.length)
        shape, logits = self._model.shape, aligned((wanted, self._model.shape.vocabulary), np.float32)
        rows = Rows(
            hidden=self._model.embeddings[list(token_ids)],
            places=np.array(places, np.int64),
            caches=np.array([cache.held.ctypes.data for cache in caches], np.int64),
            capacities=np.array([cache.capacity for cache in caches], np.int64),
            wanted=wanted,
            logits=logits,
        )
        rest = (self._threads, self._arrivals.ctypes.data, shape, self._model.weights, rows, self._scratch)
        others = [self._others.submit(run, thread, *rest) for thread in range(1, self._threads)]
        run(0, *rest)
        for other in others:
            other.result()
        return torch.from_numpy(logits)


def _scratch(shape: Shape, threads: int, positions: int) -> Scratch:
    def floats(*size: int) -> NDArray[np.float32]:
        return aligned(size, np.float32)

    attended = shape.heads * shape.head_size
    widest = max(shape.width, shape.inner, attended)
    return Scratch(
        joined=floats(_MOST_ROWS, (shape.heads + 2 * shape.key_heads) * shape.head_size),
        attended=floats(_MOST_ROWS, attended),
        gated=floats(_MOST_ROWS, 2 * shape.inner),
        inner=floats(_MOST_ROWS, shape.inner),
        added=floats(_MOST_ROWS, shape.width),
        codes=aligned((_MOST_ROWS * widest,), np.int8),
        scales=floats(_MOST_ROWS * widest // GROUP),
        offsets=aligned((_MOST_ROWS * widest // GROUP,), np.int32),
        normed=floats(threads, max(shape.width, shape.head_size)),
        queries=floats(threads, max(MOST_QUERIES, shape.heads // shape.key_heads), shape.head_size),
        weightings=floats(threads, MOST_QUERIES, -(-positions // LANES) * LANES),
    )
