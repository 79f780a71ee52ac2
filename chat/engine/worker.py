"""The one thread that owns the model, and the queue before it.

Up to `max_running` requests are served together: between any two steps some may join and some leave. In each round
one of those that still read their prompts reads a block, and then all others take a step in one forward pass; so a long
prompt delays nobody's next token by more than a block. Beyond that number requests wait. Each lane (one person, say)
is served first come, first served; between lanes the worker goes round, so that a person with many requests does not
keep the others waiting for all of them.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import zip_longest
from queue import Empty, SimpleQueue
from typing import Any

from chat.engine.events import Event, Finished, Queued, TokensChosen, joined
from chat.engine.forward import forward_of
from chat.engine.generation import Generation, Request
from chat.engine.prefix_cache import PrefixCache
from chat.engine.sampling import make_ready
from chat.errors import EngineError
from chat.types import Sampling

_log = logging.getLogger(__name__)

MAX_RUNNING = 8
# How often a waiting request is heard of; a reader that has gone away is noticed no later than this.
HEARTBEAT_SECONDS = 0.2
# Tokens are heard of in batches: who wakes up for each one takes a core that the next pass needs (tests/bench/LOG.md,
# 2026-11-27).
BATCH_SECONDS = 0.045


@dataclass(eq=False)
class _Job:
    request: Request
    events: SimpleQueue[Event] = field(default_factory=SimpleQueue)
    ended: threading.Event = field(default_factory=threading.Event)

    def tell(self, event: Event) -> None:
        self.events.put(event)
        if isinstance(event, Finished):
            self.ended.set()

    def heard(self) -> Iterator[Event]:
        """All that was told until now, tokens in one; waits for the first. Raises Empty after a heartbeat."""
        told = [self.events.get(timeout=HEARTBEAT_SECONDS)]
        while not self.events.empty():
            told.append(self.events.get())
        return joined(told)


class Engine:
    """Serves requests, up to `max_running` of them together. Safe to call from any number of threads.

    `model` is a transformers causal language model; `stop_token_ids` end a reply.
    """

    def __init__(
        self,
        model: Any,
        stop_token_ids: frozenset[int],
        prefix_cache: PrefixCache | None = None,
        max_running: int = MAX_RUNNING,
    ) -> None:
        self._forward = forward_of(model)
        make_ready()
        self._stop_token_ids = stop_token_ids
        self._max_running = max_running
        self._prefix_cache = prefix_cache or PrefixCache(exact=self._forward.exact)
        self._lanes: OrderedDict[str, deque[_Job]] = OrderedDict()
        self._changed = threading.Condition()
        self._closed = False
        self._running = 0
        self._thread = threading.Thread(target=self._serve, name="marginalia-engine", daemon=True)
        self._thread.start()

    def generate(
        self,
        token_ids: tuple[int, ...],
        sampling: Sampling,
        stop: threading.Event,
        lane: str = "",
        given: tuple[int, ...] = (),
    ) -> Iterator[Event]:
        """Queue a request and follow it. The last event is Finished; set `stop` to end it within one token.

        With `given`, these tokens are taken as the reply, and what the model thinks of each is told; `sampling` must
        leave room for them. A reader that is closed early ends the request too. Raises EngineError if the engine is not
        running.
        """
        assert token_ids, "a prompt has at least one token"
        assert not given or sampling.max_new_tokens == len(given), "a given reply has the length that is asked for"
        abandoned = threading.Event()

        def cancelled() -> bool:
            return self._closed or stop.is_set() or abandoned.is_set()

        request = Request(token_ids, sampling, cancelled, lane, given)
        job = _Job(request)
        self._enqueue(job)
        try:
            yield from self._follow(job)
        finally:
            abandoned.set()

    def close(self) -> None:
        """Stop serving: the requests that run end at their next token, those that wait end as cancelled."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def _enqueue(self, job: _Job) -> None:
        with self._changed:
            if self._closed:
                raise EngineError("The model is shutting down. Start Marginalia again, then press Retry.")
            self._lanes.setdefault(job.request.lane, deque()).append(job)
            self._changed.notify_all()

    def _follow(self, job: _Job) -> Iterator[Event]:
        while True:
            # Asked first, so that what the thread told before it ended is still heard.
            serving = self._thread.is_alive()
            try:
                heard = job.heard()
            except Empty:
                heard = iter([self._while_waiting(job, serving)])
            for event in heard:
                yield event
            if isinstance(event, Finished):
                return
            if isinstance(event, TokensChosen):
                job.ended.wait(BATCH_SECONDS)

    def _while_waiting(self, job: _Job, serving: bool) -> Event:
        if not serving:
            raise EngineError("The model has stopped running. Start Marginalia again, then press Retry.")
        with self._changed:
            rounds = zip_longest(*self._lanes.values())
            waiting = [other for served in rounds for other in served if other is not None]
            if job not in waiting:
                return Queued(0)
            if not job.request.cancelled():
                free = self._max_running - self._running
                return Queued(max(0, waiting.index(job) + 1 - free))
            lane = job.request.lane
            self._lanes[lane].remove(job)
            if not self._lanes[lane]:
                del self._lanes[lane]
        self._generation(job).finish("cancelled")
        return job.events.get()

    def _generation(self, job: _Job) -> Generation:
        return Generation(self._forward, self._prefix_cache, self._stop_token_ids, job.request, job.tell)

    def _serve(self) -> None:
        running: deque[Generation] = deque()
        while self._admit(running):
            for generation in running:
                generation.end_if_cancelled()
            self._read_one(running)
            self._step([one for one in running if not one.reading and not one.ended])
            running = deque(one for one in running if not one.ended)

    def _admit(self, running: deque[Generation]) -> bool:
        """Take in as many as fit; wait for one if there is none. False once the engine is closed and empty."""
        with self._changed:
            self._running = len(running)
            self._changed.wait_for(lambda: self._closed or self._lanes or running)
            while self._lanes and len(running) < self._max_running:
                lane, jobs = self._lanes.popitem(last=False)
                running.append(self._generation(jobs.popleft()))
                if jobs:
                    self._lanes[lane] = jobs
            self._running = len(running)
            return bool(running)

    def _read_one(self, running: deque[Generation]) -> None:
        """One block for one of those that still read; they take turns."""
        reading = next((one for one in running if one.reading and not one.ended), None)
        if reading is not None:
            self._guarded(reading, reading.read_block)
            running.remove(reading)
            running.append(reading)

    def _step(self, generations: list[Generation]) -> None:
        """One step for each, in one forward pass where that is quicker."""
        if len(generations) > 1 and self._forward.batched:
            try:
                odds = self._forward.step([one.ahead for one in generations], [one.cache for one in generations])
            except Exception:  # noqa: BLE001  the one that fails alone is the one to end
                _log.exception("a step for several requests failed; each is tried alone")
            else:
                for generation, its_own in zip(generations, odds, strict=True):
                    self._guarded(generation, partial(generation.take, its_own))
                return
        for generation in generations:
            self._guarded(generation, partial(self._step_alone, generation))

    def _step_alone(self, generation: Generation) -> None:
        (odds,) = self._forward.step([generation.ahead], [generation.cache])
        generation.take(odds)

    def _guarded(self, generation: Generation, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001  whatever the model raises ends this request and no other
            _log.exception("a request failed inside the model")
            sentence = f"The model failed while answering ({type(error).__name__}: {error}). Press Retry."
            generation.finish("error", sentence)
