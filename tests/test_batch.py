"""Requests that are served together: they join and leave, share what they read, and none spoils another's reply."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from conftest import PATIENCE, logits_of

from chat.engine import Engine, Event, Finished, Prefilling, PrefixCache, Queued, TokensChosen
from chat.engine.llama import LlamaForward
from chat.types import Sampling
from chat.weights import LoadedModel

Step = Any


class Door:
    """Stands before every forward pass of ours: it can be held shut, notes who takes a step, and can trip."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open = threading.Event()
        self.open.set()
        self.someone_waits = threading.Event()
        self.read: list[int] = []
        self.stepped: list[int] = []
        self.trips: dict[int, Exception] = {}
        reads, steps = LlamaForward.read, LlamaForward.step

        def read(forward: LlamaForward, ids: Sequence[int], cache: Any) -> torch.Tensor:
            self._pass()
            self.read.append(len(ids))
            return reads(forward, ids, cache)

        def step(forward: LlamaForward, ids: Sequence[Sequence[int]], caches: Sequence[Any]) -> Sequence[torch.Tensor]:
            self._pass()
            self.stepped.append(len(ids))
            trip = self.trips.pop(len(self.stepped), None)
            if trip is not None:
                raise trip
            return steps(forward, ids, caches)

        monkeypatch.setattr(LlamaForward, "read", read)
        monkeypatch.setattr(LlamaForward, "step", step)

    def _pass(self) -> None:
        self.someone_waits.set()
        assert self.open.wait(PATIENCE)


@pytest.fixture(autouse=True)
def quick_heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chat.engine.worker.HEARTBEAT_SECONDS", 0.01)


@pytest.fixture
def door(monkeypatch: pytest.MonkeyPatch) -> Door:
    return Door(monkeypatch)


@pytest.fixture
def engine(tiny_llama: LoadedModel, door: Door) -> Iterator[Engine]:
    engine = Engine(tiny_llama.model, frozenset(), PrefixCache(), max_running=3)
    yield engine
    door.open.set()
    engine.close()


def prompt(length: int, seed: int) -> tuple[int, ...]:
    return tuple(10 + (seed * 37 + place * place * 11) % 500 for place in range(length))


def follow(
    engine: Engine, ids: Sequence[int], tokens: int = 8, stop: threading.Event | None = None, **how: Any
) -> Iterator[Event]:
    return engine.generate(tuple(ids), Sampling(max_new_tokens=tokens, **how), stop or threading.Event(), "")


def ids_of(events: Sequence[Event]) -> list[int]:
    return [token_id for event in events if isinstance(event, TokensChosen) for token_id in event.token_ids]


def end_of(events: Sequence[Event]) -> Finished:
    assert isinstance(events[-1], Finished)
    return events[-1]


def all_at_once(door: Door, requests: Sequence[Iterator[Event]]) -> list[list[Event]]:
    """Have all requests in the queue before the first of them is served, and follow each to its end."""
    door.open.clear()
    with ThreadPoolExecutor(len(requests)) as pool:
        begun = [pool.submit(next, request) for request in requests]
        heard = [one.result(PATIENCE) for one in begun]
        assert all(isinstance(event, Queued) for event in heard)
        door.open.set()
        return [end.result(PATIENCE) for end in [pool.submit(list, request) for request in requests]]


def test_three_take_their_steps_together_and_a_fourth_waits_for_one_to_end(engine: Engine, door: Door) -> None:
    lengths = (4, 9, 12, 6)
    alone = [ids_of(list(follow(engine, prompt(20, seed), tokens))) for seed, tokens in enumerate(lengths)]
    door.stepped.clear()
    requests = [follow(engine, prompt(20, seed), tokens) for seed, tokens in enumerate(lengths)]
    together = all_at_once(door, requests)
    assert [ids_of(events) for events in together] == alone
    assert max(door.stepped) == 3
    assert len(door.stepped) < sum(lengths) - len(lengths)


