"""The control plane's own CA: kept over restarts, pinned by fingerprint, trusted by clients."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from cryptography import x509

from controlplane import tls
from controlplane.domain.errors import FailedPrecondition
from controlplane.rpc.server import OPTIONS, bind


def test_the_ca_stays_the_same_and_its_key_private(tmp_path: Path) -> None:
    first = tls.ensure(tmp_path / "tls", ["localhost", "127.0.0.1"])
    second = tls.ensure(tmp_path / "tls", ["localhost"])
    assert first.ca_fingerprint == second.ca_fingerprint
    assert first.certificate_pem != second.certificate_pem
    assert stat.S_IMODE((tmp_path / "tls" / "ca.key").stat().st_mode) == 0o600


def test_names_and_addresses_are_in_the_certificate(tmp_path: Path) -> None:
    identity = tls.ensure(tmp_path, ["gpu-master", "10.0.0.7"])
    certificate = x509.load_pem_x509_certificate(identity.certificate_pem)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["gpu-master"]
    assert [str(a) for a in names.get_values_for_type(x509.IPAddress)] == ["10.0.0.7"]


async def test_a_client_that_pins_the_ca_connects_and_another_does_not(tmp_path: Path) -> None:
    identity = tls.ensure(tmp_path / "own", ["localhost"])
    other = tls.ensure(tmp_path / "other", ["localhost"])
    server = grpc.aio.server(options=OPTIONS)
    port = bind(server, "localhost:0", identity.key_pem, identity.certificate_pem)
    await server.start()
    try:
        for ca_pem, code in (
            (identity.ca_pem, grpc.StatusCode.UNIMPLEMENTED),
            (other.ca_pem, grpc.StatusCode.UNAVAILABLE),
        ):
            credentials = grpc.ssl_channel_credentials(ca_pem)
            async with grpc.aio.secure_channel(f"localhost:{port}", credentials) as channel:
                with pytest.raises(grpc.aio.AioRpcError) as answered:
                    call: Any = channel.unary_unary("/no.such/Method")
                    await call(b"", timeout=5)
                assert answered.value.code() is code
    finally:
        await server.stop(None)


async def test_a_port_that_is_taken_fails_loudly(tmp_path: Path) -> None:
    first = grpc.aio.server(options=OPTIONS)
    port = bind(first, "127.0.0.1:0", None, None)
    await first.start()
    try:
        with pytest.raises(FailedPrecondition, match="another program listens there"):
            bind(grpc.aio.server(options=OPTIONS), f"127.0.0.1:{port}", None, None)
    finally:
        await first.stop(None)
