"""The section on what the model can know: a question about something later, asked without the fact and with it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from time import monotonic

import gradio as gr

from chat.errors import NotFound
from chat.turn import Done
from chat.types import Note, PromptRecord
from chat.ui.asked_view import Asked, asked_html, asked_prompt_html
from chat.ui.frame import QUIETLY, UPDATES_A_SECOND, Updates, alert, clicked, html_block, telling_errors
from chat.ui.model.cutoff_view import EXAMPLES, examples_html, fact_as_note, meaning_html, says_html
from chat.ui.owner import owner_of
from chat.ui.service import Service
from chat.weights.card import ModelCard


class CutoffSection:
    """Builds the section inside the current Blocks and answers its events. `card` tells of the model `tells_of`."""

    def __init__(self, service: Service, card: ModelCard, tells_of: str) -> None:
        self._service = service
        self.plain_turn = gr.Textbox(visible="hidden", elem_id="plain-turn")
        meaning = meaning_html(service.model.info.id, tells_of, card.markdown)
        gr.HTML(
            f'<h3 id="cutoff" tabindex="-1">What it can know</h3>{meaning}',
            apply_default_css=False,
            elem_classes="section-head",
        )
        self.examples = html_block(examples_html(), elem_id="cutoff-examples")
        self.question = gr.Textbox(EXAMPLES[0].question, label="Question about something later", max_lines=4)
        self.fact = gr.Textbox(EXAMPLES[0].fact, label="The fact", max_lines=4)
        self.error = html_block(elem_id="cutoff-error")
        with gr.Row(elem_classes="two-panes"):
            self.plainly, self.without, self.without_prompt = _pane("Ask without the fact", "without-fact")
            self.with_it, self.given, self.given_prompt = _pane("Ask with the fact", "with-fact")
        self._wire()

    def _wire(self) -> None:
        self.examples.click(self.chosen, None, [self.question, self.fact], **QUIETLY)
        self.plainly.click(
            self.ask_plainly,
            [self.question, self.fact],
            [self.plain_turn, self.error, self.without, self.without_prompt],
            **QUIETLY,
        )
        self.with_it.click(
            self.ask_with_fact,
            [self.question, self.fact, self.plain_turn],
            [self.error, self.given, self.given_prompt],
            **QUIETLY,
        )

    def failed(self, sentence: str) -> Updates:
        """Tell what went wrong under the fields, which stay."""
        return {self.error: alert(sentence)}

    def chosen(self, event: gr.EventData) -> tuple[str, str]:
        """An example was chosen: fill in its question and its fact."""
        place = str(clicked(event).get("place", ""))
        example = EXAMPLES[int(place) if place.isdecimal() and int(place) < len(EXAMPLES) else 0]
        return example.question, example.fact

    @telling_errors
    def ask_plainly(self, request: gr.Request, question: str, fact: str) -> Iterator[Updates]:
        """Ask with nothing else in the prompt."""
        yield {self.error: "", self.plain_turn: "", self.without_prompt: ""}
        for asked in self._ask(owner_of(request), question, ()):
            yield {self.without: _answer(asked, question, fact)}
            if asked.receipt:
                prompt = _prompt(asked_prompt_html(asked, None, self._service.model.encoder, ""))
                yield {self.plain_turn: asked.receipt.turn_id, self.without_prompt: prompt}

    @telling_errors
    def ask_with_fact(self, request: gr.Request, question: str, fact: str, plain_turn: str) -> Iterator[Updates]:
        """Ask with the fact in the prompt as a note; what differs from the plain prompt is marked."""
        owner, note = owner_of(request), fact_as_note(fact)
        yield {self.error: "", self.given_prompt: ""}
        for asked in self._ask(owner, question, (note,)):
            yield {self.given: _answer(asked, question, note.text)}
            if asked.receipt:
                plain, encoder = self._plain_prompt(owner, plain_turn), self._service.model.encoder
                plain_name = "the prompt without the fact" if plain else ""
                yield {self.given_prompt: _prompt(asked_prompt_html(asked, plain, encoder, plain_name))}

    def _ask(self, owner: str, question: str, facts: tuple[Note, ...]) -> Iterator[Asked]:
        """How the question goes; the last has its receipt."""
        recorded_in = self._service.new_comparison(owner, question, None)
        asked, shown_at = Asked(), 0.0
        with closing(self._service.ask_alone(owner, recorded_in, question, facts)) as events:
            for event in events:
                asked = asked.after(event)
                if isinstance(event, Done) or monotonic() - shown_at > 1 / UPDATES_A_SECOND:
                    shown_at = monotonic()
                    yield asked

    def _plain_prompt(self, owner: str, turn_id: str) -> PromptRecord | None:
        """The prompt of the plain question; None if it was not asked yet, or is somebody else's."""
        try:
            return self._service.store_of(owner).receipt(turn_id).prompt if turn_id else None
        except NotFound:
            return None


def _pane(button: str, name: str) -> tuple[gr.Button, gr.HTML, gr.HTML]:
    with gr.Column(elem_id=name, elem_classes="pane", min_width=0):
        return gr.Button(button, variant="primary"), html_block(), html_block()


def _answer(asked: Asked, question: str, fact: str) -> str:
    says = says_html(asked.reply, fact, question) if asked.receipt else ""
    return asked_html(asked) + says


def _prompt(shown: str) -> str:
    return f"<details><summary>Show its prompt</summary>{shown}</details>"
