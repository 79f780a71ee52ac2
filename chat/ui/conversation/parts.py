"""The page “Chat” as components: what stands where. What they do is in `chat_page.py`."""

from __future__ import annotations

import gradio as gr

from chat.types import ModelInfo
from chat.ui.conversation.story import welcome
from chat.ui.frame import MENU_BUTTON, brand_and_links, html_block, sampling_settings
from chat.ui.prompt_view import VIEWS, empty_panel
from chat.ui.service import usual_length
from chat.ui.visible import escaped


def model_line(model: ModelInfo, used: int = 0) -> str:
    """Which model answers, and how much of its context window the last turn took."""
    window = f"{used:,} of {model.context_window:,} tokens" if used else f"{model.context_window:,} tokens fit"
    meaning = "The context window: all that the model can have before it at once, prompt and reply together."
    return f'<b title="It runs on this computer">{escaped(model.id)}</b><br><span title="{meaning}">{window}</span>'


class ChatParts:
    """The page's components, made inside the current Blocks: the side, the text, the margin."""

    def __init__(self, model: ModelInfo) -> None:
        # Held by the browser and checked in the database each time; nothing but ids.
        self.conversation = gr.Textbox(visible="hidden", elem_id="conversation-id")
        self.shown_turn = gr.Textbox(visible="hidden", elem_id="shown-turn-id")
        with gr.Row(elem_id="book"):
            with gr.Column(elem_id="side", min_width=0):
                self._side()
            with gr.Column(elem_id="text", min_width=0):
                self._head(model)
                self._text()
                self._composer(model)
            with gr.Column(elem_id="margin", min_width=0):
                self._margin()

    def _side(self) -> None:
        brand_and_links("Chat")
        self.new_chat = gr.Button("New chat", elem_id="new-chat")
        self.search = gr.Textbox(
            label="Search conversations", placeholder="Search conversations", show_label=False, max_lines=1
        )
        self.shelf = html_block(elem_id="shelf")

    def _head(self, model: ModelInfo) -> None:
        with gr.Row(elem_id="head"):
            gr.HTML(MENU_BUTTON, apply_default_css=False, elem_classes="only-narrow")
            self.model_name = html_block(model_line(model), elem_id="model-name")
            self.use_memory = gr.Checkbox(True, label="Use memory", elem_id="use-memory", container=False)
            self.show_prompt = gr.Checkbox(True, label="Show exact prompt", elem_id="show-prompt", container=False)

    def _text(self) -> None:
        with gr.Row(elem_id="title-row"):
            self.title = html_block(elem_id="title")
            self.rename = gr.Button("Rename", size="sm", elem_classes="small", visible=False)
            self.delete = gr.Button("Delete", size="sm", elem_classes="small", visible=False)
            self.remember = gr.Button("Save to memory", size="sm", elem_classes="small", visible=False)
        with gr.Row(visible=False, elem_classes="ask") as self.rename_row:
            self.title_field = gr.Textbox(label="Title", max_lines=1, max_length=120, elem_id="title-field")
            self.save_title = gr.Button("Save title", size="sm", elem_classes="small")
            self.keep_title = gr.Button("Cancel", size="sm", elem_classes="small")
        with gr.Row(visible=False, elem_classes="ask") as self.delete_row:
            self.delete_question = html_block()
            self.confirm_delete = gr.Button("Delete for good", size="sm", variant="stop", elem_classes="small")
            self.keep = gr.Button("Keep", size="sm", elem_classes="small")
        with gr.Column(elem_id="log", min_width=0):
            self.log = html_block(welcome(), elem_id="turns")
            self.live = html_block(elem_id="live")
            self.hint = html_block(elem_id="hint")
            self.drafts = html_block(elem_id="drafts")

    def _composer(self, model: ModelInfo) -> None:
        with gr.Column(elem_id="composer", min_width=0):
            self.error = html_block(elem_id="error")
            self.status = gr.HTML(elem_id="status", apply_default_css=False)
            with gr.Row(elem_id="say"):
                self.message = gr.Textbox(
                    label="Message",
                    placeholder="Message",
                    show_label=False,
                    lines=1,
                    max_lines=8,
                    autofocus=True,
                    min_width=0,
                    elem_id="message",
                )
                self.send = gr.Button("Send", variant="primary", elem_id="send")
                self.stop = gr.Button("Stop", variant="stop", visible=False, elem_id="stop")
            self.settings = sampling_settings(usual_length(model, 256))

    def _margin(self) -> None:
        gr.HTML(
            '<h2 id="exact-prompt">Exact prompt</h2>'
            '<button class="small only-narrow" data-untick="show-prompt">Back to the chat</button>',
            apply_default_css=False,
            elem_classes="margin-head",
        )
        self.view = gr.Radio(list(VIEWS), value=VIEWS[0], label="View", show_label=False, elem_id="view")
        self.panel = html_block(empty_panel(), elem_id="panel")

    def outputs(self) -> list[gr.components.Component]:
        """Everything that a handler may change."""
        side_and_head = [self.conversation, self.shown_turn, self.shelf, self.model_name]
        title = [self.title, self.title_field, self.rename, self.delete, self.remember]
        asked = [self.rename_row, self.delete_row, self.delete_question]
        log = [self.log, self.live, self.hint, self.drafts]
        composer = [self.error, self.status, self.message, self.send, self.stop]
        return [*side_and_head, *title, *asked, *log, *composer, self.panel, self.show_prompt]
