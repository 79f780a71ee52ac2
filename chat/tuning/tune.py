"""From nothing to an adapter: the base model's own answers, the conversations, the training."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from chat.config import BASE_MODEL
from chat.encoding import Encoder
from chat.note_writing import NoteWriting
from chat.tuning.card import write_training_figures
from chat.tuning.examples import Example, encode_example
from chat.tuning.maker import make_conversation
from chat.tuning.own_answers import load_or_gather
from chat.tuning.recipe import Recipe
from chat.tuning.training import train
from chat.tuning.words import TRAINING, load_words
from chat.weights import load_model


def tune(
    recipe: Recipe, folder: Path, data_dir: Path, note_writing: NoteWriting, report: Callable[[str], None]
) -> None:
    """Train an adapter for the base model and write it to `folder`/adapter. Goes on where an earlier run ended."""
    folder.mkdir(parents=True, exist_ok=True)
    loaded = load_model(BASE_MODEL, data_dir, None, report)
    assert isinstance(loaded.model, PreTrainedModel), "without a precision, a model is what transformers read"
    encoder = Encoder(loaded.tokenizer)
    words = load_words(TRAINING)
    model: Any = loaded.model
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    own = load_or_gather(folder / "own_answers.json", words, model, encoder, recipe.seed, report)

    def example(number: int) -> Example:
        return encode_example(make_conversation(words, own, note_writing, recipe.seed, number), encoder)

    tuned = train(loaded.model, example, min(encoder.stop_token_ids()), recipe, folder)
    trained, _ = tuned.get_nb_trainable_parameters()
    finished = datetime.now(UTC).date().isoformat()
    write_training_figures(folder, recipe, words, loaded.info.parameters, trained, _hardware(), finished)
    report(f"The adapter is in “{folder / 'adapter'}”.")


def _hardware() -> str:
    if torch.cuda.is_available():
        return f"one {torch.cuda.get_device_name()}"
    return f"{torch.get_num_threads()} processor cores ({torch.backends.cpu.get_cpu_capability()}), no GPU"
