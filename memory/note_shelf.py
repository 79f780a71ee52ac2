"""Notes on their shelf: drafted, kept, edited, switched and deleted. A note outlives the conversation it came from."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import ColumnElement, delete, func, select, update
from sqlalchemy.orm import Session

from chat.types import Note
from memory.notes import checked_note
from memory.owned import Owned, iso, new_id
from memory.tables import NoteOrigin, NoteRow, NoteSourceRow, TurnRow, now


class NoteShelf(Owned):
    """One owner's notes."""

    def load_notes(self) -> tuple[Note, ...]:
        """The notes that go into a prompt when memory is on: enabled, reviewed, oldest first."""
        return self._listed(NoteRow.enabled.is_(True), NoteRow.draft.is_(False))

    def notes(self) -> tuple[Note, ...]:
        """Every note, drafts and disabled ones included, oldest first."""
        return self._listed()

    def add_note(
        self,
        text: str,
        origin: NoteOrigin = "hand",
        draft: bool = False,
        source_turn_ids: Iterable[str] = (),
        replaces: str | None = None,
    ) -> Note:
        """Put a note at the end of the shelf; a note that it replaces is switched off, by a draft once it is kept.

        Raises InputError for its text, NotFound for a source or for the note to replace.
        """
        row = NoteRow(id=new_id(), owner=self._owner, text=checked_note(text), origin=origin, draft=draft)
        with self._transactions.writing() as session:
            sources = {self._turn_row(session, turn_id).id for turn_id in source_turn_ids}
            row.replaces = None if replaces is None else self._note_row(session, replaces).id
            row.position = self._next_position(session)
            session.add(row)
            session.flush()
            session.add_all(NoteSourceRow(note_id=row.id, turn_id=turn_id) for turn_id in sources)
            if not draft:
                self._switch_off_replaced(session, row)
            session.flush()
            return _notes(session, [row])[0]

    def edit_note(self, note_id: str, text: str) -> Note:
        """Correct the text of a note."""
        return self._changed(note_id, text=checked_note(text))

    def switch_note(self, note_id: str, enabled: bool) -> Note:
        """Let a note into prompts, or keep it out of them."""
        return self._changed(note_id, enabled=enabled)

    def keep_note(self, note_id: str, text: str) -> Note:
        """Turn a draft into a note, with the text as its person reviewed it; what it replaces is switched off."""
        checked = checked_note(text)
        with self._transactions.writing() as session:
            row = self._note_row(session, note_id)
            # Only once: the person may since have switched the old note on again.
            if row.draft:
                self._switch_off_replaced(session, row)
            return _change(session, row, text=checked, draft=False)

    def delete_note(self, note_id: str) -> None:
        """Delete a note; the turns it came from stay."""
        with self._transactions.writing() as session:
            session.execute(delete(NoteRow).where(NoteRow.id == self._note_row(session, note_id).id))

    def _listed(self, *criteria: ColumnElement[bool]) -> tuple[Note, ...]:
        query = select(NoteRow).where(NoteRow.owner == self._owner, *criteria)
        with self._transactions.reading() as session:
            return _notes(session, session.scalars(query.order_by(NoteRow.position, NoteRow.created_at, NoteRow.id)))

    def _changed(self, note_id: str, **values: str | bool) -> Note:
        with self._transactions.writing() as session:
            return _change(session, self._note_row(session, note_id), **values)

    def _next_position(self, session: Session) -> int:
        last = session.scalar(select(func.max(NoteRow.position)).where(NoteRow.owner == self._owner))
        return 0 if last is None else last + 1

    def _switch_off_replaced(self, session: Session, row: NoteRow) -> None:
        """Switched off and not deleted, so that nothing is lost if the newer note is the wrong one."""
        outdated = (NoteRow.id == row.replaces, NoteRow.owner == self._owner)
        session.execute(update(NoteRow).where(*outdated).values(enabled=False, updated_at=now()))


def _change(session: Session, row: NoteRow, **values: str | bool) -> Note:
    for name, value in values.items():
        setattr(row, name, value)
    row.updated_at = now()
    session.flush()
    return _notes(session, [row])[0]


def _notes(session: Session, rows: Iterable[NoteRow]) -> tuple[Note, ...]:
    rows = list(rows)
    query = (
        select(NoteSourceRow.note_id, NoteSourceRow.turn_id)
        .join(TurnRow, TurnRow.id == NoteSourceRow.turn_id)
        .where(NoteSourceRow.note_id.in_([row.id for row in rows]))
        .order_by(TurnRow.created_at, TurnRow.position)
    )
    sources: dict[str, list[str]] = {}
    for note_id, turn_id in session.execute(query):
        sources.setdefault(note_id, []).append(turn_id)
    return tuple(_note(row, tuple(sources.get(row.id, ()))) for row in rows)


def _note(row: NoteRow, source_turn_ids: tuple[str, ...]) -> Note:
    return Note(
        id=row.id,
        text=row.text,
        enabled=row.enabled,
        draft=row.draft,
        origin=row.origin,
        source_turn_ids=source_turn_ids,
        created_at=iso(row.created_at),
        replaces=row.replaces,
    )
