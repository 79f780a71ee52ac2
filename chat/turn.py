"""The way of one turn, from a message to its receipt. Data flows one way; `run_turn` is the whole of it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from time import monotonic
from typing import Protocol

from chat.engine import Event, Finished, Prefilling, Queued, TokensChosen
from chat.errors import EngineError, InputError, MarginaliaError, StoreError
from chat.local_model import LocalModel
from chat.prompt import SYSTEM_TEXT, YOUR_MESSAGE, Budget, assemble_prompt, checked_message
from chat.receipt import ModelCall, build_receipt, record_prompt
from chat.trace import Trace
from chat.types import Choice, History, Note, PastTurn, PromptRecord, Receipt, Sampling
from chat.weights.fingerprint import Fingerprint

_log = logging.getLogger(__name__)

# What a killed process can lose of a reply: at most this much of it.
FLUSH_SECONDS = 0.5


class TurnStore(Protocol):
    """What a turn needs of the database; every call is already bound to one person."""

    def load_history(self, conversation_id: str, before_turn: str | None = None) -> History:
        """What was said in a conversation, oldest first."""

    def load_notes(self) -> tuple[Note, ...]:
        """The notes that are switched on, in a stable order."""

    def begin_turn(
        self, conversation_id: str, message: str, position: int, use_memory: bool, replaces: str | None = None
    ) -> str:
        """Commit the message; the new turn's id."""

    def save_partial(self, turn_id: str, reply: str) -> None:
        """Commit what was said so far, and that the turn is still running."""

    def finish_turn(self, turn_id: str, receipt: Receipt, error: str | None = None) -> None:
        """Commit reply and receipt together."""

    def fail_turn(self, turn_id: str, reply: str, error: str) -> None:
        """Commit that the turn ended without a receipt, and why."""


@dataclass(frozen=True)
class TurnRequest:
    """One message, and what to answer it from.

    The turn is recorded in `conversation_id`. `reads` is what goes into the prompt as history: all of a conversation,
    the exchanges that are given, or none. `label` says what the message is, for the prompt's reader. `position` is the
    turn's place in its conversation, or None for the one after the history. `replaces` is an earlier turn that this one
    tries again. `lane` is whom the queue counts this request to. `drafts` are notes that go in behind those that are
    switched on; `notes` are notes that go in instead of all of them.
    """

    conversation_id: str
    message: str
    reads: str | tuple[PastTurn, ...] | None
    use_memory: bool = True
    sampling: Sampling = field(default_factory=Sampling)
    system: str = SYSTEM_TEXT
    label: str = YOUR_MESSAGE
    position: int | None = None
    replaces: str | None = None
    lane: str = ""
    drafts: tuple[Note, ...] = ()
    notes: tuple[Note, ...] | None = None


@dataclass(frozen=True)
class Begun:
    """The message is safe, and this prompt goes to the model."""

    turn_id: str
    prompt: PromptRecord


@dataclass(frozen=True)
class Replying:
    """The reply as far as it goes. `complete` once the model has ended; the receipt follows."""

    turn_id: str
    reply: str
    complete: bool = False


@dataclass(frozen=True)
class Done:
    """The turn is stored with its receipt. `error` is one sentence if the model failed."""

    receipt: Receipt
    error: str | None = None


TurnEvent = Begun | Queued | Prefilling | Replying | Done


def run_turn(
    request: TurnRequest, store: TurnStore, model: LocalModel, stop: threading.Event
) -> Generator[TurnEvent, None, None]:
    """Run one turn and tell how it goes; the last event is Done.

    Set `stop` to end it within one token. Closing the iterator early does the same, and either way what was said is
    stored with its receipt. Raises InputError, NotFound, ConversationBusy or StoreError before anything has run.
    """
    trace = Trace()
    with trace.stage("receive"):
        message = checked_message(request.message)
        history = _history(request, store)
        notes = _notes(request, store)
    with trace.stage("prepare"):
        budget = prompt_budget(model, request.sampling)
        prompt = assemble_prompt(request.system, notes, history.turns, message, budget, request.label)
        record = record_prompt(model.encoder.encode(prompt), prompt.dropped)
        position = history.next_position if request.position is None else request.position
        turn_id = store.begin_turn(request.conversation_id, message, position, request.use_memory, request.replaces)
    reply = _Reply(turn_id, request, record, store, model, trace)
    events = model.engine.generate(record.token_ids, request.sampling, stop, request.lane)
    try:
        yield Begun(turn_id, record)
        for event in events:
            yield from reply.hear(event)
    except BaseException as error:
        # A reader that has gone away, too: the model ends within one token, and what was said is kept.
        stop.set()
        reply.failure = error if isinstance(error, EngineError) else None
        raise
    finally:
        done = reply.settle(events)
    yield done


