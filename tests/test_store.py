"""The store through its public face. `test_postgres.py` runs the same sentences on a PostgreSQL server."""

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Engine, create_engine, event, select, text

from chat.errors import ConversationBusy, InputError, MarginaliaError, NotFound, StoreError
from chat.types import (
    Completion,
    Dropped,
    ModelInfo,
    PastTurn,
    PromptRecord,
    Receipt,
    Sampling,
    Segment,
    Timing,
    Usage,
    WeightsCheck,
    token_ids_sha256,
)
from memory.database import open_database
from memory.tables import Base

ROOT = Path(__file__).parents[1]
UNKNOWN = "0" * 32
STRANGE_IDS = ["", "x", UNKNOWN, "A" * 32, "0" * 31 + "\n", "0" * 33, "\0", "\ud800", "' OR 1=1 --", None, 7]
STRANGE_TEXT = "e\u0301 👩‍👩‍👧 \u202eabc\u200b \x01\x1b \U0010ffff <|im_end|> ' \" \\ % _ \r\n\t"


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path / 'marginalia.db'}"


@pytest.fixture
def database(url):
    database = open_database(url)
    yield database
    database.close()


@pytest.fixture
def store(database):
    return database.for_owner("ada")


def receipt_for(store, turn_id, reply="Hello.", finish_reason="stop"):
    turn = store.turn(turn_id)
    ids = (1, 2, 3)
    return Receipt(
        turn_id=turn_id,
        conversation_id=turn.conversation_id,
        created_at="2025-01-02T03:04:05.678+00:00",
        model=ModelInfo("tiny", "float32", 100, 512),
        prompt=PromptRecord(
            "ab\0c",
            ids,
            token_ids_sha256(ids),
            (Segment("message", "You", None, None, 0, 3, "ab\0c"),),
            (Dropped(None, None, 7, "too long"),),
        ),
        sampling=Sampling(temperature=0.5, seed=2**62),
        completion=Completion(reply, (4, 5), finish_reason),
        weights=WeightsCheck("f" * 64, "f" * 64, 100, 0),
        usage=Usage(3, 1, 2, 2, 4096),
        timing=Timing(0.5, 1.5, 2.0, 3.25, 5.25),
    )


def say(store, conversation, message, reply="Hello.", **options):
    position = store.load_history(conversation).next_position
    turn = store.begin_turn(conversation, message, position, True, **options)
    store.finish_turn(turn, receipt_for(store, turn, reply))
    return turn


def outcome(action, *arguments):
    try:
        return action(*arguments)
    except MarginaliaError as error:
        return error


# The schema


def test_the_migrations_build_exactly_the_tables_of_the_program(database, url):  # noqa: ARG001
    engine = create_engine(url)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
    engine.dispose()


def migrate(url, step, revision, *statements):
    """Take a database to a revision by Alembic's command of this name, and execute statements there."""
    config = Config()
    config.set_main_option("script_location", "memory:migrations")
    engine = create_engine(url)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", lambda connection, _record: connection.execute("PRAGMA foreign_keys = ON"))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        step(config, revision)
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()


AS_THE_FIRST_RELEASE_LEFT_IT = (
    "INSERT INTO conversation (id, owner, kind, title, created_at, updated_at) VALUES "
    f"('{'c' * 32}', 'ada', 'chat', 'Finance', '2025-01-01', '2025-01-01')",
    "INSERT INTO turn (id, conversation_id, position, message, reply, finish_reason, use_memory, created_at, heard_at,"
    f" replaced) VALUES ('{'d' * 32}', '{'c' * 32}', 0, 'Dana runs finance.', 'Noted.', 'stop', true, '2025-01-01',"
    " '2025-01-01', false)",
    "INSERT INTO note (id, owner, position, text, enabled, draft, origin, created_at, updated_at) VALUES "
    f"('{'e' * 32}', 'ada', 0, 'Dana runs finance.', true, false, 'model', '2025-01-01', '2025-01-01'),"
    f"('{'f' * 32}', 'ada', 1, 'Priya runs sales.', false, true, 'hand', '2025-01-01', '2025-01-01')",
    f"INSERT INTO note_source (note_id, turn_id) VALUES ('{'e' * 32}', '{'d' * 32}')",
)


def test_notes_of_the_first_release_come_along_with_where_they_came_from(url):
    migrate(url, command.upgrade, "0001", *AS_THE_FIRST_RELEASE_LEFT_IT)

    database = open_database(url)
    store = database.for_owner("ada")
    kept, draft = store.notes()
    assert (kept.text, kept.enabled, kept.draft, kept.origin) == ("Dana runs finance.", True, False, "model")
    assert kept.source_turn_ids == ("d" * 32,)
    assert (draft.text, draft.enabled, draft.draft, draft.origin) == ("Priya runs sales.", False, True, "hand")
    assert kept.replaces is draft.replaces is None
    assert store.turn("d" * 32).reply == "Noted."
    newer = store.add_note("Ada runs finance.", replaces=kept.id)
    assert [note.id for note in store.load_notes()] == [newer.id]
    database.close()


