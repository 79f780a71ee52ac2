"""What a run depends on, and what it tells of each step."""

from __future__ import annotations

from dataclasses import dataclass

LOSSES = "loss.jsonl"
"""The file with one `Progressed` a line, as JSON."""


@dataclass(frozen=True)
class Recipe:
    """All that a run depends on, besides the tables. `alpha` / `rank` scales the adapter's product."""

    seed: int = 2026
    rank: int = 16
    alpha: int = 32
    learning_rate: float = 6e-4
    warmup_steps: int = 20
    steps: int = 480
    conversations_per_step: int = 12
    most_tokens_at_once: int = 1_024


@dataclass(frozen=True)
class Progressed:
    """One step, as the loss curve has it. `seconds` is the step's own time; `unseen_loss` is measured now and then."""

    step: int
    loss: float
    tokens: int
    learned_tokens: int
    seconds: float
    unseen_loss: float | None = None
