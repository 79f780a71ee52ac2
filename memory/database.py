"""Opens a database: its folder, its engine, its schema, and the turns that a crash left running.

One process per database is a stated limit: whoever opens it takes every running turn for one that a crash cut off.
"""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, QueuePool, create_engine, event, make_url, update

from chat.errors import InputError, StoreError
from memory.migrations import is_current
from memory.shared_pages import page_behind
from memory.store import OwnerStore
from memory.tables import MAX_OWNER_CHARACTERS, TurnRow
from memory.transactions import NO_DATABASE, WRITES, Transactions, translated

_BUSY_TIMEOUT_SECONDS = 5.0
_LEAST_PAGE_BYTES = 512
_BAD_OWNER = re.compile("[\0\ud800-\udfff]")


class Database:
    """An open database. Hands out one store per person, and of what is others' only the pages that they share."""

    def __init__(self, engine: Engine, shown: str) -> None:
        self._engine = engine
        self._transactions = Transactions(engine, shown)

    def for_owner(self, owner: str) -> OwnerStore:
        """The store of one person. Raises InputError for a name that could be taken for another."""
        if not owner.strip() or len(owner) > MAX_OWNER_CHARACTERS or _BAD_OWNER.search(owner):
            raise InputError(f"“{owner[:40]!a}” cannot be the name of a person here. Choose another.")
        return OwnerStore(self._transactions, owner)

    def shared_page(self, token: str) -> str:
        """The page that somebody shares under this token, as HTML. Raises NotFound."""
        return page_behind(self._transactions, token)

    def close(self) -> None:
        """Close every connection. The stores handed out are of no use afterwards."""
        self._engine.dispose()


def open_database(url: str) -> Database:
    """Open the database at this URL, create or upgrade its tables, and mark turns that a crash cut off.

    Raises StoreError, with one sentence that quotes the path or the URL without its password.
    """
    parsed, engine = _engine(url)
    shown = _shown(parsed)
    try:
        with translated(shown):
            _prepare_place(parsed, shown)
            with engine.execution_options(**{WRITES: True}).begin() as connection:
                if not is_current(connection):
                    # alembic takes a third of a second to import, and is needed once a version.
                    from memory.migrations.upgrade import upgrade

                    upgrade(connection, shown)
                _interrupt_running_turns(connection)
    except BaseException:
        engine.dispose()
        raise
    return Database(engine, shown)


def _engine(url: str) -> tuple[URL, Engine]:
    with translated(_quoted_without_password(url), also=(ValueError, TypeError)):
        parsed = make_url(url)
        if parsed.get_backend_name() != "sqlite":
            return parsed, create_engine(parsed, pool_pre_ping=True)
        engine = create_engine(parsed, **_sqlite_options(parsed))
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return parsed, engine


def _sqlite_options(url: URL) -> dict[str, Any]:
    connect_args: dict[str, Any] = {} if "timeout" in url.query else {"timeout": _BUSY_TIMEOUT_SECONDS}
    if not _in_memory(url):
        return {"connect_args": connect_args}
    # A database in memory lives in its one connection, which the threads then take turns to use.
    connect_args["check_same_thread"] = False
    return {"connect_args": connect_args, "poolclass": QueuePool, "pool_size": 1, "max_overflow": 0}


def _in_memory(url: URL) -> bool:
    return not url.database or ":memory:" in url.database or url.query.get("mode") == "memory"


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    # The driver would begin transactions on its own, too late to hold the schema and the reads together.
    connection.isolation_level = None
    # SQLite's own lower() knows ASCII only, and a search must find “Élan” by “élan”.
    connection.create_function("lower", 1, _lower, deterministic=True)
    try:
        # FULL: what was committed is on the disk and outlives a power cut. With NORMAL the last messages could be lost.
        for pragma in ("foreign_keys = ON", "journal_mode = WAL", "synchronous = FULL"):
            connection.execute(f"PRAGMA {pragma}").close()
    except sqlite3.Error:
        connection.close()
        raise


def _lower(text: Any) -> Any:
    return text.lower() if isinstance(text, str) else text


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get(WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _prepare_place(url: URL, shown: str) -> None:
    if url.get_backend_name() != "sqlite" or _in_memory(url) or "uri" in url.query:
        return
    path = Path(url.database or "").absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    # SQLite takes a file of less than one page for an empty database, and would write over somebody's text.
    if path.is_file() and 0 < path.stat().st_size < _LEAST_PAGE_BYTES:
        raise StoreError(NO_DATABASE.format(shown=shown))


def _interrupt_running_turns(connection: Connection) -> None:
    connection.execute(update(TurnRow).where(TurnRow.finish_reason.is_(None)).values(finish_reason="interrupted"))


def _shown(url: URL) -> str:
    if url.get_backend_name() == "sqlite":
        return f"“{url.database or ':memory:'}”"
    secret = {name: "hidden" for name in url.query if "password" in name}
    return f"“{url.update_query_dict(secret).render_as_string(hide_password=True)}”"


def _quoted_without_password(url: str) -> str:
    hidden = re.sub(r"(://[^:/@]*:).*@", r"\1***@", url, flags=re.DOTALL)
    return "“" + re.sub(r"(password=)[^&]*", r"\1hidden", hidden) + "”"