def test_the_way_back_to_the_first_release_keeps_the_notes_and_where_they_came_from(url):
    migrate(url, command.upgrade, "0001", *AS_THE_FIRST_RELEASE_LEFT_IT)
    migrate(url, command.upgrade, "head")
    migrate(url, command.downgrade, "0001")

    database = open_database(url)
    assert [note.source_turn_ids for note in database.for_owner("ada").notes()] == [("d" * 32,), ()]
    database.close()


def test_opening_again_keeps_everything(url):
    first = open_database(url)
    turn = say(first.for_owner("ada"), first.for_owner("ada").new_conversation(), "hello")
    note = first.for_owner("ada").add_note("remember")
    first.close()
    again = open_database(url)
    store = again.for_owner("ada")
    assert store.turn(turn).finish_reason == "stop"
    assert store.receipt(turn).turn_id == turn
    assert store.notes() == (note,)
    again.close()


# Conversations


def test_a_new_conversation_is_empty_and_listed_from_its_first_message_on(store):
    conversation = store.new_conversation()
    new = store.conversation(conversation)
    assert (new.id, new.title, new.turns) == (conversation, "New chat", 0)
    assert new.created_at.endswith("+00:00")
    assert store.turns(conversation) == ()
    assert store.load_history(conversation).next_position == 0
    assert store.conversations() == store.conversations("New chat") == ()
    store.begin_turn(conversation, "hello", 0, True)
    assert store.conversations() == (store.conversation(conversation),)


def test_empty_conversations_do_not_push_a_chat_off_the_list(store):
    chat = store.new_conversation()
    say(store, chat, "hello")
    for _ in range(5):
        store.new_conversation()
    assert [listed.id for listed in store.conversations(limit=1)] == [chat]
    assert [listed.id for listed in store.conversations("hello", limit=1)] == [chat]


def test_only_chats_are_listed(store):
    chat = store.new_conversation()
    compare = store.new_conversation("compare", "A comparison")
    for conversation in (chat, compare, store.new_conversation("notes")):
        say(store, conversation, "hi")
    assert [listed.id for listed in store.conversations()] == [chat]
    assert store.conversation(compare).title == "A comparison"


def test_the_conversation_of_the_latest_message_comes_first(store):
    first, second = store.new_conversation(), store.new_conversation()
    say(store, second, "hi")
    say(store, first, "hi")
    store.rename_conversation(second, "renaming is no message")
    assert [listed.id for listed in store.conversations()] == [first, second]
    say(store, second, "hi")
    assert [listed.id for listed in store.conversations(limit=1)] == [second]


@pytest.mark.parametrize(
    ("message", "title"),
    [
        ("My name is Ada.", "My name is Ada."),
        ("\n\n  What  is\ta margin? \nsecond line", "What is a margin?"),
        ("w" * 48, "w" * 48),
        ("w" * 49, "w" * 47 + "…"),
        ("Tell me everything that you know about books, please do", "Tell me everything that you know about books…"),
        (" \n ", "New chat"),
    ],
)
def test_the_first_message_gives_a_chat_its_title(store, message, title):
    conversation = store.new_conversation()
    say(store, conversation, message)
    say(store, conversation, "something else")
    assert store.conversation(conversation).title == title


def test_a_title_that_a_person_chose_stays(store):
    conversation = store.new_conversation()
    store.rename_conversation(conversation, "  Mine \n alone ")
    say(store, conversation, "hello")
    assert store.conversation(conversation).title == "Mine alone"


@pytest.mark.parametrize("title", ["", " \n\t", "x" * 121])
def test_a_title_that_is_blank_or_too_long_is_refused(store, title):
    conversation = store.new_conversation()
    with pytest.raises(InputError, match="title"):
        store.rename_conversation(conversation, title)
    assert store.conversation(conversation).title == "New chat"


@pytest.mark.parametrize("wanted", ["100%", "snake_case", "a/b", "back\\slash", "QUOTE'S", "  100%  "])
def test_search_takes_every_character_literally(store, wanted):
    found, other = store.new_conversation(), store.new_conversation()
    say(store, found, "100% snake_case a/b back\\slash quote's")
    say(store, other, "1000 snakeXcase ab backslash quotes")
    assert [listed.id for listed in store.conversations(wanted)] == [found]


@pytest.mark.parametrize("wanted", ["holiday", "WHALE", "harpoon"])
def test_search_looks_into_titles_messages_and_replies(store, wanted):
    found = store.new_conversation()
    say(store, found, "the white whale", reply="Mind the Harpoon.")
    store.rename_conversation(found, "Holiday")
    say(store, store.new_conversation(), "nothing of it", reply="Indeed.")
    assert [listed.id for listed in store.conversations(wanted)] == [found]


