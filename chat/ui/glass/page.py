"""The page “Under glass”: which turn is looked at, and its tabs."""

from __future__ import annotations

from collections.abc import Iterator

import gradio as gr

from chat.types import Conversation
from chat.ui.frame import QUIETLY, Updates, alert, html_block, telling_errors, text_page
from chat.ui.glass.look import Look, finished_turns, look_at, name_of
from chat.ui.glass.next_word_tab import NextWordTab
from chat.ui.glass.path_tab import PathTab
from chat.ui.glass.picks import Picks
from chat.ui.glass.prompt_tab import PromptTab
from chat.ui.owner import owner_of
from chat.ui.picker import choices_of, offered_first
from chat.ui.prompt_view import View
from chat.ui.service import Service
from chat.ui.store import PersonStore

NOTHING_YET = "Send a message on the page “Chat” first: every reply can be put under glass here."
ABOUT = (
    "What the model read, what it might have said instead, and where the time went. All of it stands in the turn’s "
    "receipt."
)


class GlassPage:
    """Builds the page inside the current Blocks and answers its events."""

    def __init__(self, service: Service) -> None:
        self._service = service
        with text_page("Under glass", "One turn under glass", ABOUT, "reading"):
            self._pick()
            with gr.Tabs(elem_id="tabs"):
                with gr.Tab("Prompt"):
                    self.prompt = PromptTab(service, self.picks, self.error)
                with gr.Tab("Next word"):
                    self.next_word = NextWordTab(service, self.picks, self.error)
                with gr.Tab("Path"):
                    self.path = PathTab()
        self.outputs = [self.conversation, self.turn, self.error]
        self.outputs += [*self.prompt.outputs, *self.next_word.outputs, *self.path.outputs]
        how = [self.prompt.view, self.prompt.words]
        self.conversation.input(self.choose_conversation, [self.conversation, *how], self.outputs, **QUIETLY)
        self.turn.input(self.choose_turn, [self.turn, *how], self.outputs, **QUIETLY)

    def _pick(self) -> None:
        with gr.Row(elem_id="pick", elem_classes="tools"):
            self.conversation = gr.Dropdown([], label="Conversation")
            self.turn = gr.Dropdown([], label="Turn")
        self.picks = Picks(self.conversation, self.turn)
        self.error = html_block(elem_id="error")

    def failed(self, sentence: str) -> Updates:
        """Tell what went wrong above the tabs."""
        return {self.error: alert(sentence)}

    @telling_errors
    def opened(self, request: gr.Request, view: View, words: str) -> Iterator[Updates]:
        """The page was loaded: a turn or a conversation in its address, or else the newest."""
        store = self._service.store_of(owner_of(request))
        wanted = str(request.query_params.get("t", ""))
        conversation = store.turn(wanted).conversation_id if wanted else offered_first(store.conversations(), request)
        yield self._shown(store, conversation, wanted, view, words)

    @telling_errors
    def choose_conversation(
        self, request: gr.Request, conversation_id: str, view: View, words: str
    ) -> Iterator[Updates]:
        """Another conversation was chosen: show its newest turn."""
        yield self._shown(self._service.store_of(owner_of(request)), conversation_id, "", view, words)

    @telling_errors
    def choose_turn(self, request: gr.Request, turn_id: str, view: View, words: str) -> Iterator[Updates]:
        """Another turn was chosen."""
        store = self._service.store_of(owner_of(request))
        yield self._parts(store, look_at(store, turn_id), view, words)

    def _shown(self, store: PersonStore, conversation_id: str, turn_id: str, view: View, words: str) -> Updates:
        if not conversation_id:
            return {self.error: f'<p class="aside">{NOTHING_YET}</p>'}
        known = store.conversation(conversation_id)
        turns = finished_turns(store, conversation_id)
        picked = {self.conversation: gr.update(choices=_choices(store, known), value=known.id)}
        if not (turns or turn_id):
            return picked | {self.error: f'<p class="aside">{NOTHING_YET}</p>', self.turn: gr.update(choices=[])}
        return picked | self._parts(store, look_at(store, turn_id or turns[-1].id), view, words)

    def _parts(self, store: PersonStore, look: Look, view: View, words: str) -> Updates:
        turns = [(name_of(turn), turn.id) for turn in look.turns]
        return {
            self.turn: gr.update(choices=turns, value=look.turn.id),
            self.error: "",
            **self.prompt.shown(store, look, view, words),
            **self.next_word.shown(look),
            **self.path.shown(look),
        }


def _choices(store: PersonStore, also: Conversation) -> list[tuple[str, str]]:
    """The chats, and the conversation that is looked at if it is of another kind."""
    listed = store.conversations()
    others = () if also.id in {conversation.id for conversation in listed} else (also,)
    return choices_of([*others, *listed])
