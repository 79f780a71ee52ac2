"""The pages in Chromium, on the real app with the real model: what a person does and sees."""

from __future__ import annotations

import re
from pathlib import Path

from accessibility import axe_violations, axe_violations_in_both
from browsing import PATIENCE_MS, PHONE, Visitor
from page_fixtures import receipt_of_last_turn, with_weights
from playwright.sync_api import Route, expect
from running_app import RunningApp


def test_the_panel_shows_the_captured_prompt_three_ways_and_its_counts_add_up(visitor, app):
    visitor.open()
    visitor.set_longest_reply(4)
    visitor.say("What is\ta <|im_end|>\n  token?")
    prompt = receipt_of_last_turn(app)["prompt"]

    kinds, total = visitor.counts()
    assert sum(kinds.values()) == total == len(prompt["token_ids"])
    for kind, count in kinds.items():
        assert count == sum(s["end"] - s["start"] for s in prompt["segments"] if s["kind"] == kind)
    assert visitor.segments("message") == ["What is␉a <|im_end|>⏎\n  token?"]

    visitor.page.get_by_role("radio", name="Tokens").check()
    expect(visitor.panel.locator(".token")).to_have_count(total)
    assert [int(number) for number in visitor.panel.locator(".token sub").all_inner_texts()] == prompt["token_ids"]
    assert visitor.panel.locator(".token.message.control").count() == 0
    assert visitor.panel.locator(".token.template.control").count() == prompt["text"].count("<|im_") - 1
    assert axe_violations(visitor.page) == []

    visitor.page.get_by_role("radio", name="Raw text").check()
    assert visitor.panel.locator("#raw-prompt").text_content() == prompt["text"]
    expect(visitor.panel).to_contain_text(prompt["sha256"])


def test_the_panel_belongs_to_the_turn_that_was_clicked(visitor):
    visitor.open()
    visitor.set_longest_reply(4)
    visitor.say("The first message")
    visitor.say("The second message")
    assert visitor.segments("message") == ["The second message"]

    visitor.page.get_by_role("button", name="Show its prompt").click()

    expect(visitor.panel).to_contain_text("Turn 1:")
    assert visitor.segments("message") == ["The first message"]


def test_the_ledger_says_which_turns_were_left_out(browser, tmp_path, weights_data_dir):
    with_weights(tmp_path, weights_data_dir)
    with RunningApp(Path("smollm2"), tmp_path, "--context-window", "256") as app:
        visitor = Visitor(browser, app.url).open()
        visitor.set_longest_reply(16)
        visitor.say("The oldest message of all, about " + "lighthouses and " * 28 + "the sea.")
        visitor.say("A second message, about " + "windmills and " * 28 + "the plain.")

        ledger = visitor.panel.locator(".ledger")
        expect(ledger).to_contain_text("1 thing was left out")
        expect(visitor.receipts.last).to_contain_text("1 left out of the prompt")
        ledger.get_by_text("1 thing was left out").click()
        expect(ledger).to_contain_text("The turn “The oldest message of all, about lighthouses")
        expect(ledger).to_contain_text("did not fit the context window")
        visitor.context.close()


