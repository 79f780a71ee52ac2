"""One request from its first prompt token to its last reply token, one piece of work at a time.

The worker decides whose turn it is: a generation is `reading` its prompt, block by block, or it is handed the odds
by which it chooses its next tokens. What it has to tell goes to `tell`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter

import torch

from chat.engine.events import Event, Finished, Prefilling, TokensChosen
from chat.engine.forward import Forward
from chat.engine.lookup import PromptLookup
from chat.engine.odds import Odds
from chat.engine.prefix_cache import PrefixCache
from chat.engine.sampling import choose_token, make_generator, weigh
from chat.types import FinishReason, Sampling, Timing, Usage

_GIVEN_AT_ONCE = 7


@dataclass(frozen=True)
class Request:
    """What one model call needs. `cancelled` is asked before each forward pass, `lane` is whose request it is.

    With `given`, the reply is not chosen but given, token by token, and only weighed.
    """

    token_ids: tuple[int, ...]
    sampling: Sampling
    cancelled: Callable[[], bool]
    lane: str = ""
    given: tuple[int, ...] = ()
    asked_at: float = field(default_factory=perf_counter)


class Generation:
    """A request that is being served, and its bookkeeping. Only one thread may use it: the one that owns the model.

    `ahead` are the tokens to be read next, once it is no longer `reading` its prompt: the one that was chosen last, and
    guesses at what follows it.
    """

    def __init__(
        self,
        forward: Forward,
        prefix_cache: PrefixCache,
        stop_token_ids: frozenset[int],
        request: Request,
        tell: Callable[[Event], None],
    ) -> None:
        self.cache = forward.new_cache()
        self.ended = False
        self.ahead: list[int] = []
        self._forward = forward
        self._prefix_cache = prefix_cache
        self._stop_token_ids = stop_token_ids
        self._lookup = PromptLookup(request.token_ids)
        self._request = request
        self._tell = tell
        self._generator: torch.Generator | None = None
        self._started_at = perf_counter()
        self._prefilled_at: float | None = None
        self._first_token_at: float | None = None
        self._cached = 0
        self._written = self._drafted = self._accepted = 0

    @property
    def reading(self) -> bool:
        """Whether some of the prompt is still to be read."""
        return self._prefilled_at is None

    def end_if_cancelled(self) -> None:
        """Ask whether anybody still wants this."""
        if self._request.cancelled():
            self.finish("cancelled")

    def read_block(self) -> None:
        """Read the next block of the prompt; behind the last one, choose the first token.

        What another request with the same beginning has read until now is taken over, and what is read here is kept at
        once: so prompts that are read side by side share their beginning too.
        """
        ids, before = self._request.token_ids, self.cache.length
        self._prefix_cache.restore(ids, self.cache, self._request.lane)
        self._cached += self.cache.length - before
        start = self.cache.length
        end = self._prefix_cache.end_of_reading(start, len(ids))
        odds = self._forward.read(ids[start:end], self.cache)
        self._prefix_cache.keep(ids[:end], self.cache, self._request.lane)
        self._tell(Prefilling(end, len(ids)))
        if end == len(ids):
            self._prefilled_at = perf_counter()
            self._choose(odds)
            self._look_ahead()

    def take(self, odds: Sequence[Odds]) -> None:
        """Choose by the odds behind each token that was read `ahead`, as far as the guesses were right."""
        guessed = self.ahead[1:]
        self.cache.length -= len(guessed) + 1
        self._drafted += len(guessed)
        for place, behind in enumerate(odds):
            self.cache.length += 1
            self._accepted += place > 0
            chosen = self._choose(behind)
            if self.ended or guessed[place : place + 1] != [chosen]:
                break
        if guessed:
            self._lookup.judge(len(guessed), place)
        self._look_ahead()

    def _look_ahead(self) -> None:
        left = self._request.sampling.max_new_tokens - self._written
        given = self._request.given[self._written :][:_GIVEN_AT_ONCE]
        guess = (list(given) or self._lookup.guess())[: max(0, left - 1)] if self._forward.exact else []
        self.ahead = [self._lookup.token_ids[-1], *guess]

    def _choose(self, odds: Odds) -> int:
        """Choose the next token, and end if it is the last."""
        chosen = self._request.given[self._written] if self._request.given else self._drawn(odds)
        choice = weigh(odds, chosen)
        self._lookup.append(chosen)
        self._written += 1
        self._first_token_at = self._first_token_at or perf_counter()
        self._tell(TokensChosen((chosen,), (choice,)))
        reason = self._reason_to_finish(chosen)
        if reason:
            self.finish(reason)
        return chosen

    def _drawn(self, odds: Odds) -> int:
        self._generator = self._generator or make_generator(self._request.sampling)
        return choose_token(odds, self._request.sampling, self._generator)

    def finish(self, reason: FinishReason, error: str | None = None) -> None:
        """End, and tell what the request took until now."""
        if self._forward.exact and not self.reading:
            # The reply is part of the next prompt, and what was read of it is what reading it then would give.
            self._prefix_cache.keep(self._lookup.token_ids[: self.cache.length], self.cache, self._request.lane)
        now = perf_counter()
        asked, started = self._request.asked_at, self._started_at
        prefilled, first = self._prefilled_at or now, self._first_token_at or now
        read = min(self.cache.length, len(self._request.token_ids))
        usage = Usage(
            prompt_tokens=len(self._request.token_ids),
            cached_tokens=self._cached,
            prefilled_tokens=read - self._cached,
            completion_tokens=self._written,
            kv_cache_bytes=self.cache.nbytes,
            drafted_tokens=self._drafted,
            accepted_tokens=self._accepted,
        )
        timing = Timing(
            queue_ms=_ms(started - asked),
            prefill_ms=_ms(prefilled - started),
            time_to_first_token_ms=_ms(first - asked),
            decode_ms=_ms(now - prefilled),
            total_ms=_ms(now - asked),
        )
        self.ended = True
        self._tell(Finished(reason, usage, timing, error))

    def _reason_to_finish(self, chosen: int) -> FinishReason | None:
        if chosen in self._stop_token_ids:
            return "stop"
        if self._written >= self._request.sampling.max_new_tokens:
            return "length"
        return "cancelled" if self._request.cancelled() else None


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
