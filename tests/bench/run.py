"""`make bench`: this engine beside llama.cpp and transformers' `generate`, on the same weights, in one run.

Every figure is the median of several rounds, in each of which all take their turn. The table is printed, and all
figures are written to build/bench.json.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import harmonic_mean, median
from typing import Any

import served
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from runners import Apart, LlamaCpp, Ours, PlainGenerate, Speed, of_several

from chat.config import BASE_MODEL, DEFAULT_MODEL, Precision, Settings
from chat.engine.prefix_cache import DEFAULT_MAX_BYTES
from chat.weights import LoadedModel, load_model

CONTEXTS = (128, 1_024)
HISTORIES = (512, 1_024, 2_048, 4_096, 7_900)
WRITTEN = 64
TOGETHER = 8


def main() -> int:
    """Measure, print the table, write the figures."""
    flags = _parser().parse_args()
    console = Console()
    packed = load_model(DEFAULT_MODEL, flags.data_dir, None, console.print, flags.precision)
    text = _text(packed)
    alone = _side_by_side(flags, text)
    figures = {
        **_against_others(alone),
        **_turns(packed, text, flags.rounds),
        **_together(packed, text, flags.rounds),
        **_served(packed, flags),
        "growth": list(_growth(packed, text, flags.rounds)),
    }
    about = {
        "date": datetime.now(UTC).date().isoformat(),
        "model": packed.info.id,
        "precision": packed.info.dtype,
        "threads": torch.get_num_threads(),
        "processor": torch.backends.cpu.get_cpu_capability(),
        "rounds": flags.rounds,
    }
    flags.out.parent.mkdir(parents=True, exist_ok=True)
    flags.out.write_text(json.dumps(about | figures, indent=2) + "\n", "utf-8")
    console.print(_table(figures))
    console.print(f"All figures are in “{flags.out}”.")
    return 0


def _text(loaded: LoadedModel) -> list[int]:
    """Enough tokens of real text: this project's own documents."""
    documents = sorted(Path(__file__).parents[2].glob("*.md"))
    ids: list[int] = loaded.tokenizer.encode("\n".join(path.read_text("utf-8") for path in documents))
    return (ids * (max(HISTORIES) // len(ids) + 2))[: max(HISTORIES) + 100]


def _ours(model: str, precision: Precision, data_dir: Path) -> Ours:
    return Ours(load_model(model, data_dir, None, print, precision))


def _plain_generate(data_dir: Path) -> PlainGenerate:
    return PlainGenerate(load_model(BASE_MODEL, data_dir, None, print, "fp32"))


def _side_by_side(flags: argparse.Namespace, text: Sequence[int]) -> dict[tuple[str, int], Speed]:
    """Each runner at each length of context, in turn, several times.

    The untuned model is the one that the others run too; what people chat with has the adapter beside it.
    """
    gguf = next((flags.data_dir / "models").glob("*.gguf"))
    runners = {
        "marginalia": Apart(partial(_ours, BASE_MODEL, flags.precision, flags.data_dir)),
        "marginalia, tuned": Apart(partial(_ours, DEFAULT_MODEL, flags.precision, flags.data_dir)),
        "llama.cpp": Apart(partial(LlamaCpp, gguf, max(CONTEXTS) + WRITTEN)),
        "transformers": Apart(partial(_plain_generate, flags.data_dir)),
    }
    kept: dict[tuple[str, int], list[Speed]] = {}
    for seed in track(range(-1, flags.rounds), "Alone"):
        for context in CONTEXTS:
            for name, runner in runners.items():
                speed = runner.run(text[:context], WRITTEN, seed % 100)
                if seed >= 0:
                    kept.setdefault((name, context), []).append(speed)
    for runner in runners.values():
        runner.close()
    return {place: of_several(speeds) for place, speeds in kept.items()}


def _against_others(alone: dict[tuple[str, int], Speed]) -> dict[str, Any]:
    found: dict[str, Any] = {"alone": []}
    for (name, context), speed in alone.items():
        of_it = {"decode": 1 / speed.a_token, "prefill": context / speed.prefill}
        found["alone"].append({"engine": name, "context": context, **of_it})
    for figure, other, part in (
        ("decode_vs_llamacpp", "llama.cpp", "a_token"),
        ("prefill_vs_llamacpp", "llama.cpp", "prefill"),
        ("decode_vs_transformers", "transformers", "a_token"),
    ):
        found[figure] = {
            str(context): getattr(alone[other, context], part) / getattr(alone["marginalia", context], part)
            for context in CONTEXTS
        }
    return found


def _turns(packed: LoadedModel, text: Sequence[int], rounds: int) -> dict[str, float]:
    """The time to the first token of a later turn, with 2,000 tokens of history and a message of 20."""
    remembers, forgets = Ours(packed, DEFAULT_MAX_BYTES), Ours(packed)
    shares = []
    for seed in track(range(rounds), "Later turns"):
        before = [seed + 1, *text[:1_900]]
        said, _ = remembers.request(before, 100, seed)
        prompt = [*before, *said, *text[2_000:2_020]]
        later, full = (each.request(prompt, 2, seed)[1].timing for each in (remembers, forgets))
        shares.append(later.time_to_first_token_ms / full.time_to_first_token_ms)
    for each in (remembers, forgets):
        each.close()
    return {"later_turn_ttft_vs_full_prefill": median(shares)}


def _together(packed: LoadedModel, text: Sequence[int], rounds: int) -> dict[str, Any]:
    """Eight requests at once, and the same eight one after the other: how many guesses are right differs by prompt."""
    ours = Ours(packed)
    prompts = {place: text[100 * place : 100 * place + 128] for place in range(TOGETHER)}
    ones, eights = [], []
    for _ in track(range(rounds), "Together"):
        ones.append(harmonic_mean(ours.together({seed: prompt}, 2 * WRITTEN) for seed, prompt in prompts.items()))
        eights.append(ours.together(prompts, 2 * WRITTEN))
    ours.close()
    return {"batch8_tokens_a_second": median(eights), "batch8_vs_one": median(eights) / median(ones)}


def _served(packed: LoadedModel, flags: argparse.Namespace) -> dict[str, Any]:
    found = served.measure(DEFAULT_MODEL, flags.data_dir, flags.rounds)
    ours = Ours(packed)
    alone = [ours.request(found.prompt, found.reply_tokens, 0, found.temperature)[1] for _ in range(flags.rounds)]
    ours.close()
    by_engine = median((found.reply_tokens - 1) / each.timing.decode_ms * 1000 for each in alone)
    return {
        "browser_vs_engine": found.seen_by_browser / by_engine,
        "seen_by_browser": found.seen_by_browser,
        "warm_start_s": found.warm_start,
        "warm_start_above_imports_s": found.warm_start - found.imports,
        "peak_rss_mb": found.peak_rss / 2**20,
    }


def _growth(packed: LoadedModel, text: Sequence[int], rounds: int) -> Iterator[dict[str, float]]:
    """How reading, writing and a later turn change with the length of the history."""
    for history in track(HISTORIES, "History"):
        ours, remembers = Ours(packed), Ours(packed, DEFAULT_MAX_BYTES)
        speed = of_several([ours.run(text[:history], WRITTEN, seed) for seed in range(rounds)])
        remembers.request(text[:history], 2, 0)
        later = [remembers.request([*text[:history], seed, *text[:20]], 2, 0)[1] for seed in range(rounds)]
        for each in (ours, remembers):
            each.close()
        yield {
            "history": history,
            "prefill": history / speed.prefill,
            "decode": 1 / speed.a_token,
            "later_turn_ttft_s": median(each.timing.time_to_first_token_ms for each in later) / 1000,
        }


def _table(figures: dict[str, Any]) -> Table:
    table = Table("figure", "value", title="The engine")
    for row in figures["alone"]:
        speeds = f"{row['decode']:.0f} written, {row['prefill']:.0f} read"
        table.add_row(f"{row['engine']} at {row['context']:,}", f"{speeds} tokens a second")
    for name, value in figures.items():
        if isinstance(value, dict):
            for context, ratio in value.items():
                table.add_row(f"{name} at {int(context):,}", f"{ratio:.2f}")
        elif not isinstance(value, list):
            table.add_row(name, f"{value:.2f}")
    for row in figures["growth"]:
        speeds = f"{row['decode']:.0f} written, {row['prefill']:.0f} read"
        table.add_row(f"history of {row['history']:,}", f"{speeds}, later turn {row['later_turn_ttft_s']:.2f} s")
    return table


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bench", description=main.__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--out", type=Path, default=Path("build/bench.json"), metavar="FILE")
    parser.add_argument("--data-dir", type=Path, default=Settings().data_dir, metavar="FOLDER")
    return parser


if __name__ == "__main__":
    sys.exit(main())
