"""The program as it is started: flags and their twins, what it refuses and how, and how it ends."""

from __future__ import annotations

import signal
import socket
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from shutil import copytree
from time import monotonic

import pytest
from running_app import PATIENCE, ROOT, Browser, Refused, RunningApp, clean_environment, free_port

from app import main
from chat.config import Settings
from memory.database import open_database


def started(*arguments: str, **variables: str) -> subprocess.Popen[str]:
    """The program, with its two outputs apart."""
    return subprocess.Popen(
        [sys.executable, str(ROOT / "app.py"), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=clean_environment(COLUMNS="100", **variables),
    )


def started_on_a_free_port(*arguments: str, **variables: str) -> subprocess.Popen[str]:
    return started(f"--port={free_port()}", *arguments, **variables)


def ended(program: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Its exit code and what it wrote to stdout and stderr."""
    told, complained = program.communicate(timeout=PATIENCE)
    return program.returncode, told, complained


def refused(code: int, program: subprocess.Popen[str]) -> str:
    """The one sentence that it refuses to start with."""
    ended_with, told, complained = ended(program)
    assert (ended_with, told) == (code, ""), complained
    assert "Traceback" not in complained
    last = complained.rstrip("\n").rpartition("\n")[2]
    assert last.startswith("marginalia: ")
    assert last.endswith(".")
    return last.removeprefix("marginalia: ")


def test_help_reads_well() -> None:
    code, told, complained = ended(started("--help"))
    assert (code, complained) == (0, "")
    assert told.startswith("usage: marginalia [-h] [--host ADDRESS] [--port NUMBER] [--model NAME]")
    for line in (
        "A chat you can see through. It sends the stored conversation, and saved notes when memory is on, to a model",
        "  --host ADDRESS        address to listen on (default: 127.0.0.1, this computer)",
        "  --port NUMBER         port to listen on (default: 7860)",
        "  --data-dir FOLDER     where weights and the database lie",
        "Every flag has a twin in the environment: MARGINALIA_PORT=8000 is --port 8000. Flags win.",
    ):
        assert line in told
    assert max(map(len, told.splitlines())) <= 120


def test_help_names_a_flag_for_every_setting() -> None:
    _, told, _ = ended(started("--help"))
    assert [name for name in Settings.model_fields if f"--{name.replace('_', '-')} " not in told] == []


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["--version"])
    assert exit_.value.code == 0
    assert capsys.readouterr().out == "marginalia 0.1.0\n"


WRONG = [
    ("--port", "abc", "it should be a valid integer, unable to parse string as an integer"),
    ("--port", "-1", "it should be greater than or equal to 1"),
    ("--port", "0", "it should be greater than or equal to 1"),
    ("--port", "65536", "it should be less than or equal to 65535"),
    ("--port", "", "it should be a valid integer, unable to parse string as an integer"),
    ("--port", "78.5", "it should be a valid integer, unable to parse string as an integer"),
    ("--context-window", "255", "it should be greater than or equal to 256"),
    ("--context-window", "many", "it should be a valid integer, unable to parse string as an integer"),
    ("--log-level", "loud", "it should be 'debug', 'info', 'warning' or 'error'"),
    ("--host", " ", "must not be empty"),
    ("--model", "", "must not be empty"),
    ("--database-url", "", "must not be empty"),
]


@pytest.mark.parametrize("by", ["flag", "variable"])
@pytest.mark.parametrize(("flag", "value", "reason"), WRONG, ids=lambda each: str(each)[:20])
def test_a_wrong_value_is_one_sentence_that_quotes_it_and_names_where_it_came_from(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, flag: str, value: str, reason: str, by: str
) -> None:
    twin = "MARGINALIA_" + flag.removeprefix("--").replace("-", "_").upper()
    if by == "variable":
        monkeypatch.setenv(twin, value)
    assert main([f"{flag}={value}"] if by == "flag" else []) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err == f"marginalia: {flag if by == 'flag' else twin} cannot be “{value}”: {reason}.\n"


def test_a_flag_wins_over_its_twin(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MARGINALIA_PORT", "7860")
    assert main(["--port", "nine"]) == 2
    assert "--port cannot be “nine”" in capsys.readouterr().err
    monkeypatch.setenv("MARGINALIA_PORT", "nine")
    assert main(["--port", "-5"]) == 2
    assert "--port cannot be “-5”" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--unknown"], ["--por", "7860"], ["surplus"], ["--port"]])
def test_an_unknown_flag_is_refused_with_the_usage(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2
    *_, last = capsys.readouterr().err.splitlines()
    assert last.startswith("marginalia: error: ")


def test_a_port_in_use_is_refused_at_once() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        sentence = refused(2, started("--port", str(port)))
    assert sentence == (
        f"--host “127.0.0.1” with --port {port} cannot be used: Address already in use. "
        "Choose another port, such as --port 7861."
    )


@pytest.mark.parametrize(
    "host", ["192.0.2.1", "256.1.1.1", "no-such-host.invalid", "a..b", "::zz", "x" * 300, "ä" * 70]
)
def test_an_address_that_is_not_this_computer_s_is_refused(capsys: pytest.CaptureFixture[str], host: str) -> None:
    assert main(["--host", host]) == 2
    assert capsys.readouterr().err == (
        f"marginalia: --host “{host}” is no address of this computer. "
        "Use --host 127.0.0.1, which only this computer itself can reach.\n"
    )


def test_a_program_that_is_refused_leaves_nothing_behind(tmp_path: Path) -> None:
    refused(2, started("--port", "abc", "--data-dir", str(tmp_path / "new")))
    assert not (tmp_path / "new").exists()


def test_a_data_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    sentence = refused(1, started_on_a_free_port("--data-dir", str(tmp_path / "file" / "data")))
    assert "The folder of the database" in sentence
    assert str(tmp_path / "file") in sentence


@pytest.mark.parametrize("content", [b"Dear diary, today", b"Dear diary, today " * 1000], ids=["short", "long"])
def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "marginalia.db").write_bytes(content)
    sentence = refused(1, started_on_a_free_port(MARGINALIA_DATA_DIR=str(tmp_path)))
    assert f"“{tmp_path / 'marginalia.db'}” is not an SQLite database" in sentence
    assert (tmp_path / "marginalia.db").read_bytes() == content


def test_a_database_of_a_newer_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "marginalia.db"
    open_database(f"sqlite:///{path}").close()
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("update alembic_version set version_num = '9999'")
    sentence = refused(1, started_on_a_free_port(MARGINALIA_DATABASE_URL=f"sqlite:///{path}"))
    assert "was written by a newer Marginalia (schema “9999”)" in sentence


def test_a_database_url_that_is_none_is_refused() -> None:
    assert "“nonsense” is not a database URL" in refused(1, started_on_a_free_port("--database-url=nonsense"))


def test_models_that_cannot_be_used_are_refused(tmp_path: Path, talkative_dir: Path) -> None:
    damaged = {name: copytree(talkative_dir, tmp_path / name) for name in ("short", "altered")}
    weights = damaged["short"] / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    weights = damaged["altered"] / "model.safetensors"
    weights.write_bytes(b"\xff" * 64 + weights.read_bytes()[64:])
    reasons = {
        str(damaged["short"]): "cannot be read: ",
        str(damaged["altered"]): "cannot be read: ",
        "no-such-folder": "There is no folder “no-such-folder”",
    }
    programs = {
        name: started_on_a_free_port("--model", name, "--data-dir", str(tmp_path / f"data{place}"))
        for place, name in enumerate(reasons)
    }
    for name, reason in reasons.items():
        sentence = refused(1, programs[name])
        assert name in sentence
        assert reason in sentence


def partial_reply(app: RunningApp, turn_id: str) -> str:
    """What of a running reply has reached the disk, as soon as anything has."""
    deadline = monotonic() + PATIENCE
    with closing(sqlite3.connect(f"file:{app.database}?mode=ro", uri=True)) as database:
        while monotonic() < deadline:
            (reply,) = database.execute("select reply from turn where id = ?", [turn_id]).fetchone()
            if reply:
                return str(reply)
    raise AssertionError("nothing of the reply was saved while it was written")


def test_a_reply_that_a_kill_or_a_signal_cuts_off_is_kept(tmp_path: Path, talkative_dir: Path) -> None:
    with RunningApp(talkative_dir, tmp_path) as app, Browser(app.url) as ada, closing(ada.client()) as client:
        turn = next(iter(client.submit("Tell me everything", max_new_tokens=4000, api_name="/chat")))
        said = partial_reply(app, turn["turn_id"])
        app.kill9()
        token, earlier = ada.token, app.output

    with RunningApp(talkative_dir, tmp_path) as app, Browser(app.url, with_cookie=False) as ada:
        ada.http.cookies.set("marginalia_owner", token)
        shown = ada.html("opened", ["Segments"], query=f"?c={turn['conversation_id']}")
        assert "Tell me everything" in shown
        assert "Interrupted" in shown
        assert "Retry" in shown
        with pytest.raises(Refused, match="There is no receipt"):
            ada.call("receipt", turn["turn_id"])

        # It goes on from there, and a signal in the middle of the next reply ends it in order.
        with closing(ada.client()) as client:
            replying = client.submit("And then?", turn["conversation_id"], max_new_tokens=4000, api_name="/chat")
            last = next(iter(replying))
            partial_reply(app, last["turn_id"])
            assert app.stop(signal.SIGTERM) == 0
        output = app.output.removeprefix(earlier)
        assert "Traceback" not in output
        assert "Error" not in output
        assert len(output.splitlines()) == 3, output

    database = open_database(f"sqlite:///{app.database}")
    store = database.for_owner(owner_of_turn(app.database, turn["turn_id"]))
    first, second = store.turns(turn["conversation_id"])
    assert (first.id, first.message, first.finish_reason) == (turn["turn_id"], "Tell me everything", "interrupted")
    assert first.reply.startswith(said)
    assert (second.id, second.message, second.finish_reason) == (last["turn_id"], "And then?", "cancelled")
    assert store.receipt(second.id).completion.text == second.reply != ""
    history = [piece for piece in store.receipt(second.id).prompt.segments if piece.kind == "history"]
    assert {piece.source_turn_id for piece in history} == {first.id}
    database.close()


def owner_of_turn(path: Path, turn_id: str) -> str:
    with closing(sqlite3.connect(path)) as database:
        query = "select owner from conversation join turn on turn.conversation_id = conversation.id where turn.id = ?"
        return str(database.execute(query, [turn_id]).fetchone()[0])


def test_ctrl_c_ends_it_in_order_though_clients_are_connected(tmp_path: Path, talkative_dir: Path) -> None:
    with RunningApp(talkative_dir, tmp_path) as app, Browser(app.url) as ada, closing(ada.client()):
        heartbeat = f"/gradio_api/heartbeat/{ada.session_hash}"
        with ada.http.stream("GET", heartbeat) as open_stream:
            assert next(open_stream.iter_text()).startswith("data: ALIVE")
            assert app.stop(signal.SIGINT) == 0
    lines = app.output.splitlines()
    assert lines == [
        f"Loading {talkative_dir}.",
        f"Data lies in {tmp_path}",
        f"Marginalia is at {app.url}  (Ctrl+C ends it)",
    ]
