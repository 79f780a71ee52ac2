"""Turns: begun before the model runs, finished with a receipt that nothing overwrites."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from chat.errors import ConversationBusy, NotFound, StoreError
from chat.types import (
    RECEIPT,
    FinishReason,
    History,
    PastTurn,
    Receipt,
    Sampling,
    Timing,
    Turn,
    Usage,
    WeightsCheck,
)
from memory.conversations import DEFAULT_TITLE, title_from
from memory.owned import Owned, iso, new_id
from memory.tables import ConversationRow, ReceiptRow, TurnRow, now

# A running turn is heard of every second. One that is not has no process behind it, or its end could not be written
# (a full disk), and must not block its conversation for ever.
LONGEST_SILENCE = timedelta(seconds=60)


class Turns(Owned):
    """One owner's turns and receipts."""

    def load_history(self, conversation_id: str, before_turn: str | None = None) -> History:
        """What was said, oldest first, without running or replaced turns.

        `before_turn` leaves out that turn and every later one, for a retry. The next position counts every turn.
        """
        with self._transactions.reading() as session:
            conversation = self._conversation_row(session, conversation_id)
            query = (
                select(TurnRow.id, TurnRow.message, TurnRow.reply)
                .where(TurnRow.conversation_id == conversation.id)
                .where(TurnRow.replaced.is_(False), TurnRow.finish_reason.is_not(None))
                .order_by(TurnRow.position)
            )
            if before_turn is not None:
                query = query.where(TurnRow.position < self._turn_of(session, conversation, before_turn).position)
            past = tuple(PastTurn(turn_id, message, reply) for turn_id, message, reply in session.execute(query))
            last = session.scalar(select(func.max(TurnRow.position)).where(TurnRow.conversation_id == conversation.id))
            return History(past, 0 if last is None else last + 1)

    def turns(self, conversation_id: str, limit: int = 40) -> tuple[Turn, ...]:
        """The newest turns that were not replaced, oldest first, the running one included."""
        with self._transactions.reading() as session:
            conversation = self._conversation_row(session, conversation_id)
            query = (
                select(TurnRow)
                .where(TurnRow.conversation_id == conversation.id, TurnRow.replaced.is_(False))
                .order_by(TurnRow.position.desc())
                .limit(max(limit, 0))
            )
            return tuple(_turn(row) for row in session.scalars(query))[::-1]

    def count_turns(self, conversation_id: str) -> int:
        """How many turns a conversation has, without the replaced ones."""
        with self._transactions.reading() as session:
            conversation = self._conversation_row(session, conversation_id)
            query = select(func.count()).where(TurnRow.conversation_id == conversation.id, TurnRow.replaced.is_(False))
            return session.scalar(query) or 0

    def turn(self, turn_id: str) -> Turn:
        """One turn, also a replaced one. Raises NotFound."""
        with self._transactions.reading() as session:
            return _turn(self._turn_row(session, turn_id))

    def messages(self, turn_ids: set[str]) -> dict[str, str]:
        """The messages of those of the turns that are this owner's, by turn id."""
        with self._transactions.reading() as session:
            query = (
                select(TurnRow.id, TurnRow.message)
                .join(ConversationRow, ConversationRow.id == TurnRow.conversation_id)
                .where(TurnRow.id.in_(turn_ids), ConversationRow.owner == self._owner)
            )
            return {row.id: row.message for row in session.execute(query)}

    def begin_turn(
        self, conversation_id: str, message: str, position: int, use_memory: bool, replaces: str | None = None
    ) -> str:
        """Save a message before the model runs and return the id of its turn; it is on disk when this returns.

        Raises ConversationBusy if another turn took the position or, except in a compare, is still running.
        """
        row = TurnRow(id=new_id(), position=position, message=message, use_memory=use_memory)
        with self._transactions.writing() as session:
            # Locked, so that of two messages sent at once the second sees the first on every database.
            conversation = self._conversation_row(session, conversation_id, lock=True)
            if conversation.kind != "compare":
                _make_way(session, conversation)
            if replaces is not None:
                self._turn_of(session, conversation, replaces).replaced = True
            if conversation.kind == "chat" and conversation.title == DEFAULT_TITLE and position == 0:
                conversation.title = title_from(message)
            conversation.updated_at = now()
            row.conversation_id = conversation.id
            session.add(row)
            try:
                session.flush()
            except IntegrityError:
                raise ConversationBusy from None
            return row.id

    def save_partial(self, turn_id: str, reply: str) -> None:
        """Keep what the model has said until now. A turn that has finished keeps its whole reply."""
        with self._transactions.writing() as session:
            row = self._turn_row(session, turn_id, lock=True)
            if row.finish_reason is None:
                row.reply, row.heard_at = reply, now()

    def finish_turn(self, turn_id: str, receipt: Receipt, error: str | None = None) -> None:
        """Save the reply and the receipt together. Raises StoreError if this turn already has its end."""
        body = receipt.to_dict()
        with self._transactions.writing() as session:
            row = self._settled(session, turn_id, receipt.completion.text, receipt.completion.finish_reason, error)
            assert (receipt.turn_id, receipt.conversation_id) == (row.id, row.conversation_id)
            row.outline = _outline(receipt)
            session.add(ReceiptRow(turn_id=row.id, body=body))

    def fail_turn(self, turn_id: str, reply: str, error: str) -> None:
        """End a turn for which no receipt could be made; what the model had said is kept."""
        with self._transactions.writing() as session:
            self._settled(session, turn_id, reply, "error", error)

    def receipt(self, turn_id: str) -> Receipt:
        """The receipt of a turn. Raises NotFound if there is none."""
        with self._transactions.reading() as session:
            row = self._turn_row(session, turn_id)
            try:
                body = session.scalar(select(ReceiptRow.body).where(ReceiptRow.turn_id == row.id))
                if body is None:
                    raise NotFound("receipt of turn", turn_id)
                return RECEIPT.validate_python(body)
            except ValueError as error:
                raise StoreError(
                    f"The receipt of turn “{turn_id}” is damaged. Restore the database from a backup."
                ) from error

    def _settled(
        self, session: Session, turn_id: str, reply: str, finish_reason: FinishReason, error: str | None
    ) -> TurnRow:
        row = self._turn_row(session, turn_id, lock=True)
        # “interrupted” may only mean that another process opened the database meanwhile; the true end is better.
        if row.finish_reason not in (None, "interrupted"):
            raise StoreError(f"Turn “{turn_id}” has already ended, and what was recorded then stays as it is.")
        row.reply, row.finish_reason, row.error = reply, finish_reason, error
        return row

    def _turn_of(self, session: Session, conversation: ConversationRow, turn_id: str) -> TurnRow:
        row = self._turn_row(session, turn_id)
        if row.conversation_id != conversation.id:
            raise NotFound("turn", turn_id)
        return row


