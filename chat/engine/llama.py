"""A lean forward pass for models of the Llama family: the same arithmetic as transformers', with less around it.

A layer is two products before attention's own and two behind it: queries, keys and values in one, gate and up in one.
The weights are those of the transformers model, moved together in memory so that its parameters are views of them: the
fingerprint, taken over the parameters, covers every product here. (The rotations of the positions are computed from the
model's frequencies, which are in the fingerprint too.)
(Touvron et al. 2023, arXiv:2302.13971; grouped-query attention: Ainslie et al. 2023, arXiv:2305.13245; rotary
positions: Su et al. 2021, arXiv:2104.09864.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, rms_norm, scaled_dot_product_attention, silu

from chat.engine.odds import Odds

_FIRST_CAPACITY = 512


class LlamaCache:
    """Keys and values of one request: shape (layers, 2, key heads, capacity, head size), filled up to `length`."""

    def __init__(self, layers: int, key_heads: int, head_size: int, like: Tensor) -> None:
        self._shape = (layers, 2, key_heads, head_size)
        self.held = like.new_empty(0)
        self.length = 0
        self._capacity = 0

    @property
    def nbytes(self) -> int:
        """The bytes of the keys and values of `length` tokens; what is kept free for more is not counted."""
        layers, both, key_heads, head_size = self._shape
        return layers * both * key_heads * head_size * self.length * self.held.element_size()

    def make_room(self, tokens: int) -> None:
        """See to it that so many more tokens fit."""
        needed = self.length + tokens
        if needed <= self._capacity:
            return
        layers, both, key_heads, head_size = self._shape
        capacity = max(_FIRST_CAPACITY, 2 * self._capacity, needed)
        larger = self.held.new_empty((layers, both, key_heads, capacity, head_size))
        if self.length:
            larger[..., : self.length, :] = self.held[..., : self.length, :]
        self.held, self._capacity = larger, capacity

    @torch.inference_mode()
    def cut(self, start: int, end: int) -> tuple[Tensor, ...]:
        """A copy of the keys and values of some tokens."""
        return (self.held[..., start:end, :].clone(),)

    @torch.inference_mode()
    def extend(self, block: tuple[Tensor, ...]) -> None:
        """Append keys and values that `cut` gave."""
        (part,) = block
        tokens = part.shape[-2]
        self.make_room(tokens)
        self.held[..., self.length : self.length + tokens, :] = part
        self.length += tokens


@dataclass(frozen=True)
class _Layer:
    """One layer's weights. `query_norm` and `key_norm` are None where the architecture has none."""

    before_attention: Tensor
    qkv: Tensor
    qkv_bias: Tensor | None
    query_norm: Tensor | None
    key_norm: Tensor | None
    output: Tensor
    output_bias: Tensor | None
    before_mlp: Tensor
    gate_up: Tensor
    gate_up_bias: Tensor | None
    down: Tensor
    down_bias: Tensor | None


