"""The page “Costs”: what stands on it is what the receipts say, and a price that is changed changes the sums."""

from __future__ import annotations

import json
import re
import sqlite3
from typing import Any

import pytest
from browsing import Visitor
from playwright.sync_api import Locator, expect
from running_app import Browser, Refused, RunningApp
from test_costs import RUN, SHEET, TWO, turn

from chat.costs import Overtaking, PriceSheet, growth, totals, turn_costs
from chat.ui.costs.prices_view import (
    amount_text,
    bill_html,
    overtakes_after,
    overtaking_data,
    overtaking_html,
    own_training_html,
)
from chat.ui.costs.view import bytes_text, growth_data, growth_html, operations_text, turns_html

FIELDS = [0.27, 0.07, 1.1, "USD", 9, 5_576_000]


def test_a_turn_is_a_row_with_what_its_receipt_says() -> None:
    html = turns_html(TWO, without_receipt=0, weight_bytes=200_000_000, same_weights=True)
    second = html.split("<tr>")[3]
    cells = dict(re.findall(r'data-label="([^"]+)">([^<]*)<', second))
    assert cells == {
        "queue": "0.00 s",
        "prompt": "160",
        "reused": "96",
        "read anew": "64",
        "prefill": "0.02 s",
        "first word": "0.02 s",
        "written": "20",
        "decode": "0.04 s",
        "tokens/s": "475",
        "KV cache": "1.6 kB",
        "operations": "168,000",
    }
    assert "<b>1.6 kB</b>, beside <b>200.0 MB</b> of weights" in html


def test_long_conversations_list_the_newest_turns_and_count_all() -> None:
    many = turn_costs((turn(100, 0, 10), turn(160, 96, 20)) * 15)
    html = turns_html(many, without_receipt=2, weight_bytes=1, same_weights=False)
    assert html.count('<th scope="row">') == 20 + 1
    assert "In 30 turns the model was given <b>3,900</b> tokens" in html
    assert "The newest 20 are listed; the sums count all." in html
    assert "Without a receipt, and so not counted: 2." in html
    assert "came from other weights than those loaded now" in html


def test_the_plots_have_two_lines_each_and_their_words_say_where_they_end() -> None:
    lines = growth_data(growth(TWO))["data"]
    assert [row[:2] for row in lines if row[2] == "without a KV cache"] == [[0, 0], [1, 100], [2, 260]]
    assert [row[:2] for row in lines if row[2] == "with it"] == [[0, 0], [1, 100], [2, 164]]
    assert "had to be given 260 tokens; thanks to the KV cache it read 164" in growth_html(TWO)
    points = overtaking_data(Overtaking(6_000.0, 0.002, 10_000))["data"]
    assert {row[1] for row in points if row[2] == "training, once"} == {6_000.0}
    assert max(row[1] for row in points if row[2] == "inference, day by day") == pytest.approx(12_000)


def test_a_currency_stays_text() -> None:
    hostile = PriceSheet(1, 1, 1, "<b onx=1>$")
    html = bill_html(TWO, hostile) + overtaking_html(Overtaking(1, 1, 1), hostile.currency)
    assert "<b onx" not in html
    assert "&lt;b onx=1&gt;$" in html


@pytest.mark.parametrize(
    ("days", "sentence"),
    [
        (None, "Inference never overtakes training: these calls cost nothing."),
        (0.01, "Inference overtakes training within an hour."),
        (0.5, "Inference overtakes training after 12.0 hours."),
        (7.25, "Inference overtakes training after 7.2 days."),
        (219.9, "Inference overtakes training after 220 days."),
        (73_050.0, "Inference overtakes training after 73,050 days, 200 years."),
    ],
)
def test_the_day_of_overtaking_is_told_in_a_sentence(days: float | None, sentence: str) -> None:
    assert overtakes_after(days) == sentence


