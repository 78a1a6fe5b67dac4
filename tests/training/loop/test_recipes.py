"""The figures of the recipes, and settings from the command line."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finevla_runtime.contracts.errors import SetupError
from training.recipes import RECIPES, TabletopRecipe, VLARecipe, find_recipe, tabletop_recipe, vla_recipe
from training.recipes.overrides import override

# Steps, samples per step, per device, peaks (base, backbone, head), warm-up, schedule, FG:Raw.
COSINE = "cosine_with_min_lr"
TABLE = {
    "rdt-oft": ("oft", 100_000, 512, 8, (2e-5, 1e-5, 1e-4), 5000, COSINE, "1:1"),
    "rdt-gr00t": ("gr00t", 100_000, 512, 8, (2e-5, 1e-5, 1e-4), 5000, COSINE, "1:1"),
    "alohamix-oft": ("oft", 100_000, 512, 4, (2e-5, 1e-5, 1e-4), 5000, COSINE, "1:1"),
    "robotwin-oft": ("oft", 100_000, 128, 16, (5e-6, 5e-6, 5e-5), 0, "constant", "raw"),
    "robotwin-gr00t": ("gr00t", 100_000, 128, 16, (2e-5, 2e-5, 1e-4), 1000, COSINE, "raw"),
    "real-robot-oft": ("oft", 20_000, 128, 16, (5e-6, 5e-6, 5e-5), 0, "constant", "1:1"),
}


@pytest.mark.parametrize("name", TABLE)
def test_a_published_recipe_has_the_figures_of_its_source(name: str) -> None:
    r = vla_recipe(name)
    peaks = (r.learning_rate, r.learning_rate_backbone, r.learning_rate_head)
    found = (r.framework, r.steps, r.global_batch, r.batch_per_device, peaks, r.warmup_steps, r.schedule, r.fg_raw)
    assert found == TABLE[name]
    # What the training files have in common.
    assert (r.beta1, r.beta2, r.eps, r.weight_decay, r.clip_norm) == (0.9, 0.95, 1e-8, 1e-8, 1.0)
    assert (r.min_lr, r.seed, r.repeats, r.bf16, r.gradient_checkpointing) == (5e-7, 42, 4, True, True)
    assert (r.chunk_rows, r.image_px, r.state, r.ema) == (16, 224, False, 0.0)
    assert r.cameras == ("cam_high", "cam_left_wrist", "cam_right_wrist")
    assert (r.head.width, r.head.heads, r.head.blocks, r.head.dropout, r.head.future_tokens) == (768, 12, 16, 0.2, 32)
    modes = ("min_max", "min_max") if name == "real-robot-oft" else ("q99", "binary")
    assert (r.joint_mode, r.gripper_mode) == modes


def test_every_recipe_is_found_by_its_name_says_what_it_is_and_survives_json() -> None:
    assert set(TABLE) | {"tabletop-oft", "tabletop-gr00t", "tiny-oft", "tiny-gr00t"} == set(RECIPES)
    for name, recipe in RECIPES.items():
        assert find_recipe(name) is recipe
        assert recipe.name == name
        assert recipe.summary
        assert json.loads(json.dumps(asdict(recipe)))["framework"] in ("oft", "gr00t")
    assert len({recipe.digest for recipe in RECIPES.values()}) == len(RECIPES)


def test_an_unknown_recipe_names_the_nearest_and_kinds_are_not_mixed_up() -> None:
    with pytest.raises(SetupError, match="Did you mean 'robotwin-oft'") as caught:
        find_recipe("robotwin-ofd")
    assert caught.value.code == "FV-TRN-008"
    assert isinstance(tabletop_recipe("tabletop-oft"), TabletopRecipe)
    for wrong, find in (("rdt-oft", tabletop_recipe), ("tabletop-oft", vla_recipe)):
        with pytest.raises(SetupError, match=wrong):
            find(wrong)


def test_settings_are_read_with_the_type_of_their_field() -> None:
    changed = override(
        vla_recipe("rdt-gr00t"),
        [
            "steps=10",
            "learning_rate_head=3e-4",
            "bf16=false",
            "cameras=cam_high,cam_left_wrist",
            "head.blocks=4",
            "fg_raw=1:2",
        ],
    )
    assert isinstance(changed, VLARecipe)
    assert (changed.steps, changed.learning_rate_head, changed.bf16) == (10, 3e-4, False)
    assert (changed.cameras, changed.head.blocks, changed.fg_raw) == (("cam_high", "cam_left_wrist"), 4, "1:2")
    assert changed.head.width == 768
    tabletop = override(tabletop_recipe("tabletop-oft"), ["mixture.family_weights=colour:2,arm:0.5", "loss.arm=0"])
    assert tabletop.mixture.family_weights == {"colour": 2.0, "arm": 0.5}
    assert tabletop.loss.arm == 0.0


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ("learning_rate_haed=1", "FV-TRN-020", "Did you mean 'learning_rate_head'"),
        ("head.bloks=1", "FV-TRN-020", "Did you mean 'head.blocks'"),
        ("steps.x=1", "FV-TRN-020", "no settings inside"),
        ("head=1", "FV-TRN-020", "head.width"),
        ("framework=oft", "FV-TRN-020", "unknown setting"),
        ("steps=ten", "FV-TRN-021", "a whole number"),
        ("learning_rate=fast", "FV-TRN-021", "a number"),
        ("bf16=maybe", "FV-TRN-021", "true or false"),
        ("steps", "FV-TRN-021", "KEY=VALUE"),
        ("steps=0", "FV-TRN-021", "1 or more"),
        ("check_steps=0", "FV-TRN-021", "check_steps is 0; it must be 1 or more"),
        ("keep_checkpoints=0", "FV-TRN-021", "1 or more"),
        ("ema=1", "FV-TRN-021", "0 or more and below 1"),
        ("clip_norm=0", "FV-TRN-021", "above 0"),
        ("learning_rate_head=-1", "FV-TRN-021", "0 or more"),
        ("seed=-1", "FV-TRN-021", "0 or more"),
        ("head.heads=0", "FV-POL-010", "sizes of 1 or more"),
        ("schedule=cosin", "FV-TRN-028", "Did you mean 'cosine'"),
    ],
)
def test_a_wrong_setting_is_refused_with_what_to_write(change: str, code: str, words: str) -> None:
    with pytest.raises(SetupError, match=words) as caught:
        override(vla_recipe("rdt-gr00t"), [change])
    assert caught.value.code == code


@pytest.mark.parametrize("change", ["minutes=-1", "steps=-1", "ema=1", "seed=-1", "learning_rate=-1", "heads=0"])
def test_a_tabletop_run_that_could_not_be_trained_is_refused(change: str) -> None:
    with pytest.raises(SetupError) as caught:
        override(tabletop_recipe("tabletop-oft"), [change])
    assert caught.value.code == "FV-TRN-021"


@given(st.floats(1e-9, 1.0), st.integers(1, 10**9))
def test_numbers_come_through_unchanged(rate: float, steps: int) -> None:
    changed = override(vla_recipe("robotwin-oft"), [f"learning_rate_head={rate!r}", f"steps={steps}"])
    assert (changed.learning_rate_head, changed.steps) == (rate, steps)
