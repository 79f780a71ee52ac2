"""What a conversation costs: tokens, operations, and money by a price sheet. Pure arithmetic on what receipts say."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from chat.errors import InputError
from chat.types import Timing, Turn, Usage

MILLION = 1_000_000
MOST_PRICE = 1e6
MOST_TRAINING = 1e15
MOST_CURRENCY_CHARACTERS = 12
MOST_CALLS_EXPONENT = 10


@dataclass(frozen=True)
class TurnCost:
    """What one turn took, by its receipt. `number` counts from 1; `parameters` are those of the model that answered."""

    number: int
    usage: Usage
    timing: Timing
    parameters: int

    @property
    def operations(self) -> int:
        """Floating-point operations, an estimate: 2 for each parameter and each token read or written.

        Kaplan et al., 2020, arXiv:2001.08361, section 2.1: one forward pass, without the attention over the context.
        They leave out the embeddings; here all parameters count, as the last product is with them or as many. Tokens
        that were guessed ahead and found wrong are not counted.
        """
        return 2 * self.parameters * (self.usage.prefilled_tokens + self.usage.completion_tokens)


def turn_costs(turns: Iterable[Turn]) -> tuple[TurnCost, ...]:
    """The costs of a conversation's turns, of those with a receipt: others were cut off, or are being answered."""
    return tuple(
        TurnCost(number, turn.usage, turn.timing, turn.weights.parameters)
        for number, turn in enumerate(turns, 1)
        if turn.usage and turn.timing and turn.weights
    )


@dataclass(frozen=True)
class Totals:
    """A conversation's turns added up. Times in milliseconds."""

    calls: int
    prompt_tokens: int
    cached_tokens: int
    prefilled_tokens: int
    completion_tokens: int
    queue_ms: float
    prefill_ms: float
    decode_ms: float
    operations: int


def totals(turns: Sequence[TurnCost]) -> Totals:
    """The sums over some turns."""
    return Totals(
        calls=len(turns),
        prompt_tokens=sum(turn.usage.prompt_tokens for turn in turns),
        cached_tokens=sum(turn.usage.cached_tokens for turn in turns),
        prefilled_tokens=sum(turn.usage.prefilled_tokens for turn in turns),
        completion_tokens=sum(turn.usage.completion_tokens for turn in turns),
        queue_ms=sum(turn.timing.queue_ms for turn in turns),
        prefill_ms=sum(turn.timing.prefill_ms for turn in turns),
        decode_ms=sum(turn.timing.decode_ms for turn in turns),
        operations=sum(turn.operations for turn in turns),
    )


@dataclass(frozen=True)
class ReadSoFar:
    """The tokens read from a conversation's beginning up to the end of a turn's prompt, without a KV cache and with."""

    number: int
    without_cache: int
    with_cache: int


def growth(turns: Sequence[TurnCost]) -> tuple[ReadSoFar, ...]:
    """How the reading grows, turn by turn, from nothing before the first."""
    without = accumulate((turn.usage.prompt_tokens for turn in turns), initial=0)
    within = accumulate((turn.usage.prefilled_tokens for turn in turns), initial=0)
    numbers = (0, *(turn.number for turn in turns))
    return tuple(ReadSoFar(*each) for each in zip(numbers, without, within, strict=True))


@dataclass(frozen=True)
class Bill:
    """What tokens cost, by what was done with them, in a price sheet's currency."""

    read: float
    reused: float
    written: float

    @property
    def total(self) -> float:
        """All three together."""
        return self.read + self.reused + self.written


@dataclass(frozen=True)
class PriceSheet:
    """Prices of a million tokens: read anew, reused from a cache, written."""

    read: float
    reused: float
    written: float
    currency: str

    @classmethod
    def checked(cls, read: object, reused: object, written: object, currency: object) -> PriceSheet:
        """Build one from what was typed. Raises InputError, which quotes what cannot be used."""
        return cls(
            _number("The price of a million tokens read anew", read, MOST_PRICE),
            _number("The price of a million tokens reused", reused, MOST_PRICE),
            _number("The price of a million tokens written", written, MOST_PRICE),
            _checked_currency(currency),
        )

    def bill(self, usage: Usage | Totals) -> Bill:
        """What these tokens cost."""
        return Bill(
            self.read * usage.prefilled_tokens / MILLION,
            self.reused * usage.cached_tokens / MILLION,
            self.written * usage.completion_tokens / MILLION,
        )

    def without_cache(self, usage: Usage | Totals) -> float:
        """What they would cost if the whole prompt were read anew."""
        return (self.read * usage.prompt_tokens + self.written * usage.completion_tokens) / MILLION


@dataclass(frozen=True)
class Overtaking:
    """A training run that is paid once, beside calls that are paid every day."""

    training: float
    cost_per_call: float
    calls_a_day: int

    @property
    def daily(self) -> float:
        """What a day's calls cost."""
        return self.cost_per_call * self.calls_a_day

    @property
    def days(self) -> float | None:
        """After how many days the calls have cost as much as the training. None if they never do."""
        days = self.training / self.daily if self.daily else math.inf
        return days if math.isfinite(days) else None

    def over_days(self, points: int = 20) -> tuple[tuple[float, float], ...]:
        """Days, and what the calls up to each have cost: to twice the day on which they overtake the training.

        If they never do, over a year.
        """
        end = 2 * self.days if self.days else 365.0
        return tuple((end * step / points, self.daily * end * step / points) for step in range(points + 1))


def calls_a_day(exponent: object) -> int:
    """A place on a logarithmic scale as calls: 0 is one, 3 a thousand, 9 a billion; two digits, the rest zeros.

    Raises InputError for what is not on the scale.
    """
    calls = 10 ** _number("The place on the scale of calls", exponent, MOST_CALLS_EXPONENT)
    return int(float(f"{calls:.1e}"))


def checked_training(value: object) -> float:
    """A training run's cost as it was typed. Raises InputError, which quotes it, if it is no number or below 0."""
    return _number("The cost of the training run", value, MOST_TRAINING)


def _number(name: str, value: object, most: float) -> float:
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    if not numeric or not 0 <= value <= most:  # type: ignore[operator]
        shown = "empty" if value is None else f"“{str(value)[:40]}”"
        raise InputError(f"{name} must be a number from 0 to {most:,.0f}, not {shown}.")
    return float(value)  # type: ignore[arg-type]


def _checked_currency(value: object) -> str:
    if not isinstance(value, str) or not 0 < len(value.strip()) <= MOST_CURRENCY_CHARACTERS:
        raise InputError(
            f"The currency must be a word of at most {MOST_CURRENCY_CHARACTERS} characters, such as USD, "
            f"not “{str(value)[:40]}”."
        )
    return value.strip()
