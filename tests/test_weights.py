"""Any chat model that is safe to read loads; everything else is refused with a sentence that names it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import CONTEXT_WINDOW, write_model
from transformers import BertConfig, BertForMaskedLM, Lfm2Config, MambaConfig, T5Config

from chat.errors import WeightsError
from chat.weights import LoadedModel, load_model


def ignore(_line: str) -> None:
    pass


def load(name: Path | str, window: int | None = None) -> LoadedModel:
    return load_model(str(name), Path("unused"), window, ignore)


def refusal(name: Path | str, window: int | None = None) -> str:
    with pytest.raises(WeightsError) as caught:
        load(name, window)
    sentence = str(caught.value)
    assert str(name) in sentence, "a refusal quotes the name"
    assert "\n" not in sentence
    return sentence


@pytest.fixture
def folder(tmp_path: Path, tiny_llama_dir: Path) -> Path:
    return Path(shutil.copytree(tiny_llama_dir, tmp_path / "model"))


def edit_config(folder: Path, **values: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize(("family", "dtype"), [("llama", "float32"), ("qwen", "bfloat16"), ("gemma", "float32")])
def test_three_families_load_in_their_own_dtype_and_can_answer(
    family: str, dtype: str, request: pytest.FixtureRequest
) -> None:
    name: Path = request.getfixturevalue(f"tiny_{family}_dir")
    loaded = load(name)
    assert loaded.info.id == str(name)
    assert loaded.info.dtype == dtype
    assert loaded.info.context_window == CONTEXT_WINDOW
    on_disk = load_file(name / "model.safetensors")
    assert loaded.info.parameters == sum(tensor.numel() for tensor in on_disk.values())
    assert all(torch.equal(loaded.model.state_dict()[key], value) for key, value in on_disk.items())
    assert not loaded.model.training
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())
    ids = loaded.tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hello?"}], add_generation_prompt=True, return_tensors="pt"
    )
    with torch.inference_mode():
        assert loaded.model(**ids).logits.isfinite().all()


def test_a_smaller_context_window_is_taken_and_a_larger_one_is_refused(folder: Path) -> None:
    assert load(folder, 512).info.context_window == 512
    sentence = refusal(folder, CONTEXT_WINDOW + 1)
    assert "1,025" in sentence
    assert "1,024" in sentence


def test_a_folder_that_does_not_exist_is_said_to_be_missing(tmp_path: Path) -> None:
    assert "no folder" in refusal(tmp_path / "nowhere")
    assert "no folder" in refusal("./nowhere")
    assert "no folder" in refusal("smolm2")
    assert "no folder" in refusal("~nobody-of-that-name/model")


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    assert "config.json" in refusal(tmp_path)


def test_a_checkpoint_that_could_carry_code_is_refused(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert "no .safetensors file" in refusal(folder)


def test_a_model_that_needs_its_own_code_is_refused_and_the_code_does_not_run(folder: Path) -> None:
    ran = folder / "ran"
    (folder / "own.py").write_text(f"open({str(ran)!r}, 'w').close()\nclass OwnConfig: pass\nclass OwnModel: pass\n")
    edit_config(folder, model_type="own", auto_map={"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.Own"})
    assert "Code from models is never run" in refusal(folder)
    assert not ran.exists()


def test_a_base_model_is_refused_because_it_has_no_chat_template(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()
    assert "base model" in refusal(folder)


def test_an_encoder_is_refused(tmp_path: Path, tiny_llama: LoadedModel) -> None:
    config = BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    name = write_model(BertForMaskedLM(config), tiny_llama.tokenizer, tmp_path / "bert")
    assert "BertForMaskedLM, not a causal language model" in refusal(name)


def test_a_translator_is_refused(folder: Path) -> None:
    T5Config(architectures=["T5ForConditionalGeneration"]).save_pretrained(folder)
    assert "not a causal language model" in refusal(folder)


@pytest.mark.parametrize(
    "config",
    [MambaConfig(), Lfm2Config(num_hidden_layers=2, layer_types=["conv", "full_attention"])],
    ids=["mamba", "convolution"],
)
def test_a_recurrent_model_is_refused(folder: Path, config: MambaConfig | Lfm2Config) -> None:
    config.save_pretrained(folder)
    assert "recurrent" in refusal(folder)


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_type": "dynamic", "factor": 2.0, "original_max_position_embeddings": 512},
        {
            "rope_type": "longrope",
            "original_max_position_embeddings": 512,
            "short_factor": [1.0] * 8,
            "long_factor": [2.0] * 8,
        },
    ],
    ids=["dynamic", "longrope"],
)
def test_a_model_whose_buffers_move_in_long_prompts_loads_only_with_a_window_where_they_rest(
    folder: Path, rope: dict[str, object]
) -> None:
    edit_config(folder, rope_parameters={"rope_theta": 10_000.0, **rope})
    assert "--context-window 512" in refusal(folder)
    assert load(folder, 512).info.context_window == 512


def test_a_slow_tokenizer_is_refused(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "ByT5Tokenizer"}))
    assert "slow tokenizer (ByT5Tokenizer)" in refusal(folder)


def test_a_folder_without_a_tokenizer_is_refused(folder: Path) -> None:
    for path in folder.glob("tokenizer*"):
        path.unlink()
    assert "tokenizer" in refusal(folder)


def drop_a_tensor(path: Path) -> None:
    tensors = load_file(path)
    del tensors["model.norm.weight"]
    save_file(tensors, path, {"format": "pt"})


def shrink_the_embedding(path: Path) -> None:
    tensors = load_file(path)
    tensors["model.embed_tokens.weight"] = tensors["model.embed_tokens.weight"][:-1].clone()
    save_file(tensors, path, {"format": "pt"})


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(path.read_bytes()[:100]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"\xff" * 64 + path.read_bytes()[64:]),
        drop_a_tensor,
        shrink_the_embedding,
    ],
    ids=["last byte gone", "header only", "empty", "overwritten", "a tensor missing", "a tensor of another shape"],
)
def test_a_damaged_weights_file_is_refused(folder: Path, damage: Callable[[Path], object]) -> None:
    damage(folder / "model.safetensors")
    assert "again" in refusal(folder)


def test_a_missing_shard_is_refused(folder: Path) -> None:
    weights = folder / "model.safetensors"
    tensors = load_file(weights)
    shards = {key: f"model-0000{1 + index % 2}-of-00002.safetensors" for index, key in enumerate(tensors)}
    for shard in set(shards.values()):
        save_file({k: v for k, v in tensors.items() if shards[k] == shard}, folder / shard, {"format": "pt"})
    weights.unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": shards}))
    assert load(folder).info.parameters == sum(tensor.numel() for tensor in tensors.values())
    (folder / "model-00002-of-00002.safetensors").unlink()
    assert "model-00002-of-00002.safetensors" in refusal(folder)


def test_a_tokenizer_with_more_tokens_than_the_weights_have_rows_is_refused(
    folder: Path, tiny_llama: LoadedModel
) -> None:
    rows = len(tiny_llama.tokenizer) - 1
    tensors = load_file(folder / "model.safetensors")
    for key in ("model.embed_tokens.weight", "lm_head.weight"):
        tensors[key] = tensors[key][:rows].clone()
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    edit_config(folder, vocab_size=rows)
    assert "do not belong together" in refusal(folder)


def test_broken_json_is_refused(folder: Path) -> None:
    (folder / "config.json").write_text("{")
    refusal(folder)


def test_a_hub_id_that_is_not_at_hand_is_refused_without_network() -> None:
    assert "hub" in refusal("nobody/nothing-at-all")


def test_a_hub_id_that_was_downloaded_before_loads_without_network(
    tmp_path: Path, tiny_llama_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = tmp_path / "models--somebody--tiny"
    commit = "0" * 40
    shutil.copytree(tiny_llama_dir, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    assert load("somebody/tiny").info.id == "somebody/tiny"


def test_loading_a_local_folder_asks_nothing_of_the_network_and_says_nothing_of_its_own(tiny_gemma_dir: Path) -> None:
    watched = (
        "import sys; from pathlib import Path; from chat.weights import load_model\n"
        "sys.addaudithook(lambda event, _: event.startswith(('socket.connect', 'socket.getaddrinfo')) and 1 / 0)\n"
        "load_model(sys.argv[1], Path(), None, lambda line: None)"
    )
    free = {name: value for name, value in os.environ.items() if name not in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")}
    root = Path(__file__).parents[1]
    ran = subprocess.run(
        [sys.executable, "-c", watched, tiny_gemma_dir], cwd=root, env=free, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    assert not ran.stdout.strip()
    assert not ran.stderr.strip()
