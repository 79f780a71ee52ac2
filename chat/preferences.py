"""Pairs for preference training, made of what a person said of replies. Pure; nothing here trains on them.

The format is the conversational preference format of TRL (its documentation, “Dataset formats and types”): `prompt`,
`chosen` and `rejected` are lists of messages, each with a role and a content.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from chat.prompt import EARLIER_REPLY
from chat.template import JOINT
from chat.types import Feedback, PromptRecord, Receipt, Role, Segment


@dataclass(frozen=True)
class ChatMessage:
    """A message as a chat template takes it."""

    role: Role
    content: str


@dataclass(frozen=True)
class Judged:
    """What a person said of a reply, and the receipt of that reply."""

    feedback: Feedback
    receipt: Receipt

    @property
    def message(self) -> str:
        """What the person had asked."""
        return "".join(segment.text for segment in self.receipt.prompt.segments if segment.kind == "message")

    @property
    def reply(self) -> str:
        """What the model answered."""
        return self.receipt.completion.text


@dataclass(frozen=True)
class Pair:
    """Two replies to one prompt, the better and the worse, and the turns that they come from."""

    prompt: tuple[ChatMessage, ...]
    chosen: str
    rejected: str
    turn_ids: frozenset[str]


def messages_of(prompt: PromptRecord) -> tuple[ChatMessage, ...]:
    """The messages that the chat template was given, read from the prompt's segments without the template's own.

    A line break that shares its token with the template is the template's, as it is everywhere in a receipt.
    """
    messages: list[list[Segment]] = [[]]
    for segment in prompt.segments:
        # A system part that the template has no role for is joined to the first message, and was read so.
        if segment.kind != "template" or segment.label == JOINT:
            messages[-1].append(segment)
        elif messages[-1]:
            messages.append([])
    return tuple(ChatMessage(_role(parts), "".join(part.text for part in parts)) for parts in messages if parts)


def preference_pairs(judged: Iterable[Judged]) -> tuple[Pair, ...]:
    """Every pair that has both its sides, each once.

    A bad reply that came with what it should have said is a pair by itself. Of the replies to the same prompt, token
    for token, each good one makes a pair with each bad one. A reply that is both, word for word, makes none.
    """
    by_prompt: defaultdict[str, list[Judged]] = defaultdict(list)
    for each in judged:
        by_prompt[each.receipt.prompt.sha256].append(each)
    pairs: dict[tuple[str, str, str], Pair] = {}
    for sha256, tries in by_prompt.items():
        prompt = messages_of(tries[0].receipt.prompt)
        for chosen, rejected, turn_ids in _both_sides(tries):
            known = pairs.get((sha256, chosen, rejected))
            turn_ids |= known.turn_ids if known else frozenset()
            pairs[sha256, chosen, rejected] = Pair(prompt, chosen, rejected, turn_ids)
    return tuple(pairs.values())


def as_jsonl(pairs: Iterable[Pair]) -> str:
    """The pairs as JSON, one object a line. In ASCII, as some readers take other characters for ends of lines too."""
    return "".join(json.dumps(_plain(pair)) + "\n" for pair in pairs)


def _role(parts: Sequence[Segment]) -> Role:
    if any(part.label == EARLIER_REPLY for part in parts):
        return "assistant"
    return "user" if any(part.kind in ("history", "message") for part in parts) else "system"


def _both_sides(tries: Sequence[Judged]) -> Iterable[tuple[str, str, frozenset[str]]]:
    good = [each for each in tries if each.feedback.verdict == "up"]
    for bad in (each for each in tries if each.feedback.verdict == "down"):
        own = frozenset({bad.feedback.turn_id})
        sides = [(each.reply, own | {each.feedback.turn_id}) for each in good]
        if bad.feedback.better:
            sides.insert(0, (bad.feedback.better, own))
        yield from ((chosen, bad.reply, turn_ids) for chosen, turn_ids in sides if chosen != bad.reply)


def _plain(pair: Pair) -> dict[str, list[dict[str, str]]]:
    return {
        "prompt": [{"role": message.role, "content": message.content} for message in pair.prompt],
        "chosen": [{"role": "assistant", "content": pair.chosen}],
        "rejected": [{"role": "assistant", "content": pair.rejected}],
    }
