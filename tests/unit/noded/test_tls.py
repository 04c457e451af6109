from __future__ import annotations

import asyncio
import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from noded.config import Config, NodeToken
from noded.errors import ConfigError
from noded.tls import fingerprint_of, make_channel, root_certificate

DAY = datetime.timedelta(days=1)


@dataclass(frozen=True)
class Identity:
    """A control plane's certificate with the CA that signed it."""

    ca_pem: bytes
    chain_pem: bytes
    key_pem: bytes


def name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


@pytest.fixture(scope="module")
def identity() -> Identity:
    now = datetime.datetime.now(datetime.UTC)
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())

    def builder(subject: str, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(name(subject))
            .issuer_name(name("ca"))
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - DAY)
            .not_valid_after(now + DAY)
        )

    ca = (
        builder("ca", ca_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    addresses = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    own = builder("server", key.public_key()).add_extension(addresses, False)
    signed = own.sign(ca_key, hashes.SHA256())
    pem = serialization.Encoding.PEM
    return Identity(
        ca.public_bytes(pem),
        signed.public_bytes(pem) + ca.public_bytes(pem),
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )


def config(server: str, ca_pem: bytes = b"", fingerprint: str = "") -> Config:
    return Config(
        server,
        NodeToken("n1", "t"),
        "n1",
        Path("/nonexistent"),
        ca_pem=ca_pem,
        ca_fingerprint=fingerprint,
    )


async def test_a_pinned_authority_is_fetched_and_then_trusted(identity: Identity) -> None:
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    credentials = grpc.ssl_server_credentials([(identity.key_pem, identity.chain_pem)])
    address = f"127.0.0.1:{server.add_secure_port('127.0.0.1:0', credentials)}"
    await server.start()
    try:
        pinned = config(address, fingerprint=fingerprint_of(identity.ca_pem))
        found = await asyncio.to_thread(root_certificate, pinned)
        assert fingerprint_of(found) == pinned.ca_fingerprint
        async with make_channel(address, found, ()) as channel:
            async with asyncio.timeout(10):
                await channel.channel_ready()
        other = config(address, fingerprint="00" * 32)
        with pytest.raises(ConfigError, match="no certificate with the fingerprint"):
            await asyncio.to_thread(root_certificate, other)
    finally:
        await server.stop(None)


def test_a_given_authority_must_be_the_pinned_one(identity: Identity) -> None:
    right = fingerprint_of(identity.ca_pem)
    given = config("10.0.0.1:1", identity.ca_pem, right)
    assert root_certificate(given) == identity.ca_pem
    with pytest.raises(ConfigError, match="expected fingerprint"):
        root_certificate(config("10.0.0.1:1", identity.ca_pem, "00" * 32))


def test_in_the_clear_goes_over_loopback_only() -> None:
    for host in ("127.0.0.1", "localhost", "[::1]"):
        assert root_certificate(config(f"{host}:1")) == b""
    for host in ("10.0.0.1", "control.example.org", "[2001:db8::1]"):
        with pytest.raises(ConfigError, match="must be encrypted"):
            root_certificate(config(f"{host}:1"))
