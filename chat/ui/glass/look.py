"""What the page looks at: one turn with its receipt, among the turns of its conversation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from chat.errors import NotFound
from chat.types import Receipt, Turn
from chat.ui.store import PersonStore
from chat.ui.visible import shortened

MOST_TURNS = 200


@dataclass(frozen=True)
class Look:
    """A finished turn and its receipt. `turns` are those of its conversation that have one too, oldest first."""

    turn: Turn
    receipt: Receipt
    turns: tuple[Turn, ...]

    @property
    def place(self) -> int:
        """Where the turn stands among them."""
        return [turn.id for turn in self.turns].index(self.turn.id)

    def earlier(self) -> Turn | None:
        """The turn before it."""
        return self.turns[self.place - 1] if self.place else None


def look_at(store: PersonStore, turn_id: str) -> Look:
    """One turn. Raises NotFound if it is not this person's, or has no receipt (yet)."""
    turn = store.turn(turn_id)
    return Look(turn, store.receipt(turn_id), finished_turns(store, turn.conversation_id, also=turn))


def finished_turns(store: PersonStore, conversation_id: str, also: Turn | None = None) -> tuple[Turn, ...]:
    """The newest turns with a receipt, oldest first. `also` is one of them even if it was tried again since."""
    turns = [turn for turn in store.turns(conversation_id, MOST_TURNS) if turn.usage]
    if also is not None and also.id not in {turn.id for turn in turns}:
        turns = sorted([*turns, also], key=lambda turn: turn.position)
    return tuple(turns)


def receipts_of(store: PersonStore, turns: tuple[Turn, ...]) -> Iterator[tuple[Turn, Receipt]]:
    """The receipts of some turns; a turn that is deleted meanwhile is passed over."""
    for turn in turns:
        try:
            yield turn, store.receipt(turn.id)
        except NotFound:
            continue


def name_of(turn: Turn) -> str:
    """A turn as the page names it."""
    return f"Turn {turn.position + 1}, “{shortened(turn.message, 40)}”"
