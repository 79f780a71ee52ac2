"""The choice of the next token from the model's logits.

By numpy, on the thread that asks: torch would share out work this small among threads of its own, which, asleep beside
the engine's, take longer to wake than the work takes (tests/bench/LOG.md, 2026-11-23).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from chat.types import Choice, Sampling

# Differences of logits stay finite when they are divided by it.
_LEAST_TEMPERATURE = 1e-30
# Sums over stretches of so many, and then within one, take a fraction of the time of one running sum.
_STRETCH = 256
_OTHERS = 5


def make_generator(sampling: Sampling) -> torch.Generator:
    """A source of chance that belongs to one request alone, so that nobody else's request changes its draws."""
    return torch.Generator(device="cpu").manual_seed(sampling.seed)


def choose_token(logits: torch.Tensor, sampling: Sampling, generator: torch.Generator) -> int:
    """Choose a token id from logits of shape (vocabulary,). Raises ValueError if they are no numbers.

    Temperature 0 takes the likeliest. Otherwise the logits are divided by the temperature, cut to the `top_k`
    likeliest, cut to the smallest set whose probability reaches `top_p` (nucleus sampling, Holtzman et al. 2020,
    arXiv:1904.09751), and drawn from.
    """
    values: NDArray[np.float32] = logits.float().cpu().numpy()
    if sampling.temperature == 0:
        return int(values.argmax())
    with np.errstate(all="ignore"):
        weights = np.exp((values - values.max()) / np.float32(max(sampling.temperature, _LEAST_TEMPERATURE)))
    if not sampling.top_k and sampling.top_p >= 1:
        return _draw(weights, generator)
    ids = _likeliest(weights, sampling)
    likeliest = weights[ids].astype(np.float64)
    before = likeliest.cumsum() - likeliest
    return int(ids[_draw(likeliest * (before < sampling.top_p * likeliest.sum()), generator)])


def weigh(logits: torch.Tensor, token_id: int) -> Choice:
    """What logits of shape (vocabulary,) say of a token: its probability, and the five likeliest others.

    Raises ValueError if they are no numbers. Probabilities have six significant digits.
    """
    values: NDArray[np.float32] = logits.float().cpu().numpy()
    with np.errstate(all="ignore"):
        odds = np.exp(values - values.max())
    total = odds.sum(dtype=np.float64)
    if not np.isfinite(total):
        raise ValueError("its logits are not numbers")
    others = [place for place in _greatest(odds, _OTHERS + 1) if place != token_id][:_OTHERS]
    shares = [float(f"{odds[place] / total:.6g}") for place in (token_id, *others)]
    return Choice(shares[0], tuple(zip(others, shares[1:], strict=True)))


def _greatest(values: NDArray[np.float32], count: int) -> list[int]:
    """The places of the greatest values, down from the first: each lies in one of as many stretches with the greatest.

    To look at a few stretches takes half the time of a partition of all.
    """
    starts = np.arange(0, len(values), _STRETCH)
    stretches = np.argsort(-np.maximum.reduceat(values, starts), kind="stable")[:count]
    places = (starts[np.sort(stretches), None] + np.arange(_STRETCH)).ravel()
    places = places[places < len(values)]
    return [int(place) for place in places[np.argsort(-values[places], kind="stable")[:count]]]


def _likeliest(weights: NDArray[np.float32], sampling: Sampling) -> NDArray[np.intp]:
    """At least all tokens that may be drawn, down from the likeliest."""
    size = len(weights)
    if sampling.top_k:
        ids = np.argpartition(weights, -min(sampling.top_k, size))[-min(sampling.top_k, size) :]
    else:
        # All that are rarer than this hold, together, less than what `top_p` leaves out.
        ids = np.flatnonzero(weights >= weights.sum(dtype=np.float64) * (1 - sampling.top_p) / size)
    return ids[np.argsort(-weights[ids], kind="stable")]


def _draw(weights: NDArray[np.floating], generator: torch.Generator) -> int:
    """A place, drawn in proportion to the weights, by one number from the source of chance."""
    starts = np.arange(0, len(weights), _STRETCH)
    reached = np.add.reduceat(weights, starts, dtype=np.float64).cumsum()
    if not np.isfinite(reached[-1]):
        raise ValueError("its logits are not numbers")
    point = torch.rand(1, generator=generator, dtype=torch.float64).item() * reached[-1]
    stretch = _place(reached, point)
    start, before = int(starts[stretch]), reached[stretch - 1] if stretch else 0.0
    return start + _place(weights[start : start + _STRETCH].cumsum(dtype=np.float64), point - before)


def _place(reached: NDArray[np.float64], point: float) -> int:
    """Where a running sum passes a point; however both were rounded, where something was added to it."""
    return int(np.searchsorted(reached, np.clip(point, 0, np.nextafter(reached[-1], 0)), side="right"))
