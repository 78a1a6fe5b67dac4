from __future__ import annotations

import urllib.request
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from prometheus_client import generate_latest

from finevla_runtime.bundle import Bundle
from finevla_runtime.contracts.errors import FineVLAError, SetupError
from finevla_runtime.transport.client import RemotePolicy
from policy_server.handlers import SERVICE
from policy_server.server import PolicyServer, ServerOptions
from tests.serving.conftest import Connect, StartServer
from tests.serving.engines import GateEngine
from tests.serving.test_service import wait_for
from tests.serving.tiny_bundle import ROWS, observation


def health_of(server: PolicyServer) -> int:
    with grpc.insecure_channel(server.address) as channel:
        request = health_pb2.HealthCheckRequest(service=SERVICE.full_name)
        return int(health_pb2_grpc.HealthStub(channel).Check(request, timeout=5).status)


@pytest.mark.parametrize("name", ["max_batch", "max_queue", "max_sessions"])
def test_a_server_that_would_never_answer_is_refused(name: str) -> None:
    with pytest.raises(SetupError, match=f"FV-SRV-011: {name} is 0"):
        ServerOptions(**{name: 0})


def test_health_answers_while_every_place_for_inference_is_taken(start_server: StartServer, connect: Connect) -> None:
    engine = GateEngine()
    server = start_server(engine, max_batch=1, max_queue=3)
    policies = [connect(server) for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        answers = [pool.submit(policy.infer, observation()) for policy in policies]
        engine.entered.acquire(timeout=10)
        wait_for(lambda: len(server.service.model("").queue) == 2)
        assert health_of(server) == health_pb2.HealthCheckResponse.SERVING
        assert policies[0].client.model_spec().name == "tiny"
        engine.gate.release(10)
        assert all(answer.result(timeout=10).rows == ROWS for answer in answers)


def test_draining_finishes_what_runs_and_refuses_what_comes(bundle: Bundle, connect: Connect) -> None:
    engine = GateEngine()
    server = PolicyServer(bundle, ServerOptions(), engine=engine)
    policy, other = connect(server), connect(server, timeout_s=0.3)
    with ThreadPoolExecutor(2) as pool:
        running = pool.submit(policy.infer, observation())
        engine.entered.acquire(timeout=10)
        drained = pool.submit(server.drain, 10.0)
        wait_for(lambda: _refused(other))
        engine.gate.release(10)
        assert running.result(timeout=10).rows == ROWS
        drained.result(timeout=10)


def _refused(policy: RemotePolicy) -> bool:
    try:
        policy.client.model_spec()
    except FineVLAError as error:
        return error.code in ("FV-NET-001", "FV-NET-002")
    return False


def test_reflection_describes_the_service(server: PolicyServer) -> None:
    with grpc.insecure_channel(server.address) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        assert SERVICE.full_name in database.get_services()
        file = database.FindFileContainingSymbol(SERVICE.full_name)
        assert "InferStream" in [method.name for method in file.service[0].method]


def test_metrics_count_calls_refusals_and_batches(start_server: StartServer, connect: Connect) -> None:
    server = start_server()
    policy = connect(server)
    policy.infer(observation())
    bad = policy.request(observation())
    bad.epoch = 9
    with pytest.raises(FineVLAError):
        policy.client.infer(bad)
    text = generate_latest(server.metrics.registry).decode()
    assert 'finevla_calls_total{method="Infer",status="OK"} 1.0' in text
    assert 'finevla_calls_total{method="Infer",status="ABORTED"} 1.0' in text
    assert 'finevla_refusals_total{reason="STALE_EPOCH"} 1.0' in text
    assert "finevla_batch_size_sum 1.0" in text
    assert "finevla_sessions 1.0" in text


def test_metrics_are_scraped_on_this_machine_and_a_taken_port_is_a_coded_error(
    start_server: StartServer, bundle: Bundle
) -> None:
    server = start_server(metrics_port=0)
    assert server.metrics_port is not None
    with urllib.request.urlopen(f"http://127.0.0.1:{server.metrics_port}/metrics", timeout=5) as page:
        assert b"finevla_queue_length 0.0" in page.read()
    with pytest.raises(SetupError, match="FV-SRV-009"):
        PolicyServer(bundle, ServerOptions(metrics_port=server.metrics_port))


def test_a_taken_port_is_a_coded_error(server: PolicyServer, bundle: Bundle) -> None:
    with pytest.raises(SetupError, match="FV-SRV-010"):
        PolicyServer(bundle, ServerOptions(address=server.address))
