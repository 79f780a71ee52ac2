"""A second person tries every door with the first one's ids, and other sites try theirs."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from gradio_client.exceptions import AppError
from running_app import COOKIE, Browser, Refused, RunningApp, client_of, result_of

SECRET = "Xylophone-Quartz-77"
ACTIONS = (
    "look",
    "older",
    "retry",
    "say",
    "open",
    "keep",
    "edit",
    "on",
    "off",
    "delete",
    "good",
    "bad",
    "comment",
    "withdraw",
    "share",
    "take-back",
)


@dataclass(frozen=True)
class Ada:
    """The first person: what she has, and everything that could name it."""

    browser: Browser
    conversation: str
    turn: str
    note: str
    comparison: str
    rows: dict[str, list[Any]]

    @property
    def ids(self) -> tuple[str, ...]:
        return (self.conversation, self.turn, self.note, self.comparison)


def rows(app: RunningApp) -> dict[str, list[Any]]:
    """What the database holds of what Ada said."""
    with closing(sqlite3.connect(f"file:{app.database}?mode=ro", uri=True)) as database:
        owner = database.execute("select owner from note where text like ?", [f"%{SECRET}%"]).fetchone()[0]
        mine = {
            "conversation": "select * from conversation where owner = ?",
            "turn": "select * from turn where conversation_id in (select id from conversation where owner = ?)",
            "note": "select * from note where owner = ?",
            "feedback": "select * from feedback where turn_id in (select turn.id from turn join conversation on "
            "conversation.id = conversation_id where owner = ?)",
            "shared_page": "select * from shared_page where conversation_id in (select id from conversation where "
            "owner = ?)",
        }
        return {table: database.execute(f"{query} order by 1", [owner]).fetchall() for table, query in mine.items()}


@pytest.fixture(scope="module")
def ada(running_app: RunningApp) -> Iterator[Ada]:
    """She said something secret, saved it, made it a title, judged the reply with it, compared it, and shared that."""
    with Browser(running_app.url) as browser:
        turn = browser.call("chat", f"The word is {SECRET}.", "", True, 0.0, 0, 8)
        browser.page_event("write", [f"Remember {SECRET}."])
        browser.page_event("rename", [turn["conversation_id"], "Segments", f"About {SECRET}"])
        note = browser.call("notes")[0]["id"]
        bad = {"id": turn["turn_id"], "comment": f"Not {SECRET}.", "better": f"Yes, {SECRET}."}
        for action in ("bad", "comment"):
            browser.page_event("act", [], bad | {"action": action}, place=2)
        comparison = browser.call("compare", SECRET, turn["conversation_id"], 0.0, 0, 8)[0]["receipt"]
        browser.page_event("opened", [], query=f"?k={comparison['conversation_id']}", place=1)
        browser.page_event("share", [comparison["conversation_id"], "fresh"], {"action": "share", "id": "0"})
        yield Ada(
            browser,
            turn["conversation_id"],
            turn["turn_id"],
            note,
            comparison["conversation_id"],
            rows(running_app),
        )


@pytest.fixture
def eve(running_app: RunningApp) -> Iterator[Browser]:
    """A second person, with a cookie of her own."""
    with Browser(running_app.url) as browser:
        yield browser


@pytest.fixture
def nobody(running_app: RunningApp) -> Iterator[Browser]:
    """Somebody who sends no cookie."""
    with Browser(running_app.url, with_cookie=False) as browser:
        yield browser


def inputs(browser: Browser, dependency: dict[str, Any], foreign: str) -> list[Any]:
    """Values that an event takes, with the foreign id wherever text goes."""
    parts = {each["id"]: each for each in browser.config["components"]}
    plain = {"radio": "Segments", "checkbox": False, "number": 1}
    kinds = [parts[part]["type"] for part in dependency["inputs"]]
    if dependency["api_visibility"] == "public":
        told = browser.http.get("/gradio_api/info").json()["named_endpoints"][f"/{dependency['api_name']}"]
        return [foreign if "str" in each["python_type"]["type"] else 1 for each in told["parameters"]]
    return [plain.get(kind, foreign) for kind in kinds]


def everything_tried(browser: Browser, ids: Sequence[str]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Each event of each page and each endpoint, with each of these ids and each action."""
    kinds = {each["id"]: each["type"] for each in browser.config["components"]}
    for dependency in browser.config["dependencies"]:
        if not dependency["backend_fn"]:
            continue
        # Only what is clicked inside our own HTML says what to do, and with what.
        clicks = ACTIONS if any(kinds.get(part) == "html" for part, _ in dependency["targets"]) else ("",)
        for foreign in ids:
            for action in clicks:
                clicked = {"action": action, "id": foreign, "text": "taken over"}
                told = browser.event(dependency, inputs(browser, dependency, foreign), clicked, f"?c={foreign}")
                yield f"{dependency['api_name']} {action} {foreign}", told


