"""Judge a model by the held-out stories: `make evaluate`. Wiring only; the work is in `chat.tuning`."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from chat.config import DEFAULT_MODEL, Precision, Settings
from chat.errors import MarginaliaError

if TYPE_CHECKING:
    from chat.tuning.evaluation import Outcome
    from chat.weights import LoadedModel


def main() -> int:
    """Play the held-out stories on a model and print how many went right. 1: it could not go on."""
    flags = _parser().parse_args()
    from rich.console import Console

    from chat.tuning.card import record_evaluation
    from chat.tuning.report import evaluated, table_of
    from chat.weights import load_model
    from chat.weights.merge import SHIPPED

    flags.out.mkdir(parents=True, exist_ok=True)
    outcomes = []
    try:
        loaded = load_model(flags.model, flags.data_dir, None, print, flags.precision)
        name = f"{Path(flags.model).name} in {loaded.info.dtype}"
        with (flags.out / f"{name}.jsonl").open("w", encoding="utf-8") as kept:
            for outcome in _outcomes(loaded, flags):
                outcomes.append(outcome)
                kept.write(json.dumps(asdict(outcome), ensure_ascii=False) + "\n")
                kept.flush()
    except MarginaliaError as error:
        print(f"evaluate: {error}", file=sys.stderr)
        return 1
    evaluation = evaluated(name, outcomes)
    if flags.record:
        record_evaluation(SHIPPED, evaluation, datetime.now(UTC).date().isoformat())
    Console().print(table_of([evaluation]))
    print(f"Every transcript is in “{flags.out / name}.jsonl”.")
    return 0


def _outcomes(loaded: LoadedModel, flags: argparse.Namespace) -> Iterator[Outcome]:
    from rich.progress import track

    from chat.local_model import start_model
    from chat.tuning.evaluation import Player, tasks
    from chat.tuning.words import HELD_OUT, load_words
    from chat.ui.service import Service
    from memory.database import open_database
    from memory.notes import NOTE_WRITING

    words = load_words(HELD_OUT)
    todo = [task for task in tasks(words, flags.stories) if not flags.kinds or task.kind in flags.kinds]
    model = start_model(loaded, max_running=flags.at_once, report=print)
    with (
        closing(model),
        tempfile.TemporaryDirectory(prefix="marginalia-evaluation-") as folder,
        closing(open_database(f"sqlite:///{folder}/stories.db")) as database,
        ThreadPoolExecutor(flags.at_once) as pool,
    ):
        player = Player(words, Service(model, database.for_owner, NOTE_WRITING))
        waiting = [pool.submit(player.play, task) for task in todo]
        try:
            for done in track(as_completed(waiting), "Playing", total=len(todo)):
                yield done.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="evaluate", description=main.__doc__)
    parser.add_argument("--model", default=DEFAULT_MODEL, metavar="NAME")
    parser.add_argument("--precision", default="auto", choices=get_args(Precision))
    parser.add_argument("--stories", type=int, default=40, help="stories of each kind (default: 40)")
    parser.add_argument("--kinds", nargs="*", default=[], metavar="KIND", help="only these kinds")
    parser.add_argument("--at-once", type=int, default=16, metavar="STORIES", help="how many are played side by side")
    parser.add_argument("--record", action="store_true", help="keep the figures in the shipped model card")
    parser.add_argument("--out", type=Path, default=Path("build/evaluation"), metavar="FOLDER")
    parser.add_argument("--data-dir", type=Path, default=Settings().data_dir, metavar="FOLDER")
    return parser


if __name__ == "__main__":
    sys.exit(main())
