"""The receipt: built once, when a model call has ended, from what was handed to the model and what came back."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from chat.engine.events import Finished
from chat.trace import Trace
from chat.types import (
    Choice,
    Completion,
    Dropped,
    Encoding,
    ModelInfo,
    PromptRecord,
    Receipt,
    Sampling,
    WeightsCheck,
    token_ids_sha256,
)


@dataclass(frozen=True)
class ModelCall:
    """One finished call of the model: who it was for, what was sent and how, what came back, how it ended."""

    turn_id: str
    conversation_id: str
    model: ModelInfo
    prompt: PromptRecord
    sampling: Sampling
    reply: str
    reply_token_ids: tuple[int, ...]
    choices: tuple[Choice, ...]
    finished: Finished


def record_prompt(encoding: Encoding, dropped: tuple[Dropped, ...]) -> PromptRecord:
    """The prompt as it is about to be handed to the model, with the ledger of what stayed out."""
    return PromptRecord(
        text=encoding.text,
        token_ids=encoding.token_ids,
        sha256=token_ids_sha256(encoding.token_ids),
        segments=encoding.segments,
        dropped=dropped,
    )


def build_receipt(call: ModelCall, weights: WeightsCheck, trace: Trace) -> Receipt:
    """The immutable record of a call, of the weights around it, and of the way that its turn took."""
    return Receipt(
        turn_id=call.turn_id,
        conversation_id=call.conversation_id,
        created_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
        model=call.model,
        prompt=call.prompt,
        sampling=call.sampling,
        completion=Completion(call.reply, call.reply_token_ids, call.finished.reason, call.choices),
        weights=weights,
        usage=call.finished.usage,
        timing=call.finished.timing,
        trace=tuple(trace.stages),
    )
