"""One pane of the page “Compare” as HTML: the answer, and under it the exact prompt with what only it contains."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from chat.compare import Pane, PaneFailed, PaneName
from chat.encoding import Encoder
from chat.prompt_diff import only_here
from chat.turn import Begun, Done, Replying, TurnEvent
from chat.types import PromptRecord, Receipt
from chat.ui.prompt_view import kind_counts, segment_html, weights_seal
from chat.ui.turn_view import ENDINGS, receipt_facts, status_of
from chat.ui.visible import escaped


@dataclass(frozen=True)
class PaneState:
    """What is known of a pane so far."""

    pane: Pane
    prompt: PromptRecord | None = None
    reply: str = ""
    status: str = ""
    error: str = ""
    receipt: Receipt | None = None

    def after(self, event: TurnEvent | PaneFailed) -> PaneState:
        """The state with one more event taken in."""
        if isinstance(event, PaneFailed):
            return replace(self, error=event.sentence, status="")
        state = replace(self, status=status_of(event))
        if isinstance(event, Begun):
            return replace(state, prompt=event.prompt)
        if isinstance(event, Replying):
            return replace(state, reply=event.reply)
        if isinstance(event, Done):
            return replace(state, receipt=event.receipt, status="", error=event.error or "")
        return state


def first_states(panes: Iterable[Pane]) -> dict[PaneName, PaneState]:
    """Panes before anything was asked."""
    return {pane.name: PaneState(pane) for pane in panes}


def ended_states(receipts: Mapping[Pane, Receipt]) -> dict[PaneName, PaneState]:
    """Panes that have answered, from their receipts."""
    return {
        pane.name: PaneState(pane, receipt.prompt, receipt.completion.text, receipt=receipt)
        for pane, receipt in receipts.items()
    }


def answer_html(state: PaneState) -> str:
    """The upper part of a pane: what it answers, and what that took."""
    if not (state.prompt or state.error or state.status):
        return f'{_heading(state)}<p class="quiet">{escaped(_PROMISES[state.pane.name])}</p>'
    error = f'<p class="alert" role="alert">{escaped(state.error)}</p>' if state.error else ""
    status = f'<p class="quiet">{escaped(state.status)}</p>' if state.status else ""
    ending = ENDINGS.get(state.receipt.completion.finish_reason, "") if state.receipt and not state.error else ""
    ended = f'<p class="ending">{ending}</p>' if ending else ""
    paid = f'<p class="receipt">{_facts(state.receipt)}</p>' if state.receipt else ""
    reply = f'<div class="reply" data-testid="bot"><div class="text">{escaped(state.reply)}</div></div>'
    return f"{_heading(state)}{error}{reply}{status}{ended}{paid}"


def prompt_html(state: PaneState, plain: PromptRecord | None, encoder: Encoder) -> str:
    """The lower part of a pane: its exact prompt. `plain` is the first pane's, which the others are held against."""
    if state.prompt is None:
        return ""
    seal = weights_seal(state.receipt.weights) if state.receipt else ""
    return f"{_marked_prompt(state.prompt, plain, encoder)}{seal}"


_PROMISES: dict[PaneName, str] = {
    "fresh": "Only your question. This is what a new chat knows.",
    "continued": "The chosen conversation is sent again, then your question.",
    "memory": "Your saved notes are put into the prompt, then your question.",
    "edited": "The notes that you write below “Which prompts”, then your question.",
    "other": "The other conversation that you choose is sent, then your question.",
    "sampled": "The chosen conversation, then your question, with a temperature and seed of its own.",
}


def _heading(state: PaneState) -> str:
    return f"<h2>{escaped(state.pane.title)}</h2>"


def _facts(receipt: Receipt) -> str:
    return receipt_facts(receipt.usage, receipt.timing, receipt.weights)


def _marked_prompt(prompt: PromptRecord, plain: PromptRecord | None, encoder: Encoder) -> str:
    own = only_here(prompt, plain) if plain else frozenset()
    spans = []
    for segment in prompt.segments:
        ids = prompt.token_ids[segment.start : segment.end]
        shown = segment_html(segment, encoder.token_texts(ids), ids, encoder.control_ids)
        marked = not own.isdisjoint(range(segment.start, segment.end))
        spans.append(f'<mark class="only-here">{shown}</mark>' if marked else shown)
    differs = f"{len(own):,} tokens are not in the first prompt; what holds them is underlined."
    return (
        f'<h3>Exact prompt</h3>{kind_counts(prompt)}<p class="quiet">{differs if own else _same(prompt, plain)}</p>'
        f'<pre class="prompt" tabindex="0" aria-label="The prompt, by segment">{"".join(spans)}</pre>'
    )


def _same(prompt: PromptRecord, plain: PromptRecord | None) -> str:
    if plain is None or prompt is plain:
        return "The others are compared with this prompt."
    return "This is the first prompt, token for token."
