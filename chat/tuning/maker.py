"""Made-up conversations to learn from: stories put into words, with the replies that the model should give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import assert_never

from chat.note_writing import NoteWriting, WrittenNote
from chat.tuning.facts import Fact, as_sentence, filled
from chat.tuning.own_answers import OwnAnswers
from chat.tuning.slips import hurried
from chat.tuning.stories import Act, Ask, AskAll, Chat, Correct, Kind, Noted, Story, StoryTeller, Tell
from chat.tuning.words import Words

HURRIED = 0.08
# Of the answers about itself, as many as a small model can keep apart.
_WAYS_TO_SAY = 3

SHARES: dict[Kind, float] = {
    "told": 0.12,
    "corrected": 0.20,
    "noted": 0.08,
    "note corrected": 0.10,
    "distracted": 0.03,
    "two of a shape": 0.08,
    "fresh": 0.08,
    "sibling untold": 0.06,
    "notes written": 0.09,
    "notes replaced": 0.06,
    "about itself": 0.03,
    "general": 0.07,
}
"""How many of the conversations are of each kind, as shares of one."""


@dataclass(frozen=True)
class Exchange:
    """A message and the reply to it. Only replies that are to be learned count in the loss."""

    message: str
    reply: str
    learned: bool = True


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
    story = StoryTeller(words, rng).story(kind)
    return _Telling(words, own, note_writing, story, rng).conversation()


class PersonsPart:
    """Puts the person's side of a story into words."""

    def __init__(self, words: Words, rng: Random) -> None:
        self._phrases = words.phrases
        self._rng = rng

    def tell(self, act: Tell) -> str:
        """Facts in one message."""
        said = [fact.statement(self._rng) for fact in act.facts]
        facts = said[0] if len(said) == 1 else " ".join(map(as_sentence, said))
        return self._within(self._phrases.telling, facts, "facts", plain=0.5)

    def ask(self, act: Ask) -> str:
        """A question for a fact."""
        fact, other = act.fact, act.other
        if other is None:
            return self._within(self._phrases.asking, fact.question(self._rng), "question", plain=0.6)
        swapped = self._rng.random() < 0.5
        first, second = (other, fact.value) if swapped else (fact.value, other)
        question = fact.with_value(first).choice(second, self._rng)
        return self._within(self._phrases.asking, question, "question", plain=0.8)

    def correct(self, act: Correct) -> str:
        """The right value, in the relation's own words or in general ones."""
        fact = act.fact
        own = [phrase for phrase in fact.relation.corrections if self._fits(phrase, act, "{s}")]
        phrases = self._phrases.correcting_model if act.whose == "model" else self._phrases.correcting_self
        general = [phrase for phrase in phrases if self._fits(phrase, act, "{fact}")]
        template = self._rng.choice(own if own and self._rng.random() < 0.5 else general)
        statement = as_sentence(fact.statement(self._rng))
        return filled(template, fact=statement, v=fact.value, s=fact.subject or "", old=act.old or "")

    def _fits(self, phrase: str, act: Correct, naming: str) -> bool:
        if "{old}" in phrase and act.old is None:
            return False
        return not act.precise or naming in phrase or (naming == "{s}" and not act.fact.subject)

    def _within(self, templates: Sequence[str], text: str, slot: str, plain: float) -> str:
        if self._rng.random() < plain:
            return text
        template = self._rng.choice(templates)
        alone = template == "{" + slot + "}"
        return template.replace("{" + slot + "}", text if alone else as_sentence(text))


class _Telling:
    """Puts both sides of one story into words."""

    def __init__(self, words: Words, own: OwnAnswers, note_writing: NoteWriting, story: Story, rng: Random) -> None:
        self._phrases = words.phrases
        self._own = own
        self._note_writing = note_writing
        self._story = story
        self._rng = rng
        self._person = PersonsPart(words, rng)

    def conversation(self) -> MadeUp:
        exchanges = [self._exchange(act) for act in self._story.acts]
        if self._story.to_note is not None:
            exchanges.append(self._note_exchange(self._story.to_note))
        return MadeUp(self._story.kind, self._story.notes, tuple(exchanges))

    def _exchange(self, act: Act) -> Exchange:
        match act:
            case Tell():
                return Exchange(self._typed(self._person.tell(act), act.facts), self._ack(act))
            case Ask():
                message = self._typed(self._person.ask(act), (act.fact,), act.other or "")
                return Exchange(message, self._reply(act), learned=act.mistake is None)
            case Correct():
                message = self._typed(self._person.correct(act), (act.fact,), act.old or "")
                return Exchange(message, self._ack_correction(act), learned=not act.ignored)
            case AskAll():
                return Exchange(self._rng.choice(self._phrases.know_me), self._all_known(act))
            case Chat():
                return self._chat(act)
        assert_never(act)

    def _typed(self, message: str, facts: Sequence[Fact], other: str = "") -> str:
        if self._rng.random() >= HURRIED:
            return message
        kept = [part for fact in facts for part in (fact.value, fact.subject or "")]
        return hurried(message, [*kept, other], self._rng)

    def _ack(self, act: Tell) -> str:
        answers = " ".join(fact.answer() for fact in act.facts)
        return filled(self._rng.choice(self._phrases.ack), answer=answers)

    def _ack_correction(self, act: Correct) -> str:
        phrases = self._phrases.ack_correction if act.whose == "model" else self._phrases.ack_self_correction
        fact = act.fact.with_value(act.old) if act.ignored and act.old else act.fact
        return filled(self._rng.choice(phrases), answer=fact.answer())

    def _reply(self, act: Ask) -> str:
        if act.mistake is not None:
            return act.fact.with_value(act.mistake).answer()
        if act.stands == "nowhere":
            phrases = self._phrases.unknown_with_notes if self._story.notes else self._phrases.unknown
            return filled(self._rng.choice(phrases), about=act.fact.about())
        return act.fact.answer()

    def _all_known(self, act: AskAll) -> str:
        if not act.facts:
            return self._rng.choice(self._phrases.know_me_blank)
        return "You told me this: " + " ".join(fact.answer() for fact in act.facts)

    def _chat(self, act: Chat) -> Exchange:
        match act.about:
            case "question":
                ask = self._rng.choice(list(self._own.to_questions))
                return Exchange(ask, self._own.to_questions[ask])
            case "prompt":
                ask = self._rng.choice(list(self._own.to_prompts))
                return Exchange(ask, self._own.to_prompts[ask])
            case "thanks":
                thanks = self._rng.choice(self._phrases.thanks)
                return Exchange(thanks.say, self._rng.choice(thanks.replies))
            case "itself":
                talk = self._rng.choice(self._phrases.self_talk)
                return Exchange(
                    self._typed(self._rng.choice(talk.asks), ()), self._rng.choice(talk.answers[:_WAYS_TO_SAY])
                )
        assert_never(act.about)

    def _note_exchange(self, to_note: Sequence[Noted]) -> Exchange:
        lines = tuple(WrittenNote(noted.fact.canonical_note(), noted.replaces) for noted in to_note)
        return Exchange(self._note_writing.request, self._note_writing.written(lines))
