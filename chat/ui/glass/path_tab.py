"""The tab “Path”: where the time of one request went, stage by stage."""

from __future__ import annotations

import gradio as gr

from chat.ui.frame import Updates, html_block
from chat.ui.glass.look import Look
from chat.ui.glass.path_view import STAGES, path_data, path_html


class PathTab:
    """Built inside the current tab."""

    def __init__(self) -> None:
        gr.HTML(
            '<p class="quiet">Every request takes the same path. These are the real times of this one.</p>',
            apply_default_css=False,
        )
        self.stages = html_block(elem_id="path")
        self.plot = gr.BarPlot(
            x="stage",
            y="milliseconds",
            sort=[name for name, _ in STAGES.values()],
            height=260,
            container=False,
            elem_id="path-plot",
        )
        self.outputs = [self.stages, self.plot]

    def shown(self, look: Look) -> Updates:
        """The path of another turn."""
        return {self.stages: path_html(look.receipt), self.plot: path_data(look.receipt)}
