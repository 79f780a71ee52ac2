"""The values that travel through a turn. All frozen; none knows a tokenizer, a database or a page.

The receipt's shape is a contract with outside tools: keys may be added, those that are here stay.
"""

from __future__ import annotations

import hashlib
from array import array
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import TypeAdapter

from chat.errors import InputError

SegmentKind = Literal["template", "system", "note", "history", "message"]
SEGMENT_KINDS: tuple[SegmentKind, ...] = ("template", "system", "note", "history", "message")
StageName = Literal["receive", "prepare", "queue", "read", "write", "validate"]
Role = Literal["system", "user", "assistant"]
FinishReason = Literal["stop", "length", "cancelled", "interrupted", "error"]
Verdict = Literal["up", "down"]

MAX_MESSAGE_CHARACTERS = 1_000_000
MAX_COMMENT_CHARACTERS = 2_000
MAX_BETTER_REPLY_CHARACTERS = 20_000
MAX_NEW_TOKENS = 4_096
MAX_SEED = 2**63 - 1


@dataclass(frozen=True)
class PastTurn:
    """One earlier turn of a conversation, as the prompt needs it. `reply` is empty if none was given."""

    id: str
    message: str
    reply: str


@dataclass(frozen=True)
class History:
    """What was said in a conversation, oldest first, and the position that the next turn would take."""

    turns: tuple[PastTurn, ...] = ()
    next_position: int = 0


@dataclass(frozen=True)
class Note:
    """One saved line, and the turns it was drawn from. A draft waits for its person's review.

    `replaces` is the id of an older note that this one makes outdated, as long as that note exists.
    """

    id: str
    text: str
    enabled: bool = True
    draft: bool = False
    origin: Literal["model", "hand"] = "hand"
    source_turn_ids: tuple[str, ...] = ()
    created_at: str = ""
    replaces: str | None = None


@dataclass(frozen=True)
class Piece:
    """A stretch of content with one origin, before it is tokenized."""

    kind: SegmentKind
    label: str
    text: str
    source_turn_id: str | None = None
    note_id: str | None = None


@dataclass(frozen=True)
class PromptMessage:
    """One message of the chat template: a role, and the pieces that make up its content."""

    role: Role
    pieces: tuple[Piece, ...]

    @property
    def content(self) -> str:
        """The pieces' text, joined, as the chat template receives it."""
        return "".join(piece.text for piece in self.pieces)


@dataclass(frozen=True)
class Dropped:
    """A turn or note that did not go into the prompt: `tokens` is the size of its text, without the template's."""

    source_turn_id: str | None
    note_id: str | None
    tokens: int
    reason: str


@dataclass(frozen=True)
class Prompt:
    """The messages that go through the chat template, and the ledger of what was left out."""

    messages: tuple[PromptMessage, ...]
    dropped: tuple[Dropped, ...] = ()


@dataclass(frozen=True)
class Segment:
    """A span of the prompt with one origin. `start` and `end` index the token ids; `text` is that span's text."""

    kind: SegmentKind
    label: str
    source_turn_id: str | None
    note_id: str | None
    start: int
    end: int
    text: str


@dataclass(frozen=True)
class Encoding:
    """A prompt as token ids. The segments partition the ids: no gap, no overlap."""

    text: str
    token_ids: tuple[int, ...]
    segments: tuple[Segment, ...]


def token_ids_sha256(token_ids: tuple[int, ...]) -> str:
    """SHA-256 over the ids as little-endian int32, in hexadecimal."""
    packed = array("i", token_ids)
    assert packed.itemsize == 4
    if array("i", [1]).tobytes()[0] != 1:
        packed.byteswap()
    return hashlib.sha256(packed.tobytes()).hexdigest()


@dataclass(frozen=True)
class ModelInfo:
    """Which model answered: its id, the dtype of its weights, how many there are, and its context window in tokens."""

    id: str
    dtype: str
    parameters: int
    context_window: int


