"""Who may talk to a server: plaintext on this machine only, TLS and a token everywhere else."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path

import grpc

from finevla_runtime.contracts.errors import SetupError

MIN_TOKEN_CHARACTERS = 16


@dataclass(frozen=True)
class ServerCredentials:
    """What a server shows and asks for.

    Attributes:
        certificate, private_key: PEM bytes; both or none.
        client_ca: PEM bytes; when given, clients must show a certificate of this authority.
        token: clients must send it as ``authorization: Bearer``.
    """

    certificate: bytes = b""
    private_key: bytes = b""
    client_ca: bytes = b""
    token: str = ""

    @property
    def tls(self) -> bool:
        """Return whether the connection is encrypted."""
        return bool(self.certificate)


@dataclass(frozen=True)
class ClientCredentials:
    """What a client trusts and shows.

    Attributes:
        ca: PEM bytes of the authority that signed the server's certificate; empty means plaintext.
        certificate, private_key: PEM bytes of the client's own certificate, for servers that ask for one.
        token: sent as ``authorization: Bearer``.
        server_name: name in the server's certificate when it differs from the address.
    """

    ca: bytes = b""
    certificate: bytes = b""
    private_key: bytes = b""
    token: str = ""
    server_name: str = ""

    @property
    def tls(self) -> bool:
        """Return whether the connection is encrypted."""
        return bool(self.ca)


def is_loopback(address: str) -> bool:
    """Return whether ``host:port`` or ``unix:path`` never leaves this machine; names other than localhost may."""
    if address.startswith("unix:"):
        return True
    host = address.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_address(address: str) -> None:
    """Refuse an address that is neither ``host:port`` nor ``unix:path`` (SetupError FV-NET-005)."""
    if address.startswith("unix:") and len(address) > len("unix:"):
        return
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65_535 or "/" in address or "," in address:
        raise SetupError("FV-NET-005", f"address {address!r} is not host:port or unix:path, e.g. 127.0.0.1:8500.")


def check_server(address: str, credentials: ServerCredentials) -> None:
    """Refuse to listen beyond this machine without TLS and a token (or client certificates).

    Raises:
        SetupError: FV-SEC-002 (plaintext or no token off-host), FV-SEC-003 (half a key pair or a weak token).
    """
    check_address(address)
    if bool(credentials.certificate) != bool(credentials.private_key):
        raise SetupError("FV-SEC-003", "TLS needs a certificate and its private key; give both.")
    if credentials.token and len(credentials.token) < MIN_TOKEN_CHARACTERS:
        raise SetupError(
            "FV-SEC-003", f"the token is shorter than {MIN_TOKEN_CHARACTERS} characters; make a longer one."
        )
    if is_loopback(address):
        return
    if not credentials.tls or not (credentials.token or credentials.client_ca):
        raise SetupError(
            "FV-SEC-002",
            f"{address} can be reached from other machines, which needs TLS and a token: give --tls-cert, --tls-key "
            "and --token-file, or listen on 127.0.0.1.",
        )


def check_client(address: str, credentials: ClientCredentials) -> None:
    """Refuse plaintext, and tokens in plaintext, to another machine (SetupError FV-SEC-002)."""
    check_address(address)
    if not is_loopback(address) and not credentials.tls:
        raise SetupError(
            "FV-SEC-002",
            f"{address} is another machine, and images and actions must not travel in plaintext: give --ca-file "
            "with the authority of the server's certificate.",
        )


def server_credentials(credentials: ServerCredentials) -> grpc.ServerCredentials:
    """Return gRPC's credentials of a server with TLS."""
    return grpc.ssl_server_credentials(
        [(credentials.private_key, credentials.certificate)],
        root_certificates=credentials.client_ca or None,
        require_client_auth=bool(credentials.client_ca),
    )


def channel_credentials(credentials: ClientCredentials) -> grpc.ChannelCredentials:
    """Return gRPC's credentials of a client with TLS."""
    return grpc.ssl_channel_credentials(
        root_certificates=credentials.ca,
        private_key=credentials.private_key or None,
        certificate_chain=credentials.certificate or None,
    )


def read_secret(path: Path) -> bytes:
    """Return the bytes of a key, certificate or token file (SetupError FV-SEC-004 when unreadable or empty)."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SetupError("FV-SEC-004", f"cannot read {path}: {error.strerror}.") from error
    if not data.strip():
        raise SetupError("FV-SEC-004", f"{path} is empty.")
    return data


def read_token(path: Path) -> str:
    """Return the token in a file, without surrounding white space (SetupError FV-SEC-004)."""
    try:
        return read_secret(path).decode("ascii").strip()
    except UnicodeDecodeError as error:
        raise SetupError("FV-SEC-004", f"the token in {path} must be ASCII text.") from error
