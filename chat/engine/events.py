"""What a request tells while it runs, in this order: Prefilling, TokenChosen, one Finished; Queued at any time."""

from __future__ import annotations

from dataclasses import dataclass

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
class TokenChosen:
    """The next token of the reply, the stop token included, and what the model thought of it."""

    token_id: int
    choice: Choice


@dataclass(frozen=True)
class Finished:
    """The end. `error` is one sentence for the person if the reason is `error`."""

    reason: FinishReason
    usage: Usage
    timing: Timing
    error: str | None = None


Event = Queued | Prefilling | TokenChosen | Finished
