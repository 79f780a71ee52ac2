"""What logits make of each token of a vocabulary: compiled, and only as far as it is asked for.

Beside the engine's other threads numpy took twice as long, and with top-p four to ten times (tests/bench/LOG.md,
2026-11-23).
"""

# numba infers the types of these functions from the values that they are called with.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, call-arg, var-annotated"

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray

from chat.engine.packed.elements import exponentials
from chat.engine.packed.stretches import STRETCH, add_up, find_peaks
from chat.packed_model import LANES


@dataclass(frozen=True)
class Odds:
    """Logits, (vocabulary,), and the odds of each token against the likeliest: e^((logit - largest) / temperature).

    Of each stretch of the vocabulary `peaks` has the greatest logit and `sums` the sum of the odds.
    """

    logits: NDArray[np.float32]
    peaks: NDArray[np.float32]
    sums: NDArray[np.float32]
    temperature: float = 1.0

    @classmethod
    def of(cls, logits: torch.Tensor) -> Odds:
        """Those of a model's logits, at temperature 1."""
        values = logits.float().contiguous().cpu().numpy()
        whole_blocks = np.pad(values, (0, -len(values) % LANES), constant_values=-np.inf)
        stretches = -(-len(values) // STRETCH)
        peaks, sums = np.empty(stretches, np.float32), np.empty(stretches, np.float32)
        find_peaks(whole_blocks.ctypes.data, len(whole_blocks) // LANES, 0, stretches, peaks)
        return cls(whole_blocks[: len(values)], peaks, sums).at(1.0)

    def at(self, temperature: float) -> Odds:
        """Those of the same logits at another temperature."""
        sums = np.empty_like(self.sums)
        found = replace(self, sums=sums, temperature=temperature)
        add_up(self.logits.ctypes.data, -(-len(self.logits) // LANES), 0, len(sums), *found._measure, sums)
        return found

    @property
    def _measure(self) -> tuple[np.float32, np.float32]:
        return np.float32(self.largest), np.float32(self.temperature)

    @cached_property
    def largest(self) -> float:
        """The greatest logit. It is no number if one of them is none."""
        return float(self.peaks.max())

    @cached_property
    def total(self) -> float:
        """The sum of all."""
        return float(self.sums.sum(dtype=np.float64))

    def __getitem__(self, place: int) -> float:
        """The odds of one token."""
        return math.exp((float(self.logits[place]) - self.largest) / self.temperature)

    def place(self, share: float) -> int:
        """The token that a running sum of the odds has come to at a share, from 0 to below 1, of the whole."""
        return int(_place(self.logits, self.sums, *self._measure, share * self.total))

    def above(self, place: int) -> float:
        """The sum of all that are likelier than a token; of those as likely, the ones before it."""
        return float(_above(self.logits, self.peaks, *self._measure, place))

    def likeliest(self, count: int) -> list[int]:
        """A few tokens, so many or all, down from the likeliest."""
        found = np.empty(count, np.int64)
        return [int(place) for place in found[: _likeliest(self.logits, self.peaks, found)]]


@njit(cache=True)
def _of_stretch(logits, stretch, largest, temperature, odds):
    """Write the odds of a stretch's tokens; how many there are."""
    start = stretch * STRETCH
    count = min(STRETCH, logits.shape[0] - start)
    for at in range(count):
        odds[at] = (logits[start + at] - largest) / temperature
    exponentials(odds.ctypes.data, np.float32(0), STRETCH // LANES)
    return count


@njit(cache=True)
def _place(logits, sums, largest, temperature, point):
    stretch = 0
    while stretch < sums.shape[0] - 1 and point >= sums[stretch]:
        point -= sums[stretch]
        stretch += 1
    odds = np.empty(STRETCH, np.float32)
    count, whole = _of_stretch(logits, stretch, largest, temperature, odds), 0.0
    for at in range(count):
        whole += odds[at]
    # The stretch's own sum was rounded elsewhere; at its end must not stand a token that adds nothing.
    point *= whole / sums[stretch]
    reached, found = 0.0, 0
    for at in range(count):
        found = at if reached + odds[at] > reached else found
        reached += odds[at]
        if reached > point:
            break
    return stretch * STRETCH + found


@njit(cache=True)
def _above(logits, peaks, largest, temperature, place):
    odds, total = np.empty(STRETCH, np.float32), 0.0
    for stretch in range(peaks.shape[0]):
        if peaks[stretch] >= logits[place]:
            for at in range(_of_stretch(logits, stretch, largest, temperature, odds)):
                token = stretch * STRETCH + at
                if logits[token] > logits[place] or (logits[token] == logits[place] and token < place):
                    total += odds[at]
    return total


@njit(cache=True)
def _likeliest(logits, peaks, found):
    """Fill `found` with the places of the greatest, down from the first; how many there are."""
    count = 0
    for stretch in range(peaks.shape[0]):
        if count < found.shape[0] or peaks[stretch] > logits[found[-1]]:
            for at in range(stretch * STRETCH, min((stretch + 1) * STRETCH, logits.shape[0])):
                count = _put_in(logits, at, found, count)
    return count


@njit(cache=True)
def _put_in(logits, place, found, count):
    if count == found.shape[0] and logits[place] <= logits[found[-1]]:
        return count
    count = min(count + 1, found.shape[0])
    at = count - 1
    while at > 0 and logits[found[at - 1]] < logits[place]:
        found[at] = found[at - 1]
        at -= 1
    found[at] = place
    return count
