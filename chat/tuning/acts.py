"""What can happen in a conversation, apart from its wording, and the story that it makes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from chat.tuning.facts import Fact

Kind = Literal[
    "told",
    "corrected",
    "noted",
    "note corrected",
    "distracted",
    "two of a shape",
    "both corrected",
    "fresh",
    "sibling untold",
    "notes written",
    "notes replaced",
    "many replaced",
    "about itself",
    "general",
]
Whereabouts = Literal["nowhere", "conversation", "note"]


@dataclass(frozen=True)
class Tell:
    """The person tells facts."""

    facts: tuple[Fact, ...]


@dataclass(frozen=True)
class Ask:
    """The person asks for a fact, which stands where it says. `other` makes it a choice between two values.

    `stale` are values that the fact had before. `mistake` is what the assistant says wrongly, in conversations made up
    for learning how a correction goes on; nobody learns that reply. One that only leads up to a correction may be
    answered in any way and is not `judged`.
    """

    fact: Fact
    stands: Whereabouts
    other: str | None = None
    stale: tuple[str, ...] = ()
    mistake: str | None = None
    judged: bool = True


@dataclass(frozen=True)
class Correct:
    """The person corrects an earlier value: the assistant's mistake, or the person's own; `also` is told with it.

    `old` is None where no wrong value was said. It says what it is about where that would not be plain (`precise`).
    `ignored` is a correction that the assistant passes over, in conversations made up for learning; nobody learns
    that reply.
    """

    fact: Fact
    old: str | None
    whose: Literal["model", "person"]
    ignored: bool = False
    precise: bool = False
    also: tuple[Fact, ...] = ()


@dataclass(frozen=True)
class Chat:
    """Other talk: a general question, small talk, thanks, or a question about the assistant itself."""

    about: Literal["question", "prompt", "thanks", "itself"]


@dataclass(frozen=True)
class AskAll:
    """The person asks what the assistant knows."""

    facts: tuple[Fact, ...]


Act = Tell | Ask | Correct | Chat | AskAll


@dataclass(frozen=True)
class Noted:
    """A line that the notes drawn from the story should have; `replaces` is the saved note that it makes outdated."""

    fact: Fact
    replaces: str | None = None


@dataclass(frozen=True)
class Story:
    """One conversation: the notes saved before it, what happens, and the notes to be drawn from it, if any are."""

    kind: Kind
    acts: tuple[Act, ...]
    notes: tuple[str, ...] = ()
    to_note: tuple[Noted, ...] | None = None
