"""GR00T: noise in, actions out; padding and neighbours have no say."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from finevla_runtime.contracts.errors import SetupError
from tests.training.policies.tiny_policy import SIZES, Case, cut, one
from training.policies.dit import Attention, TimeEncoder
from training.policies.gr00t import GR00THead, GR00TPolicy, GR00TSizes
from training.policies.tiny_backbone import KINDS
from training.policies.vla import parameter_count

PAD = 0


def head(state: bool = False, sizes: GR00TSizes = SIZES) -> GR00THead:
    torch.manual_seed(0)
    return GR00THead(24, 16, 14, PAD, state, sizes).eval()


def prefix(length: int = 9, batch: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, length, 24, generator=generator), torch.ones(batch, length, dtype=torch.long)


def noise(batch: int = 2, seed: int = 2) -> torch.Tensor:
    return torch.randn(batch, 16, 14, generator=torch.Generator().manual_seed(seed))


def linear(enter: int, leave: int) -> int:
    return (enter + 1) * leave


def test_the_head_has_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        paper = GR00THead(2560, 16, 14, PAD, False, GR00TSizes())
    width, source = 768, 2560
    block = linear(width, 2 * width) + 2 * linear(width, width) + linear(width, 4 * width) + linear(4 * width, width)
    blocks = 16 * block + 8 * 2 * linear(source, width) + 8 * 2 * linear(width, width)
    times = linear(256, width) + linear(width, width)
    out = linear(width, 2 * width) + linear(width, 2560)
    state = linear(14, 1024) + linear(1024, width)
    action = linear(14, width) + linear(2 * width, width) + linear(width, width)
    decoder = linear(2560, 1024) + linear(1024, 14)
    tokens = 32 * width + 1024 * width
    expected = blocks + times + out + state + action + decoder + tokens
    assert parameter_count(paper) == expected == 164_246_542
    assert round(parameter_count(paper) / 1e6, 1) == 164.2


def test_the_heads_weights_carry_the_names_of_released_checkpoints() -> None:
    bases = {
        "model.timestep_encoder.timestep_embedder.linear_1",
        "model.timestep_encoder.timestep_embedder.linear_2",
        "model.proj_out_1",
        "model.proj_out_2",
        "state_encoder.layer1",
        "state_encoder.layer2",
        "action_encoder.layer1",
        "action_encoder.layer2",
        "action_encoder.layer3",
        "action_decoder.layer1",
        "action_decoder.layer2",
    }
    for block in range(SIZES.blocks):
        for part in ("norm1.linear", "attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0"):
            bases.add(f"model.transformer_blocks.{block}.{part}")
        bases |= {f"model.transformer_blocks.{block}.ff.net.{part}" for part in ("0.proj", "2")}
    names = {f"{base}.{kind}" for base in bases for kind in ("weight", "bias")}
    assert set(head().state_dict()) == names | {"future_tokens.weight", "position_embedding.weight"}


def test_even_blocks_read_the_prefix_and_odd_ones_each_other() -> None:
    sources = [block.attn1.to_k.in_features for block in head().model.transformer_blocks]
    assert sources == [24, SIZES.width, 24, SIZES.width]


def test_time_features_are_cosines_first_over_a_geometric_row_of_periods() -> None:
    encoder = TimeEncoder(8)
    seen: list[torch.Tensor] = []
    encoder.timestep_embedder.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    encoder(torch.tensor([250]))
    angles = 250 * np.exp(-math.log(10000.0) * np.arange(128) / 127)
    np.testing.assert_allclose(seen[0][0].numpy(), np.concatenate([np.cos(angles), np.sin(angles)]), atol=2e-4)


def test_the_action_encoders_time_features_are_sines_first() -> None:
    encoder = head().action_encoder
    with torch.no_grad():
        got = encoder(noise(1), torch.tensor([500]))
        half = SIZES.width // 2
        angles = 500 * torch.exp(-math.log(10000.0) / half * torch.arange(half))
        moment = torch.cat([angles.sin(), angles.cos()]).expand(1, 16, -1)
        x = encoder.layer2(torch.cat([encoder.layer1(noise(1)), moment], -1))
        torch.testing.assert_close(got, encoder.layer3(x * torch.sigmoid(x)), atol=1e-4, rtol=1e-4)


def test_attention_with_prepared_keys_is_attention() -> None:
    attention = Attention(12, 3, 24, 0.0)
    source, x = torch.randn(2, 5, 24), torch.randn(2, 4, 12)
    with torch.no_grad():
        keys, values = attention.keys_values(source)
        got = attention(x, keys, values, None)
        parts = []
        for index in range(3):
            span = slice(index * 4, (index + 1) * 4)
            q, k, v = attention.to_q(x)[..., span], attention.to_k(source)[..., span], attention.to_v(source)[..., span]
            parts.append(F.softmax(q @ k.transpose(1, 2) / 2.0, -1) @ v)
        torch.testing.assert_close(got, attention.to_out[0](torch.cat(parts, -1)), atol=1e-5, rtol=1e-5)


def test_the_transformer_computes_the_published_formula() -> None:
    """Written out step by step: the block norms scale first and shift second, the last one the other way round."""
    model = head().model
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    context_source, mask = prefix()[0], torch.ones(2, 9, dtype=torch.bool)
    x, time = torch.randn(2, 7, SIZES.width), torch.tensor([0, 750])

    def norm(value: torch.Tensor, eps: float) -> torch.Tensor:
        centred = value - value.mean(-1, keepdim=True)
        return centred / (centred.square().mean(-1, keepdim=True) + eps).sqrt()

    with torch.no_grad():
        got = model(x, time, model.context(context_source, mask))
        when = model.timestep_encoder(time)
        silu = when * torch.sigmoid(when)
        for index, block in enumerate(model.transformer_blocks):
            scale, shift = block.norm1.linear(silu)[:, None].split(SIZES.width, -1)
            normed = norm(x, 1e-5) * (1 + scale) + shift
            keys, values = block.attn1.keys_values(normed if index % 2 else context_source)
            x = x + block.attn1(normed, keys, values, None)
            inner = block.ff.net[0].proj(norm(x, 1e-5))
            gelu = 0.5 * inner * (1 + torch.tanh(math.sqrt(2 / math.pi) * (inner + 0.044715 * inner**3)))
            x = x + block.ff.net[2](gelu)
        shift, scale = model.proj_out_1(silu)[:, None].split(SIZES.width, -1)
        expected = model.proj_out_2(norm(x, 1e-6) * (1 + scale) + shift)
    torch.testing.assert_close(got, expected, atol=1e-3, rtol=1e-3)


def test_the_state_leads_and_the_future_tokens_stand_before_the_actions() -> None:
    one_head, seen = head(state=True), []
    hook = one_head.model.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    state, x, time = torch.randn(2, 14), noise(), torch.tensor([10, 20])
    with torch.no_grad():
        one_head(*prefix(), x, time, state)
        hook.remove()
        actions = one_head.action_encoder(x, time) + one_head.position_embedding.weight[:16]
        torch.testing.assert_close(seen[0][:, 0], one_head.state_encoder(state))
    torch.testing.assert_close(seen[0][0, 1:6], one_head.future_tokens.weight)
    torch.testing.assert_close(seen[0][:, 6:], actions)


def test_masked_prefix_tokens_cannot_be_read() -> None:
    hidden, tokens = prefix()
    tokens[1, 6:] = PAD
    poisoned = hidden.clone()
    poisoned[1, 6:] = 1e3
    one_head, time = head(), torch.tensor([250, 250])
    with torch.no_grad():
        clean = one_head(hidden, tokens, noise(), time)
        torch.testing.assert_close(one_head(poisoned, tokens, noise(), time), clean)
        alone = one_head(hidden[1:, :6], tokens[1:, :6], noise()[1:], time[1:])
        torch.testing.assert_close(alone[0], clean[1], atol=1e-5, rtol=1e-5)
        assert float((one_head(poisoned, torch.ones_like(tokens), noise(), time) - clean)[1].abs().max()) > 1e-3


def test_a_prefix_computed_once_serves_every_step() -> None:
    hidden, tokens = prefix()
    one_head = head()
    with torch.no_grad():
        context = one_head.prefix(hidden, tokens)
        for bucket in (0, 250, 999):
            time = torch.full((2,), bucket)
            fresh = one_head(hidden, tokens, noise(), time)
            torch.testing.assert_close(one_head.velocity(context, noise(), time), fresh, atol=0, rtol=0)
        at_start, later = (one_head.velocity(context, noise(), torch.full((2,), t)) for t in (0, 500))
    assert float((at_start - later).abs().max()) > 1e-3


def test_action_tokens_know_their_row() -> None:
    same = torch.zeros(2, 16, 14)
    with torch.no_grad():
        rows = head()(*prefix(), same, torch.tensor([0, 0]))[0]
    assert float((rows[0] - rows[1]).abs().max()) > 1e-5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("state", [False, True])
def test_neither_padding_nor_batch_mates_change_an_answer(case: Callable[..., Case], kind: str, state: bool) -> None:
    tiny = case("gr00t", kind, state)
    inputs = tiny.inputs()
    with torch.no_grad():
        together = tiny.policy.act(inputs)
        assert together.shape == (2, 16, 14)
        for index in range(2):
            alone = one(inputs, index)
            alone["tokens"] = cut(alone["tokens"], tiny.spec.pad_id)
            torch.testing.assert_close(tiny.policy.act(alone)[0], together[index], atol=1e-4, rtol=1e-4)


def test_noise_decides_the_answer_and_the_same_noise_repeats_it(case: Callable[..., Case]) -> None:
    tiny = case("gr00t")
    inputs = tiny.inputs()
    with torch.no_grad():
        first, second = tiny.policy.act(inputs), tiny.policy.act(inputs)
        assert torch.equal(first, second)
        inputs["noise"] = inputs["noise"].flip(0)
        assert float((tiny.policy.act(inputs) - first).abs().max()) > 0.1
        inputs.pop("noise")
        with pytest.raises(SetupError, match=r"FV-POL-008.*noise"):
            tiny.policy.act(inputs)


def test_the_state_reaches_the_answer_only_where_the_policy_reads_it(case: Callable[..., Case]) -> None:
    with torch.no_grad():
        for state in (True, False):
            tiny = case("gr00t", state=state)
            inputs = tiny.inputs()
            inputs["state"] = torch.zeros(2, 14)
            before = tiny.policy.act(inputs)
            inputs["state"] = torch.ones(2, 14)
            assert (float((tiny.policy.act(inputs) - before).abs().max()) > 1e-4) == state


def test_the_loss_repeats_under_its_generator_and_is_per_sample(case: Callable[..., Case]) -> None:
    tiny = case("gr00t")
    inputs, actions = tiny.inputs(), noise(seed=5)

    def loss(seed: int) -> torch.Tensor:
        with torch.no_grad():
            return tiny.policy.loss(inputs, actions, torch.Generator().manual_seed(seed))

    assert loss(1).shape == (2,)
    assert torch.equal(loss(1), loss(1))
    assert not torch.equal(loss(1), loss(2))
    far = actions.clone()
    far[1] += 10.0
    with torch.no_grad():
        moved = tiny.policy.loss(inputs, far, torch.Generator().manual_seed(1))
    torch.testing.assert_close(moved[0], loss(1)[0], atol=1e-4, rtol=1e-4)
    assert float(moved[1]) > 10 * float(loss(1)[1])


def test_a_training_step_sees_four_noises_and_runs_the_backbone_once(case: Callable[..., Case]) -> None:
    tiny = case("gr00t")
    policy = tiny.policy
    assert isinstance(policy, GR00TPolicy)
    heads, passes = [], []
    hooks = [
        policy.head.action_encoder.register_forward_hook(lambda module, args, out: heads.append(args[0].shape[0])),
        policy.backbone.model.model.language_model.register_forward_hook(lambda *args: passes.append(1)),
    ]
    with torch.no_grad():
        policy.loss(tiny.inputs(), torch.zeros(2, 16, 14), torch.Generator())
    for hook in hooks:
        hook.remove()
    assert (heads, passes) == ([8], [1])


@pytest.mark.parametrize("state", [False, True])
def test_every_trained_weight_gets_a_gradient(case: Callable[..., Case], state: bool) -> None:
    tiny = case("gr00t", state=state)
    policy = tiny.policy
    policy.zero_grad(set_to_none=True)
    policy.loss(tiny.inputs(), torch.zeros(2, 16, 14), torch.Generator()).mean().backward()
    assert [name for name, p in policy.named_parameters() if p.requires_grad and p.grad is None] == []
    frozen = {name.split(".")[1] for name, p in policy.named_parameters() if not p.requires_grad}
    assert frozen == (set() if state else {"state_encoder"})
    gradients = {name: p.grad for name, p in policy.named_parameters() if p.grad is not None}
    for part in ("backbone.model.model.visual.patch_embed", "backbone.model.model.language_model.layers.0", "head."):
        assert sum(float(g.abs().sum()) for name, g in gradients.items() if name.startswith(part)) > 0, part
    policy.zero_grad(set_to_none=True)


def test_head_sizes_that_do_not_fit_are_refused() -> None:
    for wrong in ({"width": 50, "heads": 3}, {"blocks": 0}, {"max_rows": 8}, {"dropout": 1.0}):
        with pytest.raises(SetupError, match="FV-POL-010"):
            head(sizes=replace(GR00TSizes(), **wrong))
