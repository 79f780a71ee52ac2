"""Notes as HTML: the ones in use, the drafts that wait for review. Pure functions."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from chat.types import Note
from chat.ui.visible import escaped, shortened


def draft_list(drafts: Sequence[Note], sources: Mapping[str, str], saved: Mapping[str, Note]) -> str:
    """Drafts to keep, change or drop.

    `sources` gives each source turn's message by its id, `saved` the notes that may be replaced by theirs.
    """
    if not drafts:
        return ""
    rows = "".join(_draft_html(note, sources, saved) for note in drafts)
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
    saved = {note.id: note for note in notes}
    outdated = {note.replaces for note in notes}
    rows = "".join(_note_html(note, sources, saved, outdated) for note in notes)
    return f'<h2>Saved notes</h2><ul class="notes" aria-label="Notes">{rows}</ul>'


def _draft_html(note: Note, sources: Mapping[str, str], saved: Mapping[str, Note]) -> str:
    old = saved.get(note.replaces or "")
    replaces = old and f"Replaces “{old.text}”, which {'will be' if old.enabled else 'is'} switched off."
    return (
        f'<li class="note-form" data-form>{_text_area(note, "Draft", replaces or "")}{_provenance(note, sources)}'
        f'<p class="acts">{_button("keep", note, "Keep")}{_button("delete", note, "Drop")}</p></li>'
    )


def _note_html(
    note: Note, sources: Mapping[str, str], saved: Mapping[str, Note], outdated: Collection[str | None]
) -> str:
    switch = _button("off", note, "Switch off") if note.enabled else _button("on", note, "Switch on")
    old = saved.get(note.replaces or "")
    replaced = old and f'<p class="quiet">Replaced “{escaped(shortened(old.text, 120))}”.</p>'
    return (
        f'<li class="note-form{"" if note.enabled else " off"}" data-form>'
        f"{_text_area(note, 'Note', _why_off(note, outdated))}{replaced or ''}{_provenance(note, sources)}"
        f'<div class="acts">{_button("edit", note, "Save change")}{switch}'
        '<details class="sure"><summary class="small">Delete</summary><p>Delete this note? This cannot be undone. '
        f"{_button('delete', note, 'Delete for good')}</p></details></div></li>"
    )


def _why_off(note: Note, outdated: Collection[str | None]) -> str:
    if note.enabled:
        return ""
    return f"Switched off: {'replaced by a newer note' if note.id in outdated else 'not put into any prompt'}."


def _text_area(note: Note, name: str, remark: str) -> str:
    """The note's text to edit. A remark stands under it, and is read out with it."""
    area = f'<textarea rows="2" maxlength="500" aria-label="{name}"'
    if not remark:
        return f"{area}>{escaped(note.text)}</textarea>"
    described = f'{area} aria-describedby="remark-{note.id}">{escaped(note.text)}</textarea>'
    return f'{described}<p class="quiet" id="remark-{note.id}">{escaped(remark)}</p>'


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
