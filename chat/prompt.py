"""What goes into the prompt, where each piece came from, and what had to stay out.

Pure: no tokenizer, no database. How long a prompt is in tokens is told by the `Budget` that the caller brings.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from chat.errors import InputError, PromptTooLong
from chat.types import MAX_MESSAGE_CHARACTERS, Dropped, Note, PastTurn, Piece, Prompt, PromptMessage

SYSTEM_TEXT = "You are a helpful assistant."
NOTES_HEADING = "\n\nNotes saved from earlier conversations:"

YOUR_MESSAGE = "your message"
EARLIER_MESSAGE, EARLIER_REPLY = "earlier message", "earlier reply"
NO_ROOM = "did not fit the context window"
NO_REPLY = "has no reply to show the model"


@dataclass(frozen=True)
class Budget:
    """How many tokens the prompt may take, and how to measure a prompt and a text in tokens."""

    tokens: int
    measure: Callable[[Prompt], int]
    measure_text: Callable[[str], int]


def checked_message(value: object) -> str:
    """A person's message, fit to be stored and tokenized.

    NUL and lone surrogates, which neither UTF-8 nor every database can hold, become U+FFFD, as CommonMark 0.31
    section 2.3 has it. Raises InputError if it is no text, blank, or beyond MAX_MESSAGE_CHARACTERS.
    """
    if not isinstance(value, str):
        raise InputError(f"A message must be text, not {type(value).__name__}.")
    if len(value) > MAX_MESSAGE_CHARACTERS:
        raise InputError(
            f"This message has {len(value):,} characters; the most is {MAX_MESSAGE_CHARACTERS:,}. Send it in parts."
        )
    if not value.strip():
        raise InputError("The message is empty. Write something first.")
    whole = value.replace("\x00", "\ufffd")
    return whole.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def assemble_prompt(
    system: str,
    notes: Sequence[Note],
    history: Sequence[PastTurn],
    message: str,
    budget: Budget,
    label: str = YOUR_MESSAGE,
) -> Prompt:
    """Put the prompt together so that it fits the budget. `label` says what the message is.

    Whole oldest turns leave first, then whole oldest notes; each goes into the ledger with its reason and size.
    A turn that was never answered cannot be shown as an exchange and goes into the ledger too.
    Raises PromptTooLong if the message does not fit with nothing else beside it.
    """
    answered = [turn for turn in history if turn.reply]
    droppable = len(answered) + len(notes)

    def without_oldest(count: int) -> Prompt:
        turns = answered[count:]
        kept_notes = notes[max(0, count - len(answered)) :]
        return Prompt((_system_message(system, kept_notes), *_exchanges(turns), _user_message(message, label)))

    def fits(count: int) -> bool:
        return budget.measure(without_oldest(count)) <= budget.tokens

    # Measured first and once: to measure a message of a million characters takes seconds.
    needed = budget.measure(without_oldest(droppable))
    if needed > budget.tokens:
        raise PromptTooLong(needed, budget.tokens)
    dropped_count = 0 if fits(0) else bisect_left(range(droppable), True, key=fits)
    unanswered = [_dropped_turn(turn, NO_REPLY, budget) for turn in history if not turn.reply]
    left_turns = [_dropped_turn(turn, NO_ROOM, budget) for turn in answered[:dropped_count]]
    left_notes = [_dropped_note(note, budget) for note in notes[: max(0, dropped_count - len(answered))]]
    return Prompt(without_oldest(dropped_count).messages, (*unanswered, *left_turns, *left_notes))


def _system_message(system: str, notes: Sequence[Note]) -> PromptMessage:
    pieces = [Piece("system", "system prompt", system)]
    if notes:
        pieces.append(Piece("note", "heading of the notes", NOTES_HEADING))
    pieces += [
        Piece("note", f"note {place}", f"\n- {note.text}", note_id=note.id) for place, note in enumerate(notes, 1)
    ]
    return PromptMessage("system", tuple(pieces))


def _exchanges(turns: Sequence[PastTurn]) -> list[PromptMessage]:
    exchanges = []
    for turn in turns:
        said = Piece("history", EARLIER_MESSAGE, turn.message, source_turn_id=turn.id)
        replied = Piece("history", EARLIER_REPLY, turn.reply, source_turn_id=turn.id)
        exchanges += [PromptMessage("user", (said,)), PromptMessage("assistant", (replied,))]
    return exchanges


def _user_message(message: str, label: str) -> PromptMessage:
    return PromptMessage("user", (Piece("message", label, message),))


def _dropped_turn(turn: PastTurn, reason: str, budget: Budget) -> Dropped:
    tokens = budget.measure_text(turn.message) + budget.measure_text(turn.reply)
    return Dropped(turn.id, None, tokens, reason)


def _dropped_note(note: Note, budget: Budget) -> Dropped:
    return Dropped(None, note.id, budget.measure_text(note.text), NO_ROOM)
