"""What the outside can do to a database, each for real, and the sentence that a person reads then."""

import sqlite3
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Engine, event

from chat.errors import StoreError
from memory.database import open_database


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a folder with 100% ünicode" / "marginalia.db"


@pytest.fixture
def url(path):
    return f"sqlite:///{path}"


@pytest.fixture
def filled(url):
    """A database with one turn, closed again; its id."""
    database = open_database(url)
    store = database.for_owner("ada")
    turn = store.begin_turn(store.new_conversation(), "hello", 0, True)
    store.fail_turn(turn, "", "broken")
    database.close()
    return turn


def refused(url):
    with pytest.raises(StoreError) as caught:
        open_database(url)
    return str(caught.value)


def change(path, statement):
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement)


def test_the_folder_is_made_and_the_journal_lets_readers_read(url, path):
    open_database(url).close()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_message_is_on_the_disk_before_the_model_runs(url):
    asked = []

    def ask(connection):
        asked.append(connection.exec_driver_sql("PRAGMA synchronous").scalar())

    database = open_database(url)
    event.listen(Engine, "commit", ask)
    try:
        store = database.for_owner("ada")
        store.begin_turn(store.new_conversation(), "hello", 0, True)
    finally:
        event.remove(Engine, "commit", ask)
        database.close()
    assert asked == [2, 2], "FULL: each commit waits for the disk"


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    sentence = refused(f"sqlite:///{tmp_path}/file/marginalia.db")
    assert f"{tmp_path}/file/marginalia.db" in sentence
    assert "folder" in sentence


def test_a_folder_is_not_taken_for_a_database(tmp_path):
    sentence = refused(f"sqlite:///{tmp_path}")
    assert str(tmp_path) in sentence
    assert "cannot be opened" in sentence


@pytest.mark.parametrize("content", [b"Dear diary, " * 1000, b"x" * 511, b"\x89PNG\r\n" + bytes(5000)], ids=ascii)
def test_a_file_that_is_no_database_is_left_alone(tmp_path, content):
    path = tmp_path / "diary.txt"
    path.write_bytes(content)
    sentence = refused(f"sqlite:///{path}")
    assert "is not an SQLite database" in sentence
    assert str(path) in sentence
    assert path.read_bytes() == content


@pytest.mark.usefixtures("filled")
def test_a_database_that_another_program_holds_is_locked(url, path):
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        sentence = refused(url + "?timeout=0.01")
        assert "locked" in sentence
        assert str(path) in sentence
    open_database(url).close()


def test_a_lock_while_the_program_runs_stops_writing_but_not_reading(filled, url, path):
    database = open_database(url + "?timeout=0.01")
    store = database.for_owner("ada")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreError, match="locked"):
            store.new_conversation()
        assert store.turn(filled).message == "hello"
    assert store.new_conversation()
    database.close()


@pytest.mark.usefixtures("filled")
def test_a_read_only_database_says_so(path):
    address = str(path).replace("%", "%25")
    assert "read-only" in refused(f"sqlite:///file:{address}?mode=ro&uri=true")


def test_a_database_that_becomes_read_only_says_so(filled, url):
    def seal(connection, _record):
        connection.execute("PRAGMA query_only = ON")

    database = open_database(url)
    database.close()  # so that the next transaction connects anew
    event.listen(Engine, "connect", seal)
    try:
        with pytest.raises(StoreError, match="read-only"):
            database.for_owner("ada").new_conversation()
        assert database.for_owner("ada").turn(filled).message == "hello"
    finally:
        event.remove(Engine, "connect", seal)
        database.close()


@pytest.mark.usefixtures("filled")
def test_a_database_of_a_newer_program_is_not_touched(url, path):
    change(path, "UPDATE alembic_version SET version_num = '9999_future'")
    before = path.read_bytes()
    sentence = refused(url)
    assert "newer" in sentence
    assert "9999_future" in sentence
    assert str(path) in sentence
    assert path.read_bytes() == before


def test_a_full_disk_loses_the_new_message_and_nothing_else(filled, url):
    def fill(connection, _record):
        connection.execute("PRAGMA max_page_count = 64")

    event.listen(Engine, "connect", fill)
    try:
        database = open_database(url)
        store = database.for_owner("ada")
        conversation = store.new_conversation()
        with pytest.raises(StoreError, match="no space"):
            store.begin_turn(conversation, "x" * 1_000_000, 0, True)
        assert store.turns(conversation) == ()
        assert store.turn(filled).message == "hello"
        assert store.begin_turn(conversation, "short", 0, True)
        database.close()
    finally:
        event.remove(Engine, "connect", fill)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_device_is_not_taken_for_a_database():
    assert "/dev/full" in refused("sqlite:////dev/full")


@pytest.mark.parametrize("body", ["not json", '{"turn_id": 7}', "[]"])
def test_a_damaged_receipt_says_so(filled, url, path, body):
    change(path, f"INSERT INTO receipt VALUES ('{filled}', '{body}')")
    database = open_database(url)
    with pytest.raises(StoreError, match=filled):
        database.for_owner("ada").receipt(filled)
    database.close()


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("", "not a database URL"),
        ("marginalia.db", "not a database URL"),
        ("sqlite:///x.db?timeout=soon", "not a database URL"),
        ("sqlite://ada:hunter2@host/x.db", "not a database URL"),
        ("postgresql+psycopg://ada:hunter2@host:port/name", "not a database URL"),
        ("oraculum://ada:hunter2@host/name", "kind of database that is not known"),
        ("postgres://ada:hunter2@host/name", "postgresql+psycopg://"),
        ("mysql+nodriver://ada:hunter2@host/name", "not known"),
        ("mysql+pymysql://ada:hunter2@host/name", "is not installed"),
        ("postgresql+psycopg://ada:hunter2@127.0.0.1:1/name", "running"),
        ("postgresql+psycopg://ada@127.0.0.1:1/name?password=hunter2", "running"),
        ("nonsense://ada:hun@ter2@host/name?password=hunter2", "not known"),
    ],
)
def test_a_wrong_url_is_quoted_without_its_password(monkeypatch, url, hint):
    monkeypatch.setitem(sys.modules, "pymysql", None)  # a driver that is not installed, wherever the test runs
    sentence = refused(url)
    assert hint in sentence
    assert "ter2" not in sentence
    assert url.partition(":")[0] in sentence


def test_a_database_in_memory_serves_every_thread():
    database = open_database("sqlite://")
    store = database.for_owner("ada")
    with ThreadPoolExecutor(4) as pool:
        made = set(pool.map(lambda _: store.new_conversation(), range(12)))
    assert {store.conversation(conversation).id for conversation in made} == made
    assert len(made) == 12
    database.close()


@pytest.mark.parametrize("wanted", ["ÉLAN", "élan", "straße", "ПРИВЕТ"])
def test_search_knows_the_case_of_every_script(url, wanted):
    database = open_database(url)
    store = database.for_owner("ada")
    conversation = store.new_conversation()
    store.begin_turn(conversation, "Élan in der Straße, Привет", 0, True)
    assert [found.id for found in store.conversations(wanted)] == [conversation]
    database.close()
