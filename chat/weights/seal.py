"""The seal on the weights: what they were, and whether they still are."""

from __future__ import annotations

import threading

from torch import nn

from chat.types import WeightsCheck
from chat.weights.fingerprint import Fingerprint, changed_parameters, fingerprint, weight_bytes


class WeightsSeal:
    """Takes a model's fingerprint again and again.

    The last fingerprint taken is the one from before the next turn: between two of them nothing goes unseen, and no
    reply has to wait for a new one. Turns that end while one is being taken share the next. `nbytes` is how much memory
    the weights fill. Safe to use from any number of threads.
    """

    def __init__(self, model: nn.Module, parameters: int) -> None:
        self._model = model
        self._parameters = parameters
        self._changed = threading.Condition()
        self._begun = self._taken = 0
        self.latest: Fingerprint = fingerprint(model)
        self.nbytes = weight_bytes(model)

    def check(self, since: Fingerprint) -> WeightsCheck:
        """Compare an earlier fingerprint with one that is begun from now on."""
        with self._changed:
            wanted = self._begun + 1
            self._changed.wait_for(lambda: self._taken == self._begun or self._taken >= wanted)
            if self._taken < wanted:
                self._take()
            now = self.latest
        return WeightsCheck(since.digest, now.digest, self._parameters, changed_parameters(since, now))

    def _take(self) -> None:
        """Take one, without the lock meanwhile. If that fails nobody shares it: those who wait take their own."""
        self._begun += 1
        self._changed.release()
        now = None
        try:
            now = fingerprint(self._model)
        finally:
            self._changed.acquire()
            if now is None:
                self._begun = self._taken
            else:
                self.latest, self._taken = now, self._begun
            self._changed.notify_all()