def test_whoever_waits_while_a_place_is_free_has_nobody_before_them(engine: Engine, door: Door) -> None:
    door.open.clear()
    requests = [follow(engine, prompt(20, seed)) for seed in range(6)]
    next(requests[0])
    assert door.someone_waits.wait(PATIENCE)
    places = [next(request) for request in requests[1:]]
    assert places == [Queued(0), Queued(0), Queued(1), Queued(2), Queued(3)]
    door.open.set()
    for request in requests:
        assert end_of(list(request)).reason == "length"


def test_a_step_that_fails_for_all_is_taken_alone_by_each_and_no_reply_is_spoiled(engine: Engine, door: Door) -> None:
    alone = [ids_of(list(follow(engine, prompt(40, seed)))) for seed in range(3)]
    door.stepped.clear()
    door.trips = {5: RuntimeError("out of chalk")}
    together = all_at_once(door, [follow(engine, prompt(40, seed)) for seed in range(3)])
    assert [ids_of(events) for events in together] == alone
    assert {end_of(events).reason for events in together} == {"length"}
    assert not door.trips


def test_a_failure_behind_the_last_layer_leaves_every_cache_as_it_was(
    tiny_llama: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = LlamaForward(tiny_llama.model)
    caches = [forward.new_cache() for _ in range(2)]
    for seed, cache in enumerate(caches):
        forward.read(prompt(30, seed), cache)
    with monkeypatch.context() as broken:
        broken.setattr(LlamaForward, "_logits", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            forward.step([[11], [12]], caches)
    assert [cache.length for cache in caches] == [30, 30]
    fresh = forward.new_cache()
    forward.read(prompt(30, 0), fresh)
    one, other = (logits_of(*forward.step([[11]], [cache])[0]) for cache in (caches[0], fresh))
    assert torch.equal(one, other)


def test_one_that_is_stopped_leaves_and_the_others_go_on(engine: Engine) -> None:
    stop = threading.Event()
    requests = [follow(engine, prompt(20, 1), 60, stop), follow(engine, prompt(20, 2), 12)]
    stopped: list[Event] = []
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(list, requests[1])
        for event in requests[0]:
            stopped.append(event)
            if ids_of(stopped):
                stop.set()
        assert end_of(other.result(PATIENCE)).reason == "length"
    assert end_of(stopped).reason == "cancelled"
    assert len(ids_of(stopped)) < 60


def test_a_token_is_chosen_between_any_two_blocks_of_another_prompt(engine: Engine, door: Door) -> None:
    talking = follow(engine, prompt(10, 1), 60)
    heard: list[Event] = []
    while not ids_of(heard):
        heard.append(next(talking))
    door.open.clear()
    reading = follow(engine, prompt(900, 2), 1)
    next(reading)
    before = len(door.stepped)
    door.open.set()
    list(reading)
    blocks = 8 + 6  # eight of 32, then of 128
    assert len(door.stepped) - before >= blocks - 1
    assert end_of(list(talking)).reason == "length"


def test_prompts_that_are_read_side_by_side_share_their_beginning(engine: Engine, door: Door) -> None:
    ids = prompt(300, 5)
    together = all_at_once(door, [follow(engine, (*ids, last), 3) for last in (20, 21, 22)])
    usages = [end_of(events).usage for events in together]
    assert all(usage.cached_tokens + usage.prefilled_tokens == 301 for usage in usages)
    assert sum(door.read) == 256 + 3 * 45, "each whole block once, whoever's turn it was; the rest each alone"
    done = [event.done for event in together[0] if isinstance(event, Prefilling)]
    assert done == sorted(done)
    assert done[-1] == 301


def test_a_seed_that_cannot_be_used_fails_its_request_alone(engine: Engine, door: Door) -> None:
    bad, good = all_at_once(
        door, [follow(engine, prompt(20, 1), temperature=1.0, seed=2**70), follow(engine, prompt(20, 2))]
    )
    assert end_of(bad).reason == "error"
    assert end_of(good).reason == "length"
