"""What a model can know, as HTML: its makers' word on it, and whether an answer says what only a fact says. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from chat.prompt import checked_message
from chat.types import Note
from chat.ui.visible import escaped

CARD_SECTION = "What it can know"
MEANING = (
    "A model knows the world from the text that it was trained on, and that text ends on some day: its knowledge "
    "cutoff. Of anything later it can say nothing, or invent something. What it is told in its prompt it can use at "
    "once; nothing of that stays."
)
_WORD = re.compile(r"\w+(?:[’'-]\w+)*")


@dataclass(frozen=True)
class Example:
    """A question about something later than the default model's training text, and the fact that answers it."""

    name: str
    question: str
    fact: str


# All three are of 2025: the default model was released on 1 November 2024.
EXAMPLES = (
    Example(
        "A film",
        "Which film won the Oscar for Best Picture in March 2025?",
        "Anora won the Oscar for Best Picture in March 2025.",
    ),
    Example("A pope", "Who became pope in May 2025?", "Leo XIV became pope in May 2025."),
    Example(
        "A team",
        "Which team won the Super Bowl in February 2025?",
        "The Philadelphia Eagles won the Super Bowl in February 2025.",
    ),
)


def section_of(markdown: str, heading: str) -> str:
    """The text under a second-level heading of a card, up to the next; empty if it has none of that name."""
    _, _, behind = f"\n{markdown}".partition(f"\n## {heading}\n")
    return behind.partition("\n## ")[0].strip()


def meaning_html(running: str, tells_of: str, card: str) -> str:
    """What a cutoff is, and what the card says of this model's. `card` tells of the model `tells_of`."""
    said = section_of(card, CARD_SECTION) if running == tells_of else ""
    told = (
        f'<p>Of this one its model card says:</p><blockquote class="aside">{escaped(said)}</blockquote>'
        if said
        else f"<p>Marginalia has no card of {escaped(running)}: look for its cutoff where you found the model.</p>"
    )
    return f"<p>{MEANING}</p>{told}"


def examples_html() -> str:
    """Buttons that fill in a question and its fact."""
    buttons = "".join(
        f'<button class="small" data-action="example" data-place="{place}">{escaped(example.name)}</button> '
        for place, example in enumerate(EXAMPLES)
    )
    return f'<p class="acts">Ask about something of 2025, or write your own: {buttons}</p>'


def fact_as_note(fact: object) -> Note:
    """A fact on one line, as a note goes into a prompt; it is not saved. Raises InputError."""
    return Note("fact", " ".join(checked_message(fact).split()))


def own_words(fact: str, question: str) -> tuple[str, ...]:
    """The words of a fact that its question does not have, each once."""
    asked = {word.casefold() for word in _WORD.findall(question)}
    return tuple(dict.fromkeys(word for word in _WORD.findall(fact) if word.casefold() not in asked))


def says_html(reply: str, fact: str, question: str) -> str:
    """How many of the words that only the fact has stand in a reply."""
    words = own_words(fact, question)
    if not words:
        return ""
    said = {word.casefold() for word in _WORD.findall(reply)}
    count = sum(word.casefold() in said for word in words)
    listed = f"“{escaped(' '.join(words))}”"
    if count in (0, len(words)):
        return f'<p class="says">It says {"what" if count else "nothing of what"} only the fact has: {listed}.</p>'
    return f'<p class="says">It says {count:,} of the {len(words):,} words that only the fact has: {listed}.</p>'
