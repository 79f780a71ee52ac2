"""The trained artifact as it lies on the disk and in memory: its files, and each of its tensors as really held.

A packed model holds more numbers than weights: scales beside its codes and, where embedding and output are one, that a
second time. Each weight of the model is counted once, where it is read first, so that the counts add up to the model's
parameters.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor

from chat.packed_model import PackedModel

if TYPE_CHECKING:
    from chat.weights.load import LoadedModel

Part = Literal["embedding", "attention", "MLP", "norms", "output", "other"]
PARTS: tuple[Part, ...] = ("embedding", "attention", "MLP", "norms", "output", "other")

# In this order: Gemma's “full_attention_inv_freq” and Llama's “post_attention_layernorm” are no attention.
_WORDS: dict[Part, tuple[str, ...]] = {
    "other": ("inv_freq", "frequencies"),
    "norms": ("norm", "ln_", "before_"),
    "embedding": ("embed", "wte", "wpe"),
    "attention": ("attn", "attention", "qkv", "output"),
    "MLP": ("mlp", "feed_forward", "ffn", "gate_up", "down"),
    "output": ("lm_head", "head"),
}


@dataclass(frozen=True)
class FileOnDisk:
    """A file that the weights were read from, by its name, and its size in bytes."""

    name: str
    nbytes: int


@dataclass(frozen=True)
class HeldTensor:
    """A tensor as the process holds it.

    `parameters` counts the weights of the model that are in it: none in scales, nor in a second copy. `holds` says in
    a few words what its numbers are. `layer` is None outside the layers.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    nbytes: int
    layer: int | None
    part: Part
    parameters: int
    holds: str


@dataclass(frozen=True)
class Artifact:
    """The files and the tensors, these in the order of their names, as in the fingerprint."""

    files: tuple[FileOnDisk, ...]
    tensors: tuple[HeldTensor, ...]

    @property
    def nbytes(self) -> int:
        """What all tensors take in memory, in bytes."""
        return sum(tensor.nbytes for tensor in self.tensors)


def artifact_of(loaded: LoadedModel) -> Artifact:
    """What a loaded model is made of. Raises OSError if its files are gone."""
    return Artifact(files_on_disk(loaded.files), held_tensors(loaded.model))


def files_on_disk(paths: Iterable[Path]) -> tuple[FileOnDisk, ...]:
    """The files with their sizes, the largest first."""
    files = [FileOnDisk(path.name, path.stat().st_size) for path in paths]
    return tuple(sorted(files, key=lambda file: (-file.nbytes, file.name)))


def held_tensors(model: Any) -> tuple[HeldTensor, ...]:
    """Each parameter and buffer of a model, tied ones once, in the order of their names."""
    held = _held_packed(model) if isinstance(model, PackedModel) else _held_plain(model)
    return tuple(sorted(held, key=lambda tensor: tensor.name))


def _held_plain(model: Any) -> list[HeldTensor]:
    weights = [_held(name, tensor, tensor.numel(), "weights") for name, tensor in model.named_parameters()]
    return weights + [_held(name, tensor, 0, "fixed numbers") for name, tensor in model.named_buffers()]


def _held_packed(model: PackedModel) -> list[HeldTensor]:
    tensors = [_held(name, tensor, *_in_packed(model, name, tensor)) for name, tensor in model.named_buffers()]
    head = model.get_buffer("head.codes").numel()
    if sum(tensor.parameters for tensor in tensors) != model.parameter_count + head:
        return tensors
    return [replace(each, parameters=0) if each.name == "head.codes" else each for each in tensors]


def _in_packed(model: PackedModel, name: str, tensor: Tensor) -> tuple[int, str]:
    """How many of the model's weights a packed model's tensor holds, and in what form."""
    product, _, last = name.rpartition(".")
    match last:
        case "codes" if "lora" in product:
            return 0, "8-bit codes of the adapter"
        case "scales" | "bias" if "lora" in product:
            return 0, f"{'scales' if last == 'scales' else 'zeros'} beside them"
        case "codes" if model.bits(product) == 4:
            return 2 * tensor.numel(), "4-bit codes, two a byte"
        case "codes":
            return tensor.numel(), "8-bit codes"
        case "scales":
            return 0, "scales of the codes"
        case "bias":
            # Products that have none are packed with zeros.
            return (tensor.numel(), "biases") if tensor.any() else (0, "zeros for biases")
        case "frequencies":
            return 0, "fixed numbers"
    return tensor.numel(), "weights"


def _held(name: str, tensor: Tensor, parameters: int, holds: str) -> HeldTensor:
    parts = name.split(".")
    layer = next((int(part) for part in parts if part.isdigit()), None)
    dtype = str(tensor.dtype).removeprefix("torch.")
    return HeldTensor(name, tuple(tensor.shape), dtype, tensor.nbytes, layer, _part_of(parts), parameters, holds)


def _part_of(path: list[str]) -> Part:
    """Which part of the model a tensor of this dotted name belongs to; the innermost name that tells does."""
    for name in reversed(path):
        for part, words in _WORDS.items():
            if any(word in name for word in words):
                return part
    return "other"
