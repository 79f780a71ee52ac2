"""One fact in all the ways of saying it: told, asked for, answered, corrected, noted."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from functools import cache
from random import Random

from chat.tuning.persons import from_first_person, from_third_person, to_third_person, toward_you
from chat.tuning.words import Lines, Relation, Words

Place = tuple[str, str | None]

_SLOT = re.compile(r"\{(\w+)\}")
_NO_NAME = re.compile(
    r"(?:A|All|An|As|At|Before|By|Each|Every|For|From|Her|His|In|It|It's|My|On|Our|The|There|These|We|With|You) "
)


@dataclass(frozen=True)
class Fact:
    """A relation with its value, and its subject if it has one."""

    relation: Relation
    value: str
    subject: str | None = None

    @property
    def place(self) -> Place:
        """What the fact is about: two facts at one place contradict each other."""
        return self.relation.name, self.subject

    def with_value(self, value: str) -> Fact:
        """The same place, another value."""
        return replace(self, value=value)

    def said(self, template: str, old: str = "", other: str = "") -> str:
        """A template of this fact's relation, with its slots filled."""
        return filled(template, v=self.value, s=self.subject or "", old=old, w=other)

    def stands_in(self, text: str) -> bool:
        """Whether the text has this value and this subject."""
        said = text.casefold()
        return self.value.casefold() in said and (self.subject or "").casefold() in said

    def statement(self, rng: Random) -> str:
        """A wording in which the person tells it, its slots still open."""
        return rng.choice(self.relation.statements)

    def question(self, rng: Random) -> str:
        """The person asks for it."""
        return self.said(rng.choice(self.relation.questions))

    def choice(self, other: str, rng: Random) -> str:
        """The person asks which of two values it is."""
        return self.said(rng.choice(self.relation.choices), other=other)

    def answer(self, source: str) -> str:
        """The assistant says it, in the words of the wording or note in which it stands, as far as these can be turned.

        What is to be learned is to find where it stands and to repeat that. In wordings of their own the replies were
        learned by heart, one for each relation, and used for relations that had none (tests/bench/LOG.md, 2026-11-22).
        """
        turned = _statements_turned(self.relation).get(source)
        return self.said(turned) if turned else self._closest(_answers(self.relation), source)

    def canonical_note(self, source: str) -> str:
        """The line in which the assistant notes it down, in the words of the wording in which it stands."""
        turned = _statements_as_notes(self.relation).get(source)
        return self.said(turned) if turned else self._closest(self.relation.notes, source)

    def note(self, rng: Random) -> str:
        """One line in the third person, as a person might keep it."""
        return self.said(rng.choice(self.relation.notes))

    def _closest(self, templates: Lines, source: str) -> str:
        words = toward_you(self.said(source)).casefold().split()

        def likeness(sentence: str) -> float:
            return SequenceMatcher(None, toward_you(sentence).casefold().split(), words, autojunk=False).ratio()

        return max(map(self.said, templates), key=likeness)


@cache
def _statements_turned(relation: Relation) -> dict[str, str]:
    return _turned(relation.statements, from_first_person)


@cache
def _statements_as_notes(relation: Relation) -> dict[str, str]:
    return _turned(relation.statements, to_third_person)


@cache
def _answers(relation: Relation) -> Lines:
    whole = [line for line in relation.answers if not relation.subject or "{s}" in line]
    return (*_turned(relation.notes, from_third_person).values(), *whole)


def _turned(lines: Lines, turn: Callable[[str], str | None]) -> dict[str, str]:
    return {line: turned for line in lines if (turned := turn(line)) is not None}


def filled(template: str, **slots: str) -> str:
    """A template with its slots filled. One that begins with a slot begins with a capital."""
    text = _SLOT.sub(lambda slot: slots[slot[1]], template)
    return text[:1].upper() + text[1:] if template.startswith("{") else text


def as_sentence(text: str) -> str:
    """The text with a capital and a full stop, to stand among others."""
    closed = text if text[-1] in ".!?…" else text + "."
    return closed[:1].upper() + closed[1:]


def as_clause(text: str) -> str:
    """The text to go on behind a comma: “my dog is Rex”. “I” and what may be a name stay as they are."""
    return text[:1].lower() + text[1:] if _NO_NAME.match(text) else text


class FactMaker:
    """Draws facts at places that are all different, from one set of tables.

    A share of the values, `strange`, comes from any family whatever (“My dog is called platform 9”): what stands there
    is to be repeated, not what would be likely.
    """

    def __init__(self, words: Words, rng: Random, strange: float = 0.0) -> None:
        self._words = words
        self._rng = rng
        self._strange = strange
        self._taken: set[tuple[str, str | None]] = set()
        self._values: set[str] = set()

    def fact(self, relation: Relation | None = None) -> Fact:
        """A fact at a place, and with a value, that no other fact of this maker has."""
        while True:
            chosen = relation or self._rng.choice(self._words.relations)
            subject = self._rng.choice(self._family(chosen.subject)) if chosen.subject else None
            fact = Fact(chosen, self._value(chosen), subject)
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
        while (value := self._value(fact.relation)).casefold() in self._values:
            pass
        self._values.add(value.casefold())
        return value

    def _value(self, relation: Relation) -> str:
        strange = self._rng.random() < self._strange
        family = self._rng.choice(self._words.value_families) if strange else relation.value
        return self._rng.choice(self._family(family))

    def _family(self, name: str) -> Lines:
        return self._words.families[name]
