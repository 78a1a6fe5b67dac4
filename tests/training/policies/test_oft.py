"""OFT: the right tokens in the right order, the right head, nothing from neighbours."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from finevla_runtime.contracts.errors import SetupError
from tests.training.policies.tiny_backbone import KINDS
from tests.training.policies.tiny_policy import TEXTS, Case, cut, one
from training.policies.oft import OFTHead
from training.policies.vla import parameter_count

ACTION = 7


def head(rows: int = 3, width: int = 4) -> OFTHead:
    return OFTHead(width, rows, 2, ACTION)


def test_the_head_has_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        paper = OFTHead(2560, 16, 14, ACTION)
    width, inner = 2560, 5120
    norms = 2 * width + 2 * (2 * inner) + 2 * inner
    linears = (width + 1) * inner + 2 * (inner + 1) * inner + (inner + 1) * 14
    assert parameter_count(paper) == norms + linears == 65_658_894
    assert round(parameter_count(paper) / 1e6, 2) == 65.66


def test_the_heads_weights_carry_the_names_of_released_checkpoints() -> None:
    blocks = [f"mlp_resnet_blocks.{block}.ffn.{layer}" for block in (0, 1) for layer in (0, 1)]
    layers = ["layer_norm1", "fc1", *blocks, "layer_norm2", "fc2"]
    names = {f"model.{layer}.{kind}" for layer in layers for kind in ("weight", "bias")}
    assert set(head().state_dict()) == names


def test_the_head_computes_the_published_formula() -> None:
    torch.manual_seed(0)
    one_head = head()
    for parameter in one_head.parameters():
        torch.nn.init.normal_(parameter)
    w = {name: value.double().numpy() for name, value in one_head.state_dict().items()}
    tokens = torch.full((1, 3), ACTION)
    hidden = torch.randn(1, 3, 4)

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
        return x * w[f"model.{name}.weight"] + w[f"model.{name}.bias"]

    def linear(x: np.ndarray, name: str) -> np.ndarray:
        return x @ w[f"model.{name}.weight"].T + w[f"model.{name}.bias"]

    x = np.maximum(linear(norm(hidden[0].double().numpy(), "layer_norm1"), "fc1"), 0)
    for block in (0, 1):
        x = x + np.maximum(linear(norm(x, f"mlp_resnet_blocks.{block}.ffn.0"), f"mlp_resnet_blocks.{block}.ffn.1"), 0)
    expected = linear(norm(x, "layer_norm2"), "fc2")
    np.testing.assert_allclose(one_head(hidden, tokens)[0].detach().numpy(), expected, rtol=1e-4, atol=1e-4)


@given(st.lists(st.lists(st.sampled_from([1, 2, ACTION]), min_size=12, max_size=12), min_size=1, max_size=4))
def test_the_last_action_tokens_are_read_in_their_order(prompts: list[list[int]]) -> None:
    rows = [[*prompt, ACTION, 3, ACTION, ACTION, 0, 0] for prompt in prompts]
    expected = [[i for i, token in enumerate(row) if token == ACTION][-3:] for row in rows]
    assert head().positions(torch.tensor(rows)).tolist() == expected


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("state", [False, True])
def test_neither_padding_nor_batch_mates_change_an_answer(case: Callable[..., Case], kind: str, state: bool) -> None:
    tiny = case("oft", kind, state)
    inputs = tiny.inputs()
    with torch.no_grad():
        together = tiny.policy.act(inputs)
        assert together.shape == (2, 16, 14)
        for index in range(2):
            alone = one(inputs, index)
            alone["tokens"] = cut(alone["tokens"], tiny.spec.pad_id)
            torch.testing.assert_close(tiny.policy.act(alone)[0], together[index], atol=1e-4, rtol=1e-4)
    assert float((together[0] - together[1]).abs().max()) > 1e-3


def test_an_action_token_in_the_instruction_is_not_taken_for_the_policys_own(case: Callable[..., Case]) -> None:
    tiny = case("oft")
    inputs = tiny.inputs(("look at the 🔍 and pick up the cube", TEXTS[1]))
    index = tiny.policy.head.positions(inputs["tokens"])[0]
    assert index.diff().tolist() == [1] * 15


def test_the_state_reaches_the_answer_through_the_text(case: Callable[..., Case]) -> None:
    tiny = case("oft", state=True)
    here, there = (tiny.prompt.tokens("pick up the red cube", np.full(14, value)) for value in (-0.5, 0.5))
    inputs = tiny.inputs((TEXTS[0], TEXTS[0]))
    for camera in tiny.plan.cameras:
        inputs[f"image.{camera.name}"][1] = inputs[f"image.{camera.name}"][0]
    inputs["tokens"] = torch.tensor(np.stack([here, here]))
    with torch.no_grad():
        same = tiny.policy.act(inputs)
        inputs["tokens"] = torch.tensor(np.stack([here, there]))
        other = tiny.policy.act(inputs)
    torch.testing.assert_close(same[0], same[1], atol=1e-5, rtol=1e-5)
    assert float((other[0] - other[1]).abs().max()) > 1e-3


def test_the_loss_is_the_mean_absolute_error_of_each_sample(case: Callable[..., Case]) -> None:
    tiny = case("oft")
    inputs, generator = tiny.inputs(), torch.Generator()
    with torch.no_grad():
        answer = tiny.policy.act(inputs)
        target = answer.clone()
        target[1] += 0.5
        torch.testing.assert_close(tiny.policy.loss(inputs, target, generator), torch.tensor([0.0, 0.5]))
        torch.testing.assert_close(tiny.policy(inputs, target, generator), torch.tensor([0.0, 0.5]))


@pytest.mark.parametrize("kind", KINDS)
def test_every_trained_weight_gets_a_gradient(case: Callable[..., Case], kind: str) -> None:
    policy = case("oft", kind).policy
    policy.zero_grad(set_to_none=True)
    policy.loss(case("oft", kind).inputs(), torch.zeros(2, 16, 14), torch.Generator()).mean().backward()
    assert [name for name, p in policy.named_parameters() if p.requires_grad and p.grad is None] == []
    gradients = {name: p.grad for name, p in policy.named_parameters() if p.grad is not None}
    for part in ("backbone.model.model.visual.patch_embed", "backbone.model.model.language_model.layers.0", "head."):
        assert sum(float(g.abs().sum()) for name, g in gradients.items() if name.startswith(part)) > 0, part
    policy.zero_grad(set_to_none=True)


def test_a_batch_without_enough_action_tokens_or_without_a_camera_is_refused(case: Callable[..., Case]) -> None:
    tiny = case("oft")
    inputs = tiny.inputs()
    short = dict(inputs)
    short["tokens"] = inputs["tokens"].clone()
    last = tiny.policy.head.positions(inputs["tokens"])[1, -1]
    short["tokens"][1, last] = 0
    with pytest.raises(SetupError, match=r"FV-POL-009.*\[1\]"):
        tiny.policy.loss(short, torch.zeros(2, 16, 14), torch.Generator())
    del inputs["image.cam_left_wrist"]
    with pytest.raises(SetupError, match=r"FV-POL-008.*cam_left_wrist"):
        tiny.policy.act(inputs)
