"""One question, several contexts: the same model and the same weights, answering from different prompts."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Literal

from chat.errors import MarginaliaError
from chat.local_model import LocalModel
from chat.turn import Begun, TurnEvent, TurnRequest, TurnStore, run_turn
from chat.types import Sampling

PaneName = Literal["fresh", "continued", "memory"]


@dataclass(frozen=True)
class Pane:
    """One of the contexts that a question is asked in."""

    name: PaneName
    title: str
    reads_conversation: bool
    use_memory: bool


PANES: tuple[Pane, ...] = (
    Pane("fresh", "A fresh session", reads_conversation=False, use_memory=False),
    Pane("continued", "This conversation, continued", reads_conversation=True, use_memory=False),
    Pane("memory", "A fresh session with memory", reads_conversation=False, use_memory=True),
)


@dataclass(frozen=True)
class PaneFailed:
    """A pane that cannot answer, and why; the others go on."""

    sentence: str


def run_compare(
    question: str,
    recorded_in: str,
    conversation_id: str | None,
    store: TurnStore,
    model: LocalModel,
    sampling: Sampling,
    stop: threading.Event,
    lane: str = "",
) -> Iterator[tuple[Pane, TurnEvent | PaneFailed]]:
    """Ask the question in every pane and tell what each does, as it does it.

    `conversation_id` is read and left as it is; the panes' turns are recorded in `recorded_in`, one beside the other.
    Set `stop`, or close the iterator, to end them all within one token.
    """
    requests = [
        TurnRequest(
            conversation_id=recorded_in,
            message=question,
            reads=conversation_id if pane.reads_conversation else None,
            use_memory=pane.use_memory,
            sampling=sampling,
            position=place,
            lane=lane,
        )
        for place, pane in enumerate(PANES)
    ]
    yield from _all_at_once(requests, store, model, stop)


def _all_at_once(
    requests: list[TurnRequest], store: TurnStore, model: LocalModel, stop: threading.Event
) -> Iterator[tuple[Pane, TurnEvent | PaneFailed]]:
    told: SimpleQueue[tuple[Pane, TurnEvent | PaneFailed] | None] = SimpleQueue()
    threads = []
    for pane, request in zip(PANES, requests, strict=True):
        in_line = threading.Event()
        events = _pane_events(request, store, model, stop)
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
) -> Iterator[TurnEvent | PaneFailed]:
    try:
        yield from run_turn(request, store, model, stop)
    except MarginaliaError as error:
        yield PaneFailed(str(error))


def _tell(
    pane: Pane,
    events: Iterator[TurnEvent | PaneFailed],
    told: SimpleQueue[tuple[Pane, TurnEvent | PaneFailed] | None],
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
