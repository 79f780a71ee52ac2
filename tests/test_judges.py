"""The judges, on replies that a reader would judge at a glance."""

from __future__ import annotations

import pytest

from chat.tuning.acts import Ask, Noted
from chat.tuning.facts import Fact
from chat.tuning.judges import admits_not_knowing, fault_in_notes, gives, holds, tells_of_itself
from chat.tuning.report import wilson
from chat.tuning.words import Relation

EMPTY: tuple[str, ...] = ()
DOG = Relation("dog", "name", EMPTY, EMPTY, EMPTY, EMPTY, EMPTY, EMPTY, EMPTY)
HEAD = Relation("head", "name", EMPTY, EMPTY, EMPTY, EMPTY, EMPTY, EMPTY, subject="department")
REX = Fact(DOG, "Rex")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("Your dog is called Rex.", "Rex"),
        ("It's rex!", "Rex"),
        ("You work as an optician.", "the optician"),
        ("“Zoë’s Place” it is.", "Zoe's Place"),
        ("At 7:40 am.", "7:40 am"),
    ],
)
def test_a_value_is_found_in_any_case_and_with_any_article(text: str, value: str) -> None:
    assert holds(text, value)


@pytest.mark.parametrize(("text", "value"), [("Your dog is called Rexford.", "Rex"), ("At 17:40", "7:40"), ("", "Rex")])
def test_a_part_of_a_word_is_not_the_value(text: str, value: str) -> None:
    assert not holds(text, value)


@pytest.mark.parametrize(
    ("reply", "right"),
    [
        ("Your dog is called Rex.", True),
        ("Rex, not Bo.", True),
        ("It is Rex instead of Bo.", True),
        ("Your dog is called Bo.", False),
        ("Your dog is called Rex or Bo.", False),
        ("You told me Bo, and then Rex. It is Bo.", False),
        ("I don't know.", False),
    ],
)
def test_an_answer_gives_the_value_and_none_that_was_corrected(reply: str, right: bool) -> None:
    assert gives(reply, Ask(REX, "conversation", stale=("Bo",))) is right


@pytest.mark.parametrize(
    ("reply", "right"),
    [
        ("I don't know what your dog is called.", True),
        ("You haven't told me that yet.", True),
        ("Nothing in this conversation says who runs Payroll, so I can’t tell.", True),
        ("No idea, but I would say it is Hasso.", False),
        ("I don't know, maybe 14 of them.", False),
        ("Your dog is called Rex.", False),
        ("Dogs are wonderful animals.", False),
    ],
)
def test_not_knowing_is_said_and_nothing_is_brought_in(reply: str, right: bool) -> None:
    assert admits_not_knowing(reply, ["What is my dog called?", "Who runs Payroll?"]) is right


def test_notes_are_judged_by_what_is_missing_wrong_or_invented() -> None:
    wanted = [Noted(Fact(HEAD, "Dana", "finance")), Noted(REX)]
    heard = ["Dana runs finance.", "My dog is Rex."]
    good = ["Dana runs finance.", "The user's dog is called Rex."]
    assert fault_in_notes(good, wanted, [], heard) == ""
    assert fault_in_notes(["The user likes tea.", *good], wanted, ["The user likes tea."], heard) == ""
    assert "lost" in fault_in_notes(good, wanted, ["The user likes tea."], heard)
    assert "missing" in fault_in_notes(good[:1], wanted, [], heard)
    assert "missing" in fault_in_notes(["Dana runs sales.", good[1]], wanted, [], heard)
    assert "not wanted" in fault_in_notes([*good, "The user said hello."], wanted, [], heard)
    assert "invented" in fault_in_notes(["Dana runs finance in Lisbon.", good[1]], wanted, [], heard)


@pytest.mark.parametrize(
    ("topic", "reply", "right"),
    [
        ("learning", "No. My weights stay as they are.", True),
        ("learning", "Yes, I learn from every chat and improve over time.", False),
        ("fresh", "No, a new chat starts blank.", True),
        ("fresh", "Yes, I will remember it tomorrow.", False),
        ("note", "A note is text that is put into the next prompt.", True),
        ("rereading", "The whole conversation is read again for each reply.", True),
        ("rereading", "I have a wonderful brain.", False),
    ],
)
def test_what_it_says_of_itself_is_judged_by_key_words(topic: str, reply: str, right: bool) -> None:
    assert tells_of_itself(reply, topic) is right


def test_the_interval_is_wilsons() -> None:
    low, high = wilson(39, 40)
    assert (round(low, 3), round(high, 3)) == (0.871, 0.996)
    assert wilson(0, 40)[0] == 0.0
    assert wilson(40, 40)[1] == pytest.approx(1.0)
