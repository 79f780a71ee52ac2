"""The choice of the next token from the model's logits."""

from __future__ import annotations

import torch

from chat.types import Sampling

_FEW = 512


def make_generator(sampling: Sampling) -> torch.Generator:
    """A source of chance that belongs to one request alone, so that nobody else's request changes its draws."""
    return torch.Generator(device="cpu").manual_seed(sampling.seed)


def choose_token(logits: torch.Tensor, sampling: Sampling, generator: torch.Generator) -> int:
    """Choose a token id from logits of shape (vocabulary,).

    Temperature 0 takes the likeliest. Otherwise the logits are divided by the temperature, cut to the `top_k`
    likeliest, cut to the smallest set whose probability reaches `top_p` (nucleus sampling, Holtzman et al. 2020,
    arXiv:1904.09751), and drawn from.
    """
    if sampling.temperature == 0:
        return int(logits.argmax())
    # In double: no temperature is too small for it.
    logits = logits.double().cpu()
    probabilities = ((logits - logits.max()) / sampling.temperature).softmax(dim=-1)
    if not sampling.top_k and sampling.top_p >= 1:
        return _draw(probabilities, generator)
    likeliest, ids = _likeliest(probabilities, sampling)
    before = likeliest.cumsum(dim=-1) - likeliest
    return int(ids[_draw(likeliest * (before < sampling.top_p * likeliest.sum()), generator)])


def _likeliest(probabilities: torch.Tensor, sampling: Sampling) -> tuple[torch.Tensor, torch.Tensor]:
    """At least all tokens that may be drawn, down from the likeliest; mostly a few hundred hold what is asked for."""
    size = len(probabilities)
    few = min(sampling.top_k or _FEW, size)
    likeliest, ids = probabilities.topk(few)
    if sampling.top_k or float(likeliest.sum()) >= sampling.top_p:
        return likeliest, ids
    return probabilities.topk(size)


def _draw(weights: torch.Tensor, generator: torch.Generator) -> int:
    """A place, drawn in proportion to the weights, by one number from the source of chance.

    Raises ValueError for weights that are no numbers.
    """
    reached = weights.cumsum(dim=-1)
    if not torch.isfinite(reached[-1]):
        raise ValueError("its logits are not numbers")
    point = torch.rand(1, generator=generator, dtype=torch.float64) * reached[-1]
    return int(torch.searchsorted(reached, point, right=True).clamp(max=len(weights) - 1))
