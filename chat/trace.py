"""The way of one turn through the app, timed: each receipt ends with it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter

from chat.engine.events import Finished
from chat.types import Stage, StageName


@dataclass
class Trace:
    """Where a turn's time went, from the moment its message arrived."""

    stages: list[Stage] = field(default_factory=list)
    _began: float = field(default_factory=perf_counter)

    @contextmanager
    def stage(self, name: StageName) -> Iterator[None]:
        """Time what is done within."""
        start = self._elapsed_ms()
        yield
        self._add(name, start, self._elapsed_ms() - start)

    def called(self, finished: Finished) -> None:
        """Add what the engine tells of a call that has just ended: the wait, the reading, the writing."""
        timing = finished.timing
        start = self._elapsed_ms() - timing.total_ms
        spent: dict[StageName, float] = {
            "queue": timing.queue_ms,
            "read": timing.prefill_ms,
            "write": timing.decode_ms,
        }
        for name, ms in spent.items():
            self._add(name, start, ms)
            start += ms

    def _add(self, name: StageName, start_ms: float, ms: float) -> None:
        self.stages.append(Stage(name, round(start_ms, 3), round(ms, 3)))

    def _elapsed_ms(self) -> float:
        return (perf_counter() - self._began) * 1000
