"""The seal: turns that end together share a fingerprint, and none gets one that was begun before it ended."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import PATIENCE
from torch import nn

from chat.weights.fingerprint import Fingerprint, fingerprint
from chat.weights.seal import WeightsSeal


class Slowly:
    """Takes fingerprints one by one, each only once it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun = threading.Semaphore(0)
        self.go = threading.Semaphore(0)
        self.taken = 0
        self.fails = False
        monkeypatch.setattr("chat.weights.seal.fingerprint", self._take)

    def _take(self, model: nn.Module) -> Fingerprint:
        self.begun.release()
        assert self.go.acquire(timeout=PATIENCE)
        self.taken += 1
        if self.fails:
            self.fails = False
            raise OSError("the memory is gone")
        return fingerprint(model)


@pytest.fixture
def model() -> nn.Linear:
    return nn.Linear(4, 4)


@pytest.fixture
def seal(model: nn.Linear) -> WeightsSeal:
    return WeightsSeal(model, 20)  # type: ignore[arg-type]


def test_whoever_comes_while_one_is_taken_gets_the_next_and_shares_it(
    model: nn.Linear, seal: WeightsSeal, monkeypatch: pytest.MonkeyPatch
) -> None:
    slowly, before = Slowly(monkeypatch), seal.latest
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(seal.check, before)
        assert slowly.begun.acquire(timeout=PATIENCE)
        nn.init.ones_(model.weight)
        late = [pool.submit(seal.check, before) for _ in range(3)]
        for _ in range(4):
            slowly.go.release()
        first.result(PATIENCE)
        checks = [one.result(PATIENCE) for one in late]
    assert {check.after for check in checks} == {fingerprint(model).digest}
    assert all(check.changed_parameters == 16 for check in checks)
    assert slowly.taken <= 4
    assert seal.latest == fingerprint(model)


def test_one_that_fails_is_shared_by_nobody(
    model: nn.Linear, seal: WeightsSeal, monkeypatch: pytest.MonkeyPatch
) -> None:
    slowly, before = Slowly(monkeypatch), seal.latest
    slowly.fails = True
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(seal.check, before)
        assert slowly.begun.acquire(timeout=PATIENCE)
        nn.init.ones_(model.weight)
        second = pool.submit(seal.check, before)
        slowly.go.release()
        with pytest.raises(OSError, match="memory"):
            first.result(PATIENCE)
        assert slowly.begun.acquire(timeout=PATIENCE)
        slowly.go.release()
        assert second.result(PATIENCE).changed_parameters == 16
