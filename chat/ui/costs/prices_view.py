"""What tokens would cost by a price sheet, and beside a training run, as HTML and as a plot. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from chat.costs import MILLION, Overtaking, PriceSheet, Totals, TurnCost, totals
from chat.ui.costs.view import NEWEST_TURNS, legend, line_data, operations_text, sums_table
from chat.ui.visible import escaped
from chat.weights.card import TrainingRun

TRAINING, INFERENCE = "training, once", "inference, day by day"
OVERTAKING_COLOURS = {TRAINING: "var(--edge)", INFERENCE: "var(--accent)"}

_MEANINGS = {
    "read anew": "Tokens that were not in the cache, at their price.",
    "reused": "Tokens reused from the cache, at theirs.",
    "written": "Tokens written, at theirs.",
    "price": "All three together.",
    "without a cache": "The price if the whole prompt were read anew.",
}
_NO_CACHE = "without a cache"


def bill_html(turns: Sequence[TurnCost], sheet: PriceSheet) -> str:
    """What each turn, and all of them, would cost by a price sheet."""
    total = totals(turns)
    rows = {f"{turn.number}": _bill_cells(turn.usage, sheet) for turn in turns[-NEWEST_TURNS:]}
    price, without = sheet.bill(total).total, sheet.without_cache(total)
    return (
        f'<p>By this sheet the conversation would cost <b id="bill-total">{money(price, sheet.currency)}</b>, and a '
        f"million like it {money(MILLION * price, sheet.currency)}. Without a cache it would be "
        f"{money(without, sheet.currency)}.</p>"
        f"{sums_table(_MEANINGS, rows, _bill_cells(total, sheet))}"
        '<p class="quiet">Here it costs only your computer’s time: the model runs on it. Tokens are counted as this '
        "model cuts them; another cuts a little differently.</p>"
    )


def _bill_cells(tokens: Any, sheet: PriceSheet) -> dict[str, str]:
    bill = sheet.bill(tokens)
    amounts = {"read anew": bill.read, "reused": bill.reused, "written": bill.written, "price": bill.total}
    return {name: amount_text(amount) for name, amount in (amounts | {_NO_CACHE: sheet.without_cache(tokens)}).items()}


def overtaking_html(scale: Overtaking, currency: str) -> str:
    """When the calls have cost as much as the training."""
    calls = f"{scale.calls_a_day:,} call{'' if scale.calls_a_day == 1 else 's'} a day"
    return (
        f'<p class="large"><b id="calls-a-day">{calls}</b></p>'
        f"<p>A call like this conversation’s, on average, costs {money(scale.cost_per_call, currency)}; a day of them "
        f"{money(scale.daily, currency)}. The training run cost {money(scale.training, currency)}, once.</p>"
        f'<p class="large" id="overtakes">{overtakes_after(scale.days)}</p>{legend(OVERTAKING_COLOURS)}'
    )


def overtakes_after(days: float | None) -> str:
    """The sentence that says when inference overtakes training."""
    if days is None:
        return "Inference never overtakes training: these calls cost nothing."
    if days < 1 / 24:
        return "Inference overtakes training within an hour."
    if days < 1:
        return f"Inference overtakes training after {days * 24:.1f} hours."
    years = f", {days / 365.25:,.0f} years" if days > 2 * 365.25 else ""
    shown = f"{days:.1f}" if days < 10 else f"{days:,.0f}"
    return f"Inference overtakes training after {shown} days{years}."


def overtaking_data(scale: Overtaking) -> dict[str, Any]:
    """The training's cost and the calls' costs up to each day, as Gradio's plots take them."""
    points = scale.over_days()
    rows = [[day, scale.training, TRAINING] for day, _ in points] + [[day, cost, INFERENCE] for day, cost in points]
    return line_data(("days", "cost", "spent on"), rows)


def own_training_html(total: Totals, run: TrainingRun) -> str:
    """How many calls like these take as many operations as the training of this app's own adapter."""
    calls = run.operations * total.calls / total.operations if total.operations else math.inf
    beside = f" {calls:,.0f} calls like these take as many." if math.isfinite(calls) else ""
    return (
        f'<p class="aside">Without prices: the training of Marginalia’s own adapter took {run.seconds / 3600:.1f} '
        f"hours, measured, and {operations_text(run.operations)} operations, an estimate.{beside}</p>"
    )


def source_html(source: str) -> str:
    """Where the figures in the fields come from; nothing for a person's own."""
    return (
        f'<p class="quiet"><b>Example.</b> {escaped(source)}</p>'
        if source
        else '<p class="quiet">Your own figures.</p>'
    )


def money(amount: float, currency: str) -> str:
    """An amount in its currency."""
    return f"{amount_text(amount)} {escaped(currency)}"


def amount_text(amount: float) -> str:
    """Whole units from a thousand on, cents from one on, and below it the first three digits that count."""
    if amount >= 1000:
        return f"{amount:,.0f}"
    if amount >= 1 or amount == 0:
        return f"{amount:.2f}" if amount else "0"
    return f"{amount:.{min(2 - math.floor(math.log10(amount)), 15)}f}"
