"""Made-up conversations as token ids: encoded exactly as in a chat, with the replies to be learned marked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from chat.encoding import Encoder
from chat.prompt import EARLIER_REPLY, SYSTEM_TEXT, Budget, assemble_prompt
from chat.tuning.maker import MadeUp
from chat.types import Note, PastTurn


@dataclass(frozen=True)
class Example:
    """One conversation: its ids, and for each whether it belongs to a reply that is learned.

    `kept` marks those of them that the base model's own probabilities are the target for.
    """

    token_ids: tuple[int, ...]
    learned: tuple[bool, ...]
    kept: tuple[bool, ...]


@dataclass(frozen=True)
class Batch:
    """Conversations side by side, each tensor of shape (rows, width), filled up on the right. As in Example."""

    token_ids: torch.Tensor
    present: torch.Tensor
    learned: torch.Tensor
    kept: torch.Tensor


def encode_example(made: MadeUp, encoder: Encoder) -> Example:
    """Encode with the app's own prompt assembly: system prompt, notes, history, template.

    The last reply stands in the history like all others, behind which an empty message would follow; the ids are cut
    where that begins, so that each reply ends with the token that ends it in a chat.
    """
    notes = [Note(str(place), text) for place, text in enumerate(made.notes)]
    history = [PastTurn(str(place), turn.message, turn.reply) for place, turn in enumerate(made.exchanges)]
    budget = Budget(1, lambda _: 0, lambda _: 0)
    encoding = encoder.encode(assemble_prompt(SYSTEM_TEXT, notes, history, "-", budget))
    learned, kept = ([False] * len(encoding.token_ids) for _ in range(2))
    end = 0
    for segment in encoding.segments:
        if segment.label == EARLIER_REPLY:
            end = segment.end + 1
            exchange = made.exchanges[int(segment.source_turn_id or 0)]
            learned[segment.start : end] = [exchange.learned] * (end - segment.start)
            kept[segment.start : end] = [exchange.kept] * (end - segment.start)
    return Example(encoding.token_ids[:end], tuple(learned[:end]), tuple(kept[:end]))


def batches_of(examples: Sequence[Example], most_tokens: int, filler: int) -> Iterator[Batch]:
    """The examples in batches of at most `most_tokens`, alike in length so that little is filled up.

    Those with `kept` tokens come in batches of their own, because the base model must read these too.
    """
    waiting: list[Example] = []
    for example in sorted(examples, key=lambda example: (any(example.kept), len(example.token_ids))):
        full = len(example.token_ids) * (len(waiting) + 1) > most_tokens
        if waiting and (full or any(example.kept) != any(waiting[0].kept)):
            yield _batch(waiting, filler)
            waiting = []
        waiting.append(example)
    if waiting:
        yield _batch(waiting, filler)


def _batch(examples: Sequence[Example], filler: int) -> Batch:
    width = max(len(example.token_ids) for example in examples)
    ids = torch.full((len(examples), width), filler)
    present = torch.zeros((len(examples), width), dtype=torch.long)
    learned, kept = (torch.zeros((len(examples), width), dtype=torch.bool) for _ in range(2))
    for row, example in enumerate(examples):
        size = len(example.token_ids)
        ids[row, :size] = torch.tensor(example.token_ids)
        present[row, :size] = 1
        learned[row, :size] = torch.tensor(example.learned)
        kept[row, :size] = torch.tensor(example.kept)
    return Batch(ids, present, learned, kept)
