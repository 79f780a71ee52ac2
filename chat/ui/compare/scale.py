"""The scale below a comparison: one pane's answer, weighed behind every pane's prompt; and what can be taken along."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import gradio as gr

from chat.compare import ALL_PANES, Pane, PaneName
from chat.errors import InputError
from chat.types import Receipt
from chat.ui.compare.export import comparison_document, save_html, shared_html
from chat.ui.compare.weighed_view import most_telling, weighed_html
from chat.ui.frame import QUIETLY, Updates, alert, clicked, html_block, telling_errors
from chat.ui.owner import owner_of
from chat.ui.service import Service
from chat.ui.store import PersonStore

STYLE = Path(__file__).resolve().parents[3] / "static" / "app.css"
HEAD = (
    '<h3>One answer, behind each prompt</h3><p class="quiet">The same tokens, held against every prompt: how likely '
    "the model thought each of them. It begins where the prompts part.</p>"
)


class Scale:
    """Built inside the current Blocks. `comparison` has the id of what is compared; `error` tells what went wrong."""

    def __init__(self, service: Service, comparison: gr.Textbox, error: gr.HTML) -> None:
        self._service = service
        self._error = error
        with gr.Column(visible=False, elem_id="scale", min_width=0) as self.box:
            gr.HTML(HEAD, apply_default_css=False)
            self.whose = gr.Radio([], label="Whose answer")
            self.table = html_block(elem_id="weighed")
            self.take = html_block(elem_id="take")
            self.shared = html_block(elem_id="shared")
        weighed = [self.whose, self.table, self.take, self.shared]
        self.outputs = [self.box, *weighed]
        weighed.append(error)
        self.whose.input(self.choose, [comparison, self.whose], weighed, **QUIETLY)
        self.table.click(self.look, [comparison, self.whose], weighed, **QUIETLY)
        self.shared.click(self.share, [comparison, self.whose], [self.shared, error], **QUIETLY)

    def failed(self, sentence: str) -> Updates:
        """Tell what went wrong under the question."""
        return {self._error: alert(sentence)}

    def empty(self) -> Updates:
        """Nothing has been answered yet."""
        return {self.box: gr.update(visible=False)}

    def weighed(self, owner: str, comparison: str, whose: PaneName | None = None, place: int | None = None) -> Updates:
        """One pane's answer behind every prompt: the first of those that are not fresh, if none is named."""
        store = self._service.store_of(owner)
        receipts = recorded(store, comparison)
        if not receipts:
            return self.empty()
        named = _named(receipts, whose)
        table, at = self._table(owner, receipts, named, place)
        return {
            self.box: gr.update(visible=True),
            self.whose: gr.update(choices=[(pane.title, pane.name) for pane in receipts], value=named),
            self.table: table,
            self.take: save_html(self._document(store, comparison, receipts, table), comparison),
            self.shared: shared_html(store.page_shared(comparison), at),
        }

    @telling_errors
    def choose(self, request: gr.Request, comparison: str, whose: PaneName) -> Iterator[Updates]:
        """Another pane's answer is to be weighed."""
        yield self._again(request, comparison, whose, None)

    @telling_errors
    def look(self, event: gr.EventData, request: gr.Request, comparison: str, whose: PaneName) -> Iterator[Updates]:
        """Another token of the answer is to be looked at."""
        yield self._again(request, comparison, whose, _place_in(event))

    def _again(self, request: gr.Request, comparison: str, whose: PaneName, place: int | None) -> Updates:
        updates = self.weighed(owner_of(request), comparison, whose, place)
        return {self._error: ""} | {part: new for part, new in updates.items() if part is not self.box}

    @telling_errors
    def share(self, event: gr.EventData, request: gr.Request, comparison: str, whose: PaneName) -> Iterator[Updates]:
        """Others may read the comparison from now on, with the token that is looked at, or may not any more."""
        owner = owner_of(request)
        store = self._service.store_of(owner)
        receipts = recorded(store, comparison)
        if not receipts:
            raise InputError("Nothing has been answered here yet. Ask a question first.")
        place = _place_in(event)
        if clicked(event).get("action") == "take-back":
            store.take_page_back(comparison)
        else:
            table, _ = self._table(owner, receipts, _named(receipts, whose), place)
            store.share_page(comparison, self._document(store, comparison, receipts, table))
        yield {self.shared: shared_html(store.page_shared(comparison), place), self._error: ""}

    def _table(self, owner: str, receipts: dict[Pane, Receipt], whose: PaneName, place: int | None) -> tuple[str, int]:
        """The table for one pane's answer, and the place of the token that it is about."""
        reply = next(receipt for pane, receipt in receipts.items() if pane.name == whose).completion.token_ids
        weighed = self._service.weigh(owner, receipts, reply) if reply else {}
        at = most_telling(weighed) if place is None or place >= len(reply) else place
        return weighed_html(weighed, reply, self._service.model.encoder.token_texts, at), at

    def _document(self, store: PersonStore, comparison: str, receipts: dict[Pane, Receipt], table: str) -> str:
        question, style = store.conversation(comparison).title, STYLE.read_text("utf-8")
        return comparison_document(question, receipts, table, self._service.model.encoder, style)


def _place_in(event: gr.EventData) -> int:
    place = str(clicked(event).get("id", ""))
    if not place.isdecimal():
        raise InputError(f"“{place}” is not a token of this answer. Choose one of those that are shown.")
    return int(place)


def _named(receipts: dict[Pane, Receipt], whose: PaneName | None) -> PaneName:
    names = [pane.name for pane in receipts]
    return whose if whose in names else next((name for name in names if name != "fresh"), names[0])


def recorded(store: PersonStore, comparison: str) -> dict[Pane, Receipt]:
    """What a comparison's panes answered, in their order; those without a receipt are left out. Raises NotFound."""
    turns = [turn for turn in store.turns(comparison) if turn.usage and turn.position < len(ALL_PANES)]
    return {ALL_PANES[turn.position]: store.receipt(turn.id) for turn in turns}
