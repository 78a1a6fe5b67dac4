"""Real-time chunking: a flow-matching policy continues the rows of the chunk before; others say they cannot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finevla_runtime.bundle import Bundle
from finevla_runtime.contracts.action import ChunkPrefix
from finevla_runtime.contracts.errors import PolicyError, SetupError
from finevla_runtime.contracts.instruction import Instruction, InstructionKind
from finevla_runtime.contracts.policy import Normalisation
from finevla_runtime.motion.chunk_queue import Ticket
from finevla_runtime.motion.execution import Execution, Strategy
from finevla_runtime.motion.synchroniser import Synchronised
from finevla_runtime.processing.continuation import Continuation
from finevla_runtime.processing.normalise import MAX_MODEL_VALUE
from finevla_runtime.processing.pipeline import Processor
from finevla_runtime.robot.policy_loop import Body, Episode, PolicyLoop
from finevla_runtime.transport import policy_pb2 as pb
from finevla_runtime.transport.client import RemotePolicy
from finevla_runtime.transport.codec import decode_prefix, encode_prefix, encode_tensor
from finevla_runtime.transport.refusal import Reason, Refusal
from policy_server.engines.engine import EngineOptions, LoadedEngine
from policy_server.engines.registry import load_engine
from policy_server.parity import check_parity
from policy_server.server import PolicyServer
from tests.serving.conftest import Connect, StartServer
from tests.serving.staged_bundle import ROWS, continued, random_inputs, reference, staged_spec, write_staged_bundle
from tests.serving.staged_programs import policy_program, stage_programs
from tests.serving.tiny_bundle import DOF, observation, tiny_tokenizer

SPEC = staged_spec("gr00t")


@pytest.fixture(scope="module", params=["onnxruntime", "torch"])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LoadedEngine:
    folder = tmp_path_factory.mktemp("engine")
    programs = stage_programs(folder) if request.param == "torch" else None
    bundle = write_staged_bundle(folder / "b", "gr00t", programs=programs)
    loaded = load_engine(request.param, bundle, EngineOptions(1))
    assert check_parity(loaded, bundle) <= bundle.parity.atol
    return loaded


def model_rows(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, (count, DOF)).astype(np.float32)


def smooth_inputs(seed: int) -> dict[str, np.ndarray]:
    """Return one item whose noise hardly differs from row to row: the tiny head, row by row, answers a smooth chunk."""
    inputs = random_inputs("gr00t", (24,), seed)
    inputs["noise"] = (inputs["noise"][:, :1] + 0.05 * inputs["noise"]).astype(np.float32)
    return inputs


def prefix_of(rows: np.ndarray, delay: int = 1, execution: int = 1) -> ChunkPrefix:
    return ChunkPrefix("before", rows, delay, execution)


@given(st.integers(1, 20), st.data())
def test_executed_rows_are_held_whole_new_ones_not_at_all_and_those_between_ever_less(
    chunk_rows: int, data: st.DataObject
) -> None:
    rows = data.draw(st.integers(1, chunk_rows))
    delay, execution = data.draw(st.integers(0, rows)), data.draw(st.integers(1, 2**32 - 1) | st.integers(1, 20))
    weights = Continuation(np.zeros((rows, DOF)), delay, execution).weights(chunk_rows)
    end = max(delay, min(rows, chunk_rows - execution))
    assert weights.shape == (chunk_rows,)
    assert (weights[:delay] == 1).all()
    assert ((weights[delay:end] > 0) & (weights[delay:end] < 1)).all()
    assert (weights[end:] == 0).all()
    assert (np.diff(weights) <= 0).all()


def test_the_weights_between_are_those_of_the_paper() -> None:
    weights = Continuation(np.zeros((6, DOF)), 2, 2).weights(8)
    share = np.array([4, 3, 2, 1]) / 5
    np.testing.assert_allclose(weights[2:6], share * (np.exp(share) - 1) / (np.e - 1), rtol=1e-6)


@pytest.mark.parametrize("delay", range(ROWS))
def test_executed_rows_come_back_to_the_bit_and_the_others_as_in_the_reference(
    engine: LoadedEngine, delay: int
) -> None:
    rows = model_rows(3)
    inputs = continued(random_inputs("gr00t"), [Continuation(rows, delay, 1)] * 3)
    answer = engine.run(inputs)
    np.testing.assert_array_equal(answer[:, :delay], np.broadcast_to(rows[:delay], (3, delay, DOF)))
    np.testing.assert_allclose(answer, reference("gr00t", inputs), atol=1e-5)


def test_without_anything_to_continue_the_answer_is_the_same_bytes(engine: LoadedEngine) -> None:
    inputs = random_inputs("gr00t")
    assert engine.run(continued(inputs, [None] * 3)).tobytes() == engine.run(inputs).tobytes()


def test_in_one_batch_those_that_continue_and_those_that_do_not_answer_as_alone(engine: LoadedEngine) -> None:
    inputs = random_inputs("gr00t", (24, 11, 24, 9))
    both = [Continuation(model_rows(3), 2, 1), None, None, Continuation(model_rows(2, 1), 0, 2)]
    mixed = engine.run(continued(inputs, both))
    for item, one in enumerate(both):
        alone = {name: value[item : item + 1] for name, value in inputs.items()}
        answer = engine.run(alone if one is None else continued(alone, [one]))
        np.testing.assert_allclose(mixed[item], answer[0], atol=1e-6)


@pytest.mark.parametrize("kind", ["oft", "one program"])
def test_engines_that_take_no_steps_from_noise_say_that_they_cannot_continue(tmp_path: Path, kind: str) -> None:
    if kind == "oft":
        bundle, name = write_staged_bundle(tmp_path / "b", "oft"), "onnxruntime"
    else:
        program = policy_program("gr00t", tmp_path / "policy.pt2")
        bundle, name = write_staged_bundle(tmp_path / "b", "gr00t", programs={"policy": program}), "torch"
    assert not load_engine(name, bundle, EngineOptions(1)).continues


@pytest.mark.parametrize("layout", ["project", "starvla_robotwin"])
@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(1, ROWS))
def test_a_prefix_reaches_the_server_as_the_rows_the_processor_gives_and_comes_back_the_same(
    layout: str, seed: int, rows: int
) -> None:
    rng = np.random.default_rng(seed)
    modes = rng.choice(["q99", "min_max", "mean_std", "identity"], DOF)
    low, spread = rng.uniform(-3, -1, DOF), rng.uniform(2, 6, DOF)
    high = np.where(modes == "mean_std", spread, low + spread)
    statistics = Normalisation(tuple(modes), tuple(low), tuple(high), clip=False)
    spec = replace(SPEC, layout=layout, normalisation=statistics, prompt=replace(SPEC.prompt, template="{instruction}"))
    positions = rng.uniform(0, 1, (rows, DOF)).astype(np.float32)
    sent = encode_prefix(ChunkPrefix("c", positions, rows, 3), spec)
    got = decode_prefix(pb.RtcPrefix.FromString(sent.SerializeToString()), spec)
    processor = Processor(spec, tiny_tokenizer())
    np.testing.assert_array_equal(got.rows, processor.model_rows(positions))
    np.testing.assert_allclose(processor.positions(got.rows), positions, atol=1e-5)
    assert (got.delay_rows, got.execution_rows) == (rows, 3)


def test_a_row_of_one_joint_arrives_at_its_place_in_the_layout_of_the_model() -> None:
    spec = replace(staged_spec("gr00t"), layout="starvla_robotwin")
    positions = np.zeros((1, DOF), np.float32)
    positions[0, 6] = 1.0  # The left gripper, twelfth in that layout.
    (row,) = decode_prefix(encode_prefix(prefix_of(positions), spec), spec).rows
    assert list(np.flatnonzero(row)) == [12]
    assert row[12] == np.float32(0.5)


def _rows(*shape: int, value: float = 0.1) -> Callable[[pb.RtcPrefix], None]:
    def fault(prefix: pb.RtcPrefix) -> None:
        prefix.prev_actions.CopyFrom(encode_tensor(np.full(shape, value, np.float32)))

    fault.__name__ = f"{'x'.join(map(str, shape))} of {value:g}"
    return fault


def _nothing(prefix: pb.RtcPrefix) -> None:
    prefix.Clear()


def _other_type(prefix: pb.RtcPrefix) -> None:
    prefix.prev_actions.dtype = pb.DTYPE_UNSPECIFIED


def _claims_more(prefix: pb.RtcPrefix) -> None:
    prefix.prev_actions.shape[:] = [3, DOF]


def _delay_beyond_the_rows(prefix: pb.RtcPrefix) -> None:
    prefix.inference_delay_steps = 3


def _no_horizon(prefix: pb.RtcPrefix) -> None:
    prefix.execution_horizon = 0


def _long_id(prefix: pb.RtcPrefix) -> None:
    prefix.prev_chunk_id = "x" * 129


FAULTS: list[tuple[Callable[[pb.RtcPrefix], None], Reason]] = [
    (_rows(ROWS + 1, DOF), Reason.BAD_SHAPE),
    (_rows(2, DOF - 1), Reason.BAD_SHAPE),
    (_rows(0, DOF), Reason.BAD_SHAPE),
    (_rows(DOF), Reason.BAD_SHAPE),
    (_rows(1, 2, DOF), Reason.BAD_SHAPE),
    (_claims_more, Reason.BAD_SHAPE),
    (_nothing, Reason.BAD_DTYPE),
    (_other_type, Reason.BAD_DTYPE),
    (_rows(2, DOF, value=np.nan), Reason.NON_FINITE),
    (_rows(2, DOF, value=-np.inf), Reason.NON_FINITE),
    (_rows(2, DOF, value=MAX_MODEL_VALUE * 1.01), Reason.BAD_PREFIX),
    (_rows(2, DOF, value=-3e38), Reason.BAD_PREFIX),
    (_delay_beyond_the_rows, Reason.BAD_PREFIX),
    (_no_horizon, Reason.BAD_PREFIX),
    (_long_id, Reason.BAD_PREFIX),
]


def faulty(fault: Callable[[pb.RtcPrefix], None]) -> pb.RtcPrefix:
    message = encode_prefix(prefix_of(model_rows(2)), SPEC)
    fault(message)
    return message


@pytest.mark.parametrize(("fault", "reason"), FAULTS, ids=lambda value: getattr(value, "__name__", "").strip("_"))
def test_every_faulty_prefix_is_refused_with_its_reason(fault: Callable[[pb.RtcPrefix], None], reason: Reason) -> None:
    with pytest.raises(Refusal) as caught:
        decode_prefix(faulty(fault), SPEC)
    assert caught.value.reason is reason


def test_a_faulty_prefix_is_refused_by_the_server_and_its_neighbours_are_answered(flow_policy: RemotePolicy) -> None:
    requests = [flow_policy.request(observation(seed)) for seed in range(3)]
    requests[1].rtc.CopyFrom(faulty(_no_horizon))
    with pytest.raises(PolicyError, match=r"FV-REQ-011.*execution horizon is 0"):
        flow_policy.client.infer(requests[1])
    answers = flow_policy.client.infer_batch(requests)
    assert [len(answer.actions.data) for answer in answers] == [56 * ROWS, 0, 56 * ROWS]
    assert "FV-REQ-011" in answers[1].status.message


def test_the_answer_begins_with_the_rows_that_will_have_been_executed(flow_policy: RemotePolicy) -> None:
    flow_policy.reset(3)
    before = flow_policy.infer(observation(1, step=10))
    rest = before.positions[1:]
    after = flow_policy.infer(observation(2, step=11), prefix_of(rest, delay=2))
    np.testing.assert_allclose(after.positions[:2], rest[:2], atol=1e-6)
    assert not np.allclose(after.positions[2:], flow_policy.infer(observation(2, step=11)).positions[2:], atol=1e-3)


def test_the_step_from_the_last_executed_row_to_the_first_new_one_is_smaller(engine: LoadedEngine) -> None:
    free, held = [], []
    for seed in range(12):
        first, second = smooth_inputs(seed), smooth_inputs(seed + 100)
        rest = engine.run(first)[0, 1:]
        free.append(np.abs(engine.run(second)[0, 1] - rest[0]).mean())
        held.append(np.abs(engine.run(continued(second, [Continuation(rest, 1, 1)]))[0, 1] - rest[0]).mean())
    assert (np.array(held) < 0.6 * np.array(free)).all()


def test_without_a_prefix_a_server_that_continues_answers_what_the_engine_alone_does(
    flow_policy: RemotePolicy, flow_bundle: Bundle
) -> None:
    flow_policy.reset(5)
    assert flow_policy.continues
    processor = Processor(flow_bundle.spec, flow_bundle.tokenizer_json)
    inputs = {name: value[None] for name, value in processor.inputs(observation(4), episode_seed=5).items()}
    engine = load_engine("onnxruntime", flow_bundle, EngineOptions())
    wanted = processor.positions(engine.run(inputs)[0])
    assert flow_policy.infer(observation(4)).positions.tobytes() == wanted.tobytes()


def test_a_repeated_request_gets_the_first_answer_whatever_its_prefix(flow_policy: RemotePolicy) -> None:
    request = flow_policy.request(observation(1))
    request.rtc.CopyFrom(encode_prefix(prefix_of(model_rows(3)), SPEC))
    first = flow_policy.client.infer(request)
    assert flow_policy.client.infer(request).actions == first.actions
    request.rtc.CopyFrom(encode_prefix(prefix_of(model_rows(3, seed=1)), SPEC))
    assert flow_policy.client.infer(request).actions == first.actions
    request.request_id = "another"
    assert flow_policy.client.infer(request).actions != first.actions


def test_the_client_sends_no_prefix_to_a_model_that_cannot_continue_it(
    policy: RemotePolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[bytes] = []
    monkeypatch.setattr(policy.client, "infer", sent.append)
    with pytest.raises(SetupError, match=r"FV-SRV-003: tiny cannot continue chunk 'before'"):
        policy.infer(observation(), prefix_of(model_rows(2)))
    assert sent == []


def test_a_staged_oft_bundle_refuses_a_prefix(start_server: StartServer, connect: Connect, tmp_path: Path) -> None:
    policy = connect(start_server(served=write_staged_bundle(tmp_path / "b", "oft")))
    assert not policy.continues
    request = policy.request(observation())
    request.rtc.CopyFrom(encode_prefix(prefix_of(model_rows(2)), SPEC))
    with pytest.raises(SetupError, match=r"FV-SRV-003.*staged-oft on engine onnxruntime"):
        policy.client.infer(request)


def test_a_robot_that_asks_on_its_way_goes_on_where_its_plan_led(flow_server: PolicyServer, connect: Connect) -> None:
    policy = connect(flow_server)
    ticket, step_ns = Ticket("episode", 0), 100_000_000
    loop = PolicyLoop(Execution(Strategy.ASYNCHRONOUS, execution_rows=1), 0.1, 1.0, policy.continues)
    loop.begin(Episode(ticket, Instruction("put the red block", InstructionKind.RAW), 1, 0))
    policy.reset(1)
    plan = None
    for step in range(4):
        seen, now_ns = observation(step), step * step_ns
        body = Body(ticket, moving=step > 0, rows_left=ROWS - 1, stamp_ns=now_ns)
        look = Synchronised(seen.images, dict.fromkeys(seen.images, now_ns), seen.joint_position.astype(float), now_ns)
        question = loop.ask(look, body)
        assert question is not None
        chunk = policy.infer(question.observation, question.prefix)
        if plan is not None:
            assert question.prefix is not None
            due = question.prefix.delay_rows
            np.testing.assert_allclose(chunk.positions[:due], plan[1 : 1 + due], atol=1e-6)
            # The first answer of an episode does not count as a latency, so delays are known from the third on.
            assert due == (0 if step == 1 else 1)
        assert loop.answer(question, chunk, now_ns + step_ns // 2)
        plan = chunk.positions
