"""Three ways to run the same weights: this engine, llama.cpp, and transformers' plain `generate`.

Each reads a prompt and then writes tokens at temperature 1, so that nothing that repeats itself flatters anybody.
"""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, Protocol

import torch

from chat.engine import Engine, Finished, PrefixCache, TokensChosen
from chat.types import Sampling
from chat.weights import LoadedModel


@dataclass(frozen=True)
class Speed:
    """Seconds to read the prompt, and seconds for each token behind the first."""

    prefill: float
    a_token: float


class Runner(Protocol):
    """Reads a prompt and writes so many tokens."""

    def run(self, prompt: Sequence[int], tokens: int, seed: int) -> Speed:
        """How long it took."""


class Apart:
    """A runner in a process of its own, where no other's threads stand in its way.

    In one process llama.cpp wrote 27 tokens a second instead of 90: the runtime that its threads wait in lets them
    sleep once there are more than cores, torch's included (tests/bench/LOG.md, 2026-11-23).
    """

    def __init__(self, make: Callable[[], Runner]) -> None:
        context = multiprocessing.get_context("spawn")
        self._here, there = context.Pipe()
        self._process = context.Process(target=_obey, args=(make, there), daemon=True)
        self._process.start()
        there.close()

    def run(self, prompt: Sequence[int], tokens: int, seed: int) -> Speed:
        """How long it took there."""
        self._here.send((prompt, tokens, seed))
        speed: Speed = self._here.recv()
        return speed

    def close(self) -> None:
        """End its process."""
        self._here.close()
        self._process.join()


def _obey(make: Callable[[], Runner], pipe: Connection) -> None:
    runner = make()
    while True:
        try:
            asked = pipe.recv()
        except EOFError:
            return
        pipe.send(runner.run(*asked))


class Ours:
    """The engine as the app has it, without a prefix cache: worker thread, events, sampling and guesses included."""

    def __init__(self, loaded: LoadedModel, cache_bytes: int = 0) -> None:
        self._engine = Engine(loaded.model, frozenset(), PrefixCache(cache_bytes, exact=True))

    def run(self, prompt: Sequence[int], tokens: int, seed: int) -> Speed:
        """One request alone."""
        _, finished = self.request(prompt, tokens, seed)
        timing = finished.timing
        return Speed(timing.prefill_ms / 1000, timing.decode_ms / 1000 / max(1, tokens - 1))

    def request(
        self, prompt: Sequence[int], tokens: int, seed: int, temperature: float = 1.0
    ) -> tuple[list[int], Finished]:
        """One request: its tokens and what it took."""
        sampling = Sampling(temperature=temperature, seed=seed, max_new_tokens=tokens)
        *events, last = self._engine.generate(tuple(prompt), sampling, threading.Event(), lane=str(seed))
        assert isinstance(last, Finished)
        assert not last.error, last.error
        return [token_id for event in events if isinstance(event, TokensChosen) for token_id in event.token_ids], last

    def together(self, prompts: Mapping[int, Sequence[int]], tokens: int) -> float:
        """Tokens a second that several requests, each prompt under its seed, get together while all of them write."""
        times: dict[int, list[float]] = {seed: [] for seed in prompts}

        def follow(seed: int) -> None:
            sampling = Sampling(temperature=1.0, seed=seed, max_new_tokens=tokens)
            for event in self._engine.generate(tuple(prompts[seed]), sampling, threading.Event(), lane=str(seed)):
                if isinstance(event, TokensChosen):
                    _spread(times[seed], len(event.token_ids))

        threads = [threading.Thread(target=follow, args=(seed,)) for seed in prompts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        begin, end = max(each[0] for each in times.values()), min(each[-1] for each in times.values())
        return sum(begin < moment <= end for each in times.values() for moment in each) / (end - begin)

    def close(self) -> None:
        """Stop its thread."""
        self._engine.close()


def _spread(times: list[float], tokens: int) -> None:
    """Add when so many tokens came: they are told together, and came one after the other since the last ones."""
    now = perf_counter()
    before = times[-1] if times else now
    times += [before + (now - before) * (place + 1) / tokens for place in range(tokens)]


class LlamaCpp:
    """llama.cpp on the file that the weights come from, with as many threads as the machine has cores."""

    def __init__(self, gguf: Path, context: int) -> None:
        from llama_cpp import Llama

        threads = torch.get_num_threads()
        self._llama: Any = Llama(str(gguf), n_ctx=context, n_threads=threads, n_threads_batch=threads, verbose=False)

    def run(self, prompt: Sequence[int], tokens: int, seed: int) -> Speed:
        """One request alone."""
        llama = self._llama
        llama.reset()
        llama.set_seed(seed)
        began = perf_counter()
        llama.eval(list(prompt))
        read = perf_counter()
        for _ in range(tokens - 1):
            llama.eval([llama.sample(temp=1.0, top_k=0, top_p=1.0, min_p=0.0, repeat_penalty=1.0)])
        return Speed(read - began, (perf_counter() - read) / max(1, tokens - 1))


class PlainGenerate:
    """transformers' `generate` as its documentation shows it, at the precision that the model was loaded in."""

    def __init__(self, loaded: LoadedModel) -> None:
        self._model: Any = loaded.model

    def run(self, prompt: Sequence[int], tokens: int, seed: int) -> Speed:
        """One request alone: the whole of it, less what one token takes."""
        torch.manual_seed(seed)
        first = self._timed(prompt, 1)
        return Speed(first, (self._timed(prompt, tokens) - first) / max(1, tokens - 1))

    def _timed(self, prompt: Sequence[int], tokens: int) -> float:
        ids = torch.tensor([list(prompt)], device=self._model.device)
        began = perf_counter()
        self._model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=True,
            temperature=1.0,
            top_k=0,
            max_new_tokens=tokens,
            min_new_tokens=tokens,
            pad_token_id=0,
        )
        return perf_counter() - began


def of_several(speeds: Sequence[Speed]) -> Speed:
    """The medians."""
    return Speed(median(speed.prefill for speed in speeds), median(speed.a_token for speed in speeds))
