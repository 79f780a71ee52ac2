"""The choice of the next token by its odds, on the thread that asks.

torch would share out work this small among threads of its own, which, asleep beside the engine's, take longer to wake
than the work takes (tests/bench/LOG.md, 2026-11-23).
"""

from __future__ import annotations

import math

import numpy as np
import torch

from chat.engine.odds import Odds
from chat.types import Choice, Sampling

# Differences of logits stay finite when they are divided by it.
_LEAST_TEMPERATURE = 1e-30
_OTHERS = 5


def make_generator(sampling: Sampling) -> torch.Generator:
    """A source of chance that belongs to one request alone, so that nobody else's request changes its draws."""
    return torch.Generator(device="cpu").manual_seed(sampling.seed)


def make_ready() -> None:
    """Have what this room runs compiled, or read from where it is kept, before somebody waits for a token."""
    odds, drawing = Odds.of(torch.zeros(1)), Sampling(temperature=0.5, top_p=0.5)
    weigh(odds, choose_token(odds, drawing, make_generator(drawing)))


def choose_token(odds: Odds, sampling: Sampling, generator: torch.Generator) -> int:
    """Choose a token id by its odds at temperature 1. Raises ValueError if the logits are no numbers.

    Temperature 0 takes the likeliest. Otherwise the logits are divided by the temperature, cut to the `top_k`
    likeliest, cut to the smallest set whose probability reaches `top_p` (nucleus sampling, Holtzman et al. 2020,
    arXiv:1904.09751), and drawn from.
    """
    _check(odds)
    if sampling.temperature == 0:
        return odds.likeliest(1)[0]
    if sampling.temperature != 1:
        odds = odds.at(max(sampling.temperature, _LEAST_TEMPERATURE))
    if sampling.top_k:
        return _drawn_from_likeliest(odds, sampling, generator)
    # To draw until one is of the smallest set takes fewer passes than to sort the vocabulary in order to find the set.
    reach = sampling.top_p * odds.total
    while True:
        place = odds.place(_chance(generator))
        if sampling.top_p >= 1 or odds.above(place) < reach:
            return place


def weigh(odds: Odds, token_id: int) -> Choice:
    """What the odds at temperature 1 say of a token: its probability, and the five likeliest others.

    Raises ValueError if the logits are no numbers. Probabilities have six significant digits.
    """
    _check(odds)
    others = [place for place in odds.likeliest(_OTHERS + 1) if place != token_id][:_OTHERS]
    total = odds.total
    shares = [float(f"{odds[place] / total:.6g}") for place in (token_id, *others)]
    return Choice(shares[0], tuple(zip(others, shares[1:], strict=True)))


def _check(odds: Odds) -> None:
    if not math.isfinite(odds.largest):
        raise ValueError("its logits are not numbers")


def _chance(generator: torch.Generator) -> float:
    return torch.rand(1, generator=generator, dtype=torch.float64).item()


def _drawn_from_likeliest(odds: Odds, sampling: Sampling, generator: torch.Generator) -> int:
    count = min(sampling.top_k, len(odds.logits))
    ids = np.argpartition(odds.logits, -count)[-count:]
    ids = ids[np.argsort(-odds.logits[ids], kind="stable")]
    likeliest = np.exp((odds.logits[ids].astype(np.float64) - odds.largest) / odds.temperature)
    before = likeliest.cumsum() - likeliest
    reached = (likeliest * (before < sampling.top_p * likeliest.sum())).cumsum()
    # However the product is rounded, it stays below the end.
    point = min(_chance(generator) * reached[-1], np.nextafter(reached[-1], 0))
    return int(ids[np.searchsorted(reached, point, side="right")])
