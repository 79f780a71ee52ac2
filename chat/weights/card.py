"""The model card that ships beside the adapter: what was done to the base model, and how it does."""

from __future__ import annotations

import json
from dataclasses import dataclass

from chat.weights.merge import SHIPPED

CARD = "MODEL_CARD.md"
LOSSES = "loss.jsonl"
TRAINING = "training.json"


@dataclass(frozen=True)
class LossPoint:
    """The loss, in nats a token, of one training step; on conversations never trained on, where it was measured."""

    step: int
    loss: float
    unseen_loss: float | None


@dataclass(frozen=True)
class TrainingRun:
    """What the run took, as it was measured. `operations` are floating-point ones, an estimate."""

    seconds: float
    operations: int
    hardware: str
    finished: str


@dataclass(frozen=True)
class ModelCard:
    """The card's text in Markdown, and the loss curve and the cost of the run that it tells of."""

    markdown: str
    losses: tuple[LossPoint, ...]
    run: TrainingRun


def shipped_card() -> ModelCard:
    """The card of the adapter in this package."""
    lines = (SHIPPED / LOSSES).read_text("utf-8").splitlines()
    steps = [json.loads(line) for line in lines]
    losses = tuple(LossPoint(step["step"], step["loss"], step["unseen_loss"]) for step in steps)
    run = json.loads((SHIPPED / TRAINING).read_text("utf-8"))
    took = TrainingRun(run["seconds"], run["flops"], run["hardware"], run["finished"])
    return ModelCard((SHIPPED / CARD).read_text("utf-8"), losses, took)
