"""The same model at each precision: one more in memory at a time, one comparison at a time, and nothing stays."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import ignore

from chat.compare import PaneFailed
from chat.config import Precision
from chat.errors import WeightsError
from chat.precisions import PRECISIONS, AtPrecision, InLine, Loaded, Loading, PrecisionComparison
from chat.turn import Done, TurnRequest
from chat.types import Sampling
from chat.ui.model.precision_view import columns_html, difference, first_columns, status_of_columns
from chat.weights import LoadedModel, load_model
from memory.store import OwnerStore

Load = Callable[[Precision], LoadedModel]


@pytest.fixture
def load(tiny_llama_dir: Path, tmp_path: Path) -> Load:
    """The tiny Llama, read anew at each call; it cannot be had in int4."""

    def load(precision: Precision) -> LoadedModel:
        if precision == "int4":
            raise WeightsError("It cannot be had in <int4>.")
        return load_model(str(tiny_llama_dir), tmp_path, None, ignore, "bf16" if precision == "bf16" else "fp32")

    return load


@pytest.fixture
def request_(store: OwnerStore) -> TurnRequest:
    recorded_in = store.new_conversation("compare", "Precisions")
    return TurnRequest(recorded_in, "What is tea?", None, use_memory=False, sampling=Sampling(max_new_tokens=6))


def of(events: list[AtPrecision | InLine], precision: Precision) -> list[object]:
    return [each.event for each in events if isinstance(each, AtPrecision) and each.precision == precision]


def test_each_precision_reads_the_same_ids_and_leaves_a_receipt_and_one_that_cannot_be_had_says_so(
    load: Load, request_: TurnRequest, store: OwnerStore
) -> None:
    events = list(PrecisionComparison(load, 1).run(request_, store, threading.Event()))
    done = {each.precision: each.event.receipt for each in events if isinstance(each.event, Done)}
    assert list(done) == ["fp32", "bf16", "int8"]
    assert len({receipt.prompt.token_ids for receipt in done.values()}) == 1
    assert (done["fp32"].model.dtype, done["bf16"].model.dtype) == ("float32", "bfloat16")
    (loaded,) = (event for event in of(events, "bf16") if isinstance(event, Loaded))
    assert loaded.fingerprint == done["bf16"].weights.before == done["bf16"].weights.after
    assert [type(event) for event in of(events, "int4")] == [Loading, PaneFailed]
    assert [store.receipt(turn.id) for turn in store.turns(request_.conversation_id)] == list(done.values())


def test_one_more_model_is_in_memory_at_a_time_and_none_at_the_end(
    load: Load, request_: TurnRequest, store: OwnerStore
) -> None:
    models: list[weakref.ref[object]] = []

    def watched(precision: Precision) -> LoadedModel:
        assert not [model for model in models if model()], "the last one is still there"
        loaded = load(precision)
        models.append(weakref.ref(loaded.model))
        return loaded

    list(PrecisionComparison(watched, 1).run(request_, store, threading.Event()))
    assert len(models) == 3
    assert not [model for model in models if model()]


def test_somebody_who_comes_second_waits_in_line_and_is_told(
    load: Load, request_: TurnRequest, store: OwnerStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chat.precisions.HEARTBEAT_SECONDS", 0.01)
    comparison = PrecisionComparison(load, 1)
    first, second = (comparison.run(request_, store, threading.Event()) for _ in range(2))
    assert next(first) == AtPrecision("fp32", Loading())
    assert next(second) == InLine(1)
    first.close()
    assert AtPrecision("fp32", Loading()) in [next(second), next(second)]
    second.close()


def test_a_comparison_that_is_stopped_loads_no_more(load: Load, request_: TurnRequest, store: OwnerStore) -> None:
    stop = threading.Event()
    events = []
    for event in PrecisionComparison(load, 1).run(request_, store, stop):
        events.append(event)
        stop.set()
    assert of(events, "fp32")
    assert not of(events, "bf16")


def test_where_memory_is_short_nothing_is_loaded(load: Load, request_: TurnRequest, store: OwnerStore) -> None:
    comparison = PrecisionComparison(load, 1_000_000_000, free_memory=lambda: 2_000_000_000)
    events = list(comparison.run(request_, store, threading.Event()))
    failed = [each.event for each in events if isinstance(each, AtPrecision) and isinstance(each.event, PaneFailed)]
    assert len(failed) == len(PRECISIONS)
    assert failed[0].sentence.startswith(
        "Loading fp32 can take 8.0 GB of memory beside the model that runs, and 2.0 GB"
    )


def test_the_columns_tell_what_was_measured_and_where_an_answer_first_differs(
    load: Load, request_: TurnRequest, store: OwnerStore
) -> None:
    columns = first_columns()
    for event in PrecisionComparison(load, 1).run(request_, store, threading.Event()):
        assert isinstance(event, AtPrecision)
        columns[event.precision] = columns[event.precision].after(event)
        waiting = isinstance(event.event, Done | Loaded | PaneFailed)
        assert waiting or event.precision in status_of_columns(columns)
    html = columns_html(columns, "bfloat16", lambda ids: tuple(f"[{token_id}]" for token_id in ids))
    assert html.count("In memory") == 3
    assert html.count("runs now") == 1
    assert "It cannot be had in &lt;int4&gt;." in html
    receipts = [columns[precision].asked.receipt for precision in ("fp32", "int8")]
    assert receipts[0] is not None
    assert receipts[1] is not None
    assert f"The same as fp32’s, all {len(receipts[0].completion.token_ids)} tokens." in html
    assert receipts[0].prompt.sha256 in html


def test_the_first_difference_is_told_by_its_tokens(load: Load, request_: TurnRequest, store: OwnerStore) -> None:
    *_, last = (
        each.event
        for each in PrecisionComparison(load, 1).run(request_, store, threading.Event())
        if isinstance(each, AtPrecision) and isinstance(each.event, Done)
    )
    assert isinstance(last, Done)

    def with_ids(*token_ids: int) -> object:
        return replace(last.receipt, completion=replace(last.receipt.completion, token_ids=token_ids))

    def spelled(ids: object) -> tuple[str, ...]:
        return tuple(f"<{token_id}>" for token_id in ids)  # type: ignore[attr-defined]

    said = difference(with_ids(1, 2, 3), with_ids(1, 5, 3), spelled)  # type: ignore[arg-type]
    assert said == "First differs from fp32’s at token 2: “&lt;2&gt;” where fp32 has “&lt;5&gt;”."
    assert difference(with_ids(1), with_ids(1, 5), spelled).endswith("the end where fp32 has “&lt;5&gt;”.")  # type: ignore[arg-type]
