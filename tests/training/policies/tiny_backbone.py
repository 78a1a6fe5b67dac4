"""Writes tiny random backbone folders in the Hugging Face layout: config, weights, tokenizer, chat template.

A folder looks like a real one to everything that reads it: the tokenizer is byte-level BPE with Qwen's splitting rule
and special tokens, the action token is one id, the template has Qwen's markup, and the vision tower cuts patches of 16
pixels merged two by two. The numbers are random, from a fixed seed.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch

from finevla_runtime.contracts.errors import unknown_name

KINDS = ("qwen3_5", "qwen3_vl")
SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
ACTION_TOKEN = "🔍"
WORDS = tuple(
    word
    for line in (
        "user assistant action robot the Please predict next actions pick up place left right arm red green blue cube",
        "bowl with from grasp gripper slowly above side handle and then into move push open close STATE ACTION",
    )
    for word in line.split()
)
# Qwen's rule: contractions, words, single digits, punctuation runs, line ends, spaces.
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CHAT_TEMPLATE = """\
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' }}
    {%- for part in message.content %}
        {%- if part.type == 'image' %}
            {{- '<|vision_start|><|image_pad|><|vision_end|>' }}
        {%- else %}
            {{- part.text }}
        {%- endif %}
    {%- endfor %}
    {{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""
VOCABULARY = 640
HIDDEN = 64


def write_tiny_backbone(folder: Path, kind: str = "qwen3_5") -> Path:
    """Write a tiny random backbone into ``folder`` (made if missing) and return the folder.

    ``kind`` is ``qwen3_5`` (gated-delta and full attention layers) or ``qwen3_vl`` (full attention, deepstack).
    """
    if kind not in KINDS:
        raise unknown_name("FV-POL-001", "tiny backbone", kind, KINDS)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = tiny_tokenizer_json()
    (folder / "tokenizer.json").write_text(tokenizer)
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    (folder / "preprocessor_config.json").write_text(
        json.dumps(
            {
                "image_processor_type": "Qwen2VLImageProcessorFast",
                "image_mean": [0.5, 0.5, 0.5],
                "image_std": [0.5, 0.5, 0.5],
                "patch_size": 16,
                "temporal_patch_size": 2,
                "merge_size": 2,
                "size": {"shortest_edge": 1024, "longest_edge": 16777216},
            }
        )
    )
    _write_model(folder, kind, tokenizer)
    return folder


def tiny_tokenizer_json() -> str:
    """Return a byte-level BPE ``tokenizer.json`` in which the words above and the action token are single ids."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    splitter = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    vocabulary = {symbol: index for index, symbol in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    merges: list[tuple[str, str]] = []
    for word in [ACTION_TOKEN, *(" " + word for word in WORDS), *WORDS]:
        symbols = splitter.pre_tokenize_str(word)[0][0]
        joined = symbols[0]
        for symbol in symbols[1:]:
            if joined + symbol not in vocabulary:
                vocabulary[joined + symbol] = len(vocabulary)
                merges.append((joined, symbol))
            joined += symbol
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(SPLIT), behavior="isolated", invert=False), splitter]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS])
    if tokenizer.get_vocab_size() > VOCABULARY:
        raise AssertionError(f"the tiny vocabulary outgrew {VOCABULARY}: {tokenizer.get_vocab_size()}")
    return str(tokenizer.to_str())


def _write_model(folder: Path, kind: str, tokenizer_json: str) -> None:
    from tokenizers import Tokenizer
    from transformers import (
        Qwen3_5Config,
        Qwen3_5ForConditionalGeneration,
        Qwen3VLConfig,
        Qwen3VLForConditionalGeneration,
    )

    ids = Tokenizer.from_str(tokenizer_json)
    text: dict[str, object] = {
        "vocab_size": VOCABULARY,
        "hidden_size": HIDDEN,
        "intermediate_size": 96,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 32,
        "max_position_embeddings": 2048,
        "initializer_range": 0.15,
        "tie_word_embeddings": True,
        "pad_token_id": ids.token_to_id("<|endoftext|>"),
    }
    vision: dict[str, object] = {
        "depth": 2,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_heads": 2,
        "out_hidden_size": HIDDEN,
        "num_position_embeddings": 64,
        "initializer_range": 0.15,
    }
    special = {
        "image_token_id": ids.token_to_id("<|image_pad|>"),
        "video_token_id": ids.token_to_id("<|video_pad|>"),
        "vision_start_token_id": ids.token_to_id("<|vision_start|>"),
        "vision_end_token_id": ids.token_to_id("<|vision_end|>"),
        "tie_word_embeddings": True,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: Qwen3_5ForConditionalGeneration | Qwen3VLForConditionalGeneration
        if kind == "qwen3_5":
            text |= {
                "layer_types": ["linear_attention", "full_attention", "linear_attention"],
                "linear_num_key_heads": 2,
                "linear_num_value_heads": 4,
                "linear_key_head_dim": 16,
                "linear_value_head_dim": 16,
                "rope_parameters": {
                    "rope_type": "default",
                    "rope_theta": 10000.0,
                    "partial_rotary_factor": 0.25,
                    "mrope_section": [2, 1, 1],
                    "mrope_interleaved": True,
                },
            }
            model = Qwen3_5ForConditionalGeneration(Qwen3_5Config(text_config=text, vision_config=vision, **special))
        else:
            text["rope_parameters"] = {
                "rope_type": "default",
                "rope_theta": 10000.0,
                "mrope_section": [6, 5, 5],
                "mrope_interleaved": True,
            }
            vision["deepstack_visual_indexes"] = [0, 1]
            model = Qwen3VLForConditionalGeneration(Qwen3VLConfig(text_config=text, vision_config=vision, **special))
    model.save_pretrained(folder)