def test_search_does_not_find_what_was_replaced(store):
    conversation = store.new_conversation(title="Any")
    say(store, conversation, "again", reply="zebra", replaces=say(store, conversation, "again", reply="giraffe"))
    assert store.conversations("giraffe") == ()
    assert len(store.conversations("zebra")) == 1


def test_an_endless_search_is_refused_with_its_size(store):
    with pytest.raises(InputError, match="60,000"):
        store.conversations("x" * 60_000)


def test_deleting_a_conversation_takes_its_turns_and_receipts_along(store):
    conversation, other = store.new_conversation(), store.new_conversation()
    gone, stays = say(store, conversation, "one"), say(store, other, "two")
    store.delete_conversation(conversation)
    for look in (store.turn, store.receipt):
        with pytest.raises(NotFound):
            look(gone)
    with pytest.raises(NotFound):
        store.conversation(conversation)
    assert store.receipt(stays).turn_id == stays


def rows_that_hold(url, words):
    engine = create_engine(url)
    with engine.connect() as connection:
        tables = [connection.execute(select(table)) for table in Base.metadata.sorted_tables]
        found = [row for rows in tables for row in rows if words in repr(row)]
    engine.dispose()
    return found


@pytest.mark.parametrize("kind", ["notes", "compare"])
def test_deleting_a_chat_leaves_none_of_its_words_in_what_was_asked_about_it(store, url, kind):
    chat = store.new_conversation()
    say(store, chat, "my PIN is swordfish", reply="Noted: swordfish.")
    for about in (chat, store.new_conversation(kind, "About a chat", about=chat)):
        copying = store.new_conversation(kind, "About a chat", about=about)
        say(store, copying, "What was said?", reply="The PIN is swordfish.")
        store.begin_turn(copying, "And swordfish again?", 1, False)
    other = store.new_conversation(kind, "About nothing")
    kept = say(store, other, "hello")
    assert len(rows_that_hold(url, "swordfish")) == 6

    store.delete_conversation(chat)

    assert rows_that_hold(url, "swordfish") == []
    assert rows_that_hold(url, "About a chat") == []
    assert store.receipt(kept).turn_id == kept


def test_deleting_what_was_asked_about_a_chat_leaves_the_chat(store):
    chat = store.new_conversation()
    turn = say(store, chat, "hello")
    store.delete_conversation(store.new_conversation("notes", about=chat))
    assert store.turn(turn).message == "hello"


@pytest.mark.parametrize("about", [strange for strange in STRANGE_IDS if strange is not None], ids=ascii)
def test_a_conversation_is_about_one_that_its_person_can_reach(store, database, about):
    other = database.for_owner("eve").new_conversation()
    for unreachable in (other, about):
        error = outcome(store.new_conversation, "notes", "Mine", unreachable)
        assert type(error) is NotFound
        assert str(error) == str(NotFound("conversation", unreachable))
    assert database.for_owner("eve").conversation(other).turns == 0


# Turns


def test_a_message_is_there_before_its_reply(store, database):
    conversation = store.new_conversation()
    turn = store.begin_turn(conversation, "hello", 0, False)
    running = database.for_owner("ada").turn(turn)
    assert (running.message, running.reply, running.finish_reason) == ("hello", "", None)
    assert (running.use_memory, running.sampling, running.dropped) == (False, None, 0)
    assert store.turns(conversation) == (running,)
    assert store.load_history(conversation).turns == ()
    assert store.load_history(conversation).next_position == 1


def test_a_receipt_comes_back_as_it_was_given(store):
    turn = store.begin_turn(store.new_conversation(), "hello", 0, True)
    receipt = receipt_for(store, turn)
    store.finish_turn(turn, receipt)
    assert store.receipt(turn) == receipt
    shown = store.turn(turn)
    assert (shown.reply, shown.finish_reason, shown.error, shown.dropped) == ("Hello.", "stop", None, 1)
    assert (shown.sampling, shown.weights) == (receipt.sampling, receipt.weights)
    assert (shown.usage, shown.timing) == (receipt.usage, receipt.timing)


def test_a_receipt_is_never_overwritten(store):
    turn = store.begin_turn(store.new_conversation(), "hello", 0, True)
    store.finish_turn(turn, receipt_for(store, turn, "first"))
    with pytest.raises(StoreError, match=turn):
        store.finish_turn(turn, receipt_for(store, turn, "second"))
    with pytest.raises(StoreError, match=turn):
        store.fail_turn(turn, "third", "broken")
    store.save_partial(turn, "fourth")
    assert store.turn(turn).reply == store.receipt(turn).completion.text == "first"
    assert store.turn(turn).error is None