def test_the_first_person_finds_her_own_things_behind_the_doors_that_are_tried_below(ada: Ada) -> None:
    settings = [1, 1, 0, 0, 8]
    finds = {
        "opened": ada.browser.opened(ada.conversation),
        "open_clicked": ada.browser.page_event("open_clicked", ["Segments"], {"id": ada.conversation}),
        "look": ada.browser.page_event(
            "act_on_turn", [ada.conversation, "Segments", True, *settings], {"action": "look", "id": ada.turn}
        ),
        "show_view": ada.browser.page_event("show_view", [ada.conversation, "Raw text", ada.turn]),
        "search": ada.browser.page_event("search", ["", "Segments", "xylophone"]),
        "glass": ada.browser.page_event("opened", ["Segments", ""], query=f"?t={ada.turn}", place=2),
        "memory": ada.browser.page_event("opened", [], place=3),
        "compare": ada.browser.page_event("opened", [], place=1),
        "feedback": ada.browser.page_event("opened", [], place=4),
        "export": ada.browser.page_event("export", []),
        "receipt": json.dumps(ada.browser.call("receipt", ada.turn)),
        "notes": json.dumps(ada.browser.call("notes")),
    }
    assert [door for door, found in finds.items() if SECRET not in found] == []


def test_no_event_and_no_endpoint_gives_another_person_anything_or_changes_it(
    running_app: RunningApp, ada: Ada, eve: Browser
) -> None:
    tried = everything_tried(eve, ada.ids)
    assert [attempt for attempt, told in tried if SECRET in json.dumps(told, ensure_ascii=False)] == []
    assert rows(running_app) == ada.rows


def test_nobody_is_given_anything_either(running_app: RunningApp, ada: Ada, nobody: Browser) -> None:
    # Whatever id is sent along: who sends it is asked first.
    tried = everything_tried(nobody, [ada.turn])
    assert [attempt for attempt, told in tried if SECRET in json.dumps(told, ensure_ascii=False)] == []
    assert rows(running_app) == ada.rows


def test_a_second_client_of_the_api_gets_nothing_of_the_first(running_app: RunningApp, ada: Ada) -> None:
    with closing(client_of(running_app.url)) as other:
        for endpoint, arguments in {
            "/chat": ("Hello", ada.conversation),
            "/receipt": (ada.turn,),
            "/remember": (ada.conversation,),
            "/compare": ("Hello", ada.conversation),
        }.items():
            with pytest.raises(AppError, match=r"There is no (conversation|turn) “\w+” here"):
                other.predict(*arguments, api_name=endpoint)
        assert other.predict(api_name="/notes") == []


def test_two_clients_without_cookies_are_two_people(running_app: RunningApp) -> None:
    with closing(client_of(running_app.url)) as one, closing(client_of(running_app.url)) as other:
        turn = one.predict("Hello", max_new_tokens=4, api_name="/chat")
        assert one.predict(turn["turn_id"], api_name="/receipt")["turn_id"] == turn["turn_id"]
        with pytest.raises(AppError, match="There is no turn"):
            other.predict(turn["turn_id"], api_name="/receipt")


def test_a_browser_without_its_cookie_is_told_so_and_is_nobody(nobody: Browser) -> None:
    with pytest.raises(Refused, match="This request says not whose it is"):
        nobody.call("notes")


