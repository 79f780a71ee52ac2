"""One question in three contexts: the same model, the same weights, other prompts."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Generator
from typing import Any

import pytest
from conftest import PATIENCE, WatchedModel

from chat.compare import ALL_PANES, PANES, Pane, PaneFailed, PaneName, Setting, run_compare
from chat.engine import Queued
from chat.errors import StoreError
from chat.local_model import LocalModel
from chat.turn import Begun, Done, Replying, TurnEvent, TurnRequest, run_turn
from chat.types import Receipt, Sampling
from memory.store import OwnerStore

QUESTION = "What is my name, and what do I drink?"

Event = tuple[Pane, TurnEvent | PaneFailed]
Run = Generator[Event, None, None]


@pytest.fixture(autouse=True)
def quick_heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits is told so at once, so that no test waits for it."""
    monkeypatch.setattr("chat.engine.worker.HEARTBEAT_SECONDS", 0.01)


@pytest.fixture
def conversation(store: OwnerStore, local_model: LocalModel) -> str:
    """A conversation with one answered turn, and a note beside it."""
    store.add_note("Ada likes tea.")
    conversation = store.new_conversation()
    request = TurnRequest(conversation, "My name is Ada.", conversation, False, Sampling(max_new_tokens=6))
    list(run_turn(request, store, local_model, threading.Event()))
    return conversation


@pytest.fixture
def comparison(store: OwnerStore) -> str:
    return store.new_conversation("compare", "A comparison")


@pytest.fixture
def compare(store: OwnerStore, local_model: LocalModel, conversation: str, comparison: str) -> Callable[..., Run]:
    def compare(
        stop: threading.Event | None = None,
        tokens: int = 6,
        reads: str | None = conversation,
        shelf: Any = store,
        panes: tuple[Pane, ...] = PANES,
        **other: Any,
    ) -> Run:
        setting = Setting(reads, Sampling(max_new_tokens=tokens), **other)
        run = run_compare(
            QUESTION, comparison, panes, setting, shelf, local_model, stop or threading.Event(), lane="ada"
        )
        assert isinstance(run, Generator)
        return run

    return compare


def by_pane(events: Run | list[Event]) -> dict[PaneName, list[TurnEvent | PaneFailed]]:
    told = defaultdict(list)
    for pane, event in events:
        told[pane.name].append(event)
    return told


def receipt_of(events: list[TurnEvent | PaneFailed]) -> Receipt:
    done = events[-1]
    assert isinstance(done, Done)
    return done.receipt


def kinds_in(receipt: Receipt) -> set[str]:
    return {segment.kind for segment in receipt.prompt.segments} - {"template"}


def test_each_pane_answers_the_same_question_from_the_prompt_it_promises(
    compare: Callable[..., Run], store: OwnerStore, conversation: str
) -> None:
    told = by_pane(compare())
    receipts = {name: receipt_of(events) for name, events in told.items()}
    assert {name: kinds_in(receipt) for name, receipt in receipts.items()} == {
        "fresh": {"system", "message"},
        "continued": {"system", "history", "message"},
        "memory": {"system", "note", "message"},
    }
    for events in told.values():
        assert [event.turn_id for event in events if isinstance(event, Begun)] == [receipt_of(events).turn_id]
        *_, replied = (event for event in events if isinstance(event, Replying))
        assert (replied.complete, replied.reply) == (True, receipt_of(events).completion.text)
    for receipt in receipts.values():
        (question,) = (segment.text for segment in receipt.prompt.segments if segment.kind == "message")
        assert question == QUESTION
    (past,) = store.turns(conversation)
    continued = {segment.source_turn_id for segment in receipts["continued"].prompt.segments} - {None}
    assert continued == {past.id}
    assert len({receipt.weights.after for receipt in receipts.values()}) == 1
    assert len({receipt.prompt.sha256 for receipt in receipts.values()}) == 3


def test_what_was_recorded_is_one_turn_a_pane_in_the_order_of_the_panes(
    compare: Callable[..., Run], store: OwnerStore, comparison: str
) -> None:
    receipts = {name: receipt_of(events) for name, events in by_pane(compare()).items()}
    turns = store.turns(comparison)
    assert [(turn.id, turn.position) for turn in turns] == [
        (receipts[pane.name].turn_id, place) for place, pane in enumerate(PANES)
    ]
    assert [turn.use_memory for turn in turns] == [False, False, True]
    assert [store.receipt(turn.id) for turn in turns] == [receipts[pane.name] for pane in PANES]


def test_any_prompts_can_be_compared_notes_of_ones_own_another_conversation_and_another_sampling(
    compare: Callable[..., Run], store: OwnerStore, local_model: LocalModel, comparison: str
) -> None:
    elsewhere = store.new_conversation()
    request = TurnRequest(elsewhere, "My name is Grace.", elsewhere, False, Sampling(max_new_tokens=6))
    list(run_turn(request, store, local_model, threading.Event()))
    warm = Sampling(temperature=1.5, seed=3, max_new_tokens=6)
    chosen = tuple(pane for pane in ALL_PANES if pane.name in ("edited", "other", "sampled"))
    events = compare(panes=chosen, other_conversation=elsewhere, notes=("Ada likes coffee.",), other_sampling=warm)
    receipts = {name: receipt_of(told) for name, told in by_pane(events).items()}

    notes = [segment.text for segment in receipts["edited"].prompt.segments if segment.kind == "note"]
    assert notes[1:] == ["\n- Ada likes coffee."], "not the shelf's, which has tea"
    assert "My name is Grace." in receipts["other"].prompt.text
    assert "My name is Ada." in receipts["sampled"].prompt.text
    assert receipts["sampled"].sampling == warm
    assert [turn.position for turn in store.turns(comparison)] == [3, 4, 5]
    assert [note.text for note in store.notes()] == ["Ada likes tea."]


