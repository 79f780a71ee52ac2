"""One person at the page: what they do and what they see, by accessible names."""

from __future__ import annotations

import re

from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

CHROMIUM = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
DESKTOP = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 844}
# A reply of a few dozen tokens takes seconds; the machine may be busy with other things.
PATIENCE_MS = 90_000
expect.set_options(timeout=20_000)


class Visitor:
    """A browser of their own, with its own cookie, on the app at `url`."""

    def __init__(self, browser: Browser, url: str, viewport: dict[str, int] | None = None) -> None:
        self.url = url
        self.context: BrowserContext = browser.new_context(viewport=viewport or DESKTOP)  # type: ignore[arg-type]
        self.asked: list[str] = []
        self.context.on("request", lambda request: self.asked.append(request.url))
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE_MS)
        self.faults: list[str] = []
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("dialog", lambda dialog: self.faults.append(dialog.message))

    def open(self, path: str = "/") -> Visitor:
        """Open a page and wait until it has been filled."""
        self.page.goto(self.url + path)
        filled = {
            "/compare": "#panes h2",
            "/glass": "#glass-panel .segment, #error p",
            "/memory": "#notes .html-container :is(p, ul)",
            "/feedback": "#judged :is(p, ul)",
            "/costs": "#overtakes, #no-costs",
            "/model": "#fingerprint",
            "/tour": "#run-1:enabled",
        }
        awaited = filled.get(path.split("?")[0], "#shelf p, #shelf nav")
        self.page.locator(awaited).first.wait_for(state="attached")
        expect(self.page.locator("p.loading")).to_have_count(0)
        return self

    def set_longest_reply(self, tokens: int) -> None:
        """Keep replies short; the setting stays until the page is left."""
        self.page.get_by_role("button", name="How the next word is chosen").click()
        self.page.get_by_role("spinbutton", name="Longest reply").fill(str(tokens))
        self.page.get_by_role("button", name="How the next word is chosen").click()

    @property
    def box(self) -> Locator:
        return self.page.get_by_role("textbox", name="Message")

    @property
    def panel(self) -> Locator:
        return self.page.get_by_role("region", name="Exact prompt")

    @property
    def receipts(self) -> Locator:
        return self.page.locator("#turns .receipt")

    @property
    def replies(self) -> Locator:
        return self.page.locator("#turns [data-testid=bot]")

    def say(self, message: str) -> None:
        """Send a message and wait for its receipt."""
        before = self.receipts.count()
        self.box.fill(message)
        self.box.press("Enter")
        expect(self.receipts).to_have_count(before + 1, timeout=PATIENCE_MS)

    def segments(self, kind: str) -> list[str]:
        """The texts of the panel's segments of one kind, as they are shown."""
        return self.panel.locator(f"pre .segment.{kind}").all_inner_texts()

    def counts(self) -> tuple[dict[str, int], int]:
        """The panel's tokens by kind, and the sum that it states."""
        kinds, total = {}, 0
        for line in self.panel.locator(".legend li").all_inner_texts():
            name, number = line.split()[:2]
            if name == "=":
                total = int(number.replace(",", ""))
            else:
                kinds[name] = int(number.replace(",", ""))
        return kinds, total

    def conversation_id(self) -> str:
        """The conversation that the address names."""
        expect(self.page).to_have_url(re.compile(r"\?c=[0-9a-f]{32}"))
        return self.page.url.rpartition("c=")[2]
