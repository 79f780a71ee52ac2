"""What an evaluation came to: the share that went right, by kind, with its 95 % confidence interval."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import sqrt

from rich.table import Table

from chat.tuning.evaluation import Outcome

_Z = 1.959964
_OPENING_WORDS = 3


@dataclass(frozen=True)
class Figure:
    """How many of one kind were tried and went right; `low` and `high` bound the share, 0 to 1."""

    kind: str
    tried: int
    right: int
    low: float
    high: float

    @property
    def share(self) -> float:
        """The share that went right, 0 to 1."""
        return self.right / self.tried


@dataclass(frozen=True)
class Evaluation:
    """One model's figures. `commonest_opening` is the share of replies to open prompts that begin alike."""

    model: str
    figures: tuple[Figure, ...]
    commonest_opening: float

    def to_dict(self) -> dict[str, object]:
        """Plain JSON values."""
        return asdict(self)


def wilson(right: int, tried: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson, 1927, doi:10.1080/01621459.1927.10502953)."""
    share, weight = right / tried, _Z**2 / tried
    middle = (share + weight / 2) / (1 + weight)
    spread = _Z * sqrt(share * (1 - share) / tried + weight / (4 * tried)) / (1 + weight)
    return max(0.0, middle - spread), min(1.0, middle + spread)


def evaluated(model: str, outcomes: Sequence[Outcome]) -> Evaluation:
    """Count the outcomes. Replies to open prompts are not right or wrong; how they begin is counted."""
    judged = [outcome for outcome in outcomes if outcome.kind != "chat"]
    tried = Counter(outcome.kind for outcome in judged)
    right = Counter(outcome.kind for outcome in judged if outcome.right)
    figures = tuple(Figure(kind, tried[kind], right[kind], *wilson(right[kind], tried[kind])) for kind in tried)
    openings = Counter(_opening(outcome) for outcome in outcomes if outcome.kind == "chat")
    commonest = max(openings.values()) / openings.total() if openings else 0.0
    return Evaluation(model, figures, commonest)


def table_of(evaluations: Sequence[Evaluation]) -> Table:
    """The figures side by side, for a terminal."""
    table = Table(title="Held-out stories, share right (95 % confidence)")
    table.add_column("kind")
    for evaluation in evaluations:
        table.add_column(evaluation.model, justify="right")
    columns = [{figure.kind: figure for figure in evaluation.figures} for evaluation in evaluations]
    for kind in dict.fromkeys(kind for column in columns for kind in column):
        table.add_row(kind, *(_cell(column.get(kind)) for column in columns))
    shares = (f"{evaluation.commonest_opening:.0%}" for evaluation in evaluations)
    table.add_row("commonest opening of open replies", *shares)
    return table


def _cell(figure: Figure | None) -> str:
    if figure is None:
        return "–"
    return f"{figure.right}/{figure.tried} {figure.share:.1%} ({figure.low:.0%}–{figure.high:.0%})"


def _opening(outcome: Outcome) -> str:
    reply = outcome.transcript[-1][1]
    return " ".join(reply.casefold().split()[:_OPENING_WORDS])
