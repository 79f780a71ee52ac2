"""The page “Compare”: one question, several prompts, the same model, or the one before our tuning."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from time import monotonic
from typing import Any

import gradio as gr

from chat.compare import ALL_PANES, PANES, Pane, PaneName
from chat.turn import Begun, Done
from chat.ui.compare.form import NO_CONVERSATION, CompareForm, chosen_panes, setting_from
from chat.ui.compare.scale import Scale, recorded
from chat.ui.compare.view import PaneState, answer_html, ended_states, first_states, prompt_html
from chat.ui.frame import (
    QUIETLY,
    UPDATES_A_SECOND,
    Updates,
    alert,
    html_block,
    telling_errors,
    text_page,
)
from chat.ui.owner import owner_of
from chat.ui.picker import choices_of, offered_first
from chat.ui.service import Service

ABOUT = (
    "Model and weights are the same, only the text before the reply differs; “without our tuning” is the one exception."
)


class ComparePage:
    """Builds the page inside the current Blocks and answers its events."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self.comparison = gr.Textbox(visible="hidden", elem_id="comparison-id")
        with text_page("Compare", "One question, several prompts", ABOUT):
            self.form = CompareForm()
            self.error = html_block(elem_id="error")
            self._panes()
            self.scale = Scale(service, self.comparison, self.error)
        self._wire()

    def _panes(self) -> None:
        self.columns: dict[PaneName, gr.Column] = {}
        self.answers: dict[PaneName, gr.HTML] = {}
        self.prompts: dict[PaneName, gr.HTML] = {}
        with gr.Row(elem_id="panes", equal_height=True):
            for name, state in first_states(ALL_PANES).items():
                with gr.Column(
                    elem_id=f"pane-{name}", elem_classes="pane", min_width=0, visible=state.pane in PANES
                ) as self.columns[name]:
                    self.answers[name] = html_block(answer_html(state))
                    self.prompts[name] = html_block()

    def _wire(self) -> None:
        form = self.form
        panes = [*self.columns.values(), *self.answers.values(), *self.prompts.values()]
        self.outputs = [self.comparison, self.error, form.ask, form.stop, *panes, *self.scale.outputs]
        asked = [form.question, *form.asked]
        self.restored = [*self.outputs, form.question, form.conversation, form.other, form.panes]
        gr.on([form.question.submit, form.ask.click], self.compare, asked, self.outputs, **QUIETLY)
        form.panes.change(self.choose, [form.panes], list(self.columns.values()), **QUIETLY)
        form.stop.click(self.end, [self.comparison], None, **QUIETLY)
        self.comparison.change(None, [self.comparison], None, js="marginalia.rememberComparison")

    def failed(self, sentence: str) -> Updates:
        """Tell what went wrong under the question, which stays."""
        return {self.error: alert(sentence), **self._running(False)}

    @telling_errors
    def opened(self, request: gr.Request) -> Iterator[Updates]:
        """The page was loaded: offer the conversations, the one in the address first; show a comparison named there."""
        store = self._service.store_of(owner_of(request))
        listed = store.conversations()
        choices = [NO_CONVERSATION, *choices_of(listed)]
        yield {
            self.form.conversation: gr.update(choices=choices, value=offered_first(listed, request)),
            self.form.other: gr.update(choices=choices),
        }
        comparison = str(request.query_params.get("k", ""))
        if comparison:
            receipts = recorded(store, comparison)
            states = ended_states(receipts)
            yield {
                self.comparison: comparison,
                self.form.question: store.conversation(comparison).title,
                **self._columns(tuple(receipts)),
                **{self.answers[name]: answer_html(state) for name, state in states.items()},
                **{self.prompts[name]: self._prompt(states, name) for name in states},
                **self.scale.weighed(owner_of(request), comparison),
            }

    def choose(self, names: list[PaneName]) -> Updates:
        """Other prompts were ticked."""
        return {column: gr.update(visible=name in names) for name, column in self.columns.items()}

    @telling_errors
    def compare(
        self, request: gr.Request, question: str, conversation: str | None, names: list[PaneName], *asked: Any
    ) -> Iterator[Updates]:
        """Ask the question in all panes, show each as it answers, and weigh an answer at the end.

        `conversation` is None where somebody asked before the page was told which conversations there are.
        """
        owner, panes = owner_of(request), chosen_panes(names)
        if conversation is None:
            conversation = offered_first(self._service.store_of(owner).conversations(), request)
        setting = setting_from(conversation, *asked)
        comparison = self._service.new_comparison(owner, question, setting.conversation)
        states = first_states(panes)
        yield {
            self.comparison: comparison,
            self.error: "",
            **self._running(True),
            **dict.fromkeys(self.prompts.values(), ""),
            **self.scale.empty(),
        }
        with closing(self._service.compare(owner, comparison, question, setting, panes)) as events:
            yield from self._follow(states, events)
        yield self._running(False) | {self.answers[name]: answer_html(states[name]) for name in states}
        yield self.scale.weighed(owner, comparison)

    def _follow(self, states: dict[PaneName, PaneState], events: Iterator[tuple[Pane, Any]]) -> Iterator[Updates]:
        changed, shown_at = set(states), 0.0
        for pane, event in events:
            states[pane.name] = states[pane.name].after(event)
            changed.add(pane.name)
            if isinstance(event, Begun | Done):
                # Each is held against the first prompt, which may be the one that has just come.
                yield {self.prompts[name]: self._prompt(states, name) for name in states}
            if monotonic() - shown_at > 1 / UPDATES_A_SECOND:
                shown_at = monotonic()
                yield {self.answers[name]: answer_html(states[name]) for name in changed}
                changed.clear()

    def end(self, request: gr.Request, comparison: str) -> None:
        """Stop every pane."""
        self._service.stop(owner_of(request), comparison)

    def _prompt(self, states: dict[PaneName, PaneState], name: PaneName) -> str:
        first = next(iter(states.values()))
        return prompt_html(states[name], first.asked.prompt, self._service.model.encoder)

    def _columns(self, panes: tuple[Pane, ...]) -> Updates:
        names = [pane.name for pane in panes]
        return self.choose(names) | {self.form.panes: names}

    def _running(self, running: bool) -> Updates:
        return {self.form.ask: gr.update(visible=not running), self.form.stop: gr.update(visible=running)}
