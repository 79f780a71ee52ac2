"""The same model at each precision, one after another: what it takes, how quick it is, what it answers.

Each is loaded beside the model that runs, asked, and let go before the next, so that only one more is ever in memory.
For the same reason only one comparison runs at a time, whoever asks for it; the others wait in line.
"""

from __future__ import annotations

import ctypes
import gc
import threading
from collections.abc import Callable, Generator
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic

from chat.compare import PaneFailed
from chat.config import Precision
from chat.errors import MarginaliaError, WeightsError
from chat.local_model import start_model
from chat.turn import TurnEvent, TurnRequest, TurnStore, run_turn
from chat.types import ModelInfo
from chat.weights.artifact import held_tensors
from chat.weights.load import LoadedModel

PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16", "int8", "int4")
# How often somebody in line is heard of; a reader that has gone away is noticed no later than this.
HEARTBEAT_SECONDS = 0.5
# Loading holds the weights in 32 bits, and once more while they are turned into something else.
_PEAK_BYTES_A_WEIGHT = 8


@dataclass(frozen=True)
class InLine:
    """Waiting; so many other comparisons end before this one begins."""

    before: int


@dataclass(frozen=True)
class Loading:
    """The model is being read from the disk at this precision."""


@dataclass(frozen=True)
class Loaded:
    """The model is ready at this precision: what it takes in memory, in bytes, and the time that loading took.

    In that time its files were checked and its first fingerprint was taken.
    """

    model: ModelInfo
    nbytes: int
    load_ms: float
    fingerprint: str


@dataclass(frozen=True)
class AtPrecision:
    """What the model does at one precision."""

    precision: Precision
    event: Loading | Loaded | TurnEvent | PaneFailed


PrecisionEvent = InLine | AtPrecision


class PrecisionComparison:
    """Runs one comparison at a time. Safe to call from any number of threads.

    `load` gives the model at a precision and raises WeightsError where it cannot; `parameters` says how large it is.
    """

    def __init__(
        self,
        load: Callable[[Precision], LoadedModel],
        parameters: int,
        free_memory: Callable[[], int | None] | None = None,
    ) -> None:
        self._load = load
        self._needed = parameters * _PEAK_BYTES_A_WEIGHT
        self._free_memory = free_memory or available_memory
        self._line: list[object] = []
        self._moved = threading.Condition()

    def run(
        self, request: TurnRequest, store: TurnStore, stop: threading.Event
    ) -> Generator[PrecisionEvent, None, None]:
        """Ask at each precision, and tell how it goes; the turns are recorded one beside the other.

        Set `stop`, or close the iterator, to end it: within one token, or when the model that is being read is there.
        """
        ticket = object()
        with self._moved:
            self._line.append(ticket)
        try:
            while (before := self._before(ticket)) and not stop.is_set():
                yield InLine(before)
            for place, precision in enumerate(PRECISIONS):
                if stop.is_set():
                    return
                with closing(self._at(precision, replace(request, position=place), store, stop)) as events:
                    yield from (AtPrecision(precision, event) for event in events)
                _give_memory_back()
        finally:
            _give_memory_back()
            with self._moved:
                self._line.remove(ticket)
                self._moved.notify_all()

    def _before(self, ticket: object) -> int:
        """How many are before this one in line, after giving them a moment to end."""
        with self._moved:
            self._moved.wait_for(lambda: self._line[0] is ticket, HEARTBEAT_SECONDS)
            return self._line.index(ticket)

    def _at(
        self, precision: Precision, request: TurnRequest, store: TurnStore, stop: threading.Event
    ) -> Generator[Loading | Loaded | TurnEvent | PaneFailed, None, None]:
        yield Loading()
        try:
            self._check_memory(precision)
            began = monotonic()
            loaded = self._load(precision)
            model = start_model(loaded)
            load_ms = 1000 * (monotonic() - began)
        except (MarginaliaError, MemoryError) as error:
            yield PaneFailed(_sentence(precision, error))
            return
        nbytes = sum(tensor.nbytes for tensor in held_tensors(loaded.model))
        try:
            yield Loaded(model.info, nbytes, load_ms, model.seal.latest.digest)
            yield from run_turn(request, store, model, stop)
        except MarginaliaError as error:
            yield PaneFailed(_sentence(precision, error))
        finally:
            model.close()

    def _check_memory(self, precision: Precision) -> None:
        free = self._free_memory()
        if free is not None and free < self._needed:
            raise WeightsError(
                f"Loading {precision} can take {self._needed / 1e9:.1f} GB of memory beside the model that runs, and "
                f"{free / 1e9:.1f} GB are free. Close something else, then compare again."
            )


def _sentence(precision: Precision, error: Exception) -> str:
    if isinstance(error, MemoryError):
        return f"There is not enough memory for {precision}. Close something else, then compare again."
    return str(error)


def _give_memory_back() -> None:
    """Free what was let go, cycles included, and give it back to the system, which glibc does only when asked."""
    gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def available_memory() -> int | None:
    """The bytes that programs can still have without swapping, where the system tells (Linux), else None."""
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
        return 1024 * int(next(line.split()[1] for line in lines if line.startswith("MemAvailable:")))
    return None
