"""The one thread that owns the model, and the queue before it.

Each lane (one person, say) is served first come, first served; between lanes the worker goes round, so that a person
with many requests does not keep the others waiting for all of them.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import zip_longest
from queue import Empty, SimpleQueue
from typing import Any

from chat.engine.events import Event, Finished, Queued
from chat.engine.generation import Generation, Request
from chat.engine.prefix_cache import PrefixCache
from chat.errors import EngineError
from chat.types import Sampling

_log = logging.getLogger(__name__)

# How often a waiting request is heard of; a reader that has gone away is noticed no later than this.
HEARTBEAT_SECONDS = 0.2


@dataclass(eq=False)
class _Job:
    request: Request
    lane: str
    events: SimpleQueue[Event] = field(default_factory=SimpleQueue)


class Engine:
    """Serves requests one after another. Safe to call from any number of threads.

    `model` is a transformers causal language model; `stop_token_ids` end a reply.
    """

    def __init__(self, model: Any, stop_token_ids: frozenset[int], prefix_cache: PrefixCache | None = None) -> None:
        self._model = model
        self._stop_token_ids = stop_token_ids
        self._prefix_cache = prefix_cache or PrefixCache()
        self._lanes: OrderedDict[str, deque[_Job]] = OrderedDict()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name="marginalia-engine", daemon=True)
        self._thread.start()

    def generate(
        self, token_ids: tuple[int, ...], sampling: Sampling, stop: threading.Event, lane: str = ""
    ) -> Iterator[Event]:
        """Queue a request and follow it. The last event is Finished; set `stop` to end it within one token.

        A reader that is closed early ends the request too. Raises EngineError if the engine is not running.
        """
        assert token_ids, "a prompt has at least one token"
        abandoned = threading.Event()
        request = Request(token_ids, sampling, lambda: self._closed or stop.is_set() or abandoned.is_set())
        job = _Job(request, lane)
        self._enqueue(job)
        try:
            yield from self._follow(job)
        finally:
            abandoned.set()

    def close(self) -> None:
        """Stop serving: the request that runs ends at its next token, those that wait end as cancelled."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def _enqueue(self, job: _Job) -> None:
        with self._changed:
            if self._closed:
                raise EngineError("The model is shutting down. Start Marginalia again, then press Retry.")
            self._lanes.setdefault(job.lane, deque()).append(job)
            self._changed.notify_all()

    def _follow(self, job: _Job) -> Iterator[Event]:
        while True:
            # Asked first, so that what the thread told before it ended is still heard.
            serving = self._thread.is_alive()
            try:
                event = job.events.get(timeout=HEARTBEAT_SECONDS)
            except Empty:
                event = self._while_waiting(job, serving)
            yield event
            if isinstance(event, Finished):
                return

    def _while_waiting(self, job: _Job, serving: bool) -> Event:
        if not serving:
            raise EngineError("The model has stopped running. Start Marginalia again, then press Retry.")
        with self._changed:
            rounds = zip_longest(*self._lanes.values())
            waiting = [other for served in rounds for other in served if other is not None]
            if job not in waiting:
                return Queued(0)
            if not job.request.cancelled():
                return Queued(waiting.index(job) + 1)
            self._lanes[job.lane].remove(job)
            if not self._lanes[job.lane]:
                del self._lanes[job.lane]
        return self._generation(job).finished("cancelled")

    def _generation(self, job: _Job) -> Generation:
        return Generation(self._model, self._stop_token_ids, self._prefix_cache, job.request)

    def _next_job(self) -> _Job | None:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._lanes)
            if not self._lanes:
                return None
            lane, jobs = self._lanes.popitem(last=False)
            job = jobs.popleft()
            if jobs:
                self._lanes[lane] = jobs
            return job

    def _serve(self) -> None:
        while job := self._next_job():
            generation = self._generation(job)
            try:
                for event in generation.events():
                    job.events.put(event)
            except Exception as error:  # noqa: BLE001  whatever the model raises ends this request and no other
                _log.exception("a request failed inside the model")
                sentence = f"The model failed while answering ({type(error).__name__}: {error}). Press Retry."
                job.events.put(generation.finished("error", sentence))
