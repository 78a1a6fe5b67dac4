from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import grpc
import numpy as np
import pytest
from grpc_status import rpc_status

from finevla_runtime.bundle import Bundle
from finevla_runtime.contracts.errors import FineVLAError, PolicyError, SetupError
from finevla_runtime.contracts.instruction import Instruction, InstructionKind
from finevla_runtime.processing.pipeline import Processor
from finevla_runtime.transport import policy_pb2 as pb
from finevla_runtime.transport.client import RemotePolicy
from finevla_runtime.transport.codec import decode_chunk, encode_instruction
from finevla_runtime.transport.policy_pb2_grpc import PolicyServiceStub
from finevla_runtime.transport.refusal import RULES, Reason
from policy_server.engines import onnxruntime_engine
from policy_server.engines.engine import EngineOptions
from policy_server.server import PolicyServer
from tests.serving.conftest import Connect, StartServer
from tests.serving.engines import FirstPixelEngine, GateEngine, NoiseEngine
from tests.serving.tiny_bundle import DOF, ROWS, observation


def code_of(call: Callable[[], object]) -> str:
    with pytest.raises(FineVLAError) as caught:
        call()
    return caught.value.code


def expected(bundle: Bundle, seed: int) -> np.ndarray:
    processor = Processor(bundle.spec, bundle.tokenizer_json)
    engine = onnxruntime_engine.load(bundle, EngineOptions(threads=1))
    inputs = {name: value[None] for name, value in processor.inputs(observation(seed)).items()}
    return processor.positions(engine.run(inputs)[0])


def test_a_chunk_is_what_the_model_gives_in_robot_units_with_its_provenance(
    policy: RemotePolicy, bundle: Bundle
) -> None:
    policy.reset(1)
    chunk = policy.infer(observation(7, step=40))
    np.testing.assert_allclose(chunk.positions, expected(bundle, 7), atol=1e-6)
    assert (chunk.first_control_step, chunk.step_s, chunk.capture_time_ns) == (40, 0.1, 1_000_007)
    assert (chunk.model_name, chunk.model_version) == ("tiny", "1")
    assert chunk.model_s > 0
    assert policy.spec == bundle.spec
    assert policy.bundle_digest == bundle.digest


def test_another_spec_hash_is_refused_by_client_and_by_server(server: PolicyServer, policy: RemotePolicy) -> None:
    foreign = "f" * 64
    with pytest.raises(SetupError) as caught:
        RemotePolicy.connect(server.address, expected_spec_hash=foreign)
    assert caught.value.code == "FV-SRV-002"
    request = pb.OpenSessionRequest(expected_spec_hash=foreign)
    assert code_of(lambda: policy.client.open_session(request)) == "FV-SRV-002"


def test_an_unknown_model_names_the_nearest_one(policy: RemotePolicy) -> None:
    with pytest.raises(SetupError, match="Did you mean 'tiny'") as caught:
        policy.client.model_spec("tinny")
    assert caught.value.code == "FV-SRV-001"


def test_stale_epochs_and_closed_sessions_are_refused(policy: RemotePolicy) -> None:
    old = policy.request(observation())
    policy.reset(1)
    assert code_of(lambda: policy.client.infer(old)) == "FV-SES-002"
    fresh = policy.request(observation())
    policy.client.close_session(fresh.session_id)
    assert code_of(lambda: policy.client.infer(fresh)) == "FV-SES-001"
    policy.reset(2)
    assert policy.infer(observation()).rows == ROWS