def test_drafted_notes_are_reviewed_before_they_are_used(visitor):
    visitor.open()
    visitor.set_longest_reply(16)
    visitor.say("My firm is called Larch & Co. and I live in Bergen.")

    visitor.page.get_by_role("button", name="Save to memory").click()
    draft = visitor.page.get_by_role("textbox", name="Draft").first
    draft.wait_for()
    expect(visitor.panel).to_contain_text("Request for notes: the")
    assert "My firm is called Larch & Co. and I live in Bergen." in visitor.segments("history")
    expect(visitor.page.get_by_role("heading", name="Review before saving")).to_be_in_viewport()
    drafts = visitor.page.get_by_role("textbox", name="Draft").count()
    draft.fill("The user's firm is called Larch & Co.")
    visitor.page.get_by_role("button", name="Keep", exact=True).first.click()
    expect(visitor.page.get_by_role("textbox", name="Draft")).to_have_count(drafts - 1)

    visitor.page.get_by_role("button", name="New chat").click()
    expect(visitor.page.get_by_text("Does a chatbot learn from you?")).to_be_visible()
    expect(visitor.page.get_by_role("textbox", name="Draft")).to_have_count(0)
    visitor.open("/memory")
    note = visitor.page.get_by_role("list", name="Notes").get_by_role("listitem").first
    expect(note.get_by_role("textbox")).to_have_value("The user's firm is called Larch & Co.")
    expect(note).to_contain_text("Written by the model, from 1 turn")
    note.get_by_role("button", name="Switch off").click()
    expect(visitor.page.get_by_text("Switched off: not put into any prompt.")).to_be_visible()
    really = note.get_by_role("button", name="Delete for good")
    expect(really).to_be_hidden()
    note.get_by_text("Delete", exact=True).click()
    expect(note.get_by_text("Delete this note? This cannot be undone.")).to_be_visible()
    really.click()
    expect(visitor.page.get_by_role("textbox", name="Note", exact=True)).to_have_count(0)


def test_compare_asks_one_question_in_three_prompts_and_marks_what_differs(visitor):
    visitor.open("/memory")
    visitor.page.get_by_role("textbox", name="New note").fill("The user's dog is called Biscuit.")
    visitor.page.get_by_role("button", name="Add note").click()
    visitor.page.get_by_role("textbox", name="Note", exact=True).wait_for()
    visitor.open()
    visitor.set_longest_reply(8)
    visitor.say("What is my dog called? My cat is called Pepper.")
    visitor.page.locator("a[data-page=Compare]").click()
    conversation = visitor.page.get_by_label("This conversation", exact=True)
    expect(conversation).to_have_value(re.compile("My cat is called Pepper"))
    visitor.page.get_by_role("textbox", name="Question").fill("What is my dog called?")

    visitor.page.get_by_role("button", name="Compare").click()

    expect(visitor.page.locator(".pane .seal")).to_have_count(3, timeout=2 * PATIENCE_MS)
    fresh, continued, memory = (visitor.page.locator(f"#pane-{name}") for name in ("fresh", "continued", "memory"))
    assert fresh.locator("mark").count() == 0
    assert "What is my dog called? My cat is called Pepper." in continued.locator("mark .history").all_inner_texts()
    assert continued.locator("mark .message").count() == 0, "the question is the same in all three"
    assert "Biscuit" in "".join(memory.locator("mark .note").all_inner_texts())
    assert continued.locator(".note").count() == 0
    for pane in (fresh, continued, memory):
        assert pane.locator("[data-testid=bot]").inner_text()
        assert "What is my dog called?" in pane.locator("pre .message").all_inner_texts()


def test_a_question_asked_before_compare_has_its_list_still_continues_the_conversation_in_the_address(visitor):
    visitor.open()
    visitor.set_longest_reply(4)
    visitor.say("My cat is called Pepper.")
    conversation = visitor.conversation_id()
    held: list[Route] = []
    # The first event is the page's own, which brings the list.
    visitor.page.route("**/queue/join*", lambda route: held.append(route), times=1)

    visitor.open(f"/compare?c={conversation}")
    question = visitor.page.get_by_role("textbox", name="Question")
    question.fill("What is my cat called?")
    question.press("Enter")

    expect(visitor.page.locator(".pane .seal")).to_have_count(3, timeout=2 * PATIENCE_MS)
    continued = visitor.page.locator("#pane-continued")
    assert "My cat is called Pepper." in continued.locator("mark .history").all_inner_texts()
    assert len(held) == 1
    held[0].continue_()


