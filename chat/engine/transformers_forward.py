"""Any causal language model with attention, run by transformers' own forward pass, one request at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from transformers import DynamicCache

from chat.engine.odds import Odds


class TransformersCache:
    """A request's `DynamicCache`."""

    def __init__(self) -> None:
        self.kv = DynamicCache()
        self.length = 0

    @property
    def nbytes(self) -> int:
        """The bytes of every layer's keys and values."""
        return sum(keys.nbytes + values.nbytes for keys, values in self._layers())

    @torch.inference_mode()
    def cut(self, start: int, end: int) -> tuple[torch.Tensor, ...]:
        """Copies of the keys and values of some tokens, layer by layer."""
        return tuple(part[..., start:end, :].clone() for layer in self._layers() for part in layer)

    @torch.inference_mode()
    def extend(self, block: tuple[torch.Tensor, ...]) -> None:
        """Append keys and values that `cut` gave."""
        for layer, (keys, values) in enumerate(zip(block[::2], block[1::2], strict=True)):
            self.kv.update(keys, values, layer)
        self.length += block[0].shape[-2]

    def _layers(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for layer in self.kv.layers:
            keys, values = getattr(layer, "keys", None), getattr(layer, "values", None)
            assert keys is not None, "only attention layers get here: load_model refuses recurrent models"
            assert values is not None
            yield keys, values


class TransformersForward:
    """The forward pass of a transformers causal language model."""

    batched = False
    exact = False

    def __init__(self, model: Any) -> None:
        self._model = model

    def new_cache(self) -> TransformersCache:
        """An empty cache for one request."""
        return TransformersCache()

    @torch.inference_mode()
    def read(self, token_ids: Sequence[int], cache: TransformersCache) -> Odds:
        """Read some tokens; the odds of what follows the last of them."""
        input_ids = torch.tensor([token_ids], device=self._model.device)
        output = self._model(input_ids=input_ids, past_key_values=cache.kv, use_cache=True, logits_to_keep=1)
        cache.length += len(token_ids)
        return Odds.of(output.logits[0, -1])

    def step(self, ahead: Sequence[Sequence[int]], caches: Sequence[TransformersCache]) -> Sequence[Sequence[Odds]]:
        """Read one token of each request, one after another."""
        return [[self.read(token_ids, cache)] for token_ids, cache in zip(ahead, caches, strict=True)]
