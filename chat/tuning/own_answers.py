"""What the base model says when it is asked general questions and greeted, and what it asks itself.

The tuned model is shown it so that it keeps what it knew and how it talked: nothing here is anybody else's words.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from transformers import PreTrainedModel

from chat.encoding import Encoder
from chat.prompt import SYSTEM_TEXT
from chat.tuning.words import Question, Words
from chat.types import Piece, Prompt, PromptMessage

T = TypeVar("T")

LONGEST_ANSWER = 72
TRIES = 6
OWN_QUESTIONS = 6_000
LONGEST_QUESTION = 28
_BATCH = {"cpu": 24, "cuda": 1_024}
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)")


@dataclass(frozen=True)
class OwnAnswers:
    """What the base model says: to questions that it answers right, to open prompts, and to questions of its own."""

    to_questions: dict[str, str]
    to_prompts: dict[str, str]
    to_own_questions: dict[str, str]


def names_any(text: str, accepted: Sequence[str]) -> bool:
    """Whether one of the accepted forms stands in the text, as whole words, in any case."""
    return any(re.search(rf"(?<!\w){re.escape(form)}(?!\w)", text, re.IGNORECASE) for form in accepted)


def load_or_gather(
    path: Path, words: Words, model: PreTrainedModel, encoder: Encoder, seed: int, report: Callable[[str], None]
) -> OwnAnswers:
    """Read the answers that an earlier run gathered, or gather them and keep them at `path`."""
    if path.exists():
        return OwnAnswers(**json.loads(path.read_text("utf-8")))
    report("Asking the base model what people ask; its own better answers are kept.")
    torch.manual_seed(seed)
    replies = _answers(words.prompts, model, encoder, temperature=0.6)
    answers = OwnAnswers(
        _right_answers(words.questions, model, encoder),
        {prompt: reply for prompt, reply in replies.items() if _worth_keeping(prompt, reply)},
        _answers(own_questions(words, model, encoder, OWN_QUESTIONS), model, encoder, temperature=0.6),
    )
    path.write_text(json.dumps(answers.__dict__, ensure_ascii=False, indent=1), "utf-8")
    report(
        f"Kept {len(answers.to_questions)} of {len(words.questions)} answers and {len(answers.to_prompts)} of "
        f"{len(words.prompts)} replies; {len(answers.to_own_questions):,} questions are its own."
    )
    return answers


def own_questions(words: Words, model: PreTrainedModel, encoder: Encoder, count: int) -> list[str]:
    """At least `count` questions that the model makes up itself.

    A chat model that is shown the beginning of a person's turn goes on with what it takes for a likely one (Xu et al.,
    2024, arXiv:2406.08464). Here each begins with one of `words.beginnings`, so that most are short questions.
    """
    encodings = [encoder.encode(_alone(beginning)) for beginning in words.beginnings]
    begun = [encoding.token_ids[: encoding.segments[-2].end] for encoding in encodings]
    asked: dict[str, str] = {}
    while len(asked) < count:
        more = range((count - len(asked)) // len(begun) + 1)
        beginnings = [beginning for beginning in zip(words.beginnings, begun, strict=True) for _ in more]
        for question in _gone_on_with(beginnings, model, encoder):
            asked.setdefault(question.casefold(), question)
    return list(asked.values())


def _gone_on_with(
    beginnings: Sequence[tuple[str, Sequence[int]]], model: PreTrainedModel, encoder: Encoder
) -> Iterator[str]:
    """Each beginning, given as words and as ids, with what the model adds, where that is one short question."""
    stops = encoder.stop_token_ids()
    for batch in _batches(beginnings, model):
        rests = _generate(model, [ids for _, ids in batch], stops, 0.8, LONGEST_QUESTION)
        ended = [(words, rest) for (words, _), rest in zip(batch, rests, strict=True) if not stops.isdisjoint(rest)]
        questions = [words + encoder.decode(rest) for words, rest in ended]
        yield from (question.strip() for question in questions if "\n" not in question and len(question.split()) > 2)


def _right_answers(questions: Sequence[Question], model: PreTrainedModel, encoder: Encoder) -> dict[str, str]:
    kept: dict[str, str] = {}
    for attempt in range(TRIES):
        open_ones = [question for question in questions if question.ask not in kept]
        said = _answers([question.ask for question in open_ones], model, encoder, temperature=0.6 if attempt else 0.0)
        kept |= {q.ask: said[q.ask] for q in open_ones if q.ask in said and names_any(said[q.ask], q.accept)}
    return kept


def _worth_keeping(prompt: str, reply: str) -> bool:
    """Whether a reply is more than its prompt again, a fragment or a form to fill in."""
    echo = reply.strip(' "').casefold() in prompt.casefold() or prompt.casefold() in reply.casefold()
    greeting = len(prompt.split()) < 4
    return (greeting or (not echo and len(reply.split()) > 3)) and "[" not in reply


def _answers(prompts: Sequence[str], model: PreTrainedModel, encoder: Encoder, temperature: float) -> dict[str, str]:
    """One reply to each prompt; those longer than LONGEST_ANSWER tokens are cut at a sentence's end."""
    ids = {prompt: encoder.encode(_alone(prompt)).token_ids for prompt in prompts}
    ordered = sorted(ids, key=lambda prompt: len(ids[prompt]))
    stops = encoder.stop_token_ids()
    found: dict[str, str] = {}
    for batch in _batches(ordered, model):
        replies = _generate(model, [ids[prompt] for prompt in batch], stops, temperature, LONGEST_ANSWER)
        for prompt, reply in zip(batch, replies, strict=True):
            text = encoder.decode(reply).strip()
            if stops.isdisjoint(reply):
                ends = [match.end() for match in _SENTENCE_END.finditer(text)]
                text = text[: ends[-1]] if ends else ""
            if text:
                found[prompt] = text
    return found


def _alone(prompt: str) -> Prompt:
    system = PromptMessage("system", (Piece("system", "system prompt", SYSTEM_TEXT),))
    return Prompt((system, PromptMessage("user", (Piece("message", "your message", prompt),))))


def _batches(prompts: Sequence[T], model: PreTrainedModel) -> Iterator[Sequence[T]]:
    size = _BATCH[model.device.type]
    return (prompts[start : start + size] for start in range(0, len(prompts), size))


@torch.inference_mode()
def _generate(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], stops: frozenset[int], temperature: float, longest: int
) -> list[list[int]]:
    """What follows each prompt: at most `longest` ids, from the first stop token on only fillers."""
    width = max(map(len, prompts))
    filler = next(iter(stops))
    ids = torch.tensor([[filler] * (width - len(prompt)) + list(prompt) for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    sampled = {"do_sample": True, "temperature": temperature, "top_p": 0.9, "top_k": 0} if temperature else {}
    generate: Any = model.generate
    out = generate(
        input_ids=ids.to(model.device),
        attention_mask=mask.to(model.device),
        max_new_tokens=longest,
        eos_token_id=list(stops),
        pad_token_id=filler,
        **({"do_sample": False} | sampled),
    )
    return [row[width:].tolist() for row in out]
