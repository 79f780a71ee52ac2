"""What axe finds on a page."""

from __future__ import annotations

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect


def axe_violations_in_both(page: Page) -> list[tuple[str, str]]:
    """What axe finds in light and in dark."""
    found = []
    for scheme, others in (("dark", 0), ("light", 1)):
        page.emulate_media(color_scheme=scheme)
        expect(page.locator("body:not(.dark)")).to_have_count(others)
        found += axe_violations(page)
    return found


def axe_violations(page: Page) -> list[tuple[str, str]]:
    """What axe finds, rule by rule, with the first place of each."""
    results = Axe().run(page).response
    assert len(results["passes"]) > 10, "axe looked at an empty page"
    return [(rule["id"], rule["nodes"][0]["html"]) for rule in results["violations"]]
