"""What the page “Chat” shows for a conversation, as updates of its components. Changes nothing in the store."""

from __future__ import annotations

from collections.abc import Sequence

import gradio as gr

from chat.errors import NotFound
from chat.local_model import LocalModel
from chat.prompt import YOUR_MESSAGE
from chat.types import PromptRecord, Turn
from chat.ui.conversation.gaze import Gaze
from chat.ui.conversation.parts import ChatParts, model_line
from chat.ui.conversation.story import next_step, welcome
from chat.ui.feedback.view import Thumbs
from chat.ui.frame import Updates
from chat.ui.memory.note_desk import drafts_after
from chat.ui.prompt_view import View, empty_panel, glass_link, missing_panel, prompt_panel
from chat.ui.store import PersonStore
from chat.ui.turn_view import conversation_list, conversation_log, running_turn
from chat.ui.visible import escaped


class ChatScreen:
    """Turns what the store holds, and what runs right now, into updates of the page's parts."""

    def __init__(self, parts: ChatParts, model: LocalModel) -> None:
        self._parts = parts
        self._model = model
        # The prompts of turns that run: their receipts are not written yet.
        self._running: dict[str, PromptRecord] = {}

    def begun(self, turn_id: str, prompt: PromptRecord) -> None:
        """Take note of the prompt of a turn that runs now."""
        self._running[turn_id] = prompt

    def ended(self, turn_id: str) -> None:
        """Its receipt has the prompt from here on."""
        self._running.pop(turn_id, None)

    def whole(self, store: PersonStore, gaze: Gaze, shown: str | None = None) -> Updates:
        """All that a page shows, from what it looks at. Raises NotFound."""
        if not gaze.conversation_id:
            return self._blank(store) | self.shelf(store, gaze)
        return self.conversation(store, gaze, shown) | self.shelf(store, gaze)

    def conversation(self, store: PersonStore, gaze: Gaze, shown: str | None = None) -> Updates:
        """A conversation with one turn's prompt in the margin: the one asked for, or the last. Raises NotFound."""
        parts = self._parts
        conversation = store.conversation(gaze.conversation_id)
        turns = store.turns(gaze.conversation_id, gaze.limit)
        if not turns:
            return self._blank(store) | {parts.conversation: gaze.conversation_id}
        shown_turn = next((turn for turn in turns if turn.id == shown), turns[-1])
        gaze.shown_turn_id = shown_turn.id
        older = store.count_turns(gaze.conversation_id) - len(turns)
        return self._at_rest() | {
            parts.conversation: gaze.conversation_id,
            parts.shown_turn: shown_turn.id,
            parts.title: f"<h2>{escaped(conversation.title)}</h2>",
            parts.title_field: conversation.title,
            parts.delete_question: _delete_question(conversation.title, older + len(turns)),
            parts.model_name: self._fill(turns[-1]),
            parts.log: self._log(store, gaze, turns, older),
            parts.hint: next_step(turns) if all(turn.finish_reason for turn in turns) and not older else "",
            parts.drafts: drafts_after(store, turns),
            parts.panel: self.panel(store, shown_turn.id, gaze.view),
            **self._offered(True),
            **({} if turns[-1].finish_reason else self._answering(turns[-1])),
        }

    def log(self, store: PersonStore, gaze: Gaze) -> Updates:
        """The finished turns alone, with the same prompt in the margin as before. Raises NotFound."""
        turns = store.turns(gaze.conversation_id, gaze.limit)
        older = store.count_turns(gaze.conversation_id) - len(turns)
        return {self._parts.log: self._log(store, gaze, turns, older)}

    def shelf(self, store: PersonStore, gaze: Gaze) -> Updates:
        """The conversations at the side that something was said in."""
        listed = store.conversations(gaze.search)
        return {self._parts.shelf: conversation_list(listed, gaze.conversation_id, gaze.search)}

    def drafts(self, store: PersonStore, gaze: Gaze) -> Updates:
        """The drafts to review where the conversation stands."""
        turns = store.turns(gaze.conversation_id, gaze.limit) if gaze.conversation_id else ()
        return {self._parts.drafts: drafts_after(store, turns)}

    def panel(self, store: PersonStore, turn_id: str, view: View) -> str:
        """The margin for one turn, whether it is finished or runs."""
        turn = store.turn(turn_id)
        record, weights = self._running.get(turn_id), None
        if record is None:
            try:
                receipt = store.receipt(turn_id)
            except NotFound:
                return missing_panel("This turn has no receipt: it was cut off before one could be written.")
            record, weights = receipt.prompt, receipt.weights
        left_out = left_out_names(store, record)
        encoder = self._model.encoder
        title = _panel_title(record, turn.position)
        closer = glass_link(turn_id) if weights else ""
        return closer + prompt_panel(record, title, view, encoder.token_texts, encoder.control_ids, weights, left_out)

    def busy(self) -> Updates:
        """While a reply is written: Stop stands where Send was."""
        return {self._parts.send: gr.update(visible=False), self._parts.stop: gr.update(visible=True)}

    def _blank(self, store: PersonStore) -> Updates:
        parts = self._parts
        return self._at_rest() | {
            parts.conversation: "",
            parts.shown_turn: "",
            parts.title: "",
            parts.model_name: model_line(self._model.info),
            parts.log: welcome(),
            parts.hint: "",
            parts.drafts: drafts_after(store, ()),
            parts.panel: empty_panel(),
            **self._offered(False),
        }

    def _log(self, store: PersonStore, gaze: Gaze, turns: Sequence[Turn], older: int) -> str:
        finished = [turn for turn in turns if turn.finish_reason]
        thumbs = Thumbs(store.feedback_on({turn.id for turn in finished}), gaze.judged_turn_id, gaze.seal)
        return conversation_log(finished, gaze.shown_turn_id, older, thumbs)

    def _at_rest(self) -> Updates:
        parts = self._parts
        return {
            parts.error: "",
            parts.status: "",
            parts.live: "",
            parts.rename_row: gr.update(visible=False),
            parts.delete_row: gr.update(visible=False),
            parts.send: gr.update(visible=True),
            parts.stop: gr.update(visible=False),
        }

    def _answering(self, turn: Turn) -> Updates:
        parts = self._parts
        return self.busy() | {
            parts.live: running_turn(turn.message, turn.reply),
            parts.status: "Being answered. If no words come, open the conversation again.",
        }

    def _offered(self, offered: bool) -> Updates:
        parts = self._parts
        return {button: gr.update(visible=offered) for button in (parts.rename, parts.delete, parts.remember)}

    def _fill(self, turn: Turn) -> str:
        used = turn.usage.prompt_tokens + turn.usage.completion_tokens if turn.usage else 0
        return model_line(self._model.info, used)


def left_out_names(store: PersonStore, record: PromptRecord) -> dict[str, str]:
    """The words of what was left out of a prompt, by the id of its turn or note, as far as they are still there."""
    turn_ids = {entry.source_turn_id for entry in record.dropped if entry.source_turn_id}
    note_ids = {entry.note_id for entry in record.dropped if entry.note_id}
    names = store.messages(turn_ids) if turn_ids else {}
    if note_ids:
        names |= {note.id: note.text for note in store.notes() if note.id in note_ids}
    return names


def _panel_title(record: PromptRecord, position: int) -> str:
    asked = next((segment.label for segment in record.segments if segment.kind == "message"), YOUR_MESSAGE)
    return f"Turn {position + 1}" if asked == YOUR_MESSAGE else asked.capitalize()


def _delete_question(title: str, turns: int) -> str:
    return f"<p>Delete “{escaped(title)}” and its {turns:,} turn{'' if turns == 1 else 's'}? This cannot be undone.</p>"
