"""Token ids in, token ids out: those of transformers, with the prefix cache and without it, for one and for many."""

from __future__ import annotations

import copy
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from conftest import PATIENCE, WatchedModel

from chat.engine import MAX_RUNNING, Engine, Event, Finished, Prefilling, PrefixCache, Queued, TokensChosen
from chat.errors import EngineError
from chat.types import Sampling
from chat.weights import LoadedModel

FAMILIES = ["tiny_llama", "tiny_qwen", "tiny_gemma"]
Start = Callable[..., Engine]


@pytest.fixture(autouse=True)
def quick_heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits is told so at once, so that no test waits for it."""
    monkeypatch.setattr("chat.engine.worker.HEARTBEAT_SECONDS", 0.01)


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts engines and closes them at the end."""
    engines: list[Engine] = []

    def start(
        model: Any, stop_token_ids: Sequence[int] = (), max_bytes: int = 2**30, max_running: int = MAX_RUNNING
    ) -> Engine:
        engines.append(Engine(model, frozenset(stop_token_ids), PrefixCache(max_bytes), max_running))
        return engines[-1]

    yield start
    for engine in engines:
        engine.close()


@pytest.fixture
def engine(start: Start, watched: WatchedModel) -> Iterator[Engine]:
    """One request at a time on the watched tiny Llama, without a prefix cache: every prompt is read from its start."""
    yield start(watched, max_bytes=0, max_running=1)
    watched.release()


def prompt(length: int, seed: int = 0, vocabulary: int = 600) -> tuple[int, ...]:
    return tuple(random.Random(seed).choices(range(10, vocabulary), k=length))


def run(
    engine: Engine, ids: Sequence[int], tokens: int = 8, stop: threading.Event | None = None, lane: str = "", **how: Any
) -> list[Event]:
    sampling = Sampling(max_new_tokens=tokens, **how)
    return list(engine.generate(tuple(ids), sampling, stop or threading.Event(), lane))


def ids_of(events: Sequence[Event]) -> list[int]:
    return [token_id for event in events if isinstance(event, TokensChosen) for token_id in event.token_ids]


def end_of(events: Sequence[Event]) -> Finished:
    (finished,) = (event for event in events if isinstance(event, Finished))
    assert events[-1] is finished
    return finished


def follow(engine: Engine, ids: Sequence[int], lane: str = "", tokens: int = 2) -> Iterator[Event]:
    return engine.generate(tuple(ids), Sampling(max_new_tokens=tokens), threading.Event(), lane)


# The same as transformers


def in_float32(loaded: LoadedModel) -> Any:
    return copy.deepcopy(loaded.model).float()


def generated_by_transformers(model: Any, ids: Sequence[int], tokens: int) -> list[int]:
    prompt_ids = torch.tensor([ids])
    generated = model.generate(
        prompt_ids, attention_mask=torch.ones_like(prompt_ids), do_sample=False, max_new_tokens=tokens, use_cache=True
    )
    return generated[0, len(ids) :].tolist()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("length", [1, 31, 32, 33, 100, 256, 389, 700])
def test_greedy_is_what_transformers_generates(
    family: str, length: int, start: Start, request: pytest.FixtureRequest
) -> None:
    model = in_float32(request.getfixturevalue(family))
    model.generation_config.eos_token_id = None
    engine = start(model)
    for _ in range(2):  # read, and taken from the prefix cache
        events = run(engine, prompt(length, seed=length), tokens=24)
        assert ids_of(events) == generated_by_transformers(model, prompt(length, seed=length), 24)
        assert end_of(events).reason == "length"


def test_the_tiny_gemma_has_a_window_shorter_than_these_prompts(tiny_gemma: LoadedModel) -> None:
    assert tiny_gemma.model.config.sliding_window == 32
    assert "sliding_attention" in tiny_gemma.model.config.layer_types


def test_greedy_on_the_default_model_is_what_transformers_generates(smollm2: LoadedModel, start: Start) -> None:
    chat = [{"role": "user", "content": "What is the capital of France?"}]
    ids = smollm2.tokenizer.apply_chat_template(chat, add_generation_prompt=True)["input_ids"]
    engine = start(smollm2.model, stop_token_ids=[smollm2.model.generation_config.eos_token_id])
    assert ids_of(run(engine, ids, tokens=10)) == generated_by_transformers(smollm2.model, ids, 10)


