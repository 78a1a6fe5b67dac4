"""The prompt template says everything a chat template and a multimodal processor would have said."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from finevla_runtime.contracts.errors import PolicyError, SetupError
from finevla_runtime.contracts.policy import PromptSpec
from finevla_runtime.processing.prompt import Prompt, load_tokenizer
from tests.training.policies.tiny_policy import Case
from training.policies.image_patches import ImageGrid, PatchRule, image_grid
from training.policies.prompt_layout import build_prompt, read_special_ids, render_turn

TWO = (ImageGrid(64, 64, 4, 4, 2), ImageGrid(32, 64, 2, 4, 2))
IMAGES = "<|vision_start|>{}<|vision_end|><|vision_start|>{}<|vision_end|>".format(
    "<|image_pad|>" * 4, "<|image_pad|>" * 2
)


def folder_with(folders: dict[str, Path], place: Path, chat_template: str | None) -> Path:
    (place / "tokenizer.json").write_text((folders["qwen3_5"] / "tokenizer.json").read_text())
    if chat_template is not None:
        (place / "chat_template.jinja").write_text(chat_template)
    return place


def test_the_oft_prompt_is_worded_to_the_letter(folders: dict[str, Path]) -> None:
    spec = build_prompt(folders["qwen3_5"], TWO, "oft", 16, False)
    assert spec.template == (
        f"<|im_start|>user\n{IMAGES}{{instruction}} Please predict the next 16 robot actions: <action>{'🔍' * 16}"
        "<action>.<|im_end|>\n<|im_start|>assistant\n"
    )
    assert (spec.lowercase, spec.max_tokens % 64) == (False, 0)


def test_the_gr00t_prompt_is_the_instruction_alone_with_and_without_state(folders: dict[str, Path]) -> None:
    for state in (False, True):
        spec = build_prompt(folders["qwen3_5"], TWO, "gr00t", 16, state)
        assert spec.template == f"<|im_start|>user\n{IMAGES}{{instruction}}<|im_end|>\n<|im_start|>assistant\n"


def test_a_folder_without_template_gets_qwens_documented_markup(folders: dict[str, Path], tmp_path: Path) -> None:
    bare = folder_with(folders, tmp_path, None)
    for framework in ("oft", "gr00t"):
        with_template = build_prompt(folders["qwen3_5"], TWO, framework, 16, False)
        assert build_prompt(bare, TWO, framework, 16, False) == with_template


def test_the_template_of_the_tokenizer_config_is_read_too(folders: dict[str, Path], tmp_path: Path) -> None:
    template = "{% for part in messages[0].content %}{{ part.type }};{% endfor %}{{ add_generation_prompt }}"
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
    assert render_turn(tmp_path, 2, "hello") == "image;image;text;True"


def test_braces_of_a_chat_template_survive_and_trimming_does_no_harm(folders: dict[str, Path], tmp_path: Path) -> None:
    template = (
        "{{ '{\"role\": 1}' }}{% for part in messages[0].content %}"
        "{% if part.type == 'image' %}<|image_pad|>{% else %}{{ part.text | trim }}{% endif %}{% endfor %}"
    )
    folder = folder_with(folders, tmp_path, template)
    spec = build_prompt(folder, TWO[:1], "oft", 2, True)
    prompt = Prompt(spec, load_tokenizer((folder / "tokenizer.json").read_text()))
    text = prompt.text("pick {up} the cube", np.array([-1.0, 1.0]))
    assert text == (
        '{"role": 1}' + "<|image_pad|>" * 4 + "pick {up} the cube [STATE] 0 255 [ACTION] "
        "Please predict the next 2 robot actions: <action>🔍🔍<action>."
    )


def test_the_last_ids_of_a_prompt_do_not_depend_on_the_instruction(case: Callable[..., Case]) -> None:
    tiny = case("oft")
    short, long = (tiny.prompt.tokens(text) for text in ("pick", "place the blue bowl with the left arm slowly"))
    ends = [list(row[: int((row != tiny.spec.pad_id).sum())])[-20:] for row in (short, long)]
    assert ends[0] == ends[1]
    assert int((short == tiny.policy.backbone.image_token_id).sum()) == tiny.policy.backbone.image_tokens


def test_a_fine_grained_instruction_of_300_tokens_fits(case: Callable[..., Case]) -> None:
    tiny = case("oft")
    assert len(tiny.prompt.tokens("pick " * 300)) == tiny.spec.max_tokens
    with pytest.raises(PolicyError, match="FV-TOK-003"):
        tiny.prompt.tokens("pick " * 500)


@pytest.mark.parametrize("token", ["<|image_pad|>", "<|im_end|>", "<|endoftext|>"])
def test_an_instruction_cannot_speak_with_control_tokens(case: Callable[..., Case], token: str) -> None:
    with pytest.raises(PolicyError, match="FV-TOK-004"):
        case("oft").prompt.tokens(f"pick up {token} the cube")


@pytest.mark.parametrize(
    "template",
    [
        "{% for part in messages[0].content %}{{ part.text }}{% endfor %}",
        "{% for part in messages[0].content %}<|image_pad|>{{ part.text | upper }}{% endfor %}",
        "{{ raise_exception('no images here') }}",
        "{% for %}",
    ],
)
def test_a_template_that_loses_images_or_words_is_refused(
    folders: dict[str, Path], tmp_path: Path, template: str
) -> None:
    folder = folder_with(folders, tmp_path, template)
    with pytest.raises(SetupError, match="FV-POL-012"):
        build_prompt(folder, TWO, "oft", 16, False)


def test_a_tokenizer_that_merges_action_tokens_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = folder_with(folders, tmp_path, None)
    raw = json.loads((folder / "tokenizer.json").read_text())
    sign = Tokenizer.from_file(str(folder / "tokenizer.json")).encode("🔍").tokens[0]
    raw["model"]["vocab"][sign * 2] = 639
    raw["model"]["merges"].append([sign, sign])
    (folder / "tokenizer.json").write_text(json.dumps(raw))
    with pytest.raises(SetupError, match=r"FV-POL-012.*merges"):
        build_prompt(folder, TWO, "oft", 16, False)
    assert isinstance(build_prompt(folder, TWO, "gr00t", 16, False), PromptSpec)


def test_foreign_tokenizers_frameworks_and_cramped_prompts_are_refused(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(SetupError, match="FV-POL-011"):
        build_prompt(tmp_path, TWO, "oft", 16, False)
    with pytest.raises(SetupError, match=r"FV-POL-011.*image_pad"):
        read_special_ids(Tokenizer.from_str(_words()).to_str())
    with pytest.raises(SetupError, match=r"FV-POL-013.*gr00t"):
        build_prompt(folders["qwen3_5"], TWO, "groot", 16, False)
    with pytest.raises(SetupError, match="FV-POL-014"):
        build_prompt(folders["qwen3_5"], TWO, "oft", 16, False, max_tokens=40)


def test_three_views_of_a_released_folder_cost_192_image_tokens(folders: dict[str, Path]) -> None:
    views = [image_grid(224, 224, PatchRule(16, 2, 2))] * 3
    assert build_prompt(folders["qwen3_5"], views, "oft", 16, False).template.count("<|image_pad|>") == 192


def _words() -> str:
    from tests.builders import make_tokenizer_json

    return make_tokenizer_json()
