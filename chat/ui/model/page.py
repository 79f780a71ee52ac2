"""The page “Model”: what runs right now, what it is made of and can know, and the one time that weights moved."""

from __future__ import annotations

import re
from typing import Any

import gradio as gr

from chat.precisions import PrecisionComparison
from chat.types import ModelInfo
from chat.ui.frame import Updates, text_page
from chat.ui.model.artifact_section import ArtifactSection
from chat.ui.model.artifact_view import megabytes
from chat.ui.model.cutoff_section import CutoffSection
from chat.ui.model.precision_section import PrecisionSection
from chat.ui.service import Service
from chat.ui.visible import escaped
from chat.weights.artifact import Artifact
from chat.weights.card import LossPoint, ModelCard

ABOUT = "It was done once, by Marginalia’s makers, before anybody chatted. While you chat, none moves."
SECTIONS = {
    "parts": "Parameters by layer",
    "tensors": "The fingerprint, tensor by tensor",
    "cutoff": "What it can know",
    "precisions": "The same model, rounded",
    "card": "The model card",
}
# The curve stands in the card behind how the model was made.
CURVE_BEFORE = "## How it does\n"
SEEN, UNSEEN = "trained on", "never trained on"
# Variables of static/app.css, so that the lines follow the theme: the plot is drawn as SVG in the page.
COLOURS = {SEEN: "var(--edge)", UNSEEN: "var(--accent)"}


class ModelPage:
    """Builds the page inside the current Blocks. `card` tells of the model whose id is `tells_of`."""

    def __init__(
        self, service: Service, card: ModelCard, tells_of: str, artifact: Artifact, precisions: PrecisionComparison
    ) -> None:
        self._model = service.model
        self._artifact = artifact
        self._at_start = self._model.seal.latest.digest
        with text_page("Model", "The one time that weights moved", ABOUT, "reading", "to-scroll"):
            self.running = gr.HTML(self._running(), elem_id="running", apply_default_css=False)
            gr.HTML(contents(), apply_default_css=False)
            self._parts = ArtifactSection(self._model, artifact)
            CutoffSection(service, card, tells_of)
            PrecisionSection(service, precisions)
            gr.HTML('<div id="card" tabindex="-1"></div>', apply_default_css=False)
            if self._model.info.id != tells_of:
                gr.HTML(other_model(self._model.info.id, tells_of), apply_default_css=False)
            _card_with_curve(card)
        self.outputs: list[gr.components.Component] = [self.running, self._parts.tensors]

    def opened(self) -> Updates:
        """The page was loaded: show the latest fingerprint and its tensors; a reply may have taken one since."""
        return {self.running: self._running(), self._parts.tensors: self._parts.found("")}

    def _running(self) -> str:
        return running_model(self._model.info, self._at_start, self._model.seal.latest.digest, self._artifact)


def contents() -> str:
    """The short table of contents; static/app.js goes to the section, whatever else the address says."""
    links = "".join(f'<a href="/model#{name}" data-jump="{name}">{title}</a>' for name, title in SECTIONS.items())
    return f'<nav class="contents" aria-label="On this page">{links}</nav>'


def running_model(info: ModelInfo, at_start: str, now: str, artifact: Artifact) -> str:
    """What runs right now, as the receipts have it. `at_start` and `now` are fingerprints."""
    on_disk = sum(file.nbytes for file in artifact.files)
    facts = {
        "Model": f"<b>{escaped(info.id)}</b>",
        "Weights": f"{info.parameters:,}, kept as {escaped(info.dtype)}",
        "Size": f"{megabytes(artifact.nbytes)} in memory, {megabytes(on_disk)} in {len(artifact.files):,} files",
        "Context window": f"{info.context_window:,} tokens, prompt and reply together",
        "Fingerprint": f'<code id="fingerprint">{now}</code>{_since(at_start, now)}',
    }
    rows = "".join(f"<dt>{name}</dt><dd>{fact}</dd>" for name, fact in facts.items())
    return f'<h3>What runs right now</h3><dl class="facts">{rows}</dl>'


def _since(at_start: str, now: str) -> str:
    if now != at_start:
        return (
            '<p class="alert" role="alert">The weights are not what they were when Marginalia started: then it was '
            f"<code>{at_start}</code>. Nothing here should ever do that: restart Marginalia, and report it.</p>"
        )
    return (
        '<p class="quiet">SHA-256 over every weight, as the app holds them in memory: the same as when Marginalia '
        "started. Every receipt has it twice, from before its reply and from after.</p>"
    )


def other_model(running: str, tells_of: str) -> str:
    """That the card is not about the model that runs."""
    return (
        f'<p class="aside">What follows tells of the default model, {escaped(tells_of)}, '
        f"and not of {escaped(running)}, which runs right now.</p>"
    )


def card_parts(markdown: str) -> tuple[str, str]:
    """The card before and after its curve; its headings go one level down, below the page's own."""
    before, heading, after = markdown.partition(CURVE_BEFORE)
    return _lower(before), _lower(heading + after)


def _lower(markdown: str) -> str:
    return re.sub(r"^(?=#)", "#", markdown, flags=re.MULTILINE)


def loss_data(losses: tuple[LossPoint, ...]) -> dict[str, Any]:
    """The curve's two series as Gradio's plots take them; a step without a measurement has no point."""
    seen = [[point.step, round(point.loss, 3), SEEN] for point in losses]
    unseen = [[point.step, round(point.unseen_loss, 3), UNSEEN] for point in losses if point.unseen_loss is not None]
    return {
        "columns": ["step", "loss", "conversations"],
        "data": seen + unseen,
        "datatypes": {"step": "quantitative", "loss": "quantitative", "conversations": "nominal"},
        "mark": "line",
    }


def loss_in_words(losses: tuple[LossPoint, ...]) -> str:
    """The curve for whoever does not see the picture: where each series begins and where it ends."""
    unseen = [(point.step, point.unseen_loss) for point in losses if point.unseen_loss is not None]
    series = {SEEN: [(point.step, point.loss) for point in losses], UNSEEN: unseen}
    return "; ".join(
        f"on conversations {name}, from {points[0][1]:.2f} at step {points[0][0]:,} "
        f"to {points[-1][1]:.2f} at step {points[-1][0]:,}"
        for name, points in series.items()
        if points
    )


def _card_with_curve(card: ModelCard) -> None:
    before, after = card_parts(card.markdown)
    _card_text(before)
    if card.losses:
        _curve(card.losses)
    _card_text(after)


def _card_text(markdown: str) -> None:
    if markdown:
        gr.Markdown(markdown, latex_delimiters=[], elem_classes="card")


def _curve(losses: tuple[LossPoint, ...]) -> None:
    gr.HTML(_curve_head(losses), apply_default_css=False, elem_classes="curve-head")
    gr.LinePlot(
        loss_data(losses),
        x="step",
        y="loss",
        color="conversations",
        y_title="loss, nats a token",
        color_map=COLOURS,
        colors_in_legend=[],  # ours stands above it: Gradio's is too small to read
        height=300,
        container=False,
        elem_id="curve",
    )


def _curve_head(losses: tuple[LossPoint, ...]) -> str:
    keys = "".join(
        f'<li><span class="key" style="background:{colour}"></span>{name}</li>' for name, colour in COLOURS.items()
    )
    return (
        "<h3>Its loss, step by step</h3>"
        "<p>The loss is how surprised the model is, token by token, by the reply that it should give: less is better. "
        f"In nats a token it went, {loss_in_words(losses)}.</p>"
        f'<ul class="legend" aria-label="Lines of the plot">{keys}</ul>'
    )
