"""Tiny random chat models of three families, written to disk with the real machinery: real files, templates, caches.

They answer nonsense. What they are for is shape: three ways to write turns, two kinds of tokenizer, grouped-query
attention, layers with a sliding window. `write_model` makes a folder that `load_model` takes like any other.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
)

CONTEXT_WINDOW = 1024

TEXT = """
Marginalia are the notes that readers write in the margin of a book. They never travel back to the printing plates:
the next reader who buys the book finds the same words on the same pages. A model that chats is like that book. Each
turn sends the whole conversation again, and the weights stay what they were. What was said yesterday is only there if
somebody copies it into the prompt of today. Tokens are counted, cached and paid for. The user asks a question, the
assistant answers it, and the system line at the top says how. My name is Ada; I live in Zürich and I like tea.
What is the capital of France? The capital of France is Paris. Please write a short story about a fox and a dog.
for i in range(10): print(i, "hello", {"key": [1, 2, 3]})  # 0123456789
Él dijo: «¿qué tal?» — Привет, мир! 你好,世界。こんにちは。 🙂🚀👩‍👩‍👧 naïve café déjà vu
"""

LLAMA_TEMPLATE = (
    "{{- bos_token }}"
    "{%- for message in messages %}"
    "{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' }}"
    "{{- message['content'] | trim + '<|eot_id|>' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif %}"
)

QWEN_TEMPLATE = (
    "{%- if messages[0].role == 'system' %}"
    "{{- '<|im_start|>system\n' + messages[0].content + '<|im_end|>\n' }}"
    "{%- endif %}"
    "{%- for message in messages %}"
    "{%- if message.role == 'user' or (message.role == 'system' and not loop.first) %}"
    "{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}"
    "{%- elif message.role == 'assistant' %}"
    "{{- '<|im_start|>' + message.role + '\n' + message.content.lstrip('\n') + '<|im_end|>\n' }}"
    "{%- endif %}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
)

GEMMA_TEMPLATE = (
    "{{ bos_token }}"
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}"
    "{% endif %}"
    "{% if (message['role'] == 'assistant') %}{% set role = 'model' %}"
    "{% else %}{% set role = message['role'] %}{% endif %}"
    "{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}"
)

_SHAPE = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": CONTEXT_WINDOW,
    # Wide enough that the random answers differ from prompt to prompt.
    "initializer_range": 0.2,
}


def write_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: Path) -> Path:
    """Save both into the folder, as a model is published."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_tiny_llama(folder: Path) -> Path:
    """Llama 3's headers, a byte-level BPE, a template that trims; bos and eos are not the end of a turn."""
    tokenizer = byte_level_tokenizer(
        ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
        bos_token="<|begin_of_text|>",
        eos_token="<|eot_id|>",
        chat_template=LLAMA_TEMPLATE,
    )
    config = LlamaConfig(num_hidden_layers=3, rope_theta=500_000.0, **_SHAPE, **_ids(tokenizer))
    return write_model(_seeded(LlamaForCausalLM, config), tokenizer, folder)


def write_tiny_qwen(folder: Path) -> Path:
    """Qwen's ChatML, a byte-level BPE without bos, tied embeddings, and weights in bfloat16."""
    tokenizer = byte_level_tokenizer(
        ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=QWEN_TEMPLATE,
    )
    config = Qwen3Config(num_hidden_layers=2, tie_word_embeddings=True, **_SHAPE, **_ids(tokenizer))
    return write_model(_seeded(Qwen3ForCausalLM, config).to(torch.bfloat16), tokenizer, folder)


def write_tiny_gemma(folder: Path) -> Path:
    """Gemma's turns, no system role, a SentencePiece-like BPE with byte fallback, sliding-window layers of 32."""
    tokenizer = metaspace_tokenizer(
        ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"],
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<pad>",
        unk_token="<unk>",
        chat_template=GEMMA_TEMPLATE,
    )
    layers = ["sliding_attention", "sliding_attention", "full_attention"]
    config = Gemma3TextConfig(
        num_hidden_layers=3,
        layer_types=layers,
        sliding_window=32,
        query_pre_attn_scalar=16,
        **_SHAPE,
        **_ids(tokenizer),
    )
    model = _seeded(Gemma3ForCausalLM, config)
    model.generation_config.eos_token_id = [
        tokenizer.eos_token_id,
        tokenizer.convert_tokens_to_ids("<end_of_turn>"),
    ]
    return write_model(model, tokenizer, folder)


def byte_level_tokenizer(special: list[str], **named: str) -> PreTrainedTokenizerFast:
    """A byte-level BPE like GPT-2's, Llama 3's and Qwen's: any text survives the way there and back."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    if "bos_token" in named:
        bos, first = named["bos_token"], special.index(named["bos_token"])
        tokenizer.post_processor = processors.TemplateProcessing(single=f"{bos} $A", special_tokens=[(bos, first)])
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=1024, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([TEXT], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, **named)


def metaspace_tokenizer(special: list[str], **named: str) -> PreTrainedTokenizerFast:
    """A BPE like Gemma's: "▁" for a space, no prefix, and bytes for characters that it never saw."""
    byte_tokens = [f"<0x{value:02X}>" for value in range(256)]
    trained = Tokenizer(models.BPE())
    trained.normalizer = normalizers.Replace(" ", "▁")
    trained.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    trainer = trainers.BpeTrainer(vocab_size=900, special_tokens=special, show_progress=False)
    # Emoji and Chinese stay out of the training, so that byte fallback has work to do.
    trained.train_from_iterator([line for line in TEXT.splitlines(keepends=True) if "🙂" not in line], trainer)
    learned = trained.get_vocab()
    # The bytes take the ids after the special tokens, as in Gemma's own vocabulary.
    order = [*special, *byte_tokens, *sorted((t for t in learned if t not in special), key=learned.__getitem__)]
    merges = _merges(trained)
    tokenizer = Tokenizer(
        models.BPE({token: index for index, token in enumerate(order)}, merges, unk_token="<unk>", byte_fallback=True)
    )
    tokenizer.add_special_tokens(special)
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    bos, first = named["bos_token"], special.index(named["bos_token"])
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{bos} $A", special_tokens=[(bos, first)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, **named)


def _merges(tokenizer: Tokenizer) -> list[tuple[str, str]]:
    return [tuple(pair) for pair in json.loads(tokenizer.to_str())["model"]["merges"]]


def _ids(tokenizer: PreTrainedTokenizerFast) -> dict[str, int | None]:
    return {
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def _seeded(model_class: type, config: object) -> PreTrainedModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = model_class(config).eval()
    # Otherwise the last token's own embedding outweighs the layers, and tied models only repeat it.
    model.get_input_embeddings().weight.data.mul_(0.05)
    return model
