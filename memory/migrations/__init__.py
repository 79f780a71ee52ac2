"""The steps from each version of the tables to the next. A step's file begins with the name of its version."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, inspect, text

_VERSIONS = Path(__file__).parent / "versions"
NEWEST = max(path.stem.partition("_")[0] for path in _VERSIONS.glob("*.py"))


def is_current(connection: Connection) -> bool:
    """Whether the tables are as the newest step leaves them."""
    if not inspect(connection).has_table("alembic_version"):
        return False
    return list(connection.scalars(text("SELECT version_num FROM alembic_version"))) == [NEWEST]
