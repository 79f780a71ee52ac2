"""How notes are asked for, read out of a reply, and checked. Pure functions; the shelf is in `memory.note_shelf`."""

from __future__ import annotations

import re
from collections.abc import Sequence

from chat.errors import InputError
from chat.note_writing import NoteWriting, WrittenNote

MAX_NOTE_CHARACTERS = 500
MAX_NOTES_IN_A_REPLY = 12

NOTES_REQUEST = """\
Write notes on the conversation above, for a later one.
- One fact a line: "- " and one short sentence in the third person ("The user ...") that makes sense on its own.
- Where something was corrected, write only the corrected fact.
- Write only what the user said. Leave out small talk, guesses, and what the saved notes say already.
- If a fact makes a saved note outdated, end its line with [replaces: that note, word for word].
- If there is nothing to write, write "- none".
Write the notes and nothing else."""
"""The message that is sent after a conversation to have notes written. `- none` is the answer for no notes."""

_BULLET = re.compile(r"(?:(?:[-*+•·‣–—]|\d{1,2}[.)])(?:\s+|$))+")
_REPLACES = re.compile(r"\s*\[replaces:\s*(?P<old>.+)\]\.?$", re.IGNORECASE)
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


def notes_in(reply: str) -> tuple[WrittenNote, ...]:
    """The notes that a model wrote, in its order, without bullets, numbers, doubles or an answer of “none”.

    Where any line has a bullet, lines without one are talk around the notes and left out. At most
    MAX_NOTES_IN_A_REPLY are taken; one that is too long is cut at a word and ends with “…”.
    """
    lines = [line.strip() for line in reply.splitlines()]
    bulleted = [line for line in lines if _BULLET.match(line)]
    found: dict[str, WrittenNote] = {}
    for line in bulleted or lines:
        note = _note_on(_BULLET.sub("", line, count=1).strip() if _BULLET.match(line) else line)
        if note.text and not _NONE.fullmatch(note.text):
            found.setdefault(note.text.casefold(), note)
    return tuple(found.values())[:MAX_NOTES_IN_A_REPLY]


def written(notes: Sequence[WrittenNote]) -> str:
    """The reply that `notes_in` reads as these notes."""
    if not notes:
        return "- none"
    return "\n".join(f"- {note.text}" + (f" [replaces: {note.replaces}]" if note.replaces else "") for note in notes)


def _note_on(line: str) -> WrittenNote:
    replaces = _REPLACES.search(line)
    if replaces is None:
        return WrittenNote(_cut(line))
    return WrittenNote(_cut(line[: replaces.start()]), _cut(replaces["old"].strip()) or None)


def _on_one_line(text: str) -> str:
    return " ".join(line.strip() for line in text.splitlines() if line.strip())


def _cut(note: str) -> str:
    if len(note) <= MAX_NOTE_CHARACTERS:
        return note
    room = note[: MAX_NOTE_CHARACTERS - 1]
    return (room.rpartition(" ")[0] or room) + "…"


NOTE_WRITING = NoteWriting(NOTES_REQUEST, notes_in, written)
"""How this app has notes written; also what the default model was tuned on."""