# The prefix cache


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_with_the_prefix_cache_and_without_it_the_ids_and_every_bit_of_the_logits_are_the_same(
    family: str, seed: int, start: Start, request: pytest.FixtureRequest
) -> None:
    model = request.getfixturevalue(family).model
    reusing, rereading = WatchedModel(model), WatchedModel(model)
    with_cache, without = start(reusing), start(rereading, max_bytes=0)
    chance = random.Random(seed)
    conversations = [prompt(chance.randrange(1, 80), seed) for _ in range(3)]  # the three share their beginning
    saved = 0
    for _ in range(9):
        place = chance.randrange(3)
        ids = conversations[place] = (*conversations[place], *prompt(chance.randrange(1, 120), chance.random()))
        reusing.logits.clear()
        rereading.logits.clear()
        how = {"temperature": 1.0, "seed": chance.randrange(2**63)} if chance.random() < 0.5 else {}
        reused, reread = run(with_cache, ids, tokens=5, **how), run(without, ids, tokens=5, **how)
        assert ids_of(reused) == ids_of(reread)
        tail = rereading.logits[-len(reusing.logits) :]
        assert all(torch.equal(one, other) for one, other in zip(reusing.logits, tail, strict=True))
        assert end_of(reread).usage.cached_tokens == 0
        saved += end_of(reused).usage.cached_tokens
        conversations[place] += tuple(ids_of(reused))
    assert saved > 100


@pytest.mark.parametrize(
    ("length", "again"),
    [(1, 0), (32, 0), (33, 32), (64, 32), (100, 96), (256, 224), (257, 256), (384, 256), (385, 384), (520, 512)],
)
def test_the_second_time_all_whole_blocks_before_the_last_token_are_taken_from_the_cache(
    length: int, again: int, start: Start, watched: WatchedModel
) -> None:
    engine = start(watched)
    ids = prompt(length)
    for cached in (0, again):
        watched.handed.clear()
        events = run(engine, ids, tokens=3)
        usage = end_of(events).usage
        assert (usage.prompt_tokens, usage.cached_tokens, usage.prefilled_tokens) == (length, cached, length - cached)
        assert [*ids[:cached], *(one for handed in watched.handed for one in handed)] == [*ids, *ids_of(events)[:-1]]


def test_only_the_same_beginning_is_taken_from_the_cache(start: Start, watched: WatchedModel) -> None:
    engine = start(watched)
    ids = prompt(128)
    run(engine, ids)
    changed_in_the_third_block = (*ids[:70], ids[70] + 1, *ids[71:])
    assert end_of(run(engine, changed_in_the_third_block)).usage.cached_tokens == 64
    assert end_of(run(engine, ids[1:])).usage.cached_tokens == 0
    assert end_of(run(engine, ids[32:])).usage.cached_tokens == 0, "a block is worth nothing at another place"


def test_a_reply_is_read_again_as_part_of_the_next_prompt(start: Start, watched: WatchedModel) -> None:
    engine = start(watched)
    ids = prompt(40)
    reply = ids_of(run(engine, ids, tokens=60))
    grown = (*ids, *reply, *prompt(20, seed=1))
    assert end_of(run(engine, grown)).usage.cached_tokens == 32


def test_the_cache_stays_within_its_bytes_and_the_beginning_stays_longest(tiny_llama: LoadedModel) -> None:
    config = tiny_llama.model.config
    block = config.num_hidden_layers * 2 * config.num_key_value_heads * 32 * config.head_dim * 4
    cache = PrefixCache(max_bytes=3 * block + 1)
    engine = Engine(tiny_llama.model, frozenset(), cache)
    run(engine, prompt(5 * 32))
    assert cache.nbytes == 3 * block
    assert end_of(run(engine, prompt(5 * 32))).usage.cached_tokens == 3 * 32
    for seed in range(1, 6):
        run(engine, prompt(2 * 32 + 5, seed))
        assert cache.nbytes <= cache.max_bytes
    assert end_of(run(engine, prompt(5 * 32))).usage.cached_tokens == 0, "unused for longest, so gone"
    engine.close()


