"""One and the same answer, weighed behind several prompts, as HTML. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from chat.compare import Pane
from chat.types import Choice
from chat.ui.glass.next_word_view import TokenTexts, measured
from chat.ui.visible import escaped, visible

Weighed = Mapping[Pane, Sequence[Choice]]


def most_telling(weighed: Weighed) -> int:
    """The place where the prompts part: the first token whose probability differs half as much as any does, or more.

    Later ones stand behind it, and may be likely or not because of it.
    """
    columns = zip(*weighed.values(), strict=True)
    shares = [[choice.probability for choice in column] for column in columns]
    spreads = [max(column) - min(column) for column in shares]
    return next((place for place, spread in enumerate(spreads) if 2 * spread >= max(spreads)), 0)


def weighed_html(weighed: Weighed, reply: Sequence[int], spell: TokenTexts, place: int) -> str:
    """The answer's tokens as buttons, and behind each prompt the probability of the one that is looked at."""
    if not reply:
        return '<p class="quiet">This answer has no tokens to weigh.</p>'
    texts = spell(reply)
    buttons = "".join(
        f'<button class="choice" data-action="weigh" data-id="{at}" aria-pressed="{str(at == place).lower()}">'
        f"{_shown(text)}</button>"
        for at, text in enumerate(texts)
    )
    rows = "".join(_row(pane, reply[place], choices[place], spell) for pane, choices in weighed.items())
    return (
        f'<div class="choices" role="group" aria-label="The answer, token by token">{buttons}</div>'
        '<table class="figures"><thead><tr><th scope="col">Behind the prompt of</th>'
        f'<th scope="col">Probability of “{_shown(texts[place])}”</th><th scope="col">Likeliest there</th></tr></thead>'
        f"<tbody>{rows}</tbody></table>"
    )


def _row(pane: Pane, token_id: int, choice: Choice, spell: TokenTexts) -> str:
    share = choice.probability
    _, likeliest = max((share, token_id), *((other, other_id) for other_id, other in choice.others))
    return (
        f'<tr data-pane="{pane.name}"><th scope="row">{escaped(pane.title)}</th>'
        f"<td>{measured(share)}</td><td><code>{_shown(*spell([likeliest]))}</code></td></tr>"
    )


def _shown(text: str) -> str:
    return escaped(visible(text)).replace("\n", "")
