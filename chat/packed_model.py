"""A model of the Llama family with its weights in 8 or 4 bits, laid out as the packed forward pass reads them.

In 8 bits a group of 32 weights of a row shares one scale: each weight is a whole number from -127 to 127 times that
scale, the nearest (as in llama.cpp's Q8_0). In 4 bits a group has a scale and a least weight: each weight is that and
0 to 15 times the scale (as in Q4_1); the products that choose a token stay in 8. Norms and biases stay in 32 bits, the
embeddings are kept in 16.
The weights are buffers of a module, so that the fingerprint covers every byte that a product reads.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from chat.llama_family import is_llama_like

LANES = 16
"""Rows that lie side by side: as many as a register has floats."""
GROUP = 32
"""Weights that share a scale."""
PRODUCTS = ("qkv", "output", "gate_up", "down")
"""The products of a layer, in the order in which they are computed."""

_LAYOUT = "2"
_ABOVE = 128


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


class PackedModel(nn.Module):
    """Packed weights under the names `layers.0.qkv.codes`, `.scales`, `.bias` and so on.

    In 8 bits, `codes`: bytes (blocks of 16 rows, groups, 8, 16, 4), for each four inputs the weights of 16 rows, each
    128 above its value; `scales`: 16-bit floats (blocks, groups, 1, 16). In 4 bits, `codes`: bytes (blocks, groups, 4,
    16, 4), the first 16 inputs in the lower halves, the others in the upper; `scales`: (blocks, groups, 2, 16), scale
    and least weight, the latter over -128. `bias`: (rows,).
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
        """The bits of each of its weights."""
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


def is_packable(model: Any) -> bool:
    """Whether this is a model of the Llama family whose rows and columns divide into blocks and groups."""
    if not is_llama_like(model):
        return False
    config = model.config
    heads, key_heads, size = _heads(config)
    rows = ((heads + 2 * key_heads) * size, config.hidden_size, config.intermediate_size, config.vocab_size, size)
    columns = (config.hidden_size, heads * size, config.intermediate_size)
    return all(count % LANES == 0 for count in rows) and all(count % GROUP == 0 for count in columns)


def pack_model(model: Any, bits: int = 8) -> PackedModel:
    """Round a transformers model of the Llama family that `is_packable` to 8 bits, or 4."""
    assert bits in (4, 8)
    config, inner = model.config, model.model
    heads, key_heads, size = _heads(config)
    tensors = {
        "embeddings": inner.embed_tokens.weight.detach().half(),
        "frequencies": inner.rotary_emb.inv_freq.detach().float().clone(),
        "last_norm": _floats(inner.norm.weight),
        **_packed("head", [model.lm_head], 8),
    }
    for place, layer in enumerate(inner.layers):
        tensors |= _packed_layer(f"layers.{place}", layer, bits)
    shape = Shape(
        layers=len(inner.layers),
        heads=heads,
        key_heads=key_heads,
        head_size=size,
        width=config.hidden_size,
        inner=config.intermediate_size,
        vocabulary=config.vocab_size,
        epsilon=config.rms_norm_eps,
    )
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return PackedModel(shape, tensors, float(inner.rotary_emb.attention_scaling), parameters)


def _heads(config: Any) -> tuple[int, int, int]:
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return config.num_attention_heads, config.num_key_value_heads, size


def _packed_layer(name: str, layer: Any, bits: int) -> dict[str, Tensor]:
    attention, mlp = layer.self_attn, layer.mlp
    norms = {"before_attention": layer.input_layernorm, "before_mlp": layer.post_attention_layernorm}
    if hasattr(attention, "q_norm"):
        norms |= {"query_norm": attention.q_norm, "key_norm": attention.k_norm}
    joined = {
        "qkv": [attention.q_proj, attention.k_proj, attention.v_proj],
        "output": [attention.o_proj],
        "gate_up": [mlp.gate_proj, mlp.up_proj],
        "down": [mlp.down_proj],
    }
    tensors = {f"{name}.{norm}": _floats(module.weight) for norm, module in norms.items()}
    for product, layers in joined.items():
        tensors |= _packed(f"{name}.{product}", layers, bits)
    return tensors


def _packed(name: str, layers: list[Any], bits: int) -> dict[str, Tensor]:
    """Linear layers of one input, one below the other, each weight rounded to the nearest step of its group."""
    weight = torch.cat([layer.weight.detach().float() for layer in layers])
    rows, columns = weight.shape
    # (blocks, 16 rows, groups, 32)
    grouped = weight.view(rows // LANES, LANES, columns // GROUP, GROUP)
    codes, numbers = _in_bytes(grouped) if bits == 8 else _in_halves(grouped)
    biases = [layer.bias.detach().float() for layer in layers if layer.bias is not None]
    return {
        f"{name}.codes": codes.view(*codes.shape[:-1], -1, 4).permute(0, 2, 3, 1, 4).contiguous(),
        f"{name}.scales": torch.stack(numbers, dim=2).permute(0, 3, 2, 1).contiguous(),
        f"{name}.bias": torch.cat(biases) if biases else torch.zeros(rows),
    }


def _in_bytes(grouped: Tensor) -> tuple[Tensor, list[Tensor]]:
    scales = (grouped.abs().amax(-1) / 127).half()
    codes = (grouped / _steps(scales)).round().clamp(-127, 127).add(128).to(torch.uint8)
    return codes, [scales]


def _in_halves(grouped: Tensor) -> tuple[Tensor, list[Tensor]]:
    least = (grouped.amin(-1) / -_ABOVE).half()
    scales = ((grouped.amax(-1) - grouped.amin(-1)) / 15).half()
    above = grouped + least.float()[..., None] * _ABOVE
    codes = (above / _steps(scales)).round().clamp(0, 15).to(torch.uint8)
    lower, upper = codes.chunk(2, dim=-1)
    return lower | upper << 4, [scales, least]


def _steps(scales: Tensor) -> Tensor:
    return scales.float().clamp_min(1e-12)[..., None]


def _floats(tensor: Tensor) -> Tensor:
    return tensor.detach().float().clone()
