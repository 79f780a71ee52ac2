"""The fingerprint must see every bit of every tensor, and nothing else."""

from __future__ import annotations

import hashlib

import pytest
import torch
from torch import nn

from chat.weights import LoadedModel, changed_parameters, fingerprint
from chat.weights.fingerprint import weight_bytes


class Holder(nn.Module):
    """Any module at all: the fingerprint reads tensors and needs no model around them."""

    def __init__(self, **tensors: torch.Tensor) -> None:
        super().__init__()
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor, persistent=False)


def flip_one_bit(tensor: torch.Tensor, byte: int = 0) -> None:
    raw = tensor.detach().view(-1).view(torch.uint8)
    raw[byte] = raw[byte] ^ 1


def test_the_same_weights_have_the_same_fingerprint_twice(tiny_llama: LoadedModel) -> None:
    assert fingerprint(tiny_llama.model) == fingerprint(tiny_llama.model)


def test_one_flipped_bit_in_one_tensor_is_seen_and_counted_and_flipping_it_back_restores_the_digest(
    tiny_llama: LoadedModel,
) -> None:
    before = fingerprint(tiny_llama.model)
    weight = tiny_llama.model.get_parameter("model.layers.1.mlp.up_proj.weight")
    flip_one_bit(weight, byte=1234)
    try:
        after = fingerprint(tiny_llama.model)
    finally:
        flip_one_bit(weight, byte=1234)
    assert after.digest != before.digest
    assert changed_parameters(before, after) == weight.numel() == 128 * 64
    assert fingerprint(tiny_llama.model) == before


@pytest.mark.parametrize("family", ["tiny_llama", "tiny_qwen", "tiny_gemma"])
def test_every_parameter_and_buffer_of_each_family_is_in_the_fingerprint(
    family: str, request: pytest.FixtureRequest
) -> None:
    loaded: LoadedModel = request.getfixturevalue(family)
    buffers = dict(loaded.model.named_buffers())
    assert any("inv_freq" in name for name in buffers), "rotary frequencies are a buffer that no file holds"
    seen = {tensor.name: tensor.parameters for tensor in fingerprint(loaded.model).tensors}
    assert buffers.keys() < seen.keys()
    assert sum(seen.values()) - sum(buffer.numel() for buffer in buffers.values()) == loaded.info.parameters


def test_a_change_in_a_buffer_that_is_never_saved_is_seen() -> None:
    model = Holder(frequencies=torch.arange(8.0))
    before = fingerprint(model)
    flip_one_bit(model.frequencies, byte=31)
    assert changed_parameters(before, fingerprint(model)) == 8


def test_tied_tensors_count_once_and_untying_them_is_seen(tiny_qwen: LoadedModel) -> None:
    names = [tensor.name for tensor in fingerprint(tiny_qwen.model).tensors]
    assert "model.embed_tokens.weight" in names
    assert "lm_head.weight" not in names
    model = nn.Module()
    model.first, model.second = nn.Linear(4, 3, bias=False), nn.Linear(4, 3, bias=False)
    model.second.weight = model.first.weight
    before = fingerprint(model)
    model.second.weight = nn.Parameter(model.first.weight.detach().clone())
    assert changed_parameters(before, fingerprint(model)) == 12


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.int8, torch.bool]
)
def test_every_dtype_is_read_as_its_raw_bytes(dtype: torch.dtype) -> None:
    model = Holder(values=torch.ones(5, 3).to(dtype))
    before = fingerprint(model)
    flip_one_bit(model.values, byte=model.values.nbytes - 1)
    after = fingerprint(model)
    assert changed_parameters(before, after) == 15


def test_memory_layout_does_not_matter_but_content_does() -> None:
    rows = torch.arange(12.0).reshape(3, 4)
    turned = rows.t().contiguous().t()
    assert not turned.is_contiguous()
    assert fingerprint(Holder(w=rows)) == fingerprint(Holder(w=turned))
    assert fingerprint(Holder(w=rows)) == fingerprint(Holder(w=torch.arange(24.0).reshape(3, 8)[:, :4] * 0 + rows))
    assert fingerprint(Holder(w=rows)) != fingerprint(Holder(w=rows.t()))


def test_a_name_a_shape_and_a_dtype_are_part_of_the_digest() -> None:
    base = fingerprint(Holder(w=torch.zeros(4))).digest
    others = [Holder(v=torch.zeros(4)), Holder(w=torch.zeros(2, 2)), Holder(w=torch.zeros(4, dtype=torch.int32))]
    assert len({base, *(fingerprint(other).digest for other in others)}) == 4


def test_empty_and_scalar_tensors_are_digested() -> None:
    first = fingerprint(Holder(nothing=torch.zeros(0, 3), one=torch.tensor(1.0)))
    second = fingerprint(Holder(nothing=torch.zeros(0, 3), one=torch.tensor(2.0)))
    assert [tensor.parameters for tensor in first.tensors] == [0, 1]
    assert changed_parameters(first, second) == 1


def test_tensors_that_appear_or_disappear_count_whole() -> None:
    small, large = Holder(a=torch.zeros(3)), Holder(a=torch.zeros(3), b=torch.zeros(7))
    assert changed_parameters(fingerprint(small), fingerprint(large)) == 7
    assert changed_parameters(fingerprint(large), fingerprint(small)) == 7


def test_the_digest_can_be_computed_by_anyone_from_its_description() -> None:
    values = torch.tensor([[1.5, -2.0]], dtype=torch.float32)
    tensor = hashlib.sha256(b"w\0torch.float32\0(1, 2)\0" + values.numpy().tobytes()).hexdigest()
    whole = hashlib.sha256(f"w\0{tensor}\n".encode()).hexdigest()
    assert fingerprint(Holder(w=values)).digest == whole


def test_the_weights_bytes_are_those_of_every_tensor_once(tiny_llama: LoadedModel, tiny_qwen: LoadedModel) -> None:
    held = Holder(floats=torch.zeros(3, 5), bytes=torch.zeros(7, dtype=torch.uint8))
    assert weight_bytes(held) == 3 * 5 * 4 + 7
    # Qwen's embeddings are tied to its last layer.
    assert all(weight_bytes(each.model) >= each.info.parameters * 2 for each in (tiny_llama, tiny_qwen))
    assert weight_bytes(tiny_qwen.model) < (tiny_qwen.info.parameters + 1_000) * 2
