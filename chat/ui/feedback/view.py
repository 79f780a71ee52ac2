"""Feedback as HTML: the thumbs under a reply, the form that they open, the list. Pure functions."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from chat.preferences import Judged, Pair
from chat.types import MAX_BETTER_REPLY_CHARACTERS, MAX_COMMENT_CHARACTERS, Feedback, Turn, WeightsCheck
from chat.ui.visible import escaped, short_digest

THUMBS = (("up", "good", "Good reply"), ("down", "bad", "Bad reply"))
NAMES = {verdict: name for verdict, _, name in THUMBS}
_MISSING = {
    "up": "Needs its other side: a reply to the same prompt that you call bad.",
    "down": "Needs its other side: what it should have said, or a reply to the same prompt that you call good.",
}


@dataclass(frozen=True)
class Thumbs:
    """What was said of the replies of a conversation, by turn id, and which of the forms is open.

    `seal` is the check of the weights around the last click.
    """

    given: Mapping[str, Feedback] = field(default_factory=dict)
    open_turn_id: str = ""
    seal: WeightsCheck | None = None


NO_THUMBS = Thumbs()


def thumb_buttons(turn_id: str, given: Feedback | None) -> str:
    """The two buttons; the one that was pressed says so."""
    return "".join(
        f'<button class="small thumb" data-action="{action}" data-id="{turn_id}" '
        f'aria-pressed="{str(given is not None and given.verdict == verdict).lower()}">{name}</button>'
        for verdict, action, name in THUMBS
    )


def thumbs_under(turn: Turn, thumbs: Thumbs) -> tuple[str, str]:
    """The buttons under a turn's reply, and the form below them; empty for a reply that cannot be judged."""
    if not turn.reply or turn.weights is None:
        return "", ""
    given = thumbs.given.get(turn.id)
    form = ""
    if given and turn.id == thumbs.open_turn_id:
        close = f'<button class="small" data-action="close" data-id="{turn.id}">Close</button>'
        form = thumb_form(given, "" if thumbs.seal is None else nothing_learned(thumbs.seal), close)
    return thumb_buttons(turn.id, given), form


def thumb_form(given: Feedback, line: str = "", more_buttons: str = "") -> str:
    """The words beside a verdict, to write, change or withdraw. `line` tells what the click did to the weights."""
    identifier, better = given.turn_id, ""
    comment = _words("comment", "Comment", given.comment, identifier, MAX_COMMENT_CHARACTERS)
    if given.verdict == "down":
        better = _words("better", "What should it have said?", given.better, identifier, MAX_BETTER_REPLY_CHARACTERS)
    return (
        f'<div class="thumb-form" data-form>{comment}{better}'
        f'<p class="acts"><button class="small" data-action="comment" data-id="{identifier}">Save</button>'
        f'<button class="small" data-action="withdraw" data-id="{identifier}">Withdraw</button>{more_buttons}</p>'
        f"{line}</div>"
    )


def nothing_learned(seal: WeightsCheck) -> str:
    """What a click on a thumb did to the weights; empty if they moved, which `weights_moved` tells."""
    if seal.before != seal.after:
        return ""
    return (
        f'<p class="learned quiet">Kept as text. Nothing was learned: fingerprint {_digest(seal.after)}, '
        "the same as before your click.</p>"
    )


def weights_moved(seal: WeightsCheck) -> str:
    """The alarm about weights that moved while somebody judged a reply; empty if none did."""
    return "" if seal.before == seal.after else _alarm("before your click", seal.before, seal.after)


def nobody_trains(at_start: str, now: str) -> str:
    """What a thumb is for, with the fingerprint since the start."""
    if now != at_start:
        return _alarm("when Marginalia started", at_start, now)
    return (
        '<p class="quiet">A thumb is data that somebody may train on one day. Here nobody does: fingerprint '
        f"{_digest(now)}, the same since Marginalia started.</p>"
    )


def pairs_line(judged: Sequence[Judged], pairs: Sequence[Pair]) -> str:
    """How many pairs there are, and how many replies are in none."""
    if not judged:
        return ""
    alone = len(judged) - len(paired(judged, pairs))
    needs = f" {alone:,} of them {'needs its' if alone == 1 else 'need their'} other side." if alone else ""
    return (
        f"<p><b>{len(pairs):,} preference pair{'' if len(pairs) == 1 else 's'}</b> "
        f"from {len(judged):,} judged repl{'y' if len(judged) == 1 else 'ies'}.{needs}</p>"
        '<p class="quiet">A pair is one prompt with a better reply and a worse one, the shape that preference training '
        "takes: prompt, chosen, rejected.</p>"
    )


def feedback_list(judged: Sequence[Judged], pairs: Sequence[Pair], seal: WeightsCheck | None, acted_on: str) -> str:
    """All that was judged, newest first. `seal` is the check around a click, `acted_on` the turn that it was about."""
    if not judged:
        return (
            '<p class="quiet">Nothing yet. Under each reply of a <a href="/">chat</a> are the buttons “Good reply” '
            "and “Bad reply”; what you say there is listed here.</p>"
        )
    in_pairs = paired(judged, pairs)
    rows = "".join(
        _row(each, each.feedback.turn_id in in_pairs, seal if each.feedback.turn_id == acted_on else None)
        for each in judged
    )
    return f'<ul class="judged" aria-label="Feedback">{rows}</ul>'


def paired(judged: Sequence[Judged], pairs: Sequence[Pair]) -> Collection[str]:
    """The ids of the judged turns that are a side of a pair."""
    sides = {turn_id for pair in pairs for turn_id in pair.turn_ids}
    return sides & {each.feedback.turn_id for each in judged}


def _row(judged: Judged, in_pair: bool, seal: WeightsCheck | None) -> str:
    given, conversation_id = judged.feedback, judged.receipt.conversation_id
    state = "In the export." if in_pair else _MISSING[given.verdict]
    return (
        f'<li class="turn"><div class="message">{escaped(judged.message)}</div>'
        f'<div class="reply"><div class="text">{escaped(judged.reply)}</div>'
        f'<p class="acts">{thumb_buttons(given.turn_id, given)}</p></div>'
        f"{thumb_form(given, '' if seal is None else nothing_learned(seal))}"
        f'<p class="quiet">{state} <a href="/?c={conversation_id}">Open its conversation</a></p></li>'
    )


def _words(name: str, label: str, text: str, turn_id: str, most: int) -> str:
    identifier = f"{name}-{turn_id}"
    return (
        f'<label for="{identifier}">{label}</label><textarea rows="2" maxlength="{most}" id="{identifier}" '
        f'name="{name}" data-unsaved>\n{escaped(text)}</textarea>'
    )


def _alarm(when: str, then: str, now: str) -> str:
    return (
        f'<p class="alert" role="alert">The weights are not what they were {when}: fingerprint <code>{then}</code> '
        f"then, <code>{now}</code> now. Nothing here should ever do that: restart Marginalia, and report it.</p>"
    )


def _digest(digest: str) -> str:
    return f'<code title="SHA-256 {digest}">{short_digest(digest)}</code>'
