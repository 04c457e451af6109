"""The control plane's certificate: from an authority of its own, made at first start, or from a
folder that others keep up to date.

Clients and daemons pin the CA by its fingerprint (SHA-256 of its DER form), which stands in login
and token files; the server's own certificate is renewed from its authority at every start.
"""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from controlplane.domain.errors import DomainError
from controlplane.private_files import write_private

_CA_DAYS: Final = 3650
_SERVER_DAYS: Final = 397


@dataclass(frozen=True, slots=True)
class ServerIdentity:
    """What the server needs, in PEM, and what its peers pin."""

    key_pem: bytes
    certificate_pem: bytes
    ca_pem: bytes
    ca_fingerprint: str


def ensure(folder: Path, names: Sequence[str]) -> ServerIdentity:
    """Makes the CA if there is none, and a new server certificate for these names."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    key_path, ca_path = folder / "ca.key", folder / "ca.pem"
    if not (key_path.exists() and ca_path.exists()):
        _make_ca(key_path, ca_path)
    ca_key = serialization.load_pem_private_key(key_path.read_bytes(), None)
    ca_pem = ca_path.read_bytes()
    ca = x509.load_pem_x509_certificate(ca_pem)
    if not isinstance(ca_key, ec.EllipticCurvePrivateKey):
        raise ValueError(f"{key_path} holds no EC key; remove it and {ca_path} to make a new CA")
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])]))
        .issuer_name(ca.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=_SERVER_DAYS))
        .add_extension(x509.SubjectAlternativeName([_general_name(n) for n in names]), False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
        .sign(ca_key, hashes.SHA256())
    )
    return ServerIdentity(
        _key_pem(key),
        # With the CA behind it, so that peers who know only its fingerprint can check the chain.
        certificate.public_bytes(serialization.Encoding.PEM) + ca_pem,
        ca_pem,
        hashlib.sha256(ca.public_bytes(serialization.Encoding.DER)).hexdigest(),
    )


CERTIFICATE, KEY, AUTHORITY = "tls.crt", "tls.key", "ca.crt"
"""Names of the files as Kubernetes has them in a Secret, and cert-manager writes them."""


def read(folder: Path, names: Sequence[str]) -> ServerIdentity:
    """The certificate that lies in a folder; it has to be for these names. Raises DomainError."""
    texts = {}
    for name in (CERTIFICATE, KEY, AUTHORITY):
        try:
            texts[name] = (folder / name).read_bytes()
        except OSError as fault:
            raise _unusable(folder / name, f"cannot be read ({fault.strerror})") from fault
    certificate = _parsed(folder / CERTIFICATE, texts[CERTIFICATE])
    ca = _parsed(folder / AUTHORITY, texts[AUTHORITY])
    try:
        key = serialization.load_pem_private_key(texts[KEY], None)
    except (ValueError, TypeError) as fault:
        raise _unusable(folder / KEY, f"holds no key in PEM without a password ({fault})") from None
    if key.public_key() != certificate.public_key():
        raise _unusable(folder / KEY, f"is not the key of {CERTIFICATE}")
    now = datetime.datetime.now(datetime.UTC)
    if certificate.not_valid_after_utc <= now:
        until = f"{certificate.not_valid_after_utc:%d %b %Y}"
        raise _unusable(folder / CERTIFICATE, f"was good until {until}: renew it")
    missing = [name for name in names if not _is_for(certificate, name)]
    if missing:
        raise _unusable(
            folder / CERTIFICATE,
            f"is not for {', '.join(missing)}, by which jobs reach this control plane",
        )
    chain = texts[CERTIFICATE]
    if ca.public_bytes(serialization.Encoding.PEM).strip() not in chain:
        # Peers who know only its fingerprint look for it in the chain.
        chain = chain.rstrip() + b"\n" + texts[AUTHORITY]
    return ServerIdentity(
        texts[KEY],
        chain,
        texts[AUTHORITY],
        hashlib.sha256(ca.public_bytes(serialization.Encoding.DER)).hexdigest(),
    )


def digest(folder: Path) -> str:
    """Is another when what `read` reads is; "" while it cannot be read."""
    try:
        texts = [(folder / name).read_bytes() for name in (CERTIFICATE, KEY, AUTHORITY)]
    except OSError:
        return ""
    return hashlib.sha256(b"\0".join(texts)).hexdigest()


def _parsed(path: Path, text: bytes) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(text)
    except ValueError as fault:
        raise _unusable(path, f"holds no certificate in PEM ({fault})") from None


def _is_for(certificate: x509.Certificate, name: str) -> bool:
    try:
        kinds = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return False
    wanted = _general_name(name)
    if isinstance(wanted, x509.IPAddress):
        return wanted.value in kinds.get_values_for_type(x509.IPAddress)
    star = f"*.{name.partition('.')[2]}"
    return bool({name, star} & set(kinds.get_values_for_type(x509.DNSName)))


def _unusable(path: Path, why: str) -> DomainError:
    return DomainError(f"{path} {why}.", reason="CERTIFICATE_UNUSABLE")


def _make_ca(key_path: Path, ca_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "RiseML cluster CA")])
    now = datetime.datetime.now(datetime.UTC)
    ca = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=_CA_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=True,
                key_cert_sign=True,
                crl_sign=True,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                encipher_only=False,
                decipher_only=False,
            ),
            True,
        )
        .sign(key, hashes.SHA256())
    )
    write_private(key_path, _key_pem(key))
    ca_path.write_bytes(ca.public_bytes(serialization.Encoding.PEM))


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