def _make_way(session: Session, conversation: ConversationRow) -> None:
    """Raise ConversationBusy if a turn is running; end one that nothing has been heard of for long."""
    running = select(TurnRow).where(TurnRow.conversation_id == conversation.id, TurnRow.finish_reason.is_(None))
    for row in session.scalars(running):
        if now() - row.heard_at < LONGEST_SILENCE:
            raise ConversationBusy
        row.finish_reason = "interrupted"


def _outline(receipt: Receipt) -> dict[str, Any]:
    return {
        "sampling": asdict(receipt.sampling),
        "weights": asdict(receipt.weights),
        "usage": asdict(receipt.usage),
        "timing": asdict(receipt.timing),
        "dropped": len(receipt.prompt.dropped),
    }


def _turn(row: TurnRow) -> Turn:
    outline = row.outline or {}
    return Turn(
        id=row.id,
        conversation_id=row.conversation_id,
        position=row.position,
        message=row.message,
        reply=row.reply,
        finish_reason=row.finish_reason,
        use_memory=row.use_memory,
        created_at=iso(row.created_at),
        error=row.error,
        sampling=Sampling(**outline["sampling"]) if outline else None,
        weights=WeightsCheck(**outline["weights"]) if outline else None,
        usage=Usage(**outline["usage"]) if outline else None,
        timing=Timing(**outline["timing"]) if outline else None,
        dropped=outline.get("dropped", 0),
    )
