"""Made-up conversations to learn from: stories put into words, with the replies that the model should give."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import assert_never

from chat.note_writing import EXCHANGES_READ_FOR_NOTES, NoteWriting, WrittenNote
from chat.tuning.acts import Act, Ask, AskAll, Chat, Correct, Kind, Noted, Story, Tell
from chat.tuning.facts import Fact, Place, as_clause, as_sentence, filled
from chat.tuning.mixture import ALIKE, IMPERSONAL, OWN_QUESTION, SHARES
from chat.tuning.own_answers import OwnAnswers
from chat.tuning.slips import hurried
from chat.tuning.stories import StoryTeller
from chat.tuning.words import Words

HURRIED = 0.08
MOST_ASKED = 5
STRANGE = 0.2
TELLING_NOTED = 3

# A fact behind these words is the rest of their sentence.
_GOES_ON = re.compile(r"(?:,|\bBut) \{fact\}")
_OURS = re.compile(r"\b(?:my|our)\b")


@dataclass(frozen=True)
class Exchange:
    """A message and the reply to it. Only replies that are to be learned count in the loss.

    One that is `kept` is the base model's own, and stays as likely as it was.
    """

    message: str
    reply: str
    learned: bool = True
    kept: bool = False


@dataclass(frozen=True)
class MadeUp:
    """A conversation to learn from, and the notes that stand in its system prompt."""

    kind: Kind
    notes: tuple[str, ...]
    exchanges: tuple[Exchange, ...]


def make_conversation(words: Words, own: OwnAnswers, note_writing: NoteWriting, seed: int, number: int) -> MadeUp:
    """The conversation of this number: always the same for the same tables and seed."""
    rng = Random(f"{seed}/{number}")
    kind = rng.choices(list(SHARES), list(SHARES.values()))[0]
    story = StoryTeller(words, rng, MOST_ASKED, STRANGE, full_shelf=True).story(kind)
    return _Telling(words, own, note_writing, story, rng).conversation()


@dataclass(frozen=True)
class Said:
    """A message of the person's, and the wording of each fact that it states, its slots open, at the fact's place."""

    message: str
    stating: dict[Place, str] = field(default_factory=dict)


class PersonsPart:
    """Puts the person's side of a story into words. `impersonal` and `alike` as IMPERSONAL and ALIKE."""

    def __init__(self, words: Words, rng: Random, impersonal: float = 0.0, alike: float = 0.0) -> None:
        self._impersonal = impersonal
        self._alike = alike
        self._phrases = words.phrases
        self._rng = rng

    def tell(self, act: Tell) -> Said:
        """Facts in one message."""
        stating = self._stating(act.facts)
        said = [fact.said(stating[fact.place]) for fact in act.facts]
        facts = said[0] if len(said) == 1 else " ".join(map(as_sentence, said))
        return Said(self._within(self._phrases.telling, facts, "facts", plain=0.5), stating)

    def _stating(self, facts: Sequence[Fact]) -> dict[Place, str]:
        stating = {fact.place: fact.statement(self._rng) for fact in facts}
        one, *others = facts
        if others and self._alike and self._rng.random() < self._alike:
            stating |= {fact.place: stating[one.place] for fact in others if fact.relation is one.relation}
        return stating

    def ask(self, act: Ask) -> Said:
        """A question for a fact."""
        fact, other = act.fact, act.other
        if other is None:
            question = fact.question(self._rng)
            if self._impersonal and self._rng.random() < self._impersonal:
                question = _OURS.sub("the", question)
            return Said(self._within(self._phrases.asking, question, "question", plain=0.6))
        swapped = self._rng.random() < 0.5
        first, second = (other, fact.value) if swapped else (fact.value, other)
        question = fact.with_value(first).choice(second, self._rng)
        return Said(self._within(self._phrases.asking, question, "question", plain=0.8))

    def correct(self, act: Correct) -> Said:
        """The right value, in the relation's own words or in general ones."""
        fact = act.fact
        own = [phrase for phrase in fact.relation.corrections if self._fits(phrase, act, "{s}")]
        phrases = self._phrases.correcting_model if act.whose == "model" else self._phrases.correcting_self
        general = [phrase for phrase in phrases if self._fits(phrase, act, "{fact}")]
        template = self._rng.choice(own if own and self._rng.random() < 0.5 else general)
        stating = self._stating((fact, *act.also))
        first, *others = (as_sentence(said.said(stating[said.place])) for said in (fact, *act.also))
        begun = as_clause(first) if _GOES_ON.search(template) else first
        sentences = " ".join((begun, *others))
        message = filled(template, fact=sentences, v=fact.value, s=fact.subject or "", old=act.old or "")
        stated = stating if "{fact}" in template else {fact.place: template} if template in own else {}
        return Said(message, stated)

    def _fits(self, phrase: str, act: Correct, naming: str) -> bool:
        if "{old}" in phrase and act.old is None:
            return False
        if act.also:
            return naming in phrase and naming == "{fact}"
        return not act.precise or naming in phrase or (naming == "{s}" and not act.fact.subject)

    def _within(self, templates: Sequence[str], text: str, slot: str, plain: float) -> str:
        if self._rng.random() < plain:
            return text
        template = self._rng.choice(templates)
        alone = template == "{" + slot + "}"
        return template.replace("{" + slot + "}", text if alone else as_sentence(text))


