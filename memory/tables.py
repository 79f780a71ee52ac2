"""The tables. Receipts have one of their own, so that no list ever loads a prompt."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

from sqlalchemy import JSON, DateTime, Dialect, ForeignKey, MetaData, String, Text, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

from chat.types import FinishReason, Verdict

ConversationKind = Literal["chat", "compare", "notes"]
NoteOrigin = Literal["model", "hand"]

MAX_OWNER_CHARACTERS = 200


def now() -> datetime:
    """The present, in UTC."""
    return datetime.now(UTC)


class UtcDateTime(TypeDecorator[datetime]):
    """A moment that comes back in UTC: SQLite forgets the zone, PostgreSQL answers in the zone of its session."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Store UTC."""
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Read UTC."""
        if value is None or value.tzinfo is not None:
            return None if value is None else value.astimezone(UTC)
        return value.replace(tzinfo=UTC)


class WholeText(TypeDecorator[str]):
    """Text that every database takes.

    A model may utter NUL, which PostgreSQL refuses, and half a surrogate pair fits no encoding. Losing a whole turn
    over one such character would be worse than the U+FFFD that is stored in its place.
    """

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        """Replace what cannot be stored."""
        if value is None:
            return None
        return (
            value.replace("\0", "\N{REPLACEMENT CHARACTER}")
            .encode("utf-16", "surrogatepass")
            .decode("utf-16", "replace")
        )


class Base(DeclarativeBase):
    """The root of the tables. Constraints have fixed names, because a later migration must be able to name them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class ConversationRow(Base):
    """A conversation, and whose it is.

    `about` is the chat that its prompts were built from. Its receipts hold that chat's words, so it goes with the chat.
    """

    __tablename__ = "conversation"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    owner: Mapped[str] = mapped_column(String(MAX_OWNER_CHARACTERS), index=True)
    kind: Mapped[ConversationKind] = mapped_column(String(16))
    title: Mapped[str] = mapped_column(WholeText)
    about: Mapped[str | None] = mapped_column(ForeignKey("conversation.id", ondelete="CASCADE"), index=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)


class TurnRow(Base):
    """One message and its reply. `finish_reason` is null while it runs, and `heard_at` moves on until then.

    `outline` is what a list of turns shows of the receipt.
    """

    __tablename__ = "turn"
    __table_args__ = (UniqueConstraint("conversation_id", "position"),)

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    conversation_id: Mapped[str] = mapped_column(ForeignKey("conversation.id", ondelete="CASCADE"))
    position: Mapped[int]
    message: Mapped[str] = mapped_column(WholeText)
    reply: Mapped[str] = mapped_column(WholeText, default="")
    finish_reason: Mapped[FinishReason | None] = mapped_column(String(16))
    use_memory: Mapped[bool]
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)
    heard_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)
    error: Mapped[str | None] = mapped_column(WholeText)
    replaced: Mapped[bool] = mapped_column(default=False)
    outline: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))


class ReceiptRow(Base):
    """The whole receipt of one turn, as its JSON."""

    __tablename__ = "receipt"

    turn_id: Mapped[str] = mapped_column(ForeignKey("turn.id", ondelete="CASCADE"), primary_key=True)
    body: Mapped[dict[str, Any]] = mapped_column(JSON)


class FeedbackRow(Base):
    """What the turn's person said of its reply: one row a turn at most."""

    __tablename__ = "feedback"

    turn_id: Mapped[str] = mapped_column(ForeignKey("turn.id", ondelete="CASCADE"), primary_key=True)
    verdict: Mapped[Verdict] = mapped_column(String(8))
    comment: Mapped[str] = mapped_column(WholeText, default="")
    better: Mapped[str] = mapped_column(WholeText, default="")
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)


class SharedPageRow(Base):
    """A page that its owner lets everybody read who has the token, as it was when it was shared."""

    __tablename__ = "shared_page"

    token: Mapped[str] = mapped_column(String(43), primary_key=True)
    conversation_id: Mapped[str] = mapped_column(ForeignKey("conversation.id", ondelete="CASCADE"), unique=True)
    body: Mapped[str] = mapped_column(WholeText)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)


class NoteRow(Base):
    """One saved line, and whose it is. `replaces` is the note that it makes outdated."""

    __tablename__ = "note"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    owner: Mapped[str] = mapped_column(String(MAX_OWNER_CHARACTERS), index=True)
    position: Mapped[int]
    text: Mapped[str] = mapped_column(WholeText)
    enabled: Mapped[bool] = mapped_column(default=True)
    draft: Mapped[bool] = mapped_column(default=False)
    origin: Mapped[NoteOrigin] = mapped_column(String(16))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)
    replaces: Mapped[str | None] = mapped_column(ForeignKey("note.id", ondelete="SET NULL"), index=True)


class NoteSourceRow(Base):
    """A turn that a note was drawn from. It goes with the turn; the note stays."""

    __tablename__ = "note_source"

    note_id: Mapped[str] = mapped_column(ForeignKey("note.id", ondelete="CASCADE"), primary_key=True)
    turn_id: Mapped[str] = mapped_column(ForeignKey("turn.id", ondelete="CASCADE"), primary_key=True, index=True)
