"""What a run depends on, and what it tells of each step."""

from __future__ import annotations

from dataclasses import dataclass, replace

LOSSES = "loss.jsonl"
"""The file with one `Progressed` a line, as JSON."""


@dataclass(frozen=True)
class Recipe:
    """All that a run depends on, besides the tables. `alpha` / `rank` scales the adapter's product."""

    seed: int = 2026
    rank: int = 32
    alpha: int = 64
    learning_rate: float = 6e-4
    warmup_steps: int = 20
    steps: int = 1_150
    conversations_per_step: int = 12
    most_tokens_at_once: int = 1_024

    @property
    def falls_from(self) -> float:
        """The step from which the learning rate falls; up to there a run does not depend on its length."""
        return 0.75 * self.steps

    def goes_on_as(self, other: Recipe, step: int) -> bool:
        """Whether a run of this recipe that has come to this step may go on as one of the other."""
        return self == other or (step <= self.falls_from and replace(self, steps=other.steps) == other)


@dataclass(frozen=True)
class Progressed:
    """One step, as the loss curve has it. `seconds` is the step's own time; `unseen_loss` is measured now and then."""

    step: int
    loss: float
    tokens: int
    learned_tokens: int
    seconds: float
    unseen_loss: float | None = None
