"""The threads that run a forward pass together."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from chat.engine.packed.forward_pass import run, run_when_told
from chat.engine.packed.memory import LINE, zeros
from chat.engine.packed.orders import GONE, JOIN, LEAVE, give


class Crew:
    """So many threads, the one that asks for a pass among them. The others look out for the next pass for some
    milliseconds, then sleep. Only one thread may ask."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._others = ThreadPoolExecutor(max(1, threads - 1), thread_name_prefix="marginalia-engine")
        self._joined: list[Future[Any]] = []
        # In a cache line of its own each: how many have arrived and the round, and every thread's order.
        self._arrivals, self._orders = zeros((2, LINE // 8), int), zeros((threads, LINE // 8), int)
        self._orders[:] = GONE

    def run(self, *pass_: Any) -> None:
        """Run a pass, all threads together. What it runs on stays in use until `dismiss`, and is to be the same."""
        for thread in range(1, self._threads):
            order = self._orders[thread]
            if not give(order.ctypes.data, JOIN):
                order[0] = JOIN
                place = (thread, self._threads, self._arrivals.ctypes.data)
                self._joined.append(self._others.submit(run_when_told, order.ctypes.data, *place, *pass_))
        run(0, self._threads, self._arrivals.ctypes.data, *pass_)
        self._joined = [each for each in self._joined if not each.done()]

    def dismiss(self) -> None:
        """Come back when no thread uses any more what passes ran on."""
        for thread in range(1, self._threads):
            give(self._orders[thread].ctypes.data, LEAVE)
        for joined in self._joined:
            joined.result()