def _history(request: TurnRequest, store: TurnStore) -> History:
    match request.reads:
        case None:
            return History()
        case str():
            return store.load_history(request.reads, request.replaces)
        case given:
            return History(given)


def _notes(request: TurnRequest, store: TurnStore) -> tuple[Note, ...]:
    if not request.use_memory:
        return ()
    return (*store.load_notes(), *request.drafts) if request.notes is None else request.notes


def prompt_budget(model: LocalModel, sampling: Sampling) -> Budget:
    """The context window less the room for the reply. Raises InputError if the reply would take all of it."""
    room = model.info.context_window - sampling.max_new_tokens
    if room <= 0:
        raise InputError(
            f"A longest reply (max_new_tokens) of {sampling.max_new_tokens:,} leaves no room in a context window of "
            f"{model.info.context_window:,} tokens. Ask for a shorter one."
        )
    return Budget(room, lambda prompt: len(model.encoder.encode(prompt).token_ids), model.encoder.count)


class _Reply:
    """Gathers a reply from the engine's events, saves it as it grows, and settles it with its receipt."""

    def __init__(
        self,
        turn_id: str,
        request: TurnRequest,
        record: PromptRecord,
        store: TurnStore,
        model: LocalModel,
        trace: Trace,
    ) -> None:
        self._turn_id = turn_id
        self._request = request
        self._record = record
        self._store = store
        self._model = model
        self._weights_before: Fingerprint = model.seal.latest
        self._trace = trace
        self._token_ids: list[int] = []
        self._choices: list[Choice] = []
        self._text = ""
        self._finished: Finished | None = None
        self._flushed_at = monotonic()
        self.failure: EngineError | None = None

    def hear(self, event: Event) -> Iterator[TurnEvent]:
        """Take in one event; pass on what the person should see of it."""
        if isinstance(event, Queued | Prefilling):
            self._flush()
            yield event
        elif isinstance(event, TokensChosen):
            self._token_ids += event.token_ids
            self._choices += event.choices
            # A character may be spread over several tokens: hold back what is not whole yet.
            self._text = self._model.encoder.decode(self._token_ids).rstrip("\ufffd")
            self._flush()
            yield Replying(self._turn_id, self._text)
        else:
            self._finished = event
            self._trace.called(event)
            self._text = self._model.encoder.decode(self._token_ids)
            yield Replying(self._turn_id, self._text, complete=True)

    def settle(self, events: Iterator[Event]) -> Done:
        """Take in what is left, build the receipt, and store both."""
        try:
            for event in events:
                for _ in self.hear(event):
                    pass
            if self._finished is None:
                raise self.failure or EngineError("The model stopped before the reply had ended. Press Retry.")
            receipt = self._receipt(self._finished)
            self._store.finish_turn(self._turn_id, receipt, self._finished.error)
        except MarginaliaError as error:
            self._store.fail_turn(self._turn_id, self._text, str(error))
            raise
        return Done(receipt, self._finished.error)

    def _receipt(self, finished: Finished) -> Receipt:
        call = ModelCall(
            turn_id=self._turn_id,
            conversation_id=self._request.conversation_id,
            model=self._model.info,
            prompt=self._record,
            sampling=self._request.sampling,
            reply=self._text,
            reply_token_ids=tuple(self._token_ids),
            choices=tuple(self._choices),
            finished=finished,
        )
        with self._trace.stage("validate"):
            weights = self._model.seal.check(since=self._weights_before)
        return build_receipt(call, weights, self._trace)

    def _flush(self) -> None:
        if monotonic() - self._flushed_at <= FLUSH_SECONDS:
            return
        self._flushed_at = monotonic()
        try:
            self._store.save_partial(self._turn_id, self._text)
        except StoreError as error:
            # The reply goes on: only its end decides whether it is stored.
            _log.warning("a reply could not be saved midway: %s", error)
