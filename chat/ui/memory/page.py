"""The page “Memory”: the notes. All that this app remembers across conversations stands here, to read and change."""

from __future__ import annotations

from collections.abc import Iterator

import gradio as gr

from chat.ui.frame import QUIETLY, Updates, alert, clicked, html_block, telling_errors, text_page
from chat.ui.memory.note_desk import act_on_note, drafts_html, notes_html
from chat.ui.owner import owner_of
from chat.ui.service import Service
from chat.ui.visible import escaped

ABOUT = (
    "These lines, and nothing else, are remembered between conversations. While “Use memory” is on, those switched on "
    "are put into the prompt of every new turn, in this order. No weight changes."
)


class MemoryPage:
    """Builds the page inside the current Blocks and answers its events."""

    def __init__(self, service: Service) -> None:
        self._service = service
        with text_page("Memory", "Memory is text that is sent again", ABOUT, "reading"):
            self.error = html_block(elem_id="error")
            self.status = gr.HTML(elem_id="status", apply_default_css=False)
            self.drafts = html_block(elem_id="drafts")
            self.notes = html_block(elem_id="notes")
            with gr.Row(elem_id="say"):
                self.text = gr.Textbox(label="New note", placeholder="Dana runs finance.", lines=1, max_lines=4)
                self.add = gr.Button("Add note", variant="primary", min_width=110)
        self._wire()

    def _wire(self) -> None:
        self.outputs = [self.error, self.status, self.drafts, self.notes, self.text]
        gr.on([self.text.submit, self.add.click], self.write, [self.text], self.outputs, **QUIETLY)
        for block in (self.drafts, self.notes):
            block.click(self.act, [], self.outputs, **QUIETLY)

    def failed(self, sentence: str) -> Updates:
        """Tell what went wrong above the notes."""
        return {self.error: alert(sentence), self.status: ""}

    @telling_errors
    def opened(self, request: gr.Request) -> Iterator[Updates]:
        """The page was loaded."""
        yield self._shown(owner_of(request), "")

    @telling_errors
    def write(self, request: gr.Request, text: str) -> Iterator[Updates]:
        """Save a note written by hand."""
        owner = owner_of(request)
        self._service.store_of(owner).add_note(text)
        yield self._shown(owner, "Note saved.") | {self.text: ""}

    @telling_errors
    def act(self, event: gr.EventData, request: gr.Request) -> Iterator[Updates]:
        """A button of a note was pressed."""
        owner, asked = owner_of(request), clicked(event)
        store = self._service.store_of(owner)
        yield self._shown(owner, act_on_note(store, asked.get("action"), asked.get("id"), asked.get("text")))

    def _shown(self, owner: str, status: str) -> Updates:
        store = self._service.store_of(owner)
        return {
            self.error: "",
            self.status: escaped(status),
            self.drafts: drafts_html(store),
            self.notes: notes_html(store),
        }
