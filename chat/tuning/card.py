"""What a run leaves for others to read: its figures as JSON, and the model card that is written from them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from chat.tuning.recipe import LOSSES, Progressed, Recipe
from chat.tuning.report import Evaluation
from chat.tuning.words import Words
from chat.weights.card import CARD, TRAINING
from chat.weights.merge import Adapter

EVALUATION = "evaluation.json"
_PROSE = Path(__file__).parent / "card.md"


def write_training_figures(
    folder: Path, recipe: Recipe, words: Words, parameters: int, adapter_parameters: int, hardware: str, finished: str
) -> None:
    """Add up a run from its loss curve and write the sums to `folder`.

    Floating-point operations are an estimate: for each token 2 a parameter in the forward pass and 2 in the backward
    pass, which needs no gradients of frozen weights (Kaplan et al., 2020, arXiv:2001.08361, section 2.1, counts 2 + 4
    where all are trained), and 6 a parameter of the adapter.
    """
    steps = [Progressed(**json.loads(line)) for line in (folder / LOSSES).read_text("utf-8").splitlines()]
    tokens = sum(step.tokens for step in steps)
    figures = {
        "recipe": asdict(recipe),
        "conversations": len(steps) * recipe.conversations_per_step,
        "tokens": tokens,
        "learned_tokens": sum(step.learned_tokens for step in steps),
        "seconds": sum(step.seconds for step in steps),
        "first_loss": steps[0].loss,
        "last_unseen_loss": next(step.unseen_loss for step in reversed(steps) if step.unseen_loss is not None),
        "hardware": hardware,
        "parameters": parameters,
        "adapter_parameters": adapter_parameters,
        "flops": (4 * parameters + 6 * adapter_parameters) * tokens,
        "relations": len(words.relations),
        "names": len(words.families["first_name"]) + len(words.families["full_name"]),
        "finished": finished,
    }
    (folder / TRAINING).write_text(json.dumps(figures, indent=1) + "\n", "utf-8")


def ship(run: Path, package: Path) -> None:
    """Put a finished run's adapter, figures and loss curve into the package, and write its card anew."""
    for source in (*sorted((run / "adapter").glob("adapter_*")), run / TRAINING, run / LOSSES):
        shutil.copyfile(source, package / source.name)
    (package / EVALUATION).unlink(missing_ok=True)
    write_card(package)


def record_evaluation(package: Path, evaluation: Evaluation, on: str) -> None:
    """Keep an evaluation of the shipped adapter, or of the base model, for the card, and write the card anew."""
    path = package / EVALUATION
    kept = json.loads(path.read_text("utf-8")) if path.exists() else {}
    kept[evaluation.model] = {"date": on, "adapter": Adapter(package).sha256, **evaluation.to_dict()}
    path.write_text(json.dumps(kept, indent=1) + "\n", "utf-8")
    write_card(package)


def write_card(package: Path) -> None:
    """Write MODEL_CARD.md from the run's figures and the evaluations kept beside it."""
    training = json.loads((package / TRAINING).read_text("utf-8"))
    evaluations = package / EVALUATION
    kept = json.loads(evaluations.read_text("utf-8")) if evaluations.exists() else {}
    prose = _PROSE.read_text("utf-8")
    text = prose.replace("{{training}}", _training_table(training)).replace("{{evaluation}}", _evaluation_table(kept))
    (package / CARD).write_text(text, "utf-8")


def _training_table(training: Mapping[str, Any]) -> str:
    recipe = training["recipe"]
    steps = sum(cycle["steps"] for cycle in recipe["cycles"])
    rows = {
        "conversations": f"{training['conversations']:,}, each seen once",
        "tokens read": f"{training['tokens']:,}, of which {training['learned_tokens']:,} in replies to learn",
        "made from": f"{training['relations']} relations, {training['names']:,} names, seed {recipe['seed']}",
        "steps": f"{steps:,}, of {recipe['conversations_per_step']} conversations each",
        "method": f"LoRA, rank {recipe['rank']}, alpha {recipe['alpha']}, on every linear layer; "
        f"AdamW, {_cycles(recipe)}, each time level, then falling over the last quarter; loss on the replies only, "
        "for the base model's own replies on how far they went from its probabilities; "
        "the mean of what the adapter was at the end of each cycle, each counting as much as all before it",
        "trained parameters": f"{training['adapter_parameters']:,} beside {training['parameters']:,} frozen ones",
        "time": _time(training["seconds"]),
        "hardware": training["hardware"],
        "floating-point operations": f"{training['flops']:.1e} (estimate)",
        "loss": f"{training['first_loss']:.2f} at the first step; {training['last_unseen_loss']:.2f} at the last, "
        "on conversations never trained on (nats a token)",
        "finished": training["finished"],
    }
    return _table(("", ""), rows.items())


def _time(seconds: float) -> str:
    return f"{seconds / 3600:.1f} hours" if seconds >= 3600 else f"{seconds / 60:.0f} minutes"


def _cycles(recipe: Mapping[str, Any]) -> str:
    return ", then ".join(f"{cycle['learning_rate']:g} for {cycle['steps']:,} steps" for cycle in recipe["cycles"])


def _evaluation_table(kept: Mapping[str, Any]) -> str:
    if not kept:
        return "Not evaluated yet: `make evaluate` does it."
    columns = [{figure["kind"]: figure for figure in each["figures"]} for each in kept.values()]
    kinds = dict.fromkeys(kind for column in columns for kind in column)
    rows = [(kind, *(_share(column.get(kind)) for column in columns)) for kind in kinds]
    openings = [f"{each['commonest_opening']:.0%}" for each in kept.values()]
    return _table(("kind", *kept), [*rows, ("open replies that begin with the same three words, at most", *openings)])


def _share(figure: Mapping[str, Any] | None) -> str:
    if figure is None:
        return "–"
    share = figure["right"] / figure["tried"]
    return f"{figure['right']} of {figure['tried']}, {share:.1%} ({figure['low']:.0%} to {figure['high']:.0%})"


def _table(head: Sequence[str], rows: Any) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
