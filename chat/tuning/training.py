"""The training loop: LoRA (Hu et al., 2021, arXiv:2106.09685) on every linear layer, loss on the replies only.

It stops and goes on: each checkpoint holds the adapter and the optimizer, and a conversation is made from its number,
so a run that was interrupted goes on with the very conversations that it would have seen.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from time import monotonic
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors.torch import save_file
from torch.nn.functional import cross_entropy, kl_div
from transformers import PreTrainedModel

from chat.errors import ConfigError
from chat.tuning.examples import Batch, Example, batches_of
from chat.tuning.recipe import LOSSES, Progressed, Recipe

CHECKPOINT_EVERY = 20
UNSEEN_EVERY = 40
# Conversations from here on are never trained on; their loss shows whether the model learns or learns by heart.
FIRST_UNSEEN = 1_000_000_000
_UNSEEN = 32
_BASE = "HuggingFaceTB/SmolLM2-135M-Instruct"


def train(
    model: PreTrainedModel, example: Callable[[int], Example], filler: int, recipe: Recipe, folder: Path
) -> PeftModel:
    """Train an adapter on `example(0)`, `example(1)`, …; go on from the folder's checkpoint if there is one.

    Writes `loss.jsonl` (one line a step), `checkpoint.pt` and, at the end, `adapter/` in peft's format in bf16. It is
    the mean of what the adapter was at the end of each cycle, in which each counts as much as all before it, and
    forgets less of what the model knew than the last one (after stochastic weight averaging: Izmailov et al., 2018,
    arXiv:1803.05407; measured in tests/bench/LOG.md, 2026-11-23).
    """
    torch.manual_seed(recipe.seed)
    run = _Run(model, example, filler, recipe, folder)
    with _progress() as bar:
        task = bar.add_task("Training", total=recipe.steps, completed=run.step, loss="…")
        while run.step < recipe.steps:
            done = run.advance()
            bar.update(task, completed=run.step, loss=f"{done.loss:.3f}")
    run.settle()
    save_adapter(run.model, folder / "adapter")
    return run.model


def save_adapter(model: PeftModel, folder: Path) -> None:
    """Write the adapter in peft's format, its numbers in bf16."""
    config = model.peft_config["default"]
    config.base_model_name_or_path, config.inference_mode = _BASE, True
    config.save_pretrained(str(folder))
    state = {name: tensor.detach().to("cpu", torch.bfloat16).contiguous() for name, tensor in _adapter(model).items()}
    save_file(state, folder / "adapter_model.safetensors", metadata={"format": "pt"})


def _adapter(model: PeftModel) -> dict[str, torch.Tensor]:
    """The adapter's tensors under the names that peft writes."""
    return {
        name.replace(".default.", "."): parameter
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }


