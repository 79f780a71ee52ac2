"""What a run depends on, and what it tells of each step."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any, Self

LOSSES = "loss.jsonl"
"""The file with one `Progressed` a line, as JSON."""


@dataclass(frozen=True)
class Progressed:
    """One step, as the loss curve has it. `seconds` is the step's own time; `unseen_loss` is measured now and then."""

    step: int
    loss: float
    tokens: int
    learned_tokens: int
    seconds: float
    unseen_loss: float | None = None


@dataclass(frozen=True)
class Cycle:
    """A stretch of steps in which the learning rate goes up, stays level, and falls to nothing over the last quarter.

    Until it falls a cycle does not depend on its length, so one that turns out too short can be made longer (Hu et al.,
    2024, arXiv:2404.06395); one that has ended can be followed by another (Loshchilov & Hutter, 2017,
    arXiv:1608.03983).
    """

    steps: int
    learning_rate: float
    warmup_steps: int = 20

    @property
    def falls_from(self) -> float:
        """The step from which the learning rate falls, along a cosine."""
        return 0.75 * self.steps

    def learning_rate_at(self, step: int) -> float:
        """The learning rate of a step, counted from the cycle's first."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        way = max(0.0, step - self.falls_from) / (self.steps - self.falls_from)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * way))


@dataclass(frozen=True)
class Recipe:
    """All that a run depends on, besides the tables. `alpha` / `rank` scales the adapter's product."""

    seed: int = 2026
    rank: int = 32
    alpha: int = 64
    cycles: tuple[Cycle, ...] = (
        Cycle(1_200, 6e-4),
        Cycle(500, 4e-4),
        Cycle(400, 3e-4),
        Cycle(46, 3e-4, warmup_steps=6),
    )
    conversations_per_step: int = 48

    @property
    def ends(self) -> tuple[int, ...]:
        """The last step of each cycle. The adapter is the mean of what it was there."""
        return tuple(accumulate(cycle.steps for cycle in self.cycles))

    @property
    def steps(self) -> int:
        """The steps of all cycles."""
        return self.ends[-1]

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """The recipe that `asdict` made this of."""
        return cls(**{**fields, "cycles": tuple(Cycle(**cycle) for cycle in fields["cycles"])})

    def goes_on_as(self, other: Recipe, step: int) -> bool:
        """Whether a run of this recipe that has come to this step is, up to there, one of the other."""
        alike = all(self.learning_rate_at(past) == other.learning_rate_at(past) for past in range(step))
        return alike and replace(self, cycles=other.cycles) == other

    def learning_rate_at(self, step: int) -> float:
        """The learning rate of a step of the whole run."""
        for cycle in self.cycles:
            if step < cycle.steps:
                return cycle.learning_rate_at(step)
            step -= cycle.steps
        return 0.0
