"""What a click on a thumb or in its form does, on whichever page it happens, and what it leaves alone: the weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from chat.errors import InputError
from chat.preferences import Judged
from chat.types import WeightsCheck
from chat.ui.store import PersonStore
from chat.weights.seal import WeightsSeal


def act_on_feedback(store: PersonStore, seal: WeightsSeal, asked: Mapping[str, Any]) -> tuple[str, WeightsCheck]:
    """Carry out one action between two fingerprints; what was done in a few words, and what they say."""
    action, turn_id = asked.get("action"), str(asked.get("id"))
    match action:
        case "good":
            return "Good reply: kept.", _under_seal(seal, lambda: store.give_feedback(turn_id, "up"))
        case "bad":
            return "Bad reply: kept.", _under_seal(seal, lambda: store.give_feedback(turn_id, "down"))
        case "comment":
            comment, better = _text(asked.get("comment")) or "", _text(asked.get("better"))
            return "Your words are kept.", _under_seal(seal, lambda: store.change_feedback(turn_id, comment, better))
        case "withdraw":
            return "Withdrawn: nothing of it is kept.", _under_seal(seal, lambda: store.withdraw_feedback(turn_id))
        case _:
            raise InputError(f"There is no such thing to do with a reply: “{str(action)[:40]}”.")


def judged_replies(store: PersonStore) -> tuple[Judged, ...]:
    """All that this person judged, newest first, each with its receipt."""
    return tuple(Judged(given, store.receipt(given.turn_id)) for given in store.feedback())


def _under_seal(seal: WeightsSeal, act: Callable[[], object]) -> WeightsCheck:
    known = seal.latest
    before = seal.check(since=known)
    act()
    after = seal.check(since=known)
    # Whoever takes a fingerprint must tell what moved since the last: the next receipt begins with this one.
    return after if before.before == before.after else before


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
