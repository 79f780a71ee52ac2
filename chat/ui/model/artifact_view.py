"""The trained artifact as HTML and as a plot's numbers: its parts, its precision, its files, its tensors. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from chat.ui.visible import escaped
from chat.weights.artifact import PARTS, FileOnDisk, HeldTensor, Part
from chat.weights.fingerprint import Fingerprint

# Variables of static/app.css, so that the bars follow the theme: the plot is drawn as SVG in the page.
COLOURS: dict[Part, str] = {
    "embedding": "var(--quiet)",
    "attention": "var(--accent)",
    "MLP": "var(--edge)",
    "norms": "var(--ink)",
    "output": "var(--focus)",
    "other": "var(--line)",
}
MOST_ROWS = 600
"""So many tensors are drawn in a moment; those of a larger model are found by searching."""

_MEGABYTE = 1_000_000
_SMALL = _MEGABYTE // 10


def megabytes(nbytes: int) -> str:
    """A size for a reader: in MB from 0.1 MB on, else in bytes."""
    return f"{nbytes / _MEGABYTE:,.1f} MB" if nbytes >= _SMALL else f"{nbytes:,} bytes"


def layer_data(tensors: Sequence[HeldTensor]) -> dict[str, Any]:
    """The weights of each place and part as Gradio's plots take them: a stacked bar a layer."""
    counts: Counter[tuple[str, Part]] = Counter()
    for tensor in tensors:
        counts[_place(tensor), tensor.part] += tensor.parameters
    rows = [[place, part, count] for (place, part), count in counts.items() if count]
    return {
        "columns": ["place", "part", "parameters"],
        "data": rows,
        "datatypes": {"place": "nominal", "part": "nominal", "parameters": "quantitative"},
        "mark": "bar",
    }


def places(tensors: Sequence[HeldTensor]) -> list[str]:
    """The bars' names, in the order in which a token passes them."""
    layers = sorted({tensor.layer for tensor in tensors if tensor.layer is not None})
    holds = {_place(tensor) for tensor in tensors if tensor.parameters}
    order = ["embedding", *map(str, layers), "norms", "output", "other"]
    return [place for place in order if place in holds]


def _place(tensor: HeldTensor) -> str:
    return tensor.part if tensor.layer is None else str(tensor.layer)


def legend(tensors: Sequence[HeldTensor]) -> str:
    """The parts that occur, each with its bar's colour."""
    held = {tensor.part for tensor in tensors if tensor.parameters}
    keys = "".join(
        f'<li><span class="key" style="background:{COLOURS[part]}"></span>{part}</li>' for part in PARTS if part in held
    )
    return f'<ul class="legend" aria-label="Colours of the bars">{keys}</ul>'


def parts_table(tensors: Sequence[HeldTensor]) -> str:
    """The weights by part, layers that are alike in one line; the last line is the sum."""
    total = sum(tensor.parameters for tensor in tensors)
    rows = "".join(
        f"<tr><td>{name}</td><td>{each}</td><td>{count:,}</td><td>{100 * count / total:.1f}%</td></tr>"
        for name, each, count in _part_rows(tensors)
    )
    return (
        '<table class="numbers"><thead><tr><th>part</th><th>each</th><th>together</th><th>share</th></tr></thead>'
        f"<tbody>{rows}</tbody><tfoot><tr><th>all weights</th><td></td>"
        f'<td id="parameters">{total:,}</td><td>100%</td></tr></tfoot></table>'
    )


def _part_rows(tensors: Sequence[HeldTensor]) -> Iterable[tuple[str, str, int]]:
    outside: Counter[Part] = Counter()
    inside: dict[Part, Counter[int]] = {}
    for tensor in tensors:
        if tensor.layer is None:
            outside[tensor.part] += tensor.parameters
        else:
            inside.setdefault(tensor.part, Counter())[tensor.layer] += tensor.parameters
    yield from (("embedding", "", outside["embedding"]),) if outside["embedding"] else ()
    for part in PARTS:
        yield from _layer_rows(part, inside.get(part, Counter()))
    for part in ("norms", "other"):
        yield from ((f"{part}, behind the layers", "", outside[part]),) if outside[part] else ()
    if outside["output"]:
        yield "output", "", outside["output"]
    elif outside["embedding"]:
        yield "output: the embedding, used again", "", 0


def _layer_rows(part: Part, counts: Counter[int]) -> Iterable[tuple[str, str, int]]:
    """One line for all the layers in which this part is as large."""
    for size in sorted({count for count in counts.values() if count}, reverse=True):
        alike = [layer for layer, count in counts.items() if count == size]
        where = f"in each of {len(alike)} layers" if len(alike) > 1 else f"in layer {alike[0]}"
        yield f"{part}, {where}", f"{size:,}", size * len(alike)


