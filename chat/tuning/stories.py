"""What happens in a conversation, apart from its wording: who tells, asks, corrects and changes the subject.

The maker turns a story into a conversation with replies to learn from; the evaluation plays its person's part and
judges the model's own replies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random
from typing import Literal, TypeVar

from chat.tuning.acts import Act, Ask, AskAll, Chat, Correct, Kind, Noted, Story, Tell, Whereabouts
from chat.tuning.facts import Fact, FactMaker
from chat.tuning.words import Words

T = TypeVar("T")

OTHER_TALK = 10


class StoryTeller:
    """Makes one story of a kind from a set of tables. Use a new one for each story.

    For judging, a story asks for one of the facts that it tells. For learning, it asks for more of them (`most_asked`),
    and for some that it does not tell, because a question costs less than another story. `strange` as in FactMaker.
    With `full_shelf`, notes are mostly written beside saved ones, one of them about the like of what is told.
    """

    def __init__(
        self, words: Words, rng: Random, most_asked: int = 1, strange: float = 0.0, full_shelf: bool = False
    ) -> None:
        self._full_shelf = full_shelf
        self._rng = rng
        self._most_asked = most_asked
        self._make = FactMaker(words, rng, strange)
        self._kinds: dict[Kind, Callable[[], Story]] = {
            "told": self._told,
            "corrected": self._corrected,
            "noted": self._noted,
            "note corrected": self._note_corrected,
            "distracted": self._distracted,
            "two of a shape": self._two_of_a_shape,
            "both corrected": self._both_corrected,
            "fresh": self._fresh,
            "sibling untold": self._sibling_untold,
            "notes written": self._notes_written,
            "notes replaced": self._notes_replaced,
            "many replaced": self._many_replaced,
            "about itself": self._about_itself,
            "general": self._general,
        }

    def story(self, kind: Kind) -> Story:
        """A story of this kind."""
        return self._kinds[kind]()

    def _told(self) -> Story:
        facts = self._make.facts(self._rng.choice((1, 1, 2, 4)))
        return Story("told", (Tell(facts), *self._asked_of(facts, "conversation")))

    def _corrected(self) -> Story:
        way = self._rng.choice(
            (self._models_mistake, self._models_mistake, self._own_mistake, self._partly, self._twice)
        )
        return Story("corrected", way())

    def _models_mistake(self) -> tuple[Act, ...]:
        fact = self._make.fact()
        wrong = self._make.other_value(fact)
        mistake = self._sometimes(wrong, 0.75)
        first = Ask(fact, "nowhere", self._sometimes(wrong, 0.3), mistake=mistake, judged=False)
        again = mistake and self._rng.random() < 0.2
        repeats = (Correct(fact, mistake, "model", ignored=True),) if again else ()
        return (first, *repeats, Correct(fact, mistake, "model"), self._ask(fact, "conversation", (wrong,)))

    def _own_mistake(self) -> tuple[Act, ...]:
        fact, old = self._changed()
        told = Tell(self._shuffled((fact.with_value(old), *self._make.facts(self._rng.choice((0, 0, 1))))))
        return (told, self._set_right(fact, old), self._ask(fact, "conversation", (old,)))

    def _partly(self) -> tuple[Act, ...]:
        fact, old = self._changed()
        others = self._make.facts(self._rng.choice((1, 2, 3)))
        told = Tell(self._shuffled((fact.with_value(old), *others)))
        asks = [self._ask(fact, "conversation", (old,)), self._ask(self._rng.choice(others), "conversation")]
        return (told, self._set_right(fact, old), *self._shuffled(asks))

    def _twice(self) -> tuple[Act, ...]:
        fact, first = self._changed()
        second = self._make.other_value(fact)
        corrections = (Correct(fact.with_value(second), first, "person"), Correct(fact, second, "person"))
        return (Tell((fact.with_value(first),)), *corrections, self._ask(fact, "conversation", (first, second)))

    def _noted(self) -> Story:
        facts = self._make.facts(self._rng.choice((1, 2, 4, 21)))
        return Story("noted", self._asked_of(facts, "note"), self._notes_of(facts))

    def _note_corrected(self) -> Story:
        fact, old = self._changed()
        facts = self._shuffled((fact.with_value(old), *self._make.facts(self._rng.choice((0, 1, 3, 8)))))
        before = (self._ask(fact.with_value(old), "note"),) if self._rng.random() < 0.5 else ()
        whose: Literal["model", "person"] = self._rng.choice(("model", "person"))
        told: Act = Correct(fact, old, whose) if before else Tell((fact,))
        acts = (*before, told, self._ask(fact, "conversation", (old,)))
        return Story("note corrected", acts, self._notes_of(facts))

    def _distracted(self) -> Story:
        story = self._rng.choice((self._told, self._corrected))()
        *before, last = story.acts
        return Story("distracted", (*before, *self._other_talk(OTHER_TALK), last), story.notes)

    def _two_of_a_shape(self) -> Story:
        one = self._make.fact_with_subject()
        two = self._make.sibling(one)
        asked = self._rng.choice((one, two))
        other = two if asked is one else one
        ask = self._ask(asked, "conversation")
        wrong_way = Tell((one.with_value(two.value), two.with_value(one.value)))
        acts: tuple[Act, ...] = self._rng.choice(
            (
                (Tell((one, two)), ask, self._ask(other, "conversation")),
                (Ask(one, "nowhere", two.value, judged=False), Tell((one, two)), ask),
                (
                    Ask(one, "nowhere", two.value, mistake=two.value, judged=False),
                    Correct(one, two.value, "model", precise=True),
                    Tell((two,)),
                    ask,
                ),
                (wrong_way, self._set_right(one, two.value), self._set_right(two, one.value), ask),
            )
        )
        return Story("two of a shape", acts)

    def _both_corrected(self) -> Story:
        one = self._make.fact_with_subject()
        two = self._make.sibling(one)
        told = Tell((one.with_value(two.value), two.with_value(one.value)))
        asked = Ask(one, "nowhere", mistake=self._sometimes(two.value, 0.7), judged=False)
        acts: tuple[Act, ...] = self._rng.choice(
            (
                (asked, Correct(one, asked.mistake, "model", precise=True, also=(two,))),
                (told, Correct(one, two.value, "person", precise=True, also=(two,))),
            )
        )
        asks = self._rng.sample((one, two), min(2, self._most_asked))
        to_note = (Noted(one), Noted(two)) if self._rng.random() < 0.4 else None
        return Story("both corrected", (*acts, *(self._ask(fact, "conversation") for fact in asks)), (), to_note)

    def _fresh(self) -> Story:
        fact = self._make.fact()
        notes = self._notes_of(self._make.facts(self._rng.choice((0, 0, 1, 3, 8))))
        asks = [self._unknown(fact)]
        if self._rng.random() < 0.3:
            asks.append(self._unknown(self._make.fact()))
        return Story("fresh", tuple(asks), notes)

    def _sibling_untold(self) -> Story:
        told = self._make.fact_with_subject()
        asked = self._make.sibling(told)
        if self._rng.random() < 0.3:
            return Story("sibling untold", (self._unknown(asked), self._ask(told, "note")), self._notes_of((told,)))
        return Story("sibling untold", (Tell((told,)), self._unknown(asked), self._ask(told, "conversation")))

    def _notes_written(self) -> Story:
        told = self._make.facts(self._rng.choice((0, 1, 1, 2, 3, 4)))
        acts: list[Act] = [Tell(told)] if told else [Chat("prompt")]
        final = list(told)
        if told and self._rng.random() < 0.5:
            changed = self._rng.randrange(len(final))
            old = final[changed]
            final[changed] = old.with_value(self._make.other_value(old))
            acts.append(self._set_right(final[changed], old.value))
        if self._rng.random() < 0.4:
            late = self._make.fact()
            wrong = self._make.other_value(late)
            mistake = self._sometimes(wrong, 0.6)
            acts += [Ask(late, "nowhere", mistake=mistake, judged=False), Correct(late, mistake, "model")]
            final.append(late)
        if final and self._rng.random() < 0.4:
            acts.append(self._ask(self._rng.choice(final), "conversation"))
        acts = list(self._with_small_talk(acts))
        notes = self._notes_of(self._saved_beside(final))
        return Story("notes written", tuple(acts), notes, tuple(Noted(fact) for fact in final))

    def _saved_beside(self, told: list[Fact]) -> tuple[Fact, ...]:
        if not self._full_shelf:
            return self._make.facts(self._rng.choice((0, 0, 0, 2)))
        alike = (self._make.sibling(self._rng.choice(told)),) if told and self._rng.random() < 0.5 else ()
        return self._shuffled((*alike, *self._make.facts(self._rng.choice((0, 1, 2, 4)))))

    def _notes_replaced(self) -> Story:
        fact, old = self._changed()
        outdated = fact.with_value(old).note(self._rng)
        others = self._notes_of(self._make.facts(self._rng.choice((0, 1, 2, 5))))
        notes = self._shuffled((outdated, *others))
        new = self._make.facts(self._rng.choice((0, 0, 1, 2)))
        said: Act = self._set_right(fact, old) if self._rng.random() < 0.5 else Tell((fact,))
        before = (self._ask(fact.with_value(old), "note"),) if self._rng.random() < 0.4 else ()
        told = [(said, Noted(fact, outdated)), *((Tell((other,)), Noted(other)) for other in new)]
        self._rng.shuffle(told)
        acts = self._with_small_talk([*before, *(act for act, _ in told)])
        return Story("notes replaced", tuple(acts), notes, tuple(noted for _, noted in told))

    def _many_replaced(self) -> Story:
        """Several facts beside a shelf that has something else of some, the like of some, and things unrelated."""
        told = list(self._make.facts(self._rng.choice((1, 2, 3, 4))))
        outdated = {fact.place: self._make.other_value(fact) for fact in self._sample(told)}
        if self._rng.random() < 0.4:
            one = self._make.fact_with_subject()
            two = self._make.sibling(one)
            told += [one, two]
            outdated |= {one.place: two.value, two.place: one.value}
        saved = {
            fact.place: fact.with_value(outdated[fact.place]).note(self._rng) for fact in told if fact.place in outdated
        }
        alike = [self._make.sibling(fact) for fact in told if self._rng.random() < 0.25]
        unrelated = self._make.facts(self._rng.choice((0, 0, 1, 2)))
        self._rng.shuffle(told)
        notes = self._shuffled((*saved.values(), *self._notes_of((*alike, *unrelated))))
        to_note = tuple(Noted(fact, saved.get(fact.place)) for fact in told)
        return Story("many replaced", (Tell(tuple(told)),), notes, to_note)

    def _sample(self, facts: list[Fact]) -> list[Fact]:
        return self._rng.sample(facts, self._rng.randrange(len(facts) + 1))

    def _about_itself(self) -> Story:
        facts = self._make.facts(self._rng.choice((0, 0, 1, 2)))
        acts: list[Act] = [Tell(facts)] if facts else []
        notes = self._notes_of(self._make.facts(self._rng.choice((0, 0, 2))))
        acts.append(Chat("itself"))
        if self._rng.random() < 0.3:
            acts.append(AskAll(facts) if not notes else Chat("itself"))
        if facts:
            acts.append(self._ask(self._rng.choice(facts), "conversation"))
        return Story("about itself", tuple(acts), notes)

    def _general(self) -> Story:
        notes = self._notes_of(self._make.facts(self._rng.choice((0, 0, 0, 2, 6))))
        acts: list[Act] = list(self._other_talk(self._rng.choice((1, 2, 3))))
        if self._rng.random() < 0.3:
            fact = self._make.fact()
            acts = [Tell((fact,)), *acts, self._ask(fact, "conversation")]
        elif self._rng.random() < 0.4:
            acts.insert(self._rng.randrange(len(acts) + 1), self._unknown(self._make.fact()))
        return Story("general", tuple(acts), notes)

    def _set_right(self, fact: Fact, old: str) -> Correct:
        return Correct(fact, old, "person", precise=True)

    def _ask(self, fact: Fact, stands: Whereabouts, stale: tuple[str, ...] = ()) -> Ask:
        other = self._rng.choice(stale) if stale else self._make.other_value(fact)
        return Ask(fact, stands, self._sometimes(other, 0.15), stale)

    def _unknown(self, fact: Fact) -> Ask:
        return Ask(fact, "nowhere", self._sometimes(self._make.other_value(fact), 0.25))

    def _changed(self) -> tuple[Fact, str]:
        fact = self._make.fact()
        return fact, self._make.other_value(fact)

    def _sometimes(self, value: str, how_often: float) -> str | None:
        return value if self._rng.random() < how_often else None

    def _other_talk(self, count: int) -> Iterable[Chat]:
        return (Chat(self._rng.choice(("question", "prompt", "prompt", "thanks"))) for _ in range(count))

    def _with_small_talk(self, acts: list[Act]) -> Iterable[Act]:
        for act in acts:
            yield act
            if self._rng.random() < 0.25:
                yield from self._other_talk(1)

    def _notes_of(self, facts: Iterable[Fact]) -> tuple[str, ...]:
        return tuple(fact.note(self._rng) for fact in facts)

    def _asked_of(self, facts: tuple[Fact, ...], stands: Whereabouts) -> tuple[Act, ...]:
        asks = [self._ask(fact, stands) for fact in self._rng.sample(facts, min(len(facts), self._most_asked))]
        if self._most_asked > 1 and self._rng.random() < 0.5:
            asks.append(self._unknown(self._make.fact()))
        return self._shuffled(asks)

    def _shuffled(self, things: Iterable[T]) -> tuple[T, ...]:
        listed = list(things)
        self._rng.shuffle(listed)
        return tuple(listed)
