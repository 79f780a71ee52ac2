"""Our own forward pass for the Llama family: what transformers computes, for one request and for several at once."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import pytest
import torch
from conftest import logits_of
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from chat.engine import Engine, PrefixCache, TokensChosen
from chat.engine.forward import forward_of
from chat.engine.llama import LlamaForward
from chat.llama_family import is_llama_like
from chat.types import Sampling
from chat.weights import LoadedModel, fingerprint

SHAPE: dict[str, Any] = {
    "vocab_size": 300,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    "initializer_range": 0.2,
}
ROPE_OF_LLAMA_3 = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 256,
}
MAKERS: dict[str, Callable[[], Any]] = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SHAPE)),
    "llama 3's positions": lambda: LlamaForCausalLM(LlamaConfig(**SHAPE, rope_parameters=ROPE_OF_LLAMA_3)),
    "llama with biases": lambda: LlamaForCausalLM(LlamaConfig(**SHAPE, attention_bias=True, mlp_bias=True)),
    "llama, heads of their own size": lambda: LlamaForCausalLM(LlamaConfig(**SHAPE, head_dim=16)),
    "mistral": lambda: MistralForCausalLM(MistralConfig(**SHAPE, sliding_window=None)),
    "qwen 2": lambda: Qwen2ForCausalLM(Qwen2Config(**SHAPE, tie_word_embeddings=True)),
    "qwen 3": lambda: Qwen3ForCausalLM(Qwen3Config(**SHAPE, head_dim=24)),
}


@pytest.fixture(params=MAKERS)
def model(request: pytest.FixtureRequest) -> Any:
    torch.manual_seed(5)
    model = MAKERS[request.param]().eval().requires_grad_(False)
    for name, parameter in model.named_parameters():
        if (
            name.endswith("bias") or "norm" in name
        ):  # which begin as zeros and ones, so that leaving them out would not show
            parameter.uniform_(0.5, 1.5)
    return model


def text(length: int, seed: int = 0) -> list[int]:
    return random.Random(seed).choices(range(SHAPE["vocab_size"]), k=length)


@torch.no_grad()
def by_transformers(model: Any, ids: Sequence[int]) -> torch.Tensor:
    logits: torch.Tensor = model(torch.tensor([ids])).logits[0]
    return logits


def close(ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    return torch.allclose(ours, theirs, atol=2e-4, rtol=1e-4)


def blocks(length: int) -> Iterator[tuple[int, int]]:
    start = 0
    while start < length:
        end = PrefixCache().end_of_reading(start, length)
        yield start, end
        start = end


def test_reading_in_blocks_and_step_by_step_gives_the_logits_of_transformers(model: Any) -> None:
    ids = text(900)
    expected = by_transformers(model, ids)
    forward = forward_of(model)
    assert isinstance(forward, LlamaForward)
    cache = forward.new_cache()
    for start, end in blocks(700):
        logits = logits_of(forward.read(ids[start:end], cache))
        assert close(logits, expected[end - 1])
    for place in range(700, 900):
        (odds,) = forward.step([[ids[place]]], [cache])
        logits = logits_of(*odds)
        assert close(logits, expected[place])
        assert logits.argmax() == expected[place].argmax()


def test_several_requests_of_different_lengths_take_a_step_together(model: Any) -> None:
    texts = [text(length, seed=length) for length in (3, 40, 600)]
    expected = [by_transformers(model, ids) for ids in texts]
    forward = forward_of(model)
    caches = [forward.new_cache() for _ in texts]
    for ids, cache in zip(texts, caches, strict=True):
        forward.read(ids[:-1], cache)
    together = forward.step([ids[-1:] for ids in texts], caches)
    assert all(close(logits_of(*ours), theirs[-1]) for ours, theirs in zip(together, expected, strict=True))
    assert [cache.length for cache in caches] == [len(ids) for ids in texts]


def test_in_bfloat16_it_is_no_further_from_the_exact_logits_than_transformers_is(model: Any) -> None:
    ids = text(300)
    exact = by_transformers(model, ids)
    rounded = model.to(torch.bfloat16)
    theirs = (by_transformers(rounded, ids)[200:].float() - exact[200:]).abs().mean()
    forward = forward_of(rounded)
    cache = forward.new_cache()
    forward.read(ids[:200], cache)
    steps = [forward.step([[token_id]], [cache])[0][0] for token_id in ids[200:]]
    assert (logits_of(*steps) - exact[200:]).abs().mean() < 1.5 * theirs


def test_the_weights_that_are_used_are_the_models_parameters(model: Any) -> None:
    before = fingerprint(model)
    bytes_before = sum(parameter.nbytes for parameter in model.parameters())
    first, second = forward_of(model), forward_of(model)
    assert fingerprint(model) == before
    assert sum(parameter.nbytes for parameter in model.parameters()) == bytes_before
    model.model.layers[1].self_attn.k_proj.weight.mul_(-1)
    model.model.layers[2].mlp.up_proj.weight.mul_(2)
    assert fingerprint(model) != before
    expected = by_transformers(model, text(20))[-1]
    for forward in (first, second):
        assert close(logits_of(forward.read(text(20), forward.new_cache())), expected)


def test_with_the_prefix_cache_every_bit_of_the_logits_is_the_same(model: Any) -> None:
    forward = forward_of(model)
    kept = PrefixCache()
    ids = text(500)

    def read(prefix_cache: PrefixCache) -> torch.Tensor:
        cache = forward.new_cache()
        prefix_cache.restore(ids, cache)
        for start, end in blocks(len(ids)):
            if end > cache.length:
                odds = forward.read(ids[start:end], cache)
        prefix_cache.keep(ids, cache)
        return logits_of(odds)

    first = read(kept)
    assert kept.nbytes > 0
    assert torch.equal(read(kept), first)
    assert torch.equal(read(PrefixCache(max_bytes=0)), first)


def test_a_model_whose_layers_slide_is_left_to_transformers() -> None:
    assert not is_llama_like(MistralForCausalLM(MistralConfig(**SHAPE, sliding_window=64)))
    assert not is_llama_like(
        Qwen2ForCausalLM(Qwen2Config(**SHAPE, use_sliding_window=True, sliding_window=64, max_window_layers=1))
    )


def test_a_quantized_or_mixed_model_is_left_to_transformers(model: Any) -> None:
    class Packed(torch.nn.Linear):
        pass

    assert is_llama_like(model)
    layer = model.model.layers[0]
    plain, layer.mlp.down_proj = layer.mlp.down_proj, Packed(80, 48, bias=False)
    assert not is_llama_like(model)
    layer.mlp.down_proj = plain
    layer.input_layernorm.to(torch.bfloat16)
    assert not is_llama_like(model)


def test_another_architecture_is_left_to_transformers(tiny_gemma: LoadedModel) -> None:
    assert not is_llama_like(tiny_gemma.model)


def test_requests_that_join_and_leave_a_batch_get_the_ids_that_each_gets_alone(model: Any) -> None:
    engine = Engine(model, frozenset(), PrefixCache(max_bytes=0))
    lengths = [(5, 30), (200, 3), (33, 17), (90, 1), (7, 40), (300, 12), (1, 25), (64, 9), (20, 20), (150, 5)]

    def ids_of(place: int) -> list[int]:
        length, tokens = lengths[place]
        how = {"temperature": 1.0, "seed": place} if place % 2 else {}
        events = engine.generate(tuple(text(length, seed=place)), Sampling(max_new_tokens=tokens, **how), Event(), "")
        return [token_id for event in events if isinstance(event, TokensChosen) for token_id in event.token_ids]

    alone = [ids_of(place) for place in range(len(lengths))]
    with ThreadPoolExecutor(len(lengths)) as pool:
        together = list(pool.map(ids_of, range(len(lengths))))
    engine.close()
    assert together == alone