class LlamaForward:
    """The forward pass of a Llama, Mistral, Qwen 2 or Qwen 3 model, for one request or for several at once."""

    batched = True
    exact = False

    def __init__(self, model: Any) -> None:
        config, inner = model.config, model.model
        self._heads: int = config.num_attention_heads
        self._key_heads: int = config.num_key_value_heads
        self._head_size: int = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self._eps: float = config.rms_norm_eps
        self._embeddings: Tensor = inner.embed_tokens.weight
        self._layers = [_layer(layer) for layer in inner.layers]
        self._last_norm: Tensor = inner.norm.weight
        self._head: Tensor = model.lm_head.weight
        self._rotary = inner.rotary_emb
        self._cos, self._sin = self._positions(_FIRST_CAPACITY)

    def new_cache(self) -> LlamaCache:
        """An empty cache for one request."""
        return LlamaCache(len(self._layers), self._key_heads, self._head_size, self._embeddings)

    @torch.inference_mode()
    def read(self, token_ids: Sequence[int], cache: LlamaCache) -> Odds:
        """Read some tokens of one request; the odds of what follows the last of them."""
        tokens = len(token_ids)
        cache.make_room(tokens)
        start, end = cache.length, cache.length + tokens
        self._reach(end)
        cos, sin = self._cos[start:end], self._sin[start:end]
        seen = None
        if start and tokens > 1:
            seen = torch.ones(tokens, end, dtype=torch.bool, device=cos.device).tril(start)

        def attend(place: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
            held = cache.held[place]
            held[0, :, start:end] = keys.transpose(0, 1)
            held[1, :, start:end] = values.transpose(0, 1)
            return scaled_dot_product_attention(
                queries.transpose(0, 1)[None],
                held[None, 0, :, :end],
                held[None, 1, :, :end],
                attn_mask=seen,
                is_causal=not start and tokens > 1,
                enable_gqa=self._heads != self._key_heads,
            )[0].transpose(0, 1)

        (logits,) = self._logits(self._through_layers(token_ids, cos, sin, attend)[-1:])
        cache.length = end
        return Odds.of(logits)

    @torch.inference_mode()
    def step(self, ahead: Sequence[Sequence[int]], caches: Sequence[LlamaCache]) -> Sequence[Sequence[Odds]]:
        """Read one token of each request; the odds of what follows each."""
        token_ids = [token_id for (token_id,) in ahead]
        for cache in caches:
            cache.make_room(1)
        places = [cache.length for cache in caches]
        self._reach(max(places) + 1)

        def attend(place: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
            attended = torch.empty_like(queries)
            for row, cache in enumerate(caches):
                end = places[row] + 1
                held = cache.held[place]
                held[0, :, end - 1] = keys[row]
                held[1, :, end - 1] = values[row]
                attended[row] = self._attend_alone(queries[row], held[0, :, :end], held[1, :, :end])
            return attended

        logits = self._logits(self._through_layers(token_ids, self._cos[places], self._sin[places], attend))
        for cache in caches:
            cache.length += 1
        return [[Odds.of(of_one)] for of_one in logits]

    def _attend_alone(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """One token's attention: queries (heads, head size) on keys and values (key heads, tokens, head size)."""
        if queries.dtype != torch.float32:
            # Which keeps the scores in 32 bits; the plain products would round them.
            attended = scaled_dot_product_attention(
                queries[None, :, None], keys[None], values[None], enable_gqa=self._heads != self._key_heads
            )
            return attended[0, :, 0]
        grouped = queries.view(self._key_heads, -1, self._head_size)
        weights = torch.bmm(grouped * self._head_size**-0.5, keys.mT).softmax(dim=-1)
        return torch.bmm(weights, values).view(self._heads, self._head_size)

    def _through_layers(self, token_ids: Sequence[int], cos: Tensor, sin: Tensor, attend: Any) -> Tensor:
        """Hidden states, shape (tokens, width), behind the last layer."""
        heads, key_heads, size = self._heads, self._key_heads, self._head_size
        hidden = self._embeddings[torch.tensor(token_ids, device=self._embeddings.device)]
        width = hidden.shape[-1:]
        for place, layer in enumerate(self._layers):
            before = rms_norm(hidden, width, layer.before_attention, self._eps)
            qkv = linear(before, layer.qkv, layer.qkv_bias).view(-1, heads + 2 * key_heads, size)
            turned, values = qkv[:, : heads + key_heads], qkv[:, heads + key_heads :]
            if layer.query_norm is not None and layer.key_norm is not None:
                queries = rms_norm(turned[:, :heads], (size,), layer.query_norm, self._eps)
                keys = rms_norm(turned[:, heads:], (size,), layer.key_norm, self._eps)
                turned = torch.cat((queries, keys), dim=1)
            turned = torch.addcmul(turned * cos, turned.roll(size // 2, dims=-1), sin)
            attended = attend(place, turned[:, :heads], turned[:, heads:], values)
            hidden = hidden + linear(attended.reshape(-1, heads * size), layer.output, layer.output_bias)
            before = rms_norm(hidden, width, layer.before_mlp, self._eps)
            gate, up = linear(before, layer.gate_up, layer.gate_up_bias).chunk(2, dim=-1)
            hidden = hidden + linear(silu(gate) * up, layer.down, layer.down_bias)
        return hidden

    def _logits(self, hidden: Tensor) -> Tensor:
        return linear(rms_norm(hidden, hidden.shape[-1:], self._last_norm, self._eps), self._head)

    def _reach(self, end: int) -> None:
        """Have the rotations of all positions before `end`."""
        if end > self._cos.shape[0]:
            self._cos, self._sin = self._positions(2 * end)

    @torch.inference_mode()
    def _positions(self, count: int) -> tuple[Tensor, Tensor]:
        """Cosine and sine of each position, shape (positions, 1, head size).

        A head's halves turn about each other: (a, b) becomes (a cos - b sin, b cos + a sin). The halves are swapped by
        rolling, so the first half of the sines has its sign turned.
        """
        ids = torch.arange(count, device=self._embeddings.device)[None]
        cos, sin = self._rotary(self._embeddings[:1], ids)
        half = self._head_size // 2
        signed = torch.cat((-sin[0, :, :half], sin[0, :, half:]), dim=-1)
        return cos[0][:, None], signed[:, None]


def _layer(layer: Any) -> _Layer:
    attention, mlp = layer.self_attn, layer.mlp
    query_norm, key_norm = getattr(attention, "q_norm", None), getattr(attention, "k_norm", None)
    qkv, qkv_bias = _joined(attention.q_proj, attention.k_proj, attention.v_proj)
    gate_up, gate_up_bias = _joined(mlp.gate_proj, mlp.up_proj)
    return _Layer(
        before_attention=layer.input_layernorm.weight,
        qkv=qkv,
        qkv_bias=qkv_bias,
        query_norm=None if query_norm is None else query_norm.weight,
        key_norm=None if key_norm is None else key_norm.weight,
        output=attention.o_proj.weight,
        output_bias=attention.o_proj.bias,
        before_mlp=layer.post_attention_layernorm.weight,
        gate_up=gate_up,
        gate_up_bias=gate_up_bias,
        down=mlp.down_proj.weight,
        down_bias=mlp.down_proj.bias,
    )


def _joined(*layers: nn.Linear) -> tuple[Tensor, Tensor | None]:
    """The weights of several linear layers of one input in one piece of memory, of which theirs become views."""
    with torch.no_grad():
        weight = _in_one([layer.weight for layer in layers])
        biases = [layer.bias for layer in layers if layer.bias is not None]
        assert len(biases) in (0, len(layers)), "the layers of one input have a bias together or not at all"
        return weight, _in_one(biases) if biases else None


def _in_one(parameters: Sequence[Tensor]) -> Tensor:
    """The parameters one below the other, as one tensor that shares their memory; they are moved if they must be."""
    rows = [parameter.shape[0] for parameter in parameters]
    first = parameters[0].data
    shape = (sum(rows), *first.shape[1:])
    if _adjacent(parameters):
        return first.as_strided(shape, first.stride())
    whole = torch.cat([parameter.data for parameter in parameters])
    for parameter, part in zip(parameters, torch.split(whole, rows), strict=True):
        parameter.data = part
    return whole


def _adjacent(parameters: Sequence[Tensor]) -> bool:
    ends = [parameter.data_ptr() + parameter.nbytes for parameter in parameters]
    begins = [parameter.data_ptr() for parameter in parameters]
    one_storage = len({parameter.untyped_storage().data_ptr() for parameter in parameters}) == 1
    return one_storage and begins[1:] == ends[:-1] and all(parameter.is_contiguous() for parameter in parameters)
