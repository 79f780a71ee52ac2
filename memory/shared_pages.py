"""Pages that a person lets others read: each behind a link that nobody can guess, until it is taken back."""

from __future__ import annotations

import re
import secrets

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from chat.errors import NotFound
from memory.owned import Owned
from memory.tables import SharedPageRow
from memory.transactions import Transactions

_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")


class SharedPages(Owned):
    """One owner's shared pages: at most one of each conversation, with which it goes."""

    def share_page(self, conversation_id: str, body: str) -> str:
        """Let everybody read this page who has the token that comes back; the one of before, if it was shared.

        What is read is the page as it is now: what is shared stays as the person saw it. Raises NotFound.
        """
        with self._transactions.writing() as session:
            shown = self._conversation_row(session, conversation_id, lock=True)
            row = _page_of(session, shown.id)
            if row is None:
                row = SharedPageRow(token=secrets.token_urlsafe(32), conversation_id=shown.id)
                session.add(row)
            row.body = body
            return row.token

    def page_shared(self, conversation_id: str) -> str:
        """The token of this conversation's page; empty if it is not shared. Raises NotFound."""
        with self._transactions.reading() as session:
            row = _page_of(session, self._conversation_row(session, conversation_id).id)
            return row.token if row else ""

    def take_page_back(self, conversation_id: str) -> None:
        """From now on its link leads nowhere. Raises NotFound."""
        with self._transactions.writing() as session:
            shown = self._conversation_row(session, conversation_id).id
            session.execute(delete(SharedPageRow).where(SharedPageRow.conversation_id == shown))


def page_behind(transactions: Transactions, token: str) -> str:
    """The page that is shared under a token, whoever asks. Raises NotFound."""
    if not _TOKEN.fullmatch(token):
        raise NotFound("shared page", token)
    with transactions.reading() as session:
        row = session.get(SharedPageRow, token)
        if row is None:
            raise NotFound("shared page", token)
        return row.body


def _page_of(session: Session, conversation_id: str) -> SharedPageRow | None:
    return session.scalar(select(SharedPageRow).where(SharedPageRow.conversation_id == conversation_id))
