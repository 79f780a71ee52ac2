"""The sections on the trained artifact: its parts and bytes, and each tensor's digest, to be checked again."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from time import monotonic

import gradio as gr

from chat.local_model import LocalModel
from chat.ui.frame import QUIETLY
from chat.ui.model.artifact_view import (
    COLOURS,
    checked_again,
    files_table,
    layer_data,
    legend,
    megabytes,
    parts_table,
    places,
    precision_table,
    tensor_list,
)
from chat.weights.artifact import Artifact

PARTS_HEAD = (
    '<h3 id="parts" tabindex="-1">Parameters by layer</h3>'
    "<p>A parameter, or weight, is one number of the model. Each bar is a step that every token passes, from the "
    "embedding on: attention looks at the other tokens, the MLP works on each alone.</p>"
)
TENSORS_HEAD = (
    '<h3 id="tensors" tabindex="-1">The fingerprint, tensor by tensor</h3>'
    "<p>A tensor is one block of numbers. Its digest is SHA-256 over its name, type, shape and bytes as they lie in "
    "memory; the fingerprint in every receipt is SHA-256 over all these names and digests, in the order of the "
    "names.</p>"
)
A_SECOND = 1.0


class ArtifactSection:
    """Builds the sections inside the current Blocks and answers their events."""

    def __init__(self, model: LocalModel, artifact: Artifact) -> None:
        self._model = model
        self._artifact = artifact
        self._at_start = model.seal.latest
        self._parts()
        gr.HTML(TENSORS_HEAD, apply_default_css=False, elem_classes="section-head")
        self.again = gr.Button("Check again now", elem_id="check-again")
        self.checked = gr.HTML('<p role="status"></p>', elem_id="check-result", apply_default_css=False)
        self.search = gr.Textbox(label="Find a tensor", placeholder="norm, layers.29, a digest …", max_lines=1)
        self.tensors = gr.HTML(elem_id="tensor-list", apply_default_css=False)
        self.again.click(self.check_again, None, [self.checked], **QUIETLY)
        self.search.change(self.found, [self.search], [self.tensors], trigger_mode="always_last", **QUIETLY)

    def _parts(self) -> None:
        tensors, data = self._artifact.tensors, layer_data(self._artifact.tensors)
        gr.HTML(PARTS_HEAD + legend(tensors), apply_default_css=False, elem_classes="section-head")
        gr.BarPlot(
            data,
            x="place",
            y="parameters",
            color="part",
            x_title="layer",
            y_title="parameters",
            x_label_angle=-90,
            y_axis_format="~s",
            sort=places(tensors),
            color_map={part: COLOURS[part] for part in COLOURS},
            colors_in_legend=[],  # ours stands above it: Gradio's is too small to read
            height=320,
            container=False,
            elem_id="layer-plot",
        )
        gr.HTML(
            f'<div id="parts-table">{parts_table(tensors)}</div>'
            f'<h4>As it is held in memory</h4><div id="held-table">{precision_table(tensors)}</div>'
            f"<h4>As it lies on the disk</h4>{files_table(self._artifact.files)}{_packed(self._artifact)}",
            apply_default_css=False,
            elem_classes="section-head",
        )

    def found(self, search: str) -> str:
        """The tensors whose name or digest contains the search."""
        return tensor_list(self._artifact.tensors, self._model.seal.latest, search)

    def check_again(self) -> Iterator[str]:
        """Take the fingerprint anew, and say whether it is the one from the start."""
        began, size = monotonic(), megabytes(self._artifact.nbytes)
        with ThreadPoolExecutor(1) as pool:
            checking = pool.submit(self._model.seal.check, self._at_start)
            while True:
                try:
                    checking.result(A_SECOND)
                    break
                except TimeoutError:
                    yield f'<p role="status">Reading {size} again, for {monotonic() - began:.0f} s now.</p>'
        yield checked_again(self._at_start, self._model.seal.latest, self._artifact.nbytes, monotonic() - began)


def _packed(artifact: Artifact) -> str:
    if not any(tensor.name.endswith(".codes") for tensor in artifact.tensors):
        return ""
    return '<p class="quiet">What runs is the packed file; it was made once from the other weights, which stay.</p>'
