"""The threads that run a forward pass together."""

from __future__ import annotations

import os
import threading
import weakref
from typing import Any

from chat.engine.packed.aligned import LINE, zeros
from chat.engine.packed.forward_pass import run, run_when_called
from chat.engine.packed.pipe import call


class Crew:
    """So many threads, the one that asks for a pass among them; only one may ask. All passes run on the same `work`.

    When a crew is forgotten, its threads end.
    """

    def __init__(self, threads: int, *work: Any) -> None:
        # How many have arrived and the round, in a cache line of its own each.
        self._arrivals = zeros((2, LINE // 8), int)
        self._pass = (threads, self._arrivals.ctypes.data, *work)
        self._pipes: list[int] = []
        for thread in range(1, threads):
            waiting, calling = os.pipe()
            self._pipes.append(calling)
            called = (waiting, self._arrivals, thread, *self._pass)
            threading.Thread(target=_help, args=called, name="marginalia-engine", daemon=True).start()
        weakref.finalize(self, _dismiss, self._pipes)

    def run(self) -> None:
        """Run a pass, all threads together."""
        for pipe in self._pipes:
            call(pipe)
        run(0, *self._pass)


def _help(waiting: int, _arrivals: object, *place_and_pass: Any) -> None:
    # `_arrivals` is kept here: its address does not keep it.
    run_when_called(waiting, *place_and_pass)
    os.close(waiting)


def _dismiss(pipes: list[int]) -> None:
    for pipe in pipes:
        os.close(pipe)
