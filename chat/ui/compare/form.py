"""What is asked on the page “Compare”: the question, which prompts it goes into, and how the next word is chosen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from chat.compare import ALL_PANES, PANES, Pane, PaneName, Setting
from chat.errors import InputError
from chat.types import Sampling
from chat.ui.frame import sampling_from, sampling_settings

NO_CONVERSATION = ("None", "")


class CompareForm:
    """Built inside the current Blocks. `asked` are its fields, in the order in which the page takes their values."""

    def __init__(self) -> None:
        with gr.Row(elem_id="ask"):
            self.question = gr.Textbox(
                label="Question",
                placeholder="Which partner runs finance?",
                lines=1,
                max_lines=4,
                scale=3,
                autofocus=True,
                min_width=0,
            )
            self.conversation = gr.Dropdown([NO_CONVERSATION], value=None, label="This conversation", scale=2)
            self.ask = gr.Button("Compare", variant="primary", elem_id="compare", min_width=110)
            self.stop = gr.Button("Stop", variant="stop", visible=False, elem_id="stop", min_width=110)
        with gr.Accordion("Which prompts", open=False, elem_classes="settings", elem_id="which"):
            self._prompts()
        self.settings = sampling_settings(longest=96)
        others = [self.other, self.notes, self.temperature, self.seed]
        self.asked: list[gr.components.Component] = [self.conversation, self.panes, *others, *self.settings]

    def _prompts(self) -> None:
        choices = [(pane.title, pane.name) for pane in ALL_PANES]
        self.panes = gr.CheckboxGroup(
            choices, value=[pane.name for pane in PANES], label="Ask in", show_label=False, elem_id="panes-chosen"
        )
        with gr.Row(elem_classes="tools"):
            self.notes = gr.Textbox(label="Other notes, one a line", placeholder="Priya runs finance.", lines=2)
            self.other = gr.Dropdown([NO_CONVERSATION], value=None, label="Another conversation")
            self.temperature = gr.Number(1.0, label="Other temperature", step=0.1)
            self.seed = gr.Number(1, label="Other seed")


def setting_from(
    conversation: str | None, other: str | None, notes: str | None, temperature: Any, seed: Any, *settings: Any
) -> Setting:
    """What the panes are made of. `notes` is None where nobody opened what they stand in.

    Raises InputError for a number that is none, or out of range.
    """
    sampling = sampling_from(*settings)
    lines = tuple(line.strip() for line in (notes or "").splitlines() if line.strip())
    elsewise = Sampling.checked(temperature=temperature, seed=seed, max_new_tokens=sampling.max_new_tokens)
    return Setting(conversation or None, sampling, other or None, lines, elsewise)


def chosen_panes(names: Sequence[PaneName]) -> tuple[Pane, ...]:
    """The panes of these names, in the order in which they stand. Raises InputError if there is none."""
    panes = tuple(pane for pane in ALL_PANES if pane.name in names)
    if not panes:
        raise InputError("No prompt is chosen. Open “Which prompts” and tick at least one.")
    return panes
