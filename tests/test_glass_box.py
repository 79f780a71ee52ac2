"""The claims about inference, each walked to in Chromium on the real model and held against the receipt."""

from __future__ import annotations

import json
import re
import sqlite3
from pathlib import Path

from accessibility import axe_violations
from browsing import PATIENCE_MS, PHONE, Visitor
from page_fixtures import receipt_of_last_turn
from playwright.sync_api import expect

from chat.types import RECEIPT
from chat.ui.glass.next_word_view import percent

CORRECTION = "No, that's wrong. Dana runs finance and Priya runs sales."


def put_under_glass(visitor: Visitor, *messages: str) -> None:
    """Say something, and open the last turn's page by the link beside its prompt."""
    visitor.open()
    visitor.set_longest_reply(24)
    for message in messages:
        visitor.say(message)
    visitor.panel.get_by_role("link", name="Put this turn under glass").click()
    expect(visitor.page.get_by_role("heading", name="One turn under glass")).to_be_visible()
    expect(visitor.page.locator("#glass-panel .segment").first).to_be_visible()


def test_a_correction_can_be_followed_through_the_prompts_and_the_difference_is_counted(visitor, app):
    put_under_glass(visitor, "Which partner runs finance?", CORRECTION, "Which partner runs finance?")
    page, prompt = visitor.page, receipt_of_last_turn(app)["prompt"]

    page.get_by_role("textbox", name="Find words").fill("Dana runs finance and Priya")
    rows = page.locator("#found tbody tr")
    expect(rows).to_have_count(3)
    assert [row.split("\t")[1] for row in rows.all_inner_texts()] == ["not there", "message", "history"]
    places = re.search(r"(\d+) to (\d+)", rows.nth(2).inner_text())
    history = next(s for s in prompt["segments"] if s["text"] == CORRECTION)
    assert history["start"] <= int(places[1]) <= int(places[2]) < history["end"]

    page.get_by_label("Difference from").click()
    page.get_by_role("option", name=re.compile("Turn 2")).click()
    said = page.locator("#glass-panel p").first
    expect(said).to_contain_text("tokens are the same")
    same, new, gone = (
        int(number.replace(",", "")) for number in re.findall(r"([\d,]+)(?= tokens are| are)", said.inner_text())
    )
    assert same + new == len(prompt["token_ids"])
    assert gone == 0
    assert axe_violations(page) == []


def test_the_stored_ids_run_again_without_a_cache_give_the_same_reply(visitor, app):
    put_under_glass(visitor, "Name a river.", "And another one?")
    receipt = receipt_of_last_turn(app)
    assert receipt["usage"]["cached_tokens"] > 0

    visitor.page.get_by_role("button", name="Run these ids again").click()

    outcome = visitor.page.locator("#replayed")
    expect(outcome).to_contain_text(f"The same {len(receipt['completion']['token_ids'])} ids came out")
    expect(outcome).to_contain_text(f"{len(receipt['prompt']['token_ids']):,} tokens read, 0 from a cache")


def test_a_replay_holds_the_page_to_its_turn_until_it_is_stopped(unhurried):
    unhurried.open().set_longest_reply(60)
    for message in ("Tell me a long story about a river.", "Tell me a long story about the sea."):
        unhurried.say(message)
    page = unhurried.page
    unhurried.open(f"/glass?c={unhurried.conversation_id()}")
    again, turn, outcome = (
        page.get_by_role("button", name="Run these ids again"),
        page.get_by_label("Turn", exact=True),
        page.locator("#replayed"),
    )
    again.click()
    expect(outcome).to_contain_text("Writing again")
    expect(turn).to_be_disabled()
    page.get_by_role("button", name="Stop").click()
    expect(outcome).to_contain_text(re.compile(r"Stopped after \d+ tokens. Until then the same ids came out"))
    turn.click()
    page.get_by_role("option", name=re.compile("Turn 1")).click()
    expect(outcome).to_be_empty()
    expect(again).to_be_visible()


def test_the_receipt_can_be_taken_along_whole(visitor, app):
    put_under_glass(visitor, "What can I take with me?")
    stored = receipt_of_last_turn(app)
    page = visitor.page
    with page.expect_download() as download:
        page.get_by_role("button", name="Download the receipt").click()
    taken = json.loads(Path(download.value.path()).read_text("utf-8"))
    assert RECEIPT.validate_python(taken) == RECEIPT.validate_python(stored)
    assert json.loads(page.locator("#glass-ids").text_content()) == stored["prompt"]["token_ids"]
    assert page.locator("#glass-text").text_content() == stored["prompt"]["text"]


