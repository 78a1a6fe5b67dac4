"""The whole prompt of a policy as one template: chat markup, image placeholders, instruction, action tokens.

Serving has only the ``tokenizers`` library, so everything a chat template or a multimodal processor would do is done
here, once, when a policy is built: what remains is text with ``{instruction}`` (and ``{state}``) in it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from finevla_runtime.contracts.errors import SetupError, unknown_name
from finevla_runtime.contracts.policy import PromptSpec
from finevla_runtime.processing.prompt import load_tokenizer
from training.policies.image_patches import ImageGrid

FRAMEWORKS = ("oft", "gr00t")
IMAGE_PAD = "<|image_pad|>"
PAD = "<|endoftext|>"
ACTION_SIGN = "🔍"
# Room for the longest fine-grained instructions, about 300 tokens.
INSTRUCTION_TOKENS = 320
# Stands for the instruction while the chat template is applied; templates may trim or wrap it.
STAND_IN = "FINEVLA-INSTRUCTION"
STATE_STAND_IN = "FINEVLA-STATE"
# Qwen's chat markup for one user turn, used where a folder carries no template of its own.
QWEN_TURN = "<|im_start|>user\n{content}<|im_end|>\n<|im_start|>assistant\n"
QWEN_IMAGE = f"<|vision_start|>{IMAGE_PAD}<|vision_end|>"


@dataclass(frozen=True, slots=True)
class SpecialIds:
    """Ids of a tokenizer that the networks look for.

    Attributes:
        image_pad: placeholder of one image token.
        pad: fills short prompts on the right.
        action: first id of the action token.
    """

    image_pad: int
    pad: int
    action: int


def read_tokenizer(folder: Path) -> str:
    """Return the text of a folder's ``tokenizer.json`` (SetupError FV-POL-011 when it is missing)."""
    place = folder / "tokenizer.json"
    if not place.is_file():
        raise SetupError("FV-POL-011", f"{folder} has no tokenizer.json; the prompt cannot be built without it.")
    return place.read_text(encoding="utf-8")


def read_special_ids(tokenizer_json: str) -> SpecialIds:
    """Return the special ids.

    Raises:
        SetupError: FV-TOK-001, FV-TOK-002; FV-POL-011 when a token is missing.
    """
    tokenizer = load_tokenizer(tokenizer_json)
    ids: list[int] = []
    for token in (IMAGE_PAD, PAD):
        found = tokenizer.token_to_id(token)
        if found is None:
            raise SetupError("FV-POL-011", f"the tokenizer lacks {token}; it is not a Qwen vision-language tokenizer.")
        ids.append(int(found))
    action = tokenizer.encode(ACTION_SIGN, add_special_tokens=False).ids
    if not action:
        raise SetupError("FV-POL-011", f"the tokenizer gives no id for the action token {ACTION_SIGN}.")
    return SpecialIds(ids[0], ids[1], int(action[0]))


