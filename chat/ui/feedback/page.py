"""The page “Feedback”: what was said of replies, to change, withdraw and download. Nobody trains on it here."""

from __future__ import annotations

from collections.abc import Iterator

import gradio as gr

from chat.preferences import as_jsonl, preference_pairs
from chat.types import WeightsCheck
from chat.ui.feedback.desk import act_on_feedback, judged_replies
from chat.ui.feedback.view import feedback_list, nobody_trains, pairs_line
from chat.ui.frame import QUIETLY, Updates, alert, clicked, html_block, telling_errors, text_page
from chat.ui.owner import owner_of
from chat.ui.service import Service
from chat.ui.visible import escaped


class FeedbackPage:
    """Builds the page inside the current Blocks and answers its events."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._seal = service.model.seal
        self._at_start = self._seal.latest.digest
        with text_page("Feedback", "Feedback is not training", "", "reading"):
            self.truth = html_block(elem_id="nobody-trains")
            self.error = html_block(elem_id="error")
            self.status = gr.HTML(elem_id="status", apply_default_css=False)
            self.pairs = html_block(elem_id="pairs")
            self.download = gr.Button("Download as JSONL", elem_id="download", visible=False)
            # On its way into a file that the browser makes: the server has no door for files.
            self.file = gr.Textbox(visible="hidden", lines=2)
            self.judged = html_block(elem_id="judged")
        self._wire()

    def _wire(self) -> None:
        self.outputs = [self.truth, self.error, self.status, self.pairs, self.download, self.file, self.judged]
        self.judged.click(self.act, [], self.outputs, **QUIETLY)
        made = self.download.click(self.export, [], self.outputs, **QUIETLY)
        made.then(None, [self.file], None, js="marginalia.download")

    def failed(self, sentence: str) -> Updates:
        """Tell what went wrong above the list."""
        return {self.error: alert(sentence), self.status: "", self.file: ""}

    @telling_errors
    def opened(self, request: gr.Request) -> Iterator[Updates]:
        """The page was loaded."""
        yield self._shown(request)

    @telling_errors
    def act(self, event: gr.EventData, request: gr.Request) -> Iterator[Updates]:
        """A thumb was pressed, or a button of its form."""
        asked = clicked(event)
        said, seal = act_on_feedback(self._service.store_of(owner_of(request)), self._seal, asked)
        yield self._shown(request, seal, str(asked.get("id"))) | {self.status: escaped(said)}

    @telling_errors
    def export(self, request: gr.Request) -> Iterator[Updates]:
        """Write the pairs as they are now."""
        pairs = preference_pairs(judged_replies(self._service.store_of(owner_of(request))))
        yield {self.file: as_jsonl(pairs), self.error: ""}

    def _shown(self, request: gr.Request, seal: WeightsCheck | None = None, acted_on: str = "") -> Updates:
        judged = judged_replies(self._service.store_of(owner_of(request)))
        pairs = preference_pairs(judged)
        return {
            self.truth: nobody_trains(self._at_start, self._seal.latest.digest),
            self.error: "",
            self.status: "",
            self.pairs: pairs_line(judged, pairs),
            self.download: gr.update(visible=bool(pairs)),
            self.judged: feedback_list(judged, pairs, seal, acted_on),
        }
