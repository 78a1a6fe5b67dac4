"""What a config says is taken, what it leaves open is asked for, what cannot be reproduced is refused."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from finevla_runtime.contracts.embodiment import Embodiment, load_embodiment
from finevla_runtime.contracts.errors import SetupError
from finevla_runtime.paths import HW_CONFIGS
from finevla_runtime.session.strict_json import JsonNode
from tests.training.importer.foreign_run import changed, run_config
from training.importer.data_config import ALOHA, ROBOTWIN
from training.importer.head_settings import HeadSettings, read_head_settings
from training.importer.revision import REVISIONS, find_revision
from training.importer.run_config import RunConfig
from training.importer.views import find_cameras

DATA = "datasets.vla_data"
HEAD = "framework.action_model"


def config_of(revision: str, framework: str = "oft", changes: Mapping[str, object] | None = None) -> RunConfig:
    value = changed(run_config(framework, revision), changes or {})
    return RunConfig((JsonNode("config.yaml", "", value, "FV-IMP-002"),))


def settings(revision: str, framework: str, changes: Mapping[str, object] | None = None) -> HeadSettings:
    return read_head_settings(config_of(revision, framework, changes), revision, None)[0]


def code_of(caught: pytest.ExceptionInfo[SetupError]) -> str:
    return caught.value.code


class TestRevision:
    @pytest.mark.parametrize("revision", REVISIONS)
    @pytest.mark.parametrize("framework", ["oft", "gr00t"])
    def test_each_revision_is_recognised_by_its_own_settings(self, revision: str, framework: str) -> None:
        found, decision = find_revision(config_of(revision, framework), None)
        assert found == revision
        assert "means" in decision.why

    def test_a_config_without_signs_must_be_told(self) -> None:
        silent = config_of("finevla", changes={f"{DATA}.image_size": None, f"{DATA}.data_mix": "mine"})
        with pytest.raises(SetupError, match="--revision") as caught:
            find_revision(silent, None)
        assert code_of(caught) == "FV-IMP-010"
        assert find_revision(silent, "starvla")[0] == "starvla"

    def test_a_config_with_signs_of_both_must_be_told(self) -> None:
        both = config_of("finevla", changes={"version_id": "0.21"})
        with pytest.raises(SetupError, match="version_id") as caught:
            find_revision(both, None)
        assert code_of(caught) == "FV-IMP-010"
        assert find_revision(both, "finevla")[0] == "finevla"

    def test_an_option_may_not_contradict_the_run(self) -> None:
        with pytest.raises(SetupError, match="contradicts") as caught:
            find_revision(config_of("finevla"), "starvla")
        assert code_of(caught) == "FV-IMP-010"

    def test_an_unknown_revision_lists_the_known_ones(self) -> None:
        with pytest.raises(SetupError, match="finevla, starvla"):
            find_revision(config_of("finevla"), "starvlaa")


class TestHead:
    @pytest.mark.parametrize("revision", REVISIONS)
    def test_chunk_and_framework_come_from_the_config(self, revision: str) -> None:
        assert settings(revision, "oft") == HeadSettings("oft", 16, state=False)

    def test_the_head_sizes_of_the_published_configs_are_the_default_sizes(self) -> None:
        found = settings("finevla", "gr00t")
        assert found == HeadSettings("gr00t", 16, state=False, denoise_steps=4, repeats=4)

    def test_the_larger_transformer_is_known_too(self) -> None:
        sizes = settings("finevla", "gr00t", {f"{HEAD}.action_model_type": "DiT-L"}).sizes
        assert (sizes.width, sizes.heads) == (1536, 32)

    def test_newer_runs_draw_noise_as_often_as_their_head_says(self) -> None:
        assert settings("starvla", "gr00t").repeats == 8

    def test_the_chunk_length_has_either_name(self) -> None:
        only_window = {f"{HEAD}.action_horizon": None, f"{HEAD}.future_action_window_size": 7}
        assert settings("finevla", "oft", only_window).chunk_rows == 8

    def test_contradicting_chunk_lengths_must_be_settled(self) -> None:
        two = config_of("finevla", changes={f"{HEAD}.action_horizon": 50})
        with pytest.raises(SetupError, match="--chunk-rows") as caught:
            read_head_settings(two, "finevla", None)
        assert code_of(caught) == "FV-IMP-011"
        assert read_head_settings(two, "finevla", 50)[0].chunk_rows == 50
        with pytest.raises(SetupError, match="contradicts"):
            read_head_settings(two, "finevla", 8)

    def test_a_missing_chunk_length_is_not_assumed(self) -> None:
        with pytest.raises(SetupError) as caught:
            settings("starvla", "oft", {f"{HEAD}.action_horizon": None})
        assert code_of(caught) == "FV-IMP-011"

    def test_another_framework_is_refused_with_the_known_ones(self) -> None:
        with pytest.raises(SetupError, match=r"QwenGR00T, QwenOFT") as caught:
            settings("finevla", "oft", {"framework.name": "QwenPI"})
        assert code_of(caught) == "FV-IMP-008"

    @pytest.mark.parametrize(
        ("setting", "value"),
        [
            (f"{HEAD}.action_dim", 7),
            (f"{HEAD}.past_action_window_size", 2),
            (f"{DATA}.action_mode", "delta"),
            (f"{DATA}.action_type", "delta_qpos"),
            (f"{HEAD}.diffusion_model_cfg.interleave_self_attention", False),
            (f"{HEAD}.diffusion_model_cfg.interleave_self_attention", None),
            (f"{HEAD}.diffusion_model_cfg.norm_type", "layer_norm"),
            (f"{HEAD}.diffusion_model_cfg.positional_embeddings", "sinusoidal"),
            (f"{HEAD}.num_timestep_buckets", 500),
            (f"{HEAD}.num_inference_timesteps", 0),
            (f"{HEAD}.add_pos_embed", False),
            (f"{HEAD}.action_model_type", "DiT-XL"),
            (f"{HEAD}.diffusion_model_cfg.num_attention_heads", 8),
        ],
    )
    def test_what_our_policies_cannot_reproduce_is_refused(self, setting: str, value: object) -> None:
        with pytest.raises(SetupError) as caught:
            settings("finevla", "gr00t", {setting: value})
        assert code_of(caught) == "FV-IMP-009"

    @pytest.mark.parametrize("spelling", [True, "True"])
    def test_a_state_is_read_when_the_run_included_it(self, spelling: object) -> None:
        change = {f"{DATA}.include_state": spelling}
        assert settings("finevla", "gr00t", change).state
        assert settings("starvla", "oft", change).state

    def test_the_older_oft_policy_ignores_the_state_even_when_the_run_included_it(self) -> None:
        change = {f"{DATA}.include_state": True}
        found, decisions = read_head_settings(config_of("finevla", "oft", change), "finevla", None)
        assert not found.state
        assert any("ignores" in decision.why for decision in decisions)

    def test_a_doubtful_spelling_of_a_flag_is_refused(self) -> None:
        with pytest.raises(SetupError) as caught:
            settings("starvla", "oft", {f"{DATA}.include_state": "maybe"})
        assert code_of(caught) == "FV-IMP-002"


@pytest.fixture(scope="module")
def body() -> Embodiment:
    return load_embodiment(HW_CONFIGS / "cobot_magic_sim.yaml")


class TestCameras:
    def test_views_with_the_bodys_names_are_taken(self, body: Embodiment) -> None:
        cameras, decisions = find_cameras(config_of("starvla"), ROBOTWIN, "starvla", body, (), None, "area")
        assert [camera.name for camera in cameras] == ["cam_high", "cam_left_wrist", "cam_right_wrist"]
        assert {(camera.height, camera.width, camera.resize) for camera in cameras} == {(224, 224, "area")}
        assert any(decision.name == "resize" and "PIL" in decision.why for decision in decisions)

    def test_views_with_other_names_must_be_assigned(self, body: Embodiment) -> None:
        with pytest.raises(SetupError, match="--cameras") as caught:
            find_cameras(config_of("finevla"), ALOHA, "finevla", body, (), None, "area")
        assert code_of(caught) == "FV-IMP-017"
        names = ("cam_high", "cam_left_wrist", "cam_right_wrist")
        cameras, _ = find_cameras(config_of("finevla"), ALOHA, "finevla", body, names, None, "area")
        assert tuple(camera.name for camera in cameras) == names

    @pytest.mark.parametrize("names", [("cam_high",), ("cam_high", "cam_left_wrist", "cam_rihgt_wrist")])
    def test_too_few_or_misspelt_cameras_are_refused(self, body: Embodiment, names: tuple[str, ...]) -> None:
        with pytest.raises(SetupError) as caught:
            find_cameras(config_of("finevla"), ALOHA, "finevla", body, names, None, "area")
        assert code_of(caught) == "FV-IMP-017"

    def test_the_older_loader_puts_wrist_views_last(self, body: Embodiment) -> None:
        change = {f"{DATA}.obs": ["cam_left_wrist", "cam_high"]}
        order = {
            revision: [
                c.name
                for c in find_cameras(config_of("finevla", changes=change), None, revision, body, (), None, "area")[0]
            ]
            for revision in REVISIONS
        }
        assert order == {"finevla": ["cam_high", "cam_left_wrist"], "starvla": ["cam_left_wrist", "cam_high"]}

    def test_a_size_that_the_loader_does_not_produce_must_be_settled(self, body: Embodiment) -> None:
        other = config_of("starvla", changes={f"{DATA}.obs_image_size": [448, 448]})
        with pytest.raises(SetupError, match="--image-size") as caught:
            find_cameras(other, ROBOTWIN, "starvla", body, (), None, "area")
        assert code_of(caught) == "FV-IMP-017"
        assert find_cameras(other, ROBOTWIN, "starvla", body, (), 448, "area")[0][0].width == 448
