"""The panel “Exact prompt”: a prompt as it was handed to the model, as HTML. Pure functions over the record."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from chat.types import SEGMENT_KINDS, Dropped, PromptRecord, Segment, SegmentKind, WeightsCheck
from chat.ui.visible import escaped, short_digest, shortened, visible

View = Literal["Segments", "Tokens", "Raw text"]
VIEWS: tuple[View, ...] = ("Segments", "Tokens", "Raw text")
TokenTexts = Callable[[Sequence[int]], tuple[str, ...]]

MEANINGS: dict[SegmentKind, str] = {
    "template": "What the model's chat template puts around the words, to mark who speaks.",
    "system": "The standing instruction that opens every prompt.",
    "note": "Lines saved from earlier conversations, put in because memory is on or because new notes are asked for.",
    "history": "What was said earlier in this conversation, sent again.",
    "message": "What is sent this time: your words, or the request for notes.",
}


def prompt_panel(
    record: PromptRecord,
    title: str,
    view: View,
    token_texts: TokenTexts,
    control_ids: frozenset[int],
    weights: WeightsCheck | None = None,
    left_out: Mapping[str, str] | None = None,
) -> str:
    """The whole panel for one turn.

    `title` says which turn; `weights` is None while the turn still runs; `left_out` has the words of what is in the
    ledger by the id of its turn or note.
    """
    bodies = {
        "Segments": lambda: _segments_view(record, token_texts, control_ids),
        "Tokens": lambda: _tokens_view(record, token_texts, control_ids),
        "Raw text": lambda: _raw_view(record),
    }
    total = len(record.token_ids)
    return (
        f'<p class="quiet">{escaped(title)}: the {total:,} tokens that the model read, all of them.</p>'
        f"{kind_counts(record)}{_ledger(record.dropped, left_out or {})}{bodies[view]()}{weights_seal(weights)}"
    )


def glass_link(turn_id: str) -> str:
    """The way to the page that shows one turn from every side."""
    return f'<a class="closer" href="/glass?t={escaped(turn_id)}">Put this turn under glass</a>'


def empty_panel() -> str:
    """What stands in the margin before anything was sent."""
    return (
        '<p class="quiet">Send a message, and the exact text that the model reads appears here: '
        "every token, each in the colour of where it came from.</p>" + _legend({})
    )


def missing_panel(sentence: str) -> str:
    """What stands in the margin for a turn that has no receipt."""
    return f'<p class="quiet">{escaped(sentence)}</p>'


def kind_counts(record: PromptRecord) -> str:
    """A bar of the prompt's parts by kind, and the counts behind it with their sum."""
    counts = count_kinds(record)
    total = len(record.token_ids)
    shares = "".join(f'<span class="{kind}" style="width:{100 * counts[kind] / total:.2f}%"></span>' for kind in counts)
    return f'<div class="bar" aria-hidden="true">{shares}</div>{_legend(counts, total)}'


def count_kinds(record: PromptRecord) -> dict[SegmentKind, int]:
    """Tokens by segment kind, those that occur, in the contract's order; they add up to the prompt's length."""
    counts = dict.fromkeys(SEGMENT_KINDS, 0)
    for segment in record.segments:
        counts[segment.kind] += segment.end - segment.start
    return {kind: count for kind, count in counts.items() if count}


def weights_seal(weights: WeightsCheck | None) -> str:
    """Whether the weights are what they were."""
    if weights is None:
        return '<div class="seal quiet">The weights are compared when the reply is complete.</div>'
    if weights.before != weights.after:
        return (
            '<div class="seal alarm" role="alert"><b>The weights changed during this turn.</b> '
            f"{weights.changed_parameters:,} weights lie in tensors that are no longer what they were. "
            "Nothing here should ever do that: restart Marginalia, and report it."
            f"<br>Before <code>{weights.before}</code><br>after <code>{weights.after}</code></div>"
        )
    return (
        '<div class="seal"><b>The book did not change.</b><br>Fingerprint of all '
        f"{weights.parameters:,} weights, before and after: "
        f'<code title="SHA-256 {weights.after}">{short_digest(weights.after)}</code></div>'
    )


