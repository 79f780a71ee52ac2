"""Fixtures that every test may use: tiny models of three families, and the real default model.

With CI=true nothing may be skipped: a skip is a failure, as it would hide what was not tested.
"""

from __future__ import annotations

import os

# Both are read when the libraries are first imported. Tests ask nothing of the network.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"

import threading
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import platformdirs
import pytest
import torch
from page_fixtures import app, app_folder, browser, unhurried, unhurried_app, visitor  # noqa: F401
from running_app import RunningApp, write_talkative_model
from tiny_models import write_tiny_gemma, write_tiny_llama, write_tiny_qwen

from chat.config import DEFAULT_MODEL
from chat.encoding import Encoder
from chat.engine import Engine, PrefixCache
from chat.engine.odds import Odds
from chat.local_model import LocalModel, start_model
from chat.weights import LoadedModel, load_model
from chat.weights.seal import WeightsSeal
from memory.database import Database, open_database
from memory.store import OwnerStore


def logits_of(*odds: Odds) -> torch.Tensor:
    """The logits of one, (vocabulary,), or of several below each other."""
    values = torch.stack([torch.from_numpy(one.logits) for one in odds])
    return values[0] if len(odds) == 1 else values


def ignore(_line: str) -> None:
    """Take a report that no test reads."""


def _weights_data_dir() -> Path:
    given = os.environ.get("MARGINALIA_TEST_DATA_DIR")
    return Path(given or platformdirs.user_data_dir("marginalia", appauthor=False))


def _nothing_skips(report: pytest.TestReport | pytest.CollectReport) -> pytest.TestReport | pytest.CollectReport:
    expected_to_fail = hasattr(report, "wasxfail")
    if report.skipped and not expected_to_fail and os.environ.get("CI") == "true":
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid} was skipped, and with CI=true nothing may be: {report.longrepr}"
    return report


def pytest_sessionstart(session: pytest.Session) -> None:
    """Unpack the default model and compile the engine before the workers start, who would all do it at once."""
    if not hasattr(session.config, "workerinput"):
        as_the_app_has_it = load_model(DEFAULT_MODEL, _weights_data_dir(), None, print, "auto")
        start_model(as_the_app_has_it, report=print).close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return _nothing_skips((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return _nothing_skips((yield))


@pytest.fixture(scope="session")
def tiny_llama_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama 3: headers, byte-level BPE with bos, grouped-query attention."""
    return write_tiny_llama(tmp_path_factory.mktemp("tiny") / "llama")


@pytest.fixture(scope="session")
def tiny_qwen_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Qwen 3 in bfloat16: ChatML, byte-level BPE without bos, tied embeddings."""
    return write_tiny_qwen(tmp_path_factory.mktemp("tiny") / "qwen")


@pytest.fixture(scope="session")
def tiny_gemma_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Gemma 3: no system role, SentencePiece-like BPE with byte fallback, sliding-window layers."""
    return write_tiny_gemma(tmp_path_factory.mktemp("tiny") / "gemma")


def _loaded(folder: Path) -> LoadedModel:
    return load_model(str(folder), folder, None, ignore)


@pytest.fixture(scope="session")
def tiny_llama(tiny_llama_dir: Path) -> LoadedModel:
    return _loaded(tiny_llama_dir)


@pytest.fixture(scope="session")
def tiny_qwen(tiny_qwen_dir: Path) -> LoadedModel:
    return _loaded(tiny_qwen_dir)


@pytest.fixture(scope="session")
def tiny_gemma(tiny_gemma_dir: Path) -> LoadedModel:
    return _loaded(tiny_gemma_dir)


@pytest.fixture(scope="session")
def weights_data_dir() -> Path:
    """Where the default model is unpacked: once per machine, not once per run, as that takes half a gigabyte."""
    return _weights_data_dir()


@pytest.fixture(scope="session")
def smollm2(weights_data_dir: Path) -> LoadedModel:
    """The real default model. It is shared by all tests: whoever changes it must put it back."""
    return load_model(DEFAULT_MODEL, weights_data_dir, None, ignore)


# How long a test waits for another thread before it fails.
PATIENCE = 20
# A logit beside which all others are as good as impossible.
SURE = 1e6


class WatchedModel:
    """A model with a watcher at its door.

    It notes the ids of each forward pass and the logits that came of them, and it can be held there, or made to do
    something else first: `before` is called with the number of the pass, counted from 0. `rigged` has the tokens that
    a pass must lead to, each as likely as the others. In everything else it is the model.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.handed: list[tuple[int, ...]] = []
        self.logits: list[torch.Tensor] = []
        self.before: Callable[[int], None] = lambda _number: None
        self.rigged: dict[int, tuple[int, ...]] = {}
        self.held = threading.Event()
        self._open = threading.Event()
        self._open.set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def hold(self) -> None:
        """Keep the next pass waiting at the door; `held` is set when it is there."""
        self.held.clear()
        self._open.clear()

    def release(self) -> None:
        """Let it, and all that follow, pass."""
        self._open.set()

    def __call__(self, *, input_ids: torch.Tensor, **options: object) -> Any:
        self.handed.append(tuple(input_ids[0].tolist()))
        if not self._open.is_set():
            self.held.set()
            assert self._open.wait(PATIENCE), "nobody released the model"
        number = len(self.handed) - 1
        self.before(number)
        output = self.model(input_ids=input_ids, **options)
        if number in self.rigged:
            output.logits[0, -1, list(self.rigged[number])] = SURE
        self.logits.append(output.logits[0, -1].clone())
        return output


@pytest.fixture
def watched(tiny_llama: LoadedModel) -> Iterator[WatchedModel]:
    """The tiny Llama, watched."""
    model = WatchedModel(tiny_llama.model)
    yield model
    model.release()


@pytest.fixture
def local_model(tiny_llama: LoadedModel, watched: WatchedModel) -> Iterator[LocalModel]:
    """A local model around `watched` that knows no stop token, so that every reply has the length asked for."""
    seal = WeightsSeal(tiny_llama.model, tiny_llama.info.parameters)

    def fresh_engine() -> Engine:
        return Engine(watched, frozenset(), PrefixCache(max_bytes=0))

    encoder, engine = Encoder(tiny_llama.tokenizer), Engine(watched, frozenset())
    model = LocalModel(tiny_llama.info, encoder, engine, seal, fresh_engine)
    yield model
    watched.release()
    model.close()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """A new, empty SQLite database."""
    database = open_database(f"sqlite:///{tmp_path / 'marginalia.db'}")
    yield database
    database.close()


@pytest.fixture
def store(database: Database) -> OwnerStore:
    """Ada's shelf in it."""
    return database.for_owner("ada")


@pytest.fixture(scope="session")
def talkative_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model whose replies are as long as was asked for, up to 4,096 tokens."""
    return write_talkative_model(tmp_path_factory.mktemp("tiny") / "talkative")


@pytest.fixture(scope="session")
def running_app(talkative_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    """The real app on the talkative model. All tests share it, each as people of its own."""
    with RunningApp(talkative_dir, tmp_path_factory.mktemp("app")) as started:
        yield started
