"""Packed models: close to the model that was packed, and the same bits however the work is cut."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import logits_of
from gguf import GGUFReader
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

from chat.engine.packed.aligned import zeros
from chat.engine.packed.packed_forward import PackedForward
from chat.engine.packed.vectors import product
from chat.errors import WeightsError
from chat.packed_model import GROUP, LANES, PackedModel, open_packed
from chat.packing import is_packable, pack_model
from chat.processor import adds_up_four, is_x86
from chat.weights import LoadedModel, fingerprint, load_model
from chat.weights.packed import Checkpoint, keep_packed, read_packed
from chat.weights.suitable import ContextLimits

SHAPE: dict[str, Any] = {
    "vocab_size": 304,
    "hidden_size": 96,
    "intermediate_size": 160,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    "initializer_range": 0.1,
}
FOUR_TO_A_KEY = {"num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 80}
MAKERS: dict[str, Callable[[], Any]] = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SHAPE)),
    "llama with biases": lambda: LlamaForCausalLM(LlamaConfig(**SHAPE, attention_bias=True, mlp_bias=True)),
    "qwen 2": lambda: Qwen2ForCausalLM(Qwen2Config(**SHAPE, tie_word_embeddings=True)),
    "qwen 3": lambda: Qwen3ForCausalLM(Qwen3Config(**SHAPE, head_dim=48)),
    "four heads to a key": lambda: LlamaForCausalLM(LlamaConfig(**SHAPE | FOUR_TO_A_KEY)),
}
HOW = ("8 bits", "4 bits", "4 bits and an adapter")
IDS = torch.randint(0, 304, (700,), generator=torch.Generator().manual_seed(1)).tolist()

# Processors that do less than this one, and their instructions: with AVX-512 alone, with AVX2, without byte products.
LESSER_PROCESSORS: dict[str, str] = {}
if is_x86():
    LESSER_PROCESSORS["x86-64-v2"] = "+avx,+fma,+f16c,+sse4.2"
if adds_up_four():
    LESSER_PROCESSORS["x86-64-v3"] = "+avx,+avx2,+fma,+f16c,+sse4.2"
    LESSER_PROCESSORS["skylake-avx512"] = "+avx,+avx2,+fma,+f16c,+sse4.2,+avx512f,+avx512bw,+avx512dq,+avx512vl"

CHECKPOINT = Checkpoint(ContextLimits(own=2048, fixed=None), end_of_sequence_ids=(3, 5))


@pytest.fixture(params=MAKERS)
def model(request: pytest.FixtureRequest) -> Any:
    torch.manual_seed(1)
    made = MAKERS[request.param]()
    for name, parameter in made.named_parameters():
        if name.endswith(("bias", "norm.weight")):
            torch.nn.init.normal_(parameter, mean=1.0, std=0.3)
    return made.eval().requires_grad_(False)


def packed_as(how: str, model: Any) -> PackedModel:
    """In 8 bits, in 4, or in 4 with an adapter beside the weights, whose rank fills no group."""
    if how != "4 bits and an adapter":
        return pack_model(model, int(how[0]))
    return pack_model(model, 4, some_adapter(model, rank=20))


def some_adapter(model: Any, rank: int, size: float = 0.1) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    chance = torch.Generator().manual_seed(3)
    linear = {name: layer for name, layer in model.named_modules() if name.endswith("proj")}
    return {
        name: (
            size * torch.randn(rank, layer.in_features, generator=chance),
            size * torch.randn(layer.out_features, rank, generator=chance),
        )
        for name, layer in linear.items()
    }


def logits_after(forward: PackedForward, *blocks: list[int]) -> torch.Tensor:
    cache = forward.new_cache()
    for block in blocks:
        odds = forward.read(block, cache)
    return logits_of(odds)


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


def test_a_packed_model_says_what_the_whole_one_does_nearly(model: Any) -> None:
    forward = PackedForward(pack_model(model), threads=2)
    expected = model(torch.tensor([IDS[:120]])).logits[0, -1]
    assert relative_error(logits_after(forward, IDS[:120]), expected) < 0.06  # a wrong rotation: 0.08 at least


def test_the_packed_default_model_mostly_takes_the_same_next_token_through_a_long_text(smollm2: LoadedModel) -> None:
    ids = smollm2.tokenizer.encode(Path(__file__).parents[1].joinpath("LICENSE").read_text("utf-8"))[:640]
    whole: Any = smollm2.model
    expected = whole(torch.tensor([ids])).logits[0]
    forward = PackedForward(pack_model(whole), threads=2)
    cache = forward.new_cache()
    parts = [forward.step([ids[start : start + 128]], [cache])[0] for start in range(0, len(ids), 128)]
    found = logits_of(*chain.from_iterable(parts))
    agreed = float((found.argmax(-1) == expected.argmax(-1)).float().mean())
    assert agreed > 0.93
    assert relative_error(found, expected) < 0.06


@pytest.fixture
def in_four_bits() -> Any:
    """A model whose weights are whole steps of 4 bits."""
    torch.manual_seed(2)
    model: Any = MAKERS["llama with biases"]().eval().requires_grad_(False)
    for name, weight in model.named_parameters():
        if name.endswith("proj.weight"):
            rows, columns = weight.shape
            codes = torch.randint(0, 16, (rows, columns // 32, 32))
            codes[..., 0], codes[..., 17] = 0, 15
            # Powers of two, so that scale and least weight are exact in 16 bits.
            weight.copy_((codes * 2.0**-6 - 0.125).view(rows, columns))
    return model


def test_four_bits_of_four_bits_lose_nothing(in_four_bits: Any) -> None:
    four, eight = (logits_after(PackedForward(pack_model(in_four_bits, bits), 2), IDS[:60]) for bits in (4, 8))
    expected = in_four_bits(torch.tensor([IDS[:60]])).logits[0, -1]
    # What is left comes of the inputs, which are in 8 bits in both.
    assert relative_error(four, expected) < 1.2 * relative_error(eight, expected)


def test_beside_weights_of_four_bits_an_adapter_that_is_smaller_than_their_steps_is_kept(in_four_bits: Any) -> None:
    before = in_four_bits(torch.tensor([IDS[:60]])).logits[0, -1]
    adapter = some_adapter(in_four_bits, rank=8, size=0.03)
    for name, (down, up) in adapter.items():
        in_four_bits.get_submodule(name).weight += up @ down
    expected = in_four_bits(torch.tensor([IDS[:60]])).logits[0, -1]
    beside, within = (
        logits_after(PackedForward(pack_model(in_four_bits, 4, kept), 2), IDS[:60]) for kept in (adapter, None)
    )
    assert relative_error(before, expected) > 4 * relative_error(beside, expected)
    assert relative_error(within, expected) > 4 * relative_error(beside, expected)


def test_the_default_models_four_bit_blocks_are_packed_as_they_came(weights_data_dir: Path) -> None:
    packed: Any = load_model("smollm2", weights_data_dir, None, lambda _line: None, "int4").model
    (gguf,) = (weights_data_dir / "models").glob("*.gguf")
    tensors = {tensor.name: torch.from_numpy(tensor.data.copy()) for tensor in GGUFReader(gguf).tensors}
    for layer in range(packed.shape.layers):
        blocks = tensors[f"blk.{layer}.ffn_down.weight"].unflatten(1, (-1, 20))
        scales, codes = blocks[..., :4].contiguous().view(torch.float16), blocks[..., 4:]
        ours = packed.get_buffer(f"layers.{layer}.down.codes").permute(0, 3, 1, 2, 4).reshape(codes.shape)
        assert torch.equal(ours, codes)
        ours = packed.get_buffer(f"layers.{layer}.down.scales").permute(0, 3, 1, 2).reshape(scales.shape)
        assert torch.equal(ours, scales)


@pytest.mark.parametrize("how", HOW)
def test_blocks_and_steps_give_the_same_bits(model: Any, how: str) -> None:
    forward = PackedForward(packed_as(how, model), threads=2)
    in_blocks = logits_after(forward, *(IDS[start : start + 128] for start in range(0, 700, 128)))
    cache = forward.new_cache()
    forward.read(IDS[:100], cache)
    for token in IDS[100:]:
        ((in_steps,),) = forward.step([[token]], [cache])
    assert torch.equal(in_blocks, logits_of(in_steps))


@pytest.mark.parametrize("how", HOW)
def test_a_step_for_several_gives_each_the_bits_that_it_gets_alone(model: Any, how: str) -> None:
    forward = PackedForward(packed_as(how, model), threads=2)
    prompts = [IDS[:5], IDS[5:70], IDS[70:90], IDS[90:91], IDS[200:300]]
    caches, alone = [forward.new_cache() for _ in prompts], []
    for prompt, cache in zip(prompts, caches, strict=True):
        forward.read(prompt, cache)
        alone.append(logits_after(forward, prompt, [7]))
    together = forward.step([[7]] * len(prompts), caches)
    assert all(torch.equal(one, logits_of(*other)) for one, other in zip(alone, together, strict=True))


@pytest.mark.parametrize("threads", [2, 3])
@pytest.mark.parametrize("how", HOW)
def test_the_number_of_threads_changes_no_bit(model: Any, how: str, threads: int) -> None:
    packed = packed_as(how, model)
    one, several = (PackedForward(packed, count) for count in (1, threads))
    assert torch.equal(logits_after(one, IDS[:90]), logits_after(several, IDS[:90]))


def test_the_threads_of_a_forward_pass_end_when_it_is_forgotten() -> None:
    before = set(threading.enumerate())
    forward = PackedForward(pack_model(MAKERS["llama"]().eval()), threads=3)
    own = set(threading.enumerate()) - before
    assert len(own) == 2
    logits_after(forward, IDS[:3])
    assert all(thread.is_alive() for thread in own)
    del forward
    for thread in own:
        thread.join(60)
    assert not [thread for thread in own if thread.is_alive()]


def test_what_is_cut_from_one_cache_goes_on_in_another(model: Any) -> None:
    forward = PackedForward(pack_model(model), threads=2)
    first, second = forward.new_cache(), forward.new_cache()
    forward.read(IDS[:96], first)
    second.extend(first.cut(0, 32))
    second.extend(first.cut(32, 96))
    assert second.nbytes == first.nbytes
    following = (logits_of(forward.read(IDS[96:99], cache)) for cache in (first, second))
    assert torch.equal(*following)


def test_a_processor_that_numba_is_told_nothing_of_has_no_byte_products() -> None:
    asked = "from chat.processor import multiplies_bytes; print(multiplies_bytes())"
    told = {**os.environ, "NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}
    assert subprocess.run([sys.executable, "-c", asked], env=told, check=True, capture_output=True).stdout == b"False\n"


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("rows", range(1, 9))
@pytest.mark.parametrize("value", [127, -127])
def test_the_largest_products_of_bytes_do_not_overflow(bits: int, rows: int, value: int) -> None:
    codes = zeros((2, GROUP * LANES * bits // 8), np.uint8)
    codes[:] = 255
    scales, begin, out = zeros((2, 2, LANES), np.float16), zeros((LANES,), np.float32), zeros((8, LANES), np.float32)
    scales[:] = 1
    inputs, ones, rests = zeros((2, 8, GROUP), np.int8), zeros((2, 8), np.float32), zeros((2, 8), np.float32)
    inputs[:] = value
    ones[:] = 1
    kept = [each.ctypes.data for each in (codes, scales, begin, inputs, ones, rests, out)]
    in_codes, in_scales, in_begin, in_inputs, in_ones, in_rests, in_out = kept
    product(bits, in_codes, in_scales, in_begin, 0, 2, in_inputs, in_ones, in_rests, rows, in_out, 4 * LANES)
    assert (out[:rows] == 2 * GROUP * (2**bits - 1) * value).all()
    assert not out[rows:].any()


@pytest.mark.parametrize("narrower", LESSER_PROCESSORS)
def test_a_lesser_processor_comes_to_the_same(tmp_path: Path, narrower: str) -> None:
    torch.manual_seed(1)
    packed = packed_as("4 bits and an adapter", MAKERS["llama"]().eval().requires_grad_(False))
    packed.save(tmp_path / "packed.safetensors", {})
    lines = (
        "import sys, torch",
        "from pathlib import Path",
        "from chat.engine.packed.packed_forward import PackedForward",
        "from chat.packed_model import open_packed",
        "from chat.processor import adds_up_four, adds_up_two",
        "assert not adds_up_four()",
        "assert adds_up_two() == (sys.argv[3] != 'x86-64-v2')",
        "forward = PackedForward(open_packed(Path(sys.argv[1])).model, 2)",
        "odds = forward.read(list(range(39)), forward.new_cache())",
        "torch.save(torch.from_numpy(odds.logits), sys.argv[2])",
    )
    model, logits = (tmp_path / name for name in ("packed.safetensors", "logits"))
    command = [sys.executable, "-c", "\n".join(lines), str(model), str(logits), narrower]
    features = {"NUMBA_CPU_NAME": narrower, "NUMBA_CPU_FEATURES": LESSER_PROCESSORS[narrower]}
    subprocess.run(command, env={**os.environ, **features}, check=True)
    expected = logits_after(PackedForward(packed, 2), list(range(39)))
    assert relative_error(torch.load(logits), expected) < 1e-5


@pytest.mark.parametrize("how", HOW)
def test_the_fingerprint_covers_every_byte_that_is_used(model: Any, how: str) -> None:
    packed = packed_as(how, model)
    before = fingerprint(packed)
    forward = PackedForward(packed, threads=1)
    logits = logits_after(forward, IDS[:3])
    for name, buffer in packed.named_buffers():
        values = buffer.view(-1)
        kept = values[0].clone()
        values[0] = kept + 1
        assert fingerprint(packed) != before, name
        values[0] = kept
    packed.get_buffer("layers.1.down.codes").view(-1)[:4096] += 1
    assert not torch.equal(logits_after(forward, IDS[:3]), logits)


def test_kept_weights_are_mapped_in_as_they_were(model: Any, tmp_path: Path) -> None:
    packed = pack_model(model)
    path = tmp_path / "packed" / f"tiny-{'0' * 16}-int8.safetensors"
    kept = keep_packed(packed, CHECKPOINT, path)
    again = read_packed(path)
    assert again
    assert again.checkpoint == CHECKPOINT
    assert fingerprint(kept) == fingerprint(packed)
    assert kept.parameter_count == sum(parameter.numel() for parameter in model.parameters())
    assert torch.equal(*(logits_after(PackedForward(each, 2), IDS[:50]) for each in (packed, kept)))


def test_kept_weights_that_were_altered_or_cut_short_are_not_used(tmp_path: Path) -> None:
    path = tmp_path / f"tiny-{'0' * 16}-int8.safetensors"
    keep_packed(pack_model(MAKERS["llama"]()), CHECKPOINT, path)
    whole = path.read_bytes()
    for broken in (whole[:-100], whole[:-1] + bytes([whole[-1] ^ 1]), b"", b"no weights at all"):
        path.write_bytes(broken)
        assert read_packed(path) is None


def test_another_state_of_the_same_model_replaces_what_was_kept(tmp_path: Path) -> None:
    packed = pack_model(MAKERS["llama"]())
    old, new, other = (
        tmp_path / f"{name}-int8.safetensors" for name in (f"a-{'0' * 16}", f"a-{'1' * 16}", f"a-b-{'2' * 16}")
    )
    for path in (old, other, new):
        keep_packed(packed, CHECKPOINT, path)
    assert sorted(tmp_path.iterdir()) == sorted([new, other])


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_a_model_is_packed_once_and_then_mapped_in(tiny_llama_dir: Path, tmp_path: Path, precision: Any) -> None:
    first = load_model(str(tiny_llama_dir), tmp_path, None, lambda _line: None, precision)
    (kept,) = (tmp_path / "packed").iterdir()
    made = kept.stat().st_mtime_ns
    second = load_model(str(tiny_llama_dir), tmp_path, None, lambda _line: None, precision)
    assert first.info == second.info
    assert first.info.dtype == precision
    assert first.end_of_sequence_ids == second.end_of_sequence_ids
    assert fingerprint(first.model) == fingerprint(second.model)
    for text in ("What is\ta <|eot_id|>\n  token?", "Él dijo: «¿qué tal?»"):
        assert first.tokenizer.encode(text) == second.tokenizer.encode(text)
    assert first.tokenizer.get_chat_template() == second.tokenizer.get_chat_template()
    assert kept.stat().st_mtime_ns == made


@pytest.mark.parametrize("multiplies", [True, False])
def test_auto_packs_where_the_processor_multiplies_bytes(
    tiny_llama_dir: Path, tmp_path: Path, weights_data_dir: Path, monkeypatch: pytest.MonkeyPatch, multiplies: bool
) -> None:
    monkeypatch.setattr("chat.weights.precision.multiplies_bytes", lambda: multiplies)
    loaded = load_model(str(tiny_llama_dir), tmp_path, None, lambda _line: None, "auto")
    assert loaded.info.dtype == ("int8" if multiplies else "float32")
    bundled = load_model("smollm2", weights_data_dir, None, lambda _line: None, "auto")
    assert bundled.info.dtype == ("int4" if multiplies else "float32")


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", "float32"), ("bf16", "bfloat16")])
def test_torchs_precisions_are_to_be_had_for_any_model(
    tiny_gemma_dir: Path, tmp_path: Path, precision: Any, dtype: str
) -> None:
    assert load_model(str(tiny_gemma_dir), tmp_path, None, lambda _line: None, precision).info.dtype == dtype


def test_a_model_of_another_family_is_not_packed(tiny_gemma: LoadedModel, tiny_gemma_dir: Path, tmp_path: Path) -> None:
    assert not is_packable(tiny_gemma.model)
    assert load_model(str(tiny_gemma_dir), tmp_path, None, lambda _line: None, "auto").info == tiny_gemma.info
    with pytest.raises(WeightsError, match="cannot run with --precision int8"):
        load_model(str(tiny_gemma_dir), tmp_path, None, lambda _line: None, "int8")


@pytest.mark.parametrize("device", ["toaster", "cuda:99"])
def test_a_device_that_is_not_there_is_named(tiny_llama_dir: Path, tmp_path: Path, device: str) -> None:
    with pytest.raises(WeightsError, match=f"cannot be put on --device “{device}”.*Use --device cpu"):
        load_model(str(tiny_llama_dir), tmp_path, None, lambda _line: None, "auto", device)


def test_nothing_is_packed_for_another_device_than_the_cpu(tiny_llama_dir: Path, tmp_path: Path) -> None:
    loaded = load_model(str(tiny_llama_dir), tmp_path, None, lambda _line: None, "auto", "meta")
    assert loaded.info.dtype == "bfloat16"
    assert not (tmp_path / "packed").exists()
    with pytest.raises(WeightsError, match="only a CPU runs packed models"):
        load_model(str(tiny_llama_dir), tmp_path, None, lambda _line: None, "int8", "meta")


def test_a_file_of_another_layout_is_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "packed.safetensors"
    pack_model(MAKERS["llama"]()).save(path, {})
    path.write_bytes(re.sub(b'"layout":"[0-9]"', b'"layout":"0"', path.read_bytes()))
    assert open_packed(path) is None


def test_more_requests_than_fit_into_a_pass_take_several() -> None:
    torch.manual_seed(1)
    forward = PackedForward(pack_model(MAKERS["llama"]().eval()), threads=2)
    caches = [forward.new_cache() for _ in range(40)]
    found = forward.step([IDS[place : place + 5] for place in range(40)], caches)
    assert [cache.length for cache in caches] == [5] * 40
    alone = [logits_after(forward, IDS[place : place + 5]) for place in range(40)]
    assert all(torch.equal(logits_of(odds[-1]), logits) for odds, logits in zip(found, alone, strict=True))


def test_tokens_that_are_read_ahead_get_the_bits_that_steps_give(model: Any) -> None:
    forward = PackedForward(pack_model(model), threads=2)
    one, other = forward.new_cache(), forward.new_cache()
    for cache in (one, other):
        forward.read(IDS[:20], cache)
    (ahead, _) = forward.step([IDS[20:25], [3]], [one, other])
    other.length = 20
    steps = [forward.step([[token]], [other])[0][0] for token in IDS[20:25]]
    assert torch.equal(logits_of(*ahead), logits_of(*steps))
