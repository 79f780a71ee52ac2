"""The tab “Next word”: the reply as a row of choices, and the same prompt asked again with other seeds."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace

import gradio as gr

from chat.errors import InputError
from chat.replay import Reply, ask_again
from chat.types import MAX_SEED, Sampling
from chat.ui.frame import QUIETLY, Updates, alert, clicked, html_block, telling_errors
from chat.ui.glass.look import Look, look_at
from chat.ui.glass.next_word_view import choice_html, lowest, replies_html, reply_html
from chat.ui.glass.picks import Picks
from chat.ui.owner import owner_of
from chat.ui.service import Service

FEWEST, MOST = 2, 7
LONGEST_AGAIN = 96


class NextWordTab:
    """Built inside the current tab. `picks` say which turn is looked at; `error` tells what went wrong."""

    def __init__(self, service: Service, picks: Picks, error: gr.HTML) -> None:
        self._service = service
        self._picks = picks
        self._error = error
        gr.HTML(
            '<p class="quiet">The model gives every token of its vocabulary a probability, one is chosen, and it reads '
            "on from there. Marked tokens were less sure. Choose one to see what else stood to choose from.</p>",
            apply_default_css=False,
        )
        self.reply = html_block(elem_id="reply-tokens")
        self.choice = html_block(elem_id="choice")
        gr.HTML(
            '<h3>Ask again</h3><p class="quiet">The very same prompt, once for each seed, and the first seed once '
            "more. Nothing is stored.</p>",
            apply_default_css=False,
        )
        with gr.Row(elem_classes="tools"):
            self.count = gr.Number(3, label="How many seeds", precision=0, minimum=FEWEST, maximum=MOST)
            self.temperature = gr.Number(0.8, label="Temperature", step=0.1)
            self.ask = gr.Button("Ask again", elem_id="ask-again")
        self.replies = html_block(elem_id="replies")
        self.outputs = [self.reply, self.choice, self.replies]
        self.reply.click(self.weigh, [picks.turn], [self.reply, self.choice, error], **QUIETLY)
        again = [self.replies, self.ask, *picks.outputs, error]
        self.ask.click(self.ask_again, [picks.turn, self.count, self.temperature], again, **QUIETLY)

    def failed(self, sentence: str) -> Updates:
        """Tell what went wrong above the tabs."""
        return {self._error: alert(sentence), **self._asking(False)}

    def shown(self, look: Look) -> Updates:
        """All of the tab, for another turn: it begins at the token that the model was least sure of."""
        return self._at(look, lowest(look.receipt.completion.choices)) | {self.replies: ""}

    @telling_errors
    def weigh(self, event: gr.EventData, request: gr.Request, turn_id: str) -> Iterator[Updates]:
        """A token of the reply was chosen."""
        look = look_at(self._service.store_of(owner_of(request)), turn_id)
        place = str(clicked(event).get("id", ""))
        if place.isdecimal():
            yield self._at(look, int(place)) | {self._error: ""}

    @telling_errors
    def ask_again(self, request: gr.Request, turn_id: str, count: object, temperature: object) -> Iterator[Updates]:
        """Send the prompt again with other seeds, side by side."""
        owner, stop = owner_of(request), threading.Event()
        receipt = look_at(self._service.store_of(owner), turn_id).receipt
        samplings = _seeds(receipt.sampling, count, temperature)
        replies: dict[int, Reply] = {}
        decode = self._service.model.encoder.decode
        yield {self.replies: replies_html(samplings, replies, decode), **self._asking(True)}
        try:
            for place, reply in ask_again(receipt, self._service.model, samplings, stop, owner):
                replies[place] = reply
                yield {self.replies: replies_html(samplings, replies, decode)}
        finally:
            stop.set()
        yield {self._error: "", **self._asking(False)}

    def _asking(self, asking: bool) -> Updates:
        return {self.ask: gr.update(interactive=not asking), **self._picks.held(asking)}

    def _at(self, look: Look, place: int) -> Updates:
        completion, spell = look.receipt.completion, self._service.model.encoder.token_texts
        return {
            self.reply: reply_html(completion, spell, place),
            self.choice: choice_html(completion, place, spell),
        }


def _seeds(then: Sampling, count: object, temperature: object) -> list[Sampling]:
    """One sampling for each seed, and the first once more. Raises InputError."""
    if not isinstance(count, int | float) or not FEWEST <= count <= MOST:
        raise InputError(f"How many seeds must be a number from {FEWEST} to {MOST}, not {count!r}.")
    length = min(then.max_new_tokens, LONGEST_AGAIN)
    first = Sampling.checked(temperature=temperature, top_p=then.top_p, top_k=then.top_k, max_new_tokens=length)
    seeds = [(then.seed + place) % MAX_SEED for place in range(int(count))]
    return [replace(first, seed=seed) for seed in (*seeds, seeds[0])]
