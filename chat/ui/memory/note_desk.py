"""What a click on a note does, on whichever page it happens."""

from __future__ import annotations

from collections.abc import Sequence

from chat.errors import InputError
from chat.types import Note, Turn
from chat.ui.memory.note_view import draft_list, drafts_elsewhere, note_list
from chat.ui.store import PersonStore


def act_on_note(store: PersonStore, action: object, note_id: object, text: object) -> str:
    """Carry out one action and say in a few words what was done. `text` is what stands in the note's field."""
    identifier, words = str(note_id), text if isinstance(text, str) else ""
    match action:
        case "keep":
            store.keep_note(identifier, words)
            return "Note kept. It is used while memory is on."
        case "edit":
            store.edit_note(identifier, words)
            return "Note changed."
        case "on" | "off":
            # What stands in the field is what the person sees as the note.
            store.edit_note(identifier, words)
            store.switch_note(identifier, action == "on")
            return f"Note switched {action}."
        case "delete":
            store.delete_note(identifier)
            return "Note deleted."
        case _:
            raise InputError(f"There is no such thing to do with a note: “{str(action)[:40]}”.")


def drafts_html(store: PersonStore) -> str:
    """The drafts that wait for this person's review."""
    drafts, saved = _drafts_and_saved(store)
    return draft_list(drafts, _sources(store, drafts), saved)


def drafts_after(store: PersonStore, turns: Sequence[Turn]) -> str:
    """The drafts drawn from a conversation as far as it has gone; of all others only that they wait.

    Once the conversation goes on, what is said next matters more than a review that can be had at any time.
    """
    last = next((turn for turn in reversed(turns) if turn.reply or not turn.finish_reason), None)
    drafts, saved = _drafts_and_saved(store)
    ids = {turn.id for turn in turns}
    here = [n for n in drafts if last and n.created_at > last.created_at and not ids.isdisjoint(n.source_turn_ids)]
    return draft_list(here, _sources(store, here), saved) + drafts_elsewhere(len(drafts) - len(here))


def notes_html(store: PersonStore) -> str:
    """The notes that this person kept."""
    return note_list(kept := [note for note in store.notes() if not note.draft], _sources(store, kept))


def _drafts_and_saved(store: PersonStore) -> tuple[list[Note], dict[str, Note]]:
    notes = store.notes()
    return [note for note in notes if note.draft], {note.id: note for note in notes if not note.draft}


def _sources(store: PersonStore, notes: list[Note]) -> dict[str, str]:
    return store.messages({turn_id for note in notes for turn_id in note.source_turn_ids})
