"""The choice of the next token from the model's logits."""

from __future__ import annotations

import torch

from chat.types import Sampling


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
    # In double, and down from the likeliest: no temperature is too small for it.
    logits = logits.double().cpu()
    scaled, ids = ((logits - logits.max()) / sampling.temperature).sort(descending=True, stable=True)
    if sampling.top_k:
        scaled, ids = scaled[: sampling.top_k], ids[: sampling.top_k]
    probabilities = scaled.softmax(dim=-1)
    if sampling.top_p < 1:
        before = probabilities.cumsum(dim=-1) - probabilities
        probabilities = probabilities * (before < sampling.top_p)
    drawn = torch.multinomial(probabilities, num_samples=1, generator=generator)
    return int(ids[drawn])
