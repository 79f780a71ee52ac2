"""The trained artifact: every weight is counted once, every byte is there, every tensor has its digest."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ignore
from transformers import LlamaConfig, LlamaForCausalLM

from chat.packing import pack_model
from chat.types import Note
from chat.ui.model.artifact_view import (
    checked_again,
    files_table,
    layer_data,
    megabytes,
    parts_table,
    places,
    precision_table,
    tensor_list,
)
from chat.ui.model.cutoff_view import EXAMPLES, fact_as_note, meaning_html, own_words, says_html, section_of
from chat.weights import LoadedModel, load_model
from chat.weights.artifact import FileOnDisk, HeldTensor, artifact_of, held_tensors
from chat.weights.card import shipped_card
from chat.weights.fingerprint import Fingerprint, TensorDigest, fingerprint

SHAPE: dict[str, Any] = {
    "vocab_size": 304,
    "hidden_size": 96,
    "intermediate_size": 160,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
}
HOSTILE = HeldTensor("<img src=x>", (2, 3), "<b>", 24, None, "other", 6, "weights")
BEFORE, AFTER = (Fingerprint(digest * 32, (TensorDigest("a", digest * 32, 1),)) for digest in ("ab", "cd"))


@pytest.mark.parametrize("name", ["tiny_llama", "tiny_qwen", "tiny_gemma"])
def test_the_parts_add_up_to_the_parameters_of_the_receipts_and_the_tensors_to_the_fingerprints(
    name: str, request: pytest.FixtureRequest
) -> None:
    loaded: LoadedModel = request.getfixturevalue(name)
    tensors = held_tensors(loaded.model)
    assert sum(tensor.parameters for tensor in tensors) == loaded.info.parameters
    assert [tensor.name for tensor in tensors] == [each.name for each in fingerprint(loaded.model).tensors]
    layers = {tensor.layer for tensor in tensors if tensor.part in ("attention", "MLP")}
    assert layers == set(range(loaded.model.config.num_hidden_layers))


@pytest.mark.parametrize(("bits", "rank"), [(8, 0), (4, 0), (4, 8)])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("biases", [True, False])
def test_a_packed_models_weights_are_counted_once_though_it_holds_more_numbers(
    bits: int, rank: int, tied: bool, biases: bool
) -> None:
    model = LlamaForCausalLM(LlamaConfig(**SHAPE, tie_word_embeddings=tied, attention_bias=biases))
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.constant_(parameter, 0.5)
    layers = {name: layer for name, layer in model.named_modules() if rank and name.endswith("proj")}
    adapter = {
        name: (torch.ones(rank, layer.in_features), torch.ones(layer.out_features, rank))
        for name, layer in layers.items()
    }
    whole, packed = held_tensors(model), held_tensors(pack_model(model.eval(), bits, adapter))
    assert counts(packed) == counts(whole)
    assert sum(tensor.nbytes for tensor in packed) < sum(tensor.nbytes for tensor in whole)


def counts(tensors: tuple[HeldTensor, ...]) -> Counter[tuple[int | None, str]]:
    counted: Counter[tuple[int | None, str]] = Counter()
    for tensor in tensors:
        counted[tensor.layer, tensor.part] += tensor.parameters
    return +counted


def test_the_bars_have_the_same_sum_as_the_table_and_one_bar_a_layer(tiny_llama: LoadedModel) -> None:
    tensors = held_tensors(tiny_llama.model)
    rows = layer_data(tensors)["data"]
    assert sum(count for _, _, count in rows) == tiny_llama.info.parameters
    assert f'id="parameters">{tiny_llama.info.parameters:,}<' in parts_table(tensors)
    assert places(tensors) == ["embedding", "0", "1", "2", "norms", "output"]


def test_an_output_that_is_the_embedding_is_said_to_be(tiny_qwen: LoadedModel, tiny_llama: LoadedModel) -> None:
    tied, own = (parts_table(held_tensors(loaded.model)) for loaded in (tiny_qwen, tiny_llama))
    assert "output: the embedding, used again" in tied
    assert "used again" not in own


def test_the_bytes_in_memory_are_those_of_the_tensors_and_the_files_those_on_the_disk(
    tiny_llama_dir: Path, tmp_path: Path
) -> None:
    loaded = load_model(str(tiny_llama_dir), tmp_path, None, ignore)
    artifact = artifact_of(loaded)
    held = [*loaded.model.parameters(), *loaded.model.buffers()]
    assert artifact.nbytes == sum(tensor.numel() * tensor.element_size() for tensor in held)
    assert {file.name: file.nbytes for file in artifact.files} == {
        path.name: path.stat().st_size for path in tiny_llama_dir.iterdir()
    }
    assert megabytes(artifact.nbytes) in precision_table(artifact.tensors)


def test_small_files_share_a_line_and_the_sum_has_them_all() -> None:
    table = files_table((FileOnDisk("w.safetensors", 2_000_000), FileOnDisk("a.json", 90), FileOnDisk("<b>", 10)))
    assert "<td>a.json, &lt;b&gt;</td><td>100 bytes</td>" in table
    assert "<th>all</th><td>2.0 MB</td>" in table


def test_tensors_are_found_by_name_and_by_digest_and_their_names_stay_text(tiny_llama: LoadedModel) -> None:
    tensors, now = held_tensors(tiny_llama.model), fingerprint(tiny_llama.model)
    assert all(each.sha256 in tensor_list(tensors, now) for each in now.tensors)
    by_name = tensor_list(tensors, now, " LAYERS.1.mlp ")
    assert by_name.startswith(f'<p class="quiet">3 of {len(tensors)} tensors.')
    assert now.tensors[4].name in tensor_list(tensors, now, now.tensors[4].sha256[:16])
    assert "contains “&lt;img&gt;”" in tensor_list(tensors, now, "<img>")
    assert "<img" not in tensor_list((HOSTILE,), now)


def test_a_check_says_that_it_is_the_same_or_raises_an_alarm_with_the_tensors_that_moved() -> None:
    assert "The same: <code>" + "ab" * 32 in checked_again(BEFORE, BEFORE, 1, 0.5)
    alarm = checked_again(BEFORE, AFTER, 1, 0.5)
    assert 'role="alert"' in alarm
    assert "1 tensors differ, a among them" in alarm


def test_the_word_on_the_cutoff_is_the_shipped_cards_and_only_of_the_model_that_it_tells_of() -> None:
    card = shipped_card().markdown
    assert section_of(card, "What it can know").startswith("Its makers state no knowledge cutoff.")
    assert "1 November 2024" in meaning_html("one", "one", card)
    assert "no card of &lt;two&gt;" in meaning_html("<two>", "one", card)
    assert section_of("# A\n\n## B\n\ntext\n\n## C\n", "B") == "text"
    assert section_of("# A\n", "B") == ""


def test_what_only_the_fact_has_is_what_an_answer_is_held_against() -> None:
    assert [own_words(example.fact, example.question) for example in EXAMPLES] == [
        ("Anora",),
        ("Leo", "XIV"),
        ("Philadelphia", "Eagles"),
    ]
    _, pope, _ = EXAMPLES
    assert "nothing of what" in says_html("I don't know.", pope.fact, pope.question)
    assert "1 of the 2 words" in says_html("Pope Leo.", pope.fact, pope.question)
    assert "It says what only the fact has: “Leo XIV”" in says_html("leo xiv", pope.fact, pope.question)
    assert says_html("Yes.", pope.question, pope.question) == ""


def test_a_fact_goes_in_as_one_line() -> None:
    assert fact_as_note(" Leo XIV\n is pope. ") == Note("fact", "Leo XIV is pope.")
