"""A plan decides a policy completely."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from finevla_runtime.contracts.errors import SetupError
from finevla_runtime.contracts.policy import CameraSpec
from tests.training.policies.tiny_policy import CAMERAS, SIZES, Case
from training.policies.vla import PolicyPlan, build_policy, parameter_count


@pytest.mark.parametrize("framework", ["oft", "gr00t"])
def test_the_same_plan_gives_the_same_weights_and_another_seed_another_head(
    case: Callable[..., Case], framework: str
) -> None:
    plan = case(framework).plan
    kept = case(framework).policy.state_dict()
    again, other = build_policy(plan).state_dict(), build_policy(replace(plan, seed=5)).state_dict()
    assert again.keys() == kept.keys()
    assert all(torch.equal(again[name], kept[name]) for name in kept)
    same = [name for name in kept if torch.equal(other[name], kept[name])]
    assert all(name in same for name in kept if name.startswith("backbone."))
    assert "head.model.fc1.weight" not in same
    assert "head.action_encoder.layer1.weight" not in same


def test_a_policys_state_dict_is_the_folders_and_the_heads(case: Callable[..., Case], folders: dict[str, Path]) -> None:
    from safetensors import safe_open

    with safe_open(folders["qwen3_5"] / "model.safetensors", "pt") as weights:
        stored = set(weights.keys())
    names = {name.removeprefix("backbone.model.") for name in case("oft").policy.state_dict() if "head." not in name}
    # The output layer is tied to the input embeddings, so the folder stores it once.
    assert names - {"lm_head.weight"} == stored
    untied = {n: v for n, v in case("oft").policy.backbone.model.state_dict().items() if n != "lm_head.weight"}
    assert parameter_count(case("oft").policy.backbone) == sum(value.numel() for value in untied.values())


def test_an_untied_output_layer_expects_no_gradient(folders: dict[str, Path], tmp_path: Path) -> None:
    for name in ("tokenizer.json", "preprocessor_config.json"):
        (tmp_path / name).write_text((folders["qwen3_5"] / name).read_text())
    config = json.loads((folders["qwen3_5"] / "config.json").read_text())
    config["tie_word_embeddings"] = config["text_config"]["tie_word_embeddings"] = False
    (tmp_path / "config.json").write_text(json.dumps(config))
    policy = build_policy(PolicyPlan("oft", str(tmp_path), CAMERAS, random_weights=True))
    frozen = [name for name, parameter in policy.named_parameters() if not parameter.requires_grad]
    assert frozen == ["backbone.model.lm_head.weight"]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"framework": "pi0"}, "FV-POL-013"),
        ({"cameras": ()}, "FV-POL-015"),
        ({"cameras": (CameraSpec("a", 64, 64), CameraSpec("a", 64, 64))}, "FV-POL-015"),
        ({"chunk_rows": 0}, "FV-POL-015"),
        ({"denoise_steps": 0}, "FV-POL-015"),
        ({"backbone": "no/such/folder"}, "FV-POL-005"),
        ({"cameras": (CameraSpec("a", 1, 300),)}, "FV-POL-003"),
    ],
)
def test_an_impossible_plan_is_refused_with_its_code(
    folders: dict[str, Path], change: dict[str, object], code: str
) -> None:
    plan = PolicyPlan("gr00t", str(folders["qwen3_5"]), CAMERAS, sizes=SIZES)
    with pytest.raises(SetupError, match=code):
        build_policy(replace(plan, **change))  # type: ignore[arg-type]


def test_a_folder_that_mixes_two_models_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    for name in ("tokenizer.json", "preprocessor_config.json"):
        (tmp_path / name).write_text((folders["qwen3_5"] / name).read_text())
    config = json.loads((folders["qwen3_5"] / "config.json").read_text())
    config["image_token_id"] = 7
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(SetupError, match="FV-POL-012"):
        build_policy(PolicyPlan("oft", str(tmp_path), CAMERAS, random_weights=True))
