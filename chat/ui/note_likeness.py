"""When two notes say the same, and when they may be about the same."""

from __future__ import annotations

import re

_STEM = 5
_FILLERS = """
    a an and are as at be by called for from has have in is it its name named of on s that the this to user was
    will with
"""
_SAYS_NOTHING = frozenset(_FILLERS.split())


def gist(text: str) -> str:
    """A note's text as it is compared with another: in one case, with single blanks, without a full stop at its end."""
    return " ".join(text.casefold().split()).removesuffix(".").rstrip()


def share_a_word(one: str, other: str) -> bool:
    """Whether two notes have a word in common, by its first letters, that may say what they are about."""
    return not _telling_words(one).isdisjoint(_telling_words(other))


def _telling_words(text: str) -> set[str]:
    words = re.findall(r"[^\W_]+", text.casefold())
    return {word[:_STEM] for word in words if word not in _SAYS_NOTHING}
