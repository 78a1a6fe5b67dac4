"""The counting formulas count what torch counts, and both ways through the policy say the same."""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop

from benchmarks.policy_step.__main__ import main
from benchmarks.policy_step.counts import (
    ATTENTION,
    CONVOLUTION,
    DELTA,
    LINEAR,
    Product,
    Work,
    step_products,
    training_flops,
    work_of,
)
from benchmarks.policy_step.page import Result, table
from benchmarks.policy_step.rates import Rates, measure_rates, used_bytes
from benchmarks.policy_step.sides import EAGER, HUGGING_FACE, Missing, Side, interleave
from benchmarks.policy_step.subject import SIZES, Subject
from benchmarks.policy_step.subject_bundle import write_subject_bundle
from benchmarks.policy_step.train_step import measure_training
from tests.serving.staged_bundle import write_staged_bundle

CPU = torch.device("cpu")


@pytest.fixture(scope="module", params=["oft", "gr00t"])
def subject(request: pytest.FixtureRequest) -> Subject:
    return Subject(SIZES["tiny"], request.param, CPU, torch.float32)


def tensors(subject: Subject, batch: int) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(value) for name, value in subject.inputs(batch).items()}


def test_plain_hugging_face_and_the_policy_give_the_same_rows(subject: Subject) -> None:
    inputs = tensors(subject, 2)
    with torch.inference_mode():
        torch.testing.assert_close(subject.act(inputs), subject.act_plainly(inputs), atol=1e-4, rtol=1e-4)


def test_both_ways_share_every_weight(subject: Subject) -> None:
    ours, plain = subject.policy.backbone.model.state_dict(), subject.plain.state_dict()
    assert {name: value.data_ptr() for name, value in ours.items()} == {n: v.data_ptr() for n, v in plain.items()}


def counted(subject: Subject, batch: int) -> tuple[dict[str, int], int]:
    """What torch counts: operations by operator, and those of the delta rule."""
    formula = partial(sdpa_flop)
    formula._get_raw = True  # type: ignore[attr-defined]
    attention = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: formula}
    with torch.inference_mode(), FlopCounterMode(display=False, custom_mapping=attention) as counter:
        subject.act(tensors(subject, batch))
    modules = {name: {str(op): n for op, n in ops.items()} for name, ops in counter.get_flop_counts().items()}
    delta = sum(ops.get("aten.bmm", 0) for name, ops in modules.items() if name.endswith("linear_attn"))
    patches = sum(ops.get("aten.convolution", 0) for name, ops in modules.items() if name.endswith("patch_embed"))
    total = modules["Global"]
    total["patches"] = patches
    return total, delta


def by_kind(products: list[Product]) -> Counter[str]:
    kinds: Counter[str] = Counter()
    for product in products:
        kinds[product.kind] += product.flops
    return kinds


@pytest.mark.parametrize("batch", [1, 3])
def test_the_formulas_count_what_torch_counts(subject: Subject, batch: int) -> None:
    total, delta = counted(subject, batch)
    products = step_products(subject.policy, batch, subject.length)
    ours, length = by_kind(products), subject.length
    linear = total["aten.mm"] + total["aten.addmm"] + total["aten.bmm"] - delta + total["patches"]
    assert ours[LINEAR] == linear
    # Torch counts all pairs of causal attention, the floor only those a token may see.
    causal = sum(p.flops for p in products if p.kind == ATTENTION and p.name == "language")
    seen = total["aten._scaled_dot_product_flash_attention_for_cpu"]
    assert ours[ATTENTION] + causal * (length - 1) // (length + 1) == seen
    # The reference pads the convolution by three tokens and runs the delta rule in chunks of 64.
    depthwise = total["aten.convolution"] - total["patches"]
    assert ours[CONVOLUTION] * (length + 3) == depthwise * length
    assert 0 < ours[DELTA] < delta


def test_weights_are_counted_once_each() -> None:
    subject = Subject(SIZES["tiny"], "oft", CPU, torch.float32)
    policy = subject.policy
    words = policy.backbone.model.get_output_embeddings()
    layers = [m for m in policy.modules() if isinstance(m, nn.Linear | nn.Conv1d | nn.Conv3d) and m is not words]
    held = sum(layer.weight.numel() for layer in layers)
    work = work_of(step_products(policy, 1, subject.length), half_bytes=4)
    assert work.weight_bytes == 4 * held
    assert work_of(step_products(policy, 8, subject.length), half_bytes=4).weight_bytes == work.weight_bytes


def test_a_training_step_is_three_forwards(subject: Subject) -> None:
    products = step_products(subject.policy, 2, subject.length)
    assert training_flops(products) == 3 * work_of(products).flops


