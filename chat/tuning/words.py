"""The hand-written tables that conversations are composed of: relations, values, names, phrases, general questions.

There are two sets in the same format. `words/` is what the maker composes from; `heldout/` is what the evaluation
composes from. They share no relation, no name, no value and no phrasing (`tests/test_words.py` holds them to it).
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

TRAINING = Path(__file__).parent / "words"
HELD_OUT = Path(__file__).parent / "heldout"

Lines = tuple[str, ...]


@dataclass(frozen=True)
class Relation:
    """A kind of fact, in all its wordings. `{v}` is the value, `{s}` the subject, `{w}` and `{old}` other values.

    `statements`, `questions`, `choices` and `corrections` are the person's words, `answers` the assistant's; `notes`
    are third-person lines. `value` and `subject` name the families that values and subjects are drawn from.
    """

    name: str
    value: str
    statements: Lines
    questions: Lines
    choices: Lines
    answers: Lines
    corrections: Lines
    notes: Lines
    subject: str | None = None


@dataclass(frozen=True)
class SelfTalk:
    """Questions about what the assistant itself does, and answers that are true for every one of them."""

    topic: str
    asks: Lines
    answers: Lines = ()


@dataclass(frozen=True)
class Thanks:
    """A message without content, and replies to it."""

    say: str
    replies: Lines


@dataclass(frozen=True)
class Phrases:
    """The words around facts. The person's: `telling`, `asking`, `correcting_…`; the assistant's: the others.

    The held-out set has only the person's: the assistant's words are the model's own there.
    """

    telling: Lines
    asking: Lines
    correcting_model: Lines
    correcting_self: Lines
    thanks: tuple[Thanks, ...]
    self_talk: tuple[SelfTalk, ...]
    ack: Lines = ()
    ack_correction: Lines = ()
    ack_self_correction: Lines = ()
    unknown: str = ""
    unknown_with_notes: str = ""
    know_me: Lines = ()
    know_me_blank: Lines = ()
    distractors: Lines = ()


@dataclass(frozen=True)
class Question:
    """A question of general knowledge, and the short forms of which one must occur in a right answer."""

    ask: str
    accept: Lines


@dataclass(frozen=True)
class Words:
    """One whole set of tables. `beginnings` are the first words of questions, for a model to go on with."""

    relations: tuple[Relation, ...]
    families: Mapping[str, Lines]
    phrases: Phrases
    questions: tuple[Question, ...] = ()
    prompts: Lines = ()
    beginnings: Lines = ()

    @property
    def value_families(self) -> Lines:
        """The names of the families that any relation takes its values from."""
        return tuple(sorted({relation.value for relation in self.relations}))


def load_words(folder: Path) -> Words:
    """Read every table of a set; a relation's own file defines the families that it uses."""
    tables = {path.stem: tomllib.loads(path.read_text("utf-8")) for path in sorted(folder.glob("*.toml"))}
    names = {key: tuple(values) for key, values in tables.pop("names").items()}
    phrases = _phrases(tables.pop("phrases"))
    general = tables.pop("general", {})
    families: dict[str, Lines] = dict(names)
    relations = []
    for stem, table in tables.items():
        own = {family: f"{stem}.{family}" for family in table["values"]}
        families |= {own[family]: tuple(values) for family, values in table["values"].items()}
        relations += [_relation(record, own) for record in table["relation"]]
    questions = tuple(Question(record["ask"], tuple(record["accept"])) for record in general.get("question", ()))
    prompts, beginnings = (tuple(general.get(key, ())) for key in ("prompts", "beginnings"))
    return Words(tuple(relations), families, phrases, questions, prompts, beginnings)


def _relation(record: Mapping[str, Any], own: Mapping[str, str]) -> Relation:
    lines = {key: tuple(value) for key, value in record.items() if isinstance(value, list)}
    subject = record.get("subject")
    return Relation(
        name=record["name"],
        value=own.get(record["value"], record["value"]),
        subject=own.get(subject, subject) if subject else None,
        **lines,
    )


def _phrases(table: dict[str, Any]) -> Phrases:
    know_me = table.pop("know_me", {})
    unknown, unknown_with_notes = table.pop("unknown", ""), table.pop("unknown_with_notes", "")
    thanks = tuple(_thanks(record) for record in table.pop("thanks"))
    talk = tuple(_self_talk(record) for record in table.pop("self"))
    plain = {entry.name for entry in fields(Phrases)}
    lines = {key: tuple(value) for key, value in table.items() if key in plain}
    return Phrases(
        thanks=thanks,
        self_talk=talk,
        know_me=tuple(know_me.get("asks", ())),
        know_me_blank=tuple(know_me.get("blank", ())),
        unknown=unknown,
        unknown_with_notes=unknown_with_notes,
        **lines,
    )


def _thanks(record: str | Mapping[str, Any]) -> Thanks:
    return Thanks(record, ()) if isinstance(record, str) else Thanks(record["say"], tuple(record["replies"]))


def _self_talk(record: Mapping[str, Any]) -> SelfTalk:
    asks = (record["ask"],) if "ask" in record else tuple(record["asks"])
    return SelfTalk(record["topic"], asks, tuple(record.get("answers", ())))
