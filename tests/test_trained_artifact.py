"""The page “Model” in Chromium, on the real app: what the artifact is, what it can know, what rounding does to it."""

from __future__ import annotations

import json
import re
import sqlite3
from typing import Any

from browsing import PATIENCE_MS
from page_fixtures import receipt_of_last_turn
from playwright.sync_api import expect
from running_app import RunningApp


def receipts(app: RunningApp) -> list[dict[str, Any]]:
    """All receipts in the app's database, oldest first."""
    with sqlite3.connect(app.database) as connection:
        rows = connection.execute(
            "SELECT receipt.body FROM receipt JOIN turn ON turn.id = receipt.turn_id ORDER BY turn.created_at"
        )
        return [json.loads(body) for (body,) in rows]


def test_the_parts_add_up_to_the_receipts_parameters_and_a_check_finds_the_same_fingerprint(visitor, app):
    visitor.open()
    visitor.set_longest_reply(4)
    visitor.say("What are you made of?")
    receipt = receipt_of_last_turn(app)
    page = visitor.open("/model").page

    expect(page.locator("#parameters")).to_have_text(f"{receipt['model']['parameters']:,}")
    expect(page.get_by_role("img", name="Parameters by layer")).to_be_visible()
    page.get_by_role("button", name="Check again now").click()
    expect(page.locator("#checked code")).to_have_text(receipt["weights"]["after"])
    expect(page.locator("#checked")).to_contain_text("The same:")

    rows = page.get_by_role("region", name="Tensors").locator("tbody tr")
    page.get_by_role("textbox", name="Find a tensor").fill("layers.29.before_mlp")
    expect(rows).to_have_count(1)
    expect(rows.locator("code")).to_have_text(re.compile("^[0-9a-f]{64}$"))


def test_a_question_about_something_later_is_asked_without_the_fact_and_with_it(visitor, app):
    page = visitor.open("/model").page
    page.get_by_role("link", name="What it can know").click()
    expect(page.get_by_role("heading", name="What it can know").first).to_be_in_viewport()
    page.get_by_role("button", name="A pope").click()
    expect(page.get_by_role("textbox", name="The fact")).to_have_value("Leo XIV became pope in May 2025.")
    without, given = page.locator("#without-fact"), page.locator("#with-fact")
    page.get_by_role("button", name="Ask without the fact").click()
    expect(without.locator(".receipt")).to_be_visible(timeout=PATIENCE_MS)
    page.get_by_role("button", name="Ask with the fact").click()
    expect(given.locator(".receipt")).to_be_visible(timeout=PATIENCE_MS)

    expect(given.get_by_test_id("bot")).to_contain_text("Leo XIV")
    expect(given.locator(".says")).to_contain_text("It says what only the fact has")
    given.get_by_text("Show its prompt").click()
    marked = given.locator("mark.only-here .segment")
    assert {segment.get_attribute("data-kind") for segment in marked.all()} == {"note"}
    plain, told = ([each["text"] for each in receipt["prompt"]["segments"]] for receipt in receipts(app)[-2:])
    assert [text for text in told if text in plain] == plain
    assert "".join(text for text in told if text not in plain).endswith("- Leo XIV became pope in May 2025.")
    visitor.open()
    expect(page.locator("#shelf")).to_contain_text("Your conversations will be listed here.")


def test_the_same_question_is_answered_at_each_precision_from_the_same_ids(visitor, app):
    page = visitor.open("/model").page
    page.get_by_role("textbox", name="Question to each precision").fill("What is tea?")
    page.get_by_role("button", name="Compare precisions").click()
    columns = page.locator(".precision")
    expect(page.locator("#precision-int4 .differs")).to_be_visible(timeout=2 * PATIENCE_MS)

    expect(columns.get_by_text("In memory")).to_have_count(4)
    made = receipts(app)[-4:]
    assert [receipt["model"]["dtype"] for receipt in made] == ["float32", "bfloat16", "int8", "int4"]
    (sha256,) = {receipt["prompt"]["sha256"] for receipt in made}
    expect(page.locator("#same-prompt code")).to_have_text(sha256)
    for column, receipt in zip(columns.all(), made, strict=True):
        expect(column.locator(".text")).to_have_text(receipt["completion"]["text"])
        digest = column.locator("dd code").get_attribute("title")
        assert digest == f"SHA-256 {receipt['weights']['after']}"
    expect(page.get_by_role("button", name="Compare precisions")).to_be_visible()