def build_prompt(
    folder: Path,
    grids: Sequence[ImageGrid],
    framework: str,
    chunk_rows: int,
    state: bool,
    max_tokens: int | None = None,
) -> PromptSpec:
    """Return the prompt rule of a policy on the backbone of ``folder``.

    Args:
        folder: backbone folder with ``tokenizer.json`` and, as a rule, a chat template.
        grids: patches of each camera, in camera order.
        framework: ``oft`` or ``gr00t``; only OFT has action tokens and reads the state as text.
        chunk_rows: action tokens of OFT.
        state: whether the policy reads proprioception.
        max_tokens: longest prompt; by default the fixed part plus 320 tokens of instruction, in whole multiples of 64.

    Raises:
        SetupError: FV-POL-012 when the tokenizer or template breaks the layout, FV-POL-013 for an unknown framework,
            FV-POL-014 when ``max_tokens`` leaves no room for an instruction.
    """
    tokenizer_json = read_tokenizer(folder)
    ids = read_special_ids(tokenizer_json)
    text = instruction_text(framework, chunk_rows, state)
    rendered = _expand_images(render_turn(folder, len(grids), text), grids)
    template = rendered.replace("{", "{{").replace("}", "}}")
    for stand_in, field in ((STAND_IN, "{instruction}"), (STATE_STAND_IN, "{state}")):
        if template.count(stand_in) != text.count(stand_in):
            raise SetupError("FV-POL-012", f"{folder}: the chat template changes or repeats the text of the turn.")
        template = template.replace(stand_in, field)
    fixed = _check_layout(folder, template, tokenizer_json, ids, sum(g.tokens for g in grids), framework, chunk_rows)
    longest = -(-(fixed + INSTRUCTION_TOKENS) // 64) * 64 if max_tokens is None else max_tokens
    if longest <= fixed:
        raise SetupError(
            "FV-POL-014", f"prompts of {longest} tokens leave no room: images and markup alone need {fixed}."
        )
    return PromptSpec(template=template, max_tokens=longest, pad_id=ids.pad, lowercase=False)


def instruction_text(framework: str, chunk_rows: int, state: bool) -> str:
    """Return the text of the turn with a stand-in for the instruction (SetupError FV-POL-013).

    The OFT wording is that of the released policies, to the letter: a leading space, no spaces between the action
    tokens, and a closing tag without a slash.
    """
    if framework not in FRAMEWORKS:
        raise unknown_name("FV-POL-013", "framework", framework, FRAMEWORKS)
    if framework == "gr00t":
        return STAND_IN
    asked = f" Please predict the next {chunk_rows} robot actions: <action>{ACTION_SIGN * chunk_rows}<action>."
    return STAND_IN + (STATE_STAND_IN if state else "") + asked


def render_turn(folder: Path, cameras: int, text: str) -> str:
    """Return one user turn of ``cameras`` images and ``text``, with the prompt for the answer, as the folder writes it.

    Raises:
        SetupError: FV-POL-012 when the folder's chat template cannot be applied.
    """
    template = _chat_template(folder)
    if template is None:
        return QWEN_TURN.format(content=QWEN_IMAGE * cameras + text)
    from jinja2 import TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.globals["raise_exception"] = _refuse
    environment.filters["tojson"] = lambda value, **_: json.dumps(value, ensure_ascii=False)
    content = [{"type": "image"} for _ in range(cameras)] + [{"type": "text", "text": text}]
    try:
        return environment.from_string(template).render(
            messages=[{"role": "user", "content": content}], add_generation_prompt=True
        )
    except TemplateError as error:
        raise SetupError("FV-POL-012", f"{folder}: the chat template cannot be applied: {error}.") from error


def _chat_template(folder: Path) -> str | None:
    plain = folder / "chat_template.jinja"
    if plain.is_file():
        return plain.read_text(encoding="utf-8")
    for name in ("chat_template.json", "tokenizer_config.json"):
        place = folder / name
        if place.is_file():
            template = json.loads(place.read_text(encoding="utf-8")).get("chat_template")
            if isinstance(template, str):
                return template
    return None


def _refuse(message: str) -> None:
    from jinja2 import TemplateError

    raise TemplateError(message)


def _expand_images(rendered: str, grids: Sequence[ImageGrid]) -> str:
    parts = rendered.split(IMAGE_PAD)
    if len(parts) != len(grids) + 1:
        raise SetupError(
            "FV-POL-012",
            f"the chat template wrote {len(parts) - 1} images for {len(grids)} cameras; it is no Qwen one.",
        )
    text = parts[0]
    for grid, following in zip(grids, parts[1:], strict=True):
        text += IMAGE_PAD * grid.tokens + following
    return text


def _check_layout(
    folder: Path, template: str, tokenizer_json: str, ids: SpecialIds, images: int, framework: str, chunk_rows: int
) -> int:
    """Return the length of the prompt around an empty instruction, after counting its special tokens."""
    example = template.format(instruction="", state=" [STATE]" + " 128" * 14 + " [ACTION]")
    tokens = load_tokenizer(tokenizer_json).encode(example).ids
    wanted_actions = chunk_rows if framework == "oft" else 0
    got = (tokens.count(ids.image_pad), tokens.count(ids.action) if wanted_actions else 0)
    if got != (images, wanted_actions):
        raise SetupError(
            "FV-POL-012",
            f"{folder}: the prompt has {got[0]} image and {got[1]} action tokens, wanted {images} and "
            f"{wanted_actions}; the tokenizer merges or splits them.",
        )
    return len(tokens)
