"""A comparison as one HTML file that opens anywhere: no script, no request, the style sheet inside. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from chat.compare import Pane
from chat.encoding import Encoder
from chat.types import Receipt
from chat.ui.compare_view import answer_html, ended_states, prompt_html
from chat.ui.visible import escaped


def comparison_document(
    question: str, receipts: Mapping[Pane, Receipt], weighed: str, encoder: Encoder, style: str
) -> str:
    """The whole page. `weighed` is the section on one answer behind each prompt, `style` the app's style sheet."""
    states = ended_states(receipts)
    first = next(iter(receipts.values())).prompt
    panes = "".join(
        f'<div class="pane">{answer_html(state)}{prompt_html(state, first, encoder)}</div>' for state in states.values()
    )
    model = next(iter(receipts.values())).model
    when = min(receipt.created_at for receipt in receipts.values())[:16].replace("T", " at ") + " UTC"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escaped(question)}</title><style>{style}\nbody {{ margin: 0; font-family: system-ui, sans-serif; }}"
        "</style></head><body>"
        '<main id="book" class="exported"><h1>One question, several prompts</h1>'
        f"<p>“{escaped(question)}” was asked of {escaped(model.id)} in {escaped(model.dtype)} on {escaped(when)}, with "
        f"Marginalia. {_weights(receipts.values())}</p>"
        f'<div id="panes">{panes}</div>{weighed}</main></body></html>'
    )


def _weights(receipts: Iterable[Receipt]) -> str:
    fingerprints = {digest for receipt in receipts for digest in (receipt.weights.before, receipt.weights.after)}
    if len(fingerprints) == 1:
        return "The weights were the same each time."
    return "The weights were not the same each time: each prompt has its fingerprint below it."