def test_a_partial_reply_is_kept_when_the_turn_fails(store):
    conversation = store.new_conversation()
    turn = store.begin_turn(conversation, "hello", 0, True)
    store.save_partial(turn, "Hel")
    assert store.turn(turn).reply == "Hel"
    store.fail_turn(turn, "Hell", "The model broke.")
    failed = store.turn(turn)
    assert (failed.reply, failed.finish_reason, failed.error) == ("Hell", "error", "The model broke.")
    with pytest.raises(NotFound):
        store.receipt(turn)
    assert store.load_history(conversation).turns == (PastTurn(turn, "hello", "Hell"),)


def test_a_turn_can_fail_with_a_receipt(store):
    turn = store.begin_turn(store.new_conversation(), "hello", 0, True)
    store.finish_turn(turn, receipt_for(store, turn, "Hel", "error"), error="The model broke.")
    assert store.turn(turn).error == "The model broke."
    assert store.receipt(turn).completion.finish_reason == "error"


def test_turns_come_back_in_order_and_the_newest_ones_only(store):
    conversation = store.new_conversation()
    ids = [say(store, conversation, f"message {number}") for number in range(5)]
    assert [turn.id for turn in store.turns(conversation)] == ids
    assert [turn.id for turn in store.turns(conversation, limit=2)] == ids[-2:]
    assert [turn.id for turn in store.load_history(conversation).turns] == ids
    assert store.count_turns(conversation) == store.conversation(conversation).turns == 5


def test_a_retried_turn_is_kept_but_leaves_history_and_listing(store):
    conversation = store.new_conversation()
    first = say(store, conversation, "one")
    replaced = say(store, conversation, "two", reply="worse")
    assert [turn.id for turn in store.load_history(conversation, before_turn=replaced).turns] == [first]
    again = say(store, conversation, "two", reply="better", replaces=replaced)
    assert [turn.id for turn in store.turns(conversation)] == [first, again]
    assert [turn.id for turn in store.load_history(conversation).turns] == [first, again]
    assert store.count_turns(conversation) == 2
    assert store.turn(replaced).reply == store.receipt(replaced).completion.text == "worse"
    assert store.load_history(conversation).next_position == 3


def test_a_retry_is_not_answered_from_any_later_turn(store):
    conversation = store.new_conversation()
    first, second, _third = (say(store, conversation, word) for word in ("one", "two", "three"))
    history = store.load_history(conversation, before_turn=second)
    assert [turn.id for turn in history.turns] == [first]
    assert history.next_position == 3


def test_a_turn_of_another_conversation_cannot_be_replaced(store):
    here, there = store.new_conversation(), store.new_conversation()
    turn = say(store, there, "hello")
    with pytest.raises(NotFound):
        store.begin_turn(here, "again", 0, True, replaces=turn)
    with pytest.raises(NotFound):
        store.load_history(here, before_turn=turn)
    assert store.turns(here) == ()
    assert len(store.turns(there)) == 1


def test_a_second_message_waits_until_the_first_is_answered(store):
    conversation = store.new_conversation()
    turn = store.begin_turn(conversation, "one", 0, True)
    with pytest.raises(ConversationBusy):
        store.begin_turn(conversation, "two", 1, True)
    store.fail_turn(turn, "", "broken")
    with pytest.raises(ConversationBusy):
        store.begin_turn(conversation, "two", 0, True)
    assert store.begin_turn(conversation, "two", 1, True)


def test_a_busy_conversation_is_left_as_it_was(store):
    conversation = store.new_conversation()
    turn = say(store, conversation, "one")
    before = store.conversation(conversation)
    with pytest.raises(ConversationBusy):
        store.begin_turn(conversation, "again", 0, True, replaces=turn)
    assert store.conversation(conversation) == before
    assert [listed.id for listed in store.turns(conversation)] == [turn]


def test_a_comparison_runs_several_turns_at_once(store):
    conversation = store.new_conversation("compare")
    turns = [store.begin_turn(conversation, "same", position, False) for position in range(3)]
    assert [turn.id for turn in store.turns(conversation)] == turns
    with pytest.raises(ConversationBusy):
        store.begin_turn(conversation, "same", 2, False)


@pytest.mark.parametrize("positions", [(0, 0), (0, 1)])
def test_of_two_messages_at_once_exactly_one_is_taken(store, positions):
    for _ in range(8):
        conversation = store.new_conversation()
        start = threading.Barrier(2)

        def send(position, conversation=conversation, start=start):
            start.wait()
            return outcome(store.begin_turn, conversation, f"from {position}", position, True)

        with ThreadPoolExecutor(2) as pool:
            results = list(pool.map(send, positions))
        (won,) = (result for result in results if isinstance(result, str))
        (lost,) = (result for result in results if not isinstance(result, str))
        assert isinstance(lost, ConversationBusy)
        assert [turn.id for turn in store.turns(conversation)] == [won]


