"""The tab “Prompt”: a prompt three ways, beside another one, searched, taken along, and run again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from time import monotonic

import gradio as gr

from chat.engine import Event, Prefilling, TokensChosen
from chat.prompt_diff import difference, find, shared_beginning
from chat.replay import Reply
from chat.types import Receipt, Segment
from chat.ui.conversation.screen import left_out_names
from chat.ui.frame import QUIETLY, UPDATES_A_SECOND, Updates, alert, html_block, telling_errors
from chat.ui.glass.difference_view import difference_html, found_html
from chat.ui.glass.look import Look, look_at, name_of, receipts_of
from chat.ui.glass.picks import Picks
from chat.ui.glass.window_view import window_html
from chat.ui.owner import owner_of
from chat.ui.prompt_view import VIEWS, View, prompt_panel, segment_html
from chat.ui.service import Service
from chat.ui.store import PersonStore
from chat.ui.visible import escaped

WITH_NONE = ("No other prompt", "")


class PromptTab:
    """Built inside the current tab. `picks` say which turn is looked at; `error` tells what went wrong."""

    def __init__(self, service: Service, picks: Picks, error: gr.HTML) -> None:
        self._service = service
        self._picks = picks
        self._error = error
        self.window = html_block(elem_id="window")
        with gr.Row(elem_classes="tools"):
            self.against = gr.Dropdown([WITH_NONE], value="", label="Difference from")
            self.words = gr.Textbox(label="Find words", placeholder="Dana runs finance", max_lines=1)
        self.found = html_block(elem_id="found")
        self.view = gr.Radio(list(VIEWS), value=VIEWS[0], label="View", show_label=False, elem_id="glass-view")
        self.panel = html_block(elem_id="glass-panel")
        self.take = html_block(elem_id="take")
        with gr.Row(elem_classes="tools"):
            self.run_again = gr.Button("Run these ids again", elem_id="replay")
            self.stop = gr.Button("Stop", variant="stop", visible=False, elem_id="stop-replay")
        self.replayed = gr.HTML(elem_id="replayed", apply_default_css=False)
        shown = [picks.turn, self.view, self.against]
        for choice in (self.view, self.against):
            choice.input(self.redraw, shown, [self.panel, error], **QUIETLY)
        found = [self.found, error]
        # Every receipt of the conversation is read: what was typed in between is passed over.
        self.words.change(self.look_for, [picks.turn, self.words], found, trigger_mode="always_last", **QUIETLY)
        running = [self.replayed, self.run_again, self.stop, *picks.outputs, error]
        self.run_again.click(self.replay, [picks.turn], running, **QUIETLY)
        self.stop.click(self.end, [picks.turn], None, **QUIETLY)
        self.outputs = [self.window, self.against, self.found, self.panel, self.take, self.replayed]

    def failed(self, sentence: str) -> Updates:
        """Tell what went wrong above the tabs."""
        return {self._error: alert(sentence), self.replayed: "", **self._running(False)}

    def shown(self, store: PersonStore, look: Look, view: View, words: str | None) -> Updates:
        """All of the tab, for another turn."""
        others = [(name_of(turn), turn.id) for turn in look.turns if turn.id != look.turn.id]
        return {
            self.window: window_html(look.receipt),
            self.against: gr.update(choices=[WITH_NONE, *others], value=""),
            self.panel: self._panel(store, look, view, ""),
            self.found: self._found(store, look, words),
            self.take: _take_along(look.receipt),
            self.replayed: "",
        }

    @telling_errors
    def redraw(self, request: gr.Request, turn_id: str, view: View, against: str) -> Iterator[Updates]:
        """Another view was chosen, or another prompt to stand beside."""
        store = self._service.store_of(owner_of(request))
        yield {self.panel: self._panel(store, look_at(store, turn_id), view, against), self._error: ""}

    @telling_errors
    def look_for(self, request: gr.Request, turn_id: str, words: str) -> Iterator[Updates]:
        """Words are being typed: follow them through the conversation."""
        store = self._service.store_of(owner_of(request))
        yield {self.found: self._found(store, look_at(store, turn_id), words), self._error: ""}

    @telling_errors
    def replay(self, request: gr.Request, turn_id: str) -> Iterator[Updates]:
        """Run the stored ids again in a fresh engine."""
        owner, shown_at, written = owner_of(request), 0.0, 0
        receipt = look_at(self._service.store_of(owner), turn_id).receipt
        yield {self.replayed: "", self._error: "", **self._running(True)}
        with closing(self._service.replay(owner, receipt)) as events:
            for event in events:
                written += len(event.token_ids) if isinstance(event, TokensChosen) else 0
                if isinstance(event, Reply):
                    yield {self.replayed: replay_html(receipt, event), **self._running(False)}
                elif monotonic() - shown_at > 1 / UPDATES_A_SECOND:
                    shown_at = monotonic()
                    yield {self.replayed: progress_html(event, written, receipt)}

    def end(self, request: gr.Request, turn_id: str) -> None:
        """Stop a replay."""
        self._service.stop(owner_of(request), turn_id)

    def _running(self, running: bool) -> Updates:
        buttons = {self.run_again: gr.update(visible=not running), self.stop: gr.update(visible=running)}
        return buttons | self._picks.held(running)

    def _panel(self, store: PersonStore, look: Look, view: View, against: str) -> str:
        encoder, record = self._service.model.encoder, look.receipt.prompt
        if against:
            other = look_at(store, against)
            stretches = difference(other.receipt.prompt, record)
            return difference_html(stretches, name_of(other.turn), self._segment_html(other.receipt, look.receipt))
        names = left_out_names(store, record)
        title = f"Turn {look.turn.position + 1}"
        return prompt_panel(record, title, view, encoder.token_texts, encoder.control_ids, look.receipt.weights, names)

    def _segment_html(self, *receipts: Receipt) -> Callable[[Segment], str]:
        encoder = self._service.model.encoder
        ids_of = {
            id(segment): receipt.prompt.token_ids[segment.start : segment.end]
            for receipt in receipts
            for segment in receipt.prompt.segments
        }

        def shown(segment: Segment) -> str:
            ids = ids_of[id(segment)]
            return segment_html(segment, encoder.token_texts(ids), ids, encoder.control_ids)

        return shown

    def _found(self, store: PersonStore, look: Look, words: str | None) -> str:
        if not words or not words.strip():
            return ""
        spell = self._service.model.encoder.token_texts
        receipts = {name_of(turn): receipt for turn, receipt in receipts_of(store, look.turns)}
        found = {
            name: find(receipt.prompt, words, spell(receipt.prompt.token_ids)) for name, receipt in receipts.items()
        }
        fallen = partial(_fell_out, store, words)
        left_out = [name for name, receipt in receipts.items() if not found[name] and fallen(receipt)]
        return found_html(words, found, name_of(look.turn), left_out)


def progress_html(event: Event, written: int, receipt: Receipt) -> str:
    """How far a replay has come, in a few words."""
    if isinstance(event, Prefilling):
        return f'<p class="quiet">Reading again, without any cache: {event.done:,} of {event.total:,} tokens</p>'
    return f'<p class="quiet">Writing again: {written:,} of {len(receipt.completion.token_ids):,} tokens</p>'


def replay_html(receipt: Receipt, again: Reply) -> str:
    """What came of it, in a sentence."""
    usage, at = again.usage, shared_beginning(receipt.completion.token_ids, again.token_ids)
    if again.finish_reason == "cancelled" and at == len(again.token_ids) < len(receipt.completion.token_ids):
        return f'<p class="outcome">Stopped after {at:,} tokens. Until then the same ids came out.</p>'
    read = f"{usage.prefilled_tokens:,} tokens read, {usage.cached_tokens:,} from a cache"
    if receipt.completion.token_ids == again.token_ids:
        return (
            f'<p class="outcome"><b>The same {len(again.token_ids):,} ids came out.</b> A fresh engine, {read}, '
            "on the weights with the same fingerprint: the reply is a function of the prompt, and of nothing else.</p>"
        )
    return (
        f'<p class="alert" role="alert">Another reply came out, from token {at + 1:,} on ({read}). With this precision '
        f"sums depend on how a prompt is cut, and two tokens may be as good as equally likely there.</p>"
    )


def _fell_out(store: PersonStore, words: str, receipt: Receipt) -> bool:
    names = left_out_names(store, receipt.prompt)
    sought = " ".join(words.split()).casefold()
    return any(sought in " ".join(name.split()).casefold() for name in names.values())


def _take_along(receipt: Receipt) -> str:
    """Buttons that copy and save, and what they take."""
    body = json.dumps(receipt.to_dict(), ensure_ascii=False, indent=1)
    segments = json.dumps(receipt.to_dict()["prompt"], ensure_ascii=False, indent=1)
    kept = {
        "glass-text": receipt.prompt.text,
        "glass-ids": json.dumps(receipt.prompt.token_ids),
        "glass-json": segments,
        "glass-receipt": body,
    }
    hidden = "".join(f'<pre hidden id="{name}">{escaped(text)}</pre>' for name, text in kept.items())
    return (
        '<div class="acts"><button class="small" data-copy="glass-text">Copy text</button>'
        '<button class="small" data-copy="glass-ids">Copy ids</button>'
        '<button class="small" data-copy="glass-json">Copy as JSON</button>'
        f'<button class="small" data-save="glass-receipt" data-name="receipt-{receipt.turn_id[:8]}.json">'
        f"Download the receipt</button></div>{hidden}"
    )
