"""At which precision, and where, a model's weights run.

`fp32` and `bf16` run through torch, `int8` and `int4` packed. Where the processor multiplies bytes, `auto` packs a
bundled model in 4 bits, which is what it came in, and every other of the Llama family in 8; the rest it leaves as the
checkpoint has it. On another device than the CPU nothing is packed, and `auto` is `bf16`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from chat.config import CPU, Precision
from chat.errors import WeightsError
from chat.packed_model import PackedModel
from chat.packing import is_packable, pack_model
from chat.processor import converts_half_floats, multiplies_bytes
from chat.weights.default_model import Bundled
from chat.weights.merge import Adapter
from chat.weights.packed import Checkpoint, keep_packed, packed_path

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Packing:
    """How many bits a weight is to have, where the packed weights are kept, and which adapter stands beside them."""

    bits: int
    path: Path
    adapter: Adapter | None


def packing_for(
    precision: Precision | None,
    device: str,
    data_dir: Path,
    name: str,
    bundled: Bundled | None,
    sources: Iterable[Path],
) -> Packing | None:
    """How to pack the model that these files make, if this computer is to run it packed."""
    quickest = 4 if bundled else 8
    bits = {"int8": 8, "int4": 4, "auto": quickest if multiplies_bytes() else None}.get(precision or "")
    if bits is None or device != CPU or not converts_half_floats():
        return None
    adapter = bundled.adapter if bundled and bits == 4 else None
    return Packing(bits, packed_path(data_dir, name, sources, bits), adapter)


def at_precision(
    precision: Precision | None,
    device: str,
    name: str,
    model: PreTrainedModel,
    checkpoint: Checkpoint,
    packing: Packing | None,
) -> PreTrainedModel | PackedModel:
    """The model at a precision and on a device. Raises WeightsError if it cannot be had there."""
    if packing and is_packable(model):
        beside = packing.adapter.pairs() if packing.adapter else None
        return keep_packed(pack_model(model, packing.bits, beside), checkpoint, packing.path)
    if precision in ("int8", "int4"):
        reason = (
            "only models of the Llama family are packed, with sizes that 32 divides"
            if packing
            else "only a CPU runs packed models, and it must be able to read 16-bit floats"
        )
        raise WeightsError(f"“{name}” cannot run with --precision {precision}: {reason}. Use --precision auto.")
    dtypes = {"fp32": torch.float32, "bf16": torch.bfloat16, "auto": None if device == CPU else torch.bfloat16}
    moved: Any = model.to
    try:
        moved(device=device, dtype=dtypes.get(precision or ""))
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise WeightsError(f"The model cannot be put on --device “{device}”: {reason}. Use --device cpu.") from error
    return model
