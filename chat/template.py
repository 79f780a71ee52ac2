"""A model's own chat template, seen as stretches: which characters are the template's and which are content.

Contents are opaque here: the template is rendered with a marker in the place of each content, and the content is put
in afterwards. So no content, whatever it spells, can change the structure around it, and any template works that
puts contents where they belong.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from jinja2.exceptions import TemplateError

from chat.errors import WeightsError
from chat.types import Piece, Prompt, PromptMessage, Role

# Private-use characters: no chat template contains them, and neither `trim` nor a split on spaces touches them.
_MARKER = re.compile("\ue000(\\d+)\ue001")
_BLANKS = " \n"
JOINT = "joint"
"""The label of what stands between a system part and the message that it was folded into."""


@dataclass(frozen=True)
class Stretch:
    """Consecutive characters of the rendered prompt that share one origin."""

    text: str
    piece: Piece


@dataclass(frozen=True)
class _Trim:
    """What the template strips from the ends of a role's content: these characters, or None for all white space."""

    left: str | None
    right: str | None


class ChatTemplate:
    """Renders prompts through a tokenizer's chat template. Raises WeightsError if the template cannot be used."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._folds_system = not self._takes_system()
        self._trims = self._find_trims()

    def stretches(self, prompt: Prompt) -> tuple[Stretch, ...]:
        """The prompt as the model will read it, up to where the reply begins; joined, their texts are the prompt."""
        messages = _folded(prompt.messages) if self._folds_system else prompt.messages
        stretches: list[Stretch] = []
        rendered = self._render([(message.role, _marker(place)) for place, message in enumerate(messages)])
        end = 0
        for found in _MARKER.finditer(rendered):
            stretches.append(_template_stretch(rendered[end : found.start()]))
            stretches += self._content(messages[int(found[1])])
            end = found.end()
        if missing := set(range(len(messages))) - {int(place) for place in _MARKER.findall(rendered)}:
            raise _leaves_out(messages[min(missing)].role)
        stretches.append(_template_stretch(rendered[end:]))
        return tuple(stretch for stretch in stretches if stretch.text)

    def text_after_reply(self) -> str:
        """What the template writes right behind an assistant's reply: where a model learned to stop."""
        rendered = self._render([("user", "…"), ("assistant", _marker(0))], reply_follows=False)
        return _MARKER.split(rendered)[-1]

    def _render(self, messages: Sequence[tuple[Role, str]], reply_follows: bool = True) -> str:
        chat = [{"role": role, "content": content} for role, content in messages]
        try:
            rendered: str = self._tokenizer.apply_chat_template(
                chat, tokenize=False, add_generation_prompt=reply_follows
            )
        except (TemplateError, TypeError, ValueError) as error:
            raise WeightsError(f"This model's chat template refused the conversation: {error}") from error
        return rendered

    def _takes_system(self) -> bool:
        try:
            rendered = self._render([("system", _marker(0)), ("user", _marker(1))])
        except WeightsError:
            return False
        return {"0", "1"} <= set(_MARKER.findall(rendered))

    def _find_trims(self) -> dict[Role, _Trim]:
        roles: list[Role] = ["user", "assistant", "user"]
        if not self._folds_system:
            roles.insert(0, "system")

        def padded(who: Role | None = None, left: str = "", right: str = "") -> str:
            contents = [left + _marker(at) + right if role == who else _marker(at) for at, role in enumerate(roles)]
            return self._render(list(zip(roles, contents, strict=True)))

        plain = padded()
        for place, role in enumerate(roles):
            if _marker(place) not in plain:
                raise _leaves_out(role)
        return {
            role: _Trim(
                left=_all_or(blank for blank in _BLANKS if padded(role, left=blank) == plain),
                right=_all_or(blank for blank in _BLANKS if padded(role, right=blank) == plain),
            )
            for role in set(roles)
        }

    def _content(self, message: PromptMessage) -> list[Stretch]:
        trim = self._trims[message.role]
        content = message.content
        first = len(content) - len(content.lstrip(trim.left))
        last = len(content.rstrip(trim.right))
        stretches, start = [], 0
        for piece in message.pieces:
            end = start + len(piece.text)
            stretches.append(Stretch(content[max(start, first) : max(first, min(end, last))], piece))
            start = end
        return stretches


def _marker(place: int) -> str:
    return f"\ue000{place}\ue001"


def _all_or(stripped: Iterable[str]) -> str | None:
    characters = "".join(stripped)
    return None if characters == _BLANKS else characters


def _leaves_out(role: Role) -> WeightsError:
    return WeightsError(f"This model's chat template leaves out what the {role} says; it cannot be used.")


def _template_stretch(text: str) -> Stretch:
    return Stretch(text, Piece("template", "chat template", text))


def _folded(messages: tuple[PromptMessage, ...]) -> tuple[PromptMessage, ...]:
    """For templates without a system role: the system part opens the first user message, as their makers advise."""
    if messages[0].role != "system":
        return messages
    system, first, *others = messages
    joint = Piece("template", JOINT, "\n\n")
    return (replace(first, pieces=(*system.pieces, joint, *first.pieces)), *others)
