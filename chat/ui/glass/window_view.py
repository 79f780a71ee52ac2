"""How full the context window was, what fell out of it and what would be next, as HTML. Pure functions."""

from __future__ import annotations

from chat.types import PromptRecord, Receipt, Segment
from chat.ui.prompt_view import count_kinds
from chat.ui.visible import escaped, shortened


def window_html(receipt: Receipt) -> str:
    """The context window as a bar: the prompt by kind, the room kept for the reply, and what is free."""
    window, room = receipt.model.context_window, receipt.sampling.max_new_tokens
    counts = count_kinds(receipt.prompt)
    taken = len(receipt.prompt.token_ids)
    free = window - taken - room
    shares = "".join(
        f'<span class="{kind}" style="width:{100 * count / window:.2f}%"></span>'
        for kind, count in [*counts.items(), ("reserved", room)]
    )
    return (
        f'<div class="bar window" aria-hidden="true">{shares}</div>'
        f'<p class="quiet">The context window holds {window:,} tokens: {taken:,} of prompt, {room:,} kept free for the '
        f"reply, {free:,} left. {_next_out(receipt.prompt)}</p>"
    )


def next_out(record: PromptRecord) -> tuple[Segment, ...]:
    """The segments that would leave first if there were no room: the oldest exchange, or else the oldest note."""
    for kind in ("history", "note"):
        first = next((s for s in record.segments if s.kind == kind and (s.source_turn_id or s.note_id)), None)
        if first is not None:
            return tuple(
                segment
                for segment in record.segments
                if (segment.source_turn_id, segment.note_id) == (first.source_turn_id, first.note_id)
            )
    return ()


def _next_out(record: PromptRecord) -> str:
    leaving = next_out(record)
    if not leaving:
        return "There is nothing in it that could fall out."
    what = "the exchange that begins" if leaving[0].kind == "history" else "the note"
    said = escaped(shortened(leaving[0].text.removeprefix("\n- "), 60))
    size = sum(segment.end - segment.start for segment in leaving)
    return f"When those are used up, {what} “{said}” falls out first ({size:,} tokens)."
