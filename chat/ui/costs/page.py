"""The page “Costs”: what a conversation took, what it would cost, and when such calls outgrow a training run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple, dataclass, replace
from typing import Any

import gradio as gr

from chat.costs import Overtaking, PriceSheet, TurnCost, calls_a_day, checked_training, growth, totals, turn_costs
from chat.errors import InputError
from chat.published_costs import PRICES, training_examples
from chat.types import Turn
from chat.ui.costs.parts import OWN, CostsParts
from chat.ui.costs.prices_view import bill_html, overtaking_data, overtaking_html, own_training_html, source_html
from chat.ui.costs.view import growth_data, growth_html, turns_html
from chat.ui.frame import QUIETLY, Updates, alert, telling_errors
from chat.ui.owner import owner_of
from chat.ui.picker import choices_of, offered_first
from chat.ui.service import Service
from chat.weights.card import TrainingRun

EMPTY = '<p id="no-costs">Nothing has been said yet. <a href="/">Send a message</a>, and what it took stands here.</p>'


@dataclass(frozen=True)
class Asked:
    """What the fields hold, as it came from the page, in their order."""

    conversation_id: Any
    read: Any
    reused: Any
    written: Any
    currency: Any
    calls: Any
    training: Any


class CostsPage:
    """Builds the page inside the current Blocks and answers its events. `run` is how this app's adapter was trained."""

    def __init__(self, service: Service, run: TrainingRun) -> None:
        self._service = service
        self._run = run
        self._trainings = training_examples(run)
        self.parts = CostsParts(self._trainings)
        self._wire()

    def _wire(self) -> None:
        parts, wired = self.parts, {**QUIETLY, "trigger_mode": "always_last"}
        sheet = [*parts.outputs, *parts.prices, parts.price_example, parts.price_source]
        training = [*parts.outputs, parts.training, parts.training_example, parts.training_source]
        # One event for all fields: of two, the answer to the older could come last, and stay.
        own = [parts.price_example, parts.price_source, parts.training_example, parts.training_source]
        gr.on([field.input for field in parts.asked], self.show, parts.asked, [*parts.outputs, *own], **wired)
        parts.price_example.input(self.choose_prices, [parts.price_example, *parts.asked], sheet, **wired)
        parts.training_example.input(self.choose_training, [parts.training_example, *parts.asked], training, **wired)

    def failed(self, sentence: str) -> Updates:
        """Tell what went wrong under the choice of a conversation."""
        return {self.parts.error: alert(sentence)}

    @telling_errors
    def opened(self, request: gr.Request, *fields: Any) -> Iterator[Updates]:
        """The page was loaded: offer the conversations, and show the one in the address, or the newest."""
        listed = self._service.store_of(owner_of(request)).conversations()
        first = offered_first(listed, request)
        offered = gr.update(choices=choices_of(listed), value=first or None, visible=bool(listed))
        yield {self.parts.conversation: offered} | self._screen(request, Asked(first, *fields[1:]))

    @telling_errors
    def show(self, request: gr.Request, *fields: Any) -> Iterator[Updates]:
        """Another conversation, another place on the scale, or other figures."""
        asked = Asked(*fields)
        yield self._owned(asked) | self._screen(request, asked)

    def _owned(self, asked: Asked) -> Updates:
        """Figures that no example has are the person's own."""
        parts = self.parts
        owned: Updates = {}
        sheet = (asked.read, asked.reused, asked.written, asked.currency)
        if sheet not in [astuple(example.sheet) for example in PRICES]:
            owned |= {parts.price_example: OWN, parts.price_source: source_html("")}
        if asked.training not in [example.cost for example in self._trainings]:
            owned |= {parts.training_example: OWN, parts.training_source: source_html("")}
        return owned

    @telling_errors
    def choose_prices(self, request: gr.Request, name: str, *fields: Any) -> Iterator[Updates]:
        """An example of a price sheet was chosen; the person's own keeps what stands there."""
        parts, asked = self.parts, Asked(*fields)
        example = next((each for each in PRICES if each.name == name), None)
        if example:
            asked = replace(asked, **vars(example.sheet))
        sheet = dict(zip(parts.prices, (asked.read, asked.reused, asked.written, asked.currency), strict=True))
        source = {parts.price_source: source_html(example.source if example else "")}
        yield sheet | source | self._screen(request, asked)

    @telling_errors
    def choose_training(self, request: gr.Request, name: str, *fields: Any) -> Iterator[Updates]:
        """An example of a training run was chosen."""
        parts, asked = self.parts, Asked(*fields)
        example = next((each for each in self._trainings if each.name == name), None)
        if example:
            asked = replace(asked, training=example.cost)
        source = {parts.training_source: source_html(example.source if example else "")}
        yield {parts.training: asked.training} | source | self._screen(request, asked)

    def _screen(self, request: gr.Request, asked: Asked) -> Updates:
        """All that follows from the fields. Raises NotFound for a conversation that is not this person's."""
        parts, store = self.parts, self._service.store_of(owner_of(request))
        chosen = asked.conversation_id or offered_first(store.conversations(), request)
        turns = store.turns(chosen, store.count_turns(chosen)) if chosen else ()
        costs = turn_costs(turns)
        if not costs:
            return {parts.body: gr.update(visible=False), parts.error: EMPTY}
        shown = {parts.body: gr.update(visible=True), parts.error: ""}
        return shown | self._taken(turns, costs) | self._priced(costs, asked)

    def _taken(self, turns: tuple[Turn, ...], costs: tuple[TurnCost, ...]) -> Updates:
        parts, seal = self.parts, self._service.model.seal
        same = all(turn.weights.after == seal.latest.digest for turn in turns if turn.weights)
        return {
            parts.turns: turns_html(costs, len(turns) - len(costs), seal.nbytes, same),
            parts.growth_head: growth_html(costs),
            parts.growth: growth_data(growth(costs)),
        }

    def _priced(self, costs: tuple[TurnCost, ...], asked: Asked) -> Updates:
        parts = self.parts
        try:
            sheet = PriceSheet.checked(asked.read, asked.reused, asked.written, asked.currency)
        except InputError as error:
            return {parts.price_error: alert(str(error))}
        priced = {parts.price_error: "", parts.bill: bill_html(costs, sheet)}
        return priced | self._scaled(costs, sheet, asked)

    def _scaled(self, costs: tuple[TurnCost, ...], sheet: PriceSheet, asked: Asked) -> Updates:
        parts, total = self.parts, totals(costs)
        try:
            training = checked_training(asked.training)
            scale = Overtaking(training, sheet.bill(total).total / total.calls, calls_a_day(asked.calls))
        except InputError as error:
            return {parts.scale_error: alert(str(error))}
        return {
            parts.scale_error: "",
            parts.scale: overtaking_html(scale, sheet.currency),
            parts.overtaking: overtaking_data(scale),
            parts.own_training: own_training_html(total, self._run),
        }
