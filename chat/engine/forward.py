"""What the engine asks of a model: read some tokens, take one step for several requests. Two ways to do it.

Models of the Llama family run through a forward pass of ours (`llama.py`), every other architecture through
transformers' own (`transformers_forward.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch

from chat.engine.llama import LlamaForward, is_llama_like
from chat.engine.transformers_forward import TransformersForward


class KVCache(Protocol):
    """The keys and values of one request's tokens so far."""

    length: int

    @property
    def nbytes(self) -> int:
        """The bytes of the keys and values of `length` tokens."""

    def cut(self, start: int, end: int) -> tuple[torch.Tensor, ...]:
        """A copy of the keys and values of some tokens."""

    def extend(self, block: tuple[torch.Tensor, ...]) -> None:
        """Append what `cut` gave of another cache."""


class Forward(Protocol):
    """A model as the engine sees it. Logits have the shape (vocabulary,)."""

    batched: bool
    """Whether a step for several requests costs less than their steps one by one."""

    def new_cache(self) -> Any:
        """An empty cache for one request."""

    def read(self, token_ids: Sequence[int], cache: Any) -> torch.Tensor:
        """Read some tokens of one request on top of its cache; the logits that follow the last of them."""

    def step(self, token_ids: Sequence[int], caches: Sequence[Any]) -> Sequence[torch.Tensor]:
        """Read one token of each of several requests on top of its own cache; the logits that follow each.

        Where steps are `batched` and one raises, every cache is as it was, so that each request can be tried alone.
        """


def forward_of(model: Any) -> Forward:
    """The quickest way to run this model that is right for it."""
    return LlamaForward(model) if is_llama_like(model) else TransformersForward(model)
