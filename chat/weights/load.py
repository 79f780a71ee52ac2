"""Load a chat model: a bundled one, one from a local folder, or one from the Hugging Face hub.

transformers' model classes, and what chooses among them, take longer to import than packed weights to load, so they are
imported only where they are needed.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError
from safetensors import SafetensorError
from transformers.tokenization_utils_tokenizers import TokenizersBackend

from chat.config import CPU, Precision
from chat.errors import WeightsError
from chat.packed_model import PackedModel
from chat.types import ModelInfo
from chat.weights.default_model import BUNDLED, ensure_unpacked
from chat.weights.packed import Checkpoint, Kept, read_packed
from chat.weights.precision import Packing, at_precision, packing_for
from chat.weights.progress import Report, busy_bar, quiet_transformers
from chat.weights.suitable import check_config, check_tokenizer, check_weights, context_limits, usable_context_window

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
# What a broken, foreign or half-copied folder makes the libraries raise: they have no common root.
_UNREADABLE = (OSError, ValueError, TypeError, KeyError, AttributeError, ImportError, RuntimeError, SafetensorError)


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to run: in eval mode, without gradients, with its tokenizer and the tokens that end its text.

    `files` are those that it was read from.
    """

    info: ModelInfo
    model: PreTrainedModel | PackedModel
    tokenizer: TokenizersBackend
    end_of_sequence_ids: frozenset[int]
    files: tuple[Path, ...] = ()


def load_model(
    name: str,
    data_dir: Path,
    context_window: int | None,
    report: Report,
    precision: Precision | None = None,
    device: str = CPU,
) -> LoadedModel:
    """Load a bundled model, a local folder or a hub id, and check that it is a chat model this app can run.

    Without a precision it is loaded as its checkpoint has it. Raises WeightsError, which quotes the name and says why,
    for anything else.
    """
    bundled = BUNDLED.get(name)
    folder = ensure_unpacked(bundled, data_dir, report, whole=False) if bundled else _folder_of(name, report)
    shown = bundled.id if bundled else name
    packing = partial(packing_for, precision, device, data_dir, shown, bundled)
    with quiet_transformers():
        kept = _kept(packing(_sources(folder)))
        if bundled and not kept:
            folder = ensure_unpacked(bundled, data_dir, report)
        checkpoint = kept.checkpoint if kept else _checkpoint(name, folder)
        window = usable_context_window(name, checkpoint.limits, context_window)
        tokenizer = _read_tokenizer(name, folder, checkpoint.plain_tokenizer)
        report(f"Loading {shown}.")
        model: PreTrainedModel | PackedModel
        if kept:
            model = kept.model
        else:
            checkpoint = replace(checkpoint, plain_tokenizer=type(tokenizer) is TokenizersBackend)
            whole = _whole(name, folder, tokenizer, report)
            model = at_precision(precision, device, name, whole, checkpoint, packing(_sources(folder)))
    ends = frozenset(checkpoint.end_of_sequence_ids)
    files = _read_from(folder, packing(_sources(folder)) if isinstance(model, PackedModel) else None)
    return LoadedModel(_info(shown, model, window), model, tokenizer, ends, files)


def _sources(folder: Path) -> list[Path]:
    """The files of which a change changes the model."""
    return [*folder.glob("*.safetensors"), *folder.glob("*.json")]


def _read_from(folder: Path, packing: Packing | None) -> tuple[Path, ...]:
    """The files of a model's folder, and those of its packed weights where they run."""
    return (*(path for path in folder.iterdir() if path.is_file()), *([packing.path] if packing else []))


def _kept(packing: Packing | None) -> Kept | None:
    return read_packed(packing.path) if packing else None


def _whole(name: str, folder: Path, tokenizer: TokenizersBackend, report: Report) -> PreTrainedModel:
    """The model as its checkpoint has it; its weights come last from the hub, when all else fits."""
    weights = _weight_files(name, folder)
    if not weights <= _files_in(folder) and not _local(name).is_dir():
        _download(name, sorted(weights), report)
    model = _read_model(name, folder)
    check_weights(name, model, tokenizer)
    return model


def _info(name: str, model: PreTrainedModel | PackedModel, window: int) -> ModelInfo:
    if isinstance(model, PackedModel):
        return ModelInfo(name, f"int{model.bits('layers.0.qkv')}", model.parameter_count, window)
    count = sum(parameter.numel() for parameter in model.parameters())
    return ModelInfo(name, str(model.dtype).removeprefix("torch."), count, window)


