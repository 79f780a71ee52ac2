"""What each open page is looking at. A reply goes on while its person reads something else, and must not intrude."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import gradio as gr

from chat.types import WeightsCheck
from chat.ui.prompt_view import VIEWS, View
from chat.ui.turn_view import NEWEST_TURNS

# Beyond this many open pages the oldest are forgotten; a page says itself what it shows with its next event.
MOST_PAGES = 20_000


@dataclass
class Gaze:
    """One open page: the conversation it shows (none for a new one), how many turns of it, and how the prompt.

    `judged_turn_id` is the turn whose feedback is being written, `seal` the check of the weights that belongs to it.
    """

    conversation_id: str = ""
    view: View = VIEWS[0]
    limit: int = NEWEST_TURNS
    search: str = ""
    shown_turn_id: str = ""
    judged_turn_id: str = ""
    seal: WeightsCheck | None = None

    def turn_to(self, conversation_id: str) -> None:
        """Look at another conversation, from its newest turns."""
        if conversation_id != self.conversation_id:
            self.conversation_id, self.limit = conversation_id, NEWEST_TURNS
            self.shown_turn_id = self.judged_turn_id = ""


class Gazes:
    """The gaze of every open page, by the session hash that it sends along."""

    def __init__(self) -> None:
        self._by_session: OrderedDict[str, Gaze] = OrderedDict()

    def of(self, request: gr.Request) -> Gaze:
        """The page behind a request; a new one if it was not seen before."""
        gaze = self._by_session.setdefault(request.session_hash or "", Gaze())
        self._by_session.move_to_end(request.session_hash or "")
        if len(self._by_session) > MOST_PAGES:
            self._by_session.popitem(last=False)
        return gaze
