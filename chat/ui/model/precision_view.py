"""The comparison of precisions as HTML: one column each, with what it takes, how quick it is, what it answers. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from chat.config import Precision
from chat.precisions import PRECISIONS, AtPrecision, Loaded, Loading
from chat.prompt_diff import shared_beginning
from chat.types import Receipt
from chat.ui.asked_view import Asked
from chat.ui.model.artifact_view import megabytes
from chat.ui.turn_view import ENDINGS, tokens_per_second
from chat.ui.visible import escaped, visible

TokenTexts = Callable[[Sequence[int]], tuple[str, ...]]

# As `ModelInfo.dtype` has them.
DTYPES: dict[Precision, str] = {"fp32": "float32", "bf16": "bfloat16", "int8": "int8", "int4": "int4"}
_MEANINGS: dict[Precision, str] = {
    "fp32": "32 bits a weight.",
    "bf16": "16 bits a weight.",
    "int8": "8 bits a weight, and a scale for each 32.",
    "int4": "4 bits a weight, and two scales for each 32. In 8: the vocabulary’s layer, and the adapter.",
}


@dataclass(frozen=True)
class Column:
    """What is known so far of the model at one precision."""

    precision: Precision
    loading: bool = False
    loaded: Loaded | None = None
    asked: Asked = field(default_factory=Asked)

    def after(self, event: AtPrecision) -> Column:
        """The column with one more event taken in."""
        match event.event:
            case Loading():
                return replace(self, loading=True)
            case Loaded() as loaded:
                return replace(self, loading=False, loaded=loaded)
            case told:
                return replace(self, loading=False, asked=self.asked.after(told))


def first_columns() -> dict[Precision, Column]:
    """All precisions, before anything was loaded."""
    return {precision: Column(precision) for precision in PRECISIONS}


def columns_html(columns: dict[Precision, Column], running: str, token_texts: TokenTexts) -> str:
    """The columns side by side. `running` is the type of the model that chats run on."""
    exact = columns["fp32"].asked.receipt
    drawn = "".join(_column(column, exact, running, token_texts) for column in columns.values())
    return f'<div class="precisions">{drawn}</div>{_same_prompt(columns)}'


def status_of_columns(columns: dict[Precision, Column]) -> str:
    """What is being waited for, in a few words; empty when nothing is."""
    for column in columns.values():
        if column.loading:
            return f"Loading {column.precision}…"
        if column.asked.status:
            return f"{column.precision}: {column.asked.status}"
    return ""


def _column(column: Column, exact: Receipt | None, running: str, token_texts: TokenTexts) -> str:
    here = ' <span class="quiet">runs now</span>' if running == DTYPES[column.precision] else ""
    asked = column.asked
    waiting = "Loading…" if column.loading else asked.status
    parts = [
        f'<section class="precision" id="precision-{column.precision}"><h3>{column.precision}{here}</h3>',
        f'<p class="quiet">{_MEANINGS[column.precision]}</p>',
        f'<p class="alert" role="alert">{escaped(asked.error)}</p>' if asked.error else "",
        f'<p class="quiet">{escaped(waiting)}</p>' if waiting else "",
        f'<div class="reply"><div class="text">{escaped(asked.reply)}</div></div>' if asked.reply else "",
        _measured(column.loaded, asked.receipt),
        _difference(column, exact, token_texts),
    ]
    return "".join(parts) + "</section>"


def _measured(loaded: Loaded | None, receipt: Receipt | None) -> str:
    facts: dict[str, str] = {}
    if loaded:
        facts |= {"In memory": megabytes(loaded.nbytes), "Loaded in": f"{loaded.load_ms / 1000:.1f} s"}
    if receipt:
        facts |= _speeds(receipt)
    if loaded:
        facts["Fingerprint"] = f'<code title="SHA-256 {loaded.fingerprint}">{loaded.fingerprint[:12]}…</code>'
    rows = "".join(f"<dt>{name}</dt><dd>{fact}</dd>" for name, fact in facts.items())
    return f'<dl class="facts">{rows}</dl>' if rows else ""


def _speeds(receipt: Receipt) -> dict[str, str]:
    usage, timing = receipt.usage, receipt.timing
    written = tokens_per_second(usage, timing.decode_ms)
    guessed = f", {usage.accepted_tokens:,} guessed ahead" if usage.accepted_tokens else ""
    read = usage.prefilled_tokens / timing.prefill_ms * 1000 if timing.prefill_ms else None
    return {
        "Read": f"{usage.prefilled_tokens:,} tokens" + (f", {read:,.0f} a second" if read else ""),
        "Written": f"{usage.completion_tokens:,} tokens" + (f", {written:,.0f} a second{guessed}" if written else ""),
    }


def _difference(column: Column, exact: Receipt | None, token_texts: TokenTexts) -> str:
    receipt = column.asked.receipt
    if receipt is None:
        return ""
    ending = ENDINGS.get(receipt.completion.finish_reason, "")
    ended = f'<p class="ending">{ending}</p>' if ending else ""
    if column.precision == "fp32":
        return f'{ended}<p class="differs">The others are held against this answer.</p>'
    if exact is None:
        return f'{ended}<p class="differs">There is no answer of fp32 to hold it against.</p>'
    return f'{ended}<p class="differs">{difference(receipt, exact, token_texts)}</p>'


def difference(ours: Receipt, exact: Receipt, token_texts: TokenTexts) -> str:
    """Where an answer first differs from that in 32 bits, in tokens."""
    mine, theirs = ours.completion.token_ids, exact.completion.token_ids
    if mine == theirs:
        return f"The same as fp32’s, all {len(mine):,} tokens."
    place = shared_beginning(mine, theirs)
    word, other = (_token_at(ids, place, token_texts) for ids in (mine, theirs))
    return f"First differs from fp32’s at token {place + 1:,}: {word} where fp32 has {other}."


def _token_at(ids: tuple[int, ...], place: int, token_texts: TokenTexts) -> str:
    if place >= len(ids):
        return "the end"
    return f"“{escaped(visible(token_texts(ids[place : place + 1])[0]))}”"


def _same_prompt(columns: dict[Precision, Column]) -> str:
    prompts = [column.asked.prompt for column in columns.values() if column.asked.prompt]
    if len({prompt.sha256 for prompt in prompts}) != 1:
        return ""
    return (
        f'<p class="quiet" id="same-prompt">All of them read the same {len(prompts[0].token_ids):,} token ids, '
        f"SHA-256 <code>{prompts[0].sha256}</code>.</p>"
    )
