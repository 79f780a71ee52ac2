"""Conversations, turns, receipts, notes and where each note came from.

Written out rather than taken from `memory.tables`, which will change while this step must not.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the first tables."""
    _conversations()
    _turns()
    _notes()


def downgrade() -> None:
    """Drop them."""
    for table in ("note_source", "note", "receipt", "turn", "conversation"):
        op.drop_table(table)


def _moment(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=False)


def _conversations() -> None:
    op.create_table(
        "conversation",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("owner", sa.String(200), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("about", sa.String(32), nullable=True),
        _moment("created_at"),
        _moment("updated_at"),
        sa.ForeignKeyConstraint(
            ["about"], ["conversation.id"], "fk_conversation_about_conversation", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_conversation"),
    )
    op.create_index("ix_conversation_owner", "conversation", ["owner"])
    op.create_index("ix_conversation_about", "conversation", ["about"])


def _turns() -> None:
    op.create_table(
        "turn",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("conversation_id", sa.String(32), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("reply", sa.Text(), nullable=False),
        sa.Column("finish_reason", sa.String(16), nullable=True),
        sa.Column("use_memory", sa.Boolean(), nullable=False),
        _moment("created_at"),
        _moment("heard_at"),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("replaced", sa.Boolean(), nullable=False),
        sa.Column("outline", sa.JSON(), nullable=True),
        sa.ForeignKeyConstraint(
            ["conversation_id"], ["conversation.id"], "fk_turn_conversation_id_conversation", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_turn"),
        sa.UniqueConstraint("conversation_id", "position", name="uq_turn_conversation_id_position"),
    )
    op.create_table(
        "receipt",
        sa.Column("turn_id", sa.String(32), nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["turn_id"], ["turn.id"], "fk_receipt_turn_id_turn", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("turn_id", name="pk_receipt"),
    )


def _notes() -> None:
    op.create_table(
        "note",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("owner", sa.String(200), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("draft", sa.Boolean(), nullable=False),
        sa.Column("origin", sa.String(16), nullable=False),
        _moment("created_at"),
        _moment("updated_at"),
        sa.PrimaryKeyConstraint("id", name="pk_note"),
    )
    op.create_index("ix_note_owner", "note", ["owner"])
    op.create_table(
        "note_source",
        sa.Column("note_id", sa.String(32), nullable=False),
        sa.Column("turn_id", sa.String(32), nullable=False),
        sa.ForeignKeyConstraint(["note_id"], ["note.id"], "fk_note_source_note_id_note", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["turn_id"], ["turn.id"], "fk_note_source_turn_id_turn", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("note_id", "turn_id", name="pk_note_source"),
    )
    op.create_index("ix_note_source_turn_id", "note_source", ["turn_id"])
