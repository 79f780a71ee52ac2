"""Judge a model by the held-out stories: `make evaluate`. Wiring and worker processes; the work is in `chat.tuning`."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

# Each worker computes on one core: for one reply at a time, two workers on a core each are quicker than one on two.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from chat.config import DEFAULT_MODEL, Settings
from chat.errors import MarginaliaError

if TYPE_CHECKING:
    from chat.tuning.evaluation import Outcome, Player, Task

_player: Player | None = None


def main() -> int:
    """Play the held-out stories on a model and print how many went right. 1: it could not go on."""
    flags = _parser().parse_args()
    from rich.console import Console

    from chat.tuning.card import record_evaluation
    from chat.tuning.report import evaluated, table_of
    from chat.weights.merge import SHIPPED

    flags.out.mkdir(parents=True, exist_ok=True)
    name = Path(flags.model).name
    outcomes = []
    try:
        with (flags.out / f"{name}.jsonl").open("w", encoding="utf-8") as kept:
            for outcome in _outcomes(flags):
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


def _outcomes(flags: argparse.Namespace) -> Iterator[Outcome]:
    from rich.progress import track

    from chat.tuning.evaluation import tasks
    from chat.tuning.words import HELD_OUT, load_words
    from chat.weights import load_model

    load_model(flags.model, flags.data_dir, None, print)  # once here, so that the workers find it unpacked
    todo = [task for task in tasks(load_words(HELD_OUT), flags.stories) if not flags.kinds or task.kind in flags.kinds]
    with (
        tempfile.TemporaryDirectory(prefix="marginalia-evaluation-") as folder,
        ProcessPoolExecutor(flags.workers, get_context("spawn"), _begin, (flags.model, flags.data_dir, folder)) as pool,
    ):
        waiting = [pool.submit(_play, task) for task in todo]
        for done in track(as_completed(waiting), "Playing", total=len(todo)):
            yield done.result()


def _begin(model: str, data_dir: Path, folder: str) -> None:
    """Make this process's own player, with a model and an empty database of its own."""
    global _player
    from chat.local_model import start_model
    from chat.tuning.evaluation import Player
    from chat.tuning.words import HELD_OUT, load_words
    from chat.ui.service import Service
    from chat.weights import load_model
    from memory.database import open_database
    from memory.notes import NOTE_WRITING

    database = open_database(f"sqlite:///{folder}/{os.getpid()}.db")
    local = start_model(load_model(model, data_dir, None, lambda _: None))
    service = Service(local, database.for_owner, NOTE_WRITING)
    _player = Player(load_words(HELD_OUT), service)


def _play(task: Task) -> Outcome:
    assert _player is not None
    return _player.play(task)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="evaluate", description=main.__doc__)
    parser.add_argument("--model", default=DEFAULT_MODEL, metavar="NAME")
    parser.add_argument("--stories", type=int, default=40, help="stories of each kind (default: 40)")
    parser.add_argument("--kinds", nargs="*", default=[], metavar="KIND", help="only these kinds")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--record", action="store_true", help="keep the figures in the shipped model card")
    parser.add_argument("--out", type=Path, default=Path("build/evaluation"), metavar="FOLDER")
    parser.add_argument("--data-dir", type=Path, default=Settings().data_dir, metavar="FOLDER")
    return parser


if __name__ == "__main__":
    sys.exit(main())
