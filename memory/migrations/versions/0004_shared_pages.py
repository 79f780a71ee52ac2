"""Pages that their owner lets everybody read who has the link."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "shared_page",
        sa.Column("token", sa.String(43), nullable=False),
        sa.Column("conversation_id", sa.String(32), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["conversation_id"], ["conversation.id"], "fk_shared_page_conversation_id_conversation", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("token", name="pk_shared_page"),
        sa.UniqueConstraint("conversation_id", name="uq_shared_page_conversation_id"),
    )


def downgrade() -> None:
    """Drop it."""
    op.drop_table("shared_page")
