import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chat.errors import InputError
from chat.note_writing import WrittenNote
from chat.ui.note_likeness import share_a_word
from memory.notes import MAX_NOTE_CHARACTERS, MAX_NOTES_IN_A_REPLY, NOTES_REQUEST, checked_note, notes_in, written

TEXTS = st.from_regex(r"(The|Ada|Ünal) ([\w.,:'()\[\]-]+ ){0,9}[\w.)\]]+", fullmatch=True).filter(
    lambda text: "[replaces:" not in text.casefold()
)
NOTES = st.lists(
    st.builds(WrittenNote, TEXTS, st.none() | TEXTS),
    max_size=MAX_NOTES_IN_A_REPLY,
    unique_by=lambda note: note.text.casefold(),
).map(tuple)


def test_the_request_names_the_answer_for_nothing_and_it_is_read_as_nothing():
    assert '"- none"' in NOTES_REQUEST
    assert notes_in("- none") == ()


@pytest.mark.parametrize("reply", ["", "\n \n", "- None.", "none", "- nothing", "No notes.", "-", "1.", "* N/A"])
def test_an_answer_of_nothing_gives_no_note(reply):
    assert notes_in(reply) == ()


@pytest.mark.parametrize(
    "reply",
    [
        "- The user is Ada.\n- The user likes tea.",
        "* The user is Ada.\r\n* The user likes tea.",
        "1. The user is Ada.\n2) The user likes tea.",
        "  • The user is Ada.\n\n  – The user likes tea.  ",
        "- 1. The user is Ada.\n- 2. The user likes tea.",
        "The user is Ada.\nThe user likes tea.",
        "Here are the notes:\n\n- The user is Ada.\n- The user likes tea.\n\nAnything else?",
        "- The user is Ada.\n- the user is ada.\n- The user likes tea.\n- none",
    ],
)
def test_bullets_numbers_doubles_and_talk_are_left_out(reply):
    assert notes_in(reply) == (WrittenNote("The user is Ada."), WrittenNote("The user likes tea."))


@pytest.mark.parametrize(
    "line", ["2024 was a good year.", "-5 degrees is cold.", "**Ada** is bold.", "1.5 is a number."]
)
def test_what_only_looks_like_a_bullet_stays(line):
    assert notes_in(f"- {line}") == notes_in(line) == (WrittenNote(line),)


def test_the_request_asks_for_the_very_mark_that_is_read_as_the_note_to_replace():
    assert "[replaces: that note, word for word]" in NOTES_REQUEST
    assert notes_in("- Ada runs it. [replaces: that note, word for word]") == (
        WrittenNote("Ada runs it.", "that note, word for word"),
    )


@pytest.mark.parametrize(
    "line",
    [
        "- The user lives in Oslo. [replaces: The user lives in Bergen.]",
        "1. The user lives in Oslo.[Replaces:The user lives in Bergen.].",
        "The user lives in Oslo.   [REPLACES:  The user lives in Bergen. ]  ",
    ],
)
def test_a_line_can_say_which_note_it_replaces(line):
    assert notes_in(line) == (WrittenNote("The user lives in Oslo.", "The user lives in Bergen."),)


def test_a_mark_without_a_note_before_it_or_in_it_replaces_nothing():
    assert notes_in("- [replaces: The user lives in Bergen.]") == ()
    assert not any(note.replaces for note in notes_in("- One [replaces: ]\n- Two [replaces: two] of three"))


# How long drawing takes says something about the machine and nothing about the notes.
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(NOTES)
def test_what_is_written_is_read_back_as_the_same_notes(notes):
    assert notes_in(written(notes)) == notes


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [
        ("The user’s choir rehearses on Mondays.", "REHEARSALS are on Fridays.", True),
        ("Quirin’s godparent is Oisín.", "Oisín wears number 23.", True),
        ("The user's boat is called Kon-Tiki.", "The user's wifi is called Mirabelle.", False),
        ("It is.", "It is.", False),
    ],
)
def test_two_notes_share_a_word_that_says_something_or_they_do_not(one, other, shared):
    assert share_a_word(one, other) is share_a_word(other, one) is shared


def test_no_more_notes_are_taken_than_a_person_can_review():
    assert notes_in("\n".join(f"- note {number}" for number in range(40))) == tuple(
        WrittenNote(f"note {number}") for number in range(MAX_NOTES_IN_A_REPLY)
    )


@pytest.mark.parametrize("text", ["word " * 200, "w" * 2_000])
def test_a_note_that_is_too_long_is_cut_and_says_so(text):
    (note,) = notes_in(f"- {text}")
    assert 450 < len(note.text) <= MAX_NOTE_CHARACTERS
    assert note.text.endswith(("word…", "w…"))
    assert checked_note(note.text) == note.text


def test_a_note_is_put_on_one_line():
    assert checked_note("  one \n\n two\r\nthree\u2028four  ") == "one two three four"
    assert checked_note("x" * MAX_NOTE_CHARACTERS + "\n") == "x" * MAX_NOTE_CHARACTERS


def test_a_note_that_is_too_long_is_refused_with_its_size():
    with pytest.raises(InputError, match="1,501"):
        checked_note("x" * 1_501)


@pytest.mark.parametrize("text", ["", " ", "\n\t\u2028"])
def test_a_blank_note_is_refused(text):
    with pytest.raises(InputError, match="blank"):
        checked_note(text)
