"""What a person said of replies: given, changed, withdrawn and listed. It goes with its turn."""

from __future__ import annotations

from sqlalchemy import ColumnElement, delete, select
from sqlalchemy.orm import Session

from chat.errors import InputError, NotFound
from chat.types import MAX_BETTER_REPLY_CHARACTERS, MAX_COMMENT_CHARACTERS, Feedback, Verdict
from memory.owned import Owned, iso
from memory.tables import ConversationRow, FeedbackRow, TurnRow, now


class FeedbackBox(Owned):
    """One owner's feedback: at most one on each turn, whose owner is also the feedback's."""

    def give_feedback(self, turn_id: str, verdict: Verdict) -> Feedback:
        """Call a reply good or bad. A verdict given before is changed, and the words beside it stay.

        Raises InputError for a reply that is not finished, or of which there is no receipt.
        """
        with self._transactions.writing() as session:
            # Locked, so that of two thumbs given at once the second finds the first on every database.
            turn = self._turn_row(session, turn_id, lock=True)
            if not turn.reply or turn.outline is None:
                raise InputError(
                    "Only a reply that is finished and has a receipt can be judged. Send the message again."
                )
            row = session.get(FeedbackRow, turn.id)
            if row is None:
                row = FeedbackRow(turn_id=turn.id)
                session.add(row)
            return _change(session, row, verdict=verdict)

    def change_feedback(self, turn_id: str, comment: str, better: str | None = None) -> Feedback:
        """Write the comment and what the reply should have said, word for word; None leaves the latter as it is.

        Raises NotFound if nothing was said of this turn, and InputError, with the size, for words that are too long.
        """
        words = {"comment": _checked("comment", comment, MAX_COMMENT_CHARACTERS)}
        if better is not None:
            words["better"] = _checked("better reply", better, MAX_BETTER_REPLY_CHARACTERS)
        with self._transactions.writing() as session:
            return _change(session, self._feedback_row(session, turn_id), **words)

    def withdraw_feedback(self, turn_id: str) -> None:
        """Delete what was said of a turn; the turn stays. Raises NotFound."""
        with self._transactions.writing() as session:
            row = self._feedback_row(session, turn_id)
            session.execute(delete(FeedbackRow).where(FeedbackRow.turn_id == row.turn_id))

    def feedback(self) -> tuple[Feedback, ...]:
        """All feedback, that on replaced turns included, newest first."""
        return self._given()

    def feedback_on(self, turn_ids: set[str]) -> dict[str, Feedback]:
        """The feedback on those of the turns that are this owner's and have any, by turn id."""
        return {given.turn_id: given for given in self._given(FeedbackRow.turn_id.in_(turn_ids))}

    def _given(self, *criteria: ColumnElement[bool]) -> tuple[Feedback, ...]:
        query = (
            select(FeedbackRow)
            .join(TurnRow, TurnRow.id == FeedbackRow.turn_id)
            .join(ConversationRow, ConversationRow.id == TurnRow.conversation_id)
            .where(ConversationRow.owner == self._owner, *criteria)
            .order_by(FeedbackRow.created_at.desc(), FeedbackRow.turn_id)
        )
        with self._transactions.reading() as session:
            return tuple(_feedback(row) for row in session.scalars(query))

    def _feedback_row(self, session: Session, turn_id: str) -> FeedbackRow:
        row = session.get(FeedbackRow, self._turn_row(session, turn_id, lock=True).id)
        if row is None:
            raise NotFound("feedback on turn", turn_id)
        return row


def _checked(what: str, text: str, most: int) -> str:
    if len(text) > most:
        raise InputError(f"A {what} has at most {most:,} characters and this one {len(text):,}. Shorten it.")
    return text if text.strip() else ""


def _change(session: Session, row: FeedbackRow, **values: str) -> Feedback:
    for name, value in values.items():
        setattr(row, name, value)
    row.updated_at = now()
    session.flush()
    return _feedback(row)


def _feedback(row: FeedbackRow) -> Feedback:
    return Feedback(
        turn_id=row.turn_id,
        verdict=row.verdict,
        comment=row.comment,
        better=row.better,
        created_at=iso(row.created_at),
        updated_at=iso(row.updated_at),
    )
