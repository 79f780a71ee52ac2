"""`marginalia tune` and `marginalia evaluate`: flags and wiring; the work is in the other files here.

What lives in `memory` is handed in, because `chat` knows nothing of it.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager, closing
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from chat.config import DEFAULT_MODEL, Precision, Settings
from chat.note_writing import NoteWriting
from chat.tuning.recipe import Cycle, Recipe

if TYPE_CHECKING:
    from chat.tuning.evaluation import Outcome
    from chat.ui.store import PersonStore
    from chat.weights import LoadedModel

OpenStores = Callable[[Path], AbstractContextManager[Callable[[str], "PersonStore"]]]
"""Opens a database at a path, for as long as it is needed: each person's store by their name."""


def tune_command(arguments: Sequence[str], note_writing: NoteWriting) -> int:
    """Make conversations, train the adapter on them, write it to the output folder.

    Raises MarginaliaError if it cannot go on. 1: it was interrupted.
    """
    flags = _tune_parser().parse_args(arguments)
    from chat.tuning.card import ship
    from chat.tuning.tune import tune
    from chat.weights.merge import SHIPPED

    first, *_ = Recipe.cycles
    cycles = (Cycle(flags.steps, first.learning_rate),) if flags.steps else Recipe.cycles
    recipe = Recipe(rank=flags.rank, alpha=2 * flags.rank, cycles=cycles, seed=flags.seed)
    try:
        tune(recipe, flags.out, flags.data_dir, note_writing, print)
    except KeyboardInterrupt:
        print("tune: interrupted. Run it again to go on from the last checkpoint.", file=sys.stderr)
        return 1
    if flags.ship:
        ship(flags.out, SHIPPED)
        print(f"“{SHIPPED}” now has this adapter.")
    return 0


def evaluate_command(arguments: Sequence[str], note_writing: NoteWriting, open_stores: OpenStores) -> int:
    """Play the held-out stories on a model and print how many went right. Raises MarginaliaError if it cannot."""
    flags = _evaluate_parser().parse_args(arguments)
    from rich.console import Console

    from chat.tuning.card import record_evaluation
    from chat.tuning.report import evaluated, table_of
    from chat.weights import load_model
    from chat.weights.merge import SHIPPED

    loaded = load_model(flags.model, flags.data_dir, None, print, flags.precision)
    name = f"{Path(flags.model).name} in {loaded.info.dtype}"
    flags.out.mkdir(parents=True, exist_ok=True)
    outcomes = []
    with (flags.out / f"{name}.jsonl").open("w", encoding="utf-8") as kept:
        for outcome in _outcomes(loaded, note_writing, open_stores, flags):
            outcomes.append(outcome)
            kept.write(json.dumps(asdict(outcome), ensure_ascii=False) + "\n")
            kept.flush()
    evaluation = evaluated(name, outcomes)
    if flags.record:
        record_evaluation(SHIPPED, evaluation, datetime.now(UTC).date().isoformat())
    Console().print(table_of([evaluation]))
    print(f"Every transcript is in “{flags.out / name}.jsonl”.")
    return 0


def _outcomes(
    loaded: LoadedModel, note_writing: NoteWriting, open_stores: OpenStores, flags: argparse.Namespace
) -> Iterator[Outcome]:
    from rich.progress import track

    from chat.local_model import start_model
    from chat.tuning.evaluation import Player, tasks
    from chat.tuning.words import HELD_OUT, load_words
    from chat.ui.service import Service

    words = load_words(HELD_OUT)
    todo = [task for task in tasks(words, flags.stories) if not flags.kinds or task.kind in flags.kinds]
    model = start_model(loaded, max_running=flags.at_once, report=print)
    with (
        closing(model),
        tempfile.TemporaryDirectory(prefix="marginalia-evaluation-") as folder,
        open_stores(Path(folder) / "stories.db") as store_of,
        ThreadPoolExecutor(flags.at_once) as pool,
    ):
        player = Player(words, Service(model, store_of, note_writing))
        waiting = [pool.submit(player.play, task) for task in todo]
        try:
            for done in track(as_completed(waiting), "Playing", total=len(todo)):
                yield done.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _tune_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="marginalia tune", description="Train the default model's adapter anew.")
    _add_folders(parser, Path("build/tuning"))
    parser.add_argument("--ship", action="store_true", help="put the finished adapter into the package")
    parser.add_argument("--rank", type=int, default=Recipe.rank)
    parser.add_argument("--steps", type=int, help="one cycle of so many steps instead of the recipe's own cycles")
    parser.add_argument("--seed", type=int, default=Recipe.seed)
    return parser


def _evaluate_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="marginalia evaluate", description="Play the held-out stories on a model.")
    _add_folders(parser, Path("build/evaluation"))
    parser.add_argument("--model", default=DEFAULT_MODEL, metavar="NAME")
    parser.add_argument("--precision", default="auto", choices=get_args(Precision))
    parser.add_argument("--stories", type=int, default=40, help="stories of each kind (default: 40)")
    parser.add_argument("--kinds", nargs="*", default=[], metavar="KIND", help="only these kinds")
    parser.add_argument("--at-once", type=int, default=16, metavar="STORIES", help="how many are played side by side")
    parser.add_argument("--record", action="store_true", help="keep the figures in the shipped model card")
    return parser


def _add_folders(parser: argparse.ArgumentParser, out: Path) -> None:
    parser.add_argument("--out", type=Path, default=out, metavar="FOLDER")
    parser.add_argument("--data-dir", type=Path, default=Settings().data_dir, metavar="FOLDER")
