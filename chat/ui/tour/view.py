"""The tour's steps as HTML: what was said, where it stands in the prompt, what did not move, what it cost. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from chat.types import PromptRecord, Segment
from chat.ui.prompt_view import kind_counts
from chat.ui.tour.progress import CORRECTION, Answered, Progress
from chat.ui.turn_view import receipt_line, running_turn
from chat.ui.visible import escaped, short_digest

SegmentHtml = Callable[[PromptRecord, Segment], str]

STEPS: tuple[tuple[str, str], ...] = (
    ("Tell it, and correct it", "You ask, it does not know or is wrong, you correct it, and you ask again."),
    ("Look where the correction sits", "It is right because your words stand in the prompt: they are sent again."),
    ("Ask in a fresh session", "The same question, a new conversation: nothing of yours is in the prompt."),
    ("Save a note, and switch memory on", "A saved line is put into the next prompt. That is all that memory is."),
    ("Look at the weights", "One fingerprint over every weight, taken before and after each of these turns."),
    ("See what it cost", "Every turn sent everything again; what the KV cache had was not computed again."),
)

NOTE_STAYS = (
    '<p class="quiet">It goes into the prompts of your other chats too, as long as memory is on. '
    '<a href="/memory">Switch it off or delete it</a> when you are done.</p>'
)


def said_html(turns: Sequence[Answered]) -> str:
    """Messages and replies with a line of each receipt."""
    return "".join(
        f'<article class="turn"><div class="message">{escaped(turn.message)}</div>'
        f'<div class="reply" data-testid="bot"><div class="text">{escaped(turn.reply)}</div>{receipt_line(turn)}'
        f'<p class="quiet"><a href="/glass?t={turn.id}">Put this turn under glass</a></p></div></article>'
        for turn, _ in turns
    )


def step_html(step: int, progress: Progress, segment_html: SegmentHtml) -> str:
    """What a step, counted from 1, has to show; empty before it was taken."""
    if not progress.is_done(step):
        return said_html(progress.told) if step == 1 else ""
    match step:
        case 1:
            return said_html(progress.told)
        case 2:
            assert progress.corrected is not None, "the step is done"
            return _prompt(progress.corrected.prompt, segment_html, "The words of your correction are in it:")
        case 3:
            prompt = progress.fresh[-1][1].prompt
            return said_html(progress.fresh) + _prompt(prompt, segment_html, "This is all that it read:")
        case 4:
            prompt = progress.noted[-1][1].prompt
            return said_html(progress.noted) + _prompt(prompt, segment_html, "The note is in the prompt:") + NOTE_STAYS
        case 5:
            return _weights(progress.answered)
        case _:
            return _costs(progress.answered)


def saying(turns: Sequence[Answered], message: str, reply: str) -> str:
    """A step while it runs."""
    return said_html(turns) + running_turn(message, reply)


def _prompt(record: PromptRecord, segment_html: SegmentHtml, told: str) -> str:
    spans = []
    for segment in record.segments:
        shown = segment_html(record, segment)
        own = segment.kind == "note" or segment.text == CORRECTION
        spans.append(f'<mark class="only-here">{shown}</mark>' if own else shown)
    return (
        f'<p>{told}</p>{kind_counts(record)}<pre class="prompt" tabindex="0" aria-label="The prompt, by segment">'
        f"{''.join(spans)}</pre>"
    )


def _weights(turns: Sequence[Answered]) -> str:
    digests = {digest for _, receipt in turns for digest in (receipt.weights.before, receipt.weights.after)}
    rows = "".join(
        f'<tr><th scope="row">{escaped(turn.message)}</th>{_digest(receipt.weights.before)}'
        f"{_digest(receipt.weights.after)}<td>{receipt.weights.changed_parameters:,}</td></tr>"
        for turn, receipt in turns
    )
    same = f"{2 * len(turns)} fingerprints, all the same: nothing was learned."
    moved = f"{len(digests)} different fingerprints. Nothing here should ever do that: please report it."
    return (
        '<div class="to-side" tabindex="0" role="region" aria-label="Fingerprints, turn by turn">'
        '<table class="figures"><thead><tr><th scope="col">Turn</th><th scope="col">Before</th>'
        '<th scope="col">After</th><th scope="col">Weights changed</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
        f'<p class="outcome">{same if len(digests) == 1 else moved}</p>'
    )


def _digest(digest: str) -> str:
    return f'<td><code title="{digest}">{short_digest(digest)}</code></td>'


def _costs(turns: Sequence[Answered]) -> str:
    usages = [receipt.usage for _, receipt in turns]
    given, reused = sum(usage.prompt_tokens for usage in usages), sum(usage.cached_tokens for usage in usages)
    written = sum(usage.completion_tokens for usage in usages)
    seconds = sum(receipt.timing.total_ms for _, receipt in turns) / 1000
    first = turns[0][0].conversation_id
    return (
        f'<p class="outcome">{len(turns)} turns: {given:,} tokens sent, {reused:,} of them reused from the KV cache, '
        f"{written:,} written, {seconds:,.1f} seconds of the model’s time, queue included.</p>"
        f'<p><a href="/costs?c={first}">See each turn’s costs</a>, and what they would be for billions of them.</p>'
    )
