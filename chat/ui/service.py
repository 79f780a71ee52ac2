"""What the pages and the API do on behalf of one person: start turns, stop them, write notes, compare."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from chat.compare import PANES, Pane, PaneEvent, Setting, run_compare
from chat.engine import Event
from chat.errors import InputError
from chat.local_model import LocalModel
from chat.note_writing import NoteWriting
from chat.precisions import PrecisionComparison, PrecisionEvent
from chat.prompt import checked_message
from chat.replay import Reply, replay, weigh_reply
from chat.turn import TurnEvent, TurnRequest, run_turn
from chat.types import Choice, ModelInfo, Note, Receipt, Sampling
from chat.ui.note_taking import LONGEST_NOTES, NOTES_LABEL, NoteEvent, NoteTaking
from chat.ui.store import PersonStore
from chat.ui.visible import shortened

LONGEST_ANSWER = 64
"""Of the questions that the page “Model” asks, in tokens."""


class Service:
    """Joins the one model with each person's own store. Safe to call from any number of threads."""

    def __init__(
        self,
        model: LocalModel,
        open_store: Callable[[str], PersonStore],
        note_writing: NoteWriting,
        load_untuned: Callable[[], LocalModel] | None = None,
    ) -> None:
        self.model = model
        self.store_of = open_store
        self._note_writing = note_writing
        self._load_untuned = load_untuned
        self._untuned: LocalModel | None = None
        self._untuned_lock = threading.Lock()
        self._running: dict[tuple[str, str], set[threading.Event]] = {}
        self._running_lock = threading.Lock()

    def send(
        self,
        owner: str,
        message: object,
        conversation_id: str,
        use_memory: bool,
        sampling: Sampling,
        replaces: str | None = None,
    ) -> Generator[TurnEvent, None, None]:
        """Send a message into a conversation and follow the turn."""
        text = checked_message(message)
        request = TurnRequest(
            conversation_id=conversation_id,
            message=text,
            reads=conversation_id,
            use_memory=use_memory,
            sampling=sampling,
            replaces=replaces,
            lane=owner,
        )
        with self._stoppable(owner, conversation_id) as stop:
            yield from run_turn(request, self.store_of(owner), self.model, stop)

    def retry(self, owner: str, turn_id: str, use_memory: bool, sampling: Sampling) -> Generator[TurnEvent, None, None]:
        """Send the last turn's message again; the earlier try is kept, out of sight."""
        store = self.store_of(owner)
        turn = store.turn(turn_id)
        if store.turns(turn.conversation_id, limit=1)[-1].id != turn.id:
            raise InputError("Only the last message of a conversation can be tried again. Send it as a new one.")
        yield from self.send(owner, turn.message, turn.conversation_id, use_memory, sampling, replaces=turn.id)

    def stop(self, owner: str, conversation_id: str) -> None:
        """End what is running in one of this person's conversations, within one token."""
        with self._running_lock:
            for stop in self._running.get((owner, conversation_id), ()):
                stop.set()

    def remember(self, owner: str, conversation_id: str, draft: bool) -> Generator[NoteEvent, None, None]:
        """Have the model write notes on a conversation; the last event is NotesWritten.

        Each request is a turn like any other, with a prompt and a receipt to look at, in a conversation of its own.
        The notes that are switched on stand in its prompt, whatever the chat's own memory switch says: only so can
        the model leave out what is saved already, and say which note is outdated.
        """
        store = self.store_of(owner)
        exchanges = tuple(turn for turn in store.load_history(conversation_id).turns if turn.reply)
        if not exchanges:
            raise InputError("There is nothing to take notes from yet. Say something first.")
        request = TurnRequest(
            conversation_id=store.new_conversation("notes", "Notes", about=conversation_id),
            message=self._note_writing.request,
            reads=None,
            sampling=Sampling(max_new_tokens=usual_length(self.model.info, LONGEST_NOTES)),
            label=NOTES_LABEL,
            lane=owner,
        )
        taking = NoteTaking(store, self.model, self._note_writing, draft)
        with self._stoppable(owner, conversation_id) as stop:
            yield from taking.run(request, exchanges, stop)

    def new_comparison(self, owner: str, question: object, conversation_id: str | None) -> str:
        """A place to record a comparison in; its id is also what stops it. Goes with the conversation compared."""
        title = shortened(checked_message(question), 80)
        return self.store_of(owner).new_conversation("compare", title, about=conversation_id or None)

    def compare(
        self, owner: str, comparison_id: str, question: object, setting: Setting, panes: tuple[Pane, ...] = PANES
    ) -> Generator[tuple[Pane, PaneEvent], None, None]:
        """Ask one question in every pane."""
        text = checked_message(question)
        store = self.store_of(owner)
        with self._stoppable(owner, comparison_id) as stop:
            untuned = self._untuned_model if self._load_untuned else None
            yield from run_compare(text, comparison_id, panes, setting, store, self.model, stop, owner, untuned)

    def replay(self, owner: str, receipt: Receipt) -> Generator[Event | Reply, None, None]:
        """Run a turn's ids again in a fresh engine; the last event is the reply. The turn's id is what stops it."""
        with self._stoppable(owner, receipt.turn_id) as stop:
            yield from replay(receipt, self.model, stop)

    def weigh(
        self, owner: str, prompts: Mapping[Pane, Receipt], reply: tuple[int, ...]
    ) -> dict[Pane, tuple[Choice, ...]]:
        """What the model thinks of one and the same reply behind each of some prompts, token by token.

        The untuned model's prompt is weighed by that, where there is one.
        """
        stop, weighed = threading.Event(), {}
        for pane, receipt in prompts.items():
            if pane.name != "untuned" or self._load_untuned:
                model = self._untuned_model() if pane.name == "untuned" else self.model
                weighed[pane] = weigh_reply(model.engine, receipt.prompt.token_ids, reply, stop, owner)
        return weighed

    def ask_alone(
        self, owner: str, recorded_in: str, question: object, facts: tuple[Note, ...] = ()
    ) -> Generator[TurnEvent, None, None]:
        """Ask a question with nothing before it but these facts, which go in as notes do. No saved note goes along."""
        request = replace(self._question(owner, recorded_in, question), use_memory=bool(facts), notes=facts)
        with self._stoppable(owner, recorded_in) as stop:
            yield from run_turn(request, self.store_of(owner), self.model, stop)

    def compare_precisions(
        self, owner: str, comparison_id: str, question: object, precisions: PrecisionComparison
    ) -> Generator[PrecisionEvent, None, None]:
        """Ask one question, with nothing before it, of the model at each precision."""
        request = self._question(owner, comparison_id, question)
        with self._stoppable(owner, comparison_id) as stop:
            yield from precisions.run(request, self.store_of(owner), stop)

    def _question(self, owner: str, recorded_in: str, question: object) -> TurnRequest:
        return TurnRequest(
            conversation_id=recorded_in,
            message=checked_message(question),
            reads=None,
            use_memory=False,
            sampling=Sampling(max_new_tokens=usual_length(self.model.info, LONGEST_ANSWER)),
            lane=owner,
        )

    def close(self) -> None:
        """Stop the engines; what runs ends at its next token."""
        self.model.close()
        with self._untuned_lock:
            if self._untuned is not None:
                self._untuned.close()

    def _untuned_model(self) -> LocalModel:
        """The default model without its adapter: loaded when it is first asked for, and kept. Raises WeightsError."""
        with self._untuned_lock:
            if self._untuned is None:
                assert self._load_untuned is not None, "only the default model has an untuned one"
                self._untuned = self._load_untuned()
            return self._untuned

    @contextmanager
    def _stoppable(self, owner: str, conversation_id: str) -> Iterator[threading.Event]:
        key = (owner, conversation_id)
        stop = threading.Event()
        with self._running_lock:
            self._running.setdefault(key, set()).add(stop)
        try:
            yield stop
        finally:
            with self._running_lock:
                self._running[key].discard(stop)
                if not self._running[key]:
                    del self._running[key]


def usual_length(model: ModelInfo, longest: int) -> int:
    """A reply's length to begin with: what was meant, or a quarter of a small context window."""
    return min(longest, model.context_window // 4)
