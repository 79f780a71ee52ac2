"""Tune the default model from nothing: `make tune`. Wiring only; the work is in `chat.tuning`."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

# Threads that wait for each other must not spin beside other work (tests/bench/LOG.md).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from chat.config import Settings
from chat.errors import MarginaliaError


def main() -> int:
    """Make conversations, train the adapter on them, write it to the output folder. 1: it could not go on."""
    flags = _parser().parse_args()
    from chat.tuning.card import ship
    from chat.tuning.recipe import Cycle, Recipe
    from chat.tuning.tune import tune
    from chat.weights.merge import SHIPPED
    from memory.notes import NOTE_WRITING

    first, *_ = Recipe.cycles
    cycles = (Cycle(flags.steps, first.learning_rate),) if flags.steps else Recipe.cycles
    recipe = Recipe(rank=flags.rank, alpha=2 * flags.rank, cycles=cycles, seed=flags.seed)
    try:
        tune(recipe, flags.out, flags.data_dir, NOTE_WRITING, print)
        if flags.ship:
            ship(flags.out, SHIPPED)
            print(f"“{SHIPPED}” now has this adapter.")
    except MarginaliaError as error:
        print(f"tune: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("tune: interrupted. Run it again to go on from the last checkpoint.", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    from chat.tuning.recipe import Recipe

    parser = argparse.ArgumentParser(prog="tune", description=main.__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/tuning"), metavar="FOLDER")
    parser.add_argument("--data-dir", type=Path, default=Settings().data_dir, metavar="FOLDER")
    parser.add_argument("--ship", action="store_true", help="put the finished adapter into the package")
    parser.add_argument("--rank", type=int, default=Recipe.rank)
    parser.add_argument("--steps", type=int, help="one cycle of so many steps instead of the recipe's own cycles")
    parser.add_argument("--seed", type=int, default=Recipe.seed)
    return parser


if __name__ == "__main__":
    sys.exit(main())
