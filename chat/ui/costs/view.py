"""What a conversation took, turn by turn, as HTML and as the points of a plot. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from chat.costs import ReadSoFar, Totals, TurnCost, growth, totals
from chat.types import Timing
from chat.ui.turn_view import tokens_per_second

NEWEST_TURNS = 20

SENT, READ = "without a KV cache", "with it"
# Variables of static/app.css, so that the lines follow the theme: the plot is drawn as SVG in the page.
_MEMORY_COLOURS = {"weights": "var(--edge)", "KV cache": "var(--accent)"}
GROWTH_COLOURS = {SENT: "var(--edge)", READ: "var(--accent)"}

_ESTIMATE = "2 x the model’s parameters x tokens read anew and written (Kaplan et al. 2020, arXiv:2001.08361)"

# Field terms, each with its meaning, as the tables' heads use them.
_MEANINGS = {
    "queue": "How long the message waited until the model was free for it.",
    "prompt": "Prompt tokens: all that the model was given for this reply, everything said before included.",
    "reused": "Cached tokens: whole blocks of the prompt, taken from the KV cache of one that begins the same.",
    "read anew": "Prefilled tokens: the rest of the prompt, which was not in the cache.",
    "prefill": "How long it took to read them.",
    "first word": "Time to first token, from the moment the message was sent, the queue included.",
    "written": "Completion tokens: what the model wrote, its stop token included.",
    "decode": "How long it took to write them, one after another.",
    "tokens/s": "Decode speed: tokens written each second after the first.",
    "KV cache": "What the model keeps of each token in front of it, so that it need not read it again for the next.",
    "operations": f"Floating-point operations, an estimate: {_ESTIMATE}.",
}


def turns_html(turns: Sequence[TurnCost], without_receipt: int, weight_bytes: int, same_weights: bool) -> str:
    """Every turn's receipt as a row, and their sums; the KV cache beside the weights, both in bytes.

    `same_weights` says whether the weights that are loaded now, of `weight_bytes`, gave all these replies.
    """
    rows = {f"{turn.number}": _turn_cells(turn) for turn in turns[-NEWEST_TURNS:]}
    table = sums_table(_MEANINGS, rows, _total_cells(totals(turns)))
    below = f"{_small_print(turns, without_receipt)}{_cache_beside_weights(turns[-1], weight_bytes, same_weights)}"
    return f"{_in_all(totals(turns))}{table}{below}"


def _in_all(total: Totals) -> str:
    several = f"In {total.calls:,} turns" if total.calls > 1 else "In one turn"
    return (
        f"<p>{several} the model was given <b>{total.prompt_tokens:,}</b> tokens. It reused {total.cached_tokens:,} of "
        f"them from its KV cache, read <b>{total.prefilled_tokens:,}</b>, and wrote {total.completion_tokens:,}.</p>"
    )


def _small_print(turns: Sequence[TurnCost], without_receipt: int) -> str:
    left_out = f" The newest {NEWEST_TURNS} are listed; the sums count all." if len(turns) > NEWEST_TURNS else ""
    missing = f" Without a receipt, and so not counted: {without_receipt:,}." if without_receipt else ""
    return (
        f'<p class="quiet">From the receipts; only the operations are an estimate, {_ESTIMATE}. '
        f"A try that Retry replaced is not counted.{left_out}{missing}</p>"
    )


def _turn_cells(turn: TurnCost) -> dict[str, str]:
    usage, timing = turn.usage, turn.timing
    speed = tokens_per_second(usage, timing.decode_ms)
    return {
        **_shared_cells(turn.usage, timing),
        "first word": _seconds(timing.time_to_first_token_ms) if usage.completion_tokens else "–",
        "tokens/s": f"{speed:.0f}" if speed else "–",
        "KV cache": bytes_text(usage.kv_cache_bytes),
        "operations": operations_text(turn.operations),
    }


def _total_cells(total: Totals) -> dict[str, str]:
    return {**_shared_cells(total, total), "operations": operations_text(total.operations)}


def _shared_cells(tokens: Any, times: Timing | Totals) -> dict[str, str]:
    return {
        "queue": _seconds(times.queue_ms),
        "prompt": f"{tokens.prompt_tokens:,}",
        "reused": f"{tokens.cached_tokens:,}",
        "read anew": f"{tokens.prefilled_tokens:,}",
        "prefill": _seconds(times.prefill_ms),
        "written": f"{tokens.completion_tokens:,}",
        "decode": _seconds(times.decode_ms),
    }


def _cache_beside_weights(last: TurnCost, weight_bytes: int, same_weights: bool) -> str:
    cache = last.usage.kv_cache_bytes
    share = 100 * cache / (cache + weight_bytes)
    others = "" if same_weights else " Some of these replies came from other weights than those loaded now."
    return (
        f'<p class="beside">After turn {last.number} the KV cache held <b>{bytes_text(cache)}</b>, beside '
        f"<b>{bytes_text(weight_bytes)}</b> of weights. The cache grows with every token; the weights stay.{others}</p>"
        f'<div class="bar" aria-hidden="true"><span style="width:{100 - share:.2f}%"></span>'
        f'<span style="width:{share:.2f}%"></span></div>{legend(_MEMORY_COLOURS, "Parts of the bar")}'
    )


def growth_html(turns: Sequence[TurnCost]) -> str:
    """The head of the growth plot: its two lines in words."""
    last = growth(turns)[-1]
    return (
        "<p>A model remembers nothing between turns, so every turn sends everything again. Up to the last, the model "
        f"had to be given {last.without_cache:,} tokens; thanks to the KV cache it read {last.with_cache:,}.</p>"
        f"{legend(GROWTH_COLOURS)}"
    )


def growth_data(points: Sequence[ReadSoFar]) -> dict[str, Any]:
    """The tokens read so far, turn by turn, as Gradio's plots take them."""
    rows = [[point.number, point.without_cache, SENT] for point in points]
    rows += [[point.number, point.with_cache, READ] for point in points]
    # Ordinal, as there is nothing between two turns.
    return line_data(("turn", "tokens", "reading"), rows, "ordinal")


