"""Round a model of the Llama family to 8 or 4 bits, for the packed forward pass.

What an adapter adds to a weight is mostly smaller than a step of 4 bits, and rounding would lose it. So there it can be
kept beside the weights instead of in them; the base model's own 4-bit blocks then come back as they were.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from chat.llama_family import is_llama_like
from chat.packed_model import GROUP, LANES, PackedModel, Shape

Pairs = Mapping[str, tuple[Tensor, Tensor]]
"""An adapter: by a linear layer's name, (rank, inputs) and (rows, rank). The second times the first is what it adds."""

_ABOVE = 128
_JOINED = {
    "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "output": ("self_attn.o_proj",),
    "gate_up": ("mlp.gate_proj", "mlp.up_proj"),
    "down": ("mlp.down_proj",),
}


def is_packable(model: Any) -> bool:
    """Whether this is a model of the Llama family whose rows and columns divide into blocks and groups."""
    if not is_llama_like(model):
        return False
    config = model.config
    heads, key_heads, size = _heads(config)
    rows = ((heads + 2 * key_heads) * size, config.hidden_size, config.intermediate_size, config.vocab_size, size)
    columns = (config.hidden_size, heads * size, config.intermediate_size)
    return all(count % LANES == 0 for count in rows) and all(count % GROUP == 0 for count in columns)


def pack_model(model: Any, bits: int = 8, adapter: Pairs | None = None) -> PackedModel:
    """Round a transformers model of the Llama family that `is_packable` to 8 bits, or 4.

    An adapter is one that was merged into the model: it is taken out again, and kept beside.
    """
    assert bits in (4, 8)
    config, inner = model.config, model.model
    heads, key_heads, size = _heads(config)
    tensors = {
        "embeddings": inner.embed_tokens.weight.detach().half(),
        "frequencies": inner.rotary_emb.inv_freq.detach().float().clone(),
        "last_norm": _floats(inner.norm.weight),
        **_packed("head", model.lm_head.weight.detach().float(), 8),
    }
    for place, layer in enumerate(inner.layers):
        of_layer = {name.removeprefix(f"model.layers.{place}."): pair for name, pair in (adapter or {}).items()}
        tensors |= _packed_layer(f"layers.{place}", layer, bits, of_layer)
    shape = Shape(
        layers=len(inner.layers),
        heads=heads,
        key_heads=key_heads,
        head_size=size,
        width=config.hidden_size,
        inner=config.intermediate_size,
        vocabulary=config.vocab_size,
        epsilon=config.rms_norm_eps,
        adapter_rank=tensors["layers.0.down.lora_b.codes"].shape[1] * GROUP if adapter else 0,
    )
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return PackedModel(shape, tensors, float(inner.rotary_emb.attention_scaling), parameters)


def _heads(config: Any) -> tuple[int, int, int]:
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return config.num_attention_heads, config.num_key_value_heads, size


def _packed_layer(name: str, layer: Any, bits: int, adapter: Pairs) -> dict[str, Tensor]:
    attention = layer.self_attn
    norms = {"before_attention": layer.input_layernorm, "before_mlp": layer.post_attention_layernorm}
    if hasattr(attention, "q_norm"):
        norms |= {"query_norm": attention.q_norm, "key_norm": attention.k_norm}
    tensors = {f"{name}.{norm}": _floats(module.weight) for norm, module in norms.items()}
    for product, joined in _JOINED.items():
        linear = [layer.get_submodule(one) for one in joined]
        pairs = [adapter[one] for one in joined] if adapter else []
        tensors |= _packed_product(f"{name}.{product}", linear, bits, pairs)
    return tensors


def _packed_product(
    name: str, linear: list[nn.Linear], bits: int, pairs: list[tuple[Tensor, Tensor]]
) -> dict[str, Tensor]:
    """Linear layers of one input, one below the other, and beside them what an adapter adds."""
    weights = [layer.weight.detach().float() for layer in linear]
    bias = torch.cat([torch.zeros(len(layer.weight)) if layer.bias is None else layer.bias for layer in linear])
    if not pairs:
        return _packed(name, torch.cat(weights), bits, bias)
    weights = [weight - up @ down for weight, (down, up) in zip(weights, pairs, strict=True)]
    missing = -len(pairs[0][0]) % GROUP
    a = torch.cat([nn.functional.pad(down, (0, 0, 0, missing)) for down, _ in pairs])
    b = torch.cat([nn.functional.pad(up, (0, missing)) for _, up in pairs])
    own = _packed(name, torch.cat(weights), bits, bias)
    return own | _packed(f"{name}.lora_a", a, 8) | _packed(f"{name}.lora_b", b, 8)


def _packed(name: str, weight: Tensor, bits: int, bias: Tensor | None = None) -> dict[str, Tensor]:
    """A matrix, each weight rounded to the nearest step of its group."""
    rows, columns = weight.shape
    # (blocks, 16 rows, groups, 32)
    grouped = weight.view(rows // LANES, LANES, columns // GROUP, GROUP)
    codes, numbers = _in_bytes(grouped) if bits == 8 else _in_halves(grouped)
    return {
        f"{name}.codes": codes.view(*codes.shape[:-1], -1, 4).permute(0, 2, 3, 1, 4).contiguous(),
        f"{name}.scales": torch.stack(numbers, dim=2).permute(0, 3, 2, 1).contiguous(),
        f"{name}.bias": torch.zeros(rows) if bias is None else _floats(bias),
    }


def _in_bytes(grouped: Tensor) -> tuple[Tensor, list[Tensor]]:
    scales = (grouped.abs().amax(-1) / 127).half()
    codes = (grouped / _steps(scales)).round().clamp(-127, 127).add(_ABOVE).to(torch.uint8)
    return codes, [scales]


def _in_halves(grouped: Tensor) -> tuple[Tensor, list[Tensor]]:
    least = grouped.amin(-1).half()
    scales = ((grouped.amax(-1) - grouped.amin(-1)) / 15).half()
    codes = ((grouped - least.float()[..., None]) / _steps(scales)).round().clamp(0, 15).to(torch.uint8)
    lower, upper = codes.chunk(2, dim=-1)
    return lower | upper << 4, [scales, least]


def _steps(scales: Tensor) -> Tensor:
    return scales.float().clamp_min(1e-12)[..., None]


def _floats(tensor: Tensor) -> Tensor:
    return tensor.detach().float().clone()
