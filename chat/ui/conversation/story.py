"""The first minute: the two business partners, told in three messages, and what to try after them."""

from __future__ import annotations

from collections.abc import Sequence

from chat.types import Turn
from chat.ui.visible import escaped

STORY = (
    "Who runs finance, Priya or Dana?",
    "No. Dana runs finance. Priya runs sales.",
    "Which partner runs finance?",
)


def welcome() -> str:
    """What a person sees before the first message."""
    buttons = "".join(f"<li>{_say(message)}</li>" for message in STORY)
    return (
        '<section class="welcome"><h2>Does a chatbot learn from you?</h2>'
        "<p>You correct it, and it gets it right. The next morning, in a fresh chat, it is wrong again. Here you can "
        "see why: with every message the whole conversation is sent again, and that prompt, shown in full, is the only "
        "place where your correction lives. The model’s weights never change.</p>"
        f'<p>Try it with two business partners. One after the other:</p><ol class="story">{buttons}</ol>'
        "<p>Then press <b>New chat</b> and ask the last question again. Or take the "
        '<a href="/tour">guided tour</a>: the same in six steps, with all that there is to see.</p></section>'
    )


def next_step(turns: Sequence[Turn]) -> str:
    """What to try next, for a conversation that follows the story; empty for every other."""
    said = tuple(turn.message for turn in turns)
    if not said or said != STORY[: len(said)]:
        return ""
    if len(said) < len(STORY):
        return f'<p class="hint">Next in the story: {_say(STORY[len(said)])}</p>'
    return (
        '<p class="hint">Look for your correction in the exact prompt. Then press <b>New chat</b> and ask '
        f"“{escaped(STORY[-1])}” again: it is gone. Or press <b>Save to memory</b> first, keep the note, and ask.</p>"
    )


def _say(message: str) -> str:
    return f'<button class="say" data-action="say" data-text="{escaped(message)}">{escaped(message)}</button>'
