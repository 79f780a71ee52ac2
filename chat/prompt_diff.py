"""What is new in a prompt, what is gone from it and what was read before, and where words stand in it."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import accumulate
from typing import Literal

from chat.types import PromptRecord, Segment

Fate = Literal["same", "new", "gone"]


@dataclass(frozen=True)
class Stretch:
    """Segments of one prompt in a row that share their fate; those that are gone are the other prompt's."""

    fate: Fate
    segments: tuple[Segment, ...]

    @property
    def tokens(self) -> int:
        """Their length."""
        return sum(segment.end - segment.start for segment in self.segments)


@dataclass(frozen=True)
class Found:
    """Where words stand: in this segment, at these places of the prompt's token ids."""

    segment: Segment
    start: int
    end: int


def difference(earlier: PromptRecord, later: PromptRecord) -> tuple[Stretch, ...]:
    """How one prompt became another, segment by segment, in the later one's order.

    A segment is the same if its token ids are, whatever it was called: a message that has become history is read again.
    """
    old, new = _units(earlier), _units(later)
    matcher = SequenceMatcher(a=old, b=new, autojunk=False)
    return tuple(_stretches(matcher, earlier.segments, later.segments))


def only_here(prompt: PromptRecord, plain: PromptRecord) -> frozenset[int]:
    """The places of the tokens that the plain prompt lacks: a diff of the ids.

    The whole segments that both end with are the same before anything else is: a question that was asked before is not
    to be taken for the one that is asked now, nor the last full stop of a note for that of the system prompt.
    """
    ours, theirs = prompt.token_ids, plain.token_ids
    shared_from = len(ours) - shared_beginning(ours[::-1], theirs[::-1])
    end = len(ours) - min((each.start for each in prompt.segments if each.start >= shared_from), default=len(ours))
    ours, theirs = ours[: len(ours) - end], theirs[: len(theirs) - end]
    matcher = SequenceMatcher(a=theirs, b=ours, autojunk=False)
    shared = {place for block in matcher.get_matching_blocks() for place in range(block.b, block.b + block.size)}
    return frozenset(range(len(ours))) - shared


def shared_beginning(ours: Sequence[int], theirs: Sequence[int]) -> int:
    """How many ids two lists have in common, from the first on."""
    pairs = enumerate(zip(ours, theirs, strict=False))
    return next((place for place, (one, other) in pairs if one != other), min(len(ours), len(theirs)))


def find(record: PromptRecord, words: str, token_texts: Sequence[str]) -> tuple[Found, ...]:
    """Every place where the words stand in a prompt, in any case. `token_texts` has the text of each token.

    Words that lie across two segments are found in neither: they were put side by side by the prompt's making.
    """
    sought = " ".join(words.split()).casefold()
    if not sought:
        return ()
    return tuple(found for segment in record.segments for found in _found_in(segment, sought, token_texts))


def _found_in(segment: Segment, sought: str, token_texts: Sequence[str]) -> Iterator[Found]:
    texts = [_plain(text) for text in token_texts[segment.start : segment.end]]
    whole = _plain(segment.text)
    # Where a character is spread over several tokens these do not spell the text; then the segment's bounds must do.
    spelled = "".join(texts) == whole
    ends = [*accumulate(map(len, texts))]
    at = whole.find(sought)
    while at >= 0:
        first = bisect_right(ends, at) if spelled else 0
        last = bisect_left(ends, at + len(sought)) if spelled else len(ends) - 1
        yield Found(segment, segment.start + first, segment.start + last + 1)
        at = whole.find(sought, at + len(sought))


def _plain(text: str) -> str:
    return text.replace("\n", " ").casefold()


def _units(record: PromptRecord) -> list[tuple[int, ...]]:
    return [record.token_ids[segment.start : segment.end] for segment in record.segments]


def _stretches(
    matcher: SequenceMatcher[tuple[int, ...]], old: Sequence[Segment], new: Sequence[Segment]
) -> Iterator[Stretch]:
    for tag, old_start, old_end, new_start, new_end in matcher.get_opcodes():
        if tag == "equal":
            yield Stretch("same", tuple(new[new_start:new_end]))
            continue
        if old_end > old_start:
            yield Stretch("gone", tuple(old[old_start:old_end]))
        if new_end > new_start:
            yield Stretch("new", tuple(new[new_start:new_end]))
