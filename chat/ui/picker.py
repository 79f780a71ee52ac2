"""The choice of one of a person's conversations, on the pages that look at one."""

from __future__ import annotations

from collections.abc import Sequence

import gradio as gr

from chat.types import Conversation


def choices_of(listed: Sequence[Conversation]) -> list[tuple[str, str]]:
    """The conversations as a dropdown takes them: title and id."""
    return [(conversation.title, conversation.id) for conversation in listed]


def offered_first(listed: Sequence[Conversation], request: gr.Request) -> str:
    """The conversation in the address, or else the one spoken in last; "" where there is none."""
    wanted = str(request.query_params.get("c", ""))
    known = [conversation.id for conversation in listed]
    return wanted if wanted in known else next(iter(known), "")
