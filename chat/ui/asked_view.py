"""One question to one model as HTML: the answer and what it took, and the exact prompt held against a plain one."""

from __future__ import annotations

from dataclasses import dataclass, replace

from chat.compare import PaneEvent, PaneFailed, PaneLoading
from chat.encoding import Encoder
from chat.prompt_diff import only_here
from chat.turn import Begun, Done, Replying
from chat.types import PromptRecord, Receipt
from chat.ui.prompt_view import kind_counts, segment_html, weights_seal
from chat.ui.turn_view import ENDINGS, receipt_facts, status_of
from chat.ui.visible import escaped


@dataclass(frozen=True)
class Asked:
    """What is known so far of a question that was asked."""

    prompt: PromptRecord | None = None
    reply: str = ""
    status: str = ""
    error: str = ""
    receipt: Receipt | None = None

    def after(self, event: PaneEvent) -> Asked:
        """The same with one more event taken in."""
        if isinstance(event, PaneLoading):
            return replace(self, status="Loading the untuned model")
        if isinstance(event, PaneFailed):
            return replace(self, error=event.sentence, status="")
        asked = replace(self, status=status_of(event))
        if isinstance(event, Begun):
            return replace(asked, prompt=event.prompt)
        if isinstance(event, Replying):
            return replace(asked, reply=event.reply)
        if isinstance(event, Done):
            return replace(asked, receipt=event.receipt, status="", error=event.error or "")
        return asked


def asked_html(asked: Asked) -> str:
    """What is answered, and what that took; empty before anything was asked."""
    if not (asked.prompt or asked.error or asked.status):
        return ""
    error = f'<p class="alert" role="alert">{escaped(asked.error)}</p>' if asked.error else ""
    status = f'<p class="quiet">{escaped(asked.status)}</p>' if asked.status else ""
    ending = ENDINGS.get(asked.receipt.completion.finish_reason, "") if asked.receipt and not asked.error else ""
    ended = f'<p class="ending">{ending}</p>' if ending else ""
    paid = f'<p class="receipt">{_facts(asked.receipt)}</p>' if asked.receipt else ""
    reply = f'<div class="reply" data-testid="bot"><div class="text">{escaped(asked.reply)}</div></div>'
    return f"{error}{reply}{status}{ended}{paid}"


def asked_prompt_html(asked: Asked, plain: PromptRecord | None, encoder: Encoder, plain_name: str) -> str:
    """The exact prompt, held against a plain one; empty before there is one.

    `plain_name` is what the plain one is called, or empty where nothing is said of another.
    """
    if asked.prompt is None:
        return ""
    seal = weights_seal(asked.receipt.weights) if asked.receipt else ""
    return f"{_marked_prompt(asked.prompt, plain, encoder, plain_name)}{seal}"


def _facts(receipt: Receipt) -> str:
    return receipt_facts(receipt.usage, receipt.timing, receipt.weights)


def _marked_prompt(prompt: PromptRecord, plain: PromptRecord | None, encoder: Encoder, plain_name: str) -> str:
    own = only_here(prompt, plain) if plain else frozenset()
    spans = []
    for segment in prompt.segments:
        ids = prompt.token_ids[segment.start : segment.end]
        shown = segment_html(segment, encoder.token_texts(ids), ids, encoder.control_ids)
        marked = not own.isdisjoint(range(segment.start, segment.end))
        spans.append(f'<mark class="only-here">{shown}</mark>' if marked else shown)
    differs = f"{len(own):,} tokens are not in {plain_name}; what holds them is underlined."
    told = differs if own else _same(prompt, plain, plain_name)
    return (
        f'<h3>Exact prompt</h3>{kind_counts(prompt)}<p class="quiet">{told}</p>'
        f'<pre class="prompt" tabindex="0" aria-label="The prompt, by segment">{"".join(spans)}</pre>'
    )


def _same(prompt: PromptRecord, plain: PromptRecord | None, plain_name: str) -> str:
    if not plain_name:
        return ""
    if plain is None or prompt is plain:
        return "The others are compared with this prompt."
    return f"This is {plain_name}, token for token."
