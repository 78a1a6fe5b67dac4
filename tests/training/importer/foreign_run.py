"""Writes small run folders in the exact layout of StarVLA and FineVLA, both revisions, both frameworks."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor

# The mixtures whose data configuration gives each revision's RoboTwin order.
MIXTURES = {"finevla": "robotwin_mix", "starvla": "robotwin_all"}
# Where grippers stand in each revision's RoboTwin rows.
GRIPPERS = {"finevla": (6, 13), "starvla": (12, 13)}
FRAMEWORKS = {"oft": "QwenOFT", "gr00t": "QwenGR00T"}


def run_config(framework: str, revision: str) -> dict[str, object]:
    """Settings with upstream's names and defaults; the DiT has two blocks and short tables to stay small."""
    head: dict[str, object] = {
        "action_model_type": "DiT-B",
        "action_hidden_dim": 2560,
        "action_dim": 14,
        "state_dim": 14,
        "hidden_size": 1024,
    }
    if revision == "finevla":
        head |= {"future_action_window_size": 15, "action_horizon": 16, "past_action_window_size": 0}
    else:
        head |= {"action_horizon": 16}
    if framework == "gr00t":
        head |= {
            "add_pos_embed": True,
            "max_seq_len": 1024,
            "repeated_diffusion_steps": 8,
            "noise_beta_alpha": 1.5,
            "noise_beta_beta": 1.0,
            "noise_s": 0.999,
            "num_timestep_buckets": 1000,
            "num_inference_timesteps": 4,
            "num_target_vision_tokens": 32,
            "diffusion_model_cfg": {
                "cross_attention_dim": 2048,
                "dropout": 0.2,
                "final_dropout": True,
                "interleave_self_attention": True,
                "norm_type": "ada_norm",
                "num_layers": 16,
                "output_dim": 2560,
                "positional_embeddings": None,
            },
        }
    data: dict[str, object] = {
        "dataset_py": "lerobot_datasets",
        "data_root_dir": "somewhere",
        "data_mix": MIXTURES[revision],
        "default_image_resolution": [3, 224, 224],
    }
    if revision == "finevla":
        data |= {"action_type": "abs_joint", "image_size": [224, 224], "lerobot_version": "v2.0"}
        data["obs"] = ["cam_high", "cam_left_wrist", "cam_right_wrist"]
    else:
        data |= {"action_type": "abs_qpos", "obs_image_size": [224, 224], "include_state": False}
    config: dict[str, object] = {
        "run_id": f"tiny_{framework}_{revision}",
        "seed": 42,
        "framework": {
            "name": FRAMEWORKS[framework],
            "qwenvl": {"base_vlm": "elsewhere/Qwen3.5-4B", "attn_implementation": "flash_attention_2"},
            "action_model": head,
        },
        "datasets": {"vla_data": data},
        "trainer": {"max_train_steps": 100, "repeated_diffusion_steps": 4},
    }
    return config if revision == "finevla" else config | {"version_id": "0.21"}


def changed(config: dict[str, object], changes: Mapping[str, object]) -> dict[str, object]:
    """Return a copy of ``config`` with settings at dotted paths replaced; None removes one."""
    copy: dict[str, object] = json.loads(json.dumps(config))
    for path, value in changes.items():
        *parents, last = path.split(".")
        node = copy
        for parent in parents:
            child = node.setdefault(parent, {})
            assert isinstance(child, dict)
            node = child
        if value is None:
            node.pop(last, None)
        else:
            node[last] = value
    return copy


def columns(first: float = 0.0) -> dict[str, list[float]]:
    """Statistics of 14 dimensions, each dimension with numbers of its own."""
    names = {"q01": -1.0, "q99": 1.0, "min": -2.0, "max": 2.0, "mean": 0.1, "std": 0.5}
    return {
        name: [first + value + (0.01 * index if name != "std" else 0.0) for index in range(14)]
        for name, value in names.items()
    }


def run_statistics(revision: str, tags: tuple[str, ...] = ("new_embodiment",)) -> dict[str, object]:
    """``dataset_statistics.json`` with one entry per embodiment tag."""
    mask = [index not in GRIPPERS[revision] for index in range(14)]
    entry = {
        "action": {**columns(), "mask": mask},
        "state": columns(),
        "num_transitions": 1000,
        "num_trajectories": 10,
    }
    return dict.fromkeys(tags, entry)


def write_run(
    folder: Path,
    tensors: Mapping[str, Tensor] | Path,
    framework: str = "oft",
    revision: str = "finevla",
    changes: Mapping[str, object] | None = None,
    statistics: Mapping[str, object] | None = None,
    name: str = "checkpoints/steps_100_pytorch_model.pt",
) -> Path:
    """Write a run folder: both configs, statistics and one weight file; return the folder.

    A path in the place of tensors is a weight file of the right kind, which is linked instead of written.
    """
    config = changed(run_config(framework, revision), changes or {})
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.full.yaml").write_text(yaml.safe_dump(config))
    (folder / "config.yaml").write_text(yaml.safe_dump({key: config[key] for key in ("framework", "datasets")}))
    written = run_statistics(revision) if statistics is None else statistics
    (folder / "dataset_statistics.json").write_text(json.dumps(written))
    if isinstance(tensors, Path):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        os.link(tensors, folder / name)
    else:
        write_weights(folder / name, tensors)
    return folder


def write_weights(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a weight file as upstream's trainer does, by the ending of its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        save_file({name: tensor.contiguous().clone() for name, tensor in tensors.items()}, path)
    else:
        torch.save(dict(tensors), path)
