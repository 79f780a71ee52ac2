"""Values that come from outside are checked at the door; receipts survive the way to JSON and back."""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import FrozenInstanceError, asdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from chat.errors import InputError
from chat.types import (
    MAX_SEED,
    RECEIPT,
    Choice,
    Completion,
    Dropped,
    ModelInfo,
    Piece,
    PromptMessage,
    PromptRecord,
    Receipt,
    Sampling,
    Segment,
    Stage,
    Timing,
    Usage,
    WeightsCheck,
    token_ids_sha256,
)

RECEIPT_OF_EVERYTHING = Receipt(
    turn_id="t",
    conversation_id="c",
    created_at="2026-01-02T03:04:05.678+00:00",
    model=ModelInfo("tiny", "float32", 100, 512),
    prompt=PromptRecord(
        "a\0🙂",
        (1, 2),
        token_ids_sha256((1, 2)),
        (Segment("note", "note 1", None, "n", 0, 2, "a\0🙂"),),
        (Dropped("t0", None, 7, "did not fit"),),
    ),
    sampling=Sampling(temperature=0.1, seed=MAX_SEED),
    completion=Completion("hi", (3,), "stop", (Choice(0.75, ((4, 0.125), (5, 0.0625))),)),
    weights=WeightsCheck("f" * 64, "f" * 64, 100, 0),
    usage=Usage(2, 1, 1, 1, 4096),
    timing=Timing(0.5, 1.5, 2.0, 3.25, 5.25),
    trace=(Stage("receive", 0.0, 0.5),),
)


# Sampling


def test_without_values_sampling_is_greedy() -> None:
    assert Sampling.checked() == Sampling(temperature=0.0, top_p=1.0, top_k=0, seed=0, max_new_tokens=128)


def test_values_in_range_are_taken_whole_numbers_from_a_slider_too() -> None:
    given_values = {"temperature": 1, "top_p": 0.01, "top_k": 1_000_000.0, "seed": MAX_SEED, "max_new_tokens": 4096.0}
    checked = Sampling.checked(**given_values)
    assert asdict(checked) == given_values
    assert [type(value) for value in asdict(checked).values()] == [float, float, int, int, int]


@pytest.mark.parametrize(
    "value", [None, "1", "", True, False, [], {}, float("nan"), float("inf"), float("-inf"), 10**400, -(10**400), -1]
)
@pytest.mark.parametrize("name", ["temperature", "top_p", "top_k", "seed", "max_new_tokens"])
def test_what_is_no_number_in_range_is_refused_by_name_with_the_value_and_the_range(name: str, value: object) -> None:
    with pytest.raises(InputError) as refusal:
        Sampling.checked(**{name: value})
    sentence = str(refusal.value)
    assert sentence.startswith(f"{name} must be a ")
    assert repr(value)[:40] in sentence
    assert " from " in sentence
    assert len(sentence) < 150


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", 5.01),
        ("top_p", 0.0),
        ("top_p", 1.01),
        ("top_k", 1_000_001),
        ("top_k", 1.5),
        ("seed", MAX_SEED + 1),
        ("seed", 2.0**63),
        ("seed", 0.5),
        ("max_new_tokens", 0),
        ("max_new_tokens", 4097),
        ("max_new_tokens", 7.25),
    ],
)
def test_each_range_ends_where_it_says(name: str, value: float) -> None:
    with pytest.raises(InputError, match=f"^{name} must be "):
        Sampling.checked(**{name: value})


# Prompts and receipts


def test_a_messages_content_is_its_pieces_joined() -> None:
    assert PromptMessage("user", (Piece("system", "", "a "), Piece("message", "", "b"))).content == "a b"


@settings(deadline=None, derandomize=True, database=None)
@given(st.lists(st.integers(0, 2**31 - 1)))
def test_the_hash_is_over_the_ids_as_little_endian_int32(token_ids: list[int]) -> None:
    expected = hashlib.sha256(struct.pack(f"<{len(token_ids)}i", *token_ids)).hexdigest()
    assert token_ids_sha256(tuple(token_ids)) == expected


def test_a_receipt_survives_the_way_to_json_and_back() -> None:
    travelled = json.loads(json.dumps(RECEIPT_OF_EVERYTHING.to_dict()))
    assert RECEIPT.validate_python(travelled) == RECEIPT_OF_EVERYTHING


def test_a_receipts_keys_are_those_of_the_contract() -> None:
    plain = RECEIPT_OF_EVERYTHING.to_dict()
    assert {name: list(value) if isinstance(value, dict) else None for name, value in plain.items()} == {
        "turn_id": None,
        "conversation_id": None,
        "created_at": None,
        "model": ["id", "dtype", "parameters", "context_window"],
        "prompt": ["text", "token_ids", "sha256", "segments", "dropped"],
        "sampling": ["temperature", "top_p", "top_k", "seed", "max_new_tokens"],
        "completion": ["text", "token_ids", "finish_reason", "choices"],
        "weights": ["before", "after", "parameters", "changed_parameters"],
        "usage": [
            *["prompt_tokens", "cached_tokens", "prefilled_tokens", "completion_tokens", "kv_cache_bytes"],
            *["drafted_tokens", "accepted_tokens"],
        ],
        "timing": ["queue_ms", "prefill_ms", "time_to_first_token_ms", "decode_ms", "total_ms"],
        "trace": None,
    }
    assert plain["prompt"]["segments"] == [
        {
            "kind": "note",
            "label": "note 1",
            "source_turn_id": None,
            "note_id": "n",
            "start": 0,
            "end": 2,
            "text": "a\0🙂",
        }
    ]
    assert plain["prompt"]["dropped"] == [
        {"source_turn_id": "t0", "note_id": None, "tokens": 7, "reason": "did not fit"}
    ]
    assert plain["prompt"]["token_ids"] == [1, 2]
    choice = {"probability": 0.75, "others": [[4, 0.125], [5, 0.0625]]}
    assert plain["completion"] == {"text": "hi", "token_ids": [3], "finish_reason": "stop", "choices": [choice]}


@pytest.mark.parametrize("damage", [{"usage": None}, {"turn_id": 7}, {"completion": {"finish_reason": "bored"}}])
def test_a_damaged_receipt_is_not_read(damage: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        RECEIPT.validate_python(RECEIPT_OF_EVERYTHING.to_dict() | damage)


def test_a_receipt_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        RECEIPT_OF_EVERYTHING.turn_id = "another"  # type: ignore[misc]
