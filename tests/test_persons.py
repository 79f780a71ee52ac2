"""Sentences turned round: from the first person, and from “the user”, to “you”, and into a note."""

from __future__ import annotations

import pytest

from chat.tuning.persons import from_first_person, from_third_person, to_third_person


@pytest.mark.parametrize(
    ("said", "answered"),
    [
        ("My dog is called {v}.", "Your dog is called {v}."),
        ("In our office, {v} is my neighbour.", "In your office, {v} is your neighbour."),
        ("I'm sure that I was born in {v}.", "You're sure that you were born in {v}."),
        ("They have put me at the desk next to {v}.", "They have put you at the desk next to {v}."),
        ("{v} cuts my hair.", "{v} cuts your hair."),
        ("We’ve moved our {s} to {v}.", "You've moved your {s} to {v}."),
        ("my dog is {v}", "Your dog is {v}."),
        ("btw im allergic to {v}!!", "You're allergic to {v}."),
        ("bought the {s} in {v} lol", "You bought the {s} in {v}."),
        ("finally moved to {v}", "You finally moved to {v}."),
        ("going to {v} with my {s}", "You're going to {v} with your {s}."),
        ("{s} is in the {v} team ok", "{s} is in the {v} team."),
    ],
)
def test_a_statement_is_turned_to_the_person_who_made_it_however_it_was_typed(said: str, answered: str) -> None:
    assert from_first_person(said) == answered


@pytest.mark.parametrize("said", ["u can have my {v}", "You know that I'm {v}.", "Ask me about {v}.", "Is {v} my dog?"])
def test_what_speaks_to_the_assistant_or_asks_is_left_alone(said: str) -> None:
    assert from_first_person(said) is None
    assert to_third_person(said) is None


@pytest.mark.parametrize(
    ("note", "answered"),
    [
        ("The user's dog is called {v}.", "Your dog is called {v}."),
        ("The user takes {v} of {s}.", "You take {v} of {s}."),
        ("The user studies {v}.", "You study {v}."),
        ("The user watches {v}.", "You watch {v}."),
        ("The user always orders {v}.", "You always order {v}."),
        ("The mountain the user has climbed is {v}.", "The mountain you have climbed is {v}."),
        ("The colleague who sits next to the user is {v}.", "The colleague who sits next to you is {v}."),
        ("The user celebrates their birthday on {v}.", "You celebrate your birthday on {v}."),
        ("{s} is married to {v}.", "{s} is married to {v}."),
    ],
)
def test_a_note_is_turned_to_the_user(note: str, answered: str) -> None:
    assert from_third_person(note) == answered


def test_a_note_in_which_a_word_may_mean_somebody_else_is_left_alone() -> None:
    assert from_third_person("The user's aunt gave the user her {v}.") is None


def test_a_statement_becomes_a_note_where_the_rule_is_sure() -> None:
    assert to_third_person("My {s} lives in {v}.") == "The user's {s} lives in {v}."
    assert to_third_person("In my view, {v} taught me.") == "In the user's view, {v} taught the user."
    assert to_third_person("I always study in {v}.") == "The user always studies in {v}."
    assert to_third_person("We need {v}, because we've sold our {s}.") == (
        "The user needs {v}, because the user has sold the user's {s}."
    )
    assert to_third_person("I don't like {v}.") == "The user doesn't like {v}."
    assert to_third_person("I went to {v}.") == "The user went to {v}."
    assert to_third_person("i work at {v} btw") == "The user works at {v}."
    assert to_third_person("I live in {v}, and I like {v}.") is None
