"""Everything that can go wrong and is not our own bug, in one tree.

::

    MarginaliaError
    ├── ConfigError          a flag or an environment variable has a wrong value
    ├── WeightsError         weights cannot be fetched, verified, read or used
    ├── InputError           what a person or a client sent cannot be used as it is
    │   └── PromptTooLong    the message alone does not fit the context window
    ├── NotFound             no such conversation, turn or note, or it belongs to somebody else
    ├── ConversationBusy     another message is being answered in this conversation
    ├── EngineError          the model failed in the middle of a request
    └── StoreError           the database cannot be opened, read or written

Each message is one sentence or two for the person at the screen: it quotes the value and says what to do next.
"""

from __future__ import annotations


class MarginaliaError(Exception):
    """The root of the tree; `str(error)` is what the person reads."""


class ConfigError(MarginaliaError):
    """A flag or an environment variable has a value that cannot be used."""


class WeightsError(MarginaliaError):
    """Weights cannot be fetched, verified, read, or are not those of a chat model."""


class InputError(MarginaliaError):
    """A message, a note or a number that was sent cannot be used as it is."""


class PromptTooLong(InputError):
    """The message does not fit the context window even with nothing else in the prompt."""

    def __init__(self, needed: int, available: int) -> None:
        super().__init__(
            f"This message needs {needed:,} tokens and {available:,} fit beside the room for the reply. "
            "Shorten it, or send it in parts."
        )
        self.needed = needed
        self.available = available


class NotFound(MarginaliaError):
    """What was asked for does not exist for this person; whether it exists for another is not told."""

    def __init__(self, what: str, identifier: object) -> None:
        # A lone surrogate, which cannot be sent as UTF-8, would cost the person the whole sentence.
        shown = str(identifier).encode("utf-8", "backslashreplace").decode()
        shown = shown if len(shown) <= 60 else shown[:60] + "…"
        super().__init__(f"There is no {what} “{shown}” here. It may have been deleted, or belong to somebody else.")


class ConversationBusy(MarginaliaError):
    """Two messages were sent into one conversation at the same time; the second is told, none is lost."""

    def __init__(self) -> None:
        super().__init__(
            "Another message is being answered in this conversation, perhaps in another tab. "
            "Wait for it to finish or stop it there, then send again."
        )


class EngineError(MarginaliaError):
    """The model failed in the middle of a request; what it had said until then is kept."""


class StoreError(MarginaliaError):
    """The database cannot be opened, read or written."""
