"""A pass over conversations, forward and backward. A GPU is shown once what to do and repeats it by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from peft import PeftModel
from peft.helpers import disable_input_dtype_casting
from torch.nn.functional import cross_entropy, kl_div

from chat.processor import multiplies_brain_floats
from chat.tuning.examples import Batch, Shape

_TRIES_BEFORE = 3


def summed_loss(model: PeftModel, batch: Batch) -> torch.Tensor:
    """The summed cross-entropy of the learned tokens; for kept ones, how far they went from the base model.

    That distance is the Kullback-Leibler divergence from its probabilities to the adapted model's. To keep old
    abilities by the old model's own outputs is “learning without forgetting” (Li & Hoiem, 2016, arXiv:1606.09282).
    """
    logits = _logits(model, batch)
    loss = (cross_entropy(logits, batch.targets, reduction="none") * batch.learn).sum()
    if not batch.keeps:
        return loss
    with torch.no_grad(), model.disable_adapter():
        base = _logits(model, batch).log_softmax(-1)
    apart = kl_div(logits.log_softmax(-1), base, reduction="none", log_target=True).sum(-1)
    return loss + (apart * batch.keep).sum()


def _logits(model: PeftModel, batch: Batch) -> torch.Tensor:
    """Of shape (places, vocabulary), in fp32. No other places go through the vocabulary's layer."""
    base: Any = model.get_base_model()
    hidden = base.model(
        input_ids=batch.token_ids,
        attention_mask=batch.attention_mask(),
        position_ids=batch.positions,
        use_cache=False,
    ).last_hidden_state
    logits: torch.Tensor = base.lm_head(hidden.flatten(0, 1).index_select(0, batch.places))
    return logits.float()


class Passes:
    """Adds the gradients of batches to the parameters'.

    Where that is quicker, what passes through is in 16 bits; the adapter's own numbers stay in 32.
    """

    def __init__(self, model: PeftModel, device: str) -> None:
        self._model = model
        self._device = device
        self._in_16_bits = device == "cuda" or multiplies_brain_floats()
        self._share, self._loss = (torch.zeros((), device=device) for _ in range(2))

    def __call__(self, batches: Sequence[Batch]) -> float:
        """Read the batches of one step; the mean loss of their learned tokens."""
        self._loss.zero_()
        self._share.fill_(1 / sum(batch.learned_tokens for batch in batches))
        for batch in batches:
            self._read(batch)
        return self._loss.item()

    def _read(self, batch: Batch) -> None:
        self._learn(batch.to(self._device))

    def _learn(self, batch: Batch) -> None:
        short = self._in_16_bits
        with (
            torch.autocast(self._device, torch.bfloat16, enabled=short),
            disable_input_dtype_casting(self._model, active=short),
        ):
            loss = summed_loss(self._model, batch) * self._share
            torch.autograd.backward(loss)
        self._loss += loss.detach()


class PassesOfAGpu(Passes):
    """The same on a GPU, which computes quicker than Python can tell it what.

    What a batch takes that is filled up to its shape is captured once, with kept tokens and without, and replayed from
    then on (“CUDA Graphs”, PyTorch's notes on CUDA). A larger batch is read without.
    """

    def __init__(self, model: PeftModel, shapes: Mapping[bool, Shape]) -> None:
        super().__init__(model, "cuda")
        self._shapes = shapes
        self._captured: dict[bool, Callable[[Batch], None]] = {}

    def _read(self, batch: Batch) -> None:
        padded = batch.padded(self._shapes[batch.keeps])
        if padded is None:
            super()._read(batch)
            return
        if batch.keeps not in self._captured:
            self._captured[batch.keeps] = self._capture(padded.to("cuda"))
        self._captured[batch.keeps](padded)

    def _capture(self, held: Batch) -> Callable[[Batch], None]:
        parameters = [parameter for parameter in self._model.parameters() if parameter.requires_grad]
        for parameter in parameters:
            parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        kept = [parameter.grad.clone() for parameter in parameters if parameter.grad is not None]
        loss = self._loss.clone()
        beside: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            for _ in range(_TRIES_BEFORE):
                self._learn(held)
        torch.cuda.current_stream().wait_stream(beside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._learn(held)
        for parameter, gradient in zip(parameters, kept, strict=True):
            assert parameter.grad is not None
            parameter.grad.copy_(gradient)
        self._loss.copy_(loss)

        def replay(batch: Batch) -> None:
            for name, tensor in batch.tensors().items():
                getattr(held, name).copy_(tensor)
            graph.replay()

        return replay
