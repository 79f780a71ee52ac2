"""How notes are asked for, written and read back: a contract between the app and whoever knows the format."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

EXCHANGES_READ_FOR_NOTES = 2
"""Notes are written on one exchange at a time; the one before it is read too, for what “that” or “No, 14” is about."""


@dataclass(frozen=True)
class WrittenNote:
    """A line that a model wrote for the shelf; `replaces` is the text of the saved note that it makes outdated."""

    text: str
    replaces: str | None = None


@dataclass(frozen=True)
class NoteWriting:
    """The request sent after a conversation, how a reply to it is read, and how one is written."""

    request: str
    notes_in: Callable[[str], tuple[WrittenNote, ...]]
    written: Callable[[tuple[WrittenNote, ...]], str]
