"""Guessing ahead: quicker where the reply repeats what was said, and never another reply."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from chat.engine import Engine, Finished, PrefixCache, TokensChosen
from chat.engine.lookup import PromptLookup
from chat.packed_model import PackedModel
from chat.packing import pack_model
from chat.types import Sampling
from chat.weights import LoadedModel


def test_a_text_goes_on_as_it_did_where_its_last_three_tokens_stood_before() -> None:
    assert PromptLookup([1, 2, 3, 4, 5, 6, 9, 1, 2, 3]).guess() == [4, 5, 6]
    assert PromptLookup([1, 2, 3, 4, 1, 2, 3, 5, 1, 2, 3]).guess() == [5, 1, 2], "the last time, not the first"
    assert PromptLookup([1, 2, 3, 4]).guess() == []
    assert PromptLookup([1, 2]).guess() == []
    assert PromptLookup([7, 7, 7, 7]).guess() == [7]


def test_guesses_grow_while_they_are_right_and_shrink_while_they_are_not() -> None:
    lookup = PromptLookup([*range(20), 0, 1, 2])
    lengths = []
    for right in (True, True, False, False, False, False):
        guess = lookup.guess()
        lengths.append(len(guess))
        lookup.judge(len(guess), len(guess) if right else 0)
    assert lengths == [3, 6, 7, 3, 1, 1]


@pytest.fixture
def packed(tiny_llama: LoadedModel) -> PackedModel:
    return pack_model(tiny_llama.model)


@pytest.fixture
def engine(packed: PackedModel) -> Iterator[Engine]:
    engine = Engine(packed, frozenset({3}))
    yield engine
    engine.close()


PROMPTS = [tuple(10 + (place * place + seed) % 300 for place in range(60)) for seed in range(4)]
SAMPLINGS = [
    Sampling(max_new_tokens=150),
    Sampling(temperature=0.7, seed=5, max_new_tokens=150),
    Sampling(temperature=1.5, top_p=0.9, seed=6, max_new_tokens=60),
]


def reply(engine: Engine, prompt: tuple[int, ...], sampling: Sampling) -> tuple[list[int], Finished]:
    events = list(engine.generate(prompt, sampling, threading.Event()))
    last = events[-1]
    assert isinstance(last, Finished)
    return [token_id for event in events if isinstance(event, TokensChosen) for token_id in event.token_ids], last


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=["greedy", "warm", "hot"])
def test_a_reply_is_the_same_with_guesses_and_without(
    engine: Engine, packed: PackedModel, sampling: Sampling, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_guesses = [reply(engine, prompt, sampling) for prompt in PROMPTS]
    monkeypatch.setattr(PromptLookup, "guess", lambda _lookup: [])
    alone = Engine(packed, frozenset({3}), PrefixCache(0, exact=True))
    without = [reply(alone, prompt, sampling) for prompt in PROMPTS]
    alone.close()
    assert [ids for ids, _ in with_guesses] == [ids for ids, _ in without]
    assert [last.reason for _, last in with_guesses] == [last.reason for _, last in without]
    kv_bytes = [[last.usage.kv_cache_bytes for _, last in replies] for replies in (with_guesses, without)]
    assert kv_bytes[0] == kv_bytes[1]
    assert all(last.usage.drafted_tokens == 0 for _, last in without)


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=["greedy", "warm", "hot"])
def test_right_guesses_are_counted_and_take_no_step_of_their_own(
    packed: PackedModel, sampling: Sampling, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(packed, frozenset())
    expected, _ = reply(engine, PROMPTS[0], sampling)
    engine.close()
    whole = [*PROMPTS[0], *expected]
    monkeypatch.setattr(PromptLookup, "guess", lambda lookup: whole[len(lookup.token_ids) :][:3])
    other = Engine(packed, frozenset())
    found, last = reply(other, PROMPTS[0], sampling)
    other.close()
    assert found == expected
    # After the first token, four come of each step: one that is chosen as always, and three that were guessed.
    steps = -(-(len(expected) - 1) // 4)
    assert last.usage.drafted_tokens == last.usage.accepted_tokens == len(expected) - 1 - steps


def test_a_wrong_guess_changes_nothing(engine: Engine, packed: PackedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    expected, _ = reply(engine, PROMPTS[1], SAMPLINGS[1])
    monkeypatch.setattr(PromptLookup, "guess", lambda lookup: [(lookup.token_ids[-1] + 1) % 300, 5, 6])
    other = Engine(packed, frozenset({3}))
    found, last = reply(other, PROMPTS[1], SAMPLINGS[1])
    other.close()
    assert found == expected
    assert last.usage.drafted_tokens > last.usage.accepted_tokens


def test_a_model_that_is_not_exact_is_not_guessed_for(tiny_llama: LoadedModel) -> None:
    engine = Engine(tiny_llama.model, frozenset())
    usage = reply(engine, PROMPTS[0], SAMPLINGS[0])[1].usage
    engine.close()
    assert usage.drafted_tokens == usage.accepted_tokens == 0


def test_requests_side_by_side_get_the_replies_that_they_get_alone(packed: PackedModel) -> None:
    alone = Engine(packed, frozenset({3}), PrefixCache(0, exact=True), max_running=1)
    expected = [reply(alone, prompt, SAMPLINGS[place % 3])[0] for place, prompt in enumerate(PROMPTS)]
    alone.close()
    crowd = Engine(packed, frozenset({3}))
    found: dict[int, list[int]] = {}

    def ask(place: int) -> None:
        found[place] = reply(crowd, PROMPTS[place], SAMPLINGS[place % 3])[0]

    threads = [threading.Thread(target=ask, args=(place,)) for place in range(len(PROMPTS))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    crowd.close()
    assert [found[place] for place in range(len(PROMPTS))] == expected


def test_a_reply_that_was_read_is_reused_in_the_next_turn(engine: Engine) -> None:
    said, _ = reply(engine, PROMPTS[0], SAMPLINGS[0])
    following = (*PROMPTS[0], *said, *PROMPTS[1][:20])
    cached = reply(engine, following, SAMPLINGS[0])[1].usage.cached_tokens
    assert cached == (len(PROMPTS[0]) + len(said) - 1) // 32 * 32


def test_nothing_is_reused_of_what_another_person_said(packed: PackedModel) -> None:
    engine = Engine(packed, frozenset())
    cached: list[Any] = []
    for owner in ("ada", "ada", "bob"):
        *_, last = engine.generate(PROMPTS[0], SAMPLINGS[0], threading.Event(), owner)
        assert isinstance(last, Finished)
        cached.append(last.usage.cached_tokens)
    engine.close()
    assert cached == [0, 32, 0]