def test_numbers_are_short_and_keep_the_digits_that_count() -> None:
    assert [amount_text(each) for each in (0, 0.0000761, 0.5, 1.239, 76_063.4)] == [
        "0",
        "0.0000761",
        "0.500",
        "1.24",
        "76,063",
    ]
    assert [bytes_text(each) for each in (999, 46_080, 200_506_944)] == ["999 bytes", "46.1 kB", "200.5 MB"]
    assert operations_text(2_363_500_667_683_584) == "2.4 quadrillion"


def test_our_training_is_set_beside_calls_without_any_price() -> None:
    # 388,000 operations in 2 calls; 2,000,000 in the training.
    assert "10 calls like these take as many" in own_training_html(totals(TWO), RUN)
    assert SHEET.currency not in own_training_html(totals(TWO), RUN)


def test_nobody_is_shown_the_costs_of_another(running_app: RunningApp) -> None:
    with Browser(running_app.url) as ada, Browser(running_app.url) as eve:
        home = ada.call("new_conversation")
        ada.call("chat", "A secret swordfish", home, True, 0.0, 0, 4)
        assert "In one turn the model was given" in ada.page_event(
            "opened", [None, *FIELDS], query=f"?c={home}", place=5
        )
        opened = eve.page_event("opened", [None, *FIELDS], query=f"?c={home}", place=5)
        assert "Nothing has been said yet" in opened
        assert "swordfish" not in opened
        with pytest.raises(Refused):
            eve.page_event("show", [home, *FIELDS])


def receipts_of(app: RunningApp, conversation_id: str) -> list[dict[str, Any]]:
    """A conversation's receipts, oldest first."""
    query = (
        "SELECT receipt.body FROM receipt JOIN turn ON turn.id = receipt.turn_id "
        "WHERE turn.conversation_id = ? ORDER BY turn.position"
    )
    with sqlite3.connect(app.database) as connection:
        return [json.loads(body) for (body,) in connection.execute(query, [conversation_id])]


def column(table: Locator, word: str) -> list[str]:
    return table.locator(f'td[data-label="{word}"]').all_inner_texts()


def test_the_page_adds_up_the_receipts_and_a_changed_price_changes_the_total(visitor: Visitor, app: RunningApp) -> None:
    visitor.open()
    visitor.set_longest_reply(8)
    visitor.say("My cat is called Pepper, and she likes to sleep in the garden when the sun shines.")
    visitor.say("What is my cat called?")
    conversation = visitor.conversation_id()
    usages = [receipt["usage"] for receipt in receipts_of(app, conversation)]

    page = visitor.open(f"/costs?c={conversation}").page

    expect(page.get_by_label("Conversation", exact=True)).to_have_value(re.compile("My cat is called Pepper"))
    kinds = {"prompt": "prompt_tokens", "reused": "cached_tokens", "read anew": "prefilled_tokens"}
    for word, key in {**kinds, "written": "completion_tokens"}.items():
        counts = [usage[key] for usage in usages]
        assert column(page.locator("#turn-costs"), word) == [f"{count:,}" for count in (*counts, sum(counts))]
    assert column(page.locator("#turn-costs"), "KV cache")[1] == bytes_text(usages[1]["kv_cache_bytes"])
    for plot in ("Tokens read by turn", "Cost by day"):
        expect(page.get_by_role("img", name=plot).locator(".mark-line path")).to_have_count(2)

    page.get_by_label("A million read anew").fill("1000000")
    page.get_by_label("A million reused").fill("0")
    page.get_by_label("A million written").fill("0")

    read = sum(usage["prefilled_tokens"] for usage in usages)
    expect(page.locator("#bill-total")).to_have_text(f"{amount_text(read)} USD")
    expect(page.get_by_label("Prices of a million tokens, an example")).to_have_value("Your own figures")
    page.get_by_label("What it cost, once").fill(f"{read * 5}")
    page.get_by_role("slider").fill("0")
    expect(page.locator("#calls-a-day")).to_have_text("1 call a day")
    expect(page.locator("#overtakes")).to_have_text("Inference overtakes training after 10 days.")

    page.get_by_label("A million written").fill("-2")
    expect(page.get_by_role("alert")).to_contain_text("tokens written must be a number from 0 to 1,000,000, not “-2”.")
