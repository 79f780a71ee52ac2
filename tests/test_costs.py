"""What a conversation costs, by examples that were computed by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat.costs import (
    Bill,
    Overtaking,
    PriceSheet,
    ReadSoFar,
    calls_a_day,
    checked_training,
    growth,
    totals,
    turn_costs,
)
from chat.errors import InputError
from chat.published_costs import PRICES, training_examples
from chat.types import Timing, Turn, Usage, WeightsCheck
from chat.weights.card import TrainingRun

PARAMETERS = 1_000
SHEET = PriceSheet(read=2.0, reused=0.5, written=8.0, currency="EUR")
RUN = TrainingRun(seconds=19_362.5, operations=2_000_000, hardware="2 cores", finished="2026-11-23")


def turn(prompt: int, cached: int, written: int) -> Turn:
    """A finished turn that read all of its prompt."""
    return Turn(
        id="t",
        conversation_id="c",
        position=0,
        message="m",
        reply="r",
        finish_reason="stop",
        use_memory=False,
        created_at="",
        weights=WeightsCheck("a", "a", PARAMETERS, 0),
        usage=Usage(prompt, cached, prompt - cached, written, kv_cache_bytes=10 * prompt),
        timing=Timing(queue_ms=1.0, prefill_ms=20.0, time_to_first_token_ms=22.0, decode_ms=40.0, total_ms=61.0),
    )


TWO = turn_costs((turn(100, 0, 10), turn(160, 96, 20)))


def test_operations_are_twice_the_parameters_for_each_token_read_anew_or_written() -> None:
    assert [cost.operations for cost in TWO] == [2 * 1_000 * (100 + 10), 2 * 1_000 * (64 + 20)]


def test_the_turns_add_up() -> None:
    total = totals(TWO)
    assert (total.calls, total.prompt_tokens, total.cached_tokens) == (2, 260, 96)
    assert (total.prefilled_tokens, total.completion_tokens, total.operations) == (164, 30, 388_000)
    assert (total.queue_ms, total.prefill_ms, total.decode_ms) == (2.0, 40.0, 80.0)


def test_without_a_cache_every_prompt_is_read_whole_and_with_it_only_what_is_new() -> None:
    assert growth(TWO) == (ReadSoFar(0, 0, 0), ReadSoFar(1, 100, 100), ReadSoFar(2, 260, 164))


def test_a_turn_without_a_receipt_is_left_out_and_the_others_keep_their_numbers() -> None:
    cut_off = replace(turn(5, 0, 5), usage=None, timing=None, weights=None)
    assert [cost.number for cost in turn_costs((turn(1, 0, 1), cut_off, turn(3, 0, 1)))] == [1, 3]


def test_the_bill_has_each_kind_of_token_at_its_price_for_a_million() -> None:
    bill = SHEET.bill(TWO[1].usage)
    assert bill == Bill(read=64 * 2 / 1e6, reused=96 * 0.5 / 1e6, written=20 * 8 / 1e6)
    assert bill.total == pytest.approx(0.000336)
    assert SHEET.without_cache(TWO[1].usage) == pytest.approx((160 * 2 + 20 * 8) / 1e6)


@given(st.lists(st.tuples(st.integers(0, 5_000), st.integers(0, 5_000), st.integers(0, 500)), min_size=1, max_size=9))
def test_the_turns_bills_add_up_to_the_conversations(parts: list[tuple[int, int, int]]) -> None:
    costs = turn_costs([turn(new + cached, cached, written) for new, cached, written in parts])
    each = sum(SHEET.bill(cost.usage).total for cost in costs)
    assert SHEET.bill(totals(costs)).total == pytest.approx(each)
    assert each <= SHEET.without_cache(totals(costs)) + 1e-12


def test_calls_overtake_a_training_on_the_day_on_which_they_have_cost_as_much() -> None:
    scale = Overtaking(training=6_000.0, cost_per_call=0.002, calls_a_day=10_000)
    assert scale.daily == pytest.approx(20.0)
    assert scale.days == pytest.approx(300.0)
    days, costs = zip(*scale.over_days(4), strict=True)
    assert days == pytest.approx((0, 150, 300, 450, 600))
    assert costs == pytest.approx((0, 3_000, 6_000, 9_000, 12_000))


@pytest.mark.parametrize("cost_per_call", [0.0, 5e-324])
def test_calls_that_cost_nothing_never_overtake_and_are_shown_over_a_year(cost_per_call: float) -> None:
    scale = Overtaking(6_000.0, cost_per_call, 1)
    assert scale.days is None
    assert scale.over_days()[-1][0] == 365


@pytest.mark.parametrize(
    ("place", "calls"), [(0, 1), (1, 10), (3, 1_000), (6.3, 2_000_000), (9, 1_000_000_000), (10.0, 10_000_000_000)]
)
def test_the_scale_of_calls_is_logarithmic(place: float, calls: int) -> None:
    assert calls_a_day(place) == calls


@pytest.mark.parametrize(("bad", "quoted"), [(-3, "not “-3”"), ("two", "not “two”"), (None, "not empty")])
def test_a_price_that_is_none_is_refused_in_a_sentence_that_quotes_it(bad: object, quoted: str) -> None:
    for place, name in enumerate(("read anew", "reused", "written")):
        prices: list[object] = [1, 1, 1]
        prices[place] = bad
        with pytest.raises(InputError, match=f"The price of a million tokens {name} must be a number .* {quoted}"):
            PriceSheet.checked(*prices, "USD")


@pytest.mark.parametrize("bad", [math.nan, math.inf, 10**400, True, [], "1"])
def test_what_only_resembles_a_number_is_refused_too(bad: object) -> None:
    for check in (checked_training, calls_a_day, lambda value: PriceSheet.checked(value, 1, 1, "USD")):
        with pytest.raises(InputError):
            check(bad)


@pytest.mark.parametrize("bad", ["", "   ", "thirteen char", None, 5])
def test_a_currency_is_a_short_word(bad: object) -> None:
    with pytest.raises(InputError, match="The currency must be a word"):
        PriceSheet.checked(1, 1, 1, bad)
    assert PriceSheet.checked(1, 1, 1, " EUR ").currency == "EUR"


def test_every_example_says_who_published_it_and_when() -> None:
    for source in (each.source for each in (*PRICES, *training_examples(RUN)[:-1])):
        assert ":" in source
        assert "202" in source
    assert len({each.name for each in PRICES}) == len(PRICES)


def test_our_own_training_has_its_measured_hours_and_a_price_that_is_said_to_be_nobodys() -> None:
    own = training_examples(RUN)[-1]
    assert own.source.startswith("Measured: 5.4 hours on 2 cores, finished 2026-11-23")
    assert "round figure, nobody’s" in own.source
    assert own.cost == pytest.approx(0.54)