def _checkpoint(name: str, folder: Path) -> Checkpoint:
    """What a model's files say of it. Raises WeightsError if it is none that this app can run."""
    from transformers import GenerationConfig

    config = _read_config(name, folder)
    check_config(name, config)
    try:
        ends = GenerationConfig.from_pretrained(folder, local_files_only=True).eos_token_id
    except OSError:
        ends = GenerationConfig.from_model_config(config).eos_token_id
    listed = ends if isinstance(ends, list) else [ends] if isinstance(ends, int) else []
    return Checkpoint(context_limits(config), tuple(listed))


def _local(name: str) -> Path:
    # Path.expanduser would raise for a home that does not exist.
    return Path(os.path.expanduser(name))


def _folder_of(name: str, report: Report) -> Path:
    folder = _local(name)
    if folder.is_dir():
        return folder
    if not _HUB_ID.fullmatch(name) or name.startswith((".", "~")):
        raise WeightsError(
            f"There is no folder “{name}”. Name a folder with a model's files, a Hugging Face hub id like "
            f"“owner/name”, or one of {' and '.join(BUNDLED)}."
        )
    # The small files come first: a model that cannot be used is refused before gigabytes are downloaded.
    return _download(name, ["*.json", "*.jinja", "*.model", "*.txt"], report)


def _download(name: str, patterns: list[str], report: Report) -> Path:
    """Bring files of a hub repository into the hub's own cache. Never code, never a pickled checkpoint."""
    report(f"Asking the Hugging Face hub for {name}.")
    try:
        return Path(snapshot_download(name, allow_patterns=patterns, ignore_patterns=["*/*"]))
    except (OSError, ValueError, HfHubHTTPError) as error:
        raise WeightsError(
            f"“{name}” is no folder here, and the Hugging Face hub did not give it: {_first_line(error)}"
        ) from error


def _files_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def _weight_files(name: str, folder: Path) -> set[str]:
    """The safetensors files that the folder has or, for one from the hub, that its index lists."""
    index = folder / "model.safetensors.index.json"
    here = {file for file in _files_in(folder) if file.endswith(".safetensors")}
    try:
        listed = set(json.loads(index.read_text("utf-8"))["weight_map"].values()) if index.is_file() else here
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise _unreadable(name, error) from error
    if listed:
        return listed
    if not _local(name).is_dir():
        return {"model.safetensors"}
    raise WeightsError(
        f"“{name}” has no .safetensors file. Other formats can carry code, so they are not read; "
        "choose a version of the model that has safetensors."
    )


def _read_config(name: str, folder: Path) -> PreTrainedConfig:
    from transformers import AutoConfig

    if not (folder / "config.json").is_file():
        raise WeightsError(f"“{name}” has no config.json, so it is not a model that transformers can read.")
    try:
        # Without an explicit False, transformers would ask at the terminal whether to run the model's code.
        config: PreTrainedConfig = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except _UNREADABLE as error:
        if "trust_remote_code" in str(error):
            raise WeightsError(
                f"“{name}” needs Python code of its own to run. Code from models is never run here; choose a model "
                "that transformers knows by itself."
            ) from error
        raise _unreadable(name, error) from error
    return config


def _read_tokenizer(name: str, folder: Path, plain: bool) -> TokenizersBackend:
    try:
        reader = TokenizersBackend if plain else _auto_tokenizer()
        tokenizer = reader.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except _UNREADABLE as error:
        raise WeightsError(f"The tokenizer of “{name}” cannot be read: {_first_line(error)}") from error
    return check_tokenizer(name, tokenizer)


def _auto_tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer


def _read_model(name: str, folder: Path) -> PreTrainedModel:
    from transformers import AutoModelForCausalLM

    try:
        with busy_bar("Reading the weights"):
            read: Any = AutoModelForCausalLM.from_pretrained(
                folder,
                dtype="auto",
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
    except _UNREADABLE as error:
        raise _unreadable(name, error) from error
    model, loading = read
    # transformers fills what a checkpoint lacks with random numbers and only warns.
    if loading["missing_keys"]:
        lacking = sorted(loading["missing_keys"])
        raise WeightsError(
            f"The weights of “{name}” are not complete: {len(lacking):,} tensors are missing, “{lacking[0]}” among "
            "them. Copy or download the model again."
        )
    checked: PreTrainedModel = model.eval().requires_grad_(False)
    return checked


def _unreadable(name: str, error: Exception) -> WeightsError:
    return WeightsError(
        f"“{name}” cannot be read: {_first_line(error)} If a file was cut short, copy or download the model again."
    )


def _first_line(error: Exception) -> str:
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    text = text if len(text) <= 200 else text[:199] + "…"
    return text if text.endswith((".", "…")) else text + "."
