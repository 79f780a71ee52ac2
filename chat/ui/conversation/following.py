"""Shows a turn while it runs, on the page that it was sent from, for as long as that page looks at its conversation."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from time import monotonic

import gradio as gr

from chat.errors import MarginaliaError
from chat.turn import Begun, Done, Replying, TurnEvent
from chat.ui.conversation.gaze import Gaze
from chat.ui.conversation.parts import ChatParts
from chat.ui.conversation.screen import ChatScreen
from chat.ui.frame import UPDATES_A_SECOND, Updates, alert
from chat.ui.note_taking import ExchangeTaken, NoteEvent, NotesWritten
from chat.ui.store import PersonStore
from chat.ui.turn_view import running_turn, status_of
from chat.ui.visible import escaped

NOTES_ASKED = "Write notes from this conversation."

Events = Generator[TurnEvent, None, None]
NoteEvents = Generator[NoteEvent, None, None]


class Following:
    """Follows events to their end, whatever the page looks at meanwhile, and tells it only what it looks at."""

    def __init__(self, parts: ChatParts, screen: ChatScreen) -> None:
        self._parts = parts
        self._screen = screen

    def turn(self, store: PersonStore, gaze: Gaze, message: str, events: Events) -> Iterator[Updates]:
        """A message and its reply: the prompt once, then what is being waited for, then the words."""
        yield from self._while_looking(store, gaze, self._turn_updates(store, gaze, message, events))

    def notes(self, store: PersonStore, gaze: Gaze, events: NoteEvents) -> Iterator[Updates]:
        """The writing of notes: each prompt is shown like any other, then the drafts."""
        yield from self._while_looking(store, gaze, self._note_updates(store, gaze, events))

    def _while_looking(
        self, store: PersonStore, gaze: Gaze, updates: Generator[Updates, None, None]
    ) -> Iterator[Updates]:
        followed, looking = gaze.conversation_id, True
        with closing(updates):
            for update in updates:
                looked, looking = looking, gaze.conversation_id == followed
                if looking:
                    yield update
                elif looked:
                    # A last word may have landed on the page after it had turned away.
                    yield self._screen.whole(store, gaze)
                else:
                    # Nothing to tell, but only at a yield is a closed tab noticed.
                    yield {self._parts.live: gr.skip()}

    def _turn_updates(
        self, store: PersonStore, gaze: Gaze, message: str, events: Events
    ) -> Generator[Updates, None, None]:
        parts, followed, turn_id, shown_at = self._parts, gaze.conversation_id, "", 0.0
        yield {parts.error: "", parts.status: "Sending"}
        try:
            with closing(events):
                for event in events:
                    if isinstance(event, Begun):
                        turn_id = event.turn_id
                        self._screen.begun(turn_id, event.prompt)
                        yield self._screen.whole(store, gaze) | {parts.message: "", parts.status: _status(event)}
                    elif isinstance(event, Done):
                        self._screen.ended(turn_id)
                        yield self._screen.whole(store, gaze) | {parts.status: _status(event)}
                    elif not isinstance(event, Replying):
                        yield {parts.status: _status(event)}
                    elif event.complete or monotonic() - shown_at > 1 / UPDATES_A_SECOND:
                        shown_at = monotonic()
                        yield {parts.live: running_turn(message, event.reply), parts.status: _status(event)}
        except MarginaliaError as error:
            if not turn_id or gaze.conversation_id != followed:
                raise
            # The message is stored and has left its box: show it where it is now, with its Retry.
            yield self._screen.whole(store, gaze) | {parts.error: alert(str(error))}
        finally:
            self._screen.ended(turn_id)

    def _note_updates(self, store: PersonStore, gaze: Gaze, events: NoteEvents) -> Generator[Updates, None, None]:
        parts, turn_id, exchange = self._parts, "", ""
        yield {parts.error: "", **self._screen.busy()}
        try:
            with closing(events):
                for event in events:
                    if isinstance(event, Begun):
                        turn_id = event.turn_id
                        self._screen.begun(turn_id, event.prompt)
                        shown = {parts.live: running_turn(NOTES_ASKED, ""), parts.shown_turn: turn_id}
                        yield shown | {parts.panel: self._screen.panel(store, turn_id, gaze.view)}
                    elif isinstance(event, NotesWritten):
                        yield self._notes_drafted(store, gaze, event)
                    elif isinstance(event, ExchangeTaken):
                        self._screen.ended(turn_id)
                        exchange = f"Exchange {event.number:,} of {event.of:,} · "
                    else:
                        yield {parts.status: exchange + _status(event)}
        except MarginaliaError as error:
            yield self._screen.whole(store, gaze) | {parts.error: alert(str(error))}
        finally:
            self._screen.ended(turn_id)

    def _notes_drafted(self, store: PersonStore, gaze: Gaze, written: NotesWritten) -> Updates:
        self._screen.ended(written.turn_id)
        count = len(written.notes)
        said = f"{count} draft{'' if count == 1 else 's'} to review." if count else "The model found nothing to note."
        if written.unread:
            said += f" {written.unread:,} of the exchanges did not fit into a prompt beside the saved notes."
        return self._screen.whole(store, gaze) | {
            self._parts.panel: self._screen.panel(store, written.turn_id, gaze.view),
            self._parts.shown_turn: written.turn_id,
            self._parts.status: said,
        }


def _status(event: TurnEvent) -> str:
    return escaped(status_of(event))