def test_a_head_in_float32_moves_four_bytes_whatever_the_backbone_does() -> None:
    exact = Product("head", LINEAR, 2, 3, 5, half=False)
    assert work_of([exact], half_bytes=2) == Work(60, 60, 4 * 2 * (3 + 5))
    assert work_of([Product("language", LINEAR, 2, 3, 5, times=2)], half_bytes=2) == Work(120, 60, 2 * 2 * 2 * 8)


def test_floors_are_work_over_rates() -> None:
    assert Rates(1e9, 2e9, "8³").floors_s(5e8, 1e9) == (0.5, 0.5)


def test_rates_and_memory_are_positive() -> None:
    rates = measure_rates(CPU, torch.float32, 64, 1 << 20)
    assert rates.flops_per_s > 0 < rates.bytes_per_s
    assert used_bytes(CPU) > 1 << 20


def test_rounds_alternate_the_order_of_the_sides() -> None:
    calls: list[str] = []

    def side(name: str) -> Side:
        return Side(name, lambda inputs: calls.append(name), 0)  # type: ignore[arg-type, return-value]

    sides = [side("a"), side("b")]
    interleave(sides, {1: {}, 2: {}}, rounds=2, steps=2, device=CPU)
    assert "".join(calls) == "aabb" + "aabb" + "bbaa" + "aabb" + "aabb" + "bbaa"
    assert [len(times) for times in sides[0].seconds.values()] == [4, 4]


def test_the_page_shows_ratios_floors_and_what_did_not_run() -> None:
    slow = Side(HUGGING_FACE, lambda inputs: np.zeros(0), 2_000_000, {1: [0.04, 0.04]})
    fast = Side("onnxruntime", lambda inputs: np.zeros(0), 1_000_000, {1: [0.01, 0.01]})
    work = {1: Work(10_000_000, 4_000_000, 1_000_000)}
    result = Result("oft", [slow, fast], [Missing("tensorrt", "no GPU")], work, Rates(1e10, 1e9, "8³"))
    lines = table(result).splitlines()
    assert "| 1 | onnxruntime | 10.00 | 10.00 | 1 | 4.00 | 2.00 |" in lines
    assert "| 1 | 0.01 | 1 | 4 | 1 | 5 |" in lines
    assert "Not run: tensorrt (no GPU)" in lines


def test_a_training_step_is_measured_and_leaves_the_policy_in_evaluation_mode(subject: Subject) -> None:
    figures = measure_training(subject, Rates(1e12, 1e9, "8³"), batch=2)
    assert figures.utilisation == pytest.approx(figures.flops / figures.step_s / 1e12)
    assert not subject.policy.training
    assert all(p.grad is not None for n, p in subject.policy.named_parameters() if "layers.0.mlp" in n)


def test_the_benchmark_of_a_bundle_says_which_engines_did_not_run(tmp_path: Path) -> None:
    bundle = write_staged_bundle(tmp_path / "b", "oft")
    arguments = ["--bundle", str(bundle.path), "--out", str(tmp_path), "--rounds", "1", "--steps", "1"]
    assert main([*arguments, "--batches", "1", "4", "--engines", "onnxruntime", "tensorrt"]) == 0
    text = (tmp_path / "policy_step.md").read_text()
    assert "| 4 | onnxruntime |" in text
    assert "Not run: tensorrt (FV-ENG-010" in text


def test_the_benchmark_of_the_tiny_policy_writes_every_side(tmp_path: Path) -> None:
    arguments = ["--out", str(tmp_path), "--rounds", "1", "--steps", "1", "--batches", "1", "--no-compile"]
    assert main([*arguments, "--framework", "oft", "--train-batch", "1"]) == 0
    text = (tmp_path / "policy_step.md").read_text()
    assert f"| 1 | {HUGGING_FACE} |" in text
    assert f"| 1 | {EAGER} |" in text
    assert "% of the measured matrix-product rate" in text
    assert "Floors:" in text


def test_an_engine_that_needs_a_gpu_is_exported_and_built_and_says_that_it_did_not_run(tmp_path: Path) -> None:
    arguments = ["--out", str(tmp_path), "--rounds", "1", "--steps", "1", "--batches", "2", "--no-compile"]
    assert (
        main([*arguments, "--framework", "gr00t", "--engines", "onnxruntime", "tensorrt", "--precision", "float16"])
        == 0
    )
    text = (tmp_path / "policy_step_float16.md").read_text()
    assert "| 2 | onnxruntime |" in text
    assert "Not run: tensorrt (FV-ENG-" in text


def test_a_bundle_of_another_precision_leaves_the_subject_as_it_is(tmp_path: Path) -> None:
    subject = Subject(SIZES["tiny"], "oft", torch.device("cpu"), torch.float32)
    before = {name: value.clone() for name, value in subject.policy.state_dict().items()}
    bundle = write_subject_bundle(subject, tmp_path / "b", "float16")
    assert bundle.provenance["precision"] == "float16"
    assert all(torch.equal(value, before[name]) for name, value in subject.policy.state_dict().items())