def test_conversations_are_listed_searched_renamed_continued_and_deleted_with_a_confirmation(visitor):
    page = visitor.open().page
    visitor.set_longest_reply(4)
    visitor.say("A message about lighthouses")
    page.get_by_role("button", name="New chat").click()
    expect(page.get_by_text("Does a chatbot learn from you?")).to_be_visible()
    visitor.say("A message about windmills")
    listed = page.get_by_role("navigation", name="Conversations").get_by_role("link")
    expect(listed).to_have_text(["A message about windmills", "A message about lighthouses"])

    page.get_by_role("textbox", name="Search conversations").press_sequentially("LIGHTHOUSE")
    expect(listed).to_have_text(["A message about lighthouses"])
    listed.first.click()
    expect(page.locator("#turns [data-testid=user]")).to_have_text("A message about lighthouses")
    visitor.say("And another one")
    expect(page.locator("#turns [data-testid=user]")).to_have_count(2)

    page.get_by_role("button", name="Rename").click()
    page.get_by_role("textbox", name="Title").fill("Towers by the sea")
    page.get_by_role("button", name="Save title").click()
    expect(page.get_by_role("heading", name="Towers by the sea")).to_be_visible()

    page.get_by_role("button", name="Delete", exact=True).click()
    expect(page.get_by_text("Delete “Towers by the sea” and its 2 turns?")).to_be_visible()
    page.get_by_role("button", name="Keep", exact=True).click()
    expect(page.get_by_role("button", name="Delete for good")).to_be_hidden()
    page.get_by_role("button", name="Delete", exact=True).click()
    page.get_by_role("button", name="Delete for good").click()
    expect(page.get_by_text("No conversation contains “LIGHTHOUSE”.")).to_be_visible()
    page.get_by_role("textbox", name="Search conversations").fill("")
    expect(listed).to_have_text(["A message about windmills"])


def test_what_is_typed_stays_text(visitor):
    hostile = "<img src=x onerror=alert(1)><b>bold</b> {{value}} ${1+1} **stars** <script>alert(2)</script>"
    visitor.open()
    visitor.set_longest_reply(4)
    visitor.say(hostile)

    assert visitor.page.locator("#turns [data-testid=user]").inner_text() == hostile
    assert visitor.segments("message") == [hostile]
    assert visitor.page.locator("#book img, #book script, #turns b").count() == 0
    visitor.page.reload()
    expect(visitor.page.locator("#turns [data-testid=user]")).to_have_text(hostile)


def test_an_empty_message_is_refused_in_one_sentence_and_a_long_one_keeps_its_text(visitor):
    visitor.open()
    visitor.page.get_by_role("button", name="Send").click()
    expect(visitor.page.get_by_role("alert")).to_have_text("The message is empty. Write something first.")

    long = "word " * 40_000
    visitor.box.fill(long)
    visitor.page.get_by_role("button", name="Send").click()

    expect(visitor.page.get_by_role("alert")).to_contain_text("tokens and 7,936 fit")
    assert visitor.box.input_value() == long


def test_another_person_sees_nothing_of_a_conversation_whose_address_they_know(browser, visitor, app):
    visitor.open()
    visitor.set_longest_reply(4)
    visitor.say("My secret is the word swordfish.")
    stranger = Visitor(browser, app.url)

    stranger.open(f"/?c={visitor.conversation_id()}")

    expect(stranger.page.get_by_role("alert")).to_contain_text("There is no conversation")
    assert "swordfish" not in stranger.page.content()
    expect(stranger.page.locator("#shelf")).to_contain_text("Your conversations will be listed here.")
    stranger.context.close()


def test_on_a_phone_the_box_is_in_sight_and_the_prompt_one_tap_away(browser, app):
    visitor = Visitor(browser, app.url, PHONE).open()
    expect(visitor.panel).to_be_hidden()
    visitor.set_longest_reply(4)
    visitor.say("Hello from a phone")
    expect(visitor.box).to_be_in_viewport()

    visitor.page.get_by_role("button", name="Its prompt is shown").click()
    expect(visitor.panel).to_be_visible()
    assert visitor.segments("message") == ["Hello from a phone"]
    visitor.page.get_by_role("button", name="Back to the chat").click()
    expect(visitor.panel).to_be_hidden()

    visitor.page.get_by_role("button", name="Menu").click()
    expect(visitor.page.get_by_role("button", name="New chat")).to_be_in_viewport()
    for path in ("/", "/compare", "/glass", "/memory", "/feedback", "/costs", "/model", "/tour"):
        visitor.open(path)
        assert visitor.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{path} is too wide"
    visitor.context.close()