def segment_html(segment: Segment, token_texts: Sequence[str], ids: Sequence[int], control: frozenset[int]) -> str:
    """One segment in its kind's colour, its white space and control tokens visible."""
    if segment.kind == "template":
        inner = "".join(
            f"<b>{escaped(visible(text))}</b>" if token_id in control else escaped(visible(text))
            for token_id, text in zip(ids, token_texts, strict=True)
        )
    else:
        inner = escaped(visible(segment.text))
    size = segment.end - segment.start
    label = f"{segment.kind}: {segment.label}, {size:,} token{'' if size == 1 else 's'}"
    # The kind's word stands in the style sheet's ::before, so that copied text is the prompt's alone.
    named = "" if segment.kind == "template" else f' data-kind="{segment.kind}"'
    return f'<span class="segment {segment.kind}"{named} title="{escaped(label)}">{inner}</span>'


def _segments_view(record: PromptRecord, token_texts: TokenTexts, control: frozenset[int]) -> str:
    spans = []
    for segment in record.segments:
        ids = record.token_ids[segment.start : segment.end]
        texts = token_texts(ids) if segment.kind == "template" else ()
        spans.append(segment_html(segment, texts, ids, control))
    return f'<pre class="prompt" tabindex="0" aria-label="The prompt, by segment">{"".join(spans)}</pre>'


def _tokens_view(record: PromptRecord, token_texts: TokenTexts, control: frozenset[int]) -> str:
    texts = token_texts(record.token_ids)
    spans = []
    for segment in record.segments:
        for place in range(segment.start, segment.end):
            token_id = record.token_ids[place]
            kind = f"{segment.kind} control" if token_id in control else segment.kind
            shown = escaped(visible(texts[place])).replace("\n", "")
            spans.append(f'<span class="token {kind}">{shown}<sub>{token_id}</sub></span>')
    return f'<div class="tokens" tabindex="0" role="group" aria-label="The prompt, by token">{"".join(spans)}</div>'


def _raw_view(record: PromptRecord) -> str:
    return (
        f'<button class="small" data-copy="raw-prompt">Copy</button>'
        f'<pre class="prompt raw" id="raw-prompt" tabindex="0" aria-label="The prompt as raw text">'
        f"{escaped(record.text)}</pre>"
        f'<p class="quiet">SHA-256 of the token ids: <code>{record.sha256}</code></p>'
    )


def _legend(counts: dict[SegmentKind, int], total: int | None = None) -> str:
    kinds = counts or dict.fromkeys(SEGMENT_KINDS)
    items = "".join(
        f'<li><span class="chip {kind}" tabindex="0" data-meaning="{MEANINGS[kind]}">{kind}</span>'
        f"{'' if counts.get(kind) is None else f' {counts[kind]:,}'}</li>"
        for kind in kinds
    )
    summed = "" if total is None else f'<li class="sum">= {total:,} tokens</li>'
    return f'<ul class="legend" aria-label="Tokens by origin">{items}{summed}</ul>'


def _ledger(dropped: Sequence[Dropped], words: Mapping[str, str]) -> str:
    if not dropped:
        return '<p class="ledger quiet">Nothing was left out.</p>'
    rows = "".join(
        f"<li>{_left_out(entry, words)}, {entry.tokens:,} tokens: {escaped(entry.reason)}</li>" for entry in dropped
    )
    things = f"{len(dropped)} {'thing was' if len(dropped) == 1 else 'things were'} left out"
    tokens = sum(entry.tokens for entry in dropped)
    return f'<details class="ledger"><summary>{things}, {tokens:,} tokens</summary><ul>{rows}</ul></details>'


def _left_out(entry: Dropped, words: Mapping[str, str]) -> str:
    what = "The turn" if entry.source_turn_id else "The note"
    said = words.get(entry.source_turn_id or entry.note_id or "")
    return f"{what} “{escaped(shortened(said, 60))}”" if said else f"{what}, since deleted"
