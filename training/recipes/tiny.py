"""Recipes for tests and first tries on a CPU: the real path with a tiny backbone. Every figure is ours."""

from __future__ import annotations

from dataclasses import replace

from training.policies.gr00t import GR00TSizes
from training.recipes.vla import VLARecipe

TINY_OFT = VLARecipe(
    name="tiny-oft",
    framework="oft",
    stage="test",
    data="any dataset with the three cameras",
    # A folder in the Hugging Face layout; give one with --set backbone=FOLDER.
    backbone="tiny",
    image_px=64,
    steps=20,
    global_batch=4,
    batch_per_device=4,
    learning_rate=1e-3,
    learning_rate_backbone=1e-3,
    learning_rate_head=3e-3,
    schedule="cosine_with_min_lr",
    warmup_steps=2,
    fg_raw="1:1",
    bf16=False,
    gradient_checkpointing=False,
    log_steps=1,
    check_steps=1000,
    save_steps=10,
)
TINY_GR00T = replace(
    TINY_OFT,
    name="tiny-gr00t",
    framework="gr00t",
    head=GR00TSizes(width=48, heads=3, blocks=4, out=40, inner=56, future_tokens=5, dropout=0.1),
)

TINY_RECIPES = (TINY_OFT, TINY_GR00T)