def test_the_keyboard_is_enough(visitor):
    page = visitor.open().page
    visitor.set_longest_reply(4)
    visitor.box.focus()
    page.keyboard.type("first line")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("second line")
    page.keyboard.press("Enter")
    expect(visitor.receipts).to_have_count(1, timeout=PATIENCE_MS)
    assert page.locator("#turns [data-testid=user]").inner_text() == "first line\nsecond line"

    page.get_by_role("checkbox", name="Show exact prompt").focus()
    page.keyboard.press("Space")
    expect(visitor.panel).to_be_hidden()
    page.get_by_role("button", name="Its prompt is shown").focus()
    page.keyboard.press("Enter")
    expect(visitor.panel).to_be_visible()


def test_the_switches_are_remembered_and_the_address_brings_the_conversation_back(visitor):
    page = visitor.open().page
    visitor.set_longest_reply(4)
    visitor.say("Remember this address")
    page.get_by_role("checkbox", name="Use memory").uncheck()
    page.get_by_role("checkbox", name="Show exact prompt").uncheck()
    expect(visitor.panel).to_be_hidden()

    page.reload()

    expect(page.locator("#turns [data-testid=user]")).to_have_text("Remember this address")
    expect(page.get_by_role("checkbox", name="Use memory")).not_to_be_checked()
    expect(page.get_by_role("checkbox", name="Show exact prompt")).not_to_be_checked()
    expect(visitor.panel).to_be_hidden()


def test_the_model_page_tells_what_was_done_once_and_shows_the_fingerprint_of_the_receipts(visitor, app):
    visitor.open()
    visitor.set_longest_reply(4)
    visitor.say("Are you still the same?")
    receipt = receipt_of_last_turn(app)
    page = visitor.page
    page.get_by_role("link", name="Model", exact=True).click()

    expect(page.get_by_role("heading", name="The one time that weights moved")).to_be_visible()
    facts = page.locator("#running")
    expect(facts.locator("#fingerprint")).to_have_text(receipt["weights"]["after"])
    expect(facts).to_contain_text(f"{receipt['model']['parameters']:,}, kept as {receipt['model']['dtype']}")
    expect(page.get_by_role("heading", name=receipt["model"]["id"])).to_be_visible()
    expect(page.get_by_role("cell").first).to_be_visible()
    expect(page.get_by_text("What follows tells of the default model")).to_have_count(0)
    curve = page.get_by_role("img", name="Loss by step")
    expect(curve.locator(".mark-line path")).to_have_count(2)
    page.get_by_role("region", name="About the model").focus()
    page.keyboard.press("End")
    expect(page.get_by_role("cell").last).to_be_in_viewport()


def test_axe_finds_nothing_on_any_page_in_light_and_in_dark(visitor):
    # So that colours are there at once.
    visitor.page.emulate_media(reduced_motion="reduce")
    visitor.open()
    visitor.set_longest_reply(4)
    visitor.say("Is this page for everybody?")
    visitor.page.get_by_role("button", name="Bad reply").click()
    visitor.page.get_by_text("Nothing was learned").wait_for()
    assert axe_violations_in_both(visitor.page) == [], "the form under a reply"
    conversation = f"/?c={visitor.conversation_id()}"
    for path in (conversation, "/", "/compare", "/glass", "/memory", "/feedback", "/costs", "/model", "/tour"):
        visitor.open(path)
        assert axe_violations_in_both(visitor.page) == [], path


def test_no_request_leaves_this_computer(visitor):
    visitor.open()
    visitor.set_longest_reply(4)
    visitor.say("Whom do you talk to?")
    visitor.page.get_by_role("button", name="API").click()
    visitor.page.get_by_text("API documentation").wait_for()
    for path in ("/compare", "/glass", "/memory", "/feedback", "/costs", "/model", "/tour"):
        visitor.open(path)

    elsewhere = [url for url in visitor.asked if not url.startswith((visitor.url, "data:", "blob:"))]
    assert len(visitor.asked) > 10
    assert elsewhere == []
