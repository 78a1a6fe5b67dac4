from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from finevla_runtime.bundle import Bundle
from finevla_runtime.contracts.errors import SetupError
from finevla_runtime.transport.channel import ServiceClient
from finevla_runtime.transport.client import RemotePolicy
from finevla_runtime.transport.credentials import (
    ClientCredentials,
    ServerCredentials,
    check_address,
    is_loopback,
    read_token,
)
from policy_server.server import PolicyServer, ServerOptions
from tests.serving.conftest import StartServer
from tests.serving.tiny_bundle import ROWS, observation

TOKEN = "a-token-of-32-characters-0123456"


@dataclass(frozen=True)
class Certificate:
    public: bytes
    key: bytes


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    folder = tmp_path_factory.mktemp("tls")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run([*command.split(), *names, *files], check=True, capture_output=True)
    return Certificate((folder / "cert.pem").read_bytes(), (folder / "key.pem").read_bytes())


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0", "192.168.1.5:8500", "robot.local:8500"])
@pytest.mark.parametrize("token", ["", TOKEN])
def test_a_server_refuses_to_leave_this_machine_in_plaintext(bundle: Bundle, address: str, token: str) -> None:
    options = ServerOptions(address=address, credentials=ServerCredentials(token=token))
    with pytest.raises(SetupError, match="TLS and a token") as caught:
        PolicyServer(bundle, options)
    assert caught.value.code == "FV-SEC-002"


def test_a_server_refuses_to_leave_this_machine_without_a_token(bundle: Bundle, certificate: Certificate) -> None:
    credentials = ServerCredentials(certificate.public, certificate.key)
    with pytest.raises(SetupError, match="FV-SEC-002"):
        PolicyServer(bundle, ServerOptions(address="0.0.0.0:0", credentials=credentials))


@pytest.mark.parametrize("address", ["192.168.1.5:8500", "robot.local:8500", "localhost.evil.example:1", "0.0.0.0:1"])
def test_a_client_refuses_plaintext_to_another_machine(address: str) -> None:
    with pytest.raises(SetupError, match="FV-SEC-002"):
        ServiceClient(address, credentials=ClientCredentials(token=TOKEN))


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.9.9.9:1", "localhost:1", "[::1]:1", "unix:/tmp/socket"])
def test_loopback_addresses_are_known(address: str) -> None:
    check_address(address)
    assert is_loopback(address)


@pytest.mark.parametrize(
    "address", ["", "host", "host:", ":1", "host:x", "host:70000", "unix:", "a:1,b:2", "dns:///a:1"]
)
def test_addresses_that_are_none_are_refused(address: str) -> None:
    with pytest.raises(SetupError, match="FV-NET-005"):
        check_address(address)


def test_half_a_key_pair_and_short_tokens_are_refused(bundle: Bundle, certificate: Certificate) -> None:
    for credentials in (ServerCredentials(certificate=certificate.public), ServerCredentials(token="short")):
        with pytest.raises(SetupError, match="FV-SEC-003"):
            PolicyServer(bundle, ServerOptions(credentials=credentials))


def test_tls_and_token_round_trip(start_server: StartServer, certificate: Certificate) -> None:
    server = start_server(
        address="0.0.0.0:0", credentials=ServerCredentials(certificate.public, certificate.key, token=TOKEN)
    )
    address = f"localhost:{server.address.rpartition(':')[2]}"
    trusted = ClientCredentials(ca=certificate.public, token=TOKEN)
    with RemotePolicy.connect(address, credentials=trusted) as policy:
        assert policy.infer(observation()).rows == ROWS
    for false in ("", "another-token-of-32-characters-00"):
        with pytest.raises(SetupError, match="FV-SEC-001"):
            RemotePolicy.connect(address, credentials=ClientCredentials(ca=certificate.public, token=false))
    with pytest.raises(SetupError, match="FV-NET-001"):
        RemotePolicy.connect(address, connect_timeout_s=0.5)


def test_client_certificates_are_asked_for_when_an_authority_is_given(
    start_server: StartServer, certificate: Certificate
) -> None:
    server = start_server(
        credentials=ServerCredentials(certificate.public, certificate.key, client_ca=certificate.public)
    )
    shown = ClientCredentials(certificate.public, certificate.public, certificate.key)
    with RemotePolicy.connect(server.address, credentials=shown) as policy:
        assert policy.infer(observation()).rows == ROWS
    with pytest.raises(SetupError, match="FV-NET-001"):
        RemotePolicy.connect(
            server.address, credentials=ClientCredentials(ca=certificate.public), connect_timeout_s=0.5
        )


def test_without_the_token_only_health_answers(start_server: StartServer) -> None:
    server = start_server(credentials=ServerCredentials(token=TOKEN))
    with grpc.insecure_channel(server.address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        answer = health.Check(health_pb2.HealthCheckRequest(), timeout=5)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        for method in ("Infer", "OpenSession", "InferStream", "Nothing"):
            path = f"/finevla.policy.v1.PolicyService/{method}"
            if method == "InferStream":
                call = channel.stream_stream(path)(iter([b""]), timeout=5)
            else:
                call = channel.unary_unary(path).future(b"", timeout=5)
            assert call.code() is grpc.StatusCode.UNAUTHENTICATED
        reflection = channel.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
        with pytest.raises(grpc.RpcError) as refused:
            list(reflection(iter([b""]), timeout=5))
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_token_files_are_read_without_line_ends_and_empty_ones_refused(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    assert read_token(file) == TOKEN
    file.write_text("\n")
    with pytest.raises(SetupError, match="FV-SEC-004"):
        read_token(file)
    with pytest.raises(SetupError, match="FV-SEC-004"):
        read_token(tmp_path / "missing")
