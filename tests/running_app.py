"""The real app as its own process, and the people who use it: a browser that sends JSON, clients of the API."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Any
from uuid import uuid4

import httpx
from gradio_client import Client
from safetensors.torch import load_file, save_file
from tiny_models import write_tiny_llama

ROOT = Path(__file__).parents[1]
COOKIE = "marginalia_owner"
PATIENCE = 60.0
# It imports, loads and perhaps compiles, beside others who do the same.
PATIENCE_FOR_A_START = 240.0


def write_talkative_model(folder: Path) -> Path:
    """A tiny Llama with room for long replies that never ends one by itself: every reply has a middle."""
    write_tiny_llama(folder)
    config = folder / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text("utf-8")) | {"max_position_embeddings": 8192}), "utf-8")
    weights = load_file(folder / "model.safetensors")
    # The control tokens have the first five ids; without weights of their own they are never the likeliest.
    weights["lm_head.weight"][:5] = 0
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def clean_environment(**variables: str) -> dict[str, str]:
    """This process's environment without what would set the app up, and with these variables."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MARGINALIA_")}
    return kept | variables


class RunningApp:
    """`app.py` on a free port. The constructor returns once it answers; `with` stops it at the end."""

    def __init__(self, model: Path, data_dir: Path, *flags: str) -> None:
        self.data_dir = data_dir
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        data_dir.mkdir(parents=True, exist_ok=True)
        self._log = data_dir / "output.txt"
        command = ["--model", str(model), "--data-dir", str(data_dir), "--port", str(self.port), *flags]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, str(ROOT / "app.py"), *command],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=clean_environment(),
            )
        try:
            self._wait_until_it_answers()
        except BaseException:
            self.kill9()
            raise

    def __enter__(self) -> RunningApp:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.kill9()

    @property
    def output(self) -> str:
        """All that it has written to its two outputs, since the first start on this data folder."""
        return self._log.read_text("utf-8", "replace")

    @property
    def database(self) -> Path:
        return self.data_dir / "marginalia.db"

    def peak_rss(self) -> int:
        """The most memory that it has held at once, in bytes (Linux only)."""
        status = Path(f"/proc/{self._process.pid}/status").read_text("ascii")
        return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))

    def kill9(self) -> None:
        """End it as `kill -9` does."""
        self._process.kill()
        self._process.wait()

    def stop(self, by: signal.Signals = signal.SIGINT) -> int:
        """Ask it to end and return its exit code."""
        self._process.send_signal(by)
        return self._process.wait(PATIENCE)

    def _wait_until_it_answers(self) -> None:
        deadline = monotonic() + PATIENCE_FOR_A_START
        while True:
            try:
                httpx.get(self.url)
            except httpx.TransportError:
                assert monotonic() < deadline, f"the app did not answer in time:\n{self.output}"
            else:
                return
            try:
                # The pause between two tries ends at once when the process does.
                code = self._process.wait(0.05)
            except subprocess.TimeoutExpired:
                continue
            raise AssertionError(f"the app ended with {code}:\n{self.output}")


@cache
def configuration(url: str) -> dict[str, Any]:
    """What the app at this address tells of its pages; the same to everybody."""
    answer: dict[str, Any] = httpx.get(f"{url}/config").json()
    return answer


