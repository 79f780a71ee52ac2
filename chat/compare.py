"""One question, several contexts: the same model and the same weights, answering from different prompts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from queue import SimpleQueue
from typing import Literal

from chat.errors import MarginaliaError
from chat.local_model import LocalModel
from chat.turn import Begun, TurnEvent, TurnRequest, TurnStore, run_turn
from chat.types import Note, Sampling

PaneName = Literal["fresh", "continued", "memory", "edited", "other", "sampled", "untuned"]


@dataclass(frozen=True)
class Pane:
    """One of the contexts that a question can be asked in."""

    name: PaneName
    title: str


ALL_PANES: tuple[Pane, ...] = (
    Pane("fresh", "A fresh session"),
    Pane("continued", "This conversation, continued"),
    Pane("memory", "A fresh session with memory"),
    Pane("edited", "A fresh session with other notes"),
    Pane("other", "Another conversation, continued"),
    Pane("sampled", "This conversation, sampled otherwise"),
    Pane("untuned", "This conversation, without our tuning"),
)
PANES: tuple[Pane, ...] = ALL_PANES[:3]
"""Those that stand there if nobody chooses."""


@dataclass(frozen=True)
class Setting:
    """What the panes are made of, besides the question.

    `other_conversation` is what “other” reads, `notes` are the lines of “edited”, `other_sampling` is how “sampled”
    chooses.
    """

    conversation: str | None
    sampling: Sampling
    other_conversation: str | None = None
    notes: tuple[str, ...] = ()
    other_sampling: Sampling | None = None


@dataclass(frozen=True)
class PaneLoading:
    """A pane's model is being loaded; the others go on."""


@dataclass(frozen=True)
class PaneFailed:
    """A pane that cannot answer, and why; the others go on."""

    sentence: str


PaneEvent = TurnEvent | PaneLoading | PaneFailed


def run_compare(
    question: str,
    recorded_in: str,
    panes: tuple[Pane, ...],
    setting: Setting,
    store: TurnStore,
    model: LocalModel,
    stop: threading.Event,
    lane: str = "",
    untuned: Callable[[], LocalModel] | None = None,
) -> Iterator[tuple[Pane, PaneEvent]]:
    """Ask the question in every pane and tell what each does, as it does it.

    Conversations are read and left as they are; the panes' turns are recorded in `recorded_in`, one beside the other,
    each at its pane's place in ALL_PANES. `untuned` gives the model that the pane of this name asks; it may take its
    time. Set `stop`, or close the iterator, to end them all within one token.
    """
    runs: dict[Pane, Iterator[PaneEvent]] = {}
    for pane in panes:
        request = _request(pane, question, recorded_in, setting, lane)
        if pane.name == "untuned":
            runs[pane] = _untuned_events(request, store, untuned, stop)
        else:
            runs[pane] = _pane_events(request, store, model, stop)
    yield from _all_at_once(runs, stop)


def _request(pane: Pane, question: str, recorded_in: str, setting: Setting, lane: str) -> TurnRequest:
    fresh = TurnRequest(
        conversation_id=recorded_in,
        message=question,
        reads=None,
        use_memory=False,
        sampling=setting.sampling,
        position=ALL_PANES.index(pane),
        lane=lane,
    )
    match pane.name:
        case "fresh":
            return fresh
        case "continued":
            return replace(fresh, reads=setting.conversation)
        case "memory":
            return replace(fresh, use_memory=True)
        case "edited":
            lines = tuple(Note(f"edited-{place}", text) for place, text in enumerate(setting.notes, 1))
            return replace(fresh, use_memory=True, notes=lines)
        case "other":
            return replace(fresh, reads=setting.other_conversation)
        case "untuned":
            return replace(fresh, reads=setting.conversation)
        case "sampled":
            return replace(fresh, reads=setting.conversation, sampling=setting.other_sampling or setting.sampling)


def _all_at_once(runs: Mapping[Pane, Iterator[PaneEvent]], stop: threading.Event) -> Iterator[tuple[Pane, PaneEvent]]:
    told: SimpleQueue[tuple[Pane, PaneEvent] | None] = SimpleQueue()
    threads = []
    for pane, events in runs.items():
        in_line = threading.Event()
        threads.append(threading.Thread(target=_tell, args=(pane, events, told, in_line), name=f"compare-{pane.name}"))
        threads[-1].start()
        # The queue serves the panes in the order in which they stand on the screen.
        in_line.wait()
    try:
        running = len(threads)
        while running:
            event = told.get()
            if event is None:
                running -= 1
            else:
                yield event
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _pane_events(
    request: TurnRequest, store: TurnStore, model: LocalModel, stop: threading.Event
) -> Iterator[PaneEvent]:
    try:
        yield from run_turn(request, store, model, stop)
    except MarginaliaError as error:
        yield PaneFailed(str(error))


def _untuned_events(
    request: TurnRequest, store: TurnStore, untuned: Callable[[], LocalModel] | None, stop: threading.Event
) -> Iterator[PaneEvent]:
    if untuned is None:
        yield PaneFailed("There is no untuned model beside the one that runs: only the default model has one.")
        return
    yield PaneLoading()
    try:
        model = untuned()
    except MarginaliaError as error:
        yield PaneFailed(str(error))
        return
    yield from _pane_events(request, store, model, stop)


def _tell(
    pane: Pane,
    events: Iterator[PaneEvent],
    told: SimpleQueue[tuple[Pane, PaneEvent] | None],
    in_line: threading.Event,
) -> None:
    try:
        for event in events:
            told.put((pane, event))
            if not isinstance(event, Begun):
                in_line.set()
    finally:
        in_line.set()
        told.put(None)