def test_the_conversation_that_was_read_is_left_as_it_was(
    compare: Callable[..., Run], store: OwnerStore, conversation: str
) -> None:
    before = (store.conversation(conversation), store.turns(conversation), store.load_history(conversation))
    by_pane(compare())
    assert (store.conversation(conversation), store.turns(conversation), store.load_history(conversation)) == before


def test_a_pane_answers_as_the_same_prompt_does_anywhere(
    compare: Callable[..., Run], store: OwnerStore, local_model: LocalModel, conversation: str
) -> None:
    continued = receipt_of(by_pane(compare())["continued"])
    request = TurnRequest(conversation, QUESTION, conversation, False, Sampling(max_new_tokens=6))
    *_, done = run_turn(request, store, local_model, threading.Event())
    assert isinstance(done, Done)
    assert done.receipt.prompt.token_ids == continued.prompt.token_ids
    assert done.receipt.completion == continued.completion


def test_without_a_conversation_the_continued_pane_is_a_fresh_one(compare: Callable[..., Run]) -> None:
    told = by_pane(compare(reads=None))
    fresh, continued = receipt_of(told["fresh"]), receipt_of(told["continued"])
    assert fresh.prompt == continued.prompt
    assert fresh.completion == continued.completion


# Ended early


def waiting_for(stop: threading.Event) -> Callable[[int], None]:
    """Holds every pass of the model until there is a stop."""

    def wait(_number: int) -> None:
        assert stop.wait(PATIENCE)

    return wait


def test_stop_ends_every_pane_and_each_keeps_its_receipt(
    compare: Callable[..., Run], watched: WatchedModel, store: OwnerStore
) -> None:
    stop = threading.Event()
    run = compare(stop, tokens=500)
    watched.before = waiting_for(stop)
    begun: set[PaneName] = set()
    while len(begun) < len(PANES):
        pane, event = next(run)
        if isinstance(event, Begun):
            begun.add(pane.name)
    stop.set()
    told = by_pane(run)
    for events in told.values():
        receipt = receipt_of(events)
        assert receipt.completion.finish_reason == "cancelled"
        assert len(receipt.completion.token_ids) <= 1
        assert store.turn(receipt.turn_id).finish_reason == "cancelled"
    assert told.keys() == begun == {pane.name for pane in PANES}


def test_closing_early_ends_every_pane_and_leaves_no_thread_behind(
    compare: Callable[..., Run], watched: WatchedModel, store: OwnerStore, comparison: str
) -> None:
    threads = set(threading.enumerate())
    stop = threading.Event()
    run = compare(stop, tokens=500)
    watched.before = waiting_for(stop)
    while not isinstance(next(run)[1], Queued):
        pass
    run.close()
    assert set(threading.enumerate()) == threads
    assert {turn.finish_reason for turn in store.turns(comparison)} == {"cancelled"}
    assert all(store.receipt(turn.id).completion.finish_reason == "cancelled" for turn in store.turns(comparison))


def test_when_all_is_said_no_thread_is_left_behind(compare: Callable[..., Run]) -> None:
    threads = set(threading.enumerate())
    list(compare())
    assert set(threading.enumerate()) == threads


# One pane that cannot


class WithoutNotes:
    """A store whose notes cannot be read."""

    def __init__(self, store: OwnerStore) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def load_notes(self) -> None:
        raise StoreError("The notes cannot be read.")


def test_a_pane_that_cannot_answer_says_why_and_leaves_the_others(
    compare: Callable[..., Run], store: OwnerStore, comparison: str
) -> None:
    told = by_pane(compare(shelf=WithoutNotes(store)))
    assert told["memory"] == [PaneFailed("The notes cannot be read.")]
    assert receipt_of(told["fresh"]).completion.finish_reason == "length"
    assert receipt_of(told["continued"]).completion.finish_reason == "length"
    assert [turn.position for turn in store.turns(comparison)] == [0, 1]


def test_a_conversation_that_is_gone_fails_only_the_pane_that_reads_it(compare: Callable[..., Run]) -> None:
    told = by_pane(compare(reads="0" * 32))
    (failed,) = told["continued"]
    assert isinstance(failed, PaneFailed)
    assert "no conversation" in failed.sentence
    assert {name for name, events in told.items() if isinstance(events[-1], Done)} == {"fresh", "memory"}


def test_a_model_that_fails_in_one_pane_answers_in_the_others(
    compare: Callable[..., Run], watched: WatchedModel
) -> None:
    failed = threading.Event()

    def fail_once(_number: int) -> None:
        if not failed.is_set():
            failed.set()
            raise RuntimeError("out of chalk")

    run = compare()
    watched.before = fail_once
    errors = [event.error for _, event in run if isinstance(event, Done)]
    assert sorted(error or "" for error in errors) == [
        "",
        "",
        "The model failed while answering (RuntimeError: out of chalk). Press Retry.",
    ]
