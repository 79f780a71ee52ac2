"""What Gradio hands out belongs to the browser that it was handed to.

Gradio gives a session's results to whoever names its hash, which pages make with `Math.random()`, and an event's to
whoever names its id. So each hash is bound to the owner cookie that it first came with, each event to the request
that began it, and whoever names one of them with another cookie is refused.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from typing import Any
from urllib.parse import parse_qs

from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chat.ui.owner import token_in

# Beyond this many sessions or events the oldest are forgotten; by then their streams have long ended.
MOST_REMEMBERED = 20_000
# The longest request body: a message of a million characters, each escaped in six bytes, and then some.
MOST_BODY_BYTES = 8 * 2**20


class SessionGuard:
    """ASGI middleware that refuses a session hash or an event id that came with somebody else's cookie."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._tokens: OrderedDict[str, str] = OrderedDict()
        self._callers: OrderedDict[str, str] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        if scope["type"] != "http" or not scope["path"].startswith("/gradio_api/"):
            await self._app(scope, receive, send)
            return
        hashes, events = _named_in_address(scope)
        if scope["method"] == "POST":
            body = await _whole_body(receive)
            if body is None:
                await PlainTextResponse("The request is too large.", status_code=413)(scope, receive, send)
                return
            fields = _fields(body)
            hashes |= _text(fields, "session_hash")
            events |= _text(fields, "event_id")
            receive = _replayed(body, receive)
        token = token_in(HTTPConnection(scope).cookies)
        # Without a cookie, the session itself is the caller.
        caller = token or min(hashes, default="")
        if all(self._is_own(session_hash, token) for session_hash in hashes) and all(
            self._callers.get(event_id) == caller for event_id in events
        ):
            await self._app(scope, receive, self._learning(caller, send) if scope["method"] == "POST" else send)
        else:
            await PlainTextResponse("This session belongs to another browser.", 403)(scope, receive, send)

    def _is_own(self, session_hash: str, token: str) -> bool:
        return _remembered(self._tokens, session_hash, token) == token

    def _learning(self, caller: str, send: Send) -> Send:
        """Pass an answer on, and take note of whose the event is that it tells of."""

        async def learn(message: Message) -> None:
            for event_id in _text(_fields(message.get("body", b"")), "event_id"):
                _remembered(self._callers, event_id, caller)
            await send(message)

        return learn


def _remembered(known: OrderedDict[str, str], key: str, value: str) -> str:
    first = known.setdefault(key, value)
    known.move_to_end(key)
    if len(known) > MOST_REMEMBERED:
        known.popitem(last=False)
    return first


def _named_in_address(scope: Scope) -> tuple[set[str], set[str]]:
    hashes = set(parse_qs(scope["query_string"].decode("latin-1")).get("session_hash", []))
    _, _, area, *rest = scope["path"].rstrip("/").split("/")
    if area == "heartbeat":
        hashes.update(rest)
    # POST /call/chat begins an event; GET /call/chat/… reads one.
    return hashes, {rest[-1]} if area == "call" and rest and scope["method"] != "POST" else set()


def _fields(body: bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _text(fields: dict[str, Any], name: str) -> set[str]:
    value = fields.get(name)
    return {value} if isinstance(value, str) else set()


async def _whole_body(receive: Receive) -> bytes | None:
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > MOST_BODY_BYTES:
            return None
        if not message.get("more_body"):
            return bytes(body)


def _replayed(body: bytes, receive: Receive) -> Receive:
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return waiting.pop() if waiting else await receive()

    return replay
