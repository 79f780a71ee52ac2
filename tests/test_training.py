"""The tuner on a tiny model: what is learned, that it goes on where it ended, and that merging is exact."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

from chat.encoding import Encoder
from chat.prompt import SYSTEM_TEXT, Budget, assemble_prompt
from chat.tuning.card import ship, write_training_figures
from chat.tuning.examples import Batch, Example, Shape, batches_of, encode_example
from chat.tuning.maker import Exchange, MadeUp, make_conversation
from chat.tuning.own_answers import OwnAnswers
from chat.tuning.passes import Passes, summed_loss
from chat.tuning.recipe import Cycle, Recipe
from chat.tuning.training import RecipeChanged, train
from chat.tuning.words import TRAINING, Words, load_words
from chat.types import Note, PastTurn
from chat.weights import LoadedModel
from chat.weights.card import shipped_card
from chat.weights.merge import SHIPPED, Adapter
from memory.notes import NOTE_WRITING

CYCLE = Cycle(6, 5e-3, warmup_steps=2)
RECIPE = Recipe(rank=4, alpha=8, cycles=(CYCLE,), conversations_per_step=2)
OWN = OwnAnswers({"Which sea is salty?": "All of them."}, {"Hello!": "Hello to you."}, {"Why?": "Because."})
TALK = MadeUp(
    "told",
    ("The user likes tea.",),
    (Exchange("My dog is Rex.", "Noted."), Exchange("And?", "Your dog is Bo.", learned=False), Exchange("No.", "Rex!")),
)


@pytest.fixture(autouse=True)
def on_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tensors that are compared here lie there, on a machine with a GPU too."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)


@pytest.fixture(scope="module")
def words() -> Words:
    return load_words(TRAINING)


@pytest.fixture
def example(words: Words, tiny_qwen: LoadedModel) -> Callable[[int], Example]:
    encoder = Encoder(tiny_qwen.tokenizer)
    return lambda number: encode_example(make_conversation(words, OWN, NOTE_WRITING, 3, number), encoder)


def trained(tiny: LoadedModel, example: Callable[[int], Example], recipe: Recipe, folder: Path) -> PeftModel:
    folder.mkdir(exist_ok=True)
    model = copy.deepcopy(tiny.model).float()
    return train(model, example, 0, recipe, folder)


def cut_off(example: Callable[[int], Example], after: int) -> Callable[[int], Example]:
    """The examples of a run that somebody ends after so many steps."""

    def until_then(number: int) -> Example:
        if after * RECIPE.conversations_per_step <= number < 1_000_000:
            raise KeyboardInterrupt
        return example(number)

    return until_then


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "loss.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("family", ["smollm2", "tiny_llama", "tiny_qwen"])
def test_only_learned_replies_and_what_ends_them_count(family: str, request: pytest.FixtureRequest) -> None:
    tokenizer = request.getfixturevalue(family).tokenizer
    encoder = Encoder(tokenizer)
    made = encode_example(TALK, encoder)
    ids = [token for token, learned in zip(made.token_ids, made.learned, strict=True) if learned]
    stops = [token for token in ids if token in encoder.stop_token_ids()]
    assert encoder.decode(ids) == "Noted.Rex!"
    assert len(stops) == 2
    assert made.learned[-1]


def test_a_conversation_is_encoded_as_the_chat_encodes_it(smollm2: LoadedModel) -> None:
    encoder = Encoder(smollm2.tokenizer)
    history = [PastTurn("a", "My dog is Rex.", "Noted."), PastTurn("b", "And?", "Your dog is Bo.")]
    notes = [Note("n", "The user likes tea.")]
    budget = Budget(8000, lambda prompt: len(encoder.encode(prompt).token_ids), encoder.count)
    sent = encoder.encode(assemble_prompt(SYSTEM_TEXT, notes, history, "No.", budget)).token_ids
    assert encode_example(TALK, encoder).token_ids[: len(sent)] == sent


def test_batches_hold_every_token_once(example: Callable[[int], Example]) -> None:
    examples = [example(number) for number in range(12)]
    batches = list(batches_of(examples, Shape(2, 1_000, 999), Shape(2, 1_000, 999), 0))
    assert sum(batch.tokens for batch in batches) == sum(len(each.token_ids) for each in examples)
    assert sum(batch.learned_tokens for batch in batches) == sum(sum(each.learned) for each in examples)
    assert len(batches) > 1
    assert all(batch.token_ids.shape[1] <= max(1_000, *(len(each.token_ids) for each in examples)) for batch in batches)


@torch.no_grad()
def test_conversations_in_one_row_do_not_read_each_other(
    tiny_qwen: LoadedModel, example: Callable[[int], Example]
) -> None:
    model = copy.deepcopy(tiny_qwen.model).float()
    examples = [example(number) for number in range(6)]
    found: dict[tuple[int, ...], torch.Tensor] = {}
    rows = 0
    for batch in batches_of(examples, Shape(9, 4_000, 9_999), Shape(9, 4_000, 9_999), 0):
        together = model(batch.token_ids, attention_mask=batch.attention_mask(), position_ids=batch.positions).logits
        found |= {
            tuple(row[of == number].tolist()): together[place][of == number]
            for place, row in enumerate(batch.token_ids)
            for of in [batch.conversation[place]]
            for number in range(1, int(of.max()) + 1)
        }
        rows += len(batch.token_ids)
    assert rows < len(examples), "some share a row"
    for each in examples:
        alone = model(torch.tensor([each.token_ids])).logits[0]
        assert torch.allclose(found[each.token_ids], alone, atol=1e-4)


def test_a_batch_filled_up_for_a_gpu_teaches_the_same(
    tiny_qwen: LoadedModel, example: Callable[[int], Example], tmp_path: Path
) -> None:
    model = trained(tiny_qwen, example, RECIPE, tmp_path)
    shape = Shape(2, 500, 900)
    batches = list(batches_of([example(number) for number in range(30)], shape, shape, 0))
    assert {batch.keeps for batch in batches} == {False, True}
    for batch in batches:
        larger = batch.padded(Shape(3, 800, 1_000))
        if larger is None:
            assert batch.token_ids.shape[1] > 800 or len(batch.places) > 1_000
            continue
        assert larger.token_ids.shape == (3, 800)
        assert larger.learned_tokens == batch.learned_tokens
        gradients = [gradients_of(model, each) for each in (batch, larger)]
        assert any(gradient.abs().max() > 1e-3 for gradient in gradients[0])
        assert all(torch.allclose(one, other, atol=1e-4) for one, other in zip(*gradients, strict=True))


def test_a_processor_that_multiplies_16_bits_learns_in_them_much_as_in_32(
    tiny_qwen: LoadedModel, example: Callable[[int], Example], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = trained(tiny_qwen, example, RECIPE, tmp_path)
    batches = list(batches_of([example(number) for number in range(8)], Shape(2, 500, 900), Shape(2, 500, 900), 0))
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    found = []
    for can in (True, False):
        monkeypatch.setattr("chat.tuning.passes.multiplies_brain_floats", lambda can=can: can)
        model.zero_grad()
        loss = Passes(model, "cpu")(batches)
        found.append((loss, torch.cat([parameter.grad.flatten() for parameter in learned])))
    (in_16, rough), (in_32, exact) = found
    assert in_16 != in_32
    assert in_16 == pytest.approx(in_32, rel=0.01)
    assert torch.cosine_similarity(rough, exact, dim=0) > 0.99
    assert rough.dtype == torch.float32


def gradients_of(model: PeftModel, batch: Batch) -> list[torch.Tensor]:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return list(torch.autograd.grad(summed_loss(model, batch) / batch.learned_tokens, trained))


def test_training_lowers_the_loss_and_moves_nothing_but_the_adapter(
    tiny_qwen: LoadedModel, example: Callable[[int], Example], tmp_path: Path
) -> None:
    before = {name: tensor.clone() for name, tensor in tiny_qwen.model.float().state_dict().items()}
    tuned = trained(tiny_qwen, lambda _: example(0), RECIPE, tmp_path)
    assert losses(tmp_path)[-1] < losses(tmp_path)[0]
    base = {name.replace(".base_layer", ""): tensor for name, tensor in tuned.get_base_model().state_dict().items()}
    assert all(torch.equal(base[name], tensor) for name, tensor in before.items())


def test_an_interrupted_run_goes_on_to_the_same_adapter(
    tiny_qwen: LoadedModel, example: Callable[[int], Example], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chat.tuning.training.CHECKPOINT_SECONDS", 0.0)
    trained(tiny_qwen, example, RECIPE, tmp_path / "whole")

    checkpoint, kept = tmp_path / "halves" / "checkpoint.pt", tmp_path / "kept.pt"
    with pytest.raises(KeyboardInterrupt):
        trained(tiny_qwen, cut_off(example, after=4), RECIPE, tmp_path / "halves")
    checkpoint.rename(kept)
    shutil.copyfile(kept, checkpoint)
    with pytest.raises(KeyboardInterrupt):
        trained(tiny_qwen, cut_off(example, after=5), RECIPE, tmp_path / "halves")
    kept.replace(checkpoint)  # as if the fifth step had been taken behind the last checkpoint
    assert len(losses(tmp_path / "halves")) == 5
    trained(tiny_qwen, example, RECIPE, tmp_path / "halves")
    assert losses(tmp_path / "halves") == losses(tmp_path / "whole")
    assert Adapter(tmp_path / "halves" / "adapter").sha256 == Adapter(tmp_path / "whole" / "adapter").sha256


def test_a_run_is_made_longer_while_its_learning_rate_is_level(
    tiny_qwen: LoadedModel, example: Callable[[int], Example], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chat.tuning.training.CHECKPOINT_SECONDS", 0.0)
    longer = replace(RECIPE, cycles=(replace(CYCLE, steps=8),))
    trained(tiny_qwen, example, longer, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        trained(tiny_qwen, cut_off(example, after=4), RECIPE, tmp_path / "longer")
    trained(tiny_qwen, example, longer, tmp_path / "longer")
    assert losses(tmp_path / "longer") == losses(tmp_path / "whole")


def test_a_run_that_has_ended_goes_on_with_another_cycle(
    tiny_qwen: LoadedModel, example: Callable[[int], Example], tmp_path: Path
) -> None:
    two = replace(RECIPE, cycles=(CYCLE, Cycle(3, 1e-3, warmup_steps=1)))
    trained(tiny_qwen, example, two, tmp_path / "whole")
    trained(tiny_qwen, example, RECIPE, tmp_path / "longer")
    trained(tiny_qwen, example, two, tmp_path / "longer")
    assert losses(tmp_path / "longer") == losses(tmp_path / "whole")
    assert len(losses(tmp_path / "whole")) == 9
    assert Adapter(tmp_path / "longer" / "adapter").sha256 == Adapter(tmp_path / "whole" / "adapter").sha256


def test_the_adapter_is_the_mean_of_its_cycles_ends_each_counting_as_much_as_all_before_it(
    tiny_qwen: LoadedModel, example: Callable[[int], Example], tmp_path: Path
) -> None:
    three = replace(RECIPE, cycles=(CYCLE, Cycle(3, 1e-2, warmup_steps=1), Cycle(2, 1e-2, warmup_steps=1)))
    trained(tiny_qwen, example, three, tmp_path)
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    first, second, last = state["ends"]
    shipped = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    for name, tensor in shipped.items():
        assert torch.equal(tensor, (((first[name] + second[name]) / 2 + last[name]) / 2).to(torch.bfloat16)), name
        assert torch.equal(last[name], state["adapter"][name])
    assert any(not torch.equal(first[name], last[name]) for name in shipped)


def test_kept_replies_cost_nothing_until_the_model_leaves_what_the_base_model_says(
    tiny_qwen: LoadedModel, tmp_path: Path
) -> None:
    encoder = Encoder(tiny_qwen.tokenizer)
    own = encode_example(MadeUp("general", (), (Exchange("Hello!", "Hello to you.", kept=True),)), encoder)
    told = encode_example(TALK, encoder)
    trained(tiny_qwen, lambda number: own if number < 2 or number >= 10 else told, RECIPE, tmp_path)
    before, *_, after = losses(tmp_path)
    assert before == pytest.approx(0, abs=1e-6)
    assert after > 100 * abs(before) + 1e-6


@torch.no_grad()
def test_beside_kept_replies_the_others_cost_what_they_cost_alone(tiny_qwen: LoadedModel, tmp_path: Path) -> None:
    encoder = Encoder(tiny_qwen.tokenizer)
    kept = encode_example(MadeUp("general", (), (Exchange("Hello!", "Hello to you.", kept=True),)), encoder)
    mixed_up = encode_example(
        MadeUp("general", (), (Exchange("Hi!", "Hi.", kept=True), Exchange("Is Rex my dog?", "Yes, Rex is."))), encoder
    )
    told = encode_example(TALK, encoder)
    one_step = replace(RECIPE, cycles=(replace(CYCLE, steps=1),), conversations_per_step=3)
    with torch.enable_grad():
        trained(tiny_qwen, lambda number: (kept, told, mixed_up)[number % 3], one_step, tmp_path)
    model = copy.deepcopy(tiny_qwen.model).float()
    cost = 0.0
    for each in (told, mixed_up):
        alone = [place for place, learned in enumerate(each.learned) if learned and not each.kept[place]]
        odds = model(torch.tensor([each.token_ids])).logits[0].log_softmax(-1)
        cost -= sum(odds[place - 1, each.token_ids[place]].item() for place in alone)
    learned = sum(sum(each.learned) for each in (kept, told, mixed_up))
    assert losses(tmp_path)[0] == pytest.approx(cost / learned, rel=1e-4)


def test_a_checkpoint_of_another_recipe_is_refused_by_name(
    tiny_qwen: LoadedModel, example: Callable[[int], Example], tmp_path: Path
) -> None:
    trained(tiny_qwen, example, RECIPE, tmp_path)
    with pytest.raises(RecipeChanged, match=tmp_path.name):
        trained(tiny_qwen, example, replace(RECIPE, rank=8), tmp_path)
    checkpoint = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    checkpoint["recipe"]["of_an_earlier_version"] = 1
    torch.save(checkpoint, tmp_path / "checkpoint.pt")
    with pytest.raises(RecipeChanged, match=tmp_path.name):
        trained(tiny_qwen, example, RECIPE, tmp_path)


def test_the_merged_model_says_what_the_adapter_says(
    tiny_qwen: LoadedModel, example: Callable[[int], Example], tmp_path: Path
) -> None:
    tuned = trained(tiny_qwen, example, RECIPE, tmp_path).eval()
    merged = copy.deepcopy(tiny_qwen.model).float()
    ids = torch.tensor([example(1).token_ids[:60]])
    with torch.no_grad():
        untouched = merged(ids).logits
        Adapter(tmp_path / "adapter").merge_into(merged)
        # The adapter ships in bf16, so its last digits are gone.
        assert torch.allclose(merged(ids).logits, tuned(ids).logits, atol=0.05)
        assert not torch.allclose(merged(ids).logits, untouched, atol=0.05)


def test_a_shipped_run_has_its_card_with_its_own_figures(
    tiny_qwen: LoadedModel, example: Callable[[int], Example], tmp_path: Path, words: Words
) -> None:
    trained(tiny_qwen, example, RECIPE, tmp_path)
    write_training_figures(tmp_path, RECIPE, words, 1_000, 10, "an abacus", "2026-01-01")
    package = tmp_path / "package"
    package.mkdir()
    ship(tmp_path, package)
    card = (package / "MODEL_CARD.md").read_text()
    assert "| hardware | an abacus |" in card
    assert "12, each seen once" in card
    assert "{{" not in card
    assert Adapter(package).sha256 == Adapter(tmp_path / "adapter").sha256


def test_the_package_carries_an_adapter_of_at_most_25_mb_with_its_whole_loss_curve() -> None:
    assert sum(file.stat().st_size for file in SHIPPED.iterdir()) <= 25_000_000
    figures = json.loads((SHIPPED / "training.json").read_text())
    card = shipped_card()
    assert [point.step for point in card.losses] == list(range(1, Recipe.from_dict(figures["recipe"]).steps + 1))
    assert card.losses[-1].loss < card.losses[0].loss
    assert f"{figures['tokens']:,}" in card.markdown
