"""The base model's own answers to general questions and small talk, kept where they are good.

The tuned model is shown them so that it keeps what it knew and how it talked: nothing here is anybody else's words.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from chat.encoding import Encoder
from chat.prompt import SYSTEM_TEXT
from chat.tuning.words import Question, Words
from chat.types import Piece, Prompt, PromptMessage

LONGEST_ANSWER = 72
TRIES = 3
_BATCH = 24
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)")


@dataclass(frozen=True)
class OwnAnswers:
    """What the base model says: to questions that it answers right, and to open prompts."""

    to_questions: dict[str, str]
    to_prompts: dict[str, str]


def names_any(text: str, accepted: Sequence[str]) -> bool:
    """Whether one of the accepted forms stands in the text, as whole words, in any case."""
    return any(re.search(rf"(?<!\w){re.escape(form)}(?!\w)", text, re.IGNORECASE) for form in accepted)


def load_or_gather(
    path: Path, words: Words, model: PreTrainedModel, encoder: Encoder, report: Callable[[str], None]
) -> OwnAnswers:
    """Read the answers that an earlier run gathered, or gather them and keep them at `path`."""
    if path.exists():
        return OwnAnswers(**json.loads(path.read_text("utf-8")))
    report("Asking the base model the general questions; its own better answers are kept.")
    replies = _answers(words.prompts, model, encoder, temperature=0.6)
    answers = OwnAnswers(
        _better_answers(words.questions, model, encoder),
        {prompt: reply for prompt, reply in replies.items() if _worth_keeping(prompt, reply)},
    )
    path.write_text(json.dumps(answers.__dict__, ensure_ascii=False, indent=1), "utf-8")
    report(
        f"Kept {len(answers.to_questions)} of {len(words.questions)} answers and {len(answers.to_prompts)} of "
        f"{len(words.prompts)} replies."
    )
    return answers


def _better_answers(questions: Sequence[Question], model: PreTrainedModel, encoder: Encoder) -> dict[str, str]:
    kept: dict[str, str] = {}
    for attempt in range(TRIES):
        open_ones = [question for question in questions if question.ask not in kept]
        said = _answers([question.ask for question in open_ones], model, encoder, temperature=0.6 if attempt else 0.0)
        kept |= {q.ask: _up_to(said[q.ask], q) for q in open_ones if q.ask in said and names_any(said[q.ask], q.accept)}
    return kept


def _up_to(answer: str, question: Question) -> str:
    """The answer up to the sentence that answers: what a small model adds behind it is often made up."""
    ends = [match.end() for match in _SENTENCE_END.finditer(answer)]
    return next((answer[:end].strip() for end in ends if names_any(answer[:end], question.accept)), answer)


def _worth_keeping(prompt: str, reply: str) -> bool:
    """Whether a reply is more than its prompt again, a fragment or a form to fill in."""
    echo = reply.strip(' "').casefold() in prompt.casefold() or prompt.casefold() in reply.casefold()
    greeting = len(prompt.split()) < 4
    return (greeting or (not echo and len(reply.split()) > 3)) and "[" not in reply


def _answers(prompts: Sequence[str], model: PreTrainedModel, encoder: Encoder, temperature: float) -> dict[str, str]:
    """One reply to each prompt; those that did not end within LONGEST_ANSWER tokens are left out."""
    ids = {prompt: encoder.encode(_alone(prompt)).token_ids for prompt in prompts}
    ordered = sorted(prompts, key=lambda prompt: len(ids[prompt]))
    stops = encoder.stop_token_ids()
    found: dict[str, str] = {}
    for batch in _batches(ordered):
        replies = _generate(model, [ids[prompt] for prompt in batch], stops, temperature)
        for prompt, reply in zip(batch, replies, strict=True):
            ended = next((place for place, token in enumerate(reply) if token in stops), None)
            text = encoder.decode(reply[:ended]).strip() if ended is not None else ""
            if text:
                found[prompt] = text
    return found


def _alone(prompt: str) -> Prompt:
    system = PromptMessage("system", (Piece("system", "system prompt", SYSTEM_TEXT),))
    return Prompt((system, PromptMessage("user", (Piece("message", "your message", prompt),))))


def _batches(prompts: Sequence[str]) -> Iterator[Sequence[str]]:
    return (prompts[start : start + _BATCH] for start in range(0, len(prompts), _BATCH))


@torch.inference_mode()
def _generate(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], stops: frozenset[int], temperature: float
) -> list[list[int]]:
    width = max(map(len, prompts))
    filler = next(iter(stops))
    ids = torch.tensor([[filler] * (width - len(prompt)) + list(prompt) for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    sampled = {"do_sample": True, "temperature": temperature, "top_p": 0.9, "top_k": 0} if temperature else {}
    generate: Any = model.generate
    out = generate(
        input_ids=ids.to(model.device),
        attention_mask=mask.to(model.device),
        max_new_tokens=LONGEST_ANSWER,
        eos_token_id=list(stops),
        pad_token_id=filler,
        **({"do_sample": False} | sampled),
    )
    return [row[width:].tolist() for row in out]