@dataclass(frozen=True)
class PromptRecord:
    """The prompt as it was handed to the model."""

    text: str
    token_ids: tuple[int, ...]
    sha256: str
    segments: tuple[Segment, ...]
    dropped: tuple[Dropped, ...]


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen. Temperature 0 is greedy; `top_k` 0 and `top_p` 1 are off."""

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 0
    max_new_tokens: int = 128

    @classmethod
    def checked(cls, **values: object) -> Sampling:
        """Build one from values that came from outside.

        Raises InputError, with the value and the range, for what is not a number or out of range.
        """
        return cls(
            temperature=_number("temperature", values.get("temperature", 0.0), 0.0, 5.0),
            top_p=_number("top_p", values.get("top_p", 1.0), 0.01, 1.0),
            top_k=_whole("top_k", values.get("top_k", 0), 0, 1_000_000),
            seed=_whole("seed", values.get("seed", 0), 0, MAX_SEED),
            max_new_tokens=_whole("max_new_tokens", values.get("max_new_tokens", 128), 1, MAX_NEW_TOKENS),
        )


def _number(name: str, value: object, least: float, most: float) -> float:
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    if not numeric or not least <= value <= most:  # type: ignore[operator]
        raise InputError(f"{name} must be a number from {least:g} to {most:g}, not {_shown(value)}.")
    return float(value)  # type: ignore[arg-type]


def _whole(name: str, value: object, least: int, most: int) -> int:
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    # The range comes first: neither infinity nor NaN is in it, and neither becomes an int.
    if not numeric or not least <= value <= most or int(value) != value:  # type: ignore[operator,call-overload]
        raise InputError(f"{name} must be a whole number from {least:,} to {most:,}, not {_shown(value)}.")
    return int(value)  # type: ignore[call-overload,no-any-return]


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:40] + "…"


@dataclass(frozen=True)
class Choice:
    """What the model thought of one token of a reply before it was chosen: its probability, and the likeliest others.

    They are the model's own, before temperature, top-k and top-p. `others` are pairs of a token id and its probability,
    the likeliest first.
    """

    probability: float
    others: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Completion:
    """What came back: the ids as the model chose them (the stop token included), and the text they spell.

    `choices` has one for each id; receipts of before there were any have none.
    """

    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    choices: tuple[Choice, ...] = ()


@dataclass(frozen=True)
class WeightsCheck:
    """The weights' fingerprint before and after a turn.

    `changed_parameters` counts every parameter of each tensor whose digest differs: 0 is exact, more is an upper bound.
    """

    before: str
    after: str
    parameters: int
    changed_parameters: int


@dataclass(frozen=True)
class Usage:
    """What a model call took, in tokens, and the KV cache it left behind, in bytes.

    Of the tokens of a reply some may have been guessed ahead (`drafted_tokens`) and found right (`accepted_tokens`).
    """

    prompt_tokens: int
    cached_tokens: int
    prefilled_tokens: int
    completion_tokens: int
    kv_cache_bytes: int
    drafted_tokens: int = 0
    accepted_tokens: int = 0


@dataclass(frozen=True)
class Timing:
    """Where the time went, in milliseconds. The time to first token counts from the request, the queue included.

    Requests that are served together wait for each other's work, so it is the time that the person saw.
    """

    queue_ms: float
    prefill_ms: float
    time_to_first_token_ms: float
    decode_ms: float
    total_ms: float


@dataclass(frozen=True)
class Stage:
    """One stretch of a turn's way through the app, in milliseconds from the moment its message arrived."""

    name: StageName
    start_ms: float
    ms: float


@dataclass(frozen=True)
class Receipt:
    """The immutable record of one model call: what was sent, what came back, what it cost, what did not move."""

    turn_id: str
    conversation_id: str
    created_at: str
    model: ModelInfo
    prompt: PromptRecord
    sampling: Sampling
    completion: Completion
    weights: WeightsCheck
    usage: Usage
    timing: Timing
    trace: tuple[Stage, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The receipt as plain JSON values, as the contract has them."""
        plain: dict[str, Any] = RECEIPT.dump_python(self, mode="json")
        return plain


RECEIPT: TypeAdapter[Receipt] = TypeAdapter(Receipt)
"""Reads a receipt back from JSON values and checks every one of them."""


@dataclass(frozen=True)
class Conversation:
    """A conversation as the list at the side shows it. Times are ISO 8601, UTC."""

    id: str
    title: str
    created_at: str
    updated_at: str
    turns: int = 0


@dataclass(frozen=True)
class Turn:
    """One message, one model call, its reply, as the chat shows it. `finish_reason` is None while it runs."""

    id: str
    conversation_id: str
    position: int
    message: str
    reply: str
    finish_reason: FinishReason | None
    use_memory: bool
    created_at: str
    error: str | None = None
    sampling: Sampling | None = None
    weights: WeightsCheck | None = None
    usage: Usage | None = None
    timing: Timing | None = None
    dropped: int = field(default=0)


@dataclass(frozen=True)
class Feedback:
    """What a person said of one reply: good or bad, why, and what it should have said. Times are ISO 8601, UTC.

    It is text that is kept, and goes into no prompt and no weight.
    """

    turn_id: str
    verdict: Verdict
    comment: str = ""
    better: str = ""
    created_at: str = ""
    updated_at: str = ""
