"""The seal on the weights: what they were, and whether they still are."""

from __future__ import annotations

import threading

from transformers import PreTrainedModel

from chat.types import WeightsCheck
from chat.weights.fingerprint import Fingerprint, changed_parameters, fingerprint


class WeightsSeal:
    """Takes a model's fingerprint again and again.

    The last fingerprint taken is the one from before the next turn: between two of them nothing goes unseen, and no
    reply has to wait for a new one. Safe to use from any number of threads.
    """

    def __init__(self, model: PreTrainedModel, parameters: int) -> None:
        self._model = model
        self._parameters = parameters
        self._taking = threading.Lock()
        self.latest: Fingerprint = fingerprint(model)

    def check(self, since: Fingerprint) -> WeightsCheck:
        """Take the fingerprint now and compare it with an earlier one."""
        with self._taking:
            now = fingerprint(self._model)
            self.latest = now
        return WeightsCheck(since.digest, now.digest, self._parameters, changed_parameters(since, now))
