"""A reply word by word, as the model chose it: each token with its probability and the likeliest others. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from chat.replay import Reply
from chat.types import Choice, Completion, Sampling
from chat.ui.visible import escaped, visible

TokenTexts = Callable[[Sequence[int]], tuple[str, ...]]


def percent(probability: float) -> str:
    """A probability as people read it; one that is not nothing never reads as 0 %."""
    if probability >= 0.9995:
        return "100 %" if probability == 1 else "> 99.9 %"
    if probability < 0.001:
        return "< 0.1 %"
    return f"{100 * probability:.1f} %"


def reply_html(completion: Completion, token_texts: TokenTexts, looked_at: int) -> str:
    """The reply's tokens as buttons, the less likely the stronger their mark; one of them is looked at."""
    if not completion.token_ids:
        return '<p class="quiet">The model wrote nothing in this turn.</p>'
    if not completion.choices:
        return '<p class="quiet">This turn is older than these figures: they are kept since 23 November 2026.</p>'
    texts = token_texts(completion.token_ids)
    buttons = "".join(
        f'<button class="choice {_doubt(choice.probability)}" data-action="weigh" data-id="{place}" '
        f'aria-pressed="{str(place == looked_at).lower()}" '
        f'aria-label="{escaped(_heard(text))}, {percent(choice.probability)}">{_shown(text)}</button>'
        for place, (text, choice) in enumerate(zip(texts, completion.choices, strict=True))
    )
    return f'<div class="choices" role="group" aria-label="The reply, token by token">{buttons}</div>'


def choice_html(completion: Completion, place: int, token_texts: TokenTexts) -> str:
    """What the model had to choose from at one place of its reply."""
    if not place < len(completion.choices):
        return ""
    choice, token_id = completion.choices[place], completion.token_ids[place]
    ids = (token_id, *(other for other, _ in choice.others))
    shares = (choice.probability, *(share for _, share in choice.others))
    rows = sorted(zip(ids, token_texts(ids), shares, strict=True), key=lambda row: -row[2])
    body = "".join(_candidate(row_id, text, share, row_id == token_id) for row_id, text, share in rows)
    rest = max(0.0, 1 - sum(shares))
    return (
        f"<h3>Token {place + 1:,} of {len(completion.token_ids):,}</h3>"
        '<table class="figures candidates"><thead><tr><th scope="col">Token</th><th scope="col">Id</th>'
        '<th scope="col">Probability</th><th scope="col"><span class="only-heard">Choice</span></th></tr></thead>'
        f"<tbody>{body}</tbody></table>"
        f'<p class="quiet">All other tokens of the vocabulary together: {percent(rest)}. Noted when the token was '
        "chosen, before temperature, top-p and top-k.</p>"
    )


def replies_html(
    samplings: Sequence[Sampling], replies: dict[int, Reply], decode: Callable[[Sequence[int]], str]
) -> str:
    """Replies to one and the same prompt side by side, as far as they have come."""
    cards = "".join(_card(sampling, replies.get(place), decode) for place, sampling in enumerate(samplings))
    return f'<div class="cards">{cards}</div>{_verdict(samplings, replies)}'


def _card(sampling: Sampling, reply: Reply | None, decode: Callable[[Sequence[int]], str]) -> str:
    text = "Writing" if reply is None else decode(reply.token_ids)
    state = ' class="quiet"' if reply is None else ""
    written = "" if reply is None else f", {len(reply.token_ids):,} tokens"
    return f'<article class="answer"><h4>Seed {sampling.seed}{written}</h4><p{state}>{escaped(text)}</p></article>'


def _verdict(samplings: Sequence[Sampling], replies: dict[int, Reply]) -> str:
    if len(replies) < len(samplings):
        return ""
    different = len({reply.token_ids for reply in replies.values()})
    same = replies[0].token_ids == replies[len(samplings) - 1].token_ids
    again = "the same reply both times" if same else "two different replies, which should not be: please report it"
    kinds = "one reply" if different == 1 else f"{different} different replies"
    return (
        f'<p class="outcome">One prompt, {len(samplings) - 1} seeds, {kinds}. '
        f"Seed {samplings[0].seed}, asked twice, gave {again}.</p>"
    )


def _candidate(token_id: int, text: str, share: float, chosen: bool) -> str:
    mark = "chosen" if chosen else ""
    return (
        f'<tr{" aria-current=true" if chosen else ""}><th scope="row"><code>{_shown(text)}</code></th>'
        f"<td>{token_id}</td><td>{measured(share)}</td><td>{mark}</td></tr>"
    )


def measured(share: float) -> str:
    """A probability as a figure, with a meter beside it."""
    return f'<span class="figure">{percent(share)}</span><meter value="{share:.4f}" aria-hidden="true"></meter>'


def _doubt(probability: float) -> str:
    return "sure" if probability >= 0.9 else "likely" if probability >= 0.5 else "unsure"


def _shown(text: str) -> str:
    return escaped(visible(text)).replace("\n", "")


def _heard(text: str) -> str:
    return text.strip() or "blank"


def lowest(choices: Sequence[Choice]) -> int:
    """The place of the token that the model was least sure of; 0 if there is none."""
    return min(range(len(choices)), key=lambda place: choices[place].probability, default=0)
