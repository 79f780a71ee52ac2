"""A comparison as one page that opens anywhere: no script, no request, the style sheet inside. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from chat.compare import Pane
from chat.encoding import Encoder
from chat.types import Receipt
from chat.ui.compare.view import answer_html, ended_states, prompt_html
from chat.ui.theme import SHARED_PAGES
from chat.ui.visible import escaped

_DARK = ".dark, :root:has(body.dark) {"


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
    # A token's button asks the model, which is not there.
    still = f"<fieldset disabled>{weighed}</fieldset>"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escaped(question)}</title><style>{style}{_alone(style)}</style></head><body>"
        '<main id="book" class="exported"><h1>One question, several prompts</h1>'
        f"<p>“{escaped(question)}” was asked of {escaped(model.id)} in {escaped(model.dtype)} on {escaped(when)}, with "
        f"Marginalia. {_weights(receipts.values())}</p>"
        f'<div id="panes">{panes}</div>{still}</main></body></html>'
    )


def _alone(style: str) -> str:
    """What the app's style sheet needs where Gradio's is missing, and no script says whether it is dark."""
    dark = style.partition(_DARK)[2].partition("}")[0]
    assert "--ink" in dark, "the style sheet has its dark colours in this place"
    return (
        "*, ::before, ::after { box-sizing: border-box; } body { margin: 0; font-family: system-ui, sans-serif; }"
        f"@media (prefers-color-scheme: dark) {{ :root {{{dark}}} }}"
    )


def _weights(receipts: Iterable[Receipt]) -> str:
    fingerprints = {digest for receipt in receipts for digest in (receipt.weights.before, receipt.weights.after)}
    if len(fingerprints) == 1:
        return "The weights were the same each time."
    return "The weights were not the same each time: each prompt has its fingerprint below it."


def save_html(document: str, comparison: str) -> str:
    """The button that saves the page of a comparison, and what it saves."""
    return (
        '<div class="acts"><button class="small" data-save="comparison-page" data-type="text/html" '
        f'data-name="comparison-{escaped(comparison[:8])}.html">Save as a page</button></div>'
        f'<pre hidden id="comparison-page">{escaped(document)}</pre>'
    )


def shared_html(token: str, place: int) -> str:
    """Whether others can read the page, and the buttons that change it. `token` is empty while they cannot.

    `place` is that of the token that is looked at, which goes along with a click.
    """
    if not token:
        share = f'<button class="small" data-action="share" data-id="{place}">Share as a link</button>'
        return f'<div class="acts">{share}</div><p class="quiet">{_READ_BY_NONE}</p>'
    link = f"{SHARED_PAGES}/{escaped(token)}"
    return (
        f'<div class="acts"><a class="small" href="{link}" target="_blank">Open the shared page</a>'
        f'<button class="small" data-copy-link="{link}">Copy its link</button>'
        f'<button class="small" data-action="take-back" data-id="{place}">Stop sharing</button></div>'
        f'<p class="quiet">{_READ_BY_ALL}</p>'
    )


_READ_BY_NONE = "Only you see this comparison. A shared page shows the exact prompts too, your saved notes included."
_READ_BY_ALL = "Everybody who has the link and reaches this server can read the page, as it was when you shared it."
