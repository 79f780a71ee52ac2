"""One person's conversations, turns, receipts, feedback, notes and shared pages, behind one flat face."""

from __future__ import annotations

from memory.conversations import Conversations
from memory.feedback_box import FeedbackBox
from memory.note_shelf import NoteShelf
from memory.shared_pages import SharedPages
from memory.turns import Turns


class OwnerStore(Conversations, Turns, FeedbackBox, NoteShelf, SharedPages):
    """Everything that one owner has. What belongs to another, does not exist or was never an id is NotFound alike."""
