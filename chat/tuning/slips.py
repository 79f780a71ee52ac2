"""Typing as people type: lower case, no full stop, a slip in a word. Values and names stay as they are."""

from __future__ import annotations

import re
from collections.abc import Sequence
from random import Random

_LONG_WORD = re.compile(r"[A-Za-z]{5,}")


def hurried(text: str, kept: Sequence[str], rng: Random) -> str:
    """The text as somebody in a hurry types it; each of `kept` is spared."""
    slip = rng.choice((_lower, _without_full_stop, _with_a_slip, _with_a_slip))
    return slip(text, kept, rng)


def _lower(text: str, kept: Sequence[str], _rng: Random) -> str:
    spared = _spans(text, kept)
    return "".join(
        letter if any(start <= place < end for start, end in spared) else letter.lower()
        for place, letter in enumerate(text)
    )


def _without_full_stop(text: str, _kept: Sequence[str], _rng: Random) -> str:
    return text.rstrip(".?!") or text


def _with_a_slip(text: str, kept: Sequence[str], rng: Random) -> str:
    spared = _spans(text, kept)
    words = [
        word
        for word in _LONG_WORD.finditer(text)
        if not any(start < word.end() and word.start() < end for start, end in spared)
    ]
    if not words:
        return text
    word = rng.choice(words)
    place = word.start() + rng.randrange(1, len(word[0]) - 1)
    changed = rng.choice((text[place + 1] + text[place], text[place + 1], text[place] + text[place] + text[place + 1]))
    return text[:place] + changed + text[place + 2 :]


def _spans(text: str, kept: Sequence[str]) -> list[tuple[int, int]]:
    return [found.span() for part in kept if part for found in re.finditer(re.escape(part), text, flags=re.IGNORECASE)]