def doors(session_hash: str, event_id: str) -> list[tuple[str, str, Any]]:
    """Where Gradio takes a session's hash or an event's id for the right to have what is behind it."""
    named = {"session_hash": session_hash, "event_id": event_id, "fn_index": 0}
    event = {"data": [], "session_hash": session_hash, "fn_index": 0}
    return [
        ("GET", f"/gradio_api/queue/data?session_hash={session_hash}", None),
        ("GET", f"/gradio_api/queue/data?session_hash=mine&session_hash={session_hash}", None),
        ("GET", f"/gradio_api/heartbeat/{session_hash}", None),
        ("GET", f"/gradio_api/heartbeat/{session_hash}/", None),
        ("GET", f"/gradio_api/call/notes/{event_id}", None),
        ("GET", f"/gradio_api/call/v2/notes/{event_id}", None),
        ("GET", f"/gradio_api/call/notes/{session_hash}", None),
        ("POST", "/gradio_api/queue/join", event),
        ("POST", "/gradio_api/queue/join/", event),
        ("POST", "/gradio_api/call/notes", {"data": [], "session_hash": session_hash}),
        ("POST", "/gradio_api/call/notes/", {"data": [], "session_hash": session_hash}),
        ("POST", "/gradio_api/cancel", named),
        ("POST", "/gradio_api/cancel", named | {"session_hash": "mine"}),
        ("POST", "/gradio_api/reset", named),
        ("POST", "/gradio_api/reset", {"event_id": event_id}),
    ]


def answer_of(http: httpx.Client, method: str, path: str, body: Any) -> tuple[int, str]:
    """The status and, of a refusal, the words: an open door may lead to a stream without an end."""
    with http.stream(method, path, json=body) as answer:
        return answer.status_code, answer.read().decode() if answer.is_error else ""


@pytest.mark.parametrize("person", ["eve", "nobody"])
def test_a_session_or_an_event_of_another_is_refused_at_every_door(
    ada: Ada, person: str, request: pytest.FixtureRequest
) -> None:
    other: Browser = request.getfixturevalue(person)
    event_id = ada.browser.join(ada.browser.dependency("chat"), ["Hello", "", True, 0.0, 0, 300])
    answers = {
        f"{method} {path} {body}": answer_of(other.http, method, path, body)
        for method, path, body in doors(ada.browser.session_hash, event_id)
    }
    assert answers == dict.fromkeys(answers, (403, "This session belongs to another browser."))
    # Ada's reply went on, and came to her alone.
    told = list(ada.browser.messages())
    assert [message["msg"] for message in told].count("process_completed") == 1
    turn = next(message for message in told if message["msg"] == "process_generating")["output"]["data"][0]
    assert ada.browser.call("receipt", turn["turn_id"])["usage"]["completion_tokens"] == 300


def test_an_id_that_was_never_given_out_opens_no_stream(eve: Browser) -> None:
    for unknown in ("0" * 32, "%00", eve.session_hash, "null"):
        assert answer_of(eve.http, "GET", f"/gradio_api/call/notes/{unknown}", None)[0] == 403


def test_an_event_that_somebody_began_is_theirs_to_cancel(running_app: RunningApp) -> None:
    with Browser(running_app.url) as browser:
        event_id = browser.join(browser.dependency("chat"), ["Hello", "", True, 0.0, 0, 4000])
        named = {"session_hash": browser.session_hash, "event_id": event_id, "fn_index": 0}
        assert browser.http.post("/gradio_api/cancel", json=named).json() == {"success": True}


def test_a_session_of_a_client_without_cookies_is_not_open_to_a_browser(running_app: RunningApp, eve: Browser) -> None:
    with closing(client_of(running_app.url)) as client:
        client.predict("Hello", max_new_tokens=4, api_name="/chat")
        answer = eve.http.get("/gradio_api/queue/data", params={"session_hash": client.session_hash})
        assert answer.status_code == 403


@pytest.mark.parametrize("value", ["", "x", "a" * 42, "a" * 44, "a" * 42 + "!", "a" * 43 + " b", "a" * 5000])
def test_a_cookie_that_is_none_of_ours_is_no_cookie(running_app: RunningApp, value: str) -> None:
    with Browser(running_app.url, with_cookie=False) as browser:
        browser.http.headers["cookie"] = f"{COOKIE}={value}"
        with pytest.raises(Refused, match="This request says not whose it is"):
            browser.call("notes")
        assert COOKIE in browser.http.get("/").headers["set-cookie"]


