"""Guesses at how a reply goes on, without a second model: as the text did where its last tokens stood before.

The guess is read together with the token before it, in one pass, and each token is then chosen as it would be without:
the first that was guessed wrongly ends it. So a guess changes how long a reply takes, never what it is.
(Speculative decoding: Leviathan et al. 2022, arXiv:2211.17192. Looked up in the prompt: Saxena 2023, “Prompt lookup
decoding”.)
"""

from __future__ import annotations

from collections.abc import Iterable

_MATCH = 3
_MOST = 7
_FIRST = 3


class PromptLookup:
    """The tokens of a prompt and its reply so far. Guesses get longer where they were right and shorter where not."""

    def __init__(self, token_ids: Iterable[int]) -> None:
        self.token_ids: list[int] = []
        self._followed_at: dict[tuple[int, ...], int] = {}
        self._most = _FIRST
        for token_id in token_ids:
            self.append(token_id)

    def append(self, token_id: int) -> None:
        """Take note of the next token."""
        place = len(self.token_ids)
        if place >= _MATCH:
            self._followed_at[tuple(self.token_ids[-_MATCH:])] = place
        self.token_ids.append(token_id)

    def guess(self) -> list[int]:
        """The tokens that may come next; none where the last three never stood together before."""
        place = self._followed_at.get(tuple(self.token_ids[-_MATCH:]))
        return [] if place is None else self.token_ids[place : place + self._most]

    def judge(self, guessed: int, right: int) -> None:
        """Learn how many of a guess were right."""
        if right == guessed:
            self._most = min(2 * self._most, _MOST)
        elif 2 * right < guessed:
            self._most = max(1, self._most // 2)
