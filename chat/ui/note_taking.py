"""The writing of notes on a conversation: one model call for each exchange, each a turn with a receipt of its own.

A small model that has a whole conversation before it leaves facts out; of one exchange at a time it notes them all
(tests/bench/LOG.md, 2026-11-23). The one before it is read too, and what is drafted on the way stands among the saved
notes of the next call, so that a later correction replaces it.
"""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, replace
from math import prod

from chat.errors import EngineError
from chat.local_model import LocalModel
from chat.note_writing import EXCHANGES_READ_FOR_NOTES, NoteWriting, WrittenNote
from chat.turn import Done, TurnEvent, TurnRequest, run_turn
from chat.types import Completion, Note, PastTurn, Receipt
from chat.ui.note_likeness import gist, share_a_word
from chat.ui.store import PersonStore

# A reply of notes is a handful of lines.
LONGEST_NOTES = 256
NOTES_LABEL = "request for notes"
# A note that is lost for another's sake is worse than one that stands beside it: the model must mean it, all the more
# where the two have no word in common. Chosen on made-up conversations (tests/bench/LOG.md, 2026-11-23).
ENOUGH_WHERE_ALIKE = 0.3
ENOUGH_WHERE_UNLIKE = 0.7


@dataclass(frozen=True)
class ExchangeTaken:
    """The model is about to write notes on this exchange, counted from 1, of so many."""

    number: int
    of: int


@dataclass(frozen=True)
class NotesWritten:
    """The notes that came out of a conversation, saved; `turn_id` is the last model call that wrote any.

    `unread` exchanges did not fit into a prompt beside the saved notes.
    """

    turn_id: str
    notes: tuple[Note, ...]
    unread: int = 0


NoteEvent = TurnEvent | ExchangeTaken | NotesWritten


class NoteTaking:
    """Takes notes on exchanges, the oldest first. `written` are those of them that still hold."""

    def __init__(self, store: PersonStore, model: LocalModel, note_writing: NoteWriting, draft: bool) -> None:
        self.written: dict[str, Note] = {}
        self._on_the_way: set[str] = set()
        self._store = store
        self._model = model
        self._note_writing = note_writing
        self._draft = draft

    def run(
        self, request: TurnRequest, exchanges: tuple[PastTurn, ...], stop: threading.Event
    ) -> Generator[NoteEvent, None, None]:
        """One call for each exchange, each as `request` has it; the last event is NotesWritten. Ends early on `stop`.

        Raises EngineError if the model fails; what was written until then is saved.
        """
        assert exchanges, "there is something to take notes from"
        shown, unread = "", 0
        for place, exchange in enumerate(exchanges):
            yield ExchangeTaken(place + 1, len(exchanges))
            read = exchanges[max(0, place + 1 - EXCHANGES_READ_FOR_NOTES) : place + 1]
            asked = replace(request, reads=read, drafts=self._drafts(), position=place)
            receipt = yield from self._call(asked, stop)
            if exchange.id in {dropped.source_turn_id for dropped in receipt.prompt.dropped}:
                unread += 1
            elif self._save(receipt, exchange.id):
                shown = receipt.turn_id
            if stop.is_set():
                break
        yield NotesWritten(shown or receipt.turn_id, tuple(self.written.values()), unread)

    def _call(self, request: TurnRequest, stop: threading.Event) -> Generator[TurnEvent, None, Receipt]:
        with closing(run_turn(request, self._store, self._model, stop)) as turn:
            for event in turn:
                yield event
        assert isinstance(event, Done), "a turn's last event is Done"
        if event.error:
            raise EngineError(event.error)
        return event.receipt

    def _drafts(self) -> tuple[Note, ...]:
        return tuple(self.written.values()) if self._draft else ()

    def _save(self, receipt: Receipt, source: str) -> bool:
        """Save what is neither in use nor waiting for review already; whether there was any."""
        lines = self._note_writing.notes_in(_whole_lines(receipt.completion))
        shelf = self._store.notes()
        known = {gist(note.text) for note in shelf if note.enabled or note.draft}
        new = [line for line in lines if gist(line.text) not in known]
        # Only a note in this prompt can be replaced: the model has read no other, and may fit one only by chance.
        in_prompt = {segment.note_id for segment in receipt.prompt.segments}
        readable = {gist(note.text): note for note in shelf if note.id in in_prompt and note.enabled}
        for line in new:
            outdated = readable.get(gist(line.replaces or ""))
            if outdated and not self._meant(line, outdated, receipt.completion):
                outdated = None
            note = self._store.add_note(line.text, "model", self._draft, (source,), self._outdates(outdated))
            self.written[note.id] = note
            self._on_the_way.add(note.id)
        return bool(new)

    def _meant(self, line: WrittenNote, outdated: Note, completion: Completion) -> bool:
        needed = ENOUGH_WHERE_ALIKE if share_a_word(line.text, outdated.text) else ENOUGH_WHERE_UNLIKE
        return self._likelihood_behind(line, completion) > needed

    def _likelihood_behind(self, line: WrittenNote, completion: Completion) -> float:
        """The probability, when it was written, of all that stands behind a line's own words.

        1 for a line that does not stand in the reply word for word, as one that was cut does not.
        """
        if line.text not in completion.text:
            return 1.0
        begins = completion.text.find(line.text) + len(line.text)
        ends = completion.text.find("\n", begins) % (len(completion.text) + 1)
        decode, ids = self._model.encoder.decode, completion.token_ids
        spelled = [len(decode(ids[:count])) for count in range(len(ids))]
        return prod(
            choice.probability
            for place, choice in zip(spelled, completion.choices, strict=True)
            if begins <= place < ends
        )

    def _outdates(self, outdated: Note | None) -> str | None:
        """The saved note that goes. One written on the way goes at once, and what it was to replace is what goes."""
        if outdated is None or outdated.id not in self._on_the_way:
            return outdated.id if outdated else None
        if self.written.pop(outdated.id, None):
            self._store.delete_note(outdated.id)
        return outdated.replaces


def _whole_lines(completion: Completion) -> str:
    """A reply without a last line that was cut off in the middle, unless it is the only one."""
    before, _, _ = completion.text.rpartition("\n")
    if completion.finish_reason == "stop" or (not before and completion.finish_reason == "length"):
        return completion.text
    return before
