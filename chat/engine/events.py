"""What a request tells while it runs, in this order: Prefilling, TokensChosen, one Finished; Queued at any time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, groupby

from chat.types import Choice, FinishReason, Timing, Usage


@dataclass(frozen=True)
class Queued:
    """Waiting; `place` requests end before this one begins. Told again and again, so that a reader stays awake.

    Place 0: this one is being served and has nothing new to tell yet.
    """

    place: int


@dataclass(frozen=True)
class Prefilling:
    """`done` of the prompt's `total` tokens have been read."""

    done: int
    total: int


@dataclass(frozen=True)
class TokensChosen:
    """The next tokens of the reply, the stop token included, and what the model thought of each."""

    token_ids: tuple[int, ...]
    choices: tuple[Choice, ...]


@dataclass(frozen=True)
class Finished:
    """The end. `error` is one sentence for the person if the reason is `error`."""

    reason: FinishReason
    usage: Usage
    timing: Timing
    error: str | None = None


Event = Queued | Prefilling | TokensChosen | Finished


def joined(events: Sequence[Event]) -> Iterator[Event]:
    """The same events, with tokens that follow each other in one."""
    for are_tokens, group in groupby(events, lambda event: isinstance(event, TokensChosen)):
        if not are_tokens:
            yield from group
            continue
        told = [event for event in group if isinstance(event, TokensChosen)]
        yield TokensChosen(
            tuple(chain.from_iterable(event.token_ids for event in told)),
            tuple(chain.from_iterable(event.choices for event in told)),
        )
