"""Made-up conversations as token ids: encoded exactly as in a chat, with the replies to be learned marked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch.nn.functional import pad

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
class Shape:
    """How large a batch is: so many rows of so many tokens, so many of which are foretold."""

    rows: int
    width: int
    places: int


@dataclass(frozen=True)
class Batch:
    """Conversations packed into rows, one behind the other: `token_ids`, `conversation`, `positions` of (rows, width).

    `conversation` numbers those of a row from 1 on; 0 is what a row is filled up with. `positions` begin anew with
    each. Of shape (places,): `places` says where in all rows, one behind the other, a learned token is to be foretold,
    `targets` which one that is; `learn` is 1 where it is the target, `keep` where the base model's probabilities are.
    """

    token_ids: torch.Tensor
    conversation: torch.Tensor
    positions: torch.Tensor
    places: torch.Tensor
    targets: torch.Tensor
    learn: torch.Tensor
    keep: torch.Tensor
    keeps: bool

    @property
    def tokens(self) -> int:
        """How many tokens the conversations have."""
        return int((self.conversation > 0).sum())

    @property
    def learned_tokens(self) -> int:
        """How many of them belong to a reply that is learned."""
        return int(self.learn.sum() + self.keep.sum())

    def to(self, device: str) -> Batch:
        """The same on another device."""
        return Batch(**{name: tensor.to(device) for name, tensor in self.tensors().items()}, keeps=self.keeps)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Its tensors by name."""
        return {name: value for name, value in vars(self).items() if isinstance(value, torch.Tensor)}

    def padded(self, shape: Shape) -> Batch | None:
        """The same in larger tensors, where what is added counts for nothing. None if it is larger than that."""
        rows, width = self.token_ids.shape
        beside, below, behind = shape.width - width, shape.rows - rows, shape.places - len(self.places)
        if min(beside, below, behind) < 0:
            return None
        # Rows are wider now, so that what lies in one of them begins further behind.
        moved = self.places // width * shape.width + self.places % width
        sizes = {2: (0, beside, 0, below), 1: (0, behind)}
        larger = {
            name: pad(tensor, sizes[tensor.dim()]) for name, tensor in (self.tensors() | {"places": moved}).items()
        }
        return Batch(**larger, keeps=self.keeps)

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


def batches_of(examples: Sequence[Example], learning: Shape, keeping: Shape, filler: int) -> Iterator[Batch]:
    """The examples packed into rows, and these into batches, as wide as their shape or as one longer conversation.

    Those with `kept` tokens have batches of their own, `keeping`, because the base model must read these too.
    """
    for keeps, shape in ((False, learning), (True, keeping)):
        rows = _rows([example for example in examples if any(example.kept) == keeps], shape.width)
        for first in range(0, len(rows), shape.rows):
            yield _batch(rows[first : first + shape.rows], filler, keeps)


def _rows(examples: Sequence[Example], width: int) -> list[list[Example]]:
    """The longest come first, each into the first row that has room for it, so that little is filled up."""
    rows: list[list[Example]] = []
    for example in sorted(examples, key=lambda example: -len(example.token_ids)):
        room = (row for row in rows if sum(len(other.token_ids) for other in (*row, example)) <= width)
        row = next(room, None)
        if row is None:
            rows.append([example])
        else:
            row.append(example)
    return rows


def _batch(rows: Sequence[Sequence[Example]], filler: int, keeps: bool) -> Batch:
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
    (foretold,) = learned.flatten().nonzero(as_tuple=True)
    keep = kept.flatten()[foretold].float()
    return Batch(ids, conversation, positions, foretold - 1, ids.flatten()[foretold], 1 - keep, keep, keeps)
