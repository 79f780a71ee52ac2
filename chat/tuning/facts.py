"""One fact in all the ways of saying it: told, asked for, answered, corrected, noted."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from random import Random

from chat.tuning.words import Lines, Relation, Words

_SLOT = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Fact:
    """A relation with its value, and its subject if it has one."""

    relation: Relation
    value: str
    subject: str | None = None

    @property
    def place(self) -> tuple[str, str | None]:
        """What the fact is about: two facts at one place contradict each other."""
        return self.relation.name, self.subject

    def with_value(self, value: str) -> Fact:
        """The same place, another value."""
        return replace(self, value=value)

    def said(self, template: str, old: str = "", other: str = "") -> str:
        """A template of this fact's relation, with its slots filled."""
        return filled(template, v=self.value, s=self.subject or "", old=old, w=other)

    def statement(self, rng: Random) -> str:
        """The person tells it."""
        return self.said(rng.choice(self.relation.statements))

    def question(self, rng: Random) -> str:
        """The person asks for it."""
        return self.said(rng.choice(self.relation.questions))

    def choice(self, other: str, rng: Random) -> str:
        """The person asks which of two values it is."""
        return self.said(rng.choice(self.relation.choices), other=other)

    def answer(self) -> str:
        """The assistant says it: always in the same sentence, one that ends with the value if there is one.

        What is to be learned is where the value stands. In one wording each time, with the value behind all that leads
        to it, that is nearly all that is left to learn; with 25 wordings drawn at random it was not learned
        (tests/bench/LOG.md, 2026-11-22).
        """
        whole = [line for line in self.relation.answers if not self.subject or "{s}" in line]
        closing = [line for line in whole if line.rstrip(".!").endswith("{v}") and len(line.split()) > 3]
        return self.said((closing or whole)[0])

    def note(self, rng: Random) -> str:
        """One line in the third person, as a person might keep it."""
        return self.said(rng.choice(self.relation.notes))

    def canonical_note(self) -> str:
        """The one line in which the assistant notes it down."""
        return self.said(self.relation.notes[0])

    def about(self) -> str:
        """What is not known when it is not known."""
        return self.said(self.relation.about[0])


def filled(template: str, **slots: str) -> str:
    """A template with its slots filled. One that begins with a slot begins with a capital."""
    text = _SLOT.sub(lambda slot: slots[slot[1]], template)
    return text[:1].upper() + text[1:] if template.startswith("{") else text


def as_sentence(text: str) -> str:
    """The text with a capital and a full stop, to stand among others."""
    closed = text if text[-1] in ".!?…" else text + "."
    return closed[:1].upper() + closed[1:]


class FactMaker:
    """Draws facts at places that are all different, from one set of tables."""

    def __init__(self, words: Words, rng: Random) -> None:
        self._words = words
        self._rng = rng
        self._taken: set[tuple[str, str | None]] = set()
        self._values: set[str] = set()

    def fact(self, relation: Relation | None = None) -> Fact:
        """A fact at a place, and with a value, that no other fact of this maker has."""
        while True:
            chosen = relation or self._rng.choice(self._words.relations)
            subject = self._rng.choice(self._family(chosen.subject)) if chosen.subject else None
            fact = Fact(chosen, self._rng.choice(self._family(chosen.value)), subject)
            if fact.place in self._taken or fact.value.casefold() in self._values or fact.value == subject:
                continue
            if relation is None and any(name == chosen.name for name, _ in self._taken):
                continue
            self._taken.add(fact.place)
            self._values.add(fact.value.casefold())
            return fact

    def facts(self, count: int) -> tuple[Fact, ...]:
        """Facts of as many different relations."""
        return tuple(self.fact() for _ in range(count))

    def fact_with_subject(self) -> Fact:
        """A fact that has siblings: others of the same relation about somebody or something else."""
        return self.fact(self._rng.choice([relation for relation in self._words.relations if relation.subject]))

    def sibling(self, fact: Fact) -> Fact:
        """Another fact of the same relation, about another subject, or of another relation if there is no subject."""
        return self.fact(fact.relation if fact.relation.subject else None)

    def other_value(self, fact: Fact) -> str:
        """A value that the fact might have had."""
        while (value := self._rng.choice(self._family(fact.relation.value))).casefold() in self._values:
            pass
        self._values.add(value.casefold())
        return value

    def _family(self, name: str) -> Lines:
        return self._words.families[name]
