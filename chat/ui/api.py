"""The named endpoints, for `gradio_client` and every other program. Their shapes are a contract (DESIGN.md)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from typing import Any

import gradio as gr

from chat.compare import PANES, PaneFailed, Setting
from chat.errors import InputError, MarginaliaError
from chat.prompt import checked_message
from chat.turn import Begun, Done, Replying
from chat.types import Note, Sampling
from chat.ui.note_taking import NotesWritten
from chat.ui.owner import owner_of
from chat.ui.service import Service

HERE: Any = None
"""Stands for the request, which Gradio hands in itself."""


class Api:
    """Adds the endpoints to the current Blocks."""

    def __init__(self, service: Service) -> None:
        self._service = service
        for endpoint in (self.chat, self.receipt, self.new_conversation, self.remember, self.notes, self.compare):
            gr.api(  # type: ignore[attr-defined]
                endpoint, api_name=endpoint.__name__, concurrency_limit=None
            )

    def chat(
        self,
        message: str,
        conversation_id: str = "",
        use_memory: bool = True,
        temperature: float = 0.0,
        seed: int = 0,
        max_new_tokens: int = 128,
        request: gr.Request = HERE,
    ) -> Iterator[dict]:  # type: ignore[type-arg]  # Gradio reads the bare type
        """Send a message. Streams the reply as it grows; the last item has the whole reply and its turn's id.

        An empty conversation_id begins a new conversation.
        """
        with _told_in_a_sentence():
            owner = owner_of(request)
            sampling = Sampling.checked(temperature=temperature, seed=seed, max_new_tokens=max_new_tokens)
            memory = _yes_or_no("use_memory", use_memory)
            checked_message(message)
            home = _identifier(conversation_id) or self._service.store_of(owner).new_conversation()
            turn_id = ""
            with closing(self._service.send(owner, message, home, memory, sampling)) as events:
                for event in events:
                    if isinstance(event, Begun):
                        turn_id = event.turn_id
                    elif isinstance(event, Replying):
                        yield {"conversation_id": home, "turn_id": turn_id, "reply": event.reply}
                    elif isinstance(event, Done):
                        yield {"conversation_id": home, "turn_id": turn_id, "reply": event.receipt.completion.text}
                        _raise_if_failed(event)

    def receipt(self, turn_id: str, request: gr.Request = HERE) -> dict:  # type: ignore[type-arg]
        """The receipt of a finished turn: what was sent, token for token, what came back, what it cost."""
        with _told_in_a_sentence():
            return self._service.store_of(owner_of(request)).receipt(turn_id).to_dict()

    def new_conversation(self, request: gr.Request = HERE) -> str:
        """Begin an empty conversation and return its id."""
        with _told_in_a_sentence():
            return self._service.store_of(owner_of(request)).new_conversation()

    def remember(self, conversation_id: str, request: gr.Request = HERE) -> list:  # type: ignore[type-arg]
        """Have the model write notes from a conversation. They are saved and in use at once: nobody reviews here.

        A note whose `replaces` has the id of an older one has switched that one off.
        """
        with _told_in_a_sentence():
            written: tuple[Note, ...] = ()
            for event in self._service.remember(owner_of(request), conversation_id, draft=False):
                if isinstance(event, NotesWritten):
                    written = event.notes
            return [asdict(note) for note in written]

    def notes(self, request: gr.Request = HERE) -> list:  # type: ignore[type-arg]
        """All notes of this caller, in the order in which they stand in the prompt."""
        with _told_in_a_sentence():
            return [asdict(note) for note in self._service.store_of(owner_of(request)).notes()]

    def compare(
        self,
        question: str,
        conversation_id: str = "",
        temperature: float = 0.0,
        seed: int = 0,
        max_new_tokens: int = 128,
        request: gr.Request = HERE,
    ) -> list:  # type: ignore[type-arg]
        """Ask one question in a fresh session, in a conversation continued, and in a fresh session with memory.

        Returns one object per pane: pane, title, reply, receipt, and error where a pane could not answer.
        """
        with _told_in_a_sentence():
            owner = owner_of(request)
            sampling = Sampling.checked(temperature=temperature, seed=seed, max_new_tokens=max_new_tokens)
            continued = _identifier(conversation_id)
            panes: dict[str, dict[str, Any]] = {
                pane.name: {"pane": pane.name, "title": pane.title, "reply": "", "receipt": None, "error": None}
                for pane in PANES
            }
            comparison = self._service.new_comparison(owner, question, conversation_id)
            events = self._service.compare(owner, comparison, question, Setting(continued or None, sampling))
            for pane, event in events:
                if isinstance(event, PaneFailed):
                    panes[pane.name]["error"] = event.sentence
                elif isinstance(event, Done):
                    receipt = event.receipt.to_dict()
                    panes[pane.name] |= {
                        "reply": event.receipt.completion.text,
                        "receipt": receipt,
                        "error": event.error,
                    }
            return list(panes.values())


@contextmanager
def _told_in_a_sentence() -> Iterator[None]:
    """What went wrong reaches the caller as its sentence, without a traceback on either side."""
    try:
        yield
    except MarginaliaError as error:
        raise gr.Error(str(error), print_exception=False) from error


def _identifier(value: object) -> str:
    if not isinstance(value, str):
        raise InputError(f"conversation_id must be text, not {repr(value)[:40]}.")
    return value


def _yes_or_no(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise InputError(f"{name} must be true or false, not {str(value)[:40]!r}.")
    return value


def _raise_if_failed(done: Done) -> None:
    if done.error:
        raise gr.Error(done.error, print_exception=False)
