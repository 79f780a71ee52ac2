"""What is new, gone and the same between two prompts, and where words stand in them."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from chat.local_model import LocalModel
from chat.prompt_diff import difference, find
from chat.turn import Done, TurnRequest, run_turn
from chat.types import Receipt, Sampling
from chat.ui.glass.window_view import next_out, window_html
from memory.store import OwnerStore

Say = Callable[..., Receipt]


@pytest.fixture
def say(store: OwnerStore, local_model: LocalModel) -> Say:
    conversation = store.new_conversation()

    def say(message: str, room: int = 8) -> Receipt:
        request = TurnRequest(conversation, message, conversation, sampling=Sampling(max_new_tokens=room))
        *_, done = run_turn(request, store, local_model, threading.Event())
        assert isinstance(done, Done)
        return done.receipt

    return say


def texts(model: LocalModel, receipt: Receipt) -> tuple[str, ...]:
    return model.encoder.token_texts(receipt.prompt.token_ids)


def test_a_message_that_has_become_history_is_the_same_and_the_reply_and_the_next_message_are_new(say: Say) -> None:
    first, second = say("Dana runs finance."), say("Who runs finance?")
    stretches = difference(first.prompt, second.prompt)
    assert [stretch.fate for stretch in stretches] == ["same", "new"]
    same, new = stretches
    assert "Dana runs finance." in {segment.text for segment in same.segments}
    said = [segment.text for segment in new.segments if segment.kind != "template"]
    assert said == [first.completion.text, "Who runs finance?"]
    assert same.tokens + new.tokens == len(second.prompt.token_ids)


def test_a_note_that_was_switched_on_between_two_turns_is_new_and_nothing_is_gone(say: Say, store: OwnerStore) -> None:
    first = say("Hello.")
    store.add_note("Dana runs finance.")
    second = say("Who?")
    stretches = difference(first.prompt, second.prompt)
    new = [segment for stretch in stretches if stretch.fate == "new" for segment in stretch.segments]
    assert [segment.kind for segment in new if segment.kind == "note"] == ["note", "note"]
    counted = {fate: sum(s.tokens for s in stretches if s.fate == fate) for fate in ("same", "new", "gone")}
    assert counted["same"] + counted["new"] == len(second.prompt.token_ids)
    assert counted["same"] + counted["gone"] == len(first.prompt.token_ids)


def test_words_are_found_at_the_token_places_that_spell_them(say: Say, local_model: LocalModel) -> None:
    say("Dana runs finance.")
    receipt = say("No, DANA  runs sales.")
    spelled = texts(local_model, receipt)
    found = find(receipt.prompt, " dana ", spelled)
    assert [place.segment.kind for place in found] == ["history", "message"]
    for place in found:
        assert "dana" in "".join(spelled[place.start : place.end]).casefold()
        assert "dana" not in "".join(spelled[place.start + 1 : place.end]).casefold()
        assert "dana" not in "".join(spelled[place.start : place.end - 1]).casefold()


def test_words_that_are_not_there_or_lie_across_two_segments_are_not_found(say: Say, local_model: LocalModel) -> None:
    receipt = say("Dana runs finance.")
    spelled = texts(local_model, receipt)
    assert find(receipt.prompt, "Priya", spelled) == ()
    assert find(receipt.prompt, "  ", spelled) == ()
    assert find(receipt.prompt, "userDana", spelled) == ()


def test_a_character_of_several_tokens_is_found_within_its_segment(say: Say, local_model: LocalModel) -> None:
    receipt = say("She waved 👋🏽 and left.")
    (found,) = find(receipt.prompt, "👋🏽", texts(local_model, receipt))
    assert found.segment.kind == "message"
    assert (found.start, found.end) == (found.segment.start, found.segment.end)


def test_the_oldest_exchange_would_fall_out_next_and_after_the_exchanges_the_oldest_note(
    say: Say, store: OwnerStore
) -> None:
    assert next_out(say("Hello.").prompt) == ()
    store.add_note("Dana runs finance.")
    kinds = [[segment.text for segment in next_out(say(message).prompt)] for message in ("First.", "Second.")]
    assert kinds[0][0] == "Hello."
    assert kinds[1][0] == "Hello."
    with_note = say("Third.")
    assert "“Hello.” falls out first" in window_html(with_note)
    assert f"{with_note.model.context_window:,} tokens" in window_html(with_note)


def test_what_falls_out_next_does_fall_out_when_the_room_is_needed(say: Say) -> None:
    oldest = say("An early message that will have to go, word by word, when there is no room for it any more.")
    for number in range(3):
        receipt = say(f"Message number {number}")
    (said, _) = next_out(receipt.prompt)
    crowded = say("And now?", room=receipt.model.context_window - len(receipt.prompt.token_ids) - 20)
    assert crowded.prompt.dropped[0].source_turn_id == said.source_turn_id == oldest.turn_id
    gone = [
        s for stretch in difference(receipt.prompt, crowded.prompt) if stretch.fate == "gone" for s in stretch.segments
    ]
    assert said.text in {segment.text for segment in gone}
