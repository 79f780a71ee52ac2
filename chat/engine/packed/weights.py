"""Weights in 8 bits: whole numbers with one scale for 32 of them, laid out as the products read them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from chat.engine.packed.forward_pass import Shape, Weights
from chat.engine.packed.vectors import GROUP, LANES

_ALIGNED = 64


@dataclass(frozen=True)
class Product:
    """A linear layer. `codes`: bytes (blocks of 16 rows, groups, 8, 16, 4), each 128 above its value; `scales`: 16-bit
    floats (blocks, groups, 16); `bias`: (rows,)."""

    codes: NDArray[np.uint8]
    scales: NDArray[np.float16]
    bias: NDArray[np.float32]

    @property
    def addresses(self) -> tuple[int, int, int]:
        """Where it lies in memory."""
        return self.codes.ctypes.data, self.scales.ctypes.data, self.bias.ctypes.data


def aligned(shape: tuple[int, ...], kind: Any) -> NDArray[Any]:
    """Zeros that begin where a register's load is quickest."""
    size = int(np.prod(shape)) * np.dtype(kind).itemsize
    room = np.zeros(size + _ALIGNED, np.uint8)
    start = -room.ctypes.data % _ALIGNED
    return room[start : start + size].view(kind).reshape(shape)


def pack(weight: torch.Tensor, bias: torch.Tensor | None) -> Product:
    """Round a linear layer's weights, shape (rows, columns), to 8 bits: the nearest of 255 steps a group of 32."""
    rows, columns = weight.shape
    assert rows % LANES == 0 and columns % GROUP == 0, "is_packable has seen to it"
    grouped = weight.detach().float().view(rows, columns // GROUP, GROUP)
    scales = (grouped.abs().amax(-1) / 127).half()
    steps = scales.float().clamp_min(1e-12)[..., None]
    codes = (grouped / steps).round().clamp(-127, 127).add(128).to(torch.uint8)
    blocks = (rows // LANES, LANES, columns // GROUP)
    return Product(
        _kept(codes.view(*blocks, GROUP // 4, 4).permute(0, 2, 3, 1, 4)),
        _kept(scales.view(blocks).permute(0, 2, 1)),
        _kept(torch.zeros(rows) if bias is None else bias.detach().float()),
    )


def _kept(tensor: torch.Tensor) -> NDArray[Any]:
    values = tensor.numpy()
    room = aligned(values.shape, values.dtype)
    room[...] = values
    return room


@dataclass(frozen=True)
class PackedModel:
    """All of a model that a forward pass needs. `products` keeps the memory that `weights` has the addresses of."""

    shape: Shape
    embeddings: NDArray[np.float32]
    products: tuple[Product, ...]
    weights: Weights


def pack_model(model: Any, positions: int) -> PackedModel:
    """Pack a transformers model of the Llama family, with the rotations of so many positions."""
    config, inner = model.config, model.model
    size: int = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    products = tuple(product for layer in inner.layers for product in _products(layer))
    products = (*products, pack(model.lm_head.weight, None))
    norms = [[layer.input_layernorm.weight, layer.post_attention_layernorm.weight] for layer in inner.layers]
    attentions = [layer.self_attn for layer in inner.layers if hasattr(layer.self_attn, "q_norm")]
    head_norms = [[attention.q_norm.weight, attention.k_norm.weight] for attention in attentions]
    cos, sin = inner.rotary_emb(inner.embed_tokens.weight[:1].float(), torch.arange(positions)[None])
    weights = Weights(
        products=np.array([product.addresses for product in products], np.int64),
        norms=_stacked(norms),
        head_norms=_stacked(head_norms) if head_norms else np.zeros((0, 2, size), np.float32),
        last_norm=_floats(inner.norm.weight),
        cos=_floats(cos[0, :, : size // 2]),
        sin=_floats(sin[0, :, : size // 2]),
    )
    shape = Shape(
        heads=config.num_attention_heads,
        key_heads=config.num_key_value_heads,
        head_size=size,
        width=config.hidden_size,
        inner=config.intermediate_size,
        vocabulary=config.vocab_size,
        epsilon=config.rms_norm_eps,
    )
    return PackedModel(shape, _floats(inner.embed_tokens.weight), products, weights)


def _products(layer: Any) -> list[Product]:
    attention, mlp = layer.self_attn, layer.mlp
    return [
        _joined(attention.q_proj, attention.k_proj, attention.v_proj),
        _joined(attention.o_proj),
        _joined(mlp.gate_proj, mlp.up_proj),
        _joined(mlp.down_proj),
    ]


def _joined(*layers: Any) -> Product:
    """Linear layers of one input, one below the other."""
    biases = [layer.bias for layer in layers if layer.bias is not None]
    return pack(torch.cat([layer.weight for layer in layers]), torch.cat(biases) if biases else None)


def _stacked(rows: list[list[torch.Tensor]]) -> NDArray[np.float32]:
    return _floats(torch.stack([torch.stack(row) for row in rows]))


def _floats(tensor: torch.Tensor) -> NDArray[np.float32]:
    return np.ascontiguousarray(tensor.detach().float().numpy())
