"""The KV cache of prompts' beginnings, kept in blocks, so that what was read once need not be read again.

A block is keyed by the ids of the whole prompt up to its end, and by whose prompt it is: nobody's reply comes sooner
because somebody else said the same, so the time that it takes tells nothing of what others said. A block that is taken
from here is bit for bit the one that would have been computed: either because the forward pass is `exact`, so that it
does not matter how a prompt is cut, or because prefill always computes the same blocks, from the same positions, in the
same sizes, whether it found earlier ones or not.
(Blocks by hash of the prefix: Kwon et al. 2023, arXiv:2309.06180, section 4.3, and vLLM's automatic prefix caching.)
"""

from __future__ import annotations

import hashlib
from array import array
from collections import OrderedDict
from collections.abc import Iterator, Sequence

import torch

from chat.engine.forward import KVCache

# Fine steps where conversations are short, so that little is read twice; coarse ones later, because larger blocks
# are read faster: 128 tokens in 1.5 times as long as 64, on two cores (tests/bench/LOG.md).
FINE_BLOCK = 32
COARSE_BLOCK = 128
FINE_UNTIL = 256

DEFAULT_MAX_BYTES = 512 * 2**20


_Block = tuple[torch.Tensor, ...]


class PrefixCache:
    """Keeps at most `max_bytes` of keys and values; the blocks unused for longest leave first. 0 keeps nothing.

    `exact` says that the forward pass gives the same bits however a prompt is cut.
    """

    def __init__(self, max_bytes: int = DEFAULT_MAX_BYTES, exact: bool = False) -> None:
        self.max_bytes = max_bytes
        self._exact = exact
        self.nbytes = 0
        self._blocks: OrderedDict[bytes, _Block] = OrderedDict()

    def end_of_reading(self, start: int, length: int) -> int:
        """How far a prompt of that many tokens is to be read in one go, from a place on."""
        return min(start + (COARSE_BLOCK if self._exact else self._block_at(start)), length)

    def restore(self, token_ids: Sequence[int], cache: KVCache, owner: str = "") -> None:
        """Append to a request's KV cache the blocks of its prompt that are kept, as far as they go without a gap.

        At least the last token is left to be read, for its logits start the reply.
        """
        for (_, end), key in self._keys(token_ids[:-1], owner):
            if end <= cache.length:
                continue
            if key not in self._blocks:
                break
            cache.extend(self._blocks[key])

    def keep(self, token_ids: Sequence[int], cache: KVCache, owner: str = "") -> None:
        """Keep the whole blocks of these tokens, which `cache` holds in full."""
        keys = list(self._keys(token_ids, owner))
        for (start, end), key in keys:
            if key not in self._blocks:
                self._add(key, cache.cut(start, end))
        # A block is of no use without those before it: mark the beginning as used last, so that it leaves last.
        for _, key in reversed(keys):
            self._blocks.move_to_end(key)
        self._evict()

    def _keys(self, token_ids: Sequence[int], owner: str) -> Iterator[tuple[tuple[int, int], bytes]]:
        """The (start, end) and the key of every whole block."""
        key = hashlib.sha256(owner.encode()).digest()
        start, end = 0, self._block_at(0)
        while end <= len(token_ids):
            key = hashlib.sha256(key + array("i", token_ids[start:end]).tobytes()).digest()
            yield (start, end), key
            start, end = end, end + self._block_at(end)

    def _block_at(self, start: int) -> int:
        return FINE_BLOCK if self._exact or start < FINE_UNTIL else COARSE_BLOCK

    def _add(self, key: bytes, block: _Block) -> None:
        self._blocks[key] = block
        self.nbytes += _size(block)

    def _evict(self) -> None:
        while self.nbytes > self.max_bytes:
            _, block = self._blocks.popitem(last=False)
            self.nbytes -= _size(block)


def _size(block: _Block) -> int:
    return sum(part.nbytes for part in block)
