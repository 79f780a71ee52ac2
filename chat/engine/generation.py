"""One request from its first prompt token to its last reply token."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import torch
from transformers import DynamicCache

from chat.engine.events import Event, Finished, Prefilling, TokenChosen
from chat.engine.prefix_cache import PrefixCache, block_spans, kv_layers
from chat.engine.sampling import choose_token, make_generator
from chat.types import FinishReason, Sampling, Timing, Usage


@dataclass(frozen=True)
class Request:
    """What one model call needs. `cancelled` is asked before each forward pass."""

    token_ids: tuple[int, ...]
    sampling: Sampling
    cancelled: Callable[[], bool]
    asked_at: float = field(default_factory=perf_counter)


class Generation:
    """A running request and its bookkeeping. Iterate `events()` once, on the thread that owns the model."""

    def __init__(self, model: Any, stop_token_ids: frozenset[int], prefix_cache: PrefixCache, request: Request) -> None:
        self._model = model
        self._stop_token_ids = stop_token_ids
        self._prefix_cache = prefix_cache
        self._request = request
        self._started_at = perf_counter()
        self._prefilled_at: float | None = None
        self._first_token_at: float | None = None
        self._cached = 0
        self._read = 0
        self._written = 0
        self._kv_cache_bytes = 0

    def events(self) -> Iterator[Event]:
        """Prefill, then decode, until a stop token, the length, or a cancellation. The last event is Finished."""
        ids, sampling = self._request.token_ids, self._request.sampling
        # 1. Take over what an earlier prompt with the same beginning left behind.
        cache, self._cached = self._prefix_cache.restore(ids)
        self._read = self._cached
        # 2. Prefill: read the rest of the prompt, block by block.
        logits = None
        for start, end in block_spans(len(ids)):
            if end <= self._cached:
                continue
            if self._request.cancelled():
                yield self.finished("cancelled")
                return
            logits = self._forward(ids[start:end], cache)
            self._read = end
            yield Prefilling(end, len(ids))
        assert logits is not None, "a prompt has at least one token that is read"
        self._prefilled_at = perf_counter()
        self._prefix_cache.keep(ids, cache)
        # 3. Decode: choose a token, append it, read it, choose the next.
        generator = make_generator(sampling)
        while True:
            token_id = choose_token(logits, sampling, generator)
            self._written += 1
            self._first_token_at = self._first_token_at or perf_counter()
            yield TokenChosen(token_id)
            reason = self._reason_to_finish(token_id)
            if reason:
                yield self.finished(reason)
                return
            logits = self._forward((token_id,), cache)

    def finished(self, reason: FinishReason, error: str | None = None) -> Finished:
        """The last event, with what the request took until now."""
        now = perf_counter()
        asked, started = self._request.asked_at, self._started_at
        prefilled, first = self._prefilled_at or now, self._first_token_at or now
        usage = Usage(
            prompt_tokens=len(self._request.token_ids),
            cached_tokens=self._cached,
            prefilled_tokens=self._read - self._cached,
            completion_tokens=self._written,
            kv_cache_bytes=self._kv_cache_bytes,
        )
        timing = Timing(
            queue_ms=_ms(started - asked),
            prefill_ms=_ms(prefilled - started),
            time_to_first_token_ms=_ms(first - asked),
            decode_ms=_ms(now - prefilled),
            total_ms=_ms(now - asked),
        )
        return Finished(reason, usage, timing, error)

    def _reason_to_finish(self, token_id: int) -> FinishReason | None:
        if token_id in self._stop_token_ids:
            return "stop"
        if self._written >= self._request.sampling.max_new_tokens:
            return "length"
        return "cancelled" if self._request.cancelled() else None

    @torch.inference_mode()
    def _forward(self, token_ids: Sequence[int], cache: DynamicCache) -> torch.Tensor:
        """Read some tokens on top of the cache; the logits, shape (vocabulary,), that follow the last of them."""
        input_ids = torch.tensor([token_ids], device=self._model.device)
        output = self._model(input_ids=input_ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
        self._kv_cache_bytes = sum(keys.nbytes + values.nbytes for keys, values in kv_layers(cache))
        logits: torch.Tensor = output.logits[0, -1]
        return logits


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
