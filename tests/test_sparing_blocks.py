"""Gradio's Blocks with less work: what reaches the browser is the same."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from typing import Any, TypeVar

import gradio as gr
import pytest

from chat.ui.sparing_blocks import SparingBlocks

T = TypeVar("T")
NAMED_ONLY = {0: "<p>now</p>"}


async def _sent(kind: type[gr.Blocks], update: Any) -> tuple[list[Any], set[int]]:
    with kind(analytics_enabled=False) as blocks:
        outputs = [gr.HTML("before"), gr.Button("Send"), gr.Textbox("typed")]
        gr.Button("Go").click(lambda: None, [], outputs)
    (event,) = blocks.fns.values()
    state = gr.state_holder.SessionState(blocks)
    update = deepcopy(update)  # Gradio takes some of it out
    named = {outputs[place]: value for place, value in update.items()} if isinstance(update, dict) else update
    told = await blocks.postprocess_data(event, named, state)
    return told, {place for place, output in enumerate(outputs) if state[output._id] is not output}


def in_a_loop(work: Coroutine[Any, Any, T]) -> T:
    """What comes of it, in a thread of its own: where a browser was driven, this one has a loop that never ends."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


def sent(kind: type[gr.Blocks], update: Any) -> tuple[list[Any], set[int]]:
    """What an event with three outputs sends for an update of some of them, and the places of those made anew."""
    return in_a_loop(_sent(kind, update))


@pytest.mark.parametrize(
    "update",
    [
        NAMED_ONLY,
        {1: gr.update(visible=False)},
        {2: "other", 0: "<p>now</p>"},
        {0: gr.skip(), 1: gr.update(value="Stop", visible=True), 2: ""},
        ["<p>now</p>", gr.skip(), "typed"],
    ],
    ids=["a value", "a property", "two, the other way round", "all", "a list"],
)
def test_what_an_update_names_is_sent_as_gradio_sends_it_and_the_rest_is_left_as_it_is(update: Any) -> None:
    ours, theirs = sent(SparingBlocks, update)[0], sent(gr.Blocks, update)[0]
    for place, (here, there) in enumerate(zip(ours, theirs, strict=True)):
        assert here == (there if isinstance(update, list) or place in update else gr.skip())


def test_what_an_update_leaves_alone_is_not_made_anew() -> None:
    assert sent(gr.Blocks, NAMED_ONLY)[1] == {1, 2}, "Gradio does; if it no longer does, this room can go"
    assert sent(SparingBlocks, NAMED_ONLY)[1] == set()
    assert sent(SparingBlocks, {1: gr.update(visible=False)})[1] == {1}


async def _queue(kind: type[gr.Blocks]) -> Any:
    return kind(analytics_enabled=False).queue()._queue


def test_the_queue_looks_less_often_by_settings_that_gradio_has():
    usual, ours = (in_a_loop(_queue(kind)) for kind in (gr.Blocks, SparingBlocks))
    assert vars(ours).keys() == vars(usual).keys()
    assert ours.sleep_when_free > usual.sleep_when_free
    assert ours.progress_update_sleep_when_free > usual.progress_update_sleep_when_free
