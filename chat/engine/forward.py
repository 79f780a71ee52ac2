"""What the engine asks of a model: read some tokens, take one step for several requests. Three ways to do it.

Packed models run through compiled code (`packed`), other models of the Llama family through a forward pass of ours on
torch (`llama.py`), every other architecture through transformers' own (`transformers_forward.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch

from chat.engine.llama import LlamaForward
from chat.engine.odds import Odds
from chat.engine.packed.packed_forward import PackedForward
from chat.llama_family import is_llama_like
from chat.packed_model import PackedModel


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
    """A model as the engine sees it."""

    batched: bool
    """Whether a step for several requests costs less than their steps one by one."""
    exact: bool
    """Whether a token's odds are the same bit for bit, with whatever others it is read. If so, a step reads ahead."""

    def new_cache(self) -> Any:
        """An empty cache for one request."""

    def read(self, token_ids: Sequence[int], cache: Any) -> Odds:
        """Read some tokens of one request on top of its cache; the odds of what follows the last."""

    def step(self, ahead: Sequence[Sequence[int]], caches: Sequence[Any]) -> Sequence[Sequence[Odds]]:
        """Read the next tokens of several requests, each on top of its own cache; the odds of what follows each token.

        A forward pass that is not `exact` is asked for one token of each. Where steps are `batched` and one raises,
        every cache is as it was, so that each request can be tried alone.
        """


def forward_of(model: Any) -> Forward:
    """The quickest way to run this model that is right for it."""
    if isinstance(model, PackedModel):
        return PackedForward(model, torch.get_num_threads())
    if is_llama_like(model):
        return LlamaForward(model)
    # Imported only here: transformers' models take a second to import, and a packed model needs none of them.
    from chat.engine.transformers_forward import TransformersForward

    return TransformersForward(model)
