"""The training loop: LoRA (Hu et al., 2021, arXiv:2106.09685) on every linear layer, loss on the replies only.

It stops and goes on: each checkpoint holds the adapter and the optimizer, and a conversation is made from its number,
so a run that was interrupted goes on with the very conversations that it would have seen.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors.torch import save_file
from torch.utils.data import DataLoader, Dataset
from transformers import PreTrainedModel

from chat.errors import ConfigError
from chat.tuning.examples import Batch, Example, Shape, batches_of
from chat.tuning.passes import Passes, PassesOfAGpu, summed_loss
from chat.tuning.recipe import LOSSES, Progressed, Recipe

CHECKPOINT_SECONDS = 300.0
UNSEEN_EVERY = 40
# Conversations from here on are never trained on; their loss shows whether the model learns or learns by heart.
FIRST_UNSEEN = 1_000_000_000
_UNSEEN = 32
# A GPU is fed much at a time; a processor loses by long rows, for attention looks at all of a row (LOG, 2026-11-26).
# Replies that are kept come with long conversations, but not many in a step.
_LEARNING = {"cpu": Shape(3, 320, 960), "cuda": Shape(10, 1_024, 4_096)}
_KEEPING = {"cpu": Shape(3, 320, 960), "cuda": Shape(3, 1_152, 2_560)}
_MOST_HELPERS = 12
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
        self._parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self._recipe = recipe
        self._folder = folder
        self._device = device
        on_gpu = device == "cuda"
        self._optimizer = torch.optim.AdamW(self._parameters, weight_decay=0.0, fused=on_gpu)
        learning, keeping = _LEARNING[device], _KEEPING[device]
        shapes = {False: learning, True: keeping}
        self._pass = PassesOfAGpu(self.model, shapes) if on_gpu else Passes(self.model, device)
        pack = partial(_packed, learning=learning, keeping=keeping, filler=filler)
        self._unseen = pack([example(FIRST_UNSEEN + place) for place in range(_UNSEEN)])
        self._resume()
        self._kept_at = monotonic()
        self._made = iter(_maker(example, pack, self.step, recipe, device))

    def advance(self) -> Progressed:
        """Take one optimizer step."""
        began = monotonic()
        batches = next(self._made)
        loss = self._pass(batches)
        torch.nn.utils.clip_grad_norm_(self._parameters, 1.0)
        for group in self._optimizer.param_groups:
            group["lr"] = self._recipe.learning_rate_at(self.step)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=False)
        self.step += 1
        if self.step in self._recipe.ends:
            self._ends.append(self._state())
        tokens, learned = (
            sum(getattr(batch, counted) for batch in batches) for counted in ("tokens", "learned_tokens")
        )
        done = Progressed(self.step, loss, tokens, learned, monotonic() - began, self._unseen_loss())
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

    @torch.no_grad()
    def _unseen_loss(self) -> float | None:
        every = max(UNSEEN_EVERY, self._recipe.steps // UNSEEN_EVERY)
        if self.step % every and self.step not in (1, self._recipe.steps):
            return None
        learned = sum(batch.learned_tokens for batch in self._unseen)
        return sum(summed_loss(self.model, batch.to(self._device)).item() for batch in self._unseen) / learned

    def _keep(self, done: Progressed) -> None:
        with (self._folder / LOSSES).open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(done)) + "\n")
        if monotonic() - self._kept_at >= CHECKPOINT_SECONDS or self.step == self._recipe.steps:
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
            self._kept_at = monotonic()

    def _resume(self) -> None:
        checkpoint = self._folder / "checkpoint.pt"
        losses = self._folder / LOSSES
        if checkpoint.exists():
            state = torch.load(checkpoint, map_location=self._device, weights_only=True)
            alike = state["recipe"].keys() == asdict(self._recipe).keys()
            if not alike or not Recipe.from_dict(state["recipe"]).goes_on_as(self._recipe, state["step"]):
                raise RecipeChanged(self._folder)
            for name, tensor in _adapter(self.model).items():
                tensor.data.copy_(state["adapter"][name])
            self._optimizer.load_state_dict(state["optimizer"])
            self.step, self._ends = state["step"], state["ends"]
        # Steps behind the checkpoint are taken again, so their lines go.
        kept = losses.read_text("utf-8").splitlines()[: self.step] if losses.exists() else []
        losses.write_text("".join(line + "\n" for line in kept), "utf-8")


class _Conversations(Dataset[Example]):
    """The conversations by their numbers."""

    def __init__(self, example: Callable[[int], Example]) -> None:
        self._example = example

    def __getitem__(self, number: int) -> Example:
        return self._example(number)


def _packed(examples: Sequence[Example], learning: Shape, keeping: Shape, filler: int) -> list[Batch]:
    return list(batches_of(examples, learning, keeping, filler))


def _maker(
    example: Callable[[int], Example],
    pack: Callable[[Sequence[Example]], list[Batch]],
    step: int,
    recipe: Recipe,
    device: str,
) -> DataLoader[Example]:
    """Makes the batches of each step from this one on. A GPU learns quicker than one process makes them."""
    size = recipe.conversations_per_step
    helpers = min(_MOST_HELPERS, max(1, (os.cpu_count() or 1) - 2)) if device == "cuda" else 0
    return DataLoader(
        _Conversations(example),
        batch_size=size,
        sampler=range(step * size, recipe.steps * size),
        num_workers=helpers,
        collate_fn=pack,
        multiprocessing_context="fork" if helpers else None,
    )


def _with_adapter(model: Any, device: str, config: LoraConfig) -> PeftModel:
    with warnings.catch_warnings():
        # peft asks transformers for a property by its old name.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        # A GPU reads 16 bits at several times the speed; the adapter itself stays in 32.
        with_adapter = get_peft_model(model.to(device, torch.bfloat16 if device == "cuda" else None), config)
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
