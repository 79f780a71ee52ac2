"""Which models are of the Llama family: what this app has forward passes of its own for."""

from __future__ import annotations

from typing import Any

from torch import nn

_ARCHITECTURES = {"LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM"}
# Frequencies that depend on the length of the prompt would have to be computed anew for each.
_LENGTH_DEPENDENT_ROPE = {"dynamic", "longrope"}


def is_llama_like(model: Any) -> bool:
    """Whether a forward pass of ours computes what this model's own forward pass does."""
    if type(model).__name__ not in _ARCHITECTURES:
        return False
    config = model.config
    # Qwen says layer by layer which of them slide; Mistral's all do where a window is named.
    kinds = getattr(config, "layer_types", None) or ()
    mistral_slides = config.model_type == "mistral" and config.sliding_window is not None
    rope = getattr(model.model.rotary_emb, "rope_type", "default")
    return (
        not mistral_slides
        and "sliding_attention" not in kinds
        and rope not in _LENGTH_DEPENDENT_ROPE
        and config.hidden_act == "silu"
        and _is_plain(model)
    )


def _is_plain(model: Any) -> bool:
    """Whether the products are plain linear layers: not quantized, all in one place and of one type."""
    products = [module for name, module in model.named_modules() if name.endswith(("_proj", "lm_head"))]
    kinds = {(parameter.device, parameter.dtype) for parameter in model.parameters()}
    return all(type(module) is nn.Linear for module in products) and len(kinds) == 1