def legend(colours: dict[str, str], label: str = "Lines of the plot") -> str:
    """What each colour of a plot stands for."""
    keys = "".join(
        f'<li><span class="key" style="background:{colour}"></span>{name}</li>' for name, colour in colours.items()
    )
    return f'<ul class="legend" aria-label="{label}">{keys}</ul>'


def bytes_text(count: int) -> str:
    """Bytes, in the unit that a person reads: 1 MB is a million."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:,.1f} {unit}"
    return f"{count} bytes"


def operations_text(count: int) -> str:
    """A large count, with the word for its size."""
    for word, size in (("quadrillion", 1e15), ("trillion", 1e12), ("billion", 1e9), ("million", 1e6)):
        if count >= size:
            return f"{count / size:,.1f} {word}"
    return f"{count:,}"


def _seconds(milliseconds: float) -> str:
    return f"{milliseconds / 1000:,.2f} s"


def sums_table(meanings: dict[str, str], rows: dict[str, dict[str, str]], total: dict[str, str]) -> str:
    """Turns as rows and their sums below. `meanings`: each column, with a sentence for its head."""
    heads = "".join(f'<th scope="col">{_term(word, meaning)}</th>' for word, meaning in meanings.items())
    words = "".join(f"<dt>{word}</dt><dd>{meaning}</dd>" for word, meaning in meanings.items())
    body = "".join(_row(name, cells, meanings) for name, cells in rows.items())
    return (
        f'<div class="sums"><table><thead><tr><th scope="col">turn</th>{heads}</tr></thead><tbody>{body}</tbody>'
        f"<tfoot>{_row('all', total, meanings)}</tfoot></table></div>"
        f'<details class="only-narrow"><summary>What the words mean</summary><dl>{words}</dl></details>'
    )


def _row(name: str, cells: dict[str, str], words: Iterable[str]) -> str:
    columns = "".join(f'<td data-label="{word}">{cells.get(word, "")}</td>' for word in words)
    return f'<tr><th scope="row">{name}</th>{columns}</tr>'


def _term(word: str, meaning: str) -> str:
    return f'<span class="term" tabindex="0" data-meaning="{meaning}">{word}</span>'


def line_data(columns: tuple[str, str, str], rows: list[list[Any]], x: str = "quantitative") -> dict[str, Any]:
    """Points as Gradio's plots take them: two numbers and the name of their line. `x` is Vega's type of the first."""
    kinds = dict(zip(columns, (x, "quantitative", "nominal"), strict=True))
    return {"columns": list(columns), "data": rows, "datatypes": kinds, "mark": "line"}
