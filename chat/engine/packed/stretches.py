"""What logits come to, stretch by stretch: the greatest of each, and the sum of what they make the odds.

Each stretch is looked at by itself, so the results are the same however many threads share them.
"""

# numba infers the types of these functions from the values that they are called with.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, call-arg"

from __future__ import annotations

from chat.engine.packed.compiled import compiled
from chat.engine.packed.elements import greatest, sum_of_exponentials
from chat.packed_model import LANES

STRETCH = 256
"""Sums over stretches of so many, and then within one, take a fraction of the time of one running sum."""


@compiled()
def find_peaks(logits, blocks, first, end, peaks):
    """The greatest of each stretch from `first` to before `end`, of so many blocks of sixteen logits at an address.

    It is no number where one of them is none.
    """
    for stretch in range(first, end):
        before = stretch * (STRETCH // LANES)
        peaks[stretch] = greatest(logits + before * LANES * 4, min(STRETCH // LANES, blocks - before))


@compiled()
def add_up(logits, blocks, first, end, largest, temperature, sums):
    """The sum of e to the power of (logit - largest) / temperature, for each of these stretches."""
    for stretch in range(first, end):
        before = stretch * (STRETCH // LANES)
        size = min(STRETCH // LANES, blocks - before)
        sums[stretch] = sum_of_exponentials(logits + before * LANES * 4, largest, temperature, size)


@compiled()
def largest_of(peaks):
    """The greatest of all stretches' peaks."""
    largest = peaks[0]
    for stretch in range(1, peaks.shape[0]):
        largest = max(largest, peaks[stretch])
    return largest