def test_the_reset_seed_decides_the_noise_of_an_episode(
    start_server: StartServer, connect: Connect, bundle: Bundle
) -> None:
    flow = replace(bundle, spec=replace(bundle.spec, framework="gr00t"))
    policy = connect(start_server(NoiseEngine(), flow))
    processor = Processor(flow.spec, flow.tokenizer_json)

    def episode(seed: int) -> list[np.ndarray]:
        policy.reset(seed)
        return [policy.infer(observation(0, step=step)).positions for step in (0, 8)]

    first, again, other = episode(5), episode(5), episode(6)
    for step, chunk in zip((0, 8), first, strict=True):
        noise = processor.inputs(observation(0, step=step), episode_seed=5)["noise"]
        np.testing.assert_allclose(chunk, processor.positions(noise), atol=1e-6)
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first[0], first[1])
    assert not np.allclose(first, other)


def test_a_repeated_request_id_gets_the_same_chunk_without_running_the_model(
    start_server: StartServer, connect: Connect
) -> None:
    engine = GateEngine()
    engine.gate.release(10)
    policy = connect(start_server(engine))
    request = policy.request(observation(1))
    first = policy.client.infer(request)
    again = policy.client.infer(request)
    assert first.actions == again.actions
    assert first.chunk_id == again.chunk_id
    assert engine.batches == [1]


def test_an_answer_of_an_episode_that_ended_meanwhile_is_refused(start_server: StartServer, connect: Connect) -> None:
    engine = GateEngine()
    policy = connect(start_server(engine))
    request = policy.request(observation())
    with ThreadPoolExecutor(1) as pool:
        late = pool.submit(policy.client.infer, request)
        engine.entered.acquire(timeout=10)
        policy.reset(5)
        engine.gate.release()
        error = late.exception(timeout=10)
    assert isinstance(error, PolicyError)
    assert error.code == "FV-SES-002"


def test_the_sessions_instruction_is_used_when_the_observation_has_none(
    policy: RemotePolicy, start_server: StartServer
) -> None:
    request = policy.request(observation())
    request.observation.ClearField("instruction")
    assert code_of(lambda: policy.client.infer(request)) == "FV-REQ-007"
    instruction = encode_instruction(Instruction("put the red block into the bowl", InstructionKind.RAW))
    session = policy.client.reset_session(
        pb.ResetSessionRequest(session_id=request.session_id, instruction=instruction)
    )
    request.epoch = session.epoch
    answer = decode_chunk(policy.client.infer(request), policy.spec)
    policy.reset(0)
    assert np.array_equal(answer.positions, policy.infer(observation()).positions)


def test_concurrent_clients_share_batches_and_get_the_rows_they_get_alone(
    start_server: StartServer, connect: Connect, bundle: Bundle
) -> None:
    server = start_server()
    policies = [connect(server) for _ in range(6)]
    start = threading.Barrier(len(policies))

    def ask(number: int) -> list[tuple[np.ndarray, int]]:
        start.wait()
        answers = []
        for step in range(5):
            request = policies[number].request(observation(number * 10 + step))
            response = policies[number].client.infer(request)
            answers.append((decode_chunk(response, bundle.spec).positions, response.timing.batch_size))
        return answers

    with ThreadPoolExecutor(len(policies)) as pool:
        answers = list(pool.map(ask, range(len(policies))))
    for number, own in enumerate(answers):
        for step, (rows, _) in enumerate(own):
            np.testing.assert_allclose(rows, expected(bundle, number * 10 + step), atol=1e-6)


def test_requests_that_wait_while_the_model_runs_are_answered_by_one_run(
    start_server: StartServer, connect: Connect
) -> None:
    engine = GateEngine()
    server = start_server(engine, max_batch=4)
    policies = [connect(server) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(policies[0].infer, observation())]
        engine.entered.acquire(timeout=10)
        answers += [pool.submit(policy.infer, observation()) for policy in policies[1:]]
        wait_for(lambda: len(server.service.model("tiny").queue) == 3)
        engine.gate.release(10)
        for answer in answers:
            assert answer.result(timeout=10).rows == ROWS
    assert engine.batches == [1, 3]


