"""The names that released checkpoints have are the names our policies have, so that weights load by name."""

from __future__ import annotations

from tests.training.importer.conftest import foreign_tensors
from training.policies.vla import VLAPolicy

# Read from StarVLA's MLP head and GR00T head (August 2026; the FineVLA revision has the same).
OFT_LAYERS = (
    "layer_norm1",
    "fc1",
    "mlp_resnet_blocks.0.ffn.0",
    "mlp_resnet_blocks.0.ffn.1",
    "mlp_resnet_blocks.1.ffn.0",
    "mlp_resnet_blocks.1.ffn.1",
    "layer_norm2",
    "fc2",
)
BLOCK_LAYERS = ("norm1.linear", "attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0", "ff.net.0.proj", "ff.net.2")
GR00T_LAYERS = (
    "state_encoder.layer1",
    "state_encoder.layer2",
    "action_encoder.layer1",
    "action_encoder.layer2",
    "action_encoder.layer3",
    "action_decoder.layer1",
    "action_decoder.layer2",
    "model.proj_out_1",
    "model.proj_out_2",
    "model.timestep_encoder.timestep_embedder.linear_1",
    "model.timestep_encoder.timestep_embedder.linear_2",
)
PARTS = ("weight", "bias")
BACKBONE = "qwen_vl_interface.model."


def head_names(policy: VLAPolicy) -> set[str]:
    return {name for name in foreign_tensors(policy) if name.startswith("action_model.")}


def test_the_oft_head_has_the_released_names(oft: VLAPolicy) -> None:
    assert head_names(oft) == {f"action_model.model.{layer}.{part}" for layer in OFT_LAYERS for part in PARTS}


def test_the_gr00t_head_has_the_released_names(gr00t: VLAPolicy) -> None:
    blocks = [f"model.transformer_blocks.{index}.{layer}" for index in (0, 1) for layer in BLOCK_LAYERS]
    layers = {f"action_model.{layer}.{part}" for layer in (*GR00T_LAYERS, *blocks) for part in PARTS}
    assert head_names(gr00t) == layers | {"action_model.future_tokens.weight", "action_model.position_embedding.weight"}


def test_the_backbone_has_the_names_of_its_hugging_face_folder(oft: VLAPolicy) -> None:
    names = {name for name in foreign_tensors(oft) if not name.startswith("action_model.")}
    assert all(name.startswith(BACKBONE) for name in names)
    for part in ("model.visual.", "model.language_model.embed_tokens.weight", "lm_head.weight"):
        assert any(name.startswith(BACKBONE + part) for name in names)
