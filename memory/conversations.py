"""Conversations: made, listed, searched, renamed and deleted."""

from __future__ import annotations

from sqlalchemy import ColumnElement, delete, func, or_, select

from chat.errors import InputError
from chat.types import Conversation
from memory.owned import Owned, iso, new_id
from memory.tables import ConversationKind, ConversationRow, TurnRow

DEFAULT_TITLE = "New chat"
MAX_TITLE_CHARACTERS = 120
MAX_SEARCH_CHARACTERS = 1_000
_TITLE_FROM_MESSAGE_CHARACTERS = 48

_OF_IT = (TurnRow.conversation_id == ConversationRow.id, TurnRow.replaced.is_(False))
_COUNT = select(func.count()).where(*_OF_IT).correlate(ConversationRow).scalar_subquery()
_HAS_TURNS = select(TurnRow.id).where(*_OF_IT).correlate(ConversationRow).exists()


def title_from(message: str) -> str:
    """A title for a conversation that begins with this message: its first line, cut at a word."""
    lines = (" ".join(line.split()) for line in message.splitlines())
    line = next(filter(None, lines), DEFAULT_TITLE)
    if len(line) <= _TITLE_FROM_MESSAGE_CHARACTERS:
        return line
    room = line[:_TITLE_FROM_MESSAGE_CHARACTERS]
    whole_words = room.rpartition(" ")[0]
    return (whole_words or room[:-1]).rstrip(" ,;:.") + "…"


class Conversations(Owned):
    """One owner's conversations."""

    def new_conversation(
        self, kind: ConversationKind = "chat", title: str = DEFAULT_TITLE, about: str | None = None
    ) -> str:
        """Start an empty conversation and return its id. Those of kind `chat` are listed, from their first turn on.

        `about` is the conversation whose words it will hold, and with which it is deleted. Raises NotFound for it.
        """
        row = ConversationRow(id=new_id(), owner=self._owner, kind=kind, title=_checked_title(title))
        with self._transactions.writing() as session:
            if about is not None:
                row.about = self._conversation_row(session, about, lock=True).id
            session.add(row)
            return row.id

    def conversation(self, conversation_id: str) -> Conversation:
        """One conversation, of any kind. Raises NotFound."""
        with self._transactions.reading() as session:
            row = self._conversation_row(session, conversation_id)
            turns = session.scalar(select(_COUNT).select_from(ConversationRow).where(ConversationRow.id == row.id))
            return _conversation(row, turns or 0)

    def conversations(self, search: str = "", limit: int = 200) -> tuple[Conversation, ...]:
        """The chats that have turns, latest message first; with `search`, those that have it in title or turns."""
        query = (
            select(ConversationRow, _COUNT)
            .where(ConversationRow.owner == self._owner, ConversationRow.kind == "chat", _HAS_TURNS)
            .order_by(ConversationRow.updated_at.desc(), ConversationRow.created_at.desc(), ConversationRow.id)
            .limit(max(limit, 0))
        )
        if search.strip():
            query = query.where(_mentions(search.strip()))
        with self._transactions.reading() as session:
            return tuple(_conversation(row, turns) for row, turns in session.execute(query))

    def rename_conversation(self, conversation_id: str, title: str) -> None:
        """Give a conversation another title. Raises InputError for one that is blank or too long."""
        checked = _checked_title(title)
        with self._transactions.writing() as session:
            self._conversation_row(session, conversation_id, lock=True).title = checked

    def delete_conversation(self, conversation_id: str) -> None:
        """Delete a conversation with its turns and receipts, and every conversation about it with theirs.

        Notes drawn from it stay, without that source.
        """
        with self._transactions.writing() as session:
            row = self._conversation_row(session, conversation_id, lock=True)
            session.execute(delete(ConversationRow).where(ConversationRow.id == row.id))


def _conversation(row: ConversationRow, turns: int) -> Conversation:
    return Conversation(row.id, row.title, iso(row.created_at), iso(row.updated_at), turns)


def _checked_title(title: str) -> str:
    line = " ".join(title.split())
    if not line:
        raise InputError("A title cannot be blank. Write a few words.")
    if len(line) > MAX_TITLE_CHARACTERS:
        raise InputError(
            f"A title has at most {MAX_TITLE_CHARACTERS} characters and this one {len(line):,}. Shorten it."
        )
    return line


def _mentions(text: str) -> ColumnElement[bool]:
    if len(text) > MAX_SEARCH_CHARACTERS:
        raise InputError(f"Search for at most {MAX_SEARCH_CHARACTERS:,} characters, not {len(text):,}.")
    said = (
        select(TurnRow.id)
        .where(*_OF_IT)
        .where(or_(TurnRow.message.icontains(text, autoescape=True), TurnRow.reply.icontains(text, autoescape=True)))
        .correlate(ConversationRow)
    )
    return or_(ConversationRow.title.icontains(text, autoescape=True), said.exists())
