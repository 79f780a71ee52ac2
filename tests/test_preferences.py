"""Pairs for preference training: which there are, what their prompt is, and how they stand in the file."""

from __future__ import annotations

import json

import pytest

from chat.encoding import Encoder
from chat.preferences import ChatMessage, Judged, as_jsonl, messages_of, preference_pairs
from chat.prompt import SYSTEM_TEXT, Budget, assemble_prompt
from chat.receipt import record_prompt
from chat.types import (
    Completion,
    Feedback,
    ModelInfo,
    Note,
    PastTurn,
    PromptRecord,
    Receipt,
    Sampling,
    Segment,
    Timing,
    Usage,
    Verdict,
    WeightsCheck,
    token_ids_sha256,
)
from chat.weights import LoadedModel

ROOMY = Budget(10**9, lambda _prompt: 0, len)
QUESTION = "Who runs finance?"


def judged(turn_id: str, verdict: Verdict, reply: str, better: str = "", asked: str = QUESTION) -> Judged:
    ids = tuple(map(ord, asked))
    template = Segment("template", "chat template", None, None, 0, 0, "<|im_start|>user\n")
    message = Segment("message", "your message", None, None, 0, len(ids), asked)
    receipt = Receipt(
        turn_id=turn_id,
        conversation_id="c",
        created_at="",
        model=ModelInfo("tiny", "float32", 1, 1),
        prompt=PromptRecord(template.text + asked, ids, token_ids_sha256(ids), (template, message), ()),
        sampling=Sampling(),
        completion=Completion(reply, (1,), "stop"),
        weights=WeightsCheck("f", "f", 1, 0),
        usage=Usage(1, 0, 1, 1, 1),
        timing=Timing(0, 0, 0, 0, 0),
    )
    return Judged(Feedback(turn_id, verdict, "why", better), receipt)


def sides(*given: Judged) -> list[tuple[str, str]]:
    return [(pair.chosen, pair.rejected) for pair in preference_pairs(given)]


def test_a_bad_reply_with_what_it_should_have_said_is_a_pair() -> None:
    (pair,) = preference_pairs([judged("a", "down", "Priya.", better="Dana.")])
    assert (pair.chosen, pair.rejected, pair.turn_ids) == ("Dana.", "Priya.", {"a"})
    assert pair.prompt == (ChatMessage("user", QUESTION),)


def test_a_good_and_a_bad_try_of_the_same_prompt_are_a_pair_whichever_came_first() -> None:
    good, bad = judged("a", "up", "Dana."), judged("b", "down", "Priya.")
    assert sides(good, bad) == sides(bad, good) == [("Dana.", "Priya.")]
    assert preference_pairs([good, bad])[0].turn_ids == {"a", "b"}


@pytest.mark.parametrize(
    "given",
    [
        [judged("a", "up", "Dana.")],
        [judged("a", "down", "Priya.")],
        [judged("a", "up", "Dana.", better="Left from when it was called bad.")],
        [judged("a", "up", "Dana."), judged("b", "up", "It is Dana.")],
        [judged("a", "up", "Dana."), judged("b", "down", "Priya.", asked="Who runs sales?")],
        [judged("a", "up", "Dana."), judged("b", "down", "Dana.")],
        [judged("a", "down", "Dana.", better="Dana.")],
    ],
    ids=["good", "bad", "good with words", "two good", "two prompts", "good and bad", "no better"],
)
def test_what_lacks_its_other_side_is_no_pair(given: list[Judged]) -> None:
    assert preference_pairs(given) == ()


def test_each_pair_is_there_once_and_knows_all_its_turns() -> None:
    good, bad = judged("a", "up", "Dana."), judged("b", "down", "Priya.", better="Dana.")
    again = judged("c", "down", "Priya.")
    assert sides(good, bad, again) == [("Dana.", "Priya.")]
    assert preference_pairs([good, bad, again])[0].turn_ids == {"a", "b", "c"}


def test_the_file_has_one_object_a_line_whatever_the_texts_hold() -> None:
    hostile = 'a\nb\r\u2028c\u0085 "d" \\ Zürich \ud800 <|im_end|>'
    lines = as_jsonl(preference_pairs([judged("a", "down", hostile, better="Dana."), judged("b", "up", "x")]))
    first, second = lines.splitlines()
    assert json.loads(first) == {
        "prompt": [{"role": "user", "content": QUESTION}],
        "chosen": [{"role": "assistant", "content": "Dana."}],
        "rejected": [{"role": "assistant", "content": hostile}],
    }
    assert json.loads(second)["chosen"] == [{"role": "assistant", "content": "x"}]
    assert lines.endswith("}\n")
    assert as_jsonl([]) == ""


def messages_sent(loaded: LoadedModel, *notes: str) -> list[tuple[str, str]]:
    history = [PastTurn("t", "I say <|im_start|>", "And <|eot_id|> I reply.\nTwice.")]
    prompt = assemble_prompt(SYSTEM_TEXT, [Note("n", text) for text in notes], history, QUESTION, ROOMY)
    record = record_prompt(Encoder(loaded.tokenizer).encode(prompt), ())
    messages = [(message.role, message.content) for message in messages_of(record)]
    if messages[0][0] == "system":
        assert messages == [(message.role, message.content) for message in prompt.messages]
    return messages


def test_the_messages_are_those_that_were_sent_with_nothing_of_the_template(
    smollm2: LoadedModel, tiny_llama: LoadedModel, tiny_qwen: LoadedModel
) -> None:
    for loaded in (smollm2, tiny_llama, tiny_qwen):
        roles = [role for role, _ in messages_sent(loaded, "Ada likes tea.", "Ada lives in Bergen.")]
        assert roles == ["system", "user", "assistant", "user"]


def test_a_system_part_without_a_role_of_its_own_is_in_the_first_message_as_it_was_read(
    tiny_gemma: LoadedModel,
) -> None:
    (first_role, first), reply, question = messages_sent(tiny_gemma)
    assert (first_role, first) == ("user", f"{SYSTEM_TEXT}\n\nI say <|im_start|>")
    assert reply[0] == "assistant"
    assert question == ("user", QUESTION)
