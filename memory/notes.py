"""How notes are asked for, read out of a reply, and checked. Pure functions; the shelf is in `memory.note_shelf`."""

from __future__ import annotations

import re

from chat.errors import InputError

MAX_NOTE_CHARACTERS = 500
MAX_NOTES_IN_A_REPLY = 12

NOTES_REQUEST = """\
Write down what is worth remembering from the conversation above, as notes for a later conversation.
Rules:
- One note per line. Each line begins with "- ".
- Each note is one short sentence in the third person ("The user ...") that makes sense on its own.
- Where something was corrected, write only the corrected fact.
- Write only what was said. Invent nothing and guess nothing.
- Leave out greetings, thanks and small talk.
- If nothing is worth remembering, write the single line "- none".
Write the notes and nothing else."""
"""The message that is sent after a conversation to have notes written. `- none` is the answer for no notes."""

_BULLET = re.compile(r"(?:(?:[-*+•·‣–—]|\d{1,2}[.)])(?:\s+|$))+")
_NONE = re.compile(r"(?:none|nothing|no notes|n/a)[.!]?", re.IGNORECASE)


def checked_note(text: str) -> str:
    """A note's text on one line. Raises InputError, with the size, if it is blank or too long."""
    line = _on_one_line(text)
    if not line:
        raise InputError("A note cannot be blank. Write what is worth remembering, or delete the note.")
    if len(line) > MAX_NOTE_CHARACTERS:
        raise InputError(
            f"A note has at most {MAX_NOTE_CHARACTERS} characters and this one {len(line):,}. "
            "Shorten it, or make two notes of it."
        )
    return line


def notes_in(reply: str) -> tuple[str, ...]:
    """The notes that a model wrote, in its order, without bullets, numbers, doubles or an answer of “none”.

    Where any line has a bullet, lines without one are talk around the notes and left out. At most
    MAX_NOTES_IN_A_REPLY are taken; one that is too long is cut at a word and ends with “…”.
    """
    lines = [line.strip() for line in reply.splitlines()]
    bulleted = [line for line in lines if _BULLET.match(line)]
    found: dict[str, str] = {}
    for line in bulleted or lines:
        note = _BULLET.sub("", line, count=1).strip() if _BULLET.match(line) else line
        if note and not _NONE.fullmatch(note):
            found.setdefault(note.casefold(), _cut(note))
    return tuple(found.values())[:MAX_NOTES_IN_A_REPLY]


def _on_one_line(text: str) -> str:
    return " ".join(line.strip() for line in text.splitlines() if line.strip())


def _cut(note: str) -> str:
    if len(note) <= MAX_NOTE_CHARACTERS:
        return note
    room = note[: MAX_NOTE_CHARACTERS - 1]
    return (room.rpartition(" ")[0] or room) + "…"
