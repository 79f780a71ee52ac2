"""The page “Model” as pure functions: what runs, whether the card is about it, and the curve in points and in words."""

from __future__ import annotations

import pytest

from chat.types import ModelInfo
from chat.ui.model.page import card_parts, loss_data, loss_in_words, other_model, running_model
from chat.weights.artifact import Artifact, FileOnDisk
from chat.weights.card import LossPoint, shipped_card

INFO = ModelInfo("SmolLM2-135M-Marginalia", "float32", 134_515_008, 8_192)
HOSTILE = ModelInfo("<img src=x onerror=alert(1)>", "<b>", 1, 1)
SAME, OTHER = "ab" * 32, "cd" * 32
ARTIFACT = Artifact((FileOnDisk("model.safetensors", 538_090_408), FileOnDisk("config.json", 817)), ())
LOSSES = (LossPoint(1, 2.16831445, 1.785), LossPoint(2, 1.804, None), LossPoint(1_000, 1.061, 1.1))


def test_what_runs_is_told_with_its_whole_fingerprint() -> None:
    html = running_model(INFO, SAME, SAME, ARTIFACT)
    for fact in (
        "SmolLM2-135M-Marginalia",
        "134,515,008, kept as float32",
        "8,192 tokens",
        f">{SAME}<",
        "538.1 MB in 2 files",
    ):
        assert fact in html
    assert "alert" not in html


def test_an_alarm_is_raised_when_the_weights_are_not_what_they_were_at_the_start() -> None:
    html = running_model(INFO, SAME, OTHER, ARTIFACT)
    assert 'role="alert"' in html
    assert SAME in html
    assert f'id="fingerprint">{OTHER}<' in html


def test_a_model_that_is_not_the_cards_is_told_apart_and_its_name_stays_text() -> None:
    html = other_model(HOSTILE.id, "SmolLM2-135M-Marginalia") + running_model(HOSTILE, SAME, SAME, ARTIFACT)
    assert "tells of the default model, SmolLM2-135M-Marginalia, and not of &lt;img" in html
    assert "<img" not in html
    assert "a <b>" not in html


def test_the_curve_stands_before_how_the_model_does_and_the_headings_below_the_pages_own() -> None:
    before, after = card_parts("# Name\n\nIssue #7 # 8.\n\n## How it was made\n\n## How it does\n\n### By kind\n")
    assert before == "## Name\n\nIssue #7 # 8.\n\n### How it was made\n\n"
    assert after == "### How it does\n\n#### By kind\n"


def test_a_card_that_does_not_say_how_the_model_does_is_shown_whole() -> None:
    assert card_parts("# Name\n\nText.\n") == ("## Name\n\nText.\n", "")


def test_a_step_without_a_measurement_has_no_point() -> None:
    data = loss_data(LOSSES)
    points = {name: [row[:2] for row in data["data"] if row[2] == name] for name in ("trained on", "never trained on")}
    assert points["trained on"] == [[1, 2.168], [2, 1.804], [1_000, 1.061]]
    assert points["never trained on"] == [[1, 1.785], [1_000, 1.1]]


@pytest.mark.parametrize(
    ("losses", "words"),
    [
        (
            LOSSES,
            "on conversations trained on, from 2.17 at step 1 to 1.06 at step 1,000; "
            "on conversations never trained on, from 1.78 at step 1 to 1.10 at step 1,000",
        ),
        (LOSSES[1:2], "on conversations trained on, from 1.80 at step 2 to 1.80 at step 2"),
    ],
)
def test_the_curve_is_also_told_in_words(losses: tuple[LossPoint, ...], words: str) -> None:
    assert loss_in_words(losses) == words


def test_the_shipped_card_has_a_name_and_a_curve() -> None:
    card = shipped_card()
    assert card.markdown.startswith("# SmolLM2-135M-Marginalia\n")
    assert len(card.losses) > 1
