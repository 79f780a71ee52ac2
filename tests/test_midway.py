"""What a person does in Chromium while a reply is written, and what is left of it: on the real app and model."""

from __future__ import annotations

import re
from pathlib import Path

from browsing import PATIENCE_MS, Visitor
from page_fixtures import UNHURRIED, with_weights
from playwright.sync_api import expect
from running_app import RunningApp


def test_stop_ends_the_reply_and_keeps_what_was_said(unhurried):
    visitor = unhurried.open()
    visitor.box.fill("Tell me a long story about the sea.")
    visitor.page.get_by_role("button", name="Send").click()
    expect(visitor.page.locator("#live .text")).to_have_text(re.compile(r"\w{2}"), timeout=PATIENCE_MS)

    visitor.page.get_by_role("button", name="Stop").click()

    expect(visitor.replies).to_contain_text("Stopped. What had been said is kept.")
    assert visitor.replies.locator(".text").inner_text()
    expect(visitor.receipts).to_have_count(1)
    expect(visitor.page.get_by_role("button", name="Send")).to_be_visible()
    expect(visitor.page.get_by_role("button", name="Retry")).to_be_visible()


def test_a_closed_tab_ends_the_reply_and_loses_nothing(unhurried):
    visitor = unhurried.open()
    visitor.box.fill("Tell me a long story about the mountains.")
    visitor.box.press("Enter")
    expect(visitor.page.locator("#live .text")).to_have_text(re.compile(r"\w{2}"), timeout=PATIENCE_MS)
    conversation_id = visitor.conversation_id()

    visitor.page.close()
    later = visitor.context.new_page()
    later.goto(f"{visitor.url}/?c={conversation_id}")

    expect(later.locator("#turns [data-testid=user]")).to_have_text("Tell me a long story about the mountains.")

    def ended() -> bool:
        later.reload()
        later.locator("#turns .reply").wait_for()
        return "Stopped. What had been said is kept." in later.locator("#turns .reply").inner_text()

    assert any(ended() for _ in range(20))


def test_a_killed_app_shows_the_turn_as_interrupted_and_it_can_be_tried_again(browser, tmp_path, weights_data_dir):
    with_weights(tmp_path, weights_data_dir)
    with RunningApp(Path("smollm2"), tmp_path, *UNHURRIED) as app:
        visitor = Visitor(browser, app.url).open()
        visitor.box.fill("Tell me a long story about the desert.")
        visitor.box.press("Enter")
        expect(visitor.page.locator("#live .text")).to_have_text(re.compile(r"\w+\W+\w+\W+\w+"), timeout=PATIENCE_MS)
        conversation_id = visitor.conversation_id()
        app.kill9()

    with RunningApp(Path("smollm2"), tmp_path) as app:
        # Cookies know no ports, so the browser that comes back is the same person.
        visitor.url = app.url
        visitor.open(f"/?c={conversation_id}")
        expect(visitor.page.locator("#turns [data-testid=user]")).to_have_text("Tell me a long story about the desert.")
        expect(visitor.replies).to_contain_text("Interrupted")
        visitor.set_longest_reply(8)

        visitor.page.get_by_role("button", name="Retry").click()

        expect(visitor.receipts).to_have_count(1, timeout=PATIENCE_MS)
        expect(visitor.page.locator("#turns [data-testid=user]")).to_have_count(1)
    visitor.context.close()


def test_a_reply_goes_on_while_its_person_reads_something_else_and_does_not_intrude(unhurried):
    visitor = unhurried
    page = visitor.open().page
    visitor.set_longest_reply(40)
    visitor.say("Begin a conversation about rivers")
    page.get_by_role("button", name="New chat").click()
    expect(page.get_by_text("Does a chatbot learn from you?")).to_be_visible()
    visitor.box.fill("Tell me a long story about the clouds.")
    visitor.box.press("Enter")
    expect(page.locator("#live .text")).to_have_text(re.compile(r"\w{2}"), timeout=PATIENCE_MS)

    page.get_by_role("link", name="Begin a conversation about rivers").click()
    expect(page.locator("#turns [data-testid=user]")).to_have_text("Begin a conversation about rivers")
    expect(page.get_by_role("button", name="Send")).to_be_visible()
    expect(page.locator("#live")).not_to_contain_text("clouds")
    visitor.box.fill("A draft for the rivers")
    clouds = page.get_by_role("link", name="Tell me a long story about the clouds.")
    clouds.click()
    expect(page.locator("[data-testid=user]")).to_have_text(["Tell me a long story about the clouds."])

    expect(visitor.receipts).to_have_count(1, timeout=PATIENCE_MS)
    expect(visitor.box).to_have_value("A draft for the rivers")


def test_the_view_can_be_changed_while_the_reply_is_written(unhurried):
    visitor = unhurried
    page = visitor.open().page
    visitor.box.fill("Tell me a long story about the harbour.")
    visitor.box.press("Enter")
    expect(page.locator("#live .text")).to_have_text(re.compile(r"\w{2}"), timeout=PATIENCE_MS)

    page.get_by_role("radio", name="Tokens").check()

    expect(visitor.panel.locator(".token.message").last).to_contain_text(".")
    page.get_by_role("button", name="Stop").click()
    expect(visitor.receipts).to_have_count(1)
    expect(visitor.panel.locator(".token.message").last).to_contain_text(".")
    expect(visitor.panel).to_contain_text("The book did not change.")


def test_two_tabs_cannot_answer_in_one_conversation_at_once(unhurried):
    visitor = unhurried.open()
    visitor.box.fill("Tell me a long story about the forest.")
    visitor.box.press("Enter")
    expect(visitor.page.locator("#live .text")).to_have_text(re.compile(r"\w{2}"), timeout=PATIENCE_MS)
    second = visitor.context.new_page()
    second.goto(f"{visitor.url}/?c={visitor.conversation_id()}")
    expect(second.locator("#live [data-testid=user]")).to_have_text("Tell me a long story about the forest.")
    expect(second.get_by_text("Being answered.")).to_be_visible()

    second.get_by_role("textbox", name="Message").fill("Me too")
    second.get_by_role("textbox", name="Message").press("Enter")

    expect(second.get_by_role("alert")).to_contain_text("Another message is being answered in this conversation")
    expect(second.get_by_role("textbox", name="Message")).to_have_value("Me too")
    visitor.page.get_by_role("button", name="Stop").click()
    expect(visitor.receipts).to_have_count(1, timeout=PATIENCE_MS)
