"""The web server around the pages: who may call, what a browser may load, whose cookie it is."""

from __future__ import annotations

import socket
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import gradio as gr
import uvicorn
from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import HTTPConnection
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chat.errors import NotFound
from chat.ui.owner import COOKIE, COOKIE_SECONDS, new_token, token_in
from chat.ui.session_guard import SessionGuard
from chat.ui.theme import OWN_FILES, PAGE_HEAD, SHARED_PAGES, THEME

STATIC = Path(__file__).resolve().parents[2] / "static"

# Gradio's page builds its components with inline scripts and styles, so those two stay allowed; nothing else does.
CONTENT_SECURITY_POLICY = "; ".join(
    [
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self'",
        "frame-ancestors 'none'",
        "base-uri 'self'",
        "form-action 'self'",
    ]
)
# What is shared is text with a style sheet inside it.
SHARED_PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'"
SECURITY_HEADERS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
}
# All that the pages and gradio_client ask for. Gradio has more doors, for files, links, logins and schemas; through
# some of them one person's values could reach another, and nothing here uses any.
OPEN_PATHS = frozenset(
    {
        "/config",
        "/theme.css",
        "/favicon.ico",
        "/gradio_api/info",
        "/gradio_api/queue/join",
        "/gradio_api/queue/data",
        "/gradio_api/cancel",
        "/gradio_api/reset",
    }
)
OPEN_FOLDERS = (
    f"{OWN_FILES}/",
    f"{SHARED_PAGES}/",
    "/assets/",
    "/static/",
    "/gradio_api/heartbeat/",
    "/gradio_api/call/",
)
# How long open connections may hold up the end.
PATIENCE_SECONDS = 5
LOOPBACK_HOSTS = ["localhost", "127.0.0.1", "[::1]", "::1"]


def build_server(pages: gr.Blocks, host: str, shared_page: Callable[[str], str]) -> FastAPI:
    """The pages mounted in FastAPI, behind the middleware. `host` is the address that will be listened on.

    `shared_page` gives the HTML of a page that somebody shares under a token.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_api_route(f"{SHARED_PAGES}/{{token}}", partial(_shared, shared_page), response_model=None)
    app.mount(OWN_FILES, StaticFiles(directory=STATIC), name="own files")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "SSR mode is not supported")  # Gradio says so even if it is not wanted
        gr.mount_gradio_app(
            app,
            pages,
            path="/",
            theme=THEME,
            head=PAGE_HEAD,
            run_history=False,
            footer_links=["api"],  # the footer is hidden; the side has a button for its list of the API
            enable_monitoring=False,
            max_file_size="1kb",
            show_error=False,
            ssr_mode=False,
            pwa=False,
            mcp_server=False,
        )
    app.add_middleware(SessionGuard)
    app.add_middleware(SafetyMiddleware, page_paths=frozenset(f"/{page[0]}" for page in pages.pages))
    # On loopback, another site's name that resolves here (DNS rebinding) is turned away. Whoever listens on other
    # addresses has names that we cannot know.
    if host in LOOPBACK_HOSTS:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=LOOPBACK_HOSTS)
    return app


def _shared(shared_page: Callable[[str], str], token: str) -> Response:
    try:
        body = shared_page(token)
    except NotFound:
        return PlainTextResponse("Nothing is shared under this link, or not any more.", status_code=404)
    # Kept nowhere, so that a page that is taken back is gone.
    policy = {"content-security-policy": SHARED_PAGE_POLICY, "cache-control": "no-store"}
    return HTMLResponse(body, headers=policy)


class Server(uvicorn.Server):
    """Serves until a signal; then ends what is running, which would hold the connections open, and waits for them."""

    def __init__(self, app: FastAPI, pages: gr.Blocks, host: str, port: int, stop_running: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(app, host=host, port=port, log_level="warning", timeout_graceful_shutdown=PATIENCE_SECONDS)
        )
        self._pages = pages
        self._stop_running = stop_running

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End replies at their next token, then Gradio's streams, then the connections."""
        self._stop_running()
        self._pages.app.stop_event.set()
        await super().shutdown(sockets)


class SafetyMiddleware:
    """Closes unused doors, sets the security headers, and gives each browser its owner cookie with the page.

    Plain ASGI: Starlette's BaseHTTPMiddleware would hide from Gradio that a reader has gone away.
    """

    def __init__(self, app: ASGIApp, page_paths: frozenset[str]) -> None:
        self._app = app
        self._open_paths = OPEN_PATHS | page_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
                if _needs_cookie(scope, headers):
                    headers.append("set-cookie", _cookie(new_token(), secure=scope["scheme"] == "https"))
            await send(message)

        app: ASGIApp = self._app
        if not self._is_open(scope["path"]):
            app = PlainTextResponse("Not found", status_code=404)
        elif _from_another_site(scope):
            app = PlainTextResponse("This request comes from another site.", status_code=403)
        await app(scope, receive, send_safely)

    def _is_open(self, path: str) -> bool:
        return path.startswith(OPEN_FOLDERS) or (path.rstrip("/") or "/") in self._open_paths


def _from_another_site(scope: Scope) -> bool:
    # A page on another port of this computer counts as the same site: the browser would send the owner cookie along,
    # and Gradio would let the page read the answer.
    fetched = Headers(scope=scope).get("sec-fetch-site", "none")
    return scope["path"].startswith("/gradio_api/") and fetched not in ("same-origin", "none")


def _needs_cookie(scope: Scope, response_headers: MutableHeaders) -> bool:
    is_page = scope["method"] == "GET" and response_headers.get("content-type", "").startswith("text/html")
    return is_page and not token_in(HTTPConnection(scope).cookies)


def _cookie(token: str, secure: bool) -> str:
    parts = [f"{COOKIE}={token}", "Path=/", f"Max-Age={COOKIE_SECONDS}", "HttpOnly", "SameSite=Lax"]
    return "; ".join([*parts, "Secure"] if secure else parts)
