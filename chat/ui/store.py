"""What the pages and the API need of one person's shelf in the database. `memory.store.OwnerStore` is one."""

from __future__ import annotations

from typing import Literal, Protocol

from chat.turn import TurnStore
from chat.types import Conversation, Feedback, Note, Receipt, Turn, Verdict


class PersonStore(TurnStore, Protocol):
    """One person's conversations, turns, receipts, feedback, notes, shared pages. NotFound for what is not theirs."""

    def new_conversation(
        self,
        kind: Literal["chat", "compare", "notes"] = "chat",
        title: str = "New chat",
        about: str | None = None,
    ) -> str:
        """Make an empty conversation; its id. One that is about another is deleted with it."""

    def conversation(self, conversation_id: str) -> Conversation:
        """One conversation."""

    def conversations(self, search: str = "", limit: int = 200) -> tuple[Conversation, ...]:
        """Newest first; with a search, those whose title or turns contain it."""

    def rename_conversation(self, conversation_id: str, title: str) -> None:
        """Give it another title."""

    def delete_conversation(self, conversation_id: str) -> None:
        """Delete it with its turns and receipts."""

    def turns(self, conversation_id: str, limit: int = 40) -> tuple[Turn, ...]:
        """The newest turns, oldest first."""

    def count_turns(self, conversation_id: str) -> int:
        """How many turns a conversation shows."""

    def turn(self, turn_id: str) -> Turn:
        """One turn."""

    def messages(self, turn_ids: set[str]) -> dict[str, str]:
        """The messages of those of the turns that are there, by id."""

    def receipt(self, turn_id: str) -> Receipt:
        """The receipt of a finished turn."""

    def give_feedback(self, turn_id: str, verdict: Verdict) -> Feedback:
        """Call a reply good or bad; the words of an earlier verdict stay."""

    def change_feedback(self, turn_id: str, comment: str, better: str | None = None) -> Feedback:
        """Write the comment, and what the reply should have said unless that is None."""

    def withdraw_feedback(self, turn_id: str) -> None:
        """Delete what was said of a reply."""

    def feedback(self) -> tuple[Feedback, ...]:
        """All feedback, newest first."""

    def feedback_on(self, turn_ids: set[str]) -> dict[str, Feedback]:
        """The feedback on those of the turns that have any, by turn id."""

    def share_page(self, conversation_id: str, body: str) -> str:
        """Let everybody read this page who has the token that comes back."""

    def page_shared(self, conversation_id: str) -> str:
        """The token of a conversation's shared page; empty if it is not shared."""

    def take_page_back(self, conversation_id: str) -> None:
        """Share a conversation's page no longer."""

    def notes(self) -> tuple[Note, ...]:
        """All notes, drafts and those switched off included."""

    def add_note(
        self,
        text: str,
        origin: Literal["model", "hand"] = "hand",
        draft: bool = False,
        source_turn_ids: tuple[str, ...] = (),
        replaces: str | None = None,
    ) -> Note:
        """Save a note behind the others; one that it replaces is switched off, by a draft once it is kept."""

    def edit_note(self, note_id: str, text: str) -> Note:
        """Give a note another text."""

    def switch_note(self, note_id: str, enabled: bool) -> Note:
        """Switch a note on or off."""

    def keep_note(self, note_id: str, text: str) -> Note:
        """Turn a reviewed draft into a note, and switch off the one that it replaces."""

    def delete_note(self, note_id: str) -> None:
        """Delete a note."""
