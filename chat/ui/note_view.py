"""Notes as HTML: the ones in use, the drafts that wait for review. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from chat.types import Note
from chat.ui.visible import escaped, shortened


def draft_list(drafts: Sequence[Note], sources: Mapping[str, str]) -> str:
    """Drafts to keep, change or drop. `sources` gives each source turn's message by its id."""
    if not drafts:
        return ""
    rows = "".join(_draft_html(note, sources) for note in drafts)
    return (
        '<section class="drafts" aria-label="Drafts"><h2>Review before saving</h2>'
        '<p class="quiet">The model wrote these from your conversation. It can be wrong: change what is not right, '
        f"keep what is worth keeping. Nothing is used before you keep it.</p><ul>{rows}</ul></section>"
    )


def drafts_elsewhere(count: int) -> str:
    """One line about drafts that are not shown here."""
    if not count:
        return ""
    wait = "1 draft of a note waits" if count == 1 else f"{count:,} drafts of notes wait"
    return f'<p class="hint">{wait} for your review under <a href="/memory">Memory</a>.</p>'


def note_list(notes: Sequence[Note], sources: Mapping[str, str]) -> str:
    """The kept notes, in the order in which they stand in the prompt."""
    if not notes:
        return (
            '<p class="quiet">No notes yet. Write one below, or have a conversation and press “Save to memory”. '
            "While “Use memory” is on, every note that is switched on is put into the prompt of each new turn.</p>"
        )
    rows = "".join(_note_html(note, sources) for note in notes)
    return f'<h2>Saved notes</h2><ul class="notes" aria-label="Notes">{rows}</ul>'


def _draft_html(note: Note, sources: Mapping[str, str]) -> str:
    return (
        f'<li class="note-form" data-form>{_text_area(note, "Draft")}{_provenance(note, sources)}<p class="acts">'
        f"{_button('keep', note, 'Keep')}{_button('delete', note, 'Drop')}</p></li>"
    )


def _note_html(note: Note, sources: Mapping[str, str]) -> str:
    switch = _button("off", note, "Switch off") if note.enabled else _button("on", note, "Switch on")
    state = "" if note.enabled else '<p class="quiet">Switched off: not put into any prompt.</p>'
    return (
        f'<li class="note-form{"" if note.enabled else " off"}" data-form>{_text_area(note, "Note")}{state}'
        f'{_provenance(note, sources)}<p class="acts">{_button("edit", note, "Save change")}{switch}'
        f"{_button('delete', note, 'Delete')}</p></li>"
    )


def _text_area(note: Note, name: str) -> str:
    return f'<textarea rows="2" maxlength="500" aria-label="{name}">{escaped(note.text)}</textarea>'


def _button(action: str, note: Note, label: str) -> str:
    return f'<button class="small" data-action="{action}" data-id="{note.id}">{label}</button>'


def _provenance(note: Note, sources: Mapping[str, str]) -> str:
    if note.origin == "hand":
        return '<p class="quiet">Written by hand.</p>'
    known = [sources[turn_id] for turn_id in note.source_turn_ids if turn_id in sources]
    if not known:
        return '<p class="quiet">Written by the model, from a conversation that was deleted.</p>'
    quotes = "".join(f"<li>{escaped(shortened(message, 120))}</li>" for message in known)
    turns = f"{len(known)} turn{'' if len(known) == 1 else 's'}"
    return f"<details><summary>Written by the model, from {turns}</summary><ul>{quotes}</ul></details>"
