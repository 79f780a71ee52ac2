"""Notes written after a conversation: what the model had before it, and what is done with what it wrote.

The model and the store are real. What the model wrote is given, as a tiny model has nothing to say.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from conftest import WatchedModel

from chat.local_model import LocalModel
from chat.note_writing import NoteWriting, WrittenNote
from chat.turn import Begun
from chat.types import Note, Receipt, Sampling
from chat.ui.note_taking import ExchangeTaken, NotesWritten
from chat.ui.service import Service
from memory.database import Database
from memory.notes import written
from memory.store import OwnerStore

BERGEN, OSLO = "The user lives in Bergen.", "The user lives in Oslo."

Remember = Callable[..., tuple[Note, ...]]


class Writer:
    """Reads these notes out of the next reply, and `later` out of those behind it, one by one.

    `meanwhile` is what a person does before that. With `beginnings`, so many characters of the reply are a note that
    replaces the one `named`, and the rest of the reply is what says so.
    """

    def __init__(self) -> None:
        self.wrote: tuple[WrittenNote, ...] = ()
        self.later: list[WrittenNote] = []
        self.beginnings = 0
        self.named = BERGEN
        self.meanwhile: Callable[[], object] = lambda: None

    def notes_in(self, reply: str) -> tuple[WrittenNote, ...]:
        self.meanwhile()
        if self.beginnings:
            return (WrittenNote(reply[: self.beginnings], self.named),)
        wrote, self.wrote = self.wrote, (self.later.pop(0),) if self.later else ()
        return wrote


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


def test_a_replacement_that_the_model_thought_unlikely_is_not_made(
    remember: Remember, store: OwnerStore, writer: Writer
) -> None:
    old = store.add_note(BERGEN)
    writer.beginnings = 3
    (unsure,) = remember()
    assert unsure.replaces is None, "a random model is sure of no token"
    assert old in store.load_notes()


@pytest.mark.parametrize(
    ("named", "choices", "goes"),
    [("xxxxx is here.", 2, True), ("xxxxx is here.", 4, False), (BERGEN, 2, False), (BERGEN, 1, True)],
)
def test_a_note_goes_for_one_that_shares_no_word_only_if_the_model_is_surer(
    remember: Remember, store: OwnerStore, writer: Writer, watched: WatchedModel, local_model: LocalModel,
    named: str, choices: int, goes: bool,
) -> None:  # fmt: skip
    x = next(token_id for token_id in range(999) if local_model.encoder.decode((token_id,)) == "x")
    first = len(watched.handed)
    # All that is written is one letter; in its midst stand so many as good as each other.
    watched.rigged = dict.fromkeys(range(first, first + 600), (x,)) | {first + 100: tuple(range(x, x + choices))}
    old = store.add_note(named)
    writer.beginnings, writer.named = 5, named
    (new,) = remember()
    assert new.text == "xxxxx"
    assert new.replaces == (old.id if goes else None)


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


def test_an_exchange_that_did_not_fit_beside_the_saved_notes_is_counted_and_nothing_is_noted_on_it(
    service: Service, store: OwnerStore, writer: Writer, conversation: str
) -> None:
    for number in range(3):
        store.add_note(f"{number} " + "𝔊" * 200)
    writer.wrote = (WrittenNote(OSLO),)
    *_, last = service.remember("ada", conversation, draft=True)
    assert isinstance(last, NotesWritten)
    assert (last.notes, last.unread) == ((), 1)
    assert len(store.notes()) == 3


def test_a_note_that_was_deleted_while_the_model_wrote_costs_no_new_one(
    remember: Remember, store: OwnerStore, writer: Writer
) -> None:
    old = store.add_note(BERGEN)
    writer.meanwhile = lambda: store.delete_note(old.id)
    (new,) = remember(WrittenNote(OSLO, BERGEN))
    assert store.notes() == (new,)
    assert new.replaces is None


@pytest.fixture
def longer(service: Service, conversation: str) -> str:
    """The conversation, gone on for two more exchanges."""
    for message in ("I like tea.", "No, it is Bergen."):
        list(service.send("ada", message, conversation, False, Sampling(max_new_tokens=4)))
    return conversation


def test_notes_are_written_on_one_exchange_at_a_time_with_the_one_before_it_in_sight(
    service: Service, longer: str
) -> None:
    events = list(service.remember("ada", longer, draft=True))
    prompts = [event.prompt for event in events if isinstance(event, Begun)]
    said = [[piece.text for piece in each.segments if piece.label == "earlier message"] for each in prompts]
    first, second, third = "I live in Oslo now.", "I like tea.", "No, it is Bergen."
    assert said == [[first], [first, second], [second, third]]
    assert [event for event in events if isinstance(event, ExchangeTaken)] == [ExchangeTaken(n, 3) for n in (1, 2, 3)]


def test_a_draft_is_read_with_the_next_exchange_and_no_other_draft_is(
    remember: Remember, store: OwnerStore, longer: str
) -> None:
    store.add_note("An earlier draft.", "model", draft=True)
    receipts: list[Receipt] = []
    assert longer
    (draft,) = remember(WrittenNote(OSLO), draft=True, receipts=receipts)
    first, *others = (store.receipt(turn.id) for turn in store.turns(receipts[0].conversation_id))
    assert draft.id not in {segment.note_id for segment in first.prompt.segments}
    assert all({s.note_id for s in later.prompt.segments} == {None, draft.id} for later in others)


@pytest.mark.parametrize("draft", [True, False])
def test_a_correction_later_in_the_conversation_takes_the_place_of_what_was_just_noted(
    remember: Remember, store: OwnerStore, writer: Writer, longer: str, draft: bool
) -> None:
    saved = store.add_note("The user lives in Narvik.")
    writer.later = [WrittenNote("The user likes tea."), WrittenNote(BERGEN, OSLO)]
    tea, bergen = remember(WrittenNote(OSLO, saved.text), draft=draft)
    assert (tea.text, bergen.text) == ("The user likes tea.", BERGEN)
    assert bergen.replaces == saved.id
    assert OSLO not in {note.text for note in store.notes()}
    assert store.load_notes() == ((saved,) if draft else (tea, bergen))
    turns = store.turns(longer)
    assert [note.source_turn_ids for note in (tea, bergen)] == [(turns[1].id,), (turns[2].id,)]


def test_stop_ends_the_writing_of_notes_and_keeps_what_is_written(
    service: Service, writer: Writer, longer: str
) -> None:
    writer.wrote, writer.later = (WrittenNote(OSLO),), [WrittenNote(BERGEN)]
    writer.meanwhile = lambda: service.stop("ada", longer)
    *_, last = events = list(service.remember("ada", longer, draft=True))
    assert isinstance(last, NotesWritten)
    assert [note.text for note in last.notes] == [OSLO]
    assert sum(isinstance(event, Begun) for event in events) == 1


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


def test_two_notes_of_one_reply_may_take_the_place_of_the_same_draft(
    service: Service, store: OwnerStore, longer: str
) -> None:
    # The writer of the fixture gives one note a reply from the second on; here the second has two.
    replies = iter([(WrittenNote(OSLO),), (WrittenNote(BERGEN, OSLO), WrittenNote("The user sails.", OSLO)), ()])
    taking = Service(service.model, lambda _: store, NoteWriting("Write notes.", lambda _reply: next(replies), written))
    *_, last = taking.remember("ada", longer, draft=True)
    assert isinstance(last, NotesWritten)
    assert [note.text for note in last.notes] == [BERGEN, "The user sails."]
    assert list(store.notes()) == list(last.notes)
