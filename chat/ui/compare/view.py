"""One pane of the page “Compare” as HTML: the answer, and under it the exact prompt with what only it contains."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from chat.compare import Pane, PaneEvent, PaneName
from chat.encoding import Encoder
from chat.types import PromptRecord, Receipt
from chat.ui.asked_view import Asked, asked_html, asked_prompt_html
from chat.ui.visible import escaped


@dataclass(frozen=True)
class PaneState:
    """What is known of a pane so far."""

    pane: Pane
    asked: Asked = field(default_factory=Asked)

    def after(self, event: PaneEvent) -> PaneState:
        """The state with one more event taken in."""
        return replace(self, asked=self.asked.after(event))


def first_states(panes: Iterable[Pane]) -> dict[PaneName, PaneState]:
    """Panes before anything was asked."""
    return {pane.name: PaneState(pane) for pane in panes}


def ended_states(receipts: Mapping[Pane, Receipt]) -> dict[PaneName, PaneState]:
    """Panes that have answered, from their receipts."""
    return {
        pane.name: PaneState(pane, Asked(receipt.prompt, receipt.completion.text, receipt=receipt))
        for pane, receipt in receipts.items()
    }


def answer_html(state: PaneState) -> str:
    """The upper part of a pane: what it answers, and what that took."""
    told = asked_html(state.asked) or f'<p class="quiet">{escaped(_PROMISES[state.pane.name])}</p>'
    return f"<h2>{escaped(state.pane.title)}</h2>{told}"


def prompt_html(state: PaneState, plain: PromptRecord | None, encoder: Encoder) -> str:
    """The lower part of a pane: its exact prompt. `plain` is the first pane's, which the others are held against."""
    return asked_prompt_html(state.asked, plain, encoder, "the first prompt")


_PROMISES: dict[PaneName, str] = {
    "fresh": "Only your question. This is what a new chat knows.",
    "continued": "The chosen conversation is sent again, then your question.",
    "memory": "Your saved notes are put into the prompt, then your question.",
    "edited": "The notes that you write below “Which prompts”, then your question.",
    "other": "The other conversation that you choose is sent, then your question.",
    "untuned": "The chosen conversation, then your question, for the model as it was before we tuned it.",
    "sampled": "The chosen conversation, then your question, with a temperature and seed of its own.",
}
