"""The backbone says what the Hugging Face model says, without its processor, its loops and its padding mask."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from huggingface_hub.utils import validate_repo_id
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText, Qwen2VLImageProcessorPil, Qwen3_5Config, Qwen3_5Model

from finevla_runtime.contracts.errors import SetupError
from tests.training.policies.tiny_policy import CAMERAS, SIZES, Case
from training.policies.backbone import Backbone, load_backbone, resolve_folder
from training.policies.image_patches import Patchify, PatchRule, image_grid, read_patch_rule
from training.policies.rope_index import RopeIndex
from training.policies.tiny_backbone import KINDS
from training.policies.vla import PolicyPlan, build_policy

FRAMES = [(camera.height, camera.width) for camera in CAMERAS]
TINY = PatchRule(16, 2, 2, min_pixels=1024)
RELEASED = PatchRule(16, 2, 2)


def real_processor(rule: PatchRule) -> Qwen2VLImageProcessorPil:
    return Qwen2VLImageProcessorPil(
        patch_size=rule.patch,
        merge_size=rule.merge,
        temporal_patch_size=rule.temporal,
        image_mean=list(rule.mean),
        image_std=list(rule.std),
        size={"shortest_edge": rule.min_pixels, "longest_edge": rule.max_pixels},
    )


def frames_of(shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    return torch.tensor(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


@pytest.mark.parametrize("kind", KINDS)
def test_hidden_states_are_those_of_the_hugging_face_model(case: Callable[..., Case], kind: str) -> None:
    tiny = case("oft", kind)
    backbone, inputs = tiny.policy.backbone, tiny.inputs()
    tokens = inputs["tokens"]
    images = [inputs[f"image.{camera.name}"] for camera in CAMERAS]
    with torch.no_grad():
        ours = backbone.hidden(tokens, backbone.embed_images(images))
        reference = AutoModelForImageTextToText.from_pretrained(tiny.plan.backbone, attn_implementation="sdpa").eval()
        packed = real_processor(TINY)(
            [view[row].numpy() for row in range(len(tokens)) for view in images], return_tensors="pt"
        )
        theirs = reference(
            input_ids=tokens,
            attention_mask=(tokens != tiny.spec.pad_id).long(),
            mm_token_type_ids=(tokens == backbone.image_token_id).int(),
            pixel_values=packed["pixel_values"],
            image_grid_thw=packed["image_grid_thw"],
            output_hidden_states=True,
        ).hidden_states[-1]
    real = tokens != tiny.spec.pad_id
    assert not real.all(), "one prompt must be padded"
    torch.testing.assert_close(ours[real], theirs[real], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("height", "width", "rule"),
    [(64, 96, TINY), (224, 224, TINY), (224, 224, RELEASED), (240, 320, RELEASED), (480, 640, RELEASED)],
)
def test_patches_and_grids_are_those_of_the_real_image_processor(height: int, width: int, rule: PatchRule) -> None:
    frames = frames_of((2, height, width, 3))
    grid = image_grid(height, width, rule)
    theirs = real_processor(rule)([frame.numpy() for frame in frames], return_tensors="pt")
    assert theirs["image_grid_thw"].tolist() == [[1, grid.rows, grid.columns]] * 2
    ours = Patchify(grid, rule)(frames).reshape(-1, theirs["pixel_values"].shape[1])
    difference = (ours - theirs["pixel_values"]).abs()
    # One grey level is 2 / 255 here. Resizing in float may round a pixel in a million to the other neighbour.
    assert float(difference.max()) <= 2.01 / 255
    assert float((difference > 1e-5).float().mean()) < 1e-5


def test_autocast_does_not_change_a_pixel() -> None:
    rule = PatchRule(16, 2, 2, min_pixels=65536)
    cut = Patchify(image_grid(224, 224, rule), rule)
    frames = torch.from_numpy(np.random.default_rng(2).integers(0, 256, (2, 224, 224, 3), dtype=np.uint8))
    plain = cut(frames)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(cut(frames), plain)


def test_a_released_folder_reads_a_224_pixel_frame_as_64_tokens() -> None:
    assert image_grid(224, 224, RELEASED).tokens == 64
    assert image_grid(224, 224, TINY).tokens == 49


@given(st.integers(1, 400), st.integers(1, 400))
def test_every_frame_size_gets_the_grid_the_real_processor_gives_it(height: int, width: int) -> None:
    rule = PatchRule(16, 2, 2, min_pixels=4096, max_pixels=40000)
    if max(height, width) > 200 * min(height, width):
        with pytest.raises(SetupError, match="FV-POL-003"):
            image_grid(height, width, rule)
        return
    grid = image_grid(height, width, rule)
    assert grid.patches == real_processor(rule).get_number_of_image_patches(height, width)
    assert grid.rows % 2 == grid.columns % 2 == 0


@given(
    st.lists(st.tuples(st.sampled_from([32, 64, 96]), st.sampled_from([32, 64, 96])), min_size=1, max_size=3),
    st.lists(st.integers(0, 4), min_size=4, max_size=4),
    st.integers(0, 5),
)
def test_positions_are_those_of_the_hugging_face_model(
    sizes: list[tuple[int, int]], gaps: list[int], padding: int
) -> None:
    # A text token between two images is what tells them apart; every chat template writes at least one.
    grids = [image_grid(height, width, TINY) for height, width in sizes]
    mask: list[bool] = []
    for gap, grid in zip(gaps, grids, strict=False):
        mask += [False] * (gap + 1) + [True] * grid.tokens
    mask += [False] * (gaps[-1] + 1)
    image_mask = torch.tensor([mask + [False] * padding])
    ours = RopeIndex(grids)(image_mask)
    theirs, _ = position_model().get_rope_index(
        torch.zeros_like(image_mask, dtype=torch.long),
        image_mask.int(),
        torch.tensor([[1, grid.rows, grid.columns] for grid in grids]),
        attention_mask=torch.tensor([[1] * len(mask) + [0] * padding]),
    )
    assert torch.equal(ours[..., : len(mask)], theirs[..., : len(mask)])


@cache
def position_model() -> Qwen3_5Model:
    """Return a model without weights: positions need its config only."""
    with torch.device("meta"):
        text = {"num_hidden_layers": 1, "hidden_size": 64, "vocab_size": 8}
        return Qwen3_5Model(Qwen3_5Config(text_config=text, vision_config={"depth": 1}))


@pytest.mark.parametrize("kind", KINDS)
def test_right_padding_never_changes_a_hidden_state(case: Callable[..., Case], kind: str) -> None:
    tiny = case("oft", kind)
    inputs = tiny.inputs()
    backbone, tokens = tiny.policy.backbone, inputs["tokens"]
    with torch.no_grad():
        embeds = backbone.embed_images([inputs[f"image.{camera.name}"] for camera in CAMERAS])
        short = backbone.hidden(tokens, embeds)
        padded = torch.nn.functional.pad(tokens, (0, 70), value=tiny.spec.pad_id)
        long = backbone.hidden(padded, embeds)
    torch.testing.assert_close(long[:, : tokens.shape[1]], short, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_every_camera_reaches_its_own_tokens(case: Callable[..., Case], kind: str) -> None:
    backbone, inputs = case("oft", kind).policy.backbone, case("oft", kind).inputs()
    images = [inputs[f"image.{camera.name}"] for camera in CAMERAS]
    with torch.no_grad():
        before = backbone.embed_images(images)
        first = 0
        for index, grid in enumerate(backbone.grids):
            changed = [255 - image if place == index else image for place, image in enumerate(images)]
            touched = (backbone.embed_images(changed) - before).abs().amax(dim=(0, 2)) > 1e-6
            assert touched.nonzero().flatten().tolist() == list(range(first, first + grid.tokens))
            first += grid.tokens
    assert before.shape == (2, backbone.image_tokens, backbone.embed_width)


def test_checkpointed_gradients_are_the_same_gradients(case: Callable[..., Case]) -> None:
    inputs = case("oft").inputs()
    gradients = []
    for on in (False, True):
        policy = build_policy(case("oft").plan).train()
        policy.backbone.checkpoint_gradients(on)
        policy.loss(inputs, torch.zeros(2, 16, 14), torch.Generator()).sum().backward()
        gradients.append({n: p.grad for n, p in policy.named_parameters() if p.grad is not None})
        policy.backbone.checkpoint_gradients(False)
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, msg=name)


def test_a_half_precision_backbone_keeps_a_full_precision_head(folders: dict[str, Path]) -> None:
    plan = PolicyPlan("gr00t", str(folders["qwen3_5"]), CAMERAS, dtype="bfloat16", sizes=SIZES)
    tiny = Case(plan)
    assert {p.dtype for p in tiny.policy.backbone.parameters()} == {torch.bfloat16}
    assert {p.dtype for name, p in tiny.policy.named_parameters() if name.startswith("head.")} == {torch.float32}
    with torch.no_grad():
        half = tiny.policy.act(tiny.inputs())
        full = Case(replace(plan, dtype="float32")).policy.act(tiny.inputs())
    assert half.dtype == torch.float32
    assert float((half - full).abs().max()) < 0.1
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert tiny.policy.act(tiny.inputs()).dtype == torch.float32


def test_wrong_frames_folders_types_and_weights_are_refused_with_their_code(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    backbone = load_backbone(str(folders["qwen3_5"]), FRAMES)
    with pytest.raises(SetupError, match="FV-POL-004"):
        backbone.embed_images([frames_of((1, 64, 64, 3)), frames_of((1, 64, 64, 3)), frames_of((1, 64, 64, 3))])
    with pytest.raises(SetupError, match=r"FV-POL-005.*hub:"):
        load_backbone("Qwen/Qwen3.5-4B", FRAMES)
    with pytest.raises(SetupError, match=r"FV-POL-006.*bfloat16"):
        load_backbone(str(folders["qwen3_5"]), FRAMES, dtype="bf16")
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "config.json").write_text(json.dumps({"model_type": "qwen2_vl"}))
    with pytest.raises(SetupError, match="FV-POL-001"):
        load_backbone(str(foreign), FRAMES)


@pytest.mark.parametrize("name", ["hub:not a name", "hub:nobody/nothing"])
def test_a_hub_name_that_cannot_be_had_says_what_to_do(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(repo: str) -> str:
        validate_repo_id(repo)
        raise LocalEntryNotFoundError("no network and nothing in the cache")

    monkeypatch.setattr("training.policies.backbone.snapshot_download", offline)
    with pytest.raises(SetupError, match=r"FV-POL-005.*--backbone DIR"):
        resolve_folder(name)


def test_a_folder_without_a_weights_file_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(folders["qwen3_5"], tmp_path / "copy")
    (tmp_path / "copy" / "model.safetensors").unlink()
    with pytest.raises(SetupError, match=r"FV-POL-007.*no readable weights"):
        load_backbone(str(tmp_path / "copy"), FRAMES)


def test_missing_weights_are_refused_and_not_filled_with_noise(folders: dict[str, Path], tmp_path: Path) -> None:
    for name in ("config.json", "preprocessor_config.json"):
        (tmp_path / name).write_text((folders["qwen3_5"] / name).read_text())
    weights = load_file(folders["qwen3_5"] / "model.safetensors")
    lost = next(name for name in weights if name.endswith("layers.1.self_attn.q_proj.weight"))
    save_file({n: w for n, w in weights.items() if n != lost}, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(SetupError, match=r"FV-POL-007.*q_proj"):
        load_backbone(str(tmp_path), FRAMES)


def test_a_processor_file_that_contradicts_the_model_is_refused(tmp_path: Path) -> None:
    nested = {"image_processor": {"patch_size": 16, "image_mean": [0.4, 0.5, 0.6], "size": {"shortest_edge": 99}}}
    (tmp_path / "processor_config.json").write_text(json.dumps(nested))
    rule = read_patch_rule(tmp_path, 16, 2, 2)
    assert (rule.mean, rule.min_pixels, rule.max_pixels) == ((0.4, 0.5, 0.6), 99, 16777216)
    for wrong in ({"patch_size": 14}, {"do_normalize": False}):
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(wrong))
        with pytest.raises(SetupError, match="FV-POL-002"):
            read_patch_rule(tmp_path, 16, 2, 2)


def test_random_weights_follow_the_seed_alone(folders: dict[str, Path]) -> None:
    def first(seed: int) -> torch.Tensor:
        torch.manual_seed(99)
        plan = PolicyPlan("oft", str(folders["qwen3_5"]), CAMERAS, random_weights=True, seed=seed)
        policy = build_policy(plan)
        assert float(torch.rand(1)) == pytest.approx(float(torch.rand(1, generator=torch.Generator().manual_seed(99))))
        assert isinstance(policy.backbone, Backbone)
        return torch.cat([parameter.flatten()[:5] for parameter in policy.parameters()])

    assert torch.equal(first(1), first(1))
    assert not torch.equal(first(1), first(2))
