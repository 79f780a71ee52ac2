"""The engine on a GPU, where there is one: whether it says what transformers says, and how quick it is.

No test of `make test` can ask for a GPU, so this is run by hand: `PYTHONPATH=tests/bench python tests/bench/on_gpu.py`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from pathlib import Path
from statistics import median
from typing import Any

import torch
from runners import Ours, PlainGenerate, of_several

from chat.config import BASE_MODEL, Settings
from chat.engine.llama import LlamaForward
from chat.engine.odds import Odds
from chat.tuning.words import TRAINING, load_words
from chat.weights import LoadedModel, load_model
from chat.weights.seal import WeightsSeal

CONTEXTS = (128, 1_024)
COMPARED = 400
WRITTEN = 64
TOGETHER = 8


def main() -> None:
    """Print one line of JSON for each figure."""
    flags = _parser().parse_args()
    loaded = load_model(BASE_MODEL, flags.data_dir, None, print, "auto", flags.device)
    text = _text(loaded)
    print(json.dumps({"device": torch.cuda.get_device_name(flags.device), "dtype": loaded.info.dtype}))
    seal = WeightsSeal(loaded.model, loaded.info.parameters)
    before = seal.latest
    print(json.dumps(_beside_transformers(loaded.model, text[:COMPARED])))
    ours = Ours(loaded)
    print(json.dumps(_alone_and_together(ours, text)))
    for context in CONTEXTS:
        print(json.dumps(_speeds(loaded, ours, text[:context], flags.rounds)))
    ours.close()
    check = seal.check(before)
    print(json.dumps({"changed parameters": check.changed_parameters, "fingerprint": check.after[:16]}))


@torch.no_grad()
def _beside_transformers(model: Any, text: Sequence[int]) -> dict[str, Any]:
    """The share of places with the same likeliest token and how far logits are apart, as loaded and in 32 bits."""
    figures: dict[str, Any] = {}
    for name, own in (("as loaded", model), ("in 32 bits", deepcopy(model).float())):
        theirs = own(torch.tensor([list(text)], device=own.device)).logits[0].float().cpu()
        ours = torch.stack([torch.from_numpy(odds.logits) for odds in _odds_of(LlamaForward(own), text)])
        same = (ours.argmax(-1) == theirs.argmax(-1)).float().mean().item()
        figures |= {
            f"same likeliest, {name}": round(same, 4),
            f"furthest apart, {name}": (ours - theirs).abs().max().item(),
        }
    return figures


def _odds_of(forward: LlamaForward, text: Sequence[int]) -> Sequence[Odds]:
    """At every place: half of the text is read, at each length anew, and the rest is taken step by step."""
    middle = len(text) // 2
    read = [forward.read(text[: place + 1], forward.new_cache()) for place in range(middle)]
    cache = forward.new_cache()
    forward.read(text[:middle], cache)
    return [*read, *(forward.step([[token]], [cache])[0][0] for token in text[middle:])]


def _alone_and_together(ours: Ours, text: Sequence[int]) -> dict[str, Any]:
    """How many of eight greedy replies are the same beside seven others as alone."""
    prompts = [text[100 * place : 100 * place + 64 + 10 * place] for place in range(TOGETHER)]

    def reply(place: int) -> list[int]:
        return ours.request(prompts[place], WRITTEN, place, 0.0)[0]

    alone = [reply(place) for place in range(TOGETHER)]
    with ThreadPoolExecutor(TOGETHER) as pool:
        beside = list(pool.map(reply, range(TOGETHER)))
    same = sum(one == other for one, other in zip(alone, beside, strict=True))
    return {"replies as alone": same, "of": TOGETHER}


def _speeds(loaded: LoadedModel, ours: Ours, prompt: Sequence[int], rounds: int) -> dict[str, Any]:
    """Tokens a second: read, written by one, and by eight together; and what transformers' `generate` writes."""
    plain = PlainGenerate(loaded)
    ours.run(prompt, WRITTEN, 0)
    mine = of_several([ours.run(prompt, WRITTEN, seed) for seed in range(rounds)])
    theirs = of_several([plain.run(prompt, WRITTEN, seed) for seed in range(rounds)])
    together = median(ours.together([prompt] * TOGETHER, WRITTEN) for _ in range(rounds))
    return {
        "context": len(prompt),
        "read": round(len(prompt) / mine.prefill),
        "written": round(1 / mine.a_token),
        "eight together": round(together),
        "transformers, read": round(len(prompt) / theirs.prefill),
        "transformers, written": round(1 / theirs.a_token),
    }


def _text(loaded: LoadedModel) -> list[int]:
    words = load_words(TRAINING)
    ids: list[int] = loaded.tokenizer.encode(" ".join(question.ask for question in words.questions))
    return ids[: max(CONTEXTS)]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, default=Settings().data_dir)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--rounds", type=int, default=3)
    return parser


if __name__ == "__main__":
    main()
