"""What every part of the store stands on: one owner, and look-ups that see nothing of anybody else's."""

from __future__ import annotations

import re
import uuid
from datetime import datetime
from typing import TypeVar

from sqlalchemy import select
from sqlalchemy.orm import Session

from chat.errors import NotFound
from memory.tables import ConversationRow, NoteRow, TurnRow
from memory.transactions import Transactions

_ID = re.compile("[0-9a-f]{32}")
Row = TypeVar("Row")


def new_id() -> str:
    """A fresh identifier: a random UUID, as 32 hexadecimal digits."""
    return uuid.uuid4().hex


def iso(moment: datetime) -> str:
    """A moment as ISO 8601 in UTC, to the millisecond."""
    return moment.isoformat(timespec="milliseconds")


class Owned:
    """One owner's view of the database."""

    def __init__(self, transactions: Transactions, owner: str) -> None:
        self._transactions = transactions
        self._owner = owner

    def _conversation_row(self, session: Session, conversation_id: str, lock: bool = False) -> ConversationRow:
        query = select(ConversationRow).where(
            ConversationRow.id == _checked("conversation", conversation_id), ConversationRow.owner == self._owner
        )
        return _found(session.scalar(query.with_for_update() if lock else query), "conversation", conversation_id)

    def _turn_row(self, session: Session, turn_id: str, lock: bool = False) -> TurnRow:
        query = (
            select(TurnRow)
            .join(ConversationRow, ConversationRow.id == TurnRow.conversation_id)
            .where(TurnRow.id == _checked("turn", turn_id), ConversationRow.owner == self._owner)
        )
        return _found(session.scalar(query.with_for_update(of=TurnRow) if lock else query), "turn", turn_id)

    def _note_row(self, session: Session, note_id: str) -> NoteRow:
        query = select(NoteRow).where(NoteRow.id == _checked("note", note_id), NoteRow.owner == self._owner)
        return _found(session.scalar(query), "note", note_id)


def _checked(what: str, identifier: object) -> str:
    """An identifier comes from outside: one that could not be ours never reaches the database."""
    if not isinstance(identifier, str) or not _ID.fullmatch(identifier):
        raise NotFound(what, identifier)
    return identifier


def _found(row: Row | None, what: str, identifier: str) -> Row:
    if row is None:
        raise NotFound(what, identifier)
    return row
