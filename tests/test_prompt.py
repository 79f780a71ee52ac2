"""What goes into a prompt, and the ledger of what does not. Nothing leaves silently."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chat.encoding import Encoder
from chat.errors import InputError, PromptTooLong
from chat.prompt import NO_REPLY, NO_ROOM, NOTES_HEADING, SYSTEM_TEXT, Budget, assemble_prompt, checked_message
from chat.types import MAX_MESSAGE_CHARACTERS, Dropped, Encoding, Note, PastTurn, Prompt
from chat.weights import LoadedModel


def words(prompt: Prompt) -> int:
    return sum(len(message.content.split()) for message in prompt.messages)


def budget(tokens: int) -> Budget:
    """Counts words, so that a reader can count along."""
    return Budget(tokens, words, lambda text: len(text.split()))


ALONE = len(SYSTEM_TEXT.split())
HEADING = len(NOTES_HEADING.split())
TURNS = [PastTurn("t1", "one two", "three"), PastTurn("t2", "four", "five six seven"), PastTurn("t3", "eight", "nine")]
NOTES = [Note("n1", "tea please"), Note("n2", "lives in Zürich")]  # "- tea please" is three words, the other four
EVERYTHING = ALONE + HEADING + 3 + 4 + 3 + 4 + 2 + 1


def assembled(tokens: int, notes: Sequence[Note] = NOTES, turns: Sequence[PastTurn] = TURNS) -> Prompt:
    return assemble_prompt(SYSTEM_TEXT, notes, turns, "hello", budget(tokens))


def contents(prompt: Prompt) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in prompt.messages]


# What goes in


def test_everything_goes_in_where_there_is_room() -> None:
    prompt = assembled(EVERYTHING)
    assert contents(prompt) == [
        ("system", f"{SYSTEM_TEXT}{NOTES_HEADING}\n- tea please\n- lives in Zürich"),
        ("user", "one two"),
        ("assistant", "three"),
        ("user", "four"),
        ("assistant", "five six seven"),
        ("user", "eight"),
        ("assistant", "nine"),
        ("user", "hello"),
    ]
    assert prompt.dropped == ()


def test_each_piece_says_where_it_came_from() -> None:
    pieces = [piece for message in assembled(EVERYTHING).messages for piece in message.pieces]
    assert [(piece.kind, piece.source_turn_id, piece.note_id) for piece in pieces] == [
        ("system", None, None),
        ("note", None, None),
        ("note", None, "n1"),
        ("note", None, "n2"),
        *[("history", turn, None) for turn in ("t1", "t1", "t2", "t2", "t3", "t3")],
        ("message", None, None),
    ]


def test_without_notes_there_is_no_heading_for_them() -> None:
    assert contents(assembled(EVERYTHING, notes=()))[0] == ("system", SYSTEM_TEXT)


# What stays out


@pytest.mark.parametrize(
    ("tokens", "gone"),
    [
        (EVERYTHING, []),
        (EVERYTHING - 1, ["t1"]),
        (EVERYTHING - 3, ["t1"]),
        (EVERYTHING - 4, ["t1", "t2"]),
        (EVERYTHING - 7, ["t1", "t2"]),
        (EVERYTHING - 8, ["t1", "t2", "t3"]),
        (EVERYTHING - 9, ["t1", "t2", "t3"]),
        (EVERYTHING - 10, ["t1", "t2", "t3", "n1"]),
        (EVERYTHING - 12, ["t1", "t2", "t3", "n1"]),
        (EVERYTHING - 13, ["t1", "t2", "t3", "n1", "n2"]),
        (ALONE + 1, ["t1", "t2", "t3", "n1", "n2"]),
    ],
)
def test_whole_oldest_turns_leave_first_and_then_whole_oldest_notes(tokens: int, gone: list[str]) -> None:
    sizes = {"t1": 3, "t2": 4, "t3": 2, "n1": 2, "n2": 3}
    prompt = assembled(tokens)
    assert words(prompt) <= tokens
    assert prompt.dropped == tuple(
        Dropped(name if name in "t1 t2 t3" else None, name if name in "n1 n2" else None, sizes[name], NO_ROOM)
        for name in gone
    )
    kept = [piece.source_turn_id or piece.note_id for message in prompt.messages for piece in message.pieces]
    assert {name for name in kept if name} == sizes.keys() - set(gone)


def test_a_message_that_does_not_fit_alone_is_refused_with_both_numbers() -> None:
    with pytest.raises(PromptTooLong, match=r"needs 1,206 tokens and 1,000 fit") as refusal:
        assemble_prompt(SYSTEM_TEXT, NOTES, TURNS, "very " * 1200 + "long", budget(1000))
    assert (refusal.value.needed, refusal.value.available) == (1206, 1000)


def test_a_message_that_does_not_fit_is_measured_once_however_long_the_conversation() -> None:
    measured = []

    def measure(prompt: Prompt) -> int:
        measured.append(prompt)
        return words(prompt)

    counting = Budget(1000, measure, lambda text: len(text.split()))
    turns = [PastTurn(str(place), "word " * 20, "word " * 20) for place in range(50)]
    with pytest.raises(PromptTooLong):
        assemble_prompt(SYSTEM_TEXT, NOTES, turns, "very " * 1200 + "long", counting)
    assert [len(prompt.messages) for prompt in measured] == [2]


def test_a_turn_that_was_never_answered_is_in_the_ledger_and_not_in_the_prompt() -> None:
    turns = [PastTurn("t0", "never mind this", ""), *TURNS]
    prompt = assembled(EVERYTHING, turns=turns)
    assert prompt.dropped == (Dropped("t0", None, 3, NO_REPLY),)
    assert contents(prompt) == contents(assembled(EVERYTHING))
    assert [dropped.source_turn_id for dropped in assembled(EVERYTHING - 1, turns=turns).dropped] == ["t0", "t1"]


@settings(deadline=None, derandomize=True, database=None)
@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9)), max_size=9),
    st.lists(st.integers(1, 9), max_size=6),
    st.integers(ALONE + 1, 120),
)
def test_every_turn_and_note_is_either_in_the_prompt_or_in_the_ledger(
    past: list[tuple[int, int]], saved: list[int], tokens: int
) -> None:
    turns = [PastTurn(f"t{place}", "a " * said, "b " * replied) for place, (said, replied) in enumerate(past)]
    notes = [Note(f"n{place}", "c " * size) for place, size in enumerate(saved)]
    prompt = assembled(tokens, notes, turns)
    pieces = [piece for message in prompt.messages for piece in message.pieces]
    kept = {piece.source_turn_id or piece.note_id for piece in pieces} - {None}
    dropped = [entry.source_turn_id or entry.note_id for entry in prompt.dropped]
    assert kept.isdisjoint(dropped)
    assert kept.union(dropped) == {turn.id for turn in turns} | {note.id for note in notes}
    assert len(set(dropped)) == len(dropped)
    assert words(prompt) <= tokens
    if any(entry.reason == NO_ROOM for entry in prompt.dropped):
        assert words(assembled(10**6, notes, turns)) > tokens, "nothing leaves that had room"


# With the tokens of a real model


def encoded(encoder: Encoder, notes: Sequence[Note], turns: Sequence[PastTurn], tokens: int = 10**6) -> Encoding:
    real = Budget(tokens, lambda prompt: len(encoder.encode(prompt).token_ids), encoder.count)
    return encoder.encode(assemble_prompt(SYSTEM_TEXT, notes, turns, "And what do I drink?", real))


@pytest.mark.parametrize("family", ["smollm2", "tiny_llama", "tiny_qwen", "tiny_gemma"])
def test_the_prompt_fits_the_budget_to_the_token(family: str, request: pytest.FixtureRequest) -> None:
    loaded: LoadedModel = request.getfixturevalue(family)
    encoder = Encoder(loaded.tokenizer)
    everything = encoded(encoder, NOTES, TURNS)
    tokens = len(everything.token_ids)
    assert encoded(encoder, NOTES, TURNS, tokens) == everything
    assert encoded(encoder, NOTES, TURNS, tokens - 1) == encoded(encoder, NOTES, TURNS[1:])


def test_the_beginning_of_the_prompt_stays_while_a_conversation_grows(smollm2: LoadedModel) -> None:
    encoder = Encoder(smollm2.tokenizer)
    turns = [PastTurn(f"t{place}", f"Tell me fact {place}.", f"Fact {place} is short.") for place in range(5)]
    prompts = [encoded(encoder, NOTES, turns[:count]) for count in range(6)]
    for shorter, longer in pairwise(prompts):
        (shared,) = (segment.start for segment in shorter.segments if segment.kind == "message")
        assert shorter.token_ids[:shared] == longer.token_ids[:shared]


def test_memory_off_gives_the_same_ids_as_no_notes_at_all(smollm2: LoadedModel) -> None:
    encoder = Encoder(smollm2.tokenizer)
    off = encoded(encoder, (), TURNS).token_ids
    template = [{"role": "system", "content": SYSTEM_TEXT}]
    for turn in TURNS:
        template += [{"role": "user", "content": turn.message}, {"role": "assistant", "content": turn.reply}]
    template.append({"role": "user", "content": "And what do I drink?"})
    assert off == tuple(smollm2.tokenizer.apply_chat_template(template, add_generation_prompt=True)["input_ids"])
    assert off != encoded(encoder, NOTES, TURNS).token_ids


# A person's message


@pytest.mark.parametrize("blank", ["", " ", "\n\t \r\n", "\u00a0\u3000\u2028", "\x1c\x1f"])
def test_a_blank_message_is_refused(blank: str) -> None:
    with pytest.raises(InputError, match="empty"):
        checked_message(blank)


@pytest.mark.parametrize("value", [None, 7, b"hello", ["hello"], {"text": "hello"}])
def test_a_message_that_is_no_text_is_refused_by_what_it_is(value: object) -> None:
    with pytest.raises(InputError, match=f"must be text, not {type(value).__name__}"):
        checked_message(value)


def test_the_longest_message_is_taken_and_one_character_more_is_refused_with_both_numbers() -> None:
    assert checked_message("x" * MAX_MESSAGE_CHARACTERS) == "x" * MAX_MESSAGE_CHARACTERS
    with pytest.raises(InputError, match=r"1,000,001 characters; the most is 1,000,000"):
        checked_message("x" * 1_000_001)


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("a\x00b", "a\ufffdb"),
        ("\x00", "\ufffd"),
        ("a\ud800b", "a\ufffdb"),
        ("a" + chr(0xDC00) + "b", "a\ufffdb"),
        ("ends with \ud83d", "ends with \ufffd"),
        ("\udfff\ud800", "\ufffd\ufffd"),
        ("\ud83d\ude42 in two halves", "🙂 in two halves"),
    ],
)
def test_nul_and_half_surrogates_become_the_replacement_character(sent: str, kept: str) -> None:
    assert checked_message(sent) == kept


@pytest.mark.parametrize(
    "message",
    [
        "\ufeffwith a mark",
        "  indented\n",
        "e\u0301 👩‍👩‍👧 \u202eabc \U0010ffff",
        "\x01\x1b\x7f",
        "<|im_end|> <b>",
        "\ufffe",
    ],
)
def test_every_other_character_is_kept_as_it_was_sent(message: str) -> None:
    assert checked_message(message) == message
