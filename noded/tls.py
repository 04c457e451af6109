"""How the daemon trusts its control plane: TLS with the cluster's own CA, in the clear only on
loopback."""

from __future__ import annotations

import hashlib
import socket
import ssl
from collections.abc import Sequence

import grpc

from noded.config import Config, host_of, is_loopback
from noded.errors import ConfigError

FETCH_TIMEOUT_SECONDS = 10.0


def fingerprint_of(pem: bytes) -> str:
    """SHA-256 of the first certificate in `pem`, lower-case hex. Raises ConfigError."""
    try:
        text = pem.decode("ascii")
        first = text[text.index("-----BEGIN CERTIFICATE-----") :]
        end = first.index("-----END CERTIFICATE-----") + len("-----END CERTIFICATE-----")
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(first[:end])).hexdigest()
    except ValueError as error:
        raise ConfigError("the CA file holds no certificate in PEM form") from error


def root_certificate(config: Config) -> bytes:
    """The CA to trust, PEM; empty when the connection goes over loopback in the clear.

    A fingerprint pins it: a CA that was given must match, one that was not is fetched from the
    server and must match.
    Raises ConfigError when there is nothing to trust or what there is does not match, OSError when
    the server cannot
    be asked.
    """
    if config.ca_pem:
        if config.ca_fingerprint and fingerprint_of(config.ca_pem) != config.ca_fingerprint:
            raise ConfigError("the CA certificate does not have the expected fingerprint")
        return config.ca_pem
    if config.ca_fingerprint:
        return fetch_pinned(config.server, config.ca_fingerprint)
    if is_loopback(host_of(config.server)):
        return b""
    raise ConfigError(
        f"{config.server} is not this machine, so the connection must be encrypted: give the CA "
        "with --ca-file or --ca-fingerprint, or use a token file that carries it"
    )


def fetch_pinned(server: str, fingerprint: str) -> bytes:
    """The certificate with this SHA-256 out of the chain that the server presents, PEM."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # Nothing is sent over this connection; what it presents counts only if its hash is the pinned
    # one.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    host, port = host_of(server), int(server.rpartition(":")[2])
    with (
        socket.create_connection((host, port), FETCH_TIMEOUT_SECONDS) as raw,
        context.wrap_socket(raw, server_hostname=host) as secure,
    ):
        chain = _chain(secure)
    for der in chain:
        if hashlib.sha256(der).hexdigest() == fingerprint:
            return ssl.DER_cert_to_PEM_cert(der).encode()
    raise ConfigError(
        f"{server} presents no certificate with the fingerprint {fingerprint}: is that the right "
        "control plane? A server that presents only its own certificate needs --ca-file"
    )


def _chain(secure: ssl.SSLSocket) -> list[bytes]:
    """All certificates that the server sent, DER. Public from Python 3.13 on; before, one level
    deeper."""
    public = hasattr(secure, "get_unverified_chain")
    holder = secure if public else getattr(secure, "_sslobj", None)
    get_chain = getattr(holder, "get_unverified_chain", None)
    if get_chain is None:
        own = secure.getpeercert(binary_form=True)
        return [own] if own else []
    chain = []
    for certificate in get_chain() or ():
        if isinstance(certificate, bytes):
            chain.append(certificate)
        else:
            # An ssl._ssl.Certificate: its DER is encoding 2 (_ssl.ENCODING_DER).
            chain.append(bytes(certificate.public_bytes(2)))
    return chain


def make_channel(
    server: str, root_pem: bytes, options: Sequence[tuple[str, int]]
) -> grpc.aio.Channel:
    """A channel to the control plane."""
    if not root_pem:
        return grpc.aio.insecure_channel(server, options=list(options))
    credentials = grpc.ssl_channel_credentials(root_certificates=root_pem)
    return grpc.aio.secure_channel(server, credentials, options=list(options))
