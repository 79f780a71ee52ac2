"""What the pages and the API do on behalf of one person: start turns, stop them, write notes, compare."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

from chat.compare import Pane, PaneFailed, run_compare
from chat.errors import EngineError, InputError
from chat.local_model import LocalModel
from chat.note_writing import NoteWriting, WrittenNote
from chat.prompt import checked_message
from chat.turn import Done, TurnEvent, TurnRequest, run_turn
from chat.types import Completion, ModelInfo, Note, Receipt, Sampling
from chat.ui.store import PersonStore
from chat.ui.visible import shortened

# A reply of notes is a handful of lines.
LONGEST_NOTES = 256
NOTES_LABEL = "request for notes"


@dataclass(frozen=True)
class NotesWritten:
    """The notes that came out of a conversation, saved; `turn_id` is the model call that wrote them."""

    turn_id: str
    notes: tuple[Note, ...]


class Service:
    """Joins the one model with each person's own store. Safe to call from any number of threads."""

    def __init__(self, model: LocalModel, open_store: Callable[[str], PersonStore], note_writing: NoteWriting) -> None:
        self.model = model
        self.store_of = open_store
        self._note_writing = note_writing
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

    def remember(
        self, owner: str, conversation_id: str, draft: bool
    ) -> Generator[TurnEvent | NotesWritten, None, None]:
        """Have the model write notes from a conversation; the last event is NotesWritten.

        The request is a turn like any other, with a prompt and a receipt to look at, in a conversation of its own.
        The notes that are switched on stand in its prompt, whatever the chat's own memory switch says: only so can
        the model leave out what is saved already, and say which note is outdated.
        """
        store = self.store_of(owner)
        history = store.load_history(conversation_id)
        sources = tuple(turn.id for turn in history.turns if turn.reply)
        if not sources:
            raise InputError("There is nothing to take notes from yet. Say something first.")
        request = TurnRequest(
            conversation_id=store.new_conversation("notes", "Notes", about=conversation_id),
            message=self._note_writing.request,
            reads=conversation_id,
            use_memory=True,
            sampling=Sampling(max_new_tokens=usual_length(self.model.info, LONGEST_NOTES)),
            label=NOTES_LABEL,
            position=0,
            lane=owner,
        )
        with (
            self._stoppable(owner, conversation_id) as stop,
            closing(run_turn(request, store, self.model, stop)) as turn,
        ):
            for event in turn:
                yield event
        assert isinstance(event, Done), "a turn's last event is Done"
        if event.error:
            raise EngineError(event.error)
        yield NotesWritten(event.receipt.turn_id, self._save_notes(store, event.receipt, sources, draft))

    def _save_notes(
        self, store: PersonStore, receipt: Receipt, sources: tuple[str, ...], draft: bool
    ) -> tuple[Note, ...]:
        unread = {dropped.source_turn_id for dropped in receipt.prompt.dropped}
        read = tuple(source for source in sources if source not in unread)
        written = self._note_writing.notes_in(_whole_lines(receipt.completion))
        new = _new_notes(written, store.notes(), receipt)
        return tuple(store.add_note(note.text, "model", draft, read, outdated) for note, outdated in new)

    def new_comparison(self, owner: str, question: object, conversation_id: str | None) -> str:
        """A place to record a comparison in; its id is also what stops it. Goes with the conversation compared."""
        title = shortened(checked_message(question), 80)
        return self.store_of(owner).new_conversation("compare", title, about=conversation_id or None)

    def compare(
        self, owner: str, comparison_id: str, question: object, conversation_id: str | None, sampling: Sampling
    ) -> Generator[tuple[Pane, TurnEvent | PaneFailed], None, None]:
        """Ask one question in every pane."""
        text = checked_message(question)
        store = self.store_of(owner)
        with self._stoppable(owner, comparison_id) as stop:
            yield from run_compare(text, comparison_id, conversation_id, store, self.model, sampling, stop, lane=owner)

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


def _new_notes(
    written: tuple[WrittenNote, ...], shelf: tuple[Note, ...], receipt: Receipt
) -> tuple[tuple[WrittenNote, str | None], ...]:
    """What is neither in use nor waiting for review already, each with the id of the note that it replaces.

    Only a note in this prompt can be replaced: the model has read no other, and may fit one only by chance.
    """
    known = {_gist(note.text) for note in shelf if note.enabled or note.draft}
    in_prompt = {segment.note_id for segment in receipt.prompt.segments}
    read = {_gist(note.text): note.id for note in shelf if note.id in in_prompt and note.enabled}
    return tuple(
        (note, read.get(_gist(note.replaces)) if note.replaces else None)
        for note in written
        if _gist(note.text) not in known
    )


def _gist(text: str) -> str:
    """A note's text as it is compared with another: in one case, with single blanks, without a full stop at its end."""
    return " ".join(text.casefold().split()).removesuffix(".").rstrip()


def _whole_lines(completion: Completion) -> str:
    """A reply without a last line that was cut off in the middle, unless it is the only one."""
    before, _, _ = completion.text.rpartition("\n")
    if completion.finish_reason == "stop" or (not before and completion.finish_reason == "length"):
        return completion.text
    return before
