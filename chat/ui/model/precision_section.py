"""The section that runs the same model at each precision, one after another."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from time import monotonic

import gradio as gr

from chat.config import Precision
from chat.precisions import InLine, PrecisionComparison
from chat.ui.frame import QUIETLY, UPDATES_A_SECOND, Updates, alert, html_block, telling_errors
from chat.ui.model.precision_view import Column, columns_html, first_columns, status_of_columns
from chat.ui.owner import owner_of
from chat.ui.service import Service

HEAD = (
    '<h3 id="precisions" tabindex="-1">The same model, rounded</h3>'
    "<p>A weight can be kept in fewer bits: it takes less room, may be quicker, and is a little less exact. "
    "Here the same question is put to the same model in four precisions, greedily, from the same token ids.</p>"
    '<p class="quiet">They are loaded one after another beside the model that runs: replies that are being written '
    "meanwhile are slower. int8 and int4 are made the first time, and kept on the disk. "
    "Speeds are those of this one answer, the first after loading.</p>"
)
QUESTION = "What is photosynthesis?"


class PrecisionSection:
    """Builds the section inside the current Blocks and answers its events."""

    def __init__(self, service: Service, precisions: PrecisionComparison) -> None:
        self._service = service
        self._precisions = precisions
        self.comparison = gr.Textbox(visible="hidden", elem_id="precision-comparison")
        gr.HTML(HEAD, apply_default_css=False, elem_classes="section-head")
        with gr.Row(elem_classes="ask-row"):
            self.question = gr.Textbox(QUESTION, label="Question to each precision", max_lines=4, scale=3, min_width=0)
            self.start = gr.Button("Compare precisions", variant="primary", min_width=170)
            self.stop = gr.Button("Stop", variant="stop", visible=False, min_width=110, elem_id="stop-precisions")
        self.status = gr.HTML(elem_id="precision-status", apply_default_css=False)
        self.error = html_block(elem_id="precision-error")
        self.columns = gr.HTML(self._drawn(first_columns()), elem_id="precision-columns", apply_default_css=False)
        outputs = [self.comparison, self.status, self.error, self.columns, self.start, self.stop]
        self.start.click(self.compare, [self.question], outputs, **QUIETLY)
        self.stop.click(self.end, [self.comparison], None, **QUIETLY)

    def failed(self, sentence: str) -> Updates:
        """Tell what went wrong under the question, which stays."""
        return {self.error: alert(sentence), **self._running(False)}

    @telling_errors
    def compare(self, request: gr.Request, question: str) -> Iterator[Updates]:
        """Ask the question at each precision, and show each as it answers."""
        owner = owner_of(request)
        comparison = self._service.new_comparison(owner, question, None)
        columns, shown_at, told = first_columns(), 0.0, ""
        yield {
            self.comparison: comparison,
            self.error: "",
            self.columns: self._drawn(first_columns()),
            **self._running(True),
        }
        with closing(self._service.compare_precisions(owner, comparison, question, self._precisions)) as events:
            for event in events:
                if isinstance(event, InLine):
                    yield {self.status: _status(_in_line(event.before))}
                    continue
                columns[event.precision] = columns[event.precision].after(event)
                before, told = told, status_of_columns(columns)
                if told != before or monotonic() - shown_at > 1 / UPDATES_A_SECOND:
                    shown_at = monotonic()
                    yield {self.status: _status(told), self.columns: self._drawn(columns)}
        yield {self.columns: self._drawn(columns), **self._running(False)}

    def end(self, request: gr.Request, comparison: str) -> None:
        """Stop the comparison; what was measured stays."""
        self._service.stop(owner_of(request), comparison)

    def _drawn(self, columns: dict[Precision, Column]) -> str:
        model = self._service.model
        return columns_html(columns, model.info.dtype, model.encoder.token_texts)

    def _running(self, running: bool) -> Updates:
        return {
            self.start: gr.update(visible=not running),
            self.stop: gr.update(visible=running),
            self.status: _status("Starting" if running else ""),
        }


def _status(words: str) -> str:
    return f'<p class="quiet" role="status">{words}</p>'


def _in_line(before: int) -> str:
    others = "One comparison" if before == 1 else f"{before:,} comparisons"
    return f"{others} of others before yours: one model more is in memory at a time."
