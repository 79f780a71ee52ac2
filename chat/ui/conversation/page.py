"""The page “Chat”: what happens when somebody sends, stops, looks at a prompt, opens, renames, deletes, remembers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr

from chat.errors import NotFound
from chat.prompt import checked_message
from chat.types import Sampling
from chat.ui.conversation.following import Following
from chat.ui.conversation.gaze import Gaze, Gazes
from chat.ui.conversation.parts import ChatParts
from chat.ui.conversation.screen import ChatScreen
from chat.ui.feedback.desk import act_on_feedback
from chat.ui.feedback.view import weights_moved
from chat.ui.frame import QUIETLY, Updates, alert, clicked, sampling_from, telling_errors
from chat.ui.memory.note_desk import act_on_note
from chat.ui.owner import owner_of
from chat.ui.prompt_view import View
from chat.ui.service import Service
from chat.ui.store import PersonStore
from chat.ui.turn_view import NEWEST_TURNS
from chat.ui.visible import escaped


class ChatPage:
    """Builds the page inside the current Blocks and answers its events."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._gazes = Gazes()
        self.parts = ChatParts(service.model.info)
        self._screen = ChatScreen(self.parts, service.model)
        self._following = Following(self.parts, self._screen)
        self._wire()

    def _wire(self) -> None:
        parts = self.parts
        to_all: dict[str, Any] = {"outputs": parts.outputs(), **QUIETLY}
        # A reply may still be written elsewhere when the next message is sent.
        at_any_time = to_all | {"trigger_mode": "multiple"}
        here, how = [parts.conversation, parts.view], [parts.use_memory, *parts.settings]
        gr.on([parts.message.submit, parts.send.click], self.send, [*here, parts.message, *how], **at_any_time)
        for block in (parts.log, parts.hint):
            block.click(self.act_on_turn, [*here, *how], **at_any_time)
        parts.stop.click(self.stop, [parts.conversation], None, **QUIETLY)
        parts.shelf.click(self.open_clicked, [parts.view], **at_any_time)
        parts.new_chat.click(self.new_chat, [parts.view], **at_any_time)
        parts.search.change(self.search, [*here, parts.search], parts.shelf, **QUIETLY)
        parts.view.change(self.show_view, [*here, parts.shown_turn], parts.panel, **QUIETLY)
        parts.remember.click(self.remember, here, **to_all)
        parts.drafts.click(self.act_on_draft, here, **to_all)
        parts.rename.click(lambda: gr.update(visible=True), [], parts.rename_row, **QUIETLY)
        parts.rename.click(None, js="marginalia.focusTitle")
        parts.keep_title.click(lambda: gr.update(visible=False), [], parts.rename_row, **QUIETLY)
        gr.on([parts.save_title.click, parts.title_field.submit], self.rename, [*here, parts.title_field], **to_all)
        parts.delete.click(lambda: gr.update(visible=True), [], parts.delete_row, **QUIETLY)
        parts.keep.click(lambda: gr.update(visible=False), [], parts.delete_row, **QUIETLY)
        parts.confirm_delete.click(self.delete, here, **to_all)
        gr.on([parts.new_chat.click, parts.stop.click], None, js="marginalia.focusBox")
        parts.conversation.change(None, [parts.conversation], None, js="marginalia.rememberAddress")
        parts.show_prompt.change(None, [parts.show_prompt], None, js="marginalia.showMargin")
        parts.use_memory.change(None, [parts.use_memory], None, js="marginalia.rememberMemory")

    def failed(self, sentence: str) -> Updates:
        """Tell what went wrong above the message box, which keeps what was typed."""
        return {self.parts.error: alert(sentence), self.parts.status: ""}

    @telling_errors
    def opened(self, request: gr.Request, view: View) -> Iterator[Updates]:
        """The page was loaded, with a conversation in its address or without."""
        yield self._open(request, str(request.query_params.get("c", "")), view)

    @telling_errors
    def open_clicked(self, event: gr.EventData, request: gr.Request, view: View) -> Iterator[Updates]:
        """A conversation in the list was clicked."""
        yield self._open(request, str(clicked(event).get("id", "")), view)

    @telling_errors
    def new_chat(self, request: gr.Request, view: View) -> Iterator[Updates]:
        """Begin with an empty context; the conversation is made when its first message is sent."""
        yield self._open(request, "", view)

    @telling_errors
    def send(
        self, request: gr.Request, conversation_id: str, view: View, message: str, use_memory: bool, *settings: Any
    ) -> Iterator[Updates]:
        """Send a message and follow its turn."""
        gaze = self._gaze(request, conversation_id, view)
        yield from self._send(owner_of(request), gaze, message, use_memory, sampling_from(*settings))

    def stop(self, request: gr.Request, conversation_id: str) -> None:
        """End the reply that is being written."""
        self._service.stop(owner_of(request), conversation_id)

    @telling_errors
    def act_on_turn(
        self,
        event: gr.EventData,
        request: gr.Request,
        conversation_id: str,
        view: View,
        use_memory: bool,
        *settings: Any,
    ) -> Iterator[Updates]:
        """Something inside the conversation was clicked."""
        owner, gaze = owner_of(request), self._gaze(request, conversation_id, view)
        store, turn_id = self._service.store_of(owner), str(clicked(event).get("id", ""))
        match clicked(event).get("action"):
            case "look":
                gaze.turn_to(store.turn(turn_id).conversation_id)
                yield self._screen.conversation(store, gaze, turn_id) | {self.parts.show_prompt: True}
            case "older":
                gaze.limit += 2 * NEWEST_TURNS
                yield self._screen.conversation(store, gaze)
            case "retry":
                events = self._service.retry(owner, turn_id, use_memory, sampling_from(*settings))
                yield from self._following.turn(store, gaze, store.turn(turn_id).message, events)
            case "say":
                text = str(clicked(event).get("text", ""))
                yield from self._send(owner, gaze, text, use_memory, sampling_from(*settings))
            case "good" | "bad" | "comment" | "withdraw" | "close":
                yield self._judge(store, gaze, clicked(event))

    @telling_errors
    def search(self, request: gr.Request, conversation_id: str, view: View, search: str) -> Iterator[Updates]:
        """List the conversations that contain what is being typed."""
        gaze = self._gaze(request, conversation_id, view)
        gaze.search = search
        yield self._screen.shelf(self._store(request), gaze)

    @telling_errors
    def show_view(self, request: gr.Request, conversation_id: str, view: View, turn_id: str) -> Iterator[Updates]:
        """Show the same prompt another way."""
        self._gaze(request, conversation_id, view)
        if turn_id:
            yield {self.parts.panel: self._screen.panel(self._store(request), turn_id, view)}

    @telling_errors
    def rename(self, request: gr.Request, conversation_id: str, view: View, title: str) -> Iterator[Updates]:
        """Give the conversation another title."""
        store = self._store(request)
        store.rename_conversation(conversation_id, title)
        yield self._screen.whole(store, self._gaze(request, conversation_id, view))

    @telling_errors
    def delete(self, request: gr.Request, conversation_id: str, view: View) -> Iterator[Updates]:
        """Delete the conversation; its person has confirmed it."""
        self._service.stop(owner_of(request), conversation_id)
        self._store(request).delete_conversation(conversation_id)
        yield self._open(request, "", view)

    @telling_errors
    def remember(self, request: gr.Request, conversation_id: str, view: View) -> Iterator[Updates]:
        """Have the model draft notes from the conversation, for review."""
        gaze = self._gaze(request, conversation_id, view)
        events = self._service.remember(owner_of(request), conversation_id, draft=True)
        yield from self._following.notes(self._store(request), gaze, events)

    @telling_errors
    def act_on_draft(
        self, event: gr.EventData, request: gr.Request, conversation_id: str, view: View
    ) -> Iterator[Updates]:
        """A draft was kept or dropped."""
        store, asked, gaze = self._store(request), clicked(event), self._gaze(request, conversation_id, view)
        said = act_on_note(store, asked.get("action"), asked.get("id"), asked.get("text"))
        yield self._screen.drafts(store, gaze) | {self.parts.status: escaped(said), self.parts.error: ""}

    def _store(self, request: gr.Request) -> PersonStore:
        return self._service.store_of(owner_of(request))

    def _gaze(self, request: gr.Request, conversation_id: str, view: View) -> Gaze:
        gaze = self._gazes.of(request)
        gaze.turn_to(conversation_id)
        gaze.view = view
        return gaze

    def _open(self, request: gr.Request, conversation_id: str, view: View) -> Updates:
        store = self._store(request)
        try:
            return self._screen.whole(store, self._gaze(request, conversation_id, view))
        except NotFound as error:
            blank = self._screen.whole(store, self._gaze(request, "", view))
            return blank | {self.parts.error: alert(str(error))}

    def _judge(self, store: PersonStore, gaze: Gaze, asked: dict[str, Any]) -> Updates:
        action, said, alarm = asked.get("action"), "", ""
        if action != "close":
            said, gaze.seal = act_on_feedback(store, self._service.model.seal, asked)
            alarm = weights_moved(gaze.seal)
        gaze.judged_turn_id = "" if action in ("withdraw", "close") else str(asked.get("id", ""))
        return self._screen.log(store, gaze) | {self.parts.status: escaped(said), self.parts.error: alarm}

    def _send(self, owner: str, gaze: Gaze, message: str, use_memory: bool, sampling: Sampling) -> Iterator[Updates]:
        checked_message(message)
        store = self._service.store_of(owner)
        if not gaze.conversation_id:
            gaze.turn_to(store.new_conversation())
            yield {self.parts.conversation: gaze.conversation_id}
        events = self._service.send(owner, message, gaze.conversation_id, use_memory, sampling)
        yield from self._following.turn(store, gaze, message, events)
