"""How far a tour has come: read from its conversations each time, so that it can be left and taken up again."""

from __future__ import annotations

from dataclasses import dataclass

from chat.errors import NotFound
from chat.types import Note, Receipt, Turn
from chat.ui.store import PersonStore

QUESTION = "Which partner runs finance?"
CORRECTION = "No, that's wrong. Dana runs finance and Priya runs sales."
NOTE = "Dana runs finance."
TOLD = (QUESTION, CORRECTION, QUESTION)
TITLES = ("Tour: the correction", "Tour: a fresh session", "Tour: with a note")

Answered = tuple[Turn, Receipt]


@dataclass(frozen=True)
class Progress:
    """What has happened: the turns of the first conversation, the fresh one's, and the one's with a note.

    `conversations` has their ids, "" for those that have not begun.
    """

    conversations: tuple[str, str, str] = ("", "", "")
    told: tuple[Answered, ...] = ()
    fresh: tuple[Answered, ...] = ()
    noted: tuple[Answered, ...] = ()

    @property
    def answered(self) -> tuple[Answered, ...]:
        """Everything that was answered, in its order."""
        return (*self.told, *self.fresh, *self.noted)

    @property
    def corrected(self) -> Receipt | None:
        """The receipt of the question that was asked again after the correction."""
        return self.told[len(TOLD) - 1][1] if len(self.told) >= len(TOLD) else None

    def is_done(self, step: int) -> bool:
        """Whether a step, counted from 1, has been taken; one that only shows something is with the one before it."""
        after = {1: self.corrected, 2: self.corrected, 3: self.fresh, 4: self.noted, 5: self.noted, 6: self.noted}
        return bool(after[step])


def progress_of(store: PersonStore, ids: str) -> Progress:
    """The progress that the ids of three conversations stand for, as `kept` wrote them.

    What was deleted since, or is not this person's, counts as not begun.
    """
    given = [*ids.split(","), "", "", ""][:3]
    known = [(found, _answered(store, found)) for found in given]
    first, second, third = (conversation if turns is not None else "" for conversation, turns in known)
    told, fresh, noted = (turns or () for _, turns in known)
    return Progress((first, second, third), told, fresh, noted)


def kept(conversations: tuple[str, str, str]) -> str:
    """The ids as the browser keeps them."""
    return ",".join(conversations)


def the_note(store: PersonStore) -> Note:
    """The tour's note: the one on the shelf, switched on, or a new one."""
    note = next((note for note in store.notes() if note.text == NOTE and not note.draft), None)
    if note is None:
        return store.add_note(NOTE)
    return note if note.enabled else store.switch_note(note.id, True)


def _answered(store: PersonStore, conversation_id: str) -> tuple[Answered, ...] | None:
    try:
        turns = store.turns(conversation_id) if conversation_id else ()
        return tuple((turn, store.receipt(turn.id)) for turn in turns if turn.usage)
    except NotFound:
        return None
