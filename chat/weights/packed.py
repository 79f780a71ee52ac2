"""Packed weights, kept on disk: made once from a model's own weights, then mapped into memory at each start.

::

    <data folder>/packed/
    └── SmolLM2-135M-Marginalia-3f9c…-int8.safetensors     the name, what it was made from, the precision

A file belongs to the files that it was made from: their names, sizes and times are in its name. Its fingerprint is
inside, so that one that was cut short or altered is made anew.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter
from safetensors import SafetensorError

from chat.errors import WeightsError
from chat.packed_model import PackedModel, open_packed
from chat.weights.fingerprint import fingerprint
from chat.weights.suitable import ContextLimits

_FOLDER = "packed"
_STATE = 16


def packed_path(data_dir: Path, name: str, sources: Iterable[Path], bits: int) -> Path:
    """Where the packed weights lie that are made from these files, in 8 or 4 bits."""
    made_from = hashlib.sha256()
    for source in sorted(source for source in sources if source.exists()):
        about = source.stat()
        made_from.update(f"{source.resolve()}\0{about.st_size}\0{about.st_mtime_ns}\n".encode())
    return data_dir / _FOLDER / f"{_stem(name)}-{made_from.hexdigest()[:_STATE]}-int{bits}.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """What must be known of a checkpoint to run it. `end_of_sequence_ids` end a text.

    A `plain_tokenizer` is all in its file: no class of its own is needed, and none of what that imports.
    """

    limits: ContextLimits
    end_of_sequence_ids: tuple[int, ...]
    plain_tokenizer: bool = False


@dataclass(frozen=True)
class Kept:
    """Packed weights, and what was known of the checkpoint that they come from."""

    model: PackedModel
    checkpoint: Checkpoint


def read_packed(path: Path) -> Kept | None:
    """Map kept weights into memory, or None where there are none or they are not as they were made."""
    try:
        file = open_packed(path)
        if file is None or fingerprint(file.model).digest != file.notes["fingerprint"]:
            return None
        return Kept(file.model, _CHECKPOINT.validate_json(file.notes["checkpoint"]))
    except (OSError, SafetensorError, KeyError, ValueError, TypeError):
        return None


def keep_packed(model: PackedModel, checkpoint: Checkpoint, path: Path) -> PackedModel:
    """Keep packed weights and map them in, so that they run as they will at the next start.

    What was kept of an earlier state of the same model goes. Raises WeightsError if the disk does not take them.
    """
    notes = {"fingerprint": fingerprint(model).digest, "checkpoint": _CHECKPOINT.dump_json(checkpoint).decode()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".making-", dir=path.parent) as making:
            model.save(Path(making) / path.name, notes)
            os.replace(Path(making) / path.name, path)
        for other in set(path.parent.glob(_of_any_state(path))) - {path}:
            other.unlink(missing_ok=True)
    except OSError as error:
        raise WeightsError(
            f"The packed weights cannot be kept in “{path.parent}”: {error.strerror or error}."
        ) from error
    kept = read_packed(path)
    if kept is None:
        raise WeightsError(f"The packed weights in “{path}” are not as they were written. Look at that disk.")
    return kept.model


_CHECKPOINT = TypeAdapter(Checkpoint)


def _stem(name: str) -> str:
    # Also no character that a pattern of file names would read otherwise.
    return re.sub(r"[^\w.-]", "_", name)


def _of_any_state(path: Path) -> str:
    stem, _, precision = path.name.rsplit("-", 2)
    return f"{stem}-{'[0-9a-f]' * _STATE}-{precision}"
