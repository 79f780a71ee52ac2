"""Notes written after a conversation: what the model had before it, and what is done with what it wrote.

The model and the store are real. What the model wrote is given, as a tiny model has nothing to say.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from chat.local_model import LocalModel
from chat.note_writing import NoteWriting, WrittenNote
from chat.types import Note, Receipt, Sampling
from chat.ui.service import NotesWritten, Service
from memory.database import Database
from memory.notes import written
from memory.store import OwnerStore

BERGEN, OSLO = "The user lives in Bergen.", "The user lives in Oslo."

Remember = Callable[..., tuple[Note, ...]]


class Writer:
    """Reads the same notes out of every reply; `meanwhile` is what a person does before that."""

    def __init__(self) -> None:
        self.wrote: tuple[WrittenNote, ...] = ()
        self.meanwhile: Callable[[], object] = lambda: None

    def notes_in(self, _reply: str) -> tuple[WrittenNote, ...]:
        self.meanwhile()
        return self.wrote


@pytest.fixture
def writer() -> Writer:
    return Writer()


@pytest.fixture
def service(local_model: LocalModel, database: Database, writer: Writer) -> Service:
    return Service(local_model, database.for_owner, NoteWriting("Write notes.", writer.notes_in, written))


@pytest.fixture
def conversation(service: Service, store: OwnerStore) -> str:
    """A conversation of one turn that was held with memory off."""
    conversation_id = store.new_conversation()
    list(service.send("ada", "I live in Oslo now.", conversation_id, False, Sampling(max_new_tokens=4)))
    return conversation_id


@pytest.fixture
def remember(service: Service, store: OwnerStore, writer: Writer, conversation: str) -> Remember:
    """Has these notes written from the conversation; `receipts` gathers the receipts of that."""

    def remember(*wrote: WrittenNote, draft: bool = False, receipts: list[Receipt] | None = None) -> tuple[Note, ...]:
        writer.wrote = wrote
        *_, last = service.remember("ada", conversation, draft)
        assert isinstance(last, NotesWritten)
        if receipts is not None:
            receipts.append(store.receipt(last.turn_id))
        return last.notes

    return remember


def test_the_notes_that_are_on_stand_in_the_prompt_even_of_a_conversation_without_memory(
    remember: Remember, store: OwnerStore
) -> None:
    on, off = store.add_note(BERGEN), store.add_note("The user likes tea.")
    store.switch_note(off.id, False)
    receipts: list[Receipt] = []
    remember(receipts=receipts)
    assert {segment.note_id for segment in receipts[0].prompt.segments} == {None, on.id}
    assert BERGEN in receipts[0].prompt.text


def test_a_note_that_names_a_saved_one_replaces_it(remember: Remember, store: OwnerStore) -> None:
    old, other = store.add_note(BERGEN), store.add_note("The user likes tea.")
    (new,) = remember(WrittenNote(OSLO, BERGEN))
    assert (new.text, new.replaces, new.origin, new.draft) == (OSLO, old.id, "model", False)
    assert store.load_notes() == (other, new)


def test_a_draft_that_names_a_saved_note_leaves_it_on_until_it_is_kept(remember: Remember, store: OwnerStore) -> None:
    old = store.add_note(BERGEN)
    (draft,) = remember(WrittenNote(OSLO, BERGEN), draft=True)
    assert (draft.replaces, draft.draft) == (old.id, True)
    assert store.load_notes() == (old,)
    kept = store.keep_note(draft.id, draft.text)
    assert store.load_notes() == (kept,)


@pytest.mark.parametrize("named", ["the USER lives in bergen", "  The user\tlives  in Bergen . ", BERGEN])
def test_case_blanks_and_a_final_full_stop_do_not_matter(remember: Remember, store: OwnerStore, named: str) -> None:
    old = store.add_note(BERGEN)
    (new,) = remember(WrittenNote(OSLO, named))
    assert new.replaces == old.id
    assert remember(WrittenNote(OSLO.upper().rstrip("."))) == ()


@pytest.mark.parametrize("named", ["The user lived in Bergen.", "Bergen", ".", "?", None])
def test_a_note_that_names_none_of_the_saved_ones_is_simply_new(
    remember: Remember, store: OwnerStore, named: str | None
) -> None:
    old = store.add_note(BERGEN)
    (new,) = remember(WrittenNote(OSLO, named))
    assert new.replaces is None
    assert store.load_notes() == (old, new)


def test_only_a_note_that_was_in_the_prompt_can_be_replaced(
    remember: Remember, store: OwnerStore, writer: Writer
) -> None:
    off, draft = store.add_note("Switched off."), store.add_note("Draft.", draft=True)
    store.switch_note(off.id, False)
    writer.meanwhile = lambda: store.add_note("Added while the model wrote.")
    wrote = [WrittenNote(f"New {name}", name) for name in (off.text, draft.text, "Added while the model wrote.")]
    assert [note.replaces for note in remember(*wrote)] == [None, None, None]
    assert "Added while the model wrote." in {note.text for note in store.load_notes()}


def test_a_note_that_did_not_fit_into_the_prompt_is_not_replaced(remember: Remember, store: OwnerStore) -> None:
    crowded_out = store.add_note(BERGEN)
    for number in range(3):
        store.add_note(f"{number} " + "𝔊" * 200)
    receipts: list[Receipt] = []
    (new,) = remember(WrittenNote(OSLO, BERGEN), receipts=receipts)
    assert crowded_out.id in {entry.note_id for entry in receipts[0].prompt.dropped}
    assert new.replaces is None
    assert crowded_out in store.load_notes()


def test_a_note_that_was_deleted_while_the_model_wrote_costs_no_new_one(
    remember: Remember, store: OwnerStore, writer: Writer
) -> None:
    old = store.add_note(BERGEN)
    writer.meanwhile = lambda: store.delete_note(old.id)
    (new,) = remember(WrittenNote(OSLO, BERGEN))
    assert store.notes() == (new,)
    assert new.replaces is None


def test_what_is_saved_and_on_already_is_not_added_again(remember: Remember, store: OwnerStore) -> None:
    saved = store.add_note(BERGEN)
    assert remember(WrittenNote("the user lives in  Bergen"), WrittenNote(BERGEN, BERGEN)) == ()
    assert store.notes() == (saved,)


def test_what_is_saved_but_switched_off_is_added_as_a_new_note(remember: Remember, store: OwnerStore) -> None:
    saved = store.add_note(BERGEN)
    store.switch_note(saved.id, False)
    (new,) = remember(WrittenNote(BERGEN))
    assert store.load_notes() == (new,)


def test_another_persons_note_is_neither_read_nor_replaced(
    remember: Remember, store: OwnerStore, database: Database
) -> None:
    hers = database.for_owner("eve").add_note(BERGEN)
    receipts: list[Receipt] = []
    (new,) = remember(WrittenNote(OSLO, BERGEN), receipts=receipts)
    assert BERGEN not in receipts[0].prompt.text
    assert new.replaces is None
    assert database.for_owner("eve").load_notes() == (hers,)
    assert store.notes() == (new,)
