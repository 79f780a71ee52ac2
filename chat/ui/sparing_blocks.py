"""Gradio's Blocks, sparing of work that nobody asked for."""

from __future__ import annotations

from copy import copy
from typing import Any

import gradio as gr
from gradio.blocks import Block

_LOOK_SECONDS = 0.005
# No event of ours tells its progress Gradio's way.
_PROGRESS_SECONDS = 0.1


class SparingBlocks(gr.Blocks):
    """Blocks that make anew only the components that an update names, and their routes once for all pages.

    Gradio makes all outputs of an event anew at each update, those that are skipped too, signatures inspected and all:
    with forty outputs that kept the interpreter busy for a third of the time in which a reply was streamed. It makes
    the whole web app anew at the end of each page. And it looks a thousand times a second whether there is something to
    do, which took 7 % of a core while nobody was there (all measured in tests/bench/LOG.md, 2026-11-23).
    """

    def queue(self, *args: Any, **settings: Any) -> SparingBlocks:
        """As Blocks have it, but it looks two hundred times a second for events."""
        super().queue(*args, **settings)
        self._queue.sleep_when_free = _LOOK_SECONDS
        self._queue.progress_update_sleep_when_free = _PROGRESS_SECONDS
        return self

    def begin_page(self, name: str, path: str) -> None:
        """What is built from here on stands on another page: `route`, without leaving the `with` for it."""
        self.pages.append((path, name, True))
        self.current_page = path

    async def postprocess_data(self, block_fn: Any, predictions: Any, state: Any) -> list[Any]:
        """What is sent for each output; for one that the update does not name, what `gr.skip` comes to."""
        if not isinstance(predictions, dict) or not all(isinstance(key, Block) for key in predictions):
            return await super().postprocess_data(block_fn, predictions, state)
        named = copy(block_fn)
        named.outputs = [output for output in block_fn.outputs if output in predictions]
        told = iter(await super().postprocess_data(named, predictions, state))
        return [next(told) if output in predictions else gr.skip() for output in block_fn.outputs]
