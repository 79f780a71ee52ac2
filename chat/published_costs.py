"""Published prices and training costs: examples to begin with, each with its source and its date. None is a promise."""

from __future__ import annotations

from dataclasses import dataclass

from chat.costs import PriceSheet
from chat.weights.card import TrainingRun

SECONDS_AN_HOUR = 3600
ROUND_HOURLY = 0.10
"""What an hour of a small computer is taken to cost: a round figure, nobody's price."""


@dataclass(frozen=True)
class PriceExample:
    """A price sheet as somebody published it. `source` says who and when, in one sentence."""

    name: str
    sheet: PriceSheet
    source: str


@dataclass(frozen=True)
class TrainingExample:
    """What a training run cost, in US dollars. `source` says who says so and when, in one or two sentences."""

    name: str
    cost: float
    source: str


PRICES: tuple[PriceExample, ...] = (
    PriceExample(
        "DeepSeek-V3, from February 2025",
        PriceSheet(0.27, 0.07, 1.10, "USD"),
        "DeepSeek, “Introducing DeepSeek-V3”: the prices from 8 February 2025.",
    ),
    PriceExample(
        "GPT-4o mini, October 2024",
        PriceSheet(0.15, 0.075, 0.60, "USD"),
        "OpenAI, “Prompt Caching in the API”, 1 October 2024: gpt-4o-mini-2024-07-18.",
    ),
    PriceExample(
        "GPT-4o, October 2024",
        PriceSheet(2.50, 1.25, 10.00, "USD"),
        "OpenAI, “Prompt Caching in the API”, 1 October 2024: gpt-4o-2024-08-06.",
    ),
)

_PUBLISHED: tuple[TrainingExample, ...] = (
    TrainingExample(
        "DeepSeek-V3, December 2024",
        5_576_000.0,
        "DeepSeek-AI, “DeepSeek-V3 Technical Report”, arXiv:2412.19437, 27 December 2024: 2.788 million GPU hours at "
        "2 USD, without the research and the experiments before.",
    ),
    TrainingExample(
        "GPT-4, 2023",
        78_000_000.0,
        "Stanford AI Index Report 2024, April 2024: an estimate of the computing alone.",
    ),
)


def training_examples(own: TrainingRun) -> tuple[TrainingExample, ...]:
    """Published training costs, and the run that made the adapter of this app, whose hours were measured."""
    hours = own.seconds / SECONDS_AN_HOUR
    return (
        *_PUBLISHED,
        TrainingExample(
            "Marginalia’s own adapter",
            round(hours * ROUND_HOURLY, 2),
            f"Measured: {hours:.1f} hours on {own.hardware}, finished {own.finished}; the model under it was trained "
            f"by others. The price of {ROUND_HOURLY:.2f} USD an hour is a round figure, nobody’s.",
        ),
    )
