"""A run in StarVLA's layout becomes the policy whose weights it holds, or is refused with a reason."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from finevla_runtime.cli.verbs import Verb
from finevla_runtime.contracts.action import to_layout
from finevla_runtime.contracts.errors import SetupError
from finevla_runtime.contracts.policy import PolicySpec
from finevla_runtime.processing.normalise import normalise
from finevla_runtime.processing.pipeline import Processor
from tests.builders import make_observation
from tests.training.importer.conftest import SIZE, SIZES, foreign_tensors, tiny_policy
from tests.training.importer.foreign_run import columns, run_statistics, write_run
from training.importer.cli import import_run
from training.importer.import_job import ImportJob, import_policy
from training.importer.imported_checkpoint import ImportedCheckpoint, is_imported, load_imported
from training.importer.imported_policy import build_imported
from training.importer.statistics import to_normalisation
from training.policies.vla import VLAPolicy

HEAD = "framework.action_model"
# What the tiny GR00T policies of these tests change in the published config.
TINY: dict[str, object] = {
    f"{HEAD}.hidden_size": SIZES.inner,
    f"{HEAD}.num_target_vision_tokens": SIZES.future_tokens,
    f"{HEAD}.max_seq_len": SIZES.max_rows,
    f"{HEAD}.diffusion_model_cfg.num_layers": SIZES.blocks,
    f"{HEAD}.diffusion_model_cfg.output_dim": SIZES.out,
}
TEXTS = ("pick up the red cube", "place the blue bowl slowly from the left side with right arm")


def job(run: Path, backbone: Path, **changes: object) -> ImportJob:
    base = ImportJob(run, run.parent / "imported", "cobot_magic_sim", 10.0, backbone, image_size=SIZE)
    return replace(base, **changes)  # type: ignore[arg-type]


def linked(folder: Path, weights: Path, revision: str, changes: Mapping[str, object]) -> Path:
    """A GR00T run whose large weight file is linked, because many tests only vary its config."""
    name = "checkpoints/steps_100_model.safetensors"
    return write_run(folder / "run", weights, "gr00t", revision, {**TINY, **changes}, name=name)


def write(folder: Path, policy: VLAPolicy, framework: str, revision: str = "finevla", **more: object) -> Path:
    changes = {**(TINY if framework == "gr00t" else {}), **dict(more.pop("changes", {}))}  # type: ignore[call-overload]
    return write_run(folder / "run", foreign_tensors(policy), framework, revision, changes, **more)  # type: ignore[arg-type]


def batch(spec: PolicySpec, tokenizer_json: str) -> dict[str, Tensor]:
    processor = Processor(spec, tokenizer_json)
    samples = [processor.inputs(make_observation(text, seed=i, step=i), episode_seed=3) for i, text in enumerate(TEXTS)]
    return {name: torch.from_numpy(np.stack([sample[name] for sample in samples])) for name in samples[0]}


def answers(imported: ImportedCheckpoint, policy: VLAPolicy) -> tuple[Tensor, Tensor]:
    inputs = batch(imported.spec, imported.tokenizer_json)
    with torch.no_grad():
        return build_imported(imported).act(inputs), policy.act(inputs)


@pytest.mark.parametrize(
    ("framework", "revision", "name"),
    [
        ("oft", "finevla", "checkpoints/steps_100_pytorch_model.pt"),
        ("oft", "starvla", "checkpoints/steps_100_model.safetensors"),
        ("gr00t", "finevla", "final_model/pytorch_model.pt"),
    ],
)
def test_an_imported_policy_answers_exactly_as_the_policy_in_the_run(
    tmp_path: Path, backbone: Path, request: pytest.FixtureRequest, framework: str, revision: str, name: str
) -> None:
    policy: VLAPolicy = request.getfixturevalue(framework)
    imported = import_policy(job(write(tmp_path, policy, framework, revision, name=name), backbone))
    ours, theirs = answers(imported, policy)
    assert torch.equal(ours, theirs)
    assert ours.shape == (2, 16, 14)
    assert imported.spec.layout == ("project" if revision == "finevla" else "starvla_robotwin")
    assert imported.spec.normalisation.clip is (revision == "finevla")
    assert imported.spec.framework == framework


def test_an_imported_policy_needs_nothing_but_its_own_folder(tmp_path: Path, oft: VLAPolicy, backbone: Path) -> None:
    copy = shutil.copytree(backbone, tmp_path / "backbone")
    run = write(tmp_path, oft, "oft")
    imported = import_policy(job(run, copy))
    shutil.rmtree(copy)
    shutil.rmtree(run)
    moved = shutil.move(imported.path, tmp_path / "elsewhere")
    ours, theirs = answers(load_imported(Path(moved)), oft)
    assert torch.equal(ours, theirs)
    assert not list(Path(moved, "backbone").glob("*.safetensors"))


def test_provenance_says_where_it_came_from_and_what_was_decided(
    tmp_path: Path, gr00t_weights: Path, backbone: Path
) -> None:
    provenance = import_policy(job(linked(tmp_path, gr00t_weights, "finevla", {}), backbone)).provenance
    assert provenance["source.file"] == "checkpoints/steps_100_model.safetensors"
    assert len(provenance["source.sha256"]) == 64
    assert provenance["source.step"] == "100"
    for name, words in {
        "revision": "finevla",
        "encoder_mask": "depended on batch mates",
        "attention": "sdpa",
        "resize": "bicubic",
        "layout": "left_joints, left_gripper, right_joints, right_gripper",
        "normalisation": "q99",
        "clip": "[-1, 1]",
        "state": "absent",
        "chunk_rows": "16",
        "fg_share": "robotwin_mix",
        "image_size": f"{SIZE}x{SIZE}",
    }.items():
        assert words in provenance[f"decision.{name}"]


def test_half_precision_weights_stay_as_they_are_and_heads_become_float32(
    tmp_path: Path, oft: VLAPolicy, backbone: Path
) -> None:
    halved = {name: tensor.bfloat16() for name, tensor in foreign_tensors(oft).items()}
    imported = import_policy(job(write_run(tmp_path / "run", halved), backbone))
    weights = imported.weights()
    assert {t.dtype for name, t in weights.items() if name.startswith("backbone.")} == {torch.bfloat16}
    assert {t.dtype for name, t in weights.items() if name.startswith("head.")} == {torch.float32}
    assert json.loads(imported.plan_json)["dtype"] == "bfloat16"
    built = build_imported(imported)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in built.state_dict().items())


def test_an_output_table_that_safetensors_left_out_is_filled_and_recorded(
    tmp_path: Path, oft: VLAPolicy, backbone: Path
) -> None:
    tensors = foreign_tensors(oft)
    del tensors["qwen_vl_interface.model.lm_head.weight"]
    imported = import_policy(job(write_run(tmp_path / "run", tensors), backbone))
    assert "decision.output_table" in imported.provenance
    ours, theirs = answers(imported, oft)
    assert torch.equal(ours, theirs)


class TestState:
    def test_state_statistics_are_folded_into_the_state_encoder(self, tmp_path: Path, backbone: Path) -> None:
        """The run scales its state by its own statistics; ours arrives scaled by those of the actions."""
        policy = tiny_policy(backbone, "gr00t", state=True)
        statistics = run_statistics("starvla")
        entry = statistics["new_embodiment"]
        assert isinstance(entry, dict)
        entry["state"] = {**columns(first=0.3), "max": [4.0 + 0.1 * i for i in range(14)]}
        entry["state"]["min"][3] = entry["state"]["max"][3]
        change = {"datasets.vla_data.include_state": True}
        imported = import_policy(
            job(write(tmp_path, policy, "gr00t", "starvla", changes=change, statistics=statistics), backbone)
        )
        assert "decision.state_statistics" in imported.provenance
        inputs = batch(imported.spec, imported.tokenizer_json)
        upstream = to_normalisation(entry["state"], ["min_max"] * 12 + ["binary"] * 2, clip=False)
        joints = np.stack([make_observation(text, seed=i).joint_position for i, text in enumerate(TEXTS)])
        scaled = normalise(to_layout(joints, "starvla_robotwin"), upstream)
        scaled[:, 3] = 0.0  # A dimension without spread is constantly 0 upstream.
        with torch.no_grad():
            ours = build_imported(imported).act(inputs)
            theirs = policy.act({**inputs, "state": torch.from_numpy(scaled)})
        assert torch.allclose(ours, theirs, atol=1e-4)

    def test_an_oft_policy_with_other_state_statistics_is_refused(
        self, tmp_path: Path, oft: VLAPolicy, backbone: Path
    ) -> None:
        statistics = run_statistics("starvla")
        statistics["new_embodiment"]["state"] = columns(first=0.3)  # type: ignore[index]
        change = {"datasets.vla_data.include_state": True}
        run = write(tmp_path, oft, "oft", "starvla", changes=change, statistics=statistics)
        assert refusal(job(run, backbone)).code == "FV-IMP-022"

    def test_an_oft_policy_with_the_same_state_statistics_writes_them_into_its_prompt(
        self, tmp_path: Path, oft: VLAPolicy, backbone: Path
    ) -> None:
        run = write(tmp_path, oft, "oft", "starvla", changes={"datasets.vla_data.include_state": True})
        imported = import_policy(job(run, backbone))
        assert imported.spec.state
        assert "{state}" in imported.spec.prompt.template

    def test_a_state_without_statistics_is_refused(self, tmp_path: Path, oft: VLAPolicy, backbone: Path) -> None:
        statistics = run_statistics("starvla")
        del statistics["new_embodiment"]["state"]  # type: ignore[attr-defined]
        change = {"datasets.vla_data.include_state": True}
        run = write(tmp_path, oft, "oft", "starvla", changes=change, statistics=statistics)
        assert refusal(job(run, backbone)).code == "FV-IMP-015"


def refusal(wanted: ImportJob) -> SetupError:
    with pytest.raises(SetupError) as caught:
        import_policy(wanted)
    assert not wanted.out.exists()
    assert not list(wanted.out.parent.glob(".imported*"))
    return caught.value


class TestRefusals:
    @pytest.fixture
    def run(self, tmp_path: Path, oft: VLAPolicy) -> Path:
        return write(tmp_path, oft, "oft")

    def test_a_missing_and_an_unexpected_tensor_are_named_with_their_nearest_match(
        self, tmp_path: Path, oft: VLAPolicy, backbone: Path
    ) -> None:
        tensors = foreign_tensors(oft)
        tensors["action_model.model.fc_2.bias"] = tensors.pop("action_model.model.fc2.bias")
        error = refusal(job(write_run(tmp_path / "run", tensors), backbone))
        assert error.code == "FV-IMP-020"
        assert "lack head.model.fc2.bias (nearest: head.model.fc_2.bias)" in error.message

    def test_a_tensor_outside_backbone_and_head_is_refused(
        self, tmp_path: Path, oft: VLAPolicy, backbone: Path
    ) -> None:
        tensors = {**foreign_tensors(oft), "dino_encoder.weight": torch.ones(1)}
        error = refusal(job(write_run(tmp_path / "run", tensors), backbone))
        assert error.code == "FV-IMP-020"
        assert "dino_encoder.weight" in error.message

    def test_a_tensor_of_another_shape_says_what_was_got_and_wanted(
        self, tmp_path: Path, oft: VLAPolicy, backbone: Path
    ) -> None:
        tensors = foreign_tensors(oft)
        tensors["action_model.model.fc2.weight"] = torch.zeros(7, 128)
        error = refusal(job(write_run(tmp_path / "run", tensors), backbone))
        assert error.code == "FV-IMP-021"
        assert "head.model.fc2.weight is 7x128, wanted 14x128" in error.message

    @pytest.mark.parametrize(
        ("setting", "value", "code", "named"),
        [
            ("diffusion_model_cfg.num_layers", 3, "FV-IMP-020", "transformer_blocks.2"),
            ("diffusion_model_cfg.num_layers", 1, "FV-IMP-020", "transformer_blocks.1"),
            ("diffusion_model_cfg.output_dim", 48, "FV-IMP-021", "proj_out_2"),
            ("hidden_size", 32, "FV-IMP-021", "state_encoder.layer1"),
            ("num_target_vision_tokens", 32, "FV-IMP-021", "future_tokens"),
            ("max_seq_len", 1024, "FV-IMP-021", "position_embedding"),
        ],
    )
    def test_dit_settings_that_contradict_the_tensors_are_refused(
        self, tmp_path: Path, gr00t_weights: Path, backbone: Path, setting: str, value: int, code: str, named: str
    ) -> None:
        run = linked(tmp_path, gr00t_weights, "finevla", {f"{HEAD}.{setting}": value})
        error = refusal(job(run, backbone))
        assert error.code == code
        assert named in error.message

    def test_word_tables_that_should_be_one_but_differ_are_refused(
        self, tmp_path: Path, oft: VLAPolicy, backbone: Path
    ) -> None:
        tensors = foreign_tensors(oft)
        tensors["qwen_vl_interface.model.lm_head.weight"] = tensors["qwen_vl_interface.model.lm_head.weight"] + 1
        error = refusal(job(write_run(tmp_path / "run", tensors), backbone))
        assert error.code == "FV-IMP-021"
        assert "tie_word_embeddings" in error.message

    def test_a_chunk_longer_than_the_position_table_is_refused(
        self, tmp_path: Path, gr00t_weights: Path, backbone: Path
    ) -> None:
        run = linked(tmp_path, gr00t_weights, "starvla", {f"{HEAD}.action_horizon": SIZES.max_rows + 1})
        assert refusal(job(run, backbone)).code == "FV-POL-010"

    def test_another_backbone_is_refused_by_its_names(self, tmp_path: Path, oft: VLAPolicy, run: Path) -> None:
        from tests.training.policies.tiny_backbone import write_tiny_backbone

        other = write_tiny_backbone(tmp_path / "other", "qwen3_vl")
        assert refusal(job(run, other)).code == "FV-IMP-020"

    def test_a_backbone_folder_is_needed_because_the_runs_own_path_is_gone(self, run: Path, backbone: Path) -> None:
        error = refusal(replace(job(run, backbone), backbone=None))
        assert error.code == "FV-IMP-019"
        assert "elsewhere/Qwen3.5-4B" in error.message

    @pytest.mark.parametrize(
        "change",
        [
            {"embodiment": None},
            {"embodiment": "cobot_magik_sim"},
            {"control_hz": None},
            {"control_hz": 0.0},
            {"execution_rows": 17},
            {"fg_share": 1.5},
        ],
        ids=str,
    )
    def test_what_no_run_records_must_be_said(self, run: Path, backbone: Path, change: dict[str, object]) -> None:
        assert refusal(job(run, backbone, **change)).code == "FV-IMP-018"

    def test_a_share_of_fine_grained_text_is_never_assumed(
        self, tmp_path: Path, oft: VLAPolicy, backbone: Path
    ) -> None:
        keys = ["left_joints", "left_gripper", "right_joints", "right_gripper"]
        unknown = {"datasets.vla_data.data_mix": "mine", "datasets.vla_data.action_keys": keys}
        run = write(tmp_path, oft, "oft", changes=unknown)
        from training.importer.action_rule import ActionOptions

        told = job(run, backbone, action=ActionOptions(joints="q99", grippers="binary"))
        assert refusal(told).code == "FV-IMP-018"
        imported = import_policy(replace(told, fg_share=0.5))
        assert [kind.value for kind in imported.spec.trained_kinds] == ["raw", "fine_grained"]

    def test_a_prompt_with_words_around_the_instruction_is_refused(
        self, tmp_path: Path, oft: VLAPolicy, backbone: Path
    ) -> None:
        wrapped = {"datasets.vla_data.CoT_prompt": "Your task is {instruction}. Think first."}
        assert refusal(job(write(tmp_path, oft, "oft", changes=wrapped), backbone)).code == "FV-IMP-009"


class TestFolder:
    @pytest.fixture
    def imported(self, tmp_path: Path, oft: VLAPolicy, backbone: Path) -> ImportedCheckpoint:
        return import_policy(job(write(tmp_path, oft, "oft"), backbone))

    def test_what_was_saved_is_what_is_loaded(self, imported: ImportedCheckpoint) -> None:
        assert load_imported(imported.path) == imported
        assert is_imported(imported.path)

    def test_importing_again_replaces_the_folder(
        self, tmp_path: Path, imported: ImportedCheckpoint, oft: VLAPolicy, backbone: Path
    ) -> None:
        again = import_policy(job(tmp_path / "run", backbone, control_hz=20.0))
        assert again.path == imported.path
        assert again.spec.control_hz == 20.0

    def test_a_folder_with_other_things_is_never_replaced(self, tmp_path: Path, oft: VLAPolicy, backbone: Path) -> None:
        (tmp_path / "imported").mkdir()
        (tmp_path / "imported" / "thesis.txt").write_text("years of work")
        with pytest.raises(SetupError) as caught:
            import_policy(job(write(tmp_path, oft, "oft"), backbone))
        assert caught.value.code == "FV-IMP-023"
        assert (tmp_path / "imported" / "thesis.txt").exists()

    @pytest.mark.parametrize("name", ["weights.safetensors", "tokenizer.json", "backbone/config.json"])
    def test_a_changed_or_missing_file_is_noticed(self, imported: ImportedCheckpoint, name: str) -> None:
        with (imported.path / name).open("ab") as file:
            file.write(b" ")
        with pytest.raises(SetupError, match="changed") as caught:
            load_imported(imported.path)
        assert caught.value.code == "FV-IMP-024"
        (imported.path / name).unlink()
        with pytest.raises(SetupError, match="lacks") as caught:
            load_imported(imported.path)
        assert caught.value.code == "FV-IMP-024"

    def test_another_folder_is_no_imported_policy(self, tmp_path: Path) -> None:
        assert not is_imported(tmp_path)
        with pytest.raises(SetupError) as caught:
            load_imported(tmp_path)
        assert caught.value.code == "FV-IMP-024"


def test_the_command_imports_and_says_what_it_decided(
    tmp_path: Path, oft: VLAPolicy, backbone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out = write(tmp_path, oft, "oft"), tmp_path / "imported"
    options = ["--embodiment", "cobot_magic_sim", "--control-hz", "10", "--image-size", str(SIZE)]
    assert import_run([str(run), "--out", str(out), "--backbone", str(backbone), *options]) == 0
    printed = capsys.readouterr().out
    assert "decision.layout: project" in printed
    assert f"finevla export {out}" in printed
    assert load_imported(out).spec.name == "tiny_oft_finevla"


def test_the_verb_has_a_summary_for_the_list_of_verbs() -> None:
    assert Verb("import", "training.importer.cli", "import_run", "train").summary().startswith("Import a StarVLA")
