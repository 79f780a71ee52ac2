import pytest

from chat.errors import InputError
from memory.notes import MAX_NOTE_CHARACTERS, MAX_NOTES_IN_A_REPLY, NOTES_REQUEST, checked_note, notes_in


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
    assert notes_in(reply) == ("The user is Ada.", "The user likes tea.")


@pytest.mark.parametrize(
    "line", ["2024 was a good year.", "-5 degrees is cold.", "**Ada** is bold.", "1.5 is a number."]
)
def test_what_only_looks_like_a_bullet_stays(line):
    assert notes_in(f"- {line}") == (line,)
    assert notes_in(line) == (line,)


def test_no_more_notes_are_taken_than_a_person_can_review():
    assert notes_in("\n".join(f"- note {number}" for number in range(40))) == tuple(
        f"note {number}" for number in range(MAX_NOTES_IN_A_REPLY)
    )


@pytest.mark.parametrize("text", ["word " * 200, "w" * 2_000])
def test_a_note_that_is_too_long_is_cut_and_says_so(text):
    (note,) = notes_in(f"- {text}")
    assert 450 < len(note) <= MAX_NOTE_CHARACTERS
    assert note.endswith(("word…", "w…"))
    assert checked_note(note) == note


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
