"""The app as people meet it: how soon it is there, how much memory it takes, how fast a browser sees a reply."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter

from browsing import CHROMIUM, Visitor
from page_fixtures import chromium, receipt_of_last_turn
from playwright.sync_api import expect, sync_playwright
from running_app import RunningApp

_LONG = 400

# Notes how long the reply's text was, and when it grew, by the page's own clock.
_WATCH = """() => {
  window.grew = [];
  new MutationObserver(() => {
    const now = document.querySelector("#live .text")?.innerText.length ?? 0;
    if (now > (window.grew.at(-1)?.[1] ?? 0)) window.grew.push([performance.now(), now]);
  }).observe(document.body, {childList: true, subtree: true, characterData: true});
}"""


@dataclass(frozen=True)
class Served:
    """What was measured on the running app. Seconds, bytes, tokens a second; `prompt` is what the browser asked."""

    warm_start: float
    imports: float
    peak_rss: int
    seen_by_browser: float
    prompt: tuple[int, ...]
    reply_tokens: int
    temperature: float


def measure(model: str, weights: Path, rounds: int) -> Served:
    """Start the app again and again, on a new data folder with these weights, then chat with it in Chromium."""
    with TemporaryDirectory(prefix="marginalia-bench-") as folder:
        data_dir = Path(folder)
        for name in ("models", "packed"):
            (data_dir / name).symlink_to(weights / name)
        return _measure(model, data_dir, rounds)


def _measure(model: str, data_dir: Path, rounds: int) -> Served:
    starts, imports = [], []
    for _ in range(rounds):
        imports.append(_seconds_of_imports())
        began = perf_counter()
        with RunningApp(Path(model), data_dir):
            starts.append(perf_counter() - began)
    with RunningApp(Path(model), data_dir) as app, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=CHROMIUM)
        visitor = Visitor(browser, app.url).open()
        visitor.set_longest_reply(_LONG)
        visitor.page.evaluate(_WATCH)
        # A page that was opened just now is still busy with itself.
        _, *seen = [_chat(visitor) for _ in range(rounds + 1)]
        browser.close()
        receipt = receipt_of_last_turn(app)
        peak = app.peak_rss()
    return Served(
        warm_start=median(starts),
        imports=median(imports),
        peak_rss=peak,
        seen_by_browser=median(seen),
        prompt=tuple(receipt["prompt"]["token_ids"]),
        reply_tokens=receipt["usage"]["completion_tokens"],
        temperature=receipt["sampling"]["temperature"],
    )


def _seconds_of_imports() -> float:
    began = perf_counter()
    subprocess.run([sys.executable, "-c", "import gradio, torch"], check=True)
    return perf_counter() - began


def _chat(visitor: Visitor) -> float:
    """Tokens a second as the page grew: of the reply's tokens the share that its text grew by while it was watched."""
    page = visitor.page
    page.get_by_role("button", name="New chat").click()
    expect(visitor.receipts).to_have_count(0)
    page.evaluate("window.grew = []")
    visitor.say("Write a long story about a fox and a dog who travel around the world.")
    (began, first), *_, (ended, last) = page.evaluate("window.grew")
    written = int(visitor.receipts.last.inner_text().split(" written")[0].rpartition("· ")[2].replace(",", ""))
    return float(written * (last - first) / last / (ended - began) * 1000)