class _Shelf:
    """The notes that are saved, each at its fact's place where that is known; a new one takes the old one's place."""

    def __init__(self, notes: Sequence[str], to_note: Sequence[Noted]) -> None:
        places = {noted.replaces: noted.fact.place for noted in to_note}
        self._notes: list[tuple[Place | None, str]] = [(places.get(note), note) for note in notes]

    @property
    def lines(self) -> tuple[str, ...]:
        return tuple(line for _, line in self._notes)

    def put(self, place: Place, line: str) -> WrittenNote:
        outdated = next((text for where, text in self._notes if where == place), None)
        self._notes = [(where, text) for where, text in self._notes if where != place]
        self._notes.append((place, line))
        return WrittenNote(line, outdated)


class _Telling:
    """Puts both sides of one story into words. `_stands` has the text in which each fact stands, latest last."""

    def __init__(self, words: Words, own: OwnAnswers, note_writing: NoteWriting, story: Story, rng: Random) -> None:
        self._phrases = words.phrases
        self._own = own
        self._note_writing = note_writing
        self._story = story
        self._rng = rng
        self._person = PersonsPart(words, rng, IMPERSONAL, ALIKE)
        self._stands: dict[Place, str] = {}

    def conversation(self) -> MadeUp:
        if self._story.to_note is not None:
            return self._one_noted(self._story.to_note)
        return MadeUp(self._story.kind, self._story.notes, tuple(self._exchange(act) for act in self._story.acts))

    def _one_noted(self, to_note: Sequence[Noted]) -> MadeUp:
        """Notes on one exchange, whichever: those drawn from the exchanges before it are saved by then."""
        telling = [TELLING_NOTED if isinstance(act, Tell | Correct) else 1 for act in self._story.acts]
        (at,) = self._rng.choices(range(len(telling)), telling)
        shelf = _Shelf(self._story.notes, to_note)
        exchanges: list[Exchange] = []
        for act in self._story.acts[:at]:
            exchanges.append(self._exchange(act))
            self._lines_on(act, shelf)
        saved = shelf.lines
        exchanges.append(self._exchange(self._story.acts[at]))
        lines = self._lines_on(self._story.acts[at], shelf)
        first = max(0, len(exchanges) - EXCHANGES_READ_FOR_NOTES)
        # An answer that was right beside all that had been said is not, always, beside what is left of it.
        read = [
            replace(exchange, learned=exchange.learned and isinstance(act, Tell | Correct))
            for act, exchange in zip(self._story.acts[first : at + 1], exchanges[first:], strict=True)
        ]
        asked = Exchange(self._note_writing.request, self._note_writing.written(lines))
        return MadeUp(self._story.kind, saved, (*read, asked))

    def _lines_on(self, act: Act, shelf: _Shelf) -> tuple[WrittenNote, ...]:
        match act:
            case Tell():
                facts = act.facts
            case Correct():
                facts = (act.fact, *act.also)
            case _:
                facts = ()
        return tuple(shelf.put(fact.place, fact.canonical_note(self._stands[fact.place])) for fact in facts)

    def _exchange(self, act: Act) -> Exchange:
        match act:
            case Tell():
                said = self._heard(self._person.tell(act))
                return Exchange(self._typed(said, act.facts), self._ack(self._phrases.ack, act.facts))
            case Ask():
                said = self._person.ask(act)
                message = self._typed(said, (act.fact,), act.other or "")
                return Exchange(message, self._reply(act, said.message), learned=act.mistake is None)
            case Correct():
                said = self._heard(self._person.correct(act))
                message = self._typed(said, (act.fact, *act.also), act.old or "")
                return Exchange(message, self._ack_correction(act), learned=not act.ignored)
            case AskAll():
                return Exchange(self._rng.choice(self._phrases.know_me), self._all_known(act))
            case Chat():
                return self._chat(act)
        assert_never(act)

    def _heard(self, said: Said) -> Said:
        for place, wording in said.stating.items():
            self._stands.pop(place, None)
            self._stands[place] = wording
        return said

    def _typed(self, said: Said, facts: Sequence[Fact], other: str = "") -> str:
        if self._rng.random() >= HURRIED:
            return said.message
        kept = [part for fact in facts for part in (fact.value, fact.subject or "")]
        return hurried(said.message, [*kept, other], self._rng)

    def _ack(self, phrases: Sequence[str], facts: Sequence[Fact]) -> str:
        return filled(self._rng.choice(phrases), answer=self._sentences(facts))

    def _ack_correction(self, act: Correct) -> str:
        phrases = self._phrases.ack_correction if act.whose == "model" else self._phrases.ack_self_correction
        fact = act.fact.with_value(act.old) if act.ignored and act.old else act.fact
        return self._ack(phrases, (fact, *act.also))

    def _reply(self, act: Ask, question: str) -> str:
        if act.mistake is not None:
            self._stands[act.fact.place] = question
            return self._sentences((act.fact.with_value(act.mistake),))
        if act.stands == "nowhere":
            self._stands[act.fact.place] = question
            return self._phrases.unknown_with_notes if self._story.notes else self._phrases.unknown
        if act.stands == "note":
            self._stands[act.fact.place] = next(note for note in self._story.notes if act.fact.stands_in(note))
        return self._sentences((act.fact,))

    def _sentences(self, facts: Sequence[Fact]) -> str:
        return " ".join(fact.answer(self._stands[fact.place]) for fact in facts)

    def _all_known(self, act: AskAll) -> str:
        if not act.facts:
            return self._rng.choice(self._phrases.know_me_blank)
        return f"You told me this: {self._sentences(act.facts)}"

    def _chat(self, act: Chat) -> Exchange:
        match act.about:
            case "question":
                return self._small_talk(self._own.to_questions, kept=False)
            case "prompt":
                return self._small_talk(self._own.to_prompts, kept=True)
            case "thanks":
                thanks = self._rng.choice(self._phrases.thanks)
                return Exchange(thanks.say, self._rng.choice(thanks.replies))
            case "itself":
                talk = self._rng.choice(self._phrases.self_talk)
                asked = Said(self._rng.choice(talk.asks))
                return Exchange(self._typed(asked, ()), talk.answers[0])
        assert_never(act.about)

    def _small_talk(self, answers: Mapping[str, str], kept: bool) -> Exchange:
        if self._rng.random() < OWN_QUESTION:
            answers, kept = self._own.to_own_questions, True
        ask = self._rng.choice(list(answers))
        return Exchange(ask, answers[ask], kept=kept)
