"""How one prompt became another, and where words stand in them, as HTML. Pure functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from chat.prompt_diff import Found, Stretch
from chat.types import Segment
from chat.ui.visible import escaped, shortened

SegmentHtml = Callable[[Segment], str]
_SIGNS = {"new": ("ins", "New"), "gone": ("del", "Gone")}


def difference_html(stretches: Sequence[Stretch], against: str, segment_html: SegmentHtml) -> str:
    """What is new and what is gone, in place; what is the same is folded. `against` names the other turn."""
    counts = {fate: sum(s.tokens for s in stretches if s.fate == fate) for fate in ("same", "new", "gone")}
    spans = "".join(_stretch_html(stretch, segment_html) for stretch in stretches)
    return (
        f'<p class="quiet">Beside {escaped(against)}: {counts["same"]:,} tokens are the same and were read again, '
        f"{counts['new']:,} are new, {counts['gone']:,} are gone.</p>"
        f'<div class="prompt difference" tabindex="0" role="group" aria-label="Difference between the prompts">{spans}'
        "</div>"
    )


def _stretch_html(stretch: Stretch, segment_html: SegmentHtml) -> str:
    inner = "".join(map(segment_html, stretch.segments))
    if stretch.fate == "same":
        return (
            f"<details><summary>{stretch.tokens:,} tokens the same</summary><pre class='prompt'>{inner}</pre></details>"
        )
    tag, word = _SIGNS[stretch.fate]
    return (
        f'<div class="{stretch.fate}"><b>{word}, {stretch.tokens:,} tokens</b>'
        f'<pre class="prompt"><{tag}>{inner}</{tag}></pre></div>'
    )


def found_html(words: str, found: Mapping[str, Sequence[Found]], shown: str, left_out: Sequence[str]) -> str:
    """Where words stand in the prompts of a conversation, by the name of its turn; `left_out` in which they fell out.

    `shown` is the name of the turn that is looked at.
    """
    rows = "".join(_row(name, places, name == shown, name in left_out) for name, places in found.items())
    total = len(found.get(shown, ()))
    times = "nowhere" if not total else "once" if total == 1 else f"{total:,} times"
    return (
        f'<p class="quiet">“{escaped(shortened(words, 60))}” stands {times} in this prompt. '
        "So it went with the others of this conversation:</p>"
        f'<div class="to-side" tabindex="0" role="region" aria-label="Where the words stand, turn by turn">'
        f'<table class="figures"><thead><tr><th scope="col">Prompt of</th><th scope="col">As</th>'
        f'<th scope="col">Token places</th></tr></thead><tbody>{rows}</tbody></table></div>'
    )


def _row(name: str, places: Sequence[Found], shown: bool, left_out: bool) -> str:
    kinds = dict.fromkeys(place.segment.kind for place in places)
    chips = " ".join(f'<span class="chip {kind}">{kind}</span>' for kind in kinds)
    if not places:
        chips = "left out: it did not fit" if left_out else "not there"
    spans = ", ".join(f"{place.start:,} to {place.end - 1:,}" for place in places)
    current = ' aria-current="true"' if shown else ""
    return f'<tr{current}><th scope="row">{escaped(name)}</th><td>{chips}</td><td>{spans}</td></tr>'
