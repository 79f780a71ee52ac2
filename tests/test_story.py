"""The first minute, on the default model in Chromium: what is corrected is used, and a fresh session knows nothing."""

from __future__ import annotations

import re

from browsing import PATIENCE_MS, Visitor
from page_fixtures import receipt_of_last_turn
from playwright.sync_api import expect

FIRST = "Who runs finance, Priya or Dana?"
CORRECTION = "No. Dana runs finance. Priya runs sales."
QUESTION = "Which partner runs finance?"


def new_chat(visitor: Visitor, memory: bool) -> None:
    visitor.page.get_by_role("button", name="New chat").click()
    expect(visitor.page.get_by_text("Does a chatbot learn from you?")).to_be_visible()
    visitor.page.get_by_role("checkbox", name="Use memory").set_checked(memory)


def test_the_partners_story_plays_right_on_the_default_model(visitor: Visitor) -> None:
    visitor.open()
    visitor.page.get_by_role("button", name=FIRST).click()
    expect(visitor.receipts).to_have_count(1, timeout=PATIENCE_MS)
    assert "I don't know." in visitor.replies.last.inner_text()
    visitor.page.get_by_role("button", name=CORRECTION).click()
    expect(visitor.receipts).to_have_count(2, timeout=PATIENCE_MS)
    visitor.say(QUESTION)
    assert "Dana" in visitor.replies.last.inner_text()
    assert "Priya" not in visitor.replies.last.inner_text()

    visitor.page.get_by_role("button", name="Save to memory").click()
    drafts = visitor.page.get_by_role("textbox", name="Draft")
    expect(drafts).to_have_count(2, timeout=PATIENCE_MS)
    assert re.fullmatch(r".*Dana.*finance.*|.*finance.*Dana.*", drafts.first.input_value())
    for left in (1, 0):
        visitor.page.get_by_role("button", name="Keep", exact=True).first.click()
        expect(drafts).to_have_count(left)

    new_chat(visitor, memory=False)
    visitor.say(QUESTION)
    assert "I don't know." in visitor.replies.last.inner_text()
    assert not re.search("Dana|Priya", visitor.replies.last.inner_text())
    new_chat(visitor, memory=True)
    visitor.say(QUESTION)
    assert "Dana" in visitor.replies.last.inner_text()
    assert "Priya" not in visitor.replies.last.inner_text()


def test_a_correction_lives_in_the_prompt_and_nowhere_else(visitor, app):
    visitor.open()
    visitor.set_longest_reply(12)

    visitor.page.get_by_role("button", name="Who runs finance, Priya or Dana?").click()
    expect(visitor.receipts).to_have_count(1, timeout=PATIENCE_MS)
    assert CORRECTION not in "".join(visitor.segments("history"))
    visitor.page.get_by_role("button", name=CORRECTION).click()
    expect(visitor.receipts).to_have_count(2, timeout=PATIENCE_MS)
    visitor.say(QUESTION)

    assert CORRECTION in visitor.segments("history")
    assert visitor.segments("message") == [QUESTION]
    for receipt in visitor.receipts.all_inner_texts():
        assert "0 of 134,515,008 weights changed" in receipt
    expect(visitor.panel).to_contain_text("The book did not change.")

    visitor.page.get_by_role("button", name="New chat").click()
    expect(visitor.page.get_by_text("Does a chatbot learn from you?")).to_be_visible()
    visitor.say(QUESTION)
    assert visitor.segments("history") == []
    without_memory = receipt_of_last_turn(app)["prompt"]["token_ids"]

    visitor.open("/memory")
    visitor.page.get_by_role("textbox", name="New note").fill("Dana runs finance.")
    visitor.page.get_by_role("button", name="Add note").click()
    expect(visitor.page.get_by_role("textbox", name="Note", exact=True)).to_have_value("Dana runs finance.")

    visitor.open()
    visitor.set_longest_reply(12)
    visitor.say(QUESTION)
    assert "Dana runs finance." in "".join(visitor.segments("note"))

    new_chat(visitor, memory=False)
    visitor.say(QUESTION)
    assert visitor.segments("note") == []
    assert receipt_of_last_turn(app)["prompt"]["token_ids"] == without_memory
