"""From a prompt to token ids, so that every token belongs to exactly one segment.

The whole rendered prompt is tokenized in one go, exactly as `apply_chat_template` does it, and each token is given to
the stretch that its first character lies in. Content that spells one of the model's control tokens is cut inside
that spelling and the parts are tokenized apart, so it stays text.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import accumulate, groupby, pairwise
from typing import Any

from tokenizers import Tokenizer

from chat.errors import InputError
from chat.template import ChatTemplate, Stretch
from chat.types import Encoding, Piece, Prompt, Segment


@dataclass(frozen=True)
class _Token:
    id: int
    start: int
    end: int


class Encoder:
    """Encodes prompts and decodes replies for one tokenizer (a fast one, with a chat template)."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._template = ChatTemplate(tokenizer)
        self._backend = _without_post_processor(tokenizer.backend_tokenizer)
        added = tokenizer.added_tokens_decoder.items()
        # Runs of blanks and line breaks are added tokens in some vocabularies (Gemma's); they control nothing.
        self.control_ids = frozenset(token_id for token_id, token in added if token.content.strip())
        self.count = lru_cache(maxsize=4096)(self._count)
        self._token_text = lru_cache(maxsize=None)(self._spell)
        self._can_spell = lru_cache(maxsize=None)(self._try_to_spell)

    def encode(self, prompt: Prompt) -> Encoding:
        """Render and tokenize. `segments` partition `token_ids`, and their texts joined are `text`.

        A character that the vocabulary cannot spell would leave no trace in the ids (SmolLM2's cannot spell six of the
        control characters). It is read, and shown, as U+FFFD instead.
        """
        stretches = [self._readable(stretch) for stretch in self._template.stretches(prompt)]
        text = "".join(stretch.text for stretch in stretches)
        tokens = self._tokenize(text, stretches)
        return Encoding(text, tuple(token.id for token in tokens), tuple(_segments(text, tokens, stretches)))

    def stop_token_ids(self) -> frozenset[int]:
        """The control token that the chat template writes behind each reply, if it writes one."""
        ids = self._backend.encode(self._template.text_after_reply(), add_special_tokens=False).ids
        return frozenset(ids[:1]) & self.control_ids

    def decode(self, token_ids: Sequence[int]) -> str:
        """A reply's text; control tokens leave no trace in it, and NUL, which not every store can hold, is U+FFFD."""
        # `skip_special_tokens` would keep the added tokens that are not marked special, and so the spelling of a stop
        # token that was added that way.
        spoken = [token_id for token_id in token_ids if token_id not in self.control_ids]
        text: str = self._tokenizer.decode(spoken, clean_up_tokenization_spaces=False)
        return text.replace("\0", "\ufffd")

    def token_texts(self, token_ids: Iterable[int]) -> tuple[str, ...]:
        """Each token on its own. One that holds only part of a character is given as the vocabulary spells it."""
        return tuple(self._token_text(token_id) for token_id in token_ids)

    def _spell(self, token_id: int) -> str:
        text: str = self._tokenizer.decode([token_id], clean_up_tokenization_spaces=False)
        return self._tokenizer.convert_ids_to_tokens(token_id) if "\ufffd" in text else text

    def _readable(self, stretch: Stretch) -> Stretch:
        unreadable = [character for character in set(stretch.text) if not self._can_spell(character)]
        if not unreadable:
            return stretch
        return replace(stretch, text=stretch.text.translate({ord(character): "\ufffd" for character in unreadable}))

    def _try_to_spell(self, character: str) -> bool:
        ids = self._backend.encode(character, add_special_tokens=False).ids
        return bool(ids) and (character == "\ufffd" or "\ufffd" not in self._tokenizer.decode(ids))

    def _count(self, text: str) -> int:
        return len(self._backend.encode(text, add_special_tokens=False).ids)

    def _tokenize(self, text: str, stretches: Sequence[Stretch]) -> list[_Token]:
        starts = _starts(stretches)
        cuts: set[int] = set()
        while True:
            tokens = list(self._tokenize_parts(text, [0, *sorted(cuts), len(text)]))
            spelled = [(token, _first_letter(token, text)) for token in tokens if token.id in self.control_ids]
            forged = {at + 1: token for token, at in spelled if _stretch_at(at, starts, stretches).kind != "template"}
            if not forged:
                return tokens
            for place in cuts & forged.keys():
                raise InputError(f"“{text[place - 1 : forged[place].end]}” is a control token of this model.")
            cuts |= forged.keys()

    def _tokenize_parts(self, text: str, cuts: Sequence[int]) -> Iterable[_Token]:
        for first, last in pairwise(cuts):
            encoded = self._backend.encode(text[first:last], add_special_tokens=False)
            for token_id, (start, end) in zip(encoded.ids, encoded.offsets, strict=True):
                yield _Token(token_id, first + start, first + end)


def _without_post_processor(backend: Tokenizer) -> Tokenizer:
    """A private copy: post-processors add no ids here, but byte-level ones trim the blanks off the offsets."""
    copy = Tokenizer.from_str(backend.to_str())
    copy.post_processor = None
    copy.no_truncation()
    copy.no_padding()
    return copy


def _first_letter(token: _Token, text: str) -> int:
    """Where the spelling of a control token begins: it may swallow the blanks before it (`lstrip`)."""
    return token.end - len(text[token.start : token.end].lstrip())


def _starts(stretches: Sequence[Stretch]) -> list[int]:
    return [0, *accumulate(len(stretch.text) for stretch in stretches)][:-1]


def _stretch_at(character: int, starts: Sequence[int], stretches: Sequence[Stretch]) -> Piece:
    return stretches[bisect_right(starts, character) - 1].piece


def _segments(text: str, tokens: Sequence[_Token], stretches: Sequence[Stretch]) -> Iterable[Segment]:
    starts = _starts(stretches)
    owners = [bisect_right(starts, token.start) - 1 for token in tokens]
    groups = [(owner, [place for place, _ in group]) for owner, group in groupby(enumerate(owners), lambda o: o[1])]
    firsts = [0, *(tokens[places[0]].start for _, places in groups[1:]), len(text)]
    for (owner, places), (begin, end) in zip(groups, pairwise(firsts), strict=True):
        piece = stretches[owner].piece
        yield Segment(
            kind=piece.kind,
            label=piece.label,
            source_turn_id=piece.source_turn_id,
            note_id=piece.note_id,
            start=places[0],
            end=places[-1] + 1,
            text=text[begin:end],
        )
