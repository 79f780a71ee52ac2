"""Whose conversations these are. One HttpOnly cookie a browser; a client without cookies is its own session.

A session hash is enough only for clients that made it from `uuid4`, as `gradio_client` does: pages make theirs with
`Math.random()`, but every page comes with the cookie.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping
from uuid import UUID

import gradio as gr

from chat.errors import InputError

COOKIE = "marginalia_owner"
COOKIE_SECONDS = 5 * 365 * 24 * 3600
_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")


def new_token() -> str:
    """A cookie's value: 256 random bits."""
    return secrets.token_urlsafe(32)


def token_in(cookies: Mapping[str, str]) -> str:
    """The value of our cookie; empty if there is none, or if it has not the form of ours."""
    value = cookies.get(COOKIE, "")
    return value if _TOKEN.fullmatch(value) else ""


def owner_of(request: gr.Request) -> str:
    """The owner behind a request: a hash, so that the database gives nobody's cookie away.

    Raises InputError for a client that has neither a cookie nor a session of its own.
    """
    if token := token_in(request.cookies):
        return _hashed(f"cookie:{token}")
    session = _uuid4(request.session_hash)
    if session is None:
        raise InputError(
            f"This request says not whose it is. Open the page once and send its cookie “{COOKIE}” with each request."
        )
    return _hashed(f"session:{session}")


def _hashed(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _uuid4(value: str | None) -> UUID | None:
    try:
        parsed = UUID(value or "")
    except ValueError:
        return None
    return parsed if parsed.version == 4 else None