def test_many_threads_write_without_losing_anything(store):
    def converse(number):
        conversation = store.new_conversation()
        store.add_note(f"note {number}")
        return conversation, [say(store, conversation, f"{number}.{step}") for step in range(3)]

    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(converse, range(6)))
    for conversation, turns in results:
        assert [turn.id for turn in store.turns(conversation)] == turns
    assert len(store.notes()) == 6


def test_what_is_read_is_of_one_moment(store, url):
    conversation = store.new_conversation()
    first = say(store, conversation, "one")
    elsewhere = open_database(url)
    to_say = ["two"]

    def hear(_connection, _cursor, statement, *_rest):
        if "turn.message" in statement and to_say:
            say(elsewhere.for_owner("ada"), conversation, to_say.pop())

    event.listen(Engine, "after_cursor_execute", hear)
    try:
        history = store.load_history(conversation)
    finally:
        event.remove(Engine, "after_cursor_execute", hear)
        elsewhere.close()
    assert ([turn.id for turn in history.turns], history.next_position) == ([first], 1)
    assert store.load_history(conversation).next_position == 2


def test_listing_and_history_never_load_a_prompt(store):
    conversation = store.new_conversation()
    say(store, conversation, "hello")
    statements = []

    def hear(_connection, _cursor, statement, *_rest):
        statements.append(statement)

    event.listen(Engine, "before_cursor_execute", hear)
    try:
        store.conversations("hello"), store.turns(conversation), store.load_history(conversation)
    finally:
        event.remove(Engine, "before_cursor_execute", hear)
    assert statements
    assert not [statement for statement in statements if "receipt" in statement]


def test_any_text_comes_back_as_it_was(store):
    conversation = store.new_conversation()
    turn = say(store, conversation, STRANGE_TEXT, reply=STRANGE_TEXT)
    assert store.turn(turn).message == store.turn(turn).reply == STRANGE_TEXT
    assert store.conversations(STRANGE_TEXT.strip())[0].id == conversation


def test_a_character_that_no_database_takes_does_not_cost_the_turn(store):
    turn = store.begin_turn(store.new_conversation(), "hello", 0, True)
    store.save_partial(turn, "a\0b\ud800")
    store.finish_turn(turn, receipt_for(store, turn, "a\0b"))
    assert store.turn(turn).reply == "a\ufffdb"
    assert store.receipt(turn).completion.text == "a\0b"


# Crashes


def test_a_turn_that_a_crash_cut_off_is_interrupted_after_reopening(url):
    before = open_database(url)
    store = before.for_owner("ada")
    conversation = store.new_conversation()
    turn = store.begin_turn(conversation, "hello", 0, True)
    store.save_partial(turn, "Hel")
    before.close()
    after = open_database(url)
    store = after.for_owner("ada")
    cut = store.turn(turn)
    assert (cut.message, cut.reply, cut.finish_reason) == ("hello", "Hel", "interrupted")
    assert store.load_history(conversation).turns == (PastTurn(turn, "hello", "Hel"),)
    assert say(store, conversation, "go on")
    after.close()


