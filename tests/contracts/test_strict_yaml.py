"""Hardware and rubric files: nothing unknown is ever ignored."""

from __future__ import annotations

from pathlib import Path

import pytest

from finevla_runtime.contracts.embodiment import load_embodiment
from finevla_runtime.contracts.errors import SetupError, nearest, unknown_name
from finevla_runtime.contracts.strict_yaml import Node, load_yaml, parse_yaml

SIM_BODY = Path(__file__).parents[2] / "hw_configs" / "cobot_magic_sim.yaml"


def test_unknown_key_names_file_line_and_nearest_match() -> None:
    node = parse_yaml("a: 1\ncontrl_hz: 10\n", "body.yaml")
    with pytest.raises(SetupError, match=r"FV-CFG-003.*body\.yaml:2.*Did you mean 'control_hz'") as caught:
        node.mapping(["a", "control_hz"])
    assert caught.value.code == "FV-CFG-003"


def test_missing_repeated_and_mistyped_values_are_refused() -> None:
    with pytest.raises(SetupError, match=r"FV-CFG-004.*missing key 'b'"):
        parse_yaml("a: 1", "x").mapping(["a", "b"])
    with pytest.raises(SetupError, match=r"FV-CFG-005.*twice"):
        parse_yaml("a: 1\na: 2", "x").mapping(["a"])
    node = parse_yaml("a: yes\nb: .nan\nc: [1, 2]\nd: word", "x").mapping(list("abcd"))
    for key, read in [("a", Node.number), ("b", Node.number), ("c", Node.text), ("d", Node.flag), ("d", Node.integer)]:
        with pytest.raises(SetupError, match="FV-CFG-00"):
            read(node[key])
    with pytest.raises(SetupError, match=r"FV-CFG-007.*Did you mean 'word'"):
        parse_yaml("wrod", "x").one_of(["word", "other"])


def test_a_file_that_is_missing_empty_or_no_yaml_says_so(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="FV-CFG-001"):
        load_yaml(tmp_path / "absent.yaml")
    for text in ("", "a: [1"):
        (tmp_path / "bad.yaml").write_text(text)
        with pytest.raises(SetupError, match="FV-CFG-001"):
            load_yaml(tmp_path / "bad.yaml")


def test_unknown_name_lists_the_known_ones() -> None:
    error = unknown_name("FV-X-001", "camera", "cam_hig", ["cam_high", "cam_left_wrist"], "observation")
    assert "Did you mean 'cam_high'" in str(error)
    assert "cam_left_wrist" in str(error)
    assert nearest("zzz", ["cam_high"]) is None


def test_the_shipped_body_loads_and_a_swapped_joint_is_refused(tmp_path: Path) -> None:
    body = load_embodiment(SIM_BODY)
    assert [camera.name for camera in body.cameras] == ["cam_high", "cam_left_wrist", "cam_right_wrist"]
    assert body.action_space.units[6] == "open_fraction"
    text = SIM_BODY.read_text().replace("left_j1", "TMP").replace("left_j2", "left_j1").replace("TMP", "left_j2")
    swapped = tmp_path / SIM_BODY.name
    swapped.write_text(text)
    with pytest.raises(SetupError, match="FV-EMB-001"):
        load_embodiment(swapped)


@pytest.mark.parametrize("value", ["2024-99-99", "!!int x", "!made_up x", ""])
def test_a_value_that_yaml_cannot_build_is_refused_with_its_line(value: str) -> None:
    node = parse_yaml(f"a: 1\nb: {value}", "body.yaml").mapping(["a", "b"])["b"]
    with pytest.raises(SetupError, match=r"FV-CFG-006: body\.yaml:2"):
        node.number()
