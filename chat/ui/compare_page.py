"""The page “Compare”: one question, three prompts, the same model; what differs is only what stands in front of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from time import monotonic
from typing import Any

import gradio as gr

from chat.turn import Begun, Done
from chat.types import Conversation
from chat.ui.compare_view import PaneState, answer_html, first_states, prompt_html
from chat.ui.frame import (
    MENU_BUTTON,
    QUIETLY,
    UPDATES_A_SECOND,
    Updates,
    alert,
    brand_and_links,
    html_block,
    sampling_from,
    sampling_settings,
    telling_errors,
)
from chat.ui.owner import owner_of
from chat.ui.service import Service

NO_CONVERSATION = ("None", "")


class ComparePage:
    """Builds the page inside the current Blocks and answers its events."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self.comparison = gr.Textbox(visible="hidden", elem_id="comparison-id")
        with gr.Row(elem_id="book", elem_classes="wide"):
            with gr.Column(elem_id="side", min_width=0):
                brand_and_links("Compare")
            with gr.Column(elem_id="text", min_width=0):
                self._form()
                self._panes()
        self._wire()

    def _form(self) -> None:
        gr.HTML(MENU_BUTTON, apply_default_css=False, elem_classes="only-narrow")
        gr.HTML(
            '<h2 class="page-title">One question, three prompts</h2>'
            '<p class="quiet">Model and weights are the same in all three. Only the text before the reply differs.</p>',
            apply_default_css=False,
            elem_classes="page-head",
        )
        with gr.Row(elem_id="ask"):
            self.question = gr.Textbox(
                label="Question",
                placeholder="Which partner runs finance?",
                lines=1,
                max_lines=4,
                scale=3,
                autofocus=True,
                min_width=0,
            )
            self.conversation = gr.Dropdown([NO_CONVERSATION], value=None, label="This conversation", scale=2)
            self.ask = gr.Button("Compare", variant="primary", elem_id="compare", min_width=110)
            self.stop = gr.Button("Stop", variant="stop", visible=False, elem_id="stop", min_width=110)
        self.error = html_block(elem_id="error")
        self.settings = sampling_settings(longest=96)

    def _panes(self) -> None:
        self.answers: dict[str, gr.HTML] = {}
        self.prompts: dict[str, gr.HTML] = {}
        with gr.Row(elem_id="panes", equal_height=True):
            for name, state in first_states().items():
                with gr.Column(elem_id=f"pane-{name}", elem_classes="pane", min_width=0):
                    self.answers[name] = html_block(answer_html(state))
                    self.prompts[name] = html_block()

    def _wire(self) -> None:
        panes = [*self.answers.values(), *self.prompts.values()]
        outputs = [self.comparison, self.error, self.ask, self.stop, *panes]
        asked = [self.question, self.conversation, *self.settings]
        gr.on([self.question.submit, self.ask.click], self.compare, asked, outputs, **QUIETLY)
        self.stop.click(self.end, [self.comparison], None, **QUIETLY)

    def failed(self, sentence: str) -> Updates:
        """Tell what went wrong under the question, which stays."""
        return {self.error: alert(sentence), **self._running(False)}

    @telling_errors
    def opened(self, request: gr.Request) -> Iterator[Updates]:
        """The page was loaded: offer the conversations, the one in the address first."""
        listed = self._service.store_of(owner_of(request)).conversations()
        choices = [NO_CONVERSATION, *((conversation.title, conversation.id) for conversation in listed)]
        yield {self.conversation: gr.update(choices=choices, value=_offered_first(listed, request))}

    @telling_errors
    def compare(
        self, request: gr.Request, question: str, conversation_id: str | None, *settings: Any
    ) -> Iterator[Updates]:
        """Ask the question in all panes, and show each as it answers.

        `conversation_id` is None where somebody asked before the page was told which conversations there are.
        """
        owner, sampling = owner_of(request), sampling_from(*settings)
        if conversation_id is None:
            conversation_id = _offered_first(self._service.store_of(owner).conversations(), request)
        comparison = self._service.new_comparison(owner, question, conversation_id)
        states, shown_at = first_states(), 0.0
        changed = set(states)
        yield {self.comparison: comparison, self.error: "", **self._running(True)} | dict.fromkeys(
            self.prompts.values(), ""
        )
        events = self._service.compare(owner, comparison, question, conversation_id or None, sampling)
        with closing(events):
            for pane, event in events:
                states[pane.name] = states[pane.name].after(event)
                changed.add(pane.name)
                if isinstance(event, Begun | Done):
                    # Each is held against the fresh session's prompt, which may be the one that has just come.
                    yield {self.prompts[name]: self._prompt(states, name) for name in states}
                if monotonic() - shown_at > 1 / UPDATES_A_SECOND:
                    shown_at = monotonic()
                    yield {self.answers[name]: answer_html(states[name]) for name in changed}
                    changed.clear()
        yield self._running(False) | {self.answers[name]: answer_html(states[name]) for name in states}

    def end(self, request: gr.Request, comparison: str) -> None:
        """Stop every pane."""
        self._service.stop(owner_of(request), comparison)

    def _prompt(self, states: dict[str, PaneState], name: str) -> str:
        return prompt_html(states[name], states["fresh"].asked.prompt, self._service.model.encoder)

    def _running(self, running: bool) -> Updates:
        return {self.ask: gr.update(visible=not running), self.stop: gr.update(visible=running)}


def _offered_first(listed: Sequence[Conversation], request: gr.Request) -> str:
    """The conversation in the address, or else the one spoken in last; "" where there is none."""
    wanted = str(request.query_params.get("c", ""))
    known = [conversation.id for conversation in listed]
    return wanted if wanted in known else next(iter(known), "")
