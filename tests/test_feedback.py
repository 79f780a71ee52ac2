"""Thumbs: what a click does between two fingerprints, how it is shown, and the way from a reply to the file."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from browsing import Visitor
from page_fixtures import receipt_of_last_turn
from playwright.sync_api import expect
from running_app import RunningApp
from test_preferences import judged
from test_views import HOSTILE, Page, assert_text_stays_text, turn
from torch import nn

from chat.errors import InputError
from chat.preferences import preference_pairs
from chat.types import Feedback, WeightsCheck
from chat.ui.feedback.desk import act_on_feedback
from chat.ui.feedback.view import (
    Thumbs,
    feedback_list,
    nobody_trains,
    nothing_learned,
    pairs_line,
    weights_moved,
)
from chat.ui.turn_view import conversation_log
from chat.ui.visible import short_digest
from chat.weights.seal import WeightsSeal

SAME = WeightsCheck("ab" * 32, "ab" * 32, 20, 0)
MOVED = WeightsCheck("ab" * 32, "cd" * 32, 20, 4)


class Shelf:
    """A store that notes what it was asked; while it is asked, the weights can be made to move."""

    def __init__(self, meanwhile: nn.Module | None = None) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self._meanwhile = meanwhile

    def __getattr__(self, name: str) -> Any:
        def note(*arguments: object) -> None:
            self.asked.append((name, *arguments))
            if isinstance(self._meanwhile, nn.Linear):
                nn.init.ones_(self._meanwhile.weight)

        return note


@pytest.fixture
def model() -> nn.Linear:
    return nn.Linear(4, 4)


@pytest.fixture
def seal(model: nn.Linear) -> WeightsSeal:
    return WeightsSeal(model, 20)


@pytest.mark.parametrize(
    ("asked", "done"),
    [
        ({"action": "good"}, ("give_feedback", "t1", "up")),
        ({"action": "bad"}, ("give_feedback", "t1", "down")),
        ({"action": "comment", "comment": "why", "better": "Dana."}, ("change_feedback", "t1", "why", "Dana.")),
        ({"action": "comment", "comment": "why"}, ("change_feedback", "t1", "why", None)),
        ({"action": "comment", "comment": 5, "better": ["x"]}, ("change_feedback", "t1", "", None)),
        ({"action": "withdraw"}, ("withdraw_feedback", "t1")),
    ],
)
def test_each_click_does_one_thing_and_leaves_the_fingerprint_as_it_was(
    seal: WeightsSeal, asked: dict[str, Any], done: tuple[Any, ...]
) -> None:
    shelf, known = Shelf(), seal.latest.digest
    _, check = act_on_feedback(shelf, seal, asked | {"id": "t1"})  # type: ignore[arg-type]
    assert shelf.asked == [done]
    assert (check.before, check.after, check.changed_parameters) == (known, known, 0)


def test_a_thing_that_cannot_be_done_is_refused_by_name(seal: WeightsSeal) -> None:
    with pytest.raises(InputError, match="“train”"):
        act_on_feedback(Shelf(), seal, {"action": "train", "id": "t1"})  # type: ignore[arg-type]


@pytest.mark.parametrize("when", ["before the click", "during it"])
def test_weights_that_move_about_a_click_are_told_with_both_fingerprints(
    model: nn.Linear, seal: WeightsSeal, when: str
) -> None:
    known = seal.latest.digest
    if when == "before the click":
        nn.init.ones_(model.weight)
    _, check = act_on_feedback(Shelf(model), seal, {"action": "good", "id": "t1"})  # type: ignore[arg-type]
    assert check.before == known != check.after == seal.latest.digest
    assert check.changed_parameters == 16
    alarm = weights_moved(check)
    assert 'role="alert"' in alarm
    assert check.before in alarm
    assert check.after in alarm


def test_the_line_under_a_form_has_the_fingerprint_and_an_alarm_takes_its_place() -> None:
    assert Page(nothing_learned(SAME)).text == (
        "Kept as text. Nothing was learned: fingerprint abab abab … abab, the same as before your click."
    )
    assert weights_moved(SAME) == nothing_learned(MOVED) == ""
    assert "the same since Marginalia started" in nobody_trains(SAME.after, SAME.after)
    assert 'role="alert"' in nobody_trains(MOVED.before, MOVED.after)


def test_the_thumb_that_was_pressed_says_so_and_only_the_open_form_is_shown() -> None:
    given = {"t1": Feedback("t1", "down", "wrong name", "Dana."), "t2": Feedback("t2", "up", "right")}
    turns = [turn(id="t1"), turn(id="t2"), turn(id="t3")]
    html = conversation_log(turns, None, thumbs=Thumbs(given, "t1", SAME))
    assert re.findall(r'data-action="(\w+)" data-id="(\w+)" aria-pressed="true"', html) == [
        ("bad", "t1"),
        ("good", "t2"),
    ]
    assert html.count("Good reply") == html.count("Bad reply") == 3
    assert re.findall(r'<textarea[^>]* name="(\w+)"', html) == ["comment", "better"]
    assert "What should it have said?" in html
    good = conversation_log(turns, None, thumbs=Thumbs(given, "t2", SAME))
    assert re.findall(r'<textarea[^>]* name="(\w+)"', good) == ["comment"]


def test_only_a_reply_with_a_receipt_can_be_judged() -> None:
    for without in (turn(reply=""), turn(weights=None, usage=None), turn(finish_reason=None, weights=None)):
        assert "Good reply" not in conversation_log([without], None)


def test_words_and_replies_stay_text_in_the_form_and_in_the_list() -> None:
    given = Feedback("t1", "down", HOSTILE, HOSTILE)
    form = conversation_log([turn()], None, thumbs=Thumbs({"t1": given}, "t1", SAME))
    assert_text_stays_text(form, HOSTILE)
    hostile = [judged("t1", "down", HOSTILE, better=HOSTILE, asked=HOSTILE)]
    listed = feedback_list(hostile, (), SAME, "t1")
    assert_text_stays_text(listed, HOSTILE)
    assert Page(listed).text.count(HOSTILE) == 3


def test_the_list_counts_the_pairs_and_says_what_needs_its_other_side() -> None:
    given = [judged("a", "down", "Priya.", better="Dana."), judged("b", "up", "Hi.", asked="Hello")]
    pairs = preference_pairs(given)
    assert (
        "1 preference pair from 2 judged replies. 1 of them needs its other side."
        in Page(pairs_line(given, pairs)).text
    )
    first, second = Page(feedback_list(given, pairs, None, "")).text.split("Open its conversation")[:2]
    assert "In the export." in first
    assert "Needs its other side" not in first
    assert "Needs its other side: a reply to the same prompt that you call bad." in second
    assert "“Good reply”" in feedback_list([], (), None, "")
    assert pairs_line([], ()) == ""


def test_a_thumb_with_its_words_is_listed_and_downloaded_and_the_fingerprint_is_that_of_the_receipt(
    visitor: Visitor, app: RunningApp
) -> None:
    page = visitor.open().page
    visitor.set_longest_reply(8)
    visitor.say("Which of my partners runs finance?")
    receipt = receipt_of_last_turn(app)
    fingerprint = receipt["weights"]["after"]

    page.get_by_role("button", name="Bad reply").click()
    learned = page.locator(".learned")
    expect(learned).to_contain_text("Nothing was learned")
    assert learned.locator("code").get_attribute("title") == f"SHA-256 {fingerprint}"
    assert learned.locator("code").inner_text() == short_digest(fingerprint)
    page.get_by_role("textbox", name="Comment").fill("It cannot\nknow.")
    page.get_by_role("textbox", name="What should it have said?").fill("Dana, as you “said”.")
    # Something else writes the conversation anew before the words are saved.
    page.get_by_role("button", name="Its prompt is shown").click()
    expect(page.get_by_role("textbox", name="Comment")).to_have_value("It cannot\nknow.")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("Your words are kept.")).to_be_visible()
    expect(page.get_by_role("button", name="Bad reply")).to_have_attribute("aria-pressed", "true")

    page.get_by_role("link", name="Feedback", exact=True).click()
    listed = page.get_by_role("list", name="Feedback").get_by_role("listitem")
    expect(listed).to_have_count(1)
    expect(listed).to_contain_text("Which of my partners runs finance?")
    expect(listed).to_contain_text(receipt["completion"]["text"])
    expect(listed.get_by_role("textbox", name="Comment")).to_have_value("It cannot\nknow.")
    expect(page.locator("#nobody-trains code")).to_have_attribute("title", f"SHA-256 {fingerprint}")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download as JSONL").click()
    (line,) = Path(download.value.path()).read_text("utf-8").splitlines()
    assert json.loads(line) == {
        "prompt": [
            {"role": "system", "content": "You are a helpful assistant."},
            {"role": "user", "content": "Which of my partners runs finance?"},
        ],
        "chosen": [{"role": "assistant", "content": "Dana, as you “said”."}],
        "rejected": [{"role": "assistant", "content": receipt["completion"]["text"]}],
    }

    listed.get_by_role("button", name="Withdraw").click()
    expect(page.get_by_text("Withdrawn: nothing of it is kept.")).to_be_visible()
    expect(listed).to_have_count(0)
    expect(page.get_by_role("button", name="Download as JSONL")).to_be_hidden()