def test_what_was_used_last_is_kept(tiny_llama: LoadedModel) -> None:
    config = tiny_llama.model.config
    block = config.num_hidden_layers * 2 * config.num_key_value_heads * 32 * config.head_dim * 4
    engine = Engine(tiny_llama.model, frozenset(), PrefixCache(max_bytes=2 * block))
    for seed in (1, 2, 1, 3):
        run(engine, prompt(40, seed))
    cached = [end_of(run(engine, prompt(40, seed))).usage.cached_tokens for seed in (1, 3, 2)]
    assert cached == [32, 32, 0]
    engine.close()


def test_the_bytes_of_the_kv_cache_are_those_of_every_token_that_was_read(
    start: Start, tiny_llama: LoadedModel
) -> None:
    config = tiny_llama.model.config
    a_token = config.num_hidden_layers * 2 * config.num_key_value_heads * config.head_dim * 4
    engine = start(tiny_llama.model)
    for _ in range(2):
        # The last token is chosen and never read.
        assert end_of(run(engine, prompt(70), tokens=6)).usage.kv_cache_bytes == (70 + 5) * a_token


# Seeds


def test_the_same_seed_gives_the_same_ids_whatever_runs_in_between(engine: Engine) -> None:
    how = {"temperature": 1.5, "top_p": 0.95, "tokens": 20}
    alone = ids_of(run(engine, prompt(20), seed=7, **how))
    others = [ids_of(run(engine, prompt(20), seed=seed, **how)) for seed in (8, 9)]
    torch.manual_seed(1)
    assert ids_of(run(engine, prompt(20), seed=7, **how)) == alone
    assert alone not in others
    with ThreadPoolExecutor(4) as pool:
        crowd = [pool.submit(run, engine, prompt(20), seed=seed, lane=str(seed), **how) for seed in (7, 8, 9, 7)]
    assert [ids_of(one.result()) for one in crowd] == [alone, *others, alone]


# Where a reply ends


def test_events_come_in_order_and_tell_how_far_reading_is(engine: Engine) -> None:
    events = [event for event in run(engine, prompt(300), tokens=3) if not isinstance(event, Queued)]
    read = [(event.done, event.total) for event in events if isinstance(event, Prefilling)]
    assert read == [(done, 300) for done in (32, 64, 96, 128, 160, 192, 224, 256, 300)]
    *written, last = events[9:]
    assert all(isinstance(event, TokensChosen) for event in written)
    assert len(ids_of(written)) == 3
    assert isinstance(last, Finished)


def test_tokens_that_come_fast_are_told_together_and_the_first_alone(engine: Engine, watched: WatchedModel) -> None:
    told = [event for event in run(engine, prompt(20), tokens=300) if isinstance(event, TokensChosen)]
    assert len(ids_of(told)) == len(watched.handed) == 300
    assert all(len(event.token_ids) == len(event.choices) for event in told)
    assert len(told[0].token_ids) == 1
    assert len(told) < 100


def test_a_stop_token_ends_the_reply_and_is_its_last_token(start: Start, watched: WatchedModel) -> None:
    free = ids_of(run(start(watched), prompt(20), tokens=12))
    stop_token = free[5]
    events = run(start(watched, stop_token_ids=[stop_token, 3]), prompt(20), tokens=12)
    assert ids_of(events) == free[: free.index(stop_token) + 1]
    assert end_of(events).reason == "stop"
    assert end_of(events).usage.completion_tokens == len(ids_of(events))


def test_a_reply_ends_at_its_length_and_the_last_token_is_not_read(engine: Engine, watched: WatchedModel) -> None:
    events = run(engine, prompt(20), tokens=1)
    assert len(ids_of(events)) == 1
    assert end_of(events).reason == "length"
    assert [len(handed) for handed in watched.handed] == [20]


def test_a_stop_token_at_the_very_length_is_a_stop(start: Start, watched: WatchedModel) -> None:
    (only,) = ids_of(run(start(watched), prompt(20), tokens=1))
    assert end_of(run(start(watched, stop_token_ids=[only]), prompt(20), tokens=1)).reason == "stop"


def test_stop_ends_a_reply_within_one_token(engine: Engine, watched: WatchedModel) -> None:
    stop = threading.Event()
    watched.before = lambda number: stop.set() if number == 4 else None
    events = run(engine, prompt(20), tokens=500, stop=stop)
    # Pass 0 reads the prompt, pass 4 the fourth token: the fifth is chosen from it, and no more.
    assert len(ids_of(events)) == len(watched.handed) == 5
    assert end_of(events).reason == "cancelled"
    assert end_of(events).error is None


