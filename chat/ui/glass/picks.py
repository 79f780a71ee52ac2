"""Where the page is told what to look at."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from chat.ui.frame import Updates


@dataclass(frozen=True)
class Picks:
    """The two lists above the tabs; the value of `turn` is the id of the turn that is looked at."""

    conversation: gr.Dropdown
    turn: gr.Dropdown

    @property
    def outputs(self) -> list[gr.Dropdown]:
        """What `held` updates."""
        return [self.conversation, self.turn]

    def held(self, held: bool) -> Updates:
        """Nothing else can be picked while something runs for this turn: it would be shown under another."""
        return {pick: gr.update(interactive=not held) for pick in self.outputs}