def test_a_batch_call_answers_every_item_with_its_own_status(start_server: StartServer, connect: Connect) -> None:
    server = start_server(FirstPixelEngine())
    policies = [connect(server) for _ in range(5)]
    observations = [observation(i) for i in range(5)]
    requests = [policy.request(one) for policy, one in zip(policies, observations, strict=True)]
    for number, pixel in enumerate((10, 255, 254, 20, 30)):
        requests[number].observation.images[0].data = bytes([pixel]) * (96 * 96 * 3)
    requests[3].epoch = 99
    requests[4].observation.images[1].camera = "nose"
    responses = policies[0].client.infer_batch(requests)
    assert [response.request_id for response in responses] == [request.request_id for request in requests]
    codes = [grpc.StatusCode.OK.value[0] if not r.HasField("status") else r.status.code for r in responses]
    wanted = [Reason.INTERNAL, Reason.ACTION_NON_FINITE, Reason.STALE_EPOCH, Reason.BAD_CAMERA]
    assert codes == [0, *(RULES[reason].status.value[0] for reason in wanted)]
    assert all("secret" not in r.status.message and "/home" not in r.status.message for r in responses)
    assert "incident" in responses[1].status.message


def test_batches_of_no_item_and_of_too_many_are_refused(policy: RemotePolicy) -> None:
    assert code_of(lambda: policy.client.infer_batch([])) == "FV-REQ-009"
    assert code_of(lambda: policy.client.infer_batch([pb.InferRequest()] * 65)) == "FV-REQ-009"


def test_a_failing_model_gives_an_incident_id_and_no_internals(start_server: StartServer, connect: Connect) -> None:
    policy = connect(start_server(FirstPixelEngine()))
    request = policy.request(observation())
    request.observation.images[0].data = bytes([255]) * (96 * 96 * 3)
    with pytest.raises(PolicyError) as caught:
        policy.client.infer(request)
    assert caught.value.code == "FV-SRV-008"
    assert "secret" not in str(caught.value)
    assert "Traceback" not in str(caught.value)
    assert policy.infer(observation(2)).rows == ROWS


def test_rows_that_are_not_finite_never_leave_the_server(start_server: StartServer, connect: Connect) -> None:
    policy = connect(start_server(FirstPixelEngine()))
    request = policy.request(observation())
    request.observation.images[0].data = bytes([254]) * (96 * 96 * 3)
    assert code_of(lambda: policy.client.infer(request)) == "FV-SRV-007"


def test_a_full_server_refuses_at_once(start_server: StartServer, connect: Connect) -> None:
    engine = GateEngine()
    server = start_server(engine, max_batch=1, max_queue=2)
    policies = [connect(server) for _ in range(3)]
    with ThreadPoolExecutor(2) as pool:
        running = pool.submit(policies[0].infer, observation())
        engine.entered.acquire(timeout=10)
        waiting = pool.submit(policies[1].infer, observation())
        wait_for(lambda: len(server.service.model("tiny").queue) == 1)
        assert code_of(lambda: policies[2].infer(observation())) == "FV-SRV-004"
        engine.gate.release(10)
        assert running.result(timeout=10).rows == waiting.result(timeout=10).rows == ROWS
    assert policies[2].infer(observation()).rows == ROWS


def test_a_missed_deadline_frees_the_queue_and_the_server_goes_on(start_server: StartServer, connect: Connect) -> None:
    engine = GateEngine()
    server = start_server(engine, max_batch=1)
    policies = [connect(server) for _ in range(2)]
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(policies[0].infer, observation())
        engine.entered.acquire(timeout=10)
        request = policies[1].request(observation())
        assert code_of(lambda: policies[1].client.infer(request, timeout_s=0.2)) in ("FV-NET-002", "FV-SRV-005")
        engine.gate.release(10)
        assert running.result(timeout=10).rows == ROWS
    assert policies[1].infer(observation()).rows == ROWS
    assert len(engine.batches) == 2