class Browser:
    """One person's browser: a cookie, a session hash, and events sent as the page sends them."""

    def __init__(self, url: str, with_cookie: bool = True) -> None:
        self.http = httpx.Client(base_url=url, timeout=PATIENCE)
        self.session_hash = uuid4().hex[:11]
        if with_cookie:
            self.http.get("/").raise_for_status()
        self.config = configuration(url)

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_what: object) -> None:
        self.http.close()

    @property
    def token(self) -> str:
        return self.http.cookies[COOKIE]

    def client(self) -> Client:
        """The API, as the same person."""
        return client_of(str(self.http.base_url), token=self.token)

    def dependency(self, api_name: str) -> dict[str, Any]:
        found: dict[str, Any] = next(each for each in self.config["dependencies"] if each["api_name"] == api_name)
        return found

    def page_dependencies(self, name: str) -> list[dict[str, Any]]:
        """A page's events that have a handler of this name; Gradio numbers those that share it."""
        private = (each for each in self.config["dependencies"] if each["api_visibility"] == "private")
        return [each for each in private if re.fullmatch(rf"{name}(_\d+)?", each["api_name"])]

    def join(self, dependency: dict[str, Any], data: list[Any], event_data: Any = None, query: str = "") -> str:
        """Begin an event; its id. Everything that JSON can spell may be sent, lone surrogates and NaN included."""
        body = {
            "data": data,
            "event_data": event_data,
            "fn_index": dependency["id"],
            "trigger_id": dependency["targets"][0][0] if dependency["targets"] else None,
            "session_hash": self.session_hash,
        }
        answer = self.http.post(
            f"/gradio_api/queue/join{query}",
            content=json.dumps(body),
            headers={"content-type": "application/json"},
        )
        answer.raise_for_status()
        event_id: str = answer.json()["event_id"]
        return event_id

    def messages(self) -> Iterator[dict[str, Any]]:
        """What this session is told, until there is nothing more to tell."""
        with self.http.stream("GET", "/gradio_api/queue/data", params={"session_hash": self.session_hash}) as stream:
            stream.raise_for_status()
            deadline, unread = monotonic() + PATIENCE, ""
            for part in stream.iter_text():
                assert monotonic() < deadline, "the session was still told something after a minute"
                # Only "\n" ends a line here; httpx would also take U+2028 for an end.
                *lines, unread = (unread + part).split("\n")
                yield from (json.loads(line.removeprefix("data:")) for line in lines if line.startswith("data:"))

    def event(
        self, dependency: dict[str, Any], data: list[Any], event_data: Any = None, query: str = ""
    ) -> list[dict[str, Any]]:
        """Begin an event and return all that it answers."""
        self.join(dependency, data, event_data, query)
        return list(self.messages())

    def call(self, api_name: str, *data: Any) -> Any:
        """Call a named endpoint with exactly this JSON. Raises Refused, with the sentence, if it fails."""
        return result_of(self.event(self.dependency(api_name), list(data)))

    def page_event(self, name: str, data: list[Any], event_data: Any = None, query: str = "", place: int = 0) -> str:
        """Send an event to a page's handler and return all that it changes, as one JSON text."""
        messages = self.event(self.page_dependencies(name)[place], data, event_data, query)
        result_of(messages)
        return json.dumps([message.get("output") for message in messages], ensure_ascii=False)

    def html(self, name: str, data: list[Any], event_data: Any = None, query: str = "") -> str:
        """The same, but only what goes into blocks of HTML: in a text field, text needs no escaping."""
        (dependency, *_) = self.page_dependencies(name)
        kinds = {each["id"]: each["type"] for each in self.config["components"]}
        messages = self.event(dependency, data, event_data, query)
        result_of(messages)
        shown = [
            value
            for message in messages
            for part, value in zip(dependency["outputs"], (message.get("output") or {}).get("data") or [], strict=False)
            if kinds[part] == "html"
        ]
        return json.dumps(shown, ensure_ascii=False)

    def opened(self, conversation_id: str) -> str:
        """The page “Chat” with a conversation in its address."""
        return self.page_event("opened", ["Segments"], query=f"?c={conversation_id}")


class Refused(Exception):
    """What a failed event says to the person."""


def result_of(messages: list[dict[str, Any]]) -> Any:
    """The value that an event ended with. Raises Refused."""
    last = next(message for message in messages if message["msg"] == "process_completed")
    if not last["success"]:
        raise Refused(last["output"].get("error"))
    data = last["output"].get("data") or [None]
    return data[0]


def client_of(url: str, token: str | None = None) -> Client:
    """A gradio_client; without a token it is a person of its own."""
    cookies = {"httpx_kwargs": {"cookies": {COOKIE: token}}} if token else {}
    return Client(url, verbose=False, download_files=False, analytics_enabled=False, **cookies)
