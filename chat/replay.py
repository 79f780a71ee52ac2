"""Prompts that were sent once, sent again: to see that the same comes out, what else might have, and how likely it was.

None of it is a turn: nothing is stored, and what a receipt says stays as it is.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing
from dataclasses import dataclass, replace

from chat.engine import Engine, Event, Finished, TokensChosen
from chat.errors import EngineError, InputError
from chat.local_model import LocalModel
from chat.types import Choice, FinishReason, Receipt, Sampling, Timing, Usage


@dataclass(frozen=True)
class Reply:
    """What came back of a prompt that was sent again."""

    token_ids: tuple[int, ...]
    choices: tuple[Choice, ...]
    finish_reason: FinishReason
    usage: Usage
    timing: Timing


def replay(receipt: Receipt, model: LocalModel, stop: threading.Event) -> Generator[Event | Reply, None, None]:
    """Run a receipt's token ids again, in a fresh engine that has no cache, with the sampling of then.

    Tells how it goes; the last event is the reply. That is cut where the receipt's ends, for that may have been
    stopped. Raises InputError if other weights run.
    """
    check_same_weights(receipt, model)
    sampling = replace(receipt.sampling, max_new_tokens=max(1, len(receipt.completion.token_ids)))
    with closing(model.fresh_engine()) as engine:
        yield from _followed(engine.generate(receipt.prompt.token_ids, sampling, stop))


def ask_again(
    receipt: Receipt, model: LocalModel, samplings: list[Sampling], stop: threading.Event, lane: str
) -> Iterator[tuple[int, Reply]]:
    """Send a receipt's prompt once for each sampling, side by side; the place of each reply, and it, as they come.

    Raises InputError if other weights run now. All end within one token when the iterator is closed.
    """
    check_same_weights(receipt, model)

    def asked(sampling: Sampling) -> Reply:
        return _reply(model.engine.generate(receipt.prompt.token_ids, sampling, stop, lane))

    with ThreadPoolExecutor(len(samplings), thread_name_prefix="ask-again") as pool:
        places = {pool.submit(asked, sampling): place for place, sampling in enumerate(samplings)}
        try:
            for done in as_completed(places):
                yield places[done], done.result()
        finally:
            stop.set()


def weigh_reply(
    engine: Engine, prompt: tuple[int, ...], reply: tuple[int, ...], stop: threading.Event, lane: str
) -> tuple[Choice, ...]:
    """What the model thinks of each token of a given reply, behind a prompt."""
    sampling = Sampling(max_new_tokens=len(reply))
    return _reply(engine.generate(prompt, sampling, stop, lane, given=reply)).choices


def check_same_weights(receipt: Receipt, model: LocalModel) -> None:
    """Raise InputError if a receipt is of other weights than those that run now."""
    if receipt.weights.after != model.seal.latest.digest:
        raise InputError(
            f"This turn was answered by “{receipt.model.id}” in {receipt.model.dtype}, and now “{model.info.id}” in "
            f"{model.info.dtype} runs. Start Marginalia with that model to run it again."
        )


def _reply(events: Iterator[Event]) -> Reply:
    *_, reply = _followed(events)
    assert isinstance(reply, Reply), "the last event is the reply"
    return reply


def _followed(events: Iterator[Event]) -> Iterator[Event | Reply]:
    """The events, and what came of them."""
    ids: list[int] = []
    choices: list[Choice] = []
    for event in events:
        if isinstance(event, TokensChosen):
            ids += event.token_ids
            choices += event.choices
        yield event
    assert isinstance(event, Finished), "the last event is Finished"
    if event.error:
        raise EngineError(event.error)
    yield Reply(tuple(ids), tuple(choices), event.reason, event.usage, event.timing)
