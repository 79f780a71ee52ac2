"""The way of one turn, with the real store on SQLite and a model that is watched."""

from __future__ import annotations

import hashlib
import json
import struct
import threading
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from conftest import PATIENCE, WatchedModel

from chat.encoding import Encoder
from chat.engine import Prefilling, Queued
from chat.errors import ConversationBusy, EngineError, InputError, MarginaliaError, NotFound, PromptTooLong, StoreError
from chat.local_model import LocalModel, start_model
from chat.prompt import NO_REPLY, NO_ROOM, NOTES_HEADING
from chat.turn import Begun, Done, Replying, TurnEvent, TurnRequest, run_turn
from chat.types import RECEIPT, PastTurn, Receipt, Sampling
from chat.weights import LoadedModel
from memory.database import Database
from memory.store import OwnerStore

SHORT = Sampling(max_new_tokens=6)
LONG = Sampling(max_new_tokens=500)
MESSAGE = "My name is Ada; I live in Zürich and I like tea. Please write a short story about a fox, a dog and me."
READING = 3  # that many passes of the model read this message's prompt

Run = Generator[TurnEvent, None, None]


@pytest.fixture(autouse=True)
def quick_heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits is told so at once, so that no test waits for it."""
    monkeypatch.setattr("chat.engine.worker.HEARTBEAT_SECONDS", 0.01)


@pytest.fixture
def conversation(store: OwnerStore) -> str:
    return store.new_conversation()


@pytest.fixture
def begin(store: OwnerStore, local_model: LocalModel, conversation: str) -> Callable[..., Run]:
    """Begins a turn in `conversation`; anything about it can be given."""

    def begin(message: str = MESSAGE, stop: threading.Event | None = None, shelf: Any = store, **request: Any) -> Run:
        given = {"conversation_id": conversation, "reads": conversation, "sampling": SHORT} | request
        return run_turn(TurnRequest(message=message, **given), shelf, local_model, stop or threading.Event())

    return begin


@pytest.fixture
def say(begin: Callable[..., Run]) -> Callable[..., Receipt]:
    """Says something, waits for the reply, and gives its receipt."""

    def say(message: str = MESSAGE, **request: Any) -> Receipt:
        *_, done = begin(message, **request)
        assert isinstance(done, Done)
        return done.receipt

    return say


class Faulty:
    """A store whose named call fails, as on a full disk."""

    def __init__(self, store: OwnerStore, call: str, error: Exception) -> None:
        self._store = store
        self._call = call
        self._error = error

    def __getattr__(self, name: str) -> Any:
        if name != self._call:
            return getattr(self._store, name)

        def fail(*_arguments: object, **_named: object) -> None:
            raise self._error

        return fail


FULL = StoreError("The disk is full.")


def until(run: Run, wanted: Callable[[TurnEvent], bool]) -> TurnEvent:
    return next(event for event in run if wanted(event))


def replies(event: TurnEvent) -> bool:
    return isinstance(event, Replying)


# A turn that goes well


def test_a_turn_tells_what_it_does_in_order(begin: Callable[..., Run]) -> None:
    begun, *between, replied, done = (event for event in begin() if not isinstance(event, Queued))
    assert isinstance(begun, Begun)
    assert isinstance(replied, Replying)
    assert isinstance(done, Done)
    kinds = [type(event) for event in between]
    assert kinds == [Prefilling] * kinds.count(Prefilling) + [Replying] * kinds.count(Replying)
    assert 0 < kinds.count(Replying) <= 6
    assert replied.complete
    assert not any(event.complete for event in between if isinstance(event, Replying))
    assert begun.turn_id == replied.turn_id == done.receipt.turn_id
    assert begun.prompt == done.receipt.prompt
    assert replied.reply == done.receipt.completion.text
    assert done.error is None


def test_the_message_is_in_the_database_before_the_model_runs_and_the_reply_with_its_receipt_after(
    begin: Callable[..., Run], database: Database, watched: WatchedModel, conversation: str
) -> None:
    seen = []
    watched.before = lambda _number: seen.extend(database.for_owner("ada").turns(conversation))
    *_, done = begin()
    assert isinstance(done, Done)
    assert {(turn.message, turn.finish_reason) for turn in seen} == {(MESSAGE, None)}
    assert len(seen) == len(watched.handed) > 6
    (turn,) = database.for_owner("ada").turns(conversation)
    assert (turn.message, turn.reply, turn.finish_reason) == (MESSAGE, done.receipt.completion.text, "length")
    assert database.for_owner("ada").receipt(turn.id) == done.receipt


def test_the_receipt_has_the_keys_of_the_contract(say: Callable[..., Receipt], store: OwnerStore) -> None:
    store.add_note("Ada likes tea.")
    say()
    receipt = json.loads(json.dumps(store.receipt(say("And now?").turn_id).to_dict()))
    assert receipt.keys() == {
        *["turn_id", "conversation_id", "created_at", "model", "prompt", "sampling", "completion", "weights"],
        *["usage", "timing", "trace"],
    }
    assert receipt["model"].keys() == {"id", "dtype", "parameters", "context_window"}
    assert receipt["prompt"].keys() == {"text", "token_ids", "sha256", "segments", "dropped"}
    segment_keys = {"kind", "label", "source_turn_id", "note_id", "start", "end", "text"}
    assert all(segment.keys() == segment_keys for segment in receipt["prompt"]["segments"])
    assert receipt["sampling"].keys() == {"temperature", "top_p", "top_k", "seed", "max_new_tokens"}
    assert receipt["completion"].keys() == {"text", "token_ids", "finish_reason", "choices"}
    assert all(choice.keys() == {"probability", "others"} for choice in receipt["completion"]["choices"])
    assert all(stage.keys() == {"name", "start_ms", "ms"} for stage in receipt["trace"])
    assert receipt["weights"].keys() == {"before", "after", "parameters", "changed_parameters"}
    assert receipt["usage"].keys() == {
        *["prompt_tokens", "cached_tokens", "prefilled_tokens", "completion_tokens", "kv_cache_bytes"],
        *["drafted_tokens", "accepted_tokens"],
    }
    assert receipt["timing"].keys() == {*["queue_ms", "prefill_ms", "time_to_first_token_ms", "decode_ms", "total_ms"]}
    assert RECEIPT.validate_python(receipt) == store.receipt(receipt["turn_id"])


def test_the_receipts_ids_are_what_the_model_was_handed(
    say: Callable[..., Receipt], store: OwnerStore, watched: WatchedModel
) -> None:
    store.add_note("Ada likes tea.")
    before: tuple[int, ...] = ()
    reused = 0
    for message in (MESSAGE, "What is my name?", "And what do I drink?"):
        watched.handed.clear()
        receipt = say(message)
        usage, ids = receipt.usage, receipt.prompt.token_ids
        handed = tuple(token_id for one_pass in watched.handed for token_id in one_pass)
        # Begun by what an earlier prompt left in the cache, read on by this one, then the reply without its last.
        assert before[: usage.cached_tokens] + handed == ids + receipt.completion.token_ids[:-1]
        assert usage.prompt_tokens == len(ids) == usage.cached_tokens + usage.prefilled_tokens
        assert usage.completion_tokens == len(receipt.completion.token_ids)
        before, reused = ids, reused + usage.cached_tokens
    assert reused > 0


def test_the_hash_is_over_the_ids_and_the_segments_partition_them(say: Callable[..., Receipt]) -> None:
    say()
    prompt = say("And now?").prompt
    packed = struct.pack(f"<{len(prompt.token_ids)}i", *prompt.token_ids)
    assert prompt.sha256 == hashlib.sha256(packed).hexdigest()
    assert prompt.segments[0].start == 0
    assert prompt.segments[-1].end == len(prompt.token_ids)
    assert all(one.end == other.start for one, other in pairwise(prompt.segments))
    assert "".join(segment.text for segment in prompt.segments) == prompt.text


def test_the_receipt_says_which_model_answered_how_and_when(
    say: Callable[..., Receipt], tiny_llama: LoadedModel, conversation: str
) -> None:
    sampling = Sampling(temperature=0.7, top_p=0.9, top_k=40, seed=11, max_new_tokens=3)
    receipt = say(sampling=sampling)
    assert (receipt.model, receipt.sampling, receipt.conversation_id) == (tiny_llama.info, sampling, conversation)
    assert receipt.created_at.endswith("+00:00")
    assert receipt.timing.total_ms >= receipt.timing.time_to_first_token_ms > 0


@pytest.mark.parametrize(
    ("family", "end"),
    [
        ("tiny_llama", "<|eot_id|>"),
        ("tiny_qwen", "<|im_end|>"),
        ("tiny_gemma", "<end_of_turn>"),
        ("tiny_gemma", "<eos>"),
    ],
)
def test_a_reply_stops_where_the_model_was_taught_to_and_the_stop_token_is_no_text(
    family: str, end: str, request: pytest.FixtureRequest, store: OwnerStore, conversation: str
) -> None:
    loaded: LoadedModel = request.getfixturevalue(family)
    watched = WatchedModel(loaded.model)
    model = start_model(replace(loaded, model=watched))  # type: ignore[arg-type]
    stop_id = loaded.tokenizer.convert_tokens_to_ids(end)
    watched.rigged[5] = (stop_id,)
    *_, done = run_turn(TurnRequest(conversation, MESSAGE, None), store, model, threading.Event())
    model.close()
    assert isinstance(done, Done)
    completion = done.receipt.completion
    assert completion.finish_reason == "stop"
    assert completion.token_ids[-1] == stop_id
    assert len(completion.token_ids) == 1 + sum(len(handed) == 1 for handed in watched.handed)
    assert completion.text == Encoder(loaded.tokenizer).decode(completion.token_ids[:-1])


def test_a_character_that_is_not_whole_yet_is_not_shown(begin: Callable[..., Run]) -> None:
    shown = [event.reply for event in begin(sampling=LONG) if isinstance(event, Replying) and not event.complete]
    assert not any(reply.endswith("\ufffd") for reply in shown)


# What the model is told


def test_the_next_prompt_contains_the_message_and_the_reply_before_it(say: Callable[..., Receipt]) -> None:
    first = say()
    second = say("What is my name?")
    history = [segment for segment in second.prompt.segments if segment.kind == "history"]
    assert {segment.source_turn_id for segment in history} == {first.turn_id}
    assert [segment.label for segment in history] == ["earlier message", "earlier reply"]
    assert history[0].text == MESSAGE
    assert history[1].text == first.completion.text.strip()
    assert not any(segment.kind == "history" for segment in first.prompt.segments)


def test_notes_are_in_the_prompt_when_memory_is_on_and_off_is_as_if_there_were_none(
    say: Callable[..., Receipt], store: OwnerStore
) -> None:
    def fresh(use_memory: bool) -> Receipt:
        conversation = store.new_conversation()
        return say(conversation_id=conversation, reads=conversation, use_memory=use_memory)

    without_any = fresh(use_memory=True)
    kept, hidden = store.add_note("Ada likes tea."), store.add_note("Not this.")
    store.switch_note(hidden.id, enabled=False)
    store.add_note("Nor this.", draft=True)
    off, on = fresh(use_memory=False), fresh(use_memory=True)
    assert off.prompt.token_ids == without_any.prompt.token_ids
    assert off.completion.token_ids == without_any.completion.token_ids
    notes = [(segment.text, segment.note_id) for segment in on.prompt.segments if segment.kind == "note"]
    assert [note_id for _, note_id in notes] == [None, kept.id]
    assert "".join(text for text, _ in notes) == f"{NOTES_HEADING}\n- Ada likes tea."
    assert not any(segment.kind == "note" for segment in off.prompt.segments)


def test_with_nothing_to_read_the_prompt_holds_only_the_message(say: Callable[..., Receipt]) -> None:
    say()
    alone = say("And now?", reads=None, position=1)
    assert {segment.kind for segment in alone.prompt.segments} == {"template", "system", "message"}


def test_what_does_not_fit_is_in_the_receipts_ledger_oldest_first(
    say: Callable[..., Receipt], store: OwnerStore
) -> None:
    note = store.add_note("Ada likes tea.")
    turns = [say(f"{place} " + "word " * 100).turn_id for place in range(4)]
    receipt = say("hello", sampling=Sampling(max_new_tokens=600))
    dropped = receipt.prompt.dropped
    assert 0 < len(dropped) < 4
    assert [entry.source_turn_id for entry in dropped] == turns[: len(dropped)]
    assert all(entry.reason == NO_ROOM and entry.tokens > 100 for entry in dropped)
    kept = {segment.source_turn_id for segment in receipt.prompt.segments} - {None}
    assert kept == set(turns[len(dropped) :])
    assert note.id in {segment.note_id for segment in receipt.prompt.segments}
    assert receipt.usage.prompt_tokens + 600 <= receipt.model.context_window
    assert store.turn(receipt.turn_id).dropped == len(dropped)


def test_a_turn_without_a_reply_is_in_the_ledger_of_the_next(
    say: Callable[..., Receipt], begin: Callable[..., Run]
) -> None:
    run = begin()
    begun = next(run)
    run.close()
    assert isinstance(begun, Begun)
    (dropped,) = say("And now?").prompt.dropped
    assert (dropped.source_turn_id, dropped.reason) == (begun.turn_id, NO_REPLY)
    assert dropped.tokens > 0


def test_a_retry_is_answered_from_what_came_before_and_replaces_the_first_try(
    say: Callable[..., Receipt], store: OwnerStore, conversation: str
) -> None:
    first = say()
    tried = say("What is my name?")
    again = say("What is my name?", replaces=tried.turn_id)
    assert again.prompt == tried.prompt
    assert again.completion == tried.completion
    assert [turn.id for turn in store.turns(conversation)] == [first.turn_id, again.turn_id]
    assert store.receipt(tried.turn_id) == tried, "a receipt stays"
    history = [segment.source_turn_id for segment in say("And?").prompt.segments if segment.kind == "history"]
    assert set(history) == {first.turn_id, again.turn_id}


# The weights


def test_the_fingerprint_after_a_turn_is_the_one_before_it(
    say: Callable[..., Receipt], tiny_llama: LoadedModel
) -> None:
    first, second = say().weights, say("And now?").weights
    assert first.before == first.after == second.before == second.after
    assert (first.changed_parameters, first.parameters) == (0, tiny_llama.info.parameters)


def test_one_bit_that_flips_during_a_turn_is_in_its_receipt(
    say: Callable[..., Receipt], watched: WatchedModel, store: OwnerStore
) -> None:
    weight = watched.model.get_parameter("model.layers.1.mlp.down_proj.weight")
    raw = weight.detach().view(-1).view(torch.uint8)

    def flip(number: int) -> None:
        if number == 3:
            raw[99] ^= 1

    honest = say()
    watched.handed.clear()
    watched.before = flip
    try:
        receipt = say("And now?")
    finally:
        watched.before = lambda _number: None
        raw[99] ^= 1
    assert receipt.weights.before == honest.weights.after != receipt.weights.after
    assert receipt.weights.changed_parameters == weight.numel()
    shown = store.turn(receipt.turn_id).weights
    assert shown is not None
    assert shown.changed_parameters > 0
    back = say("And now?").weights
    assert (back.before, back.after) == (receipt.weights.after, honest.weights.after), "even what flips between turns"


# A turn that ends early


def assert_kept(store: OwnerStore, turn_id: str, said: tuple[int, ...]) -> Receipt:
    """The turn is there as cancelled, with the reply and a receipt of as many tokens."""
    turn, receipt = store.turn(turn_id), store.receipt(turn_id)
    assert (turn.message, turn.finish_reason, turn.error) == (MESSAGE, "cancelled", None)
    assert receipt.completion.token_ids == said
    assert turn.reply == receipt.completion.text
    assert receipt.completion.finish_reason == "cancelled"
    assert receipt.weights.changed_parameters == 0
    return receipt


def test_a_tab_that_is_closed_right_after_the_message_was_sent_leaves_a_cancelled_turn(
    begin: Callable[..., Run], store: OwnerStore, watched: WatchedModel
) -> None:
    run = begin()
    begun = next(run)
    assert isinstance(begun, Begun)
    run.close()
    receipt = assert_kept(store, begun.turn_id, ())
    assert receipt.prompt == begun.prompt
    assert watched.handed == []


def test_a_tab_that_is_closed_before_the_first_token_leaves_a_cancelled_turn(
    begin: Callable[..., Run], store: OwnerStore, watched: WatchedModel
) -> None:
    stop = threading.Event()
    watched.before = lambda number: assert_set(stop) if number == 1 else None
    run = begin(MESSAGE, stop)
    begun = next(run)
    assert isinstance(begun, Begun)
    assert until(run, lambda event: isinstance(event, Prefilling)) == Prefilling(32, len(begun.prompt.token_ids))
    assert len(begun.prompt.token_ids) > 64, "so that a block is left to read"
    run.close()
    receipt = assert_kept(store, begun.turn_id, ())
    assert receipt.usage.prefilled_tokens in (32, 64), "it ends before the next block, or behind it if that has begun"


def assert_set(event: threading.Event) -> None:
    assert event.wait(PATIENCE)


@pytest.mark.parametrize("way", ["closed", "stopped"])
def test_a_reply_that_is_ended_midway_is_kept_as_far_as_it_went(
    begin: Callable[..., Run], store: OwnerStore, watched: WatchedModel, way: str
) -> None:
    stop, being_made = threading.Event(), threading.Event()

    def wait_at_the_sixth(number: int) -> None:
        if number == READING + 4:
            being_made.set()
            assert_set(stop)

    watched.before = wait_at_the_sixth
    run = begin(MESSAGE, stop, sampling=LONG)
    begun = next(run)
    assert isinstance(begun, Begun)
    until(run, replies)
    assert_set(being_made)
    last = until(run, replies)
    assert sum(len(handed) > 1 for handed in watched.handed) == READING
    if way == "closed":
        run.close()
    else:
        stop.set()
        *_, done = run
        assert isinstance(done, Done)
        assert done.receipt == store.receipt(begun.turn_id)
    handed = [token_id for one_pass in watched.handed[READING:] for token_id in one_pass]
    receipt = store.receipt(begun.turn_id)
    assert len(receipt.completion.token_ids) == 6, "five were seen, the sixth was being made"
    assert_kept(store, begun.turn_id, (*handed, receipt.completion.token_ids[-1]))
    assert isinstance(last, Replying)
    assert receipt.completion.text.startswith(last.reply)


def test_a_reader_that_raises_is_as_one_that_has_gone_away(begin: Callable[..., Run], store: OwnerStore) -> None:
    run = begin(sampling=LONG)
    begun = next(run)
    assert isinstance(begun, Begun)
    until(run, replies)
    with pytest.raises(KeyboardInterrupt):
        run.throw(KeyboardInterrupt())
    assert store.turn(begun.turn_id).finish_reason in ("cancelled", "length")
    assert store.receipt(begun.turn_id).completion.token_ids


def test_a_tab_that_is_closed_when_the_reply_is_complete_changes_nothing(
    begin: Callable[..., Run], store: OwnerStore
) -> None:
    run = begin()
    replied = until(run, lambda event: isinstance(event, Replying) and event.complete)
    assert isinstance(replied, Replying)
    run.close()
    turn = store.turn(replied.turn_id)
    assert (turn.reply, turn.finish_reason) == (replied.reply, "length")


def test_after_an_ended_turn_the_next_one_goes_on_from_what_was_said(
    begin: Callable[..., Run], say: Callable[..., Receipt], store: OwnerStore, conversation: str
) -> None:
    run = begin(sampling=LONG)
    until(run, lambda event: isinstance(event, Replying) and bool(event.reply.strip()))
    run.close()
    (ended,) = store.turns(conversation)
    assert store.load_history(conversation).turns == (PastTurn(ended.id, MESSAGE, ended.reply),)
    history = [segment.text for segment in say("Go on.").prompt.segments if segment.kind == "history"]
    assert history == [MESSAGE, ended.reply.strip()]


# Saved as it grows


def test_a_reply_is_saved_while_it_grows(
    begin: Callable[..., Run], store: OwnerStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chat.turn.FLUSH_SECONDS", -1)
    saved = 0
    for event in begin(sampling=Sampling(max_new_tokens=20)):
        if isinstance(event, Replying) and not event.complete:
            turn = store.turn(event.turn_id)
            assert (turn.reply, turn.finish_reason) == (event.reply, None)
            saved += bool(turn.reply)
    assert saved


def test_a_reply_that_comes_fast_is_not_saved_at_every_token(
    begin: Callable[..., Run], store: OwnerStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chat.turn.FLUSH_SECONDS", 3600)
    for event in begin(shelf=Faulty(store, "save_partial", AssertionError("saved too early"))):
        assert isinstance(event, TurnEvent)


# When something breaks


def test_a_model_that_fails_is_told_in_a_sentence_and_what_was_said_is_kept(
    begin: Callable[..., Run], say: Callable[..., Receipt], store: OwnerStore, watched: WatchedModel
) -> None:
    def fail(number: int) -> None:
        if number == READING + 3:
            raise RuntimeError("out of chalk")

    watched.before = fail
    *_, done = begin(sampling=LONG)
    assert isinstance(done, Done)
    sentence = "The model failed while answering (RuntimeError: out of chalk). Press Retry."
    turn = store.turn(done.receipt.turn_id)
    assert done.error == turn.error == sentence
    assert (turn.finish_reason, turn.reply) == ("error", done.receipt.completion.text)
    assert len(done.receipt.completion.token_ids) == done.receipt.usage.completion_tokens == 4
    assert say("And now?", replaces=turn.id).completion.finish_reason == "length"


def test_a_reply_that_cannot_be_saved_midway_goes_on_and_is_saved_at_its_end(
    begin: Callable[..., Run],
    store: OwnerStore,
    conversation: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("chat.turn.FLUSH_SECONDS", -1)
    done = list(begin(shelf=Faulty(store, "save_partial", FULL)))[-1]
    assert isinstance(done, Done)
    (turn,) = store.turns(conversation)
    assert (turn.finish_reason, turn.reply) == ("length", done.receipt.completion.text)
    assert "could not be saved midway: The disk is full." in caplog.text


@pytest.mark.parametrize("call", ["finish_turn", "fail_turn"])
def test_an_end_that_cannot_be_saved_says_why(
    begin: Callable[..., Run], store: OwnerStore, conversation: str, call: str
) -> None:
    shelf = Faulty(store, "finish_turn", FULL)
    if call == "fail_turn":
        shelf = Faulty(shelf, "fail_turn", FULL)  # type: ignore[arg-type]
    with pytest.raises(StoreError, match="The disk is full"):
        list(begin(shelf=shelf))
    (turn,) = store.turns(conversation)
    assert turn.message == MESSAGE
    assert turn.finish_reason == ("error" if call == "finish_turn" else None)


def test_a_message_that_cannot_be_saved_never_reaches_the_model(
    begin: Callable[..., Run], store: OwnerStore, watched: WatchedModel
) -> None:
    with pytest.raises(StoreError, match="The disk is full"):
        next(begin(shelf=Faulty(store, "begin_turn", FULL)))
    assert watched.handed == []


def test_a_message_that_is_sent_while_the_app_closes_is_kept_and_told_so(
    begin: Callable[..., Run], store: OwnerStore, local_model: LocalModel, conversation: str
) -> None:
    local_model.close()
    with pytest.raises(EngineError, match="shutting down"):
        list(begin())
    (turn,) = store.turns(conversation)
    assert (turn.message, turn.finish_reason) == (MESSAGE, "error")
    assert turn.error == "The model is shutting down. Start Marginalia again, then press Retry."


def test_the_app_closing_midway_ends_the_turn_with_its_receipt(
    begin: Callable[..., Run], store: OwnerStore, local_model: LocalModel, watched: WatchedModel
) -> None:
    run = begin(sampling=LONG)
    begun = next(run)
    assert isinstance(begun, Begun)
    watched.before = lambda number: watched.hold() if number == READING + 2 else None
    until(run, replies)
    assert watched.held.wait(PATIENCE)
    closing = threading.Thread(target=local_model.close)
    closing.start()
    watched.release()
    *_, done = run
    closing.join(PATIENCE)
    assert isinstance(done, Done)
    assert store.turn(begun.turn_id).finish_reason == done.receipt.completion.finish_reason
    assert done.receipt.completion.finish_reason in ("cancelled", "length")


# What is refused before anything runs


@pytest.mark.parametrize(
    ("request_", "error", "sentence"),
    [
        ({"message": " \n"}, InputError, "empty"),
        ({"message": "word " * 1200}, PromptTooLong, r"needs [\d,]+ tokens and 1,018 fit"),
        (
            {"sampling": Sampling(max_new_tokens=1024)},
            InputError,
            r"\(max_new_tokens\) of 1,024 leaves no room .* 1,024",
        ),
        ({"reads": "0" * 32}, NotFound, "no conversation"),
        ({"conversation_id": "0" * 32}, NotFound, "no conversation"),
        ({"replaces": "0" * 32}, NotFound, "no turn"),
    ],
    ids=["blank", "too long", "no room", "reads a stranger's", "records at a stranger's", "replaces a stranger's"],
)
def test_what_cannot_be_answered_is_refused_before_anything_runs_or_is_stored(
    begin: Callable[..., Run],
    store: OwnerStore,
    conversation: str,
    watched: WatchedModel,
    request_: dict[str, Any],
    error: type[MarginaliaError],
    sentence: str,
) -> None:
    with pytest.raises(error, match=sentence):
        next(begin(**request_))
    assert store.turns(conversation) == ()
    assert watched.handed == []


def test_a_conversation_of_somebody_else_cannot_be_written_into(
    begin: Callable[..., Run], database: Database, store: OwnerStore, conversation: str
) -> None:
    with pytest.raises(NotFound):
        next(begin(shelf=database.for_owner("eve")))
    with pytest.raises(NotFound):
        next(begin(shelf=database.for_owner("eve"), reads=None))
    assert store.turns(conversation) == ()


# Two tabs, one conversation


def test_a_second_message_is_told_that_the_first_is_being_answered(
    begin: Callable[..., Run],
    say: Callable[..., Receipt],
    store: OwnerStore,
    conversation: str,
    watched: WatchedModel,
) -> None:
    watched.hold()
    first = begin()
    next(first)
    with pytest.raises(ConversationBusy):
        next(begin("Me too!"))
    watched.release()
    list(first)
    say("Now me.")
    assert [(turn.position, turn.message) for turn in store.turns(conversation)] == [(0, MESSAGE), (1, "Now me.")]


class Together:
    """A store in which all who begin a turn have read the same history."""

    def __init__(self, store: OwnerStore, barrier: threading.Barrier) -> None:
        self._store = store
        self._barrier = barrier

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def begin_turn(self, *arguments: Any) -> str:
        self._barrier.wait(PATIENCE)
        return self._store.begin_turn(*arguments)


def test_of_two_messages_at_the_very_same_moment_one_is_answered_and_one_is_told(
    begin: Callable[..., Run], say: Callable[..., Receipt], store: OwnerStore, conversation: str
) -> None:
    say()
    shelf = Together(store, threading.Barrier(2))
    outcomes: list[object] = []

    def send(message: str) -> None:
        try:
            outcomes.append(list(begin(message, shelf=shelf))[-1])
        except MarginaliaError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=send, args=(message,)) for message in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    (done,) = (outcome for outcome in outcomes if isinstance(outcome, Done))
    (told,) = (outcome for outcome in outcomes if not isinstance(outcome, Done))
    assert isinstance(told, ConversationBusy)
    turns = store.turns(conversation)
    assert [turn.position for turn in turns] == [0, 1]
    assert turns[1].id == done.receipt.turn_id


def test_two_conversations_are_answered_side_by_side(begin: Callable[..., Run], store: OwnerStore) -> None:
    def fresh() -> dict[str, str]:
        conversation = store.new_conversation()
        return {"conversation_id": conversation, "reads": conversation}

    def last(run: Iterator[TurnEvent]) -> Receipt:
        *_, done = run
        assert isinstance(done, Done)
        return done.receipt

    alone = last(begin(**fresh()))
    both = [begin(**fresh()), begin(**fresh())]
    assert all(isinstance(next(run), Begun) for run in both)
    assert [last(run).completion.token_ids for run in both] == [alone.completion.token_ids] * 2