@pytest.mark.parametrize("path", ["/", "/compare", "/glass", "/memory", "/feedback", "/costs", "/model", "/tour"])
def test_each_page_brings_the_owner_cookie_once_and_only_if_it_is_missing(running_app: RunningApp, path: str) -> None:
    with httpx.Client(base_url=running_app.url) as http:
        first = http.get(path)
        (cookie,) = first.headers.get_list("set-cookie")
        name, *attributes = cookie.split("; ")
        assert re.fullmatch(rf"{COOKIE}=[A-Za-z0-9_-]{{43}}", name)
        assert {"HttpOnly", "SameSite=Lax", "Path=/"} <= set(attributes)
        assert not any(each.lower().startswith("domain") for each in attributes)
        assert "set-cookie" not in http.get(path).headers
        assert "set-cookie" not in http.get("/").headers
    assert httpx.get(f"{running_app.url}{path}").headers["set-cookie"] != cookie


@pytest.mark.parametrize("path", ["/config", "/marginalia/app.css", "/gradio_api/info", "/nothing"])
def test_what_is_no_page_brings_no_cookie(running_app: RunningApp, path: str) -> None:
    assert "set-cookie" not in httpx.get(f"{running_app.url}{path}").headers


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/compare",
        "/glass",
        "/memory",
        "/feedback",
        "/costs",
        "/model",
        "/tour",
        "/config",
        "/theme.css",
        "/marginalia/app.css",
        "/marginalia/app.js",
        "/gradio_api/info",
        "/gradio_api/deep_link",
        "/nothing",
    ],
)
def test_every_answer_has_the_headers_that_keep_a_browser_safe(running_app: RunningApp, path: str) -> None:
    headers = httpx.get(f"{running_app.url}{path}").headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "same-origin"
    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    allowed = {source for sources in policy.values() for source in sources.split()}
    assert allowed == {"'self'", "'none'", "'unsafe-inline'", "'unsafe-eval'", "data:", "blob:"}
    assert policy["default-src"] == policy["connect-src"] == policy["form-action"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"


@pytest.mark.parametrize("path", ["/", "/compare", "/glass", "/memory", "/feedback", "/costs", "/model", "/tour"])
def test_a_page_names_nothing_that_lies_elsewhere(running_app: RunningApp, path: str) -> None:
    page = httpx.get(f"{running_app.url}{path}").text
    named = re.findall(r"""(?:src|href)\s*=\s*["']?([^"'\s>]+)""", page) + re.findall(r"""url\(["']?([^"')]+)""", page)
    elsewhere = [
        address
        for address in named
        if re.match(r"(?:https?:)?//", address)
        and not address.startswith(running_app.url)
        # Links for whoever clicks them; nothing is loaded from there.
        and address != "https://gradio.app/"
    ]
    assert elsewhere == []
    assert re.findall(r"""@import|fonts\.g""", httpx.get(f"{running_app.url}/theme.css").text) == []


CLOSED = [
    "/docs",
    "/redoc",
    "/openapi.json",
    "/gradio_api/openapi.json",
    "/gradio_api/deep_link",
    "/gradio_api/upload",
    "/gradio_api/upload_progress?upload_id=a",
    "/gradio_api/component_server",
    "/gradio_api/file=app.py",
    "/gradio_api/file/app.py",
    "/gradio_api/proxy=http://127.0.0.1/",
    "/gradio_api/stream/a",
    "/gradio_api/custom_component/a/client/component/b",
    "/gradio_api/api/notes",
    "/gradio_api/run/notes",
    "/gradio_api/process_recording",
    "/gradio_api/vibe-edit/",
    "/gradio_api/vibe-code/",
    "/gradio_api/dev/reload",
    "/gradio_api/runs",
    "/gradio_api/run-history/buckets",
    "/gradio_api/mcp/",
    "/gradio_api/token",
    "/gradio_api/user",
    "/monitoring",
    "/monitoring/summary",
    "/login",
    "/logout",
]


@pytest.mark.parametrize("path", CLOSED)
def test_a_door_that_nothing_uses_is_closed_under_every_spelling(running_app: RunningApp, path: str) -> None:
    spellings = [
        path,
        f"{path}/",
        f"/compare{path}",
        f"/memory{path}",
        f"/{path}",
        path.replace("/", "//"),
        path.replace("gradio_api/", "gradio_api/./"),
        path.replace("gradio_api", "%67radio_api"),
        path.replace("/gradio_api/", "/gradio_api%2f"),
        f"/marginalia/..{path}",
        f"/assets/..{path}",
        f"/gradio_api/call/..{path}",
        path.upper(),
    ]
    with httpx.Client() as http:
        answers = {
            f"{method} {spelling}": http.send(
                httpx.Request(method, running_app.url, extensions={"target": spelling.encode()})
            )
            for spelling in spellings
            for method in ("GET", "POST")
        }
    # 403: no file of that name may be read. 405: a file's place, which takes no POST.
    open_doors = {
        door: answer.status_code for door, answer in answers.items() if answer.status_code not in (403, 404, 405)
    }
    assert open_doors == {}


@pytest.mark.parametrize("folder", ["/marginalia", "/assets", "/static"])
def test_no_file_outside_the_served_folders_can_be_read(running_app: RunningApp, folder: str) -> None:
    ups = ["../app.py", "../../app.py", "%2e%2e/app.py", "..%2fapp.py", "..%5capp.py", "//etc/passwd", "/etc/passwd"]
    with httpx.Client() as http:
        for up in ups:
            target = f"{folder}/{up}".encode()
            answer = http.send(httpx.Request("GET", running_app.url, extensions={"target": target}))
            assert answer.status_code in (403, 404), target


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:{port}",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "127.0.0.2",
        "",
        "[::2]",
    ],
)
def test_a_name_of_another_site_that_resolves_here_is_turned_away(running_app: RunningApp, host: str) -> None:
    answer = httpx.get(running_app.url, headers={"host": host.format(port=running_app.port)})
    assert answer.status_code == 400
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:{port}", "127.0.0.1:{port}", "[::1]:{port}"])
def test_this_computer_s_own_names_are_let_in(running_app: RunningApp, host: str) -> None:
    assert httpx.get(running_app.url, headers={"host": host.format(port=running_app.port)}).status_code == 200


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_another_site_in_the_same_browser_cannot_call_though_it_has_the_cookie(ada: Ada, site: str) -> None:
    headers = {"sec-fetch-site": site, "origin": "http://localhost:3000"}
    for method, path, body in [
        ("POST", "/gradio_api/call/notes", {"data": []}),
        ("POST", "/gradio_api/queue/join", {"data": [], "fn_index": 0, "session_hash": "x"}),
        ("GET", "/gradio_api/queue/data?session_hash=x", None),
    ]:
        answer = ada.browser.http.request(method, path, json=body, headers=headers)
        assert (answer.status_code, answer.text) == (403, "This request comes from another site.")
    # A link on another site still leads to the page.
    assert ada.browser.http.get("/", headers=headers).status_code == 200


def test_the_page_itself_may_call(ada: Ada) -> None:
    headers = {"sec-fetch-site": "same-origin"}
    begun = ada.browser.http.post("/gradio_api/call/notes", json={"data": []}, headers=headers)
    told = ada.browser.http.get(f"/gradio_api/call/notes/{begun.json()['event_id']}", headers=headers)
    assert SECRET in told.text


def test_the_configuration_that_every_browser_gets_holds_nothing_of_anybody(ada: Ada, eve: Browser) -> None:
    pages = (
        "/",
        "/compare",
        "/glass",
        "/memory",
        "/feedback",
        "/costs",
        "/model",
        "/tour",
        f"/?c={ada.conversation}",
        "/?view=api",
    )
    for path in (*pages, "/config", "/gradio_api/info"):
        assert SECRET not in eve.http.get(path).text


def test_what_one_session_was_given_to_choose_from_is_not_offered_to_the_next(ada: Ada, eve: Browser) -> None:
    assert SECRET in ada.browser.page_event("opened", [], place=1)
    told = eve.event(eve.page_dependencies("opened")[1], [])
    assert SECRET not in json.dumps(told)
    assert ada.conversation not in json.dumps(told)
    result_of(told)
