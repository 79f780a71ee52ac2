"""The made-up conversations: repeatable, of every kind, and right by the rules that judge a model."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from chat.tuning.acts import Ask, Correct, Tell
from chat.tuning.judges import admits_not_knowing, fault_in_notes, holds
from chat.tuning.maker import MadeUp, PersonsPart, make_conversation
from chat.tuning.mixture import SHARES
from chat.tuning.own_answers import OwnAnswers
from chat.tuning.slips import hurried
from chat.tuning.stories import StoryTeller
from chat.tuning.words import TRAINING, Words, load_words
from memory.notes import NOTE_WRITING, notes_in

OWN = OwnAnswers({"Which sea is salty?": "All of them."}, {"Hello!": "Hello to you."}, {"Why?": "Because."})
ASKED = {*OWN.to_questions, *OWN.to_prompts, *OWN.to_own_questions}
SEVERAL = range(1_000)


@pytest.fixture(scope="module")
def words() -> Words:
    return load_words(TRAINING)


@pytest.fixture(scope="module")
def made(words: Words) -> list[MadeUp]:
    return [make_conversation(words, OWN, NOTE_WRITING, 7, number) for number in SEVERAL]


def test_a_number_always_gives_the_same_conversation(words: Words, made: list[MadeUp]) -> None:
    assert made[:40] == [make_conversation(words, OWN, NOTE_WRITING, 7, number) for number in range(40)]
    assert made[0] != make_conversation(words, OWN, NOTE_WRITING, 8, 0)


def test_every_kind_is_made_about_as_often_as_its_share_says(made: list[MadeUp]) -> None:
    assert sum(SHARES.values()) == pytest.approx(1)
    counted = Counter(conversation.kind for conversation in made)
    assert set(counted) == set(SHARES)
    for kind, share in SHARES.items():
        assert counted[kind] / len(made) == pytest.approx(share, abs=0.04), kind


def test_the_base_models_own_replies_are_held_to_its_probabilities_where_nobody_judged_them(
    made: list[MadeUp],
) -> None:
    exchanges = [exchange for conversation in made for exchange in conversation.exchanges]
    held = {exchange.message: exchange.kept for exchange in exchanges if exchange.message in ASKED}
    assert held == {"Which sea is salty?": False, "Hello!": True, "Why?": True}


def test_no_slot_is_left_open_and_no_line_is_empty(made: list[MadeUp]) -> None:
    for conversation in made:
        for exchange in conversation.exchanges:
            assert exchange.message.strip()
            assert exchange.reply.strip()
            assert "{" not in exchange.message + exchange.reply


def test_mistakes_stand_in_the_conversation_and_are_not_learned(made: list[MadeUp]) -> None:
    unlearned = [e for conversation in made for e in conversation.exchanges if not e.learned]
    assert unlearned
    assert all(conversation.exchanges[-1].learned for conversation in made)


def test_messages_hold_one_fact_and_four(words: Words) -> None:
    told = [StoryTeller(words, Random(number)).story("told") for number in range(60)]
    assert {len(story.acts[0].facts) for story in told if isinstance(story.acts[0], Tell)} >= {1, 4}


def test_the_kinds_of_correction_are_all_there(words: Words) -> None:
    stories = [StoryTeller(words, Random(number)).story("corrected") for number in range(120)]
    corrections = [[act for act in story.acts if isinstance(act, Correct)] for story in stories]
    assert {act.whose for acts in corrections for act in acts} == {"model", "person"}
    assert any(len(acts) == 2 and not acts[0].ignored for acts in corrections), "twice over"
    partly = [story for story in stories if isinstance(story.acts[0], Tell) and len(story.acts[0].facts) > 1]
    assert any(sum(isinstance(act, Ask) for act in story.acts) == 2 for story in partly), "partly"


def test_two_facts_are_corrected_in_one_message_that_states_both(words: Words) -> None:
    for number in range(30):
        rng = Random(number)
        story = StoryTeller(words, rng).story("both corrected")
        correction = next(act for act in story.acts if isinstance(act, Correct))
        message = PersonsPart(words, rng).correct(correction).message
        for fact in (correction.fact, *correction.also):
            assert fact.stands_in(message), message


def test_a_correction_goes_on_behind_a_comma_as_people_write_it(words: Words) -> None:
    said = []
    for number in range(3_000):
        rng = Random(number)
        corrections = [act for act in StoryTeller(words, rng).story("both corrected").acts if isinstance(act, Correct)]
        said += [PersonsPart(words, rng).correct(act).message for act in corrections]
    behind = [message.removeprefix("No, ") for message in said if message.startswith("No, ")]
    assert any(rest.startswith(("my ", "our ", "the ")) for rest in behind)
    assert any(rest.startswith(("I ", "I'm ")) for rest in behind)
    assert not [rest for rest in behind if rest.startswith(("My ", "Our ", "The ", "In ", "For "))]


def test_ten_turns_of_other_talk_lie_between_in_a_distracted_story(words: Words) -> None:
    story = StoryTeller(words, Random(1)).story("distracted")
    assert len(story.acts) >= 12


def test_replies_to_what_was_never_said_admit_it(made: list[MadeUp]) -> None:
    fresh = [conversation for conversation in made if conversation.kind == "fresh"]
    assert fresh
    for conversation in fresh:
        heard = [*conversation.notes, *(exchange.message for exchange in conversation.exchanges)]
        for exchange in conversation.exchanges:
            first_sentence = exchange.reply.split(".")[0]
            assert admits_not_knowing(exchange.reply, [*heard, first_sentence]), exchange


def test_written_notes_pass_the_judge_of_notes(words: Words) -> None:
    for number in range(60):
        rng = Random(f"notes/{number}")
        story = StoryTeller(words, rng).story("notes written")
        assert story.to_note is not None
        lines = [noted.fact.canonical_note(noted.fact.relation.statements[0]) for noted in story.to_note]
        assert fault_in_notes(lines, story.to_note, [], lines) == ""


def test_a_replaced_note_is_quoted_word_for_word(made: list[MadeUp]) -> None:
    replaced = [conversation for conversation in made if conversation.kind == "notes replaced"]
    quoted = [{note.replaces for note in notes_in(each.exchanges[-1].reply)} - {None} for each in replaced]
    assert all(lines <= set(each.notes) for lines, each in zip(quoted, replaced, strict=True))
    assert any(quoted)


def test_notes_on_one_exchange_have_what_it_states_and_nothing_else(made: list[MadeUp]) -> None:
    noted = [each for each in made if each.kind in ("notes written", "notes replaced")]
    assert {len(each.exchanges) for each in noted} == {2, 3}
    for each in noted:
        *_, read, asked = each.exchanges
        assert asked.message == NOTE_WRITING.request
        lines = notes_in(asked.reply)
        assert not {line.text for line in lines} & set(each.notes), "what is saved is left out"
        assert bool(lines) == (read.learned and asked.learned), "only what the person tells is noted"


def test_where_many_notes_are_replaced_each_goes_once_and_those_about_something_else_stay(words: Words) -> None:
    shares = []
    for number in range(60):
        story = StoryTeller(words, Random(number), most_asked=5, strange=0.2).story("many replaced")
        assert story.to_note is not None
        (told,) = (act.facts for act in story.acts if isinstance(act, Tell))
        assert {noted.fact for noted in story.to_note} == set(told)
        outdated = [noted.replaces for noted in story.to_note if noted.replaces]
        assert len(set(outdated)) == len(outdated)
        assert set(outdated) <= set(story.notes)
        for noted in story.to_note:
            assert noted.replaces is None or not noted.fact.stands_in(noted.replaces), "it says something else"
        shares.append((len(outdated), len(story.to_note) - len(outdated), len(story.notes) - len(outdated)))
    replaced, new, left = map(sum, zip(*shares, strict=True))
    assert min(replaced, new, left) > 40, "of each kind of decision there are many"


def test_hurried_typing_spares_values() -> None:
    text = "My cousin Ana-Lucía paints the Old Harbour every Tuesday morning."
    for number in range(50):
        typed = hurried(text, ["Ana-Lucía", "the Old Harbour"], Random(number))
        assert holds(typed, "Ana-Lucía")
        assert "the Old Harbour" in typed
    assert len({hurried(text, [], Random(number)) for number in range(50)}) > 10