KILLED = """
import os, signal, sys
from memory.database import open_database
store = open_database(sys.argv[1]).for_owner("ada")
turn = store.begin_turn(store.new_conversation(), "do not lose me", 0, True)
print(turn, flush=True)
if sys.argv[2]:
    store.save_partial(turn, sys.argv[2])
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("partial", ["", "Half a rep"])
def test_a_killed_process_loses_no_message(url, partial):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, url, partial], env=environment, capture_output=True, text=True, check=False
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    database = open_database(url)
    turn = database.for_owner("ada").turn(killed.stdout.strip())
    assert (turn.message, turn.reply, turn.finish_reason) == ("do not lose me", partial, "interrupted")
    database.close()


def test_a_turn_that_was_only_taken_for_a_crash_still_gets_its_receipt(store, url):
    turn = store.begin_turn(store.new_conversation(), "hello", 0, True)
    open_database(url).close()
    assert store.turn(turn).finish_reason == "interrupted"
    store.finish_turn(turn, receipt_for(store, turn))
    assert store.turn(turn).finish_reason == store.receipt(turn).completion.finish_reason == "stop"


# One person and another


def test_a_second_person_cannot_reach_anything_of_the_first(store, database):
    conversation = store.new_conversation()
    turn = say(store, conversation, "my secret")
    note = store.add_note("my secret", source_turn_ids=[turn]).id
    store.give_feedback(turn, "down")
    store.change_feedback(turn, "my secret", "my secret")
    store.share_page(conversation, "my page")
    other = database.for_owner("eve")
    own = other.new_conversation()
    say(other, own, "mine")
    running = store.begin_turn(conversation, "more", 1, True)
    receipt = receipt_for(store, running)
    attempts = [
        lambda: other.conversation(conversation),
        lambda: other.rename_conversation(conversation, "taken"),
        lambda: other.delete_conversation(conversation),
        lambda: other.load_history(conversation),
        lambda: other.load_history(own, before_turn=turn),
        lambda: other.turns(conversation),
        lambda: other.count_turns(conversation),
        lambda: other.turn(turn),
        lambda: other.receipt(turn),
        lambda: other.begin_turn(conversation, "hi", 2, True),
        lambda: other.begin_turn(own, "hi", 0, True, replaces=turn),
        lambda: other.save_partial(running, "hi"),
        lambda: other.finish_turn(running, receipt),
        lambda: other.fail_turn(running, "", "hi"),
        lambda: other.edit_note(note, "hi"),
        lambda: other.switch_note(note, False),
        lambda: other.keep_note(note, "hi"),
        lambda: other.delete_note(note),
        lambda: other.add_note("hi", source_turn_ids=[turn]),
        lambda: other.add_note("hi", replaces=note),
        lambda: other.add_note("hi", draft=True, replaces=note),
        lambda: other.give_feedback(turn, "up"),
        lambda: other.change_feedback(turn, "taken", "over"),
        lambda: other.withdraw_feedback(turn),
        lambda: other.share_page(conversation, "taken over"),
        lambda: other.page_shared(conversation),
        lambda: other.take_page_back(conversation),
    ]

    def everything():
        shared = database.shared_page(store.page_shared(conversation))
        return store.conversation(conversation), store.turns(conversation), store.notes(), store.feedback(), shared

    before = everything()
    for attempt in attempts:
        with pytest.raises(NotFound):
            attempt()
    assert everything() == before
    assert [listed.id for listed in other.conversations()] == [own]
    assert other.conversations("secret") == ()
    assert other.notes() == other.load_notes() == other.feedback() == ()
    assert other.feedback_on({turn}) == {}


@pytest.mark.parametrize("identifier", STRANGE_IDS, ids=ascii)
def test_an_id_of_another_reads_like_one_that_never_was(store, database, identifier):
    others = database.for_owner("eve").new_conversation()
    for action in (store.conversation, store.turns, store.delete_conversation, store.page_shared):
        for unreachable in (others, identifier):
            error = outcome(action, unreachable)
            assert type(error) is NotFound
            assert str(error) == str(NotFound("conversation", unreachable))
    for action in (store.turn, store.receipt, store.delete_note, store.withdraw_feedback):
        assert type(outcome(action, identifier)) is NotFound


@pytest.mark.parametrize("owner", ["", "  ", "x" * 201, "a\0", "\ud800"], ids=ascii)
def test_a_name_that_could_be_taken_for_another_is_refused(database, owner):
    with pytest.raises(InputError):
        database.for_owner(owner)


# Notes


def test_notes_keep_their_order_whatever_is_done_to_them(store):
    first, second, third = (store.add_note(text) for text in ("one", "two", "three"))
    store.edit_note(first.id, "one, corrected")
    store.switch_note(second.id, False)
    store.switch_note(second.id, True)
    assert [note.text for note in store.load_notes()] == ["one, corrected", "two", "three"]
    store.delete_note(second.id)
    store.add_note("four")
    assert [note.id for note in store.notes()][:2] == [first.id, third.id]
    assert store.notes()[-1].text == "four"


def test_a_draft_or_a_disabled_note_stays_out_of_prompts(store):
    draft = store.add_note("drafted", origin="model", draft=True)
    off = store.add_note("switched off")
    assert store.switch_note(off.id, False).enabled is False
    assert store.load_notes() == ()
    assert [note.id for note in store.notes()] == [draft.id, off.id]
    kept = store.keep_note(draft.id, "reviewed")
    assert (kept.text, kept.draft, kept.origin) == ("reviewed", False, "model")
    assert store.load_notes() == store.notes()[:1] == (kept,)


def test_a_note_switches_off_the_one_that_it_replaces_and_nothing_else(store):
    old, other = store.add_note("Priya runs finance."), store.add_note("Ada likes tea.")
    new = store.add_note("Dana runs finance.", "model", replaces=old.id)
    assert new.replaces == old.id
    assert store.notes() == (replace(old, enabled=False), other, new)
    assert store.load_notes() == (other, new)
    assert store.switch_note(old.id, True) == old
    assert store.edit_note(new.id, "Dana runs finance now.").replaces == old.id
    assert store.load_notes()[0] == old


def test_a_draft_replaces_nothing_before_it_is_kept_and_then_once(store):
    old = store.add_note("Priya runs finance.")
    draft = store.add_note("Dana runs finance.", "model", draft=True, replaces=old.id)
    assert draft.replaces == old.id
    assert store.load_notes() == (old,)

    kept = store.keep_note(draft.id, "Dana runs finance, not Priya.")
    assert kept.replaces == old.id
    assert store.load_notes() == (kept,)

    store.switch_note(old.id, True)
    store.keep_note(draft.id, "Dana runs finance.")
    assert old in store.load_notes(), "a second click must not undo what was done since"


def test_a_dropped_draft_leaves_the_old_note_as_it_is(store):
    old = store.add_note("Priya runs finance.")
    store.delete_note(store.add_note("Dana runs finance.", draft=True, replaces=old.id).id)
    assert store.notes() == (old,)


def test_a_draft_that_cannot_be_kept_switches_nothing_off(store):
    old = store.add_note("Priya runs finance.")
    draft = store.add_note("Dana runs finance.", draft=True, replaces=old.id)
    with pytest.raises(InputError):
        store.keep_note(draft.id, " ")
    assert store.notes() == (old, draft)


def test_a_note_outlives_the_one_that_it_replaced(store):
    old = store.add_note("Priya runs finance.")
    new = store.add_note("Dana runs finance.", replaces=old.id)
    draft = store.add_note("Nobody runs finance.", draft=True, replaces=old.id)
    store.delete_note(old.id)
    assert store.notes() == (replace(new, replaces=None), replace(draft, replaces=None))
    assert store.keep_note(draft.id, draft.text).enabled


@pytest.mark.parametrize("identifier", [each for each in STRANGE_IDS if each is not None], ids=ascii)
def test_a_note_that_would_replace_an_unknown_one_is_not_added(store, identifier):
    with pytest.raises(NotFound):
        store.add_note("remember", replaces=identifier)
    assert store.notes() == ()


def test_a_note_outlives_the_conversation_it_came_from(store):
    gone, stays = store.new_conversation(), store.new_conversation()
    sources = [say(store, gone, "one"), say(store, gone, "two"), say(store, stays, "three")]
    note = store.add_note("remember", source_turn_ids=[sources[1], sources[0], sources[2], sources[0]])
    assert note.source_turn_ids == tuple(sources)
    store.delete_conversation(gone)
    assert [left.source_turn_ids for left in store.notes()] == [(sources[2],)]
    store.delete_conversation(stays)
    assert [(left.text, left.source_turn_ids) for left in store.load_notes()] == [("remember", ())]


def test_deleting_a_note_leaves_its_sources(store):
    turn = say(store, store.new_conversation(), "one")
    store.delete_note(store.add_note("remember", source_turn_ids=[turn]).id)
    assert store.notes() == ()
    assert store.turn(turn).message == "one"


def test_a_note_with_an_unknown_source_is_not_added(store):
    with pytest.raises(NotFound):
        store.add_note("remember", source_turn_ids=[UNKNOWN])
    assert store.notes() == ()


@pytest.mark.parametrize("text", ["", " \n ", "x" * 501])
def test_a_note_that_cannot_be_used_changes_nothing(store, text):
    note = store.add_note("as it was")
    for action in (lambda: store.add_note(text), lambda: store.edit_note(note.id, text)):
        with pytest.raises(InputError):
            action()
    assert store.notes() == (note,)


def test_a_turn_that_nothing_is_heard_of_any_more_does_not_block_its_conversation(store, monkeypatch):
    conversation_id = store.new_conversation()
    silent = store.begin_turn(conversation_id, "Is anybody there?", 0, use_memory=True)
    monkeypatch.setattr("memory.turns.LONGEST_SILENCE", timedelta(0))

    store.begin_turn(conversation_id, "Once more, then.", 1, use_memory=True)

    assert store.turn(silent).finish_reason == "interrupted"


# Shared pages


def test_a_page_is_read_under_its_token_until_it_is_taken_back(store, database):
    comparison = store.new_conversation("compare", "Which partner runs finance?")
    assert store.page_shared(comparison) == ""
    token = store.share_page(comparison, STRANGE_TEXT)
    assert database.shared_page(token) == STRANGE_TEXT
    assert store.share_page(comparison, "again") == token == store.page_shared(comparison)
    assert database.shared_page(token) == "again"
    store.take_page_back(comparison)
    assert store.page_shared(comparison) == ""
    assert type(outcome(database.shared_page, token)) is NotFound
    assert store.share_page(comparison, "once more") != token, "a link that was taken back stays dead"


def test_a_shared_page_goes_with_the_chat_that_its_prompts_were_built_from(store, database):
    chat = store.new_conversation()
    token = store.share_page(store.new_conversation("compare", "Who?", about=chat), "page")
    store.delete_conversation(chat)
    assert type(outcome(database.shared_page, token)) is NotFound


@pytest.mark.parametrize("token", ["", "x", UNKNOWN, "A" * 43, "\0" * 43, "\ud800", "../" * 14 + "x"], ids=ascii)
def test_nothing_is_shared_under_a_token_that_was_made_up(store, database, token):
    store.share_page(store.new_conversation("compare", "Who?"), "page")
    assert type(outcome(database.shared_page, token)) is NotFound


# Feedback


def test_a_comment_is_kept_word_for_word(store, database):
    turn = say(store, store.new_conversation(), "Who runs finance?", "Priya.")
    store.give_feedback(turn, "down")
    store.change_feedback(turn, STRANGE_TEXT, f" {STRANGE_TEXT}\n")
    (kept,) = database.for_owner("ada").feedback()
    assert (kept.turn_id, kept.verdict, kept.comment, kept.better) == (turn, "down", STRANGE_TEXT, f" {STRANGE_TEXT}\n")
    assert kept.created_at <= kept.updated_at
    assert kept.updated_at.endswith("+00:00")
    assert store.feedback_on({turn, UNKNOWN, "x"}) == {turn: kept}


def test_a_verdict_can_be_changed_and_the_words_beside_it_stay(store):
    turn = say(store, store.new_conversation(), "Who runs finance?")
    first = store.give_feedback(turn, "down")
    store.change_feedback(turn, "wrong name", "Dana.")
    store.give_feedback(turn, "up")
    store.change_feedback(turn, "right after all")
    (kept,) = store.feedback()
    assert (kept.verdict, kept.comment, kept.better) == ("up", "right after all", "Dana.")
    assert kept.created_at == first.created_at
    store.change_feedback(turn, " \n", "")
    assert [(each.comment, each.better) for each in store.feedback()] == [("", "")]


def test_feedback_that_is_withdrawn_is_gone_and_its_turn_stays(store):
    turn = say(store, store.new_conversation(), "Who runs finance?")
    store.give_feedback(turn, "up")
    store.withdraw_feedback(turn)
    assert store.feedback() == ()
    assert store.turn(turn).reply == "Hello."
    for action in (store.withdraw_feedback, lambda turn: store.change_feedback(turn, "late")):
        assert "There is no feedback on turn" in str(outcome(action, turn))


def test_feedback_is_listed_newest_first_that_on_replaced_turns_included(store):
    conversation = store.new_conversation()
    turns = [say(store, conversation, f"message {number}") for number in range(3)]
    for turn in turns:
        store.give_feedback(turn, "up")
    store.change_feedback(turns[0], "a word more does not move it")
    say(store, conversation, "again", replaces=turns[2])
    assert [given.turn_id for given in store.feedback()] == turns[::-1]


def test_feedback_goes_with_its_conversation(store, url):
    conversation = store.new_conversation()
    store.give_feedback(say(store, conversation, "Who runs finance?"), "up")
    kept = say(store, store.new_conversation(), "Who runs sales?")
    store.give_feedback(kept, "down")
    store.delete_conversation(conversation)
    assert [given.turn_id for given in store.feedback()] == [kept]
    engine = create_engine(url)
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM feedback")) == 1
    engine.dispose()


def test_a_reply_that_is_not_finished_or_has_no_receipt_cannot_be_judged(store):
    conversation = store.new_conversation()
    turn = store.begin_turn(conversation, "Who runs finance?", 0, True)
    store.save_partial(turn, "Da")
    assert type(outcome(store.give_feedback, turn, "up")) is InputError
    store.fail_turn(turn, "Da", "The model failed.")
    assert type(outcome(store.give_feedback, turn, "up")) is InputError
    assert store.feedback() == ()


def test_words_that_are_too_long_are_refused_with_their_size_and_change_nothing(store):
    turn = say(store, store.new_conversation(), "Who runs finance?")
    before = store.give_feedback(turn, "down")
    assert "2,000 characters and this one 2,001" in str(outcome(store.change_feedback, turn, "x" * 2001))
    assert "20,000 characters and this one 20,001" in str(outcome(store.change_feedback, turn, "", "x" * 20_001))
    assert store.feedback() == (before,)


def test_of_two_thumbs_at_once_one_row_is_left(store):
    turn = say(store, store.new_conversation(), "Who runs finance?")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda verdict: store.give_feedback(turn, verdict), ["up", "down"] * 4))
    assert len(store.feedback()) == 1


def test_the_way_back_before_feedback_loses_only_the_feedback(url):
    database = open_database(url)
    store = database.for_owner("ada")
    turn = say(store, store.new_conversation(), "Who runs finance?")
    store.give_feedback(turn, "up")
    database.close()
    migrate(url, command.downgrade, "0002")

    database = open_database(url)
    store = database.for_owner("ada")
    assert store.feedback() == ()
    assert store.turn(turn).message == "Who runs finance?"
    database.close()
