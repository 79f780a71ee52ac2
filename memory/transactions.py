"""Reading and writing transactions on one database, and its failures as one clear sentence."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session

from chat.errors import StoreError

WRITES = "marginalia_writes"
"""The execution option of a transaction that will write: SQLite then takes its lock at once, not halfway."""

_LOCKED = "The database {shown} is locked by another program. Close that program, then try again."
_READ_ONLY = "The database {shown} is read-only. Allow writing to it and its folder, or choose another: --database-url."
_FULL = "There is no space left for the database {shown}. Free some space on its disk, then try again."
_DAMAGED = "The database {shown} is damaged. Restore a backup, or choose another with --database-url."
NO_DATABASE = "{shown} is not an SQLite database. Move that file away, or choose another with --database-url."
_CANNOT_OPEN = "The database {shown} cannot be opened. Check that it is a file, and that its folder may be written to."
_DISK = "The disk failed under the database {shown} ({detail}). Check the disk, then try again."
_NOT_ALLOWED = "The user of {shown} may not do this: {detail}. Grant the right, or use another user in --database-url."
_BUSY_POOL = "The database {shown} has too many requests at once. Try again in a moment."
_NO_FOLDER = "The folder of the database {shown} cannot be made: {detail}. Choose another with --database-url."
_UNKNOWN_KIND = "{shown} names a kind of database that is not known. Use sqlite:///… or postgresql+psycopg://…."
_NO_DRIVER = (
    "The driver for {shown} is not installed: {detail}. Install it; for PostgreSQL, run "
    "pip install 'marginalia[postgres]' and write postgresql+psycopg://…."
)
_NO_URL = (
    "{shown} is not a database URL. Write one like sqlite:////folder/file.db or postgresql+psycopg://user@host/name."
)
_OTHER = "The database {shown} cannot be used: {detail}. Check that it is running and that --database-url is right."

_SQLITE = {
    sqlite3.SQLITE_BUSY: _LOCKED,
    sqlite3.SQLITE_LOCKED: _LOCKED,
    sqlite3.SQLITE_READONLY: _READ_ONLY,
    sqlite3.SQLITE_FULL: _FULL,
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_NOTADB: NO_DATABASE,
    sqlite3.SQLITE_CANTOPEN: _CANNOT_OPEN,
    sqlite3.SQLITE_IOERR: _DISK,
}
_POSTGRES = {
    "53100": _FULL,
    "25006": _READ_ONLY,
    "42501": _NOT_ALLOWED,
    "55P03": _LOCKED,
}


@contextmanager
def translated(shown: str, also: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Turn what the outside did to the database into a StoreError about `shown`; our own bugs pass as they are."""
    causes: tuple[type[Exception], ...] = (DBAPIError, PoolTimeout, ArgumentError, ImportError, OSError, *also)
    try:
        yield
    except causes as error:
        raise StoreError(_sentence(error).format(shown=shown, detail=_detail(error))) from error


def _sentence(error: Exception) -> str:
    match error:
        case DBAPIError():
            return _driver_sentence(error)
        case PoolTimeout():
            return _BUSY_POOL
        case NoSuchModuleError():
            return _UNKNOWN_KIND
        case ImportError():
            return _NO_DRIVER
        case OSError():
            return _NO_FOLDER
    return _NO_URL


def _driver_sentence(error: DBAPIError) -> str:
    code = getattr(error.orig, "sqlite_errorcode", None)
    if code is not None:
        return _SQLITE.get(code & 0xFF, _OTHER)  # the low byte; the rest is SQLite's extended code
    return _POSTGRES.get(getattr(error.orig, "sqlstate", None) or "", _OTHER)


def _detail(error: Exception) -> str:
    cause = error.orig if isinstance(error, DBAPIError) else error
    text = cause.strerror if isinstance(cause, OSError) and cause.strerror else str(cause)
    return (text.strip().splitlines() or [type(cause).__name__])[0].rstrip(".")


class Transactions:
    """Opens one transaction at a time for whoever asks; it commits at the end of the block, or nothing happened."""

    def __init__(self, engine: Engine, shown: str) -> None:
        self.shown = shown
        # By default each statement on PostgreSQL sees a moment of its own. On SQLite a transaction has but one.
        one_moment = {"isolation_level": "REPEATABLE READ"} if engine.dialect.name == "postgresql" else {}
        self._reader = engine.execution_options(**one_moment)
        self._writer = engine.execution_options(**{WRITES: True})

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A transaction that sees one moment of the database."""
        with translated(self.shown), Session(self._reader) as session, session.begin():
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A transaction that may write."""
        with translated(self.shown), Session(self._writer) as session, session.begin():
            yield session
