"""Made-up conversations as token ids: encoded exactly as in a chat, with the replies to be learned marked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields

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
    """Conversations packed into rows, one behind the other, each tensor of shape (rows, width).

    `conversation` numbers those of a row from 1 on; 0 is what a row is filled up with. `positions` begin anew with
    each. `learned` and `kept` as in Example.
    """

    token_ids: torch.Tensor
    conversation: torch.Tensor
    positions: torch.Tensor
    learned: torch.Tensor
    kept: torch.Tensor

    @property
    def tokens(self) -> int:
        """How many tokens the conversations have."""
        return int((self.conversation > 0).sum())

    @property
    def learned_tokens(self) -> int:
        """How many of them belong to a reply that is learned."""
        return int(self.learned.sum())

    def to(self, device: str) -> Batch:
        """The same on another device."""
        return self._each(lambda tensor: tensor.to(device))

    def rows_with_kept(self) -> Batch:
        """Only the rows that have `kept` tokens."""
        rows = self.kept.any(dim=1)
        return self._each(lambda tensor: tensor[rows])

    def _each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Batch:
        return Batch(**{field.name: change(getattr(self, field.name)) for field in fields(self)})

    def attention_mask(self) -> torch.Tensor:
        """Of shape (rows, 1, width, width): whether a token reads another: one of its own conversation up to itself."""
        together = self.conversation[:, :, None] == self.conversation[:, None, :]
        return together.tril()[:, None]


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
            kept[segment.start : end] = [exchange.learned and exchange.kept] * (end - segment.start)
    return Example(encoding.token_ids[:end], tuple(learned[:end]), tuple(kept[:end]))


def batches_of(examples: Sequence[Example], row: int, rows_at_once: int, filler: int) -> Iterator[Batch]:
    """The examples in batches of so many rows, each of `row` tokens or of one longer conversation.

    The longest come first, each into the first row that has room for it, so that little is filled up. Those with `kept`
    tokens have rows of their own, because the base model must read these too.
    """
    rows: list[list[Example]] = []
    for example in sorted(examples, key=lambda example: (any(example.kept), -len(example.token_ids))):
        room = (each for each in rows if _fits(example, each, row))
        found = next(room, None)
        if found is None:
            rows.append([example])
        else:
            found.append(example)
    for first in range(0, len(rows), rows_at_once):
        yield _batch(rows[first : first + rows_at_once], filler)


def _fits(example: Example, others: Sequence[Example], row: int) -> bool:
    alike = any(example.kept) == any(others[0].kept)
    return alike and sum(len(other.token_ids) for other in (*others, example)) <= row


def _batch(rows: Sequence[Sequence[Example]], filler: int) -> Batch:
    width = max(sum(len(example.token_ids) for example in row) for row in rows)
    shape = (len(rows), width)
    ids = torch.full(shape, filler)
    conversation, positions = (torch.zeros(shape, dtype=torch.long) for _ in range(2))
    learned, kept = (torch.zeros(shape, dtype=torch.bool) for _ in range(2))
    for place, row in enumerate(rows):
        begin = 0
        for number, example in enumerate(row, start=1):
            span = slice(begin, begin + len(example.token_ids))
            ids[place, span] = torch.tensor(example.token_ids)
            conversation[place, span] = number
            positions[place, span] = torch.arange(len(example.token_ids))
            learned[place, span] = torch.tensor(example.learned)
            kept[place, span] = torch.tensor(example.kept)
            begin = span.stop
    return Batch(ids, conversation, positions, learned, kept)
