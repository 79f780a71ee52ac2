"""What a receipt keeps of each choice, and what comes out when its prompt is sent again."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
import torch
from conftest import WatchedModel

from chat.engine import Engine, Prefilling, TokensChosen
from chat.errors import InputError
from chat.local_model import LocalModel
from chat.packing import pack_model
from chat.replay import Reply, ask_again, replay, weigh_reply
from chat.turn import Done, TurnRequest, run_turn
from chat.types import RECEIPT, Receipt, Sampling
from chat.weights import LoadedModel
from memory.store import OwnerStore

WARM = Sampling(temperature=1.2, seed=7, max_new_tokens=12)


def said(store: OwnerStore, model: LocalModel, sampling: Sampling) -> Receipt:
    conversation = store.new_conversation()
    request = TurnRequest(conversation, "Which partner runs finance, Dana or Priya?", conversation, sampling=sampling)
    *_, done = run_turn(request, store, model, threading.Event())
    assert isinstance(done, Done)
    return done.receipt


def test_a_receipt_has_what_the_model_thought_of_each_token_it_chose(
    store: OwnerStore, local_model: LocalModel, watched: WatchedModel
) -> None:
    receipt = said(store, local_model, WARM)
    chosen = receipt.completion.token_ids
    assert len(receipt.completion.choices) == len(chosen) == 12
    for token_id, choice, logits in zip(chosen, receipt.completion.choices, watched.logits[-12:], strict=True):
        expected = logits.double().softmax(-1)
        assert choice.probability == pytest.approx(expected[token_id].item(), rel=1e-4)
        likeliest = [place for place in expected.argsort(descending=True).tolist() if place != token_id][:5]
        assert [place for place, _ in choice.others] == likeliest
        shares = [share for _, share in choice.others]
        assert shares == pytest.approx(expected[likeliest].tolist(), rel=1e-4)


def test_what_was_thought_comes_back_from_the_database_as_it_was(store: OwnerStore, local_model: LocalModel) -> None:
    receipt = said(store, local_model, WARM)
    assert store.receipt(receipt.turn_id) == receipt


def test_a_receipt_of_before_there_were_choices_is_still_read(store: OwnerStore, local_model: LocalModel) -> None:
    plain = said(store, local_model, WARM).to_dict()
    del plain["completion"]["choices"], plain["trace"]
    receipt = RECEIPT.validate_python(plain)
    assert receipt.completion.choices == () == receipt.trace


def test_a_receipt_tells_the_way_of_its_turn_from_the_message_to_the_weights(
    store: OwnerStore, local_model: LocalModel
) -> None:
    receipt = said(store, local_model, WARM)
    assert [stage.name for stage in receipt.trace] == ["receive", "prepare", "queue", "read", "write", "validate"]
    spent = {stage.name: stage.ms for stage in receipt.trace}
    timing = receipt.timing
    assert (spent["queue"], spent["read"], spent["write"]) == (timing.queue_ms, timing.prefill_ms, timing.decode_ms)
    ends = [stage.start_ms + stage.ms for stage in receipt.trace]
    assert all(later.start_ms >= end - 0.01 for end, later in zip(ends, receipt.trace[1:], strict=False))


def replayed(receipt: Receipt, model: LocalModel) -> Reply:
    *_, reply = replay(receipt, model, threading.Event())
    assert isinstance(reply, Reply)
    return reply


def test_a_replay_tells_how_far_it_has_read_and_ends_when_it_is_told_to(
    store: OwnerStore, local_model: LocalModel
) -> None:
    receipt, stop, told = said(store, local_model, WARM), threading.Event(), []
    for event in replay(receipt, local_model, stop):
        told.append(event)
        if isinstance(event, TokensChosen):
            stop.set()
    read = [event.done for event in told if isinstance(event, Prefilling)]
    assert read == sorted(read)
    assert read[-1] == len(receipt.prompt.token_ids)
    assert isinstance(told[-1], Reply)
    assert told[-1].finish_reason == "cancelled"
    assert told[-1].token_ids == receipt.completion.token_ids[: len(told[-1].token_ids)]
    assert 0 < len(told[-1].token_ids) < len(receipt.completion.token_ids)


@pytest.mark.parametrize("sampling", [Sampling(max_new_tokens=12), WARM], ids=["greedy", "warm"])
def test_a_replay_reads_everything_anew_and_writes_the_same_ids(
    store: OwnerStore, local_model: LocalModel, watched: WatchedModel, sampling: Sampling
) -> None:
    receipt = said(store, local_model, sampling)
    watched.handed.clear()
    again = replayed(receipt, local_model)
    handed = tuple(token_id for ids in watched.handed for token_id in ids)
    assert handed[: len(receipt.prompt.token_ids)] == receipt.prompt.token_ids
    assert again.usage.cached_tokens == 0
    assert again.token_ids == receipt.completion.token_ids
    assert again.choices == receipt.completion.choices


def test_a_replay_of_a_reply_that_was_stopped_ends_where_that_did(store: OwnerStore, local_model: LocalModel) -> None:
    receipt = said(store, local_model, WARM)
    stopped = replace(receipt.completion, token_ids=receipt.completion.token_ids[:5], finish_reason="cancelled")
    again = replayed(replace(receipt, completion=stopped), local_model)
    assert again.token_ids == stopped.token_ids


def test_a_turn_of_other_weights_is_not_replayed_and_the_sentence_says_whose_they_were(
    store: OwnerStore, local_model: LocalModel
) -> None:
    receipt = said(store, local_model, WARM)
    other = replace(receipt, weights=replace(receipt.weights, after="0" * 64))
    with pytest.raises(InputError, match=f"{receipt.model.id}.*Start Marginalia with that model"):
        replayed(other, local_model)


def test_asked_again_the_same_seed_says_the_same_and_others_say_something_else(
    store: OwnerStore, local_model: LocalModel
) -> None:
    receipt = said(store, local_model, WARM)
    samplings = [replace(WARM, seed=seed) for seed in (7, 8, 9, 7)]
    replies = dict(ask_again(receipt, local_model, samplings, threading.Event(), "ada"))
    first, second, third, fourth = (replies[place].token_ids for place in range(4))
    assert first == fourth == receipt.completion.token_ids
    assert len({first, second, third}) == 3


@pytest.mark.parametrize("packed", [False, True], ids=["torch", "packed"])
def test_a_given_reply_is_weighed_as_it_was_when_the_model_chose_it(tiny_llama: LoadedModel, packed: bool) -> None:
    engine = Engine(pack_model(tiny_llama.model) if packed else tiny_llama.model, frozenset())
    prompt = tuple(range(10, 80))
    events = list(engine.generate(prompt, Sampling(max_new_tokens=20), threading.Event()))
    chosen = [event for event in events if isinstance(event, TokensChosen)]
    reply = tuple(token_id for event in chosen for token_id in event.token_ids)
    weighed = weigh_reply(engine, prompt, reply, threading.Event(), "")
    engine.close()
    assert [choice.probability for choice in weighed] == pytest.approx(
        [choice.probability for event in chosen for choice in event.choices], rel=1e-3
    )


def test_a_reply_that_the_model_would_not_have_given_is_weighed_too(tiny_llama: LoadedModel) -> None:
    engine = Engine(tiny_llama.model, frozenset())
    prompt, reply = tuple(range(10, 40)), (300, 5, 77)
    weighed = weigh_reply(engine, prompt, reply, threading.Event(), "")
    engine.close()
    ids = torch.tensor([[*prompt, *reply]])
    with torch.no_grad():
        expected = tiny_llama.model(ids).logits[0, len(prompt) - 1 : -1].double().softmax(-1)
    for place, (token_id, choice) in enumerate(zip(reply, weighed, strict=True)):
        assert choice.probability == pytest.approx(expected[place, token_id].item(), rel=1e-3)
