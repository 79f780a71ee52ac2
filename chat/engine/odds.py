"""What logits make of each token of a vocabulary: passes over all of them, compiled.

Beside the engine's other threads numpy took twice as long, and with top-p four to ten times (tests/bench/LOG.md,
2026-11-23).
"""

# numba infers the types of these functions from the values that they are called with.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, call-arg, var-annotated"

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from chat.engine.packed.vectors import exponentials, greatest
from chat.packed_model import LANES

# Sums over stretches of so many, and then within one, take a fraction of the time of one running sum.
_STRETCH = 256
# Sums in any order; a function of its own asks whether there is one that is no number.
_ANY_ORDER = {"nnan", "nsz", "reassoc"}


@dataclass(frozen=True)
class Odds:
    """The odds of each token against the likeliest, (vocabulary,); and of each stretch their sum and the greatest."""

    values: NDArray[np.float32]
    sums: NDArray[np.float64]
    peaks: NDArray[np.float32]

    @classmethod
    def of(cls, logits: NDArray[np.float32], temperature: float = 1.0) -> Odds:
        """Those of some logits, divided by the temperature. Raises ValueError if they are no numbers."""
        size = len(logits)
        stretches = -(-size // _STRETCH)
        room = np.empty(-(-size // LANES) * LANES, np.float32)
        sums, peaks = np.empty(stretches, np.float64), np.empty(stretches, np.float32)
        if not _are_numbers(logits):
            raise ValueError("its logits are not numbers")
        _spread(logits, np.float32(temperature), room, sums, peaks)
        return cls(room[:size], sums, peaks)

    @property
    def total(self) -> float:
        """The sum of all."""
        return float(self.sums.sum())

    def place(self, share: float) -> int:
        """The token that a running sum of the odds has come to at a share, from 0 to below 1, of the whole."""
        return int(_place(self.values, self.sums, share * self.total))

    def above(self, place: int) -> float:
        """The sum of all that are likelier than a token; of those as likely, the ones before it."""
        return float(_above(self.values, place))

    def likeliest(self, count: int) -> list[int]:
        """A few tokens, so many or all, down from the likeliest."""
        found = np.empty(count, np.int64)
        return [int(place) for place in found[: _likeliest(self.values, self.peaks, found)]]


@njit(cache=True)
def _are_numbers(logits):
    strange = 0
    for at in range(logits.shape[0]):
        # Also of what is no number it is not true that it is below.
        strange += not logits[at] < np.float32(np.inf)
    return strange == 0


@njit(cache=True, fastmath=_ANY_ORDER)
def _spread(logits, temperature, room, sums, peaks):
    """The odds, and of each stretch the sum and the greatest. `room` is whole blocks."""
    size = logits.shape[0]
    # One by one: for slices numba compiles whatever a message about their shapes needs, which takes seconds.
    for at in range(room.shape[0]):
        room[at] = logits[at] if at < size else -np.inf
    largest = greatest(room.ctypes.data, room.shape[0] // LANES)
    for stretch in range(sums.shape[0]):
        part = room[stretch * _STRETCH : (stretch + 1) * _STRETCH]
        for at in range(part.shape[0]):
            part[at] = (part[at] - largest) / temperature
        exponentials(part.ctypes.data, np.float32(0), part.shape[0] // LANES)
        peaks[stretch] = greatest(part.ctypes.data, part.shape[0] // LANES)
        sums[stretch] = _sum(part[: size - stretch * _STRETCH])


@njit(cache=True, fastmath=_ANY_ORDER)
def _sum(values):
    total = np.float64(0)
    for at in range(values.shape[0]):
        total += values[at]
    return total


@njit(cache=True)
def _place(odds, sums, point):
    stretch = 0
    while stretch < sums.shape[0] - 1 and point >= sums[stretch]:
        point -= sums[stretch]
        stretch += 1
    # However the sums were rounded, it is one to which something was added.
    reached, found = 0.0, stretch * _STRETCH
    for at in range(stretch * _STRETCH, min((stretch + 1) * _STRETCH, odds.shape[0])):
        if odds[at] > 0:
            reached, found = reached + odds[at], at
        if reached > point:
            break
    return found


@njit(cache=True, fastmath=_ANY_ORDER)
def _above(odds, place):
    own, before, behind, total = odds[place], odds[:place], odds[place:], np.float64(0)
    for at in range(before.shape[0]):
        total += before[at] if before[at] >= own else np.float32(0)
    for at in range(behind.shape[0]):
        total += behind[at] if behind[at] > own else np.float32(0)
    return total


@njit(cache=True)
def _likeliest(odds, peaks, found):
    """Fill `found` with the places of the greatest, down from the first; how many there are."""
    count = 0
    for stretch in range(peaks.shape[0]):
        if count < found.shape[0] or peaks[stretch] > odds[found[-1]]:
            for at in range(stretch * _STRETCH, min((stretch + 1) * _STRETCH, odds.shape[0])):
                count = _put_in(odds, at, found, count)
    return count


@njit(cache=True)
def _put_in(odds, place, found, count):
    if count == found.shape[0] and odds[place] <= odds[found[-1]]:
        return count
    count = min(count + 1, found.shape[0])
    at = count - 1
    while at > 0 and odds[found[at - 1]] < odds[place]:
        found[at] = found[at - 1]
        at -= 1
    found[at] = place
    return count