def test_stop_ends_reading_at_the_next_block(engine: Engine, watched: WatchedModel) -> None:
    stop = threading.Event()
    watched.before = lambda number: stop.set() if number == 1 else None
    events = run(engine, prompt(900), stop=stop)
    assert [len(handed) for handed in watched.handed] == [32, 32]
    finished = end_of(events)
    assert (finished.reason, ids_of(events)) == ("cancelled", [])
    assert (finished.usage.prefilled_tokens, finished.usage.completion_tokens) == (64, 0)


def test_a_request_that_was_stopped_before_it_began_reads_nothing(engine: Engine, watched: WatchedModel) -> None:
    stop = threading.Event()
    stop.set()
    assert end_of(run(engine, prompt(20), stop=stop)).reason == "cancelled"
    assert watched.handed == []


def test_what_was_read_before_a_stop_costs_the_next_request_nothing_but_its_own(
    start: Start, watched: WatchedModel
) -> None:
    engine = start(watched)
    undisturbed = ids_of(run(engine, prompt(200)))
    stop = threading.Event()
    watched.before = lambda _number: stop.set()
    run(engine, prompt(200, seed=1), stop=stop)
    watched.before = lambda _number: None
    assert ids_of(run(engine, prompt(200))) == undisturbed


def test_closing_the_iterator_ends_the_request_within_one_token(engine: Engine, watched: WatchedModel) -> None:
    watched.before = lambda number: watched.hold() if number == 3 else None
    events = follow(engine, prompt(20), tokens=500)
    tokens = 0
    while tokens < 4:
        tokens += len(ids_of([next(events)]))
    assert watched.held.wait(PATIENCE)
    events.close()  # type: ignore[attr-defined]
    watched.release()
    assert end_of(run(engine, prompt(20, seed=1), tokens=1)).reason == "length"
    assert [len(handed) for handed in watched.handed] == [20, 1, 1, 1, 1, 20]


# Many at once


def test_whoever_waits_is_told_their_place_and_whoever_is_served_that_they_are(
    engine: Engine, watched: WatchedModel
) -> None:
    watched.hold()
    first = follow(engine, prompt(5, 1), lane="ada")
    assert next(first) == Queued(0)
    assert watched.held.wait(PATIENCE)
    assert next(first) == Queued(0)
    second, third = follow(engine, prompt(5, 2), lane="ada"), follow(engine, prompt(5, 3), lane="ada")
    assert next(second) == Queued(1)
    assert next(third) == Queued(2)
    other = follow(engine, prompt(5, 4), lane="bob")
    assert next(other) == Queued(2), "after the first of the other lane"
    assert next(third) == Queued(3)
    watched.release()
    for request in (first, second, third, other):
        assert end_of(list(request)).reason == "length"


def test_one_person_with_many_requests_does_not_keep_another_waiting_for_all_of_them(
    engine: Engine, watched: WatchedModel
) -> None:
    watched.hold()
    order = [("ada", 1), ("ada", 2), ("ada", 3), ("ada", 4), ("bob", 5), ("bob", 6), ("cleo", 7)]
    requests = []
    for lane, seed in order:
        requests.append(follow(engine, prompt(5, seed), lane=lane))
        assert isinstance(next(requests[-1]), Queued)
    assert watched.held.wait(PATIENCE)
    watched.release()
    for request in requests:
        end_of(list(request))
    served = [handed for handed in watched.handed if len(handed) > 1]
    assert served == [prompt(5, seed) for seed in (1, 2, 5, 7, 3, 6, 4)]


def test_a_request_that_is_stopped_in_the_queue_ends_at_once_while_another_runs(
    engine: Engine, watched: WatchedModel
) -> None:
    watched.hold()
    running = follow(engine, prompt(5, 1))
    next(running)
    assert watched.held.wait(PATIENCE)
    stop = threading.Event()
    waiting = engine.generate(prompt(5, 2), Sampling(), stop, "")
    behind = follow(engine, prompt(5, 3))
    assert (next(waiting), next(behind)) == (Queued(1), Queued(2))
    stop.set()
    finished = end_of(list(waiting))
    assert finished.reason == "cancelled"
    assert (finished.usage.prompt_tokens, finished.usage.prefilled_tokens, finished.usage.kv_cache_bytes) == (5, 0, 0)
    assert next(behind) == Queued(1)
    assert next(running) == Queued(0)
    watched.release()
    assert end_of(list(running)).reason == end_of(list(behind)).reason == "length"
    assert prompt(5, 2) not in watched.handed


