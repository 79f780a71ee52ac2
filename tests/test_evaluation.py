"""The evaluation: played through the app's own pipeline, each story as a person of its own, and judged."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chat.local_model import LocalModel
from chat.tuning.card import record_evaluation
from chat.tuning.evaluation import STORY_KINDS, Outcome, Player, Task, tasks
from chat.tuning.report import evaluated
from chat.tuning.words import HELD_OUT, Words, load_words
from chat.turn import Done, TurnEvent
from chat.ui.service import Service
from memory.database import Database
from memory.notes import NOTE_WRITING


@pytest.fixture(scope="module")
def words() -> Words:
    return load_words(HELD_OUT)


@pytest.fixture
def service(local_model: LocalModel, database: Database) -> Service:
    return Service(local_model, database.for_owner, NOTE_WRITING)


class Parrot(Service):
    """The real pipeline with replies put into its receipts: everything heard so far, or one fixed sentence."""

    sentence = ""

    def send(self, *message: Any) -> Generator[TurnEvent, None, None]:
        *said, sampling = message
        short = replace(sampling, max_new_tokens=1)
        for event in super().send(*said, short):
            if isinstance(event, Done):
                receipt = event.receipt
                reply = self.sentence or receipt.prompt.text
                event = replace(event, receipt=replace(receipt, completion=replace(receipt.completion, text=reply)))
            yield event


@pytest.fixture
def parrot(local_model: LocalModel, database: Database) -> Parrot:
    return Parrot(local_model, database.for_owner, NOTE_WRITING)


def outcomes(player: Player, kind: str, count: int) -> Iterator[Outcome]:
    return (player.play(Task(kind, number)) for number in range(count))


def test_what_was_said_is_stored_with_the_models_own_replies(words: Words, service: Service) -> None:
    outcome = Player(words, service).play(Task("told", 0))
    store = service.store_of("told 0")
    (conversation,) = store.conversations()
    assert outcome.transcript == tuple((turn.message, turn.reply) for turn in store.turns(conversation.id))
    assert all(reply for _, reply in outcome.transcript)
    assert not outcome.right


def test_notes_of_a_story_are_saved_notes_in_its_prompt(words: Words, service: Service) -> None:
    outcome = Player(words, service).play(Task("noted", 0))
    store = service.store_of("noted 0")
    (conversation,) = store.conversations()
    receipt = store.receipt(store.turns(conversation.id)[0].id)
    assert outcome.notes
    assert all(f"\n- {note}" in receipt.prompt.text for note in outcome.notes)


def test_a_story_is_the_same_each_time(words: Words, parrot: Parrot) -> None:
    parrot.sentence = "I don't know."
    first = [[message for message, _ in outcome.transcript] for outcome in outcomes(Player(words, parrot), "fresh", 4)]
    again = [[message for message, _ in outcome.transcript] for outcome in outcomes(Player(words, parrot), "fresh", 4)]
    assert first == again


def test_who_repeats_everything_is_right_about_what_was_told_and_wrong_when_asked_fresh(
    words: Words, parrot: Parrot
) -> None:
    player = Player(words, parrot)
    assert any(outcome.right for outcome in outcomes(player, "told", 4))
    assert not any(outcome.right for outcome in outcomes(player, "fresh", 4))


def test_who_never_knows_is_right_when_asked_fresh_and_wrong_about_what_was_told(words: Words, parrot: Parrot) -> None:
    parrot.sentence = "I don't know."
    player = Player(words, parrot)
    assert all(outcome.right for outcome in outcomes(player, "fresh", 4))
    assert not any(outcome.right for outcome in outcomes(player, "told", 4))


def test_at_least_forty_stories_a_kind_and_every_question_are_tried_unless_less_is_asked_for(words: Words) -> None:
    everything = tasks(words, 40)
    assert {task.kind for task in everything} == {*STORY_KINDS, "about itself", "general", "chat"}
    assert sum(task.kind == "corrected" for task in everything) == 40
    assert sum(task.kind == "general" for task in everything) >= 150
    assert len(set(everything)) == len(everything)


def test_the_report_counts_by_kind_and_how_alike_open_replies_begin(tmp_path: Path) -> None:
    told = [Outcome("told", number, "" if number else "wrong", (("a", "b"),)) for number in range(4)]
    openings = ["Sure, here it is.", "Sure, here it goes.", "Well, no.", "Hello there, you."]
    chat = [Outcome("chat", number, "", (("hi", reply),)) for number, reply in enumerate(openings)]
    evaluation = evaluated("some model", [*told, *chat])
    (figure,) = evaluation.figures
    assert (figure.kind, figure.tried, figure.right, figure.share) == ("told", 4, 3, 0.75)
    assert figure.low < 0.75 < figure.high
    assert evaluation.commonest_opening == 0.5
    for name, text in (("adapter_model.safetensors", "x"), ("training.json", TRAINING_FIGURES)):
        (tmp_path / name).write_text(text)
    record_evaluation(tmp_path, evaluation, "2026-01-01")
    card = (tmp_path / "MODEL_CARD.md").read_text()
    assert "| kind | some model |" in card
    assert "3 of 4, 75.0%" in card


TRAINING_FIGURES = """{"recipe": {"seed": 1, "rank": 1, "alpha": 2, "cycles": [{"steps": 2, "learning_rate": 0.1}],
"conversations_per_step": 1}, "conversations": 2, "tokens": 9, "learned_tokens": 3, "seconds": 1.0, "first_loss": 2.0,
"last_unseen_loss": 1.0, "hardware": "an abacus", "parameters": 1, "adapter_parameters": 1, "flops": 90,
"relations": 1, "names": 1, "finished": "2026-01-01"}"""
