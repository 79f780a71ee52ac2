"""Turns and conversations as HTML: what was said, and under each reply one line from its receipt. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence

from chat.engine import Prefilling, Queued
from chat.turn import Begun, Done, Replying, TurnEvent
from chat.types import Conversation, FinishReason, Timing, Turn, Usage, WeightsCheck
from chat.ui.feedback.view import NO_THUMBS, Thumbs, thumbs_under
from chat.ui.visible import escaped

NEWEST_TURNS = 20

ENDINGS: dict[FinishReason, str] = {
    "cancelled": "Stopped. What had been said is kept.",
    "interrupted": "Interrupted: Marginalia was closed while this was being answered. What had been said is kept.",
    "length": "Cut off at the longest reply that was allowed.",
    "error": "The model failed.",
}
_RETRIED = ("cancelled", "interrupted", "error")

# Field terms, each with its meaning, as the line under a reply uses them.
_MEANINGS = {
    "read": "Prompt tokens: all that the model was given to read for this reply.",
    "reused": "Cached tokens: whole blocks of 32 or 128, taken from the KV cache of a prompt that begins the same.",
    "written": "Completion tokens: what the model wrote, its stop token included.",
    "guessed ahead": "Tokens that were looked up earlier in the text, read in one step, and proved right.",
    "first word": "Time to first token, from the moment the message was sent.",
    "tokens/s": "Decode speed: tokens written each second after the first.",
    "changed": "SHA-256 over every weight, as the app holds them in memory, taken before and after this turn.",
}


def conversation_log(
    turns: Sequence[Turn], shown_turn_id: str | None, older: int = 0, thumbs: Thumbs = NO_THUMBS
) -> str:
    """The conversation, oldest first; `older` turns before these can be loaded."""
    more = ""
    if older:
        more = (
            f'<p class="older"><button class="small" data-action="older" data-id="">Show {older:,} earlier '
            f"turn{'' if older == 1 else 's'}</button></p>"
        )
    return more + "".join(
        _turn_html(turn, shown=turn.id == shown_turn_id, last=turn is turns[-1], thumbs=thumbs) for turn in turns
    )


def running_turn(message: str, reply: str) -> str:
    """A turn while it is answered."""
    writing = f'<div class="text">{escaped(reply)}<span class="caret"></span></div>'
    return (
        f'<article class="turn">{_message_html(message)}<div class="reply" data-testid="bot">{writing}</div></article>'
    )


def status_of(event: TurnEvent) -> str:
    """What is being waited for, in a few words."""
    match event:
        case Queued(place=0):
            return "Working"
        case Queued(place=place):
            return f"Waiting: {place} request{'' if place == 1 else 's'} before yours"
        case Prefilling(done=done, total=total):
            return f"Reading {done:,} of {total:,} tokens"
        case Begun(prompt=prompt):
            return f"Reading {len(prompt.token_ids):,} tokens"
        case Replying(complete=True):
            return "Comparing the weights with what they were"
        case Replying():
            return "Writing"
        case Done(receipt=receipt):
            ended = "Stopped after" if receipt.completion.finish_reason == "cancelled" else "Answered in"
            return f"{ended} {receipt.usage.completion_tokens:,} tokens"


def receipt_line(turn: Turn) -> str:
    """One line from a turn's receipt; empty if the turn has none."""
    if turn.usage is None or turn.timing is None or turn.weights is None:
        return ""
    alarm = " alarm" if turn.weights.before != turn.weights.after else ""
    left_out = f" · {turn.dropped:,} left out of the prompt" if turn.dropped else ""
    return f'<p class="receipt{alarm}">{receipt_facts(turn.usage, turn.timing, turn.weights)}{left_out}</p>'


def receipt_facts(usage: Usage, timing: Timing, weights: WeightsCheck) -> str:
    """What a model call read, reused and wrote, how fast, and whether the weights moved."""
    speed = tokens_per_second(usage, timing.decode_ms)
    parts = [
        f"{usage.prompt_tokens:,} tokens {_term('read')}, <i>{usage.cached_tokens:,} {_term('reused')}</i>",
        f"{usage.completion_tokens:,} {_term('written')}" + _guessed(usage),
        _first_word(timing) if usage.completion_tokens else "",
        f"{speed:.0f} {_term('tokens/s')}" if speed else "",
        f"{weights.changed_parameters:,} of {weights.parameters:,} weights {_term('changed')}",
    ]
    return " · ".join(part for part in parts if part)


def _guessed(usage: Usage) -> str:
    return f", {usage.accepted_tokens:,} of them {_term('guessed ahead')}" if usage.accepted_tokens else ""


def _first_word(timing: Timing) -> str:
    waited = ""
    if timing.queue_ms >= 100:
        waited = f", {timing.queue_ms / 1000:.2f} s of it in the queue"
    return f"{_term('first word')} {timing.time_to_first_token_ms / 1000:.2f} s{waited}"


def tokens_per_second(usage: Usage, decode_ms: float) -> float | None:
    """Decode speed: the tokens after the first over the time they took; None for a reply too short to tell."""
    if usage.completion_tokens < 2 or not decode_ms:
        return None
    return (usage.completion_tokens - 1) / decode_ms * 1000


def conversation_list(conversations: Sequence[Conversation], open_id: str, search: str) -> str:
    """The conversations at the side, newest first."""
    if not conversations:
        empty = (
            f"No conversation contains “{escaped(search)}”." if search else "Your conversations will be listed here."
        )
        return f'<p class="quiet">{empty}</p>'
    rows = "".join(
        f'<li><a href="/?c={conversation.id}" data-action="open" data-id="{conversation.id}" '
        f'aria-current="{str(conversation.id == open_id).lower()}">{escaped(conversation.title)}</a></li>'
        for conversation in conversations
    )
    return f'<nav aria-label="Conversations"><ul class="shelf">{rows}</ul></nav>'


def _turn_html(turn: Turn, shown: bool, last: bool, thumbs: Thumbs) -> str:
    return (
        f'<article class="turn{" shown" if shown else ""}" data-turn="{turn.id}">'
        f"{_message_html(turn.message)}{_reply_html(turn, shown, last, thumbs)}</article>"
    )


def _message_html(message: str) -> str:
    return f'<div class="message" data-testid="user">{escaped(message)}</div>'


def _reply_html(turn: Turn, shown: bool, last: bool, thumbs: Thumbs) -> str:
    ending = "" if turn.finish_reason is None else ENDINGS.get(turn.finish_reason, "")
    if turn.finish_reason is None:
        ending = "Being answered, perhaps in another tab."
    note = f'<p class="ending">{escaped(turn.error or ending)}</p>' if ending else ""
    retry = ""
    if last and turn.finish_reason in _RETRIED:
        retry = f'<button class="small" data-action="retry" data-id="{turn.id}">Retry</button>'
    look = (
        f'<button class="small" data-action="look" data-id="{turn.id}" aria-pressed="{str(shown).lower()}">'
        f"{'Its prompt is shown' if shown else 'Show its prompt'}</button>"
    )
    text = f'<div class="text">{escaped(turn.reply)}</div>' if turn.reply else ""
    buttons, form = thumbs_under(turn, thumbs)
    return (
        f'<div class="reply" data-testid="bot">{text}{note}{receipt_line(turn)}'
        f'<p class="acts">{look}{buttons}{retry}</p>{form}</div>'
    )


def _term(word: str) -> str:
    return f'<abbr title="{_MEANINGS[word]}">{word}</abbr>'
