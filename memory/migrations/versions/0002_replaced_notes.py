"""Which note a note replaces."""

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from alembic import op
from alembic.operations import BatchOperations

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column to the notes."""
    with _altered_notes() as note:
        note.add_column(sa.Column("replaces", sa.String(32), nullable=True))
        note.create_foreign_key("fk_note_replaces_note", "note", ["replaces"], ["id"], ondelete="SET NULL")
        note.create_index("ix_note_replaces", ["replaces"])


def downgrade() -> None:
    """Drop it."""
    with _altered_notes() as note:
        note.drop_index("ix_note_replaces")
        note.drop_constraint("fk_note_replaces_note", type_="foreignkey")
        note.drop_column("replaces")


@contextmanager
def _altered_notes() -> Iterator[BatchOperations]:
    """The table of notes, to be altered; the sources of the notes are put aside meanwhile.

    SQLite can alter it only by copying it and dropping the old one, and that takes each note's sources along: the
    deletes cascade, and foreign keys cannot be switched off inside a transaction.
    """
    op.execute("CREATE TEMPORARY TABLE source_put_aside AS SELECT note_id, turn_id FROM note_source")
    op.execute("DELETE FROM note_source")
    with op.batch_alter_table("note") as note:
        yield note
    op.execute("INSERT INTO note_source (note_id, turn_id) SELECT note_id, turn_id FROM source_put_aside")
    op.execute("DROP TABLE source_put_aside")
