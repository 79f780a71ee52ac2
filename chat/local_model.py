"""One loaded model with all that a turn needs of it: it encodes, it answers, and its weights are under seal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from chat.encoding import Encoder
from chat.engine import MAX_RUNNING, Engine, PrefixCache
from chat.engine.packed import remember_that_all_is_compiled, was_compiled
from chat.packed_model import PackedModel
from chat.types import ModelInfo
from chat.weights.load import LoadedModel
from chat.weights.progress import Report, busy_bar
from chat.weights.seal import WeightsSeal


@dataclass(frozen=True)
class LocalModel:
    """Make one with `start_model`; `close` it at the end.

    `fresh_engine` starts another engine on the same weights, which has read nothing and keeps nothing; close that too.
    """

    info: ModelInfo
    encoder: Encoder
    engine: Engine
    seal: WeightsSeal
    fresh_engine: Callable[[], Engine]

    def close(self) -> None:
        """Stop the engine's thread."""
        self.engine.close()


def start_model(
    loaded: LoadedModel,
    prefix_cache: PrefixCache | None = None,
    max_running: int = MAX_RUNNING,
    report: Report = lambda _line: None,
) -> LocalModel:
    """Start the engine on loaded weights and take their first fingerprint. Raises WeightsError."""
    encoder = Encoder(loaded.tokenizer)
    stop_token_ids = loaded.end_of_sequence_ids | encoder.stop_token_ids()
    with _compiling(loaded, report):
        engine = Engine(loaded.model, stop_token_ids, prefix_cache, max_running)
    seal = WeightsSeal(loaded.model, loaded.info.parameters)
    fresh = partial(Engine, loaded.model, stop_token_ids, PrefixCache(max_bytes=0), max_running=1)
    return LocalModel(loaded.info, encoder, engine, seal, fresh)


@contextmanager
def _compiling(loaded: LoadedModel, report: Report) -> Iterator[None]:
    if not isinstance(loaded.model, PackedModel) or was_compiled():
        yield
        return
    report("Compiling the forward pass for this processor. This happens once and takes about half a minute.")
    with busy_bar("Compiling"):
        yield
    remember_that_all_is_compiled()
