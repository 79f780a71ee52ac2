"""The path of a request: the stages of one turn with their times, and what this app does in each. Pure functions."""

from __future__ import annotations

from typing import Any

from chat.types import Receipt, Stage, StageName
from chat.ui.visible import escaped

STAGES: dict[StageName, tuple[str, str]] = {
    "receive": (
        "Receive",
        "The request says whose it is by its cookie, which only this browser has; the message is checked, and the "
        "conversation and the notes are read from the database, each by its owner.",
    ),
    "prepare": (
        "Prepare",
        "System prompt, notes, history and message become one prompt; what does not fit into the context window is "
        "left out and listed. It is turned into token ids, and the message is saved before the model runs.",
    ),
    "queue": (
        "Queue",
        "The limit: so many requests run side by side, and the others wait, taking turns person by person.",
    ),
    "read": ("Read (prefill)", "The model reads the prompt, except what it has in its KV cache from before."),
    "write": (
        "Write (decode)",
        "One token after the other, each shown as it comes. Stop ends it within one token; a closed tab does too.",
    ),
    "validate": (
        "Validate",
        "The reply's ids become text that cannot turn into markup or control tokens, and every weight is compared "
        "with what it was.",
    ),
}
RESPOND = (
    "Respond",
    "Reply and receipt are saved together. If the model fails, what was said is kept and Retry sends the message "
    "again; there is no other model to fall back on, and the page says so instead of answering in its place.",
)


def path_html(receipt: Receipt) -> str:
    """The stages in their order, each with its real time in this turn."""
    if not receipt.trace:
        return '<p class="quiet">This turn is older than these figures: they are kept since 23 November 2026.</p>'
    rows = "".join(_row(stage, receipt) for stage in receipt.trace)
    last = receipt.trace[-1]
    total = f'<tr class="sum"><th scope="row">Together</th><td>{_ms(last.start_ms + last.ms)}</td><td></td></tr>'
    name, meaning = RESPOND
    respond = f'<tr><th scope="row">{name}</th><td></td><td>{escaped(meaning)}</td></tr>'
    return (
        '<div class="to-side" tabindex="0" role="region" aria-label="The path of this request">'
        '<table class="figures path"><thead><tr><th scope="col">Stage</th><th scope="col">Time</th>'
        '<th scope="col">What happens</th></tr></thead>'
        f"<tbody>{rows}{respond}{total}</tbody></table></div>"
    )


def path_data(receipt: Receipt) -> dict[str, Any]:
    """The same times as Gradio's plots take them."""
    return {
        "columns": ["stage", "milliseconds"],
        "data": [[STAGES[stage.name][0], stage.ms] for stage in receipt.trace],
        "datatypes": {"stage": "nominal", "milliseconds": "quantitative"},
        "mark": "bar",
    }


def _row(stage: Stage, receipt: Receipt) -> str:
    name, meaning = STAGES[stage.name]
    return (
        f'<tr data-stage="{stage.name}"><th scope="row">{name}</th><td>{_ms(stage.ms)}</td>'
        f"<td>{escaped(meaning)}{_measured(stage.name, receipt)}</td></tr>"
    )


def _measured(stage: StageName, receipt: Receipt) -> str:
    usage = receipt.usage
    facts = {
        "prepare": f"{usage.prompt_tokens:,} tokens, {len(receipt.prompt.dropped):,} things left out",
        "read": f"{usage.prefilled_tokens:,} tokens read, {usage.cached_tokens:,} reused",
        "write": f"{usage.completion_tokens:,} tokens, ended by “{receipt.completion.finish_reason}”",
        "validate": f"{receipt.weights.changed_parameters:,} of {receipt.weights.parameters:,} weights changed",
    }
    return f' <span class="quiet">Here: {facts[stage]}.</span>' if stage in facts else ""


def _ms(ms: float) -> str:
    return f"{ms / 1000:,.2f} s" if ms >= 1000 else f"{ms:,.1f} ms"
