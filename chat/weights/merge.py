"""The adapter that Marginalia's makers trained, added to the base model's weights once, when they are unpacked.

A chat then costs what it costs without: there is no adapter left, only weights (Hu et al., 2021, arXiv:2106.09685,
section 4.1, “no additional inference latency”). In 4 bits it is quicker the other way: see `chat/packing.py`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from chat.packing import Pairs
from chat.weights.manifest import sha256_of

SHIPPED = Path(__file__).parent / "adapter"
_TENSORS = "adapter_model.safetensors"
_CONFIG = "adapter_config.json"
_PREFIX = "base_model.model."


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter in peft's format: a folder with its numbers and its settings."""

    folder: Path

    @property
    def sha256(self) -> str:
        """The SHA-256 of its numbers, which tells which adapter weights were made with."""
        return sha256_of(self.folder / _TENSORS)

    def pairs(self) -> Pairs:
        """Its two matrices for each linear layer, in float32, the second times alpha / rank."""
        config = json.loads((self.folder / _CONFIG).read_text("utf-8"))
        tensors = {name: tensor.float() for name, tensor in load_file(self.folder / _TENSORS).items()}
        modules = [name.removesuffix(".lora_A.weight") for name in tensors if name.endswith(".lora_A.weight")]
        assert len(tensors) == 2 * len(modules), "an adapter is pairs of tensors"
        scale = config["lora_alpha"] / config["r"]
        return {
            module.removeprefix(_PREFIX): (
                tensors[f"{module}.lora_A.weight"],
                scale * tensors[f"{module}.lora_B.weight"],
            )
            for module in modules
        }

    def merge_into(self, model: nn.Module) -> None:
        """Add it to a model's weights in place: W + (alpha / rank) · B A."""
        with torch.no_grad():
            for module, (down, up) in self.pairs().items():
                weight = model.get_submodule(module).weight
                assert isinstance(weight, torch.Tensor)
                weight += (up @ down).to(weight.dtype)
