"""What a model must be for this app: a causal chat model, without hidden state, with a template and a fast tokenizer.

Each check raises WeightsError with a sentence that quotes the model's name and says why it is not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from transformers import PreTrainedConfig
from transformers.tokenization_utils_tokenizers import TokenizersBackend

from chat.errors import WeightsError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_ANSWERS_WITH_TEXT = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
# These stretch their rotary frequencies when a prompt grows past a length: the buffers would move between turns.
_MOVING_ROPE = {"dynamic": "max_position_embeddings", "longrope": "original_max_position_embeddings"}


def check_config(name: str, config: PreTrainedConfig) -> None:
    """Refuse, before any weight is read, what is not a causal language model or keeps a state of its own."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

    model_class: Any = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    architectures = tuple(getattr(config, "architectures", None) or ())
    answers = not architectures or any(each.endswith(_ANSWERS_WITH_TEXT) for each in architectures)
    if model_class is None or not answers or config.is_encoder_decoder:
        kind = architectures[0] if architectures else config.model_type
        raise WeightsError(
            f"“{name}” is a {kind}, not a causal language model, so it cannot continue a prompt. "
            "Choose a decoder-only chat model."
        )
    if model_class._is_stateful or _keeps_recurrent_state(config):
        raise WeightsError(
            f"“{name}” is a recurrent model: it carries a running state beside the prompt, which no receipt could "
            "show. Choose a model with attention in every layer."
        )


def _keeps_recurrent_state(config: PreTrainedConfig) -> bool:
    from transformers import DynamicCache
    from transformers.cache_utils import LinearAttentionCacheLayerMixin

    return any(isinstance(layer, LinearAttentionCacheLayerMixin) for layer in DynamicCache(config=config).layers)


def check_tokenizer(name: str, tokenizer: object) -> TokenizersBackend:
    """Refuse a tokenizer that cannot tell where each token came from, and one without a chat template."""
    if not isinstance(tokenizer, TokenizersBackend):
        raise WeightsError(
            f"“{name}” has only a slow tokenizer ({type(tokenizer).__name__}), which cannot say which characters a "
            "token came from. Choose a model with a tokenizer.json."
        )
    try:
        tokenizer.get_chat_template()
    except ValueError as error:
        raise WeightsError(
            f"“{name}” has no chat template, so it is a base model: it continues text and was never taught turns. "
            "Choose its chat version, often called “Instruct” or “it”."
        ) from error
    return tokenizer


@dataclass(frozen=True)
class ContextLimits:
    """How many tokens a model was trained for, and past how many its position frequencies change, where they do."""

    own: int | None
    fixed: int | None


def context_limits(config: PreTrainedConfig) -> ContextLimits:
    """What a configuration says of the context window."""
    text = config.get_text_config(decoder=True)
    return ContextLimits(getattr(text, "max_position_embeddings", None), _window_of_fixed_positions(text))


def usable_context_window(name: str, limits: ContextLimits, wanted: int | None) -> int:
    """The context window to use: the wanted one if the model was trained that far, else the model's own."""
    own, fixed = limits.own, limits.fixed
    window = wanted or own
    if not window:
        raise WeightsError(f"“{name}” does not say how long its context window is. Give it with --context-window.")
    if own and window > own:
        raise WeightsError(
            f"A context window of {window:,} tokens is more than “{name}” was trained for. It can be at most {own:,}."
        )
    if fixed is not None and window > fixed:
        raise WeightsError(
            f"“{name}” changes its position frequencies when a prompt grows past {fixed:,} tokens, so its buffers "
            f"would not stay as they are. Start it with --context-window {fixed}."
        )
    return int(window)


def _window_of_fixed_positions(config: PreTrainedConfig) -> int | None:
    rope: dict[str, Any] = getattr(config, "rope_parameters", None) or {}
    layers = [rope, *(value for value in rope.values() if isinstance(value, dict))]
    limits = [
        layer.get("original_max_position_embeddings") or getattr(config, _MOVING_ROPE[layer["rope_type"]])
        for layer in layers
        if layer.get("rope_type") in _MOVING_ROPE
    ]
    return min(limits, default=None)


def check_weights(name: str, model: PreTrainedModel, tokenizer: TokenizersBackend) -> None:
    """Refuse a model whose embedding has no row for some token of its tokenizer: it would fail in mid-sentence."""
    embedding: Any = model.get_input_embeddings()
    rows, tokens = embedding.weight.shape[0], len(tokenizer)
    if tokens > rows:
        raise WeightsError(
            f"The tokenizer of “{name}” knows {tokens:,} tokens and its weights only {rows:,}: they do not belong "
            "together. Copy or download the model again."
        )