def test_each_token_of_the_reply_shows_what_else_stood_to_choose_from(visitor, app):
    put_under_glass(visitor, "Tell me something about the sea.")
    completion = receipt_of_last_turn(app)["completion"]
    page = visitor.page
    page.get_by_role("tab", name="Next word").click()
    tokens = page.locator("#reply-tokens button")
    expect(tokens).to_have_count(len(completion["token_ids"]))

    tokens.nth(1).click()

    expect(page.get_by_role("heading", name=f"Token 2 of {len(completion['token_ids'])}")).to_be_visible()
    choice, rows = completion["choices"][1], page.locator("#choice tbody tr")
    expect(rows).to_have_count(6)
    wanted = [(completion["token_ids"][1], choice["probability"]), *map(tuple, choice["others"])]
    shown = [(row.locator("td").nth(0).inner_text(), row.locator(".figure").inner_text()) for row in rows.all()]
    assert shown == [(str(token_id), percent(share)) for token_id, share in sorted(wanted, key=lambda pair: -pair[1])]
    chosen = page.locator("#choice tr", has_text="chosen").locator("td").first
    assert chosen.inner_text() == str(completion["token_ids"][1])
    assert axe_violations(page) == []


def test_one_prompt_gives_other_replies_with_other_seeds_and_the_same_with_the_same(visitor):
    put_under_glass(visitor, "Tell me a story about a fox.")
    page = visitor.page
    page.get_by_role("tab", name="Next word").click()
    page.get_by_role("spinbutton", name="Temperature").fill("1.5")
    page.get_by_role("button", name="Ask again").click()

    expect(page.locator("#replies .outcome")).to_contain_text(
        "Seed 0, asked twice, gave the same reply both times", timeout=PATIENCE_MS
    )
    replies = page.locator("#replies .answer p").all_inner_texts()
    assert len(replies) == 4
    assert replies[0] == replies[3]
    assert len(set(replies)) == 3


def test_the_path_of_a_request_has_the_receipts_times(visitor, app):
    put_under_glass(visitor, "Where does the time go?")
    receipt = receipt_of_last_turn(app)
    page = visitor.page
    page.get_by_role("tab", name="Path").click()
    for stage in receipt["trace"]:
        row = page.locator(f"#path tr[data-stage={stage['name']}]")
        assert row.locator("td").first.inner_text() == f"{stage['ms']:,.1f} ms" or stage["ms"] >= 1000
    expect(page.locator("#path")).to_contain_text(f"{receipt['usage']['prefilled_tokens']:,} tokens read")
    expect(page.locator("#path-plot .mark-rect path")).to_have_count(len(receipt["trace"]))


def test_a_turn_of_somebody_else_is_not_shown(visitor, browser, app):
    put_under_glass(visitor, "This is mine alone.")
    stranger = Visitor(browser, app.url)
    stranger.page.goto(visitor.page.url)
    expect(stranger.page.locator("#error")).to_contain_text("There is no turn")
    expect(stranger.page.get_by_text("This is mine alone.")).to_have_count(0)
    stranger.context.close()


def test_one_answer_is_weighed_behind_each_prompt_and_the_comparison_can_be_kept(visitor, app, tmp_path):
    visitor.open()
    visitor.set_longest_reply(24)
    visitor.say("Which partner runs finance?")
    visitor.say(CORRECTION)
    page = visitor.page
    visitor.open("/compare")
    page.get_by_role("textbox", name="Question").fill("Which partner runs finance?")
    page.get_by_role("button", name="Which prompts").click()
    page.get_by_role("checkbox", name="A fresh session with other notes").check()
    page.get_by_role("textbox", name="Other notes").fill("Priya runs finance.")
    page.get_by_role("checkbox", name="This conversation, without our tuning").check()
    page.get_by_role("button", name="Compare", exact=True).click()

    expect(page.locator("#weighed tbody tr")).to_have_count(5, timeout=2 * PATIENCE_MS)
    seals = [seal.get_attribute("title") for seal in page.locator(".pane:visible .seal code").all()]
    assert len(set(seals[:4])) == 1
    assert seals[4] not in seals[:4], "the untuned model has other weights"
    answers = {name: page.locator(f"#pane-{name} [data-testid=bot]").inner_text() for name in ("continued", "edited")}
    assert "Dana" in answers["continued"]
    assert "Priya" in answers["edited"]
    shares = {
        row.get_attribute("data-pane"): row.locator(".figure").inner_text()
        for row in page.locator("#weighed tbody tr").all()
    }
    looked_at = page.locator("#weighed button[aria-pressed=true]")
    with sqlite3.connect(app.database) as connection:
        rows = connection.execute(
            "SELECT receipt.body FROM receipt JOIN turn ON turn.id = turn_id"
            " JOIN conversation ON conversation.id = conversation_id WHERE kind = 'compare' AND position = 1"
        )
        *_, (body,) = rows
    choice = json.loads(body)["completion"]["choices"][int(looked_at.get_attribute("data-id"))]
    assert shares["continued"] == percent(choice["probability"])
    assert shares["fresh"] != shares["continued"]
    assert axe_violations(page) == []

    with page.expect_download() as download:
        page.get_by_role("button", name="Save as a page").click()
    download.value.save_as(tmp_path / "comparison.html")
    kept = visitor.context.new_page()
    kept.goto(f"file://{tmp_path}/comparison.html")
    expect(kept.locator(".pane")).to_have_count(5)
    expect(kept.get_by_text("The weights were not the same each time")).to_be_visible()
    expect(kept.get_by_text(CORRECTION).first).to_be_visible()
    kept.close()

    page.reload()
    expect(page.locator("#weighed tbody tr")).to_have_count(5)
    expect(page.get_by_role("textbox", name="Question")).to_have_value("Which partner runs finance?")
    expect(page.locator("#pane-edited")).to_contain_text(answers["edited"])


