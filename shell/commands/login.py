"""user login"""

from __future__ import annotations

import hashlib
import socket
import ssl

from riseml import credentials as stored
from riseml.client import Client
from riseml.credentials import Credentials
from riseml.errors import CredentialsError, NotLoggedIn, Unavailable
from shell.command import UsageError, Values
from shell.context import Context

_CONNECT_SECONDS = 10.0


def login(context: Context, values: Values) -> int:
    """Try the key on the server, then store both."""
    server = _server(context, values.text("SERVER"))
    probe = Credentials(server, "")
    ca_pem = "" if probe.loopback and not values.text("ca") else _authority(context, values, server)
    api_key = context.environ.get("RISEML_API_KEY", "") or context.ask_secret(
        f"API key for {server}: ", instead="pipe it in, or set RISEML_API_KEY"
    )
    if not api_key.isascii() or not api_key.isprintable() or " " in api_key:
        raise UsageError("That is no API key: it has letters, digits, - and _ only.")
    with Client(Credentials(server, api_key, "", ca_pem)) as client:
        user = client.users.caller()
    path = stored.save(Credentials(server, api_key, user.name, ca_pem), context.environ)
    context.disconnect()
    context.say(f"Logged in to {server} as {user.name}. Stored in {path}.")
    return 0


def _server(context: Context, named: str) -> str:
    if named:
        return stored.normalize_address(named)
    if context.environ.get("RISEML_SERVER"):
        return stored.normalize_address(context.environ["RISEML_SERVER"])
    known = stored.read_file(stored.credentials_file(context.environ))
    if known is None:
        raise NotLoggedIn("Which server? Write riseml user login HOST.")
    return known.server


def _authority(context: Context, values: Values, server: str) -> str:
    """The certificate that the server's must be signed by: from a file, or fetched and
    confirmed.
    """
    if values.text("ca"):
        file = context.folder / values.text("ca")
        try:
            return file.read_text("ascii")
        except ValueError as error:
            raise CredentialsError(f"{file} is no PEM file.") from error
    wanted = values.text("ca_fingerprint").lower().removeprefix("sha256:").replace(":", "")
    if not wanted and _system_trusts(server):
        return ""
    der = _fetch_authority(server)
    fingerprint = hashlib.sha256(der).hexdigest()
    if wanted and wanted != fingerprint:
        raise CredentialsError(
            f"The authority of {server} has the SHA-256 {fingerprint}, not {wanted}. "
            "Somebody may stand between; ask the admin before you go on."
        )
    if not wanted:
        pairs = ":".join(fingerprint[place : place + 2] for place in range(0, 64, 2))
        context.say(f"The certificate authority of {server} has the SHA-256\n  {pairs}")
        question = "Is that what the admin told you?"
        if not context.ask(question, instead="give --ca-fingerprint or --ca"):
            raise CredentialsError("Nothing was stored.")
    return ssl.DER_cert_to_PEM_cert(der)


def _system_trusts(server: str) -> bool:
    """Whether the system's own authorities vouch for the server."""
    host, port = stored.split_address(server)
    try:
        with (
            socket.create_connection((host, port), _CONNECT_SECONDS) as plain,
            ssl.create_default_context().wrap_socket(plain, server_hostname=host),
        ):
            return True
    except ssl.SSLError:
        return False
    except OSError as error:
        raise Unavailable(f"No connection to {server}: {error}. Check the address.") from error


def _fetch_authority(server: str) -> bytes:
    """The last certificate of the server's chain, in DER. Not trusted until its fingerprint is
    compared.
    """
    host, port = stored.split_address(server)
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    try:
        with (
            socket.create_connection((host, port), _CONNECT_SECONDS) as plain,
            context.wrap_socket(plain, server_hostname=host) as secure,
        ):
            chain = _chain(secure)
    except OSError as error:
        raise Unavailable(f"No secure connection to {server}: {error}.") from error
    if len(chain) < 2:
        raise CredentialsError(
            f"{server} does not send its authority's certificate. Get the file "
            "(HOME/control/tls/ca.pem on the server) and name it with --ca FILE."
        )
    return chain[-1]


def _chain(secure: ssl.SSLSocket) -> list[bytes]:
    """All certificates that the server sent. Public only since Python 3.13."""
    public = getattr(secure, "get_unverified_chain", None)
    if public is not None:
        return [bytes(der) for der in public()]
    private = getattr(getattr(secure, "_sslobj", None), "get_unverified_chain", None)
    if private is None:
        return []
    return [ssl.PEM_cert_to_DER_cert(certificate.public_bytes()) for certificate in private() or ()]
