"""The KV cache of prompts' beginnings, kept in blocks, so that what was read once need not be read again.

A block is keyed by the ids of the whole prompt up to its end, and by nothing else. Prefill always computes the same
blocks, from the same positions, in the same sizes, whether it found earlier ones or not. So a block that is taken
from here is bit for bit the one that would have been computed, and the reply is the same with it and without it.
(Blocks by hash of the prefix: Kwon et al. 2023, arXiv:2309.06180, section 4.3, and vLLM's automatic prefix caching.)
"""

from __future__ import annotations

import hashlib
from array import array
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from transformers import DynamicCache

# Fine steps where conversations are short, so that little is read twice; coarse ones later, because larger blocks
# are read faster: 128 tokens in 1.5 times as long as 64, on two cores (tests/bench/LOG.md).
FINE_BLOCK = 32
COARSE_BLOCK = 128
FINE_UNTIL = 256

DEFAULT_MAX_BYTES = 512 * 2**20


def block_spans(length: int) -> Iterator[tuple[int, int]]:
    """The (start, end) of every block of a prompt of that many tokens; the last may be shorter than its kind."""
    start = 0
    while start < length:
        end = min(start + (FINE_BLOCK if start < FINE_UNTIL else COARSE_BLOCK), length)
        yield start, end
        start = end


def _whole_blocks(length: int) -> Iterator[tuple[int, int]]:
    for start, end in block_spans(length):
        if end - start == (FINE_BLOCK if start < FINE_UNTIL else COARSE_BLOCK):
            yield start, end


@dataclass(frozen=True)
class _Block:
    layers: tuple[tuple[torch.Tensor, torch.Tensor], ...]

    @property
    def nbytes(self) -> int:
        return sum(keys.nbytes + values.nbytes for keys, values in self.layers)


class PrefixCache:
    """Keeps at most `max_bytes` of keys and values; the blocks unused for longest leave first. 0 keeps nothing."""

    def __init__(self, max_bytes: int = DEFAULT_MAX_BYTES) -> None:
        self.max_bytes = max_bytes
        self.nbytes = 0
        self._blocks: OrderedDict[bytes, _Block] = OrderedDict()

    def restore(self, token_ids: Sequence[int]) -> tuple[DynamicCache, int]:
        """A fresh KV cache filled with the longest kept beginning of the prompt, and how many tokens that spares.

        At least the last token is left to be read, for its logits start the reply.
        """
        found: list[_Block] = []
        spared = 0
        for (_, end), key in self._keys(token_ids[:-1]):
            if key not in self._blocks:
                break
            found.append(self._blocks[key])
            spared = end
        cache = DynamicCache()
        for layer, parts in enumerate(zip(*(block.layers for block in found), strict=True)):
            keys, values = zip(*parts, strict=True)
            cache.update(torch.cat(keys, dim=-2), torch.cat(values, dim=-2), layer)
        return cache, spared

    def keep(self, token_ids: Sequence[int], cache: DynamicCache) -> None:
        """Keep the whole blocks of a prompt that `cache` holds in full."""
        keys = list(self._keys(token_ids))
        for (start, end), key in keys:
            if key not in self._blocks:
                self._add(key, _cut(cache, start, end))
        # A block is of no use without those before it: mark the beginning as used last, so that it leaves last.
        for _, key in reversed(keys):
            self._blocks.move_to_end(key)
        self._evict()

    def _keys(self, token_ids: Sequence[int]) -> Iterator[tuple[tuple[int, int], bytes]]:
        key = b""
        for start, end in _whole_blocks(len(token_ids)):
            key = hashlib.sha256(key + array("i", token_ids[start:end]).tobytes()).digest()
            yield (start, end), key

    def _add(self, key: bytes, block: _Block) -> None:
        self._blocks[key] = block
        self.nbytes += block.nbytes

    def _evict(self) -> None:
        while self.nbytes > self.max_bytes:
            _, block = self._blocks.popitem(last=False)
            self.nbytes -= block.nbytes


def kv_layers(cache: DynamicCache) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Each layer's keys and values, of shape (1, key heads, tokens, head size)."""
    for layer in cache.layers:
        keys, values = getattr(layer, "keys", None), getattr(layer, "values", None)
        assert keys is not None, "only attention layers get here: load_model refuses recurrent models"
        assert values is not None
        yield keys, values


def _cut(cache: DynamicCache, start: int, end: int) -> _Block:
    return _Block(
        tuple((keys[..., start:end, :].clone(), values[..., start:end, :].clone()) for keys, values in kv_layers(cache))
    )