def test_a_comparison_is_read_by_others_while_it_is_shared_and_by_nobody_afterwards(visitor, browser):
    page = visitor.open("/compare").page
    page.get_by_role("textbox", name="Question").fill("Who runs <b>finance</b>?")
    page.get_by_role("button", name="Compare", exact=True).click()
    page.locator("#weighed button").nth(2).click(timeout=2 * PATIENCE_MS)
    expect(page.locator("#weighed button").nth(2)).to_have_attribute("aria-pressed", "true")
    page.get_by_role("button", name="Share as a link").click()
    link = visitor.url + page.get_by_role("link", name="Open the shared page").get_attribute("href")

    stranger = browser.new_context().new_page()
    assert stranger.goto(link).headers["content-security-policy"].startswith("default-src 'none'")
    expect(stranger.get_by_text("Who runs <b>finance</b>?").first).to_be_visible()
    expect(stranger.locator(".pane")).to_have_count(3)
    answer = page.locator("#pane-fresh [data-testid=bot]").inner_text()
    expect(stranger.locator(".pane").first.locator("[data-testid=bot]")).to_have_text(answer)
    stranger.set_viewport_size(PHONE)
    assert stranger.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    papers = set()
    for scheme in ("light", "dark"):
        stranger.emulate_media(color_scheme=scheme)
        papers.add(stranger.evaluate("getComputedStyle(document.body).backgroundColor"))
        assert axe_violations(stranger) == [], f"the shared page in {scheme}"
    assert len(papers) == 2
    expect(stranger.locator("button[aria-pressed=true]")).to_have_text(
        page.locator("#weighed button").nth(2).inner_text()
    )
    page.get_by_role("button", name="Stop sharing").click()
    expect(page.get_by_role("button", name="Share as a link")).to_be_visible()
    assert stranger.reload().status == 404
    expect(stranger.get_by_text("not any more")).to_be_visible()
    stranger.context.close()


def test_the_tour_is_a_real_run_that_can_be_left_and_taken_up_and_its_numbers_are_the_receipts(visitor, app):
    page = visitor.open("/tour").page
    expect(page.get_by_role("button", name="Run step 3")).to_be_disabled()
    page.get_by_role("button", name="Run step 1").click()
    expect(page.locator("#step-2 mark .history")).to_have_text(re.compile("Dana runs finance"), timeout=PATIENCE_MS)
    assert "Dana" in page.locator("#step-1 [data-testid=bot] .text").last.inner_text()

    visitor.open("/tour")
    expect(page.locator("#step-2 mark .history")).to_be_visible()
    page.get_by_role("button", name="Run step 3").click()
    expect(page.locator("#step-3 pre")).to_be_visible(timeout=PATIENCE_MS)
    assert page.locator("#step-3 .history").count() == 0
    assert "Dana" not in page.locator("#step-3 [data-testid=bot] .text").inner_text()
    page.get_by_role("button", name="Run step 4").click()
    expect(page.locator("#step-4 mark .note").last).to_have_text(re.compile("Dana runs finance"), timeout=PATIENCE_MS)
    assert "Dana" in page.locator("#step-4 [data-testid=bot] .text").inner_text()

    noted = receipt_of_last_turn(app)
    expect(page.locator("#step-5")).to_contain_text("10 fingerprints, all the same")
    assert page.locator("#step-5 code").last.get_attribute("title") == noted["weights"]["after"]
    page.get_by_role("link", name="See each turn’s costs").click()
    expect(page.locator("#whose-costs input")).to_have_value("Tour: the correction")
    visitor.open()
    for title in ("Tour: the correction", "Tour: a fresh session", "Tour: with a note"):
        expect(page.get_by_role("link", name=title)).to_be_visible()


def test_the_tour_of_somebody_else_begins_at_its_beginning(visitor, browser, app):
    page = visitor.open("/tour").page
    page.get_by_role("button", name="Run step 1").click()
    expect(page.locator("#step-2 pre")).to_be_visible(timeout=PATIENCE_MS)
    kept = page.evaluate("localStorage.getItem('marginalia.tour')")
    stranger = Visitor(browser, app.url).open("/tour")
    stranger.page.evaluate("kept => localStorage.setItem('marginalia.tour', kept)", kept)
    stranger.open("/tour")
    expect(stranger.page.get_by_role("button", name="Run step 3")).to_be_disabled()
    assert stranger.page.locator("#step-1 .turn").count() == 0
    stranger.context.close()
