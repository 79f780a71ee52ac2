"""Brings a database's tables up to date, by alembic."""

from __future__ import annotations

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from chat.errors import StoreError


def upgrade(connection: Connection, shown: str) -> None:
    """Take every step that is missing. Raises StoreError for tables of a version that is not known here."""
    config = Config()
    config.set_main_option("script_location", "memory:migrations")
    config.attributes["connection"] = connection
    known = {step.revision for step in ScriptDirectory.from_config(config).walk_revisions()}
    unknown = set(MigrationContext.configure(connection).get_current_heads()) - known
    if unknown:
        raise StoreError(
            f"The database {shown} was written by a newer Marginalia (schema “{min(unknown)}”). "
            "Update this one, or choose another database with --database-url."
        )
    command.upgrade(config, "head")