def test_a_caller_that_leaves_is_taken_out_of_the_queue(start_server: StartServer, connect: Connect) -> None:
    engine = GateEngine()
    server = start_server(engine, max_batch=1)
    policies = [connect(server) for _ in range(2)]
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(policies[0].infer, observation())
        engine.entered.acquire(timeout=10)
        with grpc.insecure_channel(server.address) as channel:
            stub = PolicyServiceStub(channel)  # type: ignore[no-untyped-call]
            call = stub.Infer.future(policies[1].request(observation()))
            queue = server.service.model("tiny").queue
            wait_for(lambda: len(queue) == 1)
            call.cancel()
            # The cancellation crosses the wire; the engine must not be free before it has arrived.
            wait_for(lambda: all(job.answer.cancelled() for job in tuple(queue._jobs)))
        engine.gate.release(10)
        assert running.result(timeout=10).rows == ROWS
    assert policies[0].infer(observation()).rows == ROWS
    assert sum(engine.batches) == 2


def test_an_rtc_prefix_is_refused_and_not_ignored(policy: RemotePolicy) -> None:
    assert not policy.continues
    request = policy.request(observation())
    request.rtc.inference_delay_steps = 2
    assert code_of(lambda: policy.client.infer(request)) == "FV-SRV-003"


def test_a_request_without_an_id_is_refused(policy: RemotePolicy) -> None:
    request = policy.request(observation())
    request.request_id = ""
    assert code_of(lambda: policy.client.infer(request)) == "FV-REQ-001"


def test_an_instruction_longer_than_the_prompt_is_refused_with_the_cause_s_own_code(policy: RemotePolicy) -> None:
    assert code_of(lambda: policy.infer(observation(text="put " * 13))) == "FV-TOK-003"


def test_only_so_many_sessions_can_be_open(start_server: StartServer, connect: Connect) -> None:
    server = start_server(max_sessions=2)
    first = connect(server)
    connect(server)
    with pytest.raises(SetupError) as caught:
        connect(server)
    assert caught.value.code == "FV-SES-004"
    first.close()
    assert connect(server).infer(observation()).rows == ROWS


def test_standard_rich_error_libraries_read_a_refusal(server: PolicyServer, policy: RemotePolicy) -> None:
    with grpc.insecure_channel(server.address) as channel:
        stub = PolicyServiceStub(channel)  # type: ignore[no-untyped-call]
        with pytest.raises(grpc.RpcError) as caught:
            stub.GetModelSpec(pb.GetModelSpecRequest(model="other"), timeout=5)
    status = rpc_status.from_call(caught.value)
    info = pb.ErrorInfo.FromString(status.details[0].value)
    assert status.details[0].type_url == "type.googleapis.com/google.rpc.ErrorInfo"
    assert (info.domain, info.reason, info.metadata["code"]) == ("finevla", "UNKNOWN_MODEL", "FV-SRV-001")


def test_the_handshake_tells_limits_and_models(policy: RemotePolicy) -> None:
    info = policy.client.wait_until_ready(5)
    assert list(info.models) == ["tiny"]
    assert info.default_model == "tiny"
    assert info.max_request_bytes == 32 << 20
    assert list(info.image_encodings) == [pb.IMAGE_ENCODING_RAW_RGB8]


@pytest.mark.parametrize("size", [32 << 20, 63 << 20])
def test_a_message_larger_than_the_limit_is_refused_and_the_server_lives(policy: RemotePolicy, size: int) -> None:
    request = policy.request(observation())
    request.observation.images[0].data = bytes(size)
    assert code_of(lambda: policy.client.infer(request)) == "FV-NET-006"
    assert policy.infer(observation()).positions.shape == (ROWS, DOF)


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until another thread has done its part; the test fails when it never does."""
    changed = threading.Event()
    for _ in range(6000):
        if condition():
            return
        changed.wait(0.01)
    pytest.fail("it never happened.")
