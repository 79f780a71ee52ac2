"""The real app with the real model, and a person with a browser: for the tests that look at pages."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browsing import CHROMIUM, Visitor
from playwright.sync_api import Browser, sync_playwright
from running_app import RunningApp


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=CHROMIUM)
        yield browser
        browser.close()


def chromium() -> str:
    """Where the browser is."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    assert found, "Chromium is not installed; `make test` installs it or says how"
    return found


@pytest.fixture(scope="session")
def app_folder(tmp_path_factory: pytest.TempPathFactory, weights_data_dir: Path) -> Path:
    """A data folder with the real weights and a database of its own."""
    return with_weights(tmp_path_factory.mktemp("app"), weights_data_dir)


def with_weights(folder: Path, weights_data_dir: Path) -> Path:
    """The folder, with what lies there linked into it, so that nothing is unpacked or packed anew."""
    for part in ("models", "packed"):
        (weights_data_dir / part).mkdir(parents=True, exist_ok=True)
        (folder / part).symlink_to(weights_data_dir / part)
    return folder


@pytest.fixture(scope="session")
def app(app_folder: Path) -> Iterator[RunningApp]:
    with RunningApp(Path("smollm2"), app_folder) as app:
        yield app


@pytest.fixture
def visitor(browser: Browser, app: RunningApp) -> Iterator[Visitor]:
    yield from _visit(browser, app)


def _visit(browser: Browser, app: RunningApp) -> Iterator[Visitor]:
    visitor = Visitor(browser, app.url)
    yield visitor
    visitor.context.close()
    assert visitor.faults == []


# In 32 bits a reply takes long enough for somebody to do something meanwhile.
UNHURRIED = ("--precision", "fp32")


@pytest.fixture(scope="session")
def unhurried_app(tmp_path_factory: pytest.TempPathFactory, weights_data_dir: Path) -> Iterator[RunningApp]:
    """The real app with the real model in 32 bits."""
    folder = with_weights(tmp_path_factory.mktemp("unhurried"), weights_data_dir)
    with RunningApp(Path("smollm2"), folder, *UNHURRIED) as app:
        yield app


@pytest.fixture
def unhurried(browser: Browser, unhurried_app: RunningApp) -> Iterator[Visitor]:
    """Somebody at the app that is slow enough to be interrupted."""
    yield from _visit(browser, unhurried_app)


def receipt_of_last_turn(app: RunningApp) -> dict[str, Any]:
    """The newest receipt in the app's database, whoever's it is."""
    with sqlite3.connect(app.database) as connection:
        rows = connection.execute(
            "SELECT receipt.body FROM receipt JOIN turn ON turn.id = receipt.turn_id ORDER BY turn.created_at DESC"
        )
        return json.loads(rows.fetchone()[0])
