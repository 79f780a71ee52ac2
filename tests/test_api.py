"""The named endpoints, driven by gradio_client against the real app: their shapes are a contract."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterator
from itertools import pairwise
from time import monotonic
from typing import Any

import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError
from running_app import PATIENCE, Browser, RunningApp, client_of
from transformers import AutoTokenizer

from chat.prompt import SYSTEM_TEXT

ENDPOINTS = {"/chat", "/receipt", "/new_conversation", "/remember", "/notes", "/compare"}
NOTE_KEYS = {"id", "text", "enabled", "draft", "origin", "source_turn_ids", "created_at", "replaces"}
KEYS = {
    "": {
        "turn_id",
        "conversation_id",
        "created_at",
        "model",
        "prompt",
        "sampling",
        "completion",
        "weights",
        "usage",
        "timing",
    },
    "model": {"id", "dtype", "parameters", "context_window"},
    "prompt": {"text", "token_ids", "sha256", "segments", "dropped"},
    "sampling": {"temperature", "top_p", "top_k", "seed", "max_new_tokens"},
    "completion": {"text", "token_ids", "finish_reason"},
    "weights": {"before", "after", "parameters", "changed_parameters"},
    "usage": {"prompt_tokens", "cached_tokens", "prefilled_tokens", "completion_tokens", "kv_cache_bytes"},
    "timing": {"queue_ms", "prefill_ms", "time_to_first_token_ms", "decode_ms", "total_ms"},
}


@pytest.fixture
def client(running_app: RunningApp) -> Iterator[Client]:
    """A person who has said nothing yet."""
    client = client_of(running_app.url)
    yield client
    client.close()


@pytest.fixture
def stranger(running_app: RunningApp) -> Iterator[Client]:
    """Another one."""
    client = client_of(running_app.url)
    yield client
    client.close()


def chat(client: Client, message: str, conversation_id: str = "", **options: Any) -> dict[str, str]:
    options = {"max_new_tokens": 8} | options
    answer: dict[str, str] = client.predict(message, conversation_id, api_name="/chat", **options)
    return answer


def receipt_of(client: Client, turn: dict[str, str]) -> dict[str, Any]:
    receipt: dict[str, Any] = client.predict(turn["turn_id"], api_name="/receipt")
    return receipt


def segments(receipt: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [segment for segment in receipt["prompt"]["segments"] if segment["kind"] == kind]


def test_the_endpoints_of_the_contract_are_listed_and_nothing_else_is_public(
    client: Client, running_app: RunningApp
) -> None:
    listed = client.view_api(return_format="dict", print_info=False)
    assert set(listed["named_endpoints"]) == ENDPOINTS
    assert listed["unnamed_endpoints"] == {}
    with Browser(running_app.url) as browser:
        public = {each["api_name"] for each in browser.config["dependencies"] if each["api_visibility"] != "private"}
    assert public == {name.removeprefix("/") for name in ENDPOINTS}


def test_the_parameters_of_chat_have_the_names_and_defaults_of_the_contract(client: Client) -> None:
    listed = client.view_api(return_format="dict", print_info=False)["named_endpoints"]["/chat"]["parameters"]
    told = {each["parameter_name"]: each.get("parameter_default") for each in listed}
    assert told == {
        "message": None,
        "conversation_id": "",
        "use_memory": True,
        "temperature": 0.0,
        "seed": 0,
        "max_new_tokens": 128,
    }


def test_a_reply_grows_and_ends_with_its_ids_and_the_whole_of_it(client: Client) -> None:
    items = list(client.submit("Hello there", max_new_tokens=12, api_name="/chat"))
    replies = [item["reply"] for item in items]
    assert len(set(replies)) > 1
    assert all(later.startswith(earlier) for earlier, later in pairwise(replies))
    assert {(item["conversation_id"], item["turn_id"]) for item in items} == {
        (items[-1]["conversation_id"], items[-1]["turn_id"])
    }
    assert set(items[-1]) == {"conversation_id", "turn_id", "reply"}
    assert items[-1]["reply"] == receipt_of(client, items[-1])["completion"]["text"] != ""


def test_a_receipt_has_every_key_of_the_contract(client: Client) -> None:
    turn = chat(client, "Hello")
    receipt = receipt_of(client, turn)
    assert receipt.keys() >= KEYS[""]
    for part in KEYS.keys() - {""}:
        assert receipt[part].keys() >= KEYS[part]
    for segment in receipt["prompt"]["segments"]:
        assert segment.keys() >= {"kind", "label", "source_turn_id", "note_id", "start", "end", "text"}
    assert (receipt["turn_id"], receipt["conversation_id"]) == (turn["turn_id"], turn["conversation_id"])
    assert json.loads(json.dumps(receipt)) == receipt


def test_the_segments_partition_the_ids_and_the_digest_is_over_them(client: Client) -> None:
    first = chat(client, "My name is Ada.")
    prompt = receipt_of(client, chat(client, "What is my name?", first["conversation_id"]))["prompt"]
    places = [(segment["start"], segment["end"]) for segment in prompt["segments"]]
    assert [start for start, _ in places] == [0, *(end for _, end in places[:-1])]
    assert places[-1][1] == len(prompt["token_ids"])
    assert all(start < end for start, end in places)
    assert "".join(segment["text"] for segment in prompt["segments"]) == prompt["text"]
    packed = struct.pack(f"<{len(prompt['token_ids'])}i", *prompt["token_ids"])
    assert prompt["sha256"] == hashlib.sha256(packed).hexdigest()


def test_the_model_read_what_its_own_template_makes_of_the_conversation(client: Client, talkative_dir: Any) -> None:
    first = chat(client, "My name is Ada.")
    second = chat(client, "What is my name?", first["conversation_id"])
    told = [
        {"role": "system", "content": SYSTEM_TEXT},
        {"role": "user", "content": "My name is Ada."},
        {"role": "assistant", "content": first["reply"]},
        {"role": "user", "content": "What is my name?"},
    ]
    tokenizer = AutoTokenizer.from_pretrained(talkative_dir)
    text = tokenizer.apply_chat_template(told, add_generation_prompt=True, tokenize=False)
    assert receipt_of(client, second)["prompt"]["text"] == text


def test_what_was_read_and_written_is_counted_and_no_weight_moved(client: Client) -> None:
    first = chat(client, "One two three")
    receipt = receipt_of(client, chat(client, "Four five six", first["conversation_id"]))
    usage = receipt["usage"]
    assert usage["prompt_tokens"] == len(receipt["prompt"]["token_ids"])
    assert usage["cached_tokens"] + usage["prefilled_tokens"] == usage["prompt_tokens"]
    assert usage["cached_tokens"] > 0
    assert usage["completion_tokens"] == len(receipt["completion"]["token_ids"]) == 8
    assert receipt["completion"]["finish_reason"] == "length"
    assert receipt["weights"]["before"] == receipt["weights"]["after"]
    assert receipt["weights"]["changed_parameters"] == 0
    assert receipt["weights"]["parameters"] == receipt["model"]["parameters"]


def test_an_earlier_turn_stands_in_the_next_prompt_under_its_id(client: Client) -> None:
    first = chat(client, "Dana runs finance.")
    receipt = receipt_of(client, chat(client, "Who runs finance?", first["conversation_id"]))
    said, replied = segments(receipt, "history")
    assert said["source_turn_id"] == replied["source_turn_id"] == first["turn_id"]
    assert (said["text"], replied["text"]) == ("Dana runs finance.", first["reply"].strip())
    assert [segment["text"] for segment in segments(receipt, "message")] == ["Who runs finance?"]


def test_a_new_conversation_is_empty_and_can_be_talked_in(client: Client) -> None:
    chat(client, "Said elsewhere.")
    conversation_id = client.predict(api_name="/new_conversation")
    turn = chat(client, "Hello", conversation_id)
    assert turn["conversation_id"] == conversation_id
    assert segments(receipt_of(client, turn), "history") == []


def test_the_same_seed_gives_the_same_reply_and_another_one_another(client: Client) -> None:
    def reply(seed: int) -> str:
        return chat(client, "Tell me a story", temperature=1.5, seed=seed, max_new_tokens=24)["reply"]

    assert reply(7) == reply(7) != reply(8)


def test_remembered_notes_are_listed_and_stand_in_the_next_prompt_only_while_memory_is_on(
    client: Client, stranger: Client
) -> None:
    turn = chat(client, "Dana runs finance.")
    written = client.predict(turn["conversation_id"], api_name="/remember")
    assert written
    assert client.predict(api_name="/notes") == written
    assert all(note["source_turn_ids"] == [turn["turn_id"]] for note in written)
    assert all(note["enabled"] and not note["draft"] and note["origin"] == "model" for note in written)
    assert {frozenset(note) for note in written} == {frozenset(NOTE_KEYS)}
    assert {note["replaces"] for note in written} == {None}

    with_notes = receipt_of(client, chat(client, "Who runs finance?", use_memory=True))
    told = [(segment["note_id"], segment["text"]) for segment in segments(with_notes, "note") if segment["note_id"]]
    assert told == [(note["id"], f"\n- {note['text']}") for note in written]

    without = receipt_of(client, chat(client, "Who runs finance?", use_memory=False))
    assert segments(without, "note") == []
    never_had_any = receipt_of(stranger, chat(stranger, "Who runs finance?", use_memory=True))
    assert without["prompt"]["token_ids"] == never_had_any["prompt"]["token_ids"]
    assert without["prompt"]["token_ids"] != with_notes["prompt"]["token_ids"]


def test_notes_of_nothing_are_refused_in_a_sentence(client: Client) -> None:
    conversation_id = client.predict(api_name="/new_conversation")
    with pytest.raises(AppError, match="nothing to take notes from yet"):
        client.predict(conversation_id, api_name="/remember")


def test_compare_answers_once_for_each_pane_from_three_prompts(client: Client) -> None:
    turn = chat(client, "Dana runs finance.")
    notes = client.predict(turn["conversation_id"], api_name="/remember")
    panes = client.predict("Who runs finance?", turn["conversation_id"], max_new_tokens=8, api_name="/compare")
    assert [pane["pane"] for pane in panes] == ["fresh", "continued", "memory"]
    for pane in panes:
        assert pane["error"] is None
        assert pane["title"]
        assert pane["reply"] == pane["receipt"]["completion"]["text"] != ""
        assert [segment["text"] for segment in segments(pane["receipt"], "message")] == ["Who runs finance?"]
    fresh, continued, memory = (pane["receipt"] for pane in panes)
    assert segments(fresh, "history") == segments(fresh, "note") == []
    assert {segment["source_turn_id"] for segment in segments(continued, "history")} == {turn["turn_id"]}
    assert segments(continued, "note") == []
    assert [segment["note_id"] for segment in segments(memory, "note")[1:]] == [note["id"] for note in notes]
    assert segments(memory, "history") == []


def test_a_comparison_leaves_the_conversation_as_it_was(client: Client) -> None:
    turn = chat(client, "Dana runs finance.")
    client.predict("Who runs finance?", turn["conversation_id"], max_new_tokens=8, api_name="/compare")
    receipt = receipt_of(client, chat(client, "And sales?", turn["conversation_id"]))
    assert {segment["source_turn_id"] for segment in segments(receipt, "history")} == {turn["turn_id"]}


def test_a_client_that_cancels_ends_its_turn_and_what_was_said_is_kept(client: Client) -> None:
    job = client.submit("Tell me everything", max_new_tokens=4000, api_name="/chat")
    turn = next(iter(job))
    job.cancel()
    deadline = monotonic() + PATIENCE
    while True:
        try:
            receipt = receipt_of(client, turn)
            break
        except AppError:
            assert monotonic() < deadline, "the turn was never settled"
    assert receipt["completion"]["finish_reason"] == "cancelled"
    assert receipt["completion"]["text"].startswith(turn["reply"])
    assert 0 < receipt["usage"]["completion_tokens"] < 4000


def test_any_program_can_call_without_a_client_library(running_app: RunningApp) -> None:
    with Browser(running_app.url) as browser:
        begun = browser.http.post("/gradio_api/call/chat", json={"data": ["Hello", "", True, 0.0, 0, 8]})
        answer = browser.http.get(f"/gradio_api/call/chat/{begun.json()['event_id']}")
        last = json.loads(answer.text.rsplit("data: ", 1)[1])[0]
        assert last["reply"] == browser.call("receipt", last["turn_id"])["completion"]["text"]