def test_a_request_that_was_left_in_the_queue_is_never_read(engine: Engine, watched: WatchedModel) -> None:
    watched.hold()
    running, left = follow(engine, prompt(5, 1)), follow(engine, prompt(5, 2))
    next(running)
    next(left)
    left.close()  # type: ignore[attr-defined]
    watched.release()
    list(running)
    run(engine, prompt(5, 3))
    assert prompt(5, 2) not in watched.handed


def test_many_threads_get_the_ids_that_each_would_get_alone(start: Start, watched: WatchedModel) -> None:
    engine = start(watched)
    alone = [ids_of(run(engine, prompt(60, seed % 4), tokens=6)) for seed in range(12)]
    with ThreadPoolExecutor(12) as pool:
        together = pool.map(lambda seed: run(engine, prompt(60, seed % 4), tokens=6, lane=str(seed % 3)), range(12))
        assert [ids_of(events) for events in together] == alone


def test_timings_add_up(engine: Engine) -> None:
    timing = end_of(run(engine, prompt(100), tokens=5)).timing
    assert min(timing.queue_ms, timing.prefill_ms, timing.decode_ms) >= 0
    assert timing.queue_ms + timing.prefill_ms <= timing.time_to_first_token_ms <= timing.total_ms
    assert timing.queue_ms + timing.prefill_ms + timing.decode_ms == pytest.approx(timing.total_ms, abs=0.01)


# When something breaks


@pytest.mark.parametrize("when", [0, 1, 3])
def test_an_exception_inside_the_model_is_a_sentence_and_the_next_request_works(
    engine: Engine, watched: WatchedModel, when: int
) -> None:
    def fail(number: int) -> None:
        if number == when:
            raise RuntimeError("out of chalk")

    watched.before = fail
    events = run(engine, prompt(40), tokens=8)
    finished = end_of(events)
    assert finished.reason == "error"
    assert finished.error == "The model failed while answering (RuntimeError: out of chalk). Press Retry."
    assert finished.usage.completion_tokens == len(ids_of(events)) == max(0, when - 1)
    assert end_of(run(engine, prompt(40), tokens=8)).reason == "length"


def test_a_model_that_answers_nan_is_told_and_does_not_end_the_engine(engine: Engine, watched: WatchedModel) -> None:
    broken = copy.deepcopy(watched.model)
    broken.get_output_embeddings().weight.fill_(float("nan"))
    sound, watched.model = watched.model, broken
    assert end_of(run(engine, prompt(5), temperature=1.0)).reason == "error"
    watched.model = sound
    assert end_of(run(engine, prompt(5), temperature=1.0)).reason == "length"


def test_closing_ends_what_runs_at_its_next_token_and_all_that_waits(engine: Engine, watched: WatchedModel) -> None:
    watched.hold()
    requests = [follow(engine, prompt(5, seed), tokens=500) for seed in (1, 2, 3)]
    for request in requests:
        next(request)
    assert watched.held.wait(PATIENCE)
    with ThreadPoolExecutor(1) as pool:
        closing = pool.submit(engine.close)
        ends = [list(request) for request in requests[1:]]  # these need not wait for the one that runs
        with pytest.raises(EngineError, match="shutting down"):
            run(engine, prompt(5))
        watched.release()
        closing.result(PATIENCE)
    ends.append(list(requests[0]))
    assert [end_of(events).reason for events in ends] == ["cancelled"] * 3
    assert [len(ids_of(events)) for events in ends] == [0, 0, 1]


def test_a_closed_engine_refuses_and_leaves_no_thread_behind(tiny_llama: LoadedModel) -> None:
    before = set(threading.enumerate())
    engine = Engine(tiny_llama.model, frozenset())
    run(engine, prompt(5))
    engine.close()
    engine.close()
    assert set(threading.enumerate()) == before
    with pytest.raises(EngineError, match="shutting down"):
        run(engine, prompt(5))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_engine_whose_thread_has_died_says_so(engine: Engine, watched: WatchedModel) -> None:
    def die(_number: int) -> None:
        raise KeyboardInterrupt

    watched.before = die
    with pytest.raises(EngineError, match="has stopped running"):
        run(engine, prompt(5))