class _Run:
    """A training run, from its checkpoint on."""

    def __init__(
        self, model: PreTrainedModel, example: Callable[[int], Example], filler: int, recipe: Recipe, folder: Path
    ) -> None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        config = LoraConfig(r=recipe.rank, lora_alpha=recipe.alpha, target_modules="all-linear", task_type="CAUSAL_LM")
        self.model = _with_adapter(model, device, config)
        self.step = 0
        self._ends: list[dict[str, torch.Tensor]] = []
        self._example = example
        self._filler = filler
        self._recipe = recipe
        self._folder = folder
        self._device = device
        self._optimizer = torch.optim.AdamW(_adapter(self.model).values(), weight_decay=0.0)
        self._unseen = [example(FIRST_UNSEEN + place) for place in range(_UNSEEN)]
        self._resume()

    def advance(self) -> Progressed:
        """Take one optimizer step."""
        began = monotonic()
        first = self.step * self._recipe.conversations_per_step
        examples = [self._example(first + place) for place in range(self._recipe.conversations_per_step)]
        learned = sum(sum(example.learned) for example in examples)
        loss = 0.0
        for batch in self._batches(examples):
            part = self._loss(batch) / learned
            torch.autograd.backward(part)
            loss += part.item()
        torch.nn.utils.clip_grad_norm_(_adapter(self.model).values(), 1.0)
        for group in self._optimizer.param_groups:
            group["lr"] = self._recipe.learning_rate_at(self.step)
        self._optimizer.step()
        self._optimizer.zero_grad()
        self.step += 1
        if self.step in self._recipe.ends:
            self._ends.append(self._state())
        tokens = sum(len(example.token_ids) for example in examples)
        seconds = monotonic() - began
        done = Progressed(self.step, loss, tokens, learned, seconds, self._unseen_loss())
        self._keep(done)
        return done

    def settle(self) -> None:
        """Take the mean of what the adapter was at the end of each cycle, each counting as much as all before it."""
        for name, tensor in _adapter(self.model).items():
            mean, *others = (end[name] for end in self._ends)
            for end in others:
                mean = (mean + end) / 2
            tensor.data.copy_(mean)

    def _state(self) -> dict[str, torch.Tensor]:
        return {name: tensor.detach().clone() for name, tensor in _adapter(self.model).items()}

    def _batches(self, examples: Sequence[Example]) -> Iterator[Batch]:
        return batches_of(examples, self._recipe.most_tokens_at_once, self._filler)

    def _loss(self, batch: Batch) -> torch.Tensor:
        """The summed cross-entropy of the learned tokens; for kept ones, how far they went from the base model.

        That distance is the Kullback-Leibler divergence from its probabilities to the adapted model's. To keep old
        abilities by the old model's own outputs is “learning without forgetting” (Li & Hoiem, 2016, arXiv:1606.09282).
        """
        ids = batch.token_ids.to(self._device)
        learned = batch.learned[:, 1:].to(self._device)
        kept = batch.kept[:, 1:].to(self._device)
        logits = self._logits(batch, learned)
        losses = cross_entropy(logits, ids[:, 1:][learned], reduction="none")
        if kept.any():
            with torch.no_grad(), self.model.disable_adapter():
                before = self._logits(batch, learned).log_softmax(-1)
            distance = kl_div(logits.log_softmax(-1), before, reduction="none", log_target=True).sum(-1)
            losses = torch.where(kept[learned], distance, losses)
        return losses.sum()

    def _logits(self, batch: Batch, places: torch.Tensor) -> torch.Tensor:
        """Of shape (places, vocabulary), in fp32. No others go through the vocabulary's layer."""
        base: Any = self.model.get_base_model()
        with self._precision():
            hidden = base.model(
                input_ids=batch.token_ids.to(self._device),
                attention_mask=batch.present.to(self._device),
                use_cache=False,
            ).last_hidden_state
            logits: torch.Tensor = base.lm_head(hidden[:, :-1][places])
        return logits.float()

    def _precision(self) -> AbstractContextManager[Any]:
        return torch.autocast("cuda", torch.bfloat16) if self._device == "cuda" else nullcontext()

    @torch.no_grad()
    def _unseen_loss(self) -> float | None:
        if self.step % UNSEEN_EVERY and self.step not in (1, self._recipe.steps):
            return None
        learned = sum(sum(example.learned) for example in self._unseen)
        return sum(self._loss(batch).item() for batch in self._batches(self._unseen)) / learned

    def _keep(self, done: Progressed) -> None:
        with (self._folder / LOSSES).open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(done)) + "\n")
        if self.step % CHECKPOINT_EVERY == 0 or self.step == self._recipe.steps:
            state = {
                "step": self.step,
                "recipe": asdict(self._recipe),
                "adapter": self._state(),
                "ends": self._ends,
                "optimizer": self._optimizer.state_dict(),
            }
            fresh = self._folder / "checkpoint.new"
            torch.save(state, fresh)
            fresh.replace(self._folder / "checkpoint.pt")

    def _resume(self) -> None:
        checkpoint = self._folder / "checkpoint.pt"
        losses = self._folder / LOSSES
        if checkpoint.exists():
            state = torch.load(checkpoint, map_location=self._device, weights_only=True)
            if not Recipe.from_dict(state["recipe"]).goes_on_as(self._recipe, state["step"]):
                raise RecipeChanged(self._folder)
            for name, tensor in _adapter(self.model).items():
                tensor.data.copy_(state["adapter"][name])
            self._optimizer.load_state_dict(state["optimizer"])
            self.step, self._ends = state["step"], state["ends"]
        # Steps behind the checkpoint are taken again, so their lines go.
        kept = losses.read_text("utf-8").splitlines()[: self.step] if losses.exists() else []
        losses.write_text("".join(line + "\n" for line in kept), "utf-8")


def _with_adapter(model: Any, device: str, config: LoraConfig) -> PeftModel:
    with warnings.catch_warnings():
        # peft asks transformers for a property by its old name.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        with_adapter = get_peft_model(model.to(device), config)
    assert isinstance(with_adapter, PeftModel)
    return with_adapter.train()


class RecipeChanged(ConfigError):
    """A checkpoint is of another recipe."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            f"“{folder}” holds a run with another recipe. Name another folder with --out, or remove this one."
        )


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]}"),
        TimeRemainingColumn(),
    )
