"""The page “Tour”: six steps, each with one button; what it says is kept in normal conversations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from time import monotonic

import gradio as gr

from chat.turn import Replying
from chat.types import PromptRecord, Sampling, Segment
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
from chat.ui.prompt_view import segment_html
from chat.ui.service import Service, usual_length
from chat.ui.store import PersonStore
from chat.ui.tour.progress import QUESTION, TITLES, TOLD, Progress, kept, progress_of, the_note
from chat.ui.tour.view import STEPS, saying, step_html

LONGEST_REPLY = 48
# Steps that run something; the others show what has happened.
RUNS = (1, 3, 4)


ABOUT = (
    "Six steps on the live model. Leave whenever you like: the tour waits where you left it, and what was said stands "
    'among your conversations. <a href="/">Skip to the chat</a>'
)


class TourPage:
    """Builds the page inside the current Blocks and answers its events."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self.ids = gr.Textbox(visible="hidden", elem_id="tour-ids")
        with text_page("Tour", "Does it learn from you? Five minutes", ABOUT, "reading"):
            self.error = html_block(elem_id="error")
            self.buttons: dict[int, gr.Button] = {}
            self.shown: dict[int, gr.HTML] = {}
            for step in range(1, len(STEPS) + 1):
                self._step(step)
            self.again = gr.Button("Begin anew", size="sm", elem_classes="small", visible=False)
        self.outputs = [self.ids, self.error, self.again, *self.buttons.values(), *self.shown.values()]
        for step, button in self.buttons.items():
            button.click(self._runner(step), [self.ids], self.outputs, **QUIETLY)
        self.again.click(self.begin_anew, [], self.outputs, **QUIETLY)
        self.ids.change(None, [self.ids], None, js="marginalia.rememberTour")

    def _step(self, step: int) -> None:
        title, meaning = STEPS[step - 1]
        gr.HTML(
            f'<h3 class="step"><span>{step}</span> {title}</h3><p class="quiet">{meaning}</p>',
            apply_default_css=False,
            elem_classes="page-head",
        )
        if step in RUNS:
            self.buttons[step] = gr.Button(
                f"Run step {step}", variant="primary", interactive=step == 1, elem_id=f"run-{step}"
            )
        self.shown[step] = html_block(elem_id=f"step-{step}")

    def failed(self, sentence: str) -> Updates:
        """Tell what went wrong above the steps."""
        return {self.error: alert(sentence)}

    @telling_errors
    def opened(self, request: gr.Request, ids: str) -> Iterator[Updates]:
        """The page was loaded: take the tour up where it was left."""
        yield self._all(progress_of(self._store(request), ids))

    @telling_errors
    def begin_anew(self) -> Iterator[Updates]:
        """Forget how far it was; the conversations stay."""
        yield self._all(Progress())

    @telling_errors
    def run(self, request: gr.Request, step: int, ids: str) -> Iterator[Updates]:
        """Take a step: say what belongs to it, and show what comes back."""
        store = self._store(request)
        progress = progress_of(store, ids)
        place = RUNS.index(step)
        conversations = list(progress.conversations)
        if not conversations[place] or progress.is_done(step):
            conversations[place] = store.new_conversation(title=TITLES[place])
        if step == 4:
            the_note(store)
        ids = kept((conversations[0], conversations[1], conversations[2]))
        yield {button: gr.update(interactive=False) for button in self.buttons.values()} | {
            self.ids: ids,
            self.error: "",
        }
        yield from self._say(request, step, ids, conversations[place])
        yield self._all(progress_of(store, ids))

    def _say(self, request: gr.Request, step: int, ids: str, conversation_id: str) -> Iterator[Updates]:
        store, owner = self._store(request), owner_of(request)
        sampling = Sampling(max_new_tokens=usual_length(self._service.model.info, LONGEST_REPLY))
        said, shown_at = progress_of(store, ids).told if step == 1 else (), 0.0
        for message in TOLD[len(said) :] if step == 1 else (QUESTION,):
            events = self._service.send(owner, message, conversation_id, step == 4, sampling)
            with closing(events):
                for event in events:
                    if isinstance(event, Replying) and monotonic() - shown_at > 1 / UPDATES_A_SECOND:
                        shown_at = monotonic()
                        yield {self.shown[step]: saying(said, message, event.reply)}
            said = progress_of(store, ids).told if step == 1 else ()

    def _runner(self, step: int) -> Callable[[gr.Request, str], Iterator[Updates]]:
        def run(request: gr.Request, ids: str) -> Iterator[Updates]:
            yield from self.run(request, step, ids)

        return run

    def _all(self, progress: Progress) -> Updates:
        updates: Updates = {
            self.ids: kept(progress.conversations),
            self.error: "",
            self.again: gr.update(visible=progress.is_done(1)),
        }
        for step, button in self.buttons.items():
            done = progress.is_done(step)
            before = step == 1 or progress.is_done(step - 1)
            words = f"Run step {step} again" if done else f"Run step {step}"
            updates[button] = gr.update(value=words, interactive=before, variant="secondary" if done else "primary")
        return updates | {self.shown[step]: step_html(step, progress, self._segment) for step in self.shown}

    def _segment(self, record: PromptRecord, segment: Segment) -> str:
        encoder, ids = self._service.model.encoder, record.token_ids[segment.start : segment.end]
        return segment_html(segment, encoder.token_texts(ids), ids, encoder.control_ids)

    def _store(self, request: gr.Request) -> PersonStore:
        return self._service.store_of(owner_of(request))
