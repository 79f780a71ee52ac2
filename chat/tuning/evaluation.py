"""The held-out evaluation: stories that nobody trained on, played through the app's own way of a turn.

Every message goes through `Service`, so through `run_turn`, the store and the notes, and the model's own replies stand
in the conversation. Greedy, so that a run can be repeated but for words that are as good as equal: side by side with
others, a story's numbers differ in their last bits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random
from typing import assert_never, get_args

from chat.tuning import judges
from chat.tuning.acts import Act, Ask, AskAll, Chat, Correct, Kind, Story, Tell
from chat.tuning.maker import PersonsPart
from chat.tuning.own_answers import names_any
from chat.tuning.stories import StoryTeller
from chat.tuning.words import Words
from chat.turn import Done
from chat.types import Sampling
from chat.ui.note_taking import NotesWritten
from chat.ui.service import Service

EVALUATION_SEED = 1
LONGEST_REPLY = 64
STORY_KINDS: tuple[Kind, ...] = tuple(kind for kind in get_args(Kind) if kind not in ("about itself", "general"))
"""What is told in stories. The other kinds are single questions here."""


@dataclass(frozen=True)
class Task:
    """One thing to try: the kind, and its number within the kind."""

    kind: str
    number: int


@dataclass(frozen=True)
class Outcome:
    """What came of it. `fault` is "" where it went right; `transcript` is all that was said."""

    kind: str
    number: int
    fault: str
    transcript: tuple[tuple[str, str], ...]
    notes: tuple[str, ...] = ()

    @property
    def right(self) -> bool:
        """Whether nothing was wrong."""
        return not self.fault


@dataclass
class _Scene:
    """A conversation under way: what was said so far, and what can be known from it."""

    owner: str
    conversation_id: str
    said: list[tuple[str, str]] = field(default_factory=list)
    heard: list[str] = field(default_factory=list)


def tasks(words: Words, stories: int) -> list[Task]:
    """All that an evaluation tries: so many stories of each kind, and every general question and prompt."""
    told = [Task(kind, number) for kind in STORY_KINDS for number in range(stories)]
    itself = [Task("about itself", number) for number in range(len(words.phrases.self_talk))]
    general = [Task("general", number) for number in range(len(words.questions))]
    return [*told, *itself, *general, *(Task("chat", number) for number in range(len(words.prompts)))]


class Player:
    """Plays the person's part and judges the replies."""

    def __init__(self, words: Words, service: Service) -> None:
        self._words = words
        self._service = service

    def play(self, task: Task) -> Outcome:
        """Play one task from its beginning, as a person of its own."""
        if task.kind == "general":
            question = self._words.questions[task.number]
            return self._single(task, question.ask, lambda reply: names_any(reply, question.accept))
        if task.kind == "about itself":
            talk = self._words.phrases.self_talk[task.number]
            return self._single(task, talk.asks[0], lambda reply: judges.tells_of_itself(reply, talk.topic))
        if task.kind == "chat":
            return self._single(task, self._words.prompts[task.number], bool)
        rng = Random(f"{EVALUATION_SEED}/{task.kind}/{task.number}")
        kind = next(kind for kind in STORY_KINDS if kind == task.kind)
        story = StoryTeller(self._words, rng).story(kind)
        return self._story(task, story, PersonsPart(self._words, rng), rng)

    def _single(self, task: Task, message: str, right: Callable[[str], bool]) -> Outcome:
        scene = self._scene(task)
        reply = self._send(scene, message)
        return Outcome(task.kind, task.number, "" if right(reply) else "not right", tuple(scene.said))

    def _story(self, task: Task, story: Story, person: PersonsPart, rng: Random) -> Outcome:
        scene = self._scene(task)
        store = self._service.store_of(scene.owner)
        for note in story.notes:
            store.add_note(note)
        scene.heard += story.notes
        faults = [self._act(scene, act, person, rng) for act in story.acts]
        if story.to_note is not None:
            faults.append(self._notes_fault(scene, story))
        shelf = tuple(note.text for note in store.load_notes())
        return Outcome(task.kind, task.number, next(filter(None, faults), ""), tuple(scene.said), shelf)

    def _scene(self, task: Task) -> _Scene:
        owner = f"{task.kind} {task.number}"
        return _Scene(owner, self._service.store_of(owner).new_conversation())

    def _act(self, scene: _Scene, act: Act, person: PersonsPart, rng: Random) -> str:
        match act:
            case Tell():
                self._send(scene, person.tell(act).message)
            case Ask():
                return self._asked(scene, act, person)
            case Correct():
                last = scene.said[-1][1] if scene.said else ""
                named = act.whose == "person" or (act.old is not None and judges.holds(last, act.old))
                self._send(scene, person.correct(act if named else replace(act, old=None)).message)
            case Chat():
                phrases = self._words.phrases
                thanks = act.about == "thanks"
                self._send(scene, rng.choice(phrases.thanks).say if thanks else rng.choice(phrases.distractors))
            case AskAll():
                raise AssertionError("the held-out set has no words for this")
            case _:
                assert_never(act)
        return ""

    def _asked(self, scene: _Scene, act: Ask, person: PersonsPart) -> str:
        message = person.ask(act).message
        reply = self._send(scene, message)
        if not act.judged:
            return ""
        if act.stands == "nowhere":
            known = judges.admits_not_knowing(reply, scene.heard)
            return "" if known else f"did not say that it does not know: {reply}"
        return "" if judges.gives(reply, act) else f"{act.fact.value} expected: {reply}"

    def _notes_fault(self, scene: _Scene, story: Story) -> str:
        assert story.to_note is not None
        for event in self._service.remember(scene.owner, scene.conversation_id, draft=False):
            last = event
        assert isinstance(last, NotesWritten)
        shelf = [note.text for note in self._service.store_of(scene.owner).load_notes()]
        outdated = {noted.replaces for noted in story.to_note}
        kept = [note for note in story.notes if note not in outdated]
        return judges.fault_in_notes(shelf, story.to_note, kept, scene.heard)

    def _send(self, scene: _Scene, message: str) -> str:
        sampling = Sampling(max_new_tokens=LONGEST_REPLY)
        for event in self._service.send(scene.owner, message, scene.conversation_id, True, sampling):
            last = event
        assert isinstance(last, Done)
        reply = last.receipt.completion.text
        scene.said.append((message, reply))
        scene.heard.append(message)
        return reply
