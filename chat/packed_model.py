"""A model of the Llama family with its weights in 8 or 4 bits, laid out as the packed forward pass reads them.

In 8 bits a group of 32 weights of a row shares one scale: each weight is a whole number from -127 to 127 times that
scale, the nearest (as in llama.cpp's Q8_0). In 4 bits a group has a scale and a least weight: each weight is that and
0 to 15 times the scale (as in Q4_1); the products that choose a token stay in 8. Norms and biases stay in 32 bits, the
embeddings are kept in 16. An adapter (Hu et al. 2021, arXiv:2106.09685) can stand beside the weights, in 8 bits.
The weights are buffers of a module, so that the fingerprint covers every byte that a product reads.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

LANES = 16
"""Rows that lie side by side: as many as the widest registers have floats."""
GROUP = 32
"""Weights that share a scale."""
PRODUCTS = ("qkv", "output", "gate_up", "down")
"""The products of a layer, in the order in which they are computed."""

_LAYOUT = "3"


class Shape(NamedTuple):
    """The sizes of a model."""

    layers: int
    heads: int
    key_heads: int
    head_size: int
    width: int
    inner: int
    vocabulary: int
    epsilon: float
    adapter_rank: int = 0


class PackedModel(nn.Module):
    """Packed weights under the names `layers.0.qkv.codes`, `.scales`, `.bias` and so on.

    In 8 bits, `codes`: bytes (blocks of 16 rows, groups, 8, 16, 4), for each four inputs the weights of 16 rows, each
    128 above its value; `scales`: 16-bit floats (blocks, groups, 1, 16). In 4 bits, `codes`: bytes (blocks, groups, 4,
    16, 4), the first 16 inputs in the lower halves, the others in the upper; `scales`: (blocks, groups, 2, 16), scale
    and least weight. `bias`: (rows,). Of an adapter, `layers.0.qkv.lora_a.codes` and so on make of the inputs
    `adapter_rank` numbers for each linear layer that was joined, and `lora_b` makes of these what is added.
    `rotary_scale` is what the rotations of positions are multiplied with.
    `parameters` counts the weights of the model that was packed.
    """

    def __init__(self, shape: Shape, tensors: dict[str, Tensor], rotary_scale: float, parameters: int) -> None:
        super().__init__()
        self.shape = shape
        self.rotary_scale = rotary_scale
        self.parameter_count = parameters
        for name, tensor in tensors.items():
            self._hold(name, tensor)

    def _hold(self, name: str, tensor: Tensor) -> None:
        *path, last = name.split(".")
        module: nn.Module = self
        for part in path:
            if part not in dict(module.named_children()):
                module.add_module(part, nn.Module())
            module = module.get_submodule(part)
        module.register_buffer(last, tensor)

    @property
    def products(self) -> Iterator[str]:
        """The names of all products, in the order in which they are computed."""
        yield from (f"layers.{layer}.{product}" for layer in range(self.shape.layers) for product in PRODUCTS)
        yield "head"

    def bits(self, product: str) -> int:
        """The bits of each of its weights. Also of an adapter's, under its product's name and its own."""
        return self.get_buffer(f"{product}.codes").shape[2]

    def save(self, path: Path, notes: dict[str, str]) -> None:
        """Write it as one safetensors file, with these notes about it. Raises OSError."""
        about = {"shape": self.shape, "rotary_scale": self.rotary_scale, "parameters": self.parameter_count}
        metadata = {**notes, "layout": _LAYOUT, "about": json.dumps(about)}
        written = save(dict(self.named_buffers()), metadata)
        header = int.from_bytes(written[:8], "little")
        # The format allows spaces behind the header. So many, and the weights lie on the borders of cache lines.
        spaces = -(8 + header) % 64
        with path.open("wb") as file:
            file.write((header + spaces).to_bytes(8, "little"))
            file.write(written[8 : 8 + header] + b" " * spaces)
            file.write(memoryview(written)[8 + header :])


class PackedFile(NamedTuple):
    """A saved model and the notes that it was saved with."""

    model: PackedModel
    notes: dict[str, str]


def open_packed(path: Path) -> PackedFile | None:
    """Map a saved model into memory: its pages are read when they are used. None if it was laid out otherwise.

    Raises SafetensorError or OSError for a file that is cut short or missing, KeyError, ValueError or TypeError for one
    that is something else.
    """
    with safe_open(path, "pt") as file:
        metadata = file.metadata() or {}
        if metadata.get("layout") != _LAYOUT:
            return None
        about = json.loads(metadata["about"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  it is no dictionary
    model = PackedModel(Shape(*about["shape"]), tensors, about["rotary_scale"], about["parameters"])
    return PackedFile(model, metadata)
