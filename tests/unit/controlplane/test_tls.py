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
from controlplane.domain.errors import DomainError, FailedPrecondition
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


# --- a certificate that others keep


def given(folder: Path, *names: str, authority: Path | None = None) -> Path:
    """A folder as Kubernetes mounts a Secret."""
    identity = tls.ensure(authority or folder / "authority", list(names) or ["riseml.ml.svc"])
    certificate = identity.certificate_pem.removesuffix(identity.ca_pem)
    (folder / tls.CERTIFICATE).write_bytes(certificate)
    (folder / tls.KEY).write_bytes(identity.key_pem)
    (folder / tls.AUTHORITY).write_bytes(identity.ca_pem)
    return folder


def test_a_given_certificate_is_served_with_its_authority_behind_it(tmp_path: Path) -> None:
    folder = given(tmp_path, "riseml.ml.svc", "10.0.0.7")
    found = tls.read(folder, ["riseml.ml.svc", "10.0.0.7"])
    assert found.certificate_pem.endswith(found.ca_pem)
    assert found.ca_fingerprint == tls.ensure(tmp_path / "authority", ["x"]).ca_fingerprint
    # Some have the whole chain in it.
    (folder / tls.CERTIFICATE).write_bytes(found.certificate_pem)
    assert tls.read(folder, []).certificate_pem == found.certificate_pem


def test_a_star_stands_for_one_name(tmp_path: Path) -> None:
    folder = given(tmp_path, "*.ml.svc")
    tls.read(folder, ["riseml.ml.svc"])
    with pytest.raises(DomainError, match=r"is not for a\.riseml\.ml\.svc"):
        tls.read(folder, ["a.riseml.ml.svc"])


def test_what_is_wrong_with_a_given_certificate_is_said(tmp_path: Path) -> None:
    folder = given(tmp_path)
    with pytest.raises(DomainError, match=r"is not for other\.svc, by which jobs reach"):
        tls.read(folder, ["other.svc"])
    key = (folder / tls.KEY).read_bytes()
    (folder / tls.KEY).write_bytes(tls.ensure(tmp_path / "other", ["x"]).key_pem)
    with pytest.raises(DomainError, match=r"is not the key of tls\.crt"):
        tls.read(folder, [])
    (folder / tls.KEY).write_bytes(b"no key")
    with pytest.raises(DomainError, match="holds no key in PEM"):
        tls.read(folder, [])
    (folder / tls.KEY).write_bytes(key)
    (folder / tls.AUTHORITY).write_bytes(b"")
    with pytest.raises(DomainError, match=r"ca\.crt holds no certificate"):
        tls.read(folder, [])
    (folder / tls.AUTHORITY).unlink()
    with pytest.raises(DomainError, match=r"ca\.crt cannot be read"):
        tls.read(folder, [])


def test_that_it_was_renewed_is_seen_and_half_of_it_is_not_enough(tmp_path: Path) -> None:
    before = tls.digest(given(tmp_path))
    assert tls.digest(tmp_path) == before != ""
    (tmp_path / tls.KEY).unlink()
    assert tls.digest(tmp_path) == ""
    assert tls.digest(given(tmp_path)) not in ("", before)