def precision_table(tensors: Sequence[HeldTensor]) -> str:
    """What each kind of tensor is held as, and the bytes that it takes; the last line is the sum."""
    kinds: dict[tuple[Part, str, str], list[HeldTensor]] = {}
    for tensor in tensors:
        kinds.setdefault((tensor.part, tensor.holds, tensor.dtype), []).append(tensor)
    ordered = sorted(kinds.items(), key=lambda kind: -_nbytes(kind[1]))
    rows = "".join(
        f"<tr><td>{part}: {holds}</td><td>{escaped(dtype)}</td><td>{len(held):,}</td>"
        f"<td>{megabytes(_nbytes(held))}</td></tr>"
        for (part, holds, dtype), held in ordered
    )
    return (
        '<table class="numbers"><thead><tr><th>what</th><th>held as</th><th>tensors</th><th>in memory</th></tr></thead>'
        f"<tbody>{rows}</tbody><tfoot><tr><th>all</th><td></td><td>{len(tensors):,}</td>"
        f"<td>{megabytes(_nbytes(tensors))}</td></tr></tfoot></table>"
    )


def files_table(files: Sequence[FileOnDisk]) -> str:
    """The files that the weights were read from, with their sizes, the small ones in one line; the last is the sum."""
    large = [file for file in files if file.nbytes >= _SMALL]
    lines = [(file.name, file.nbytes) for file in large]
    if small := [file for file in files if file.nbytes < _SMALL]:
        lines.append((", ".join(file.name for file in small), sum(file.nbytes for file in small)))
    rows = "".join(f"<tr><td>{escaped(name)}</td><td>{megabytes(nbytes)}</td></tr>" for name, nbytes in lines)
    total = sum(file.nbytes for file in files)
    return (
        '<table class="numbers"><thead><tr><th>file</th><th>on the disk</th></tr></thead>'
        f"<tbody>{rows}</tbody><tfoot><tr><th>all</th><td>{megabytes(total)}</td></tr></tfoot></table>"
    )


def _nbytes(tensors: Iterable[HeldTensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)


def tensor_list(tensors: Sequence[HeldTensor], fingerprint: Fingerprint, search: str = "") -> str:
    """All tensors whose name or digest contains the search, with shape, type, bytes and digest."""
    digests = {tensor.name: tensor.sha256 for tensor in fingerprint.tensors}
    found = [tensor for tensor in tensors if _matches(tensor.name, digests.get(tensor.name, ""), search.strip())]
    if not found:
        return f'<p class="quiet">No tensor’s name or digest contains “{escaped(search.strip())}”.</p>'
    # The style sheet lays out only the rows in sight, so it has to be told how wide the columns are.
    widest = f"--name:{_widest(each.name for each in found)}ch;--shape:{_widest(_shape(each) for each in found)}ch"
    return (
        f"{_shown(len(found), len(tensors))}"
        '<div class="tensors" tabindex="0" role="region" aria-label="Tensors">'
        f'<table class="numbers" style="{widest}"><thead><tr>'
        "<th>tensor</th><th>shape</th><th>type</th><th>bytes</th><th>SHA-256</th></tr></thead>"
        f"<tbody>{''.join(_tensor_row(each, digests.get(each.name, '')) for each in found[:MOST_ROWS])}</tbody>"
        "</table></div>"
    )


def _matches(name: str, digest: str, search: str) -> bool:
    return search.lower() in name.lower() or search.lower() in digest


def _shown(found: int, total: int) -> str:
    cut = f" The first {MOST_ROWS:,} are listed; search for the others." if found > MOST_ROWS else ""
    return f'<p class="quiet">{found:,} of {total:,} tensors.{cut}</p>'


def _widest(texts: Iterable[str]) -> int:
    return max(map(len, texts))


def _shape(tensor: HeldTensor) -> str:
    return " × ".join(f"{size:,}" for size in tensor.shape)


def _tensor_row(tensor: HeldTensor, digest: str) -> str:
    return (
        f"<tr><td>{escaped(tensor.name)}</td><td>{_shape(tensor)}</td><td>{escaped(tensor.dtype)}</td>"
        f"<td>{tensor.nbytes:,}</td><td><code>{digest}</code></td></tr>"
    )


def checked_again(at_start: Fingerprint, now: Fingerprint, nbytes: int, seconds: float) -> str:
    """What a new fingerprint says, `seconds` after it was asked for."""
    if now == at_start:
        return (
            f'<p id="checked">The same: <code>{now.digest}</code>. {len(now.tensors):,} tensors, {megabytes(nbytes)}, '
            f"were read again in {seconds:.2f} s, and every bit is as it was when Marginalia started.</p>"
        )
    before = {tensor.name: tensor.sha256 for tensor in at_start.tensors}
    moved = [tensor.name for tensor in now.tensors if before.get(tensor.name) != tensor.sha256]
    named = ", ".join(escaped(name) for name in moved[:3])
    return (
        f'<p id="checked" class="alert" role="alert">Not the same: it is <code>{now.digest}</code> and was '
        f"<code>{at_start.digest}</code> when Marginalia started. {len(moved):,} tensors differ, {named} among them. "
        "Nothing here should ever do that: restart Marginalia, and report it.</p>"
    )
