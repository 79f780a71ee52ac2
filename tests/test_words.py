"""The tables: enough of everything, well formed, and the held-out set shares nothing with the training set."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from chat.tuning.words import HELD_OUT, TRAINING, Relation, Words, load_words

ALLOWED = {
    "statements": {"v", "s"},
    "questions": {"s"},
    "choices": {"v", "w", "s"},
    "answers": {"v", "s"},
    "corrections": {"v", "old", "s"},
    "notes": {"v", "s"},
}
NEEDED = {"statements": "v", "choices": "vw", "answers": "v", "corrections": "v", "notes": "v"}
PERSONS_LISTS = ("telling", "asking", "correcting_model", "correcting_self", "distractors")


@pytest.fixture(scope="module")
def training() -> Words:
    return load_words(TRAINING)


@pytest.fixture(scope="module")
def held_out() -> Words:
    return load_words(HELD_OUT)


def plain(text: str) -> str:
    return re.sub(r"\W+", " ", text.casefold()).strip()


def values_of(words: Words) -> set[str]:
    families = {relation.value for relation in words.relations} | {"first_name", "full_name"}
    return {plain(value) for family in families for value in words.families[family]}


def persons_words(words: Words) -> set[str]:
    """Every wording of the person's side, the bare slots aside."""

    def wordings() -> Iterator[str]:
        for relation in words.relations:
            yield from (*relation.statements, *relation.questions, *relation.choices, *relation.corrections)
        for name in PERSONS_LISTS:
            yield from getattr(words.phrases, name)
        yield from (thanks.say for thanks in words.phrases.thanks)
        yield from (ask for talk in words.phrases.self_talk for ask in talk.asks)
        yield from (question.ask for question in words.questions)
        yield from words.prompts

    return {plain(wording) for wording in wordings()} - {"facts", "question"}


def test_the_training_set_is_as_broad_as_life_asks_for(training: Words) -> None:
    assert len(training.relations) >= 60
    assert len(training.families["first_name"]) >= 500
    sizes = [len(value.split()) for value in values_of(training)]
    assert min(sizes) == 1
    assert {1, 2, 3, 4, 5} <= set(sizes)
    wordings = [len(each.statements) + len(each.questions) + len(each.corrections) for each in training.relations]
    assert sum(count >= 22 for count in wordings) >= 250
    assert min(wordings) >= 9
    assert len(training.phrases.correcting_model) + len(training.phrases.correcting_self) >= 60


def test_the_held_out_set_is_large_enough_to_judge_by(held_out: Words) -> None:
    assert len(held_out.relations) >= 40
    assert len(held_out.questions) >= 150
    assert len(held_out.prompts) >= 40


def test_no_held_out_relation_is_trained_on(training: Words, held_out: Words) -> None:
    assert not {relation.name for relation in training.relations} & {relation.name for relation in held_out.relations}


def test_no_held_out_name_or_value_is_trained_on(training: Words, held_out: Words) -> None:
    assert not values_of(training) & values_of(held_out)


def test_no_held_out_wording_is_trained_on(training: Words, held_out: Words) -> None:
    assert not persons_words(training) & persons_words(held_out)


@pytest.mark.parametrize("folder", [TRAINING, HELD_OUT], ids=["training", "held out"])
def test_every_wording_has_the_slots_that_it_needs_and_no_other(folder: object) -> None:
    words = load_words(folder)  # type: ignore[arg-type]
    faults = [fault for relation in words.relations for fault in slot_faults(relation)]
    assert not faults


def slot_faults(relation: Relation) -> Iterator[str]:
    for kind, allowed in ALLOWED.items():
        for line in getattr(relation, kind):
            slots = set(re.findall(r"\{(.*?)\}", line))
            if not set(NEEDED.get(kind, "")) <= slots <= allowed or ("s" in slots and not relation.subject):
                yield f"{relation.name}: {line}"


@pytest.mark.parametrize("folder", [TRAINING, HELD_OUT], ids=["training", "held out"])
def test_no_value_hides_in_another_of_its_family(folder: object) -> None:
    words = load_words(folder)  # type: ignore[arg-type]
    for family in {relation.value for relation in words.relations}:
        values = [plain(value) for value in words.families[family]]
        assert len(set(values)) == len(values), family
        hidden = [(a, b) for a in values for b in values if a != b and f" {a} " in f" {b} "]
        assert not hidden, family


def test_no_accepted_answer_stands_in_its_own_held_out_question(held_out: Words) -> None:
    for question in held_out.questions:
        for form in question.accept:
            assert f" {plain(form)} " not in f" {plain(question.ask)} ", question.ask
