"""Who talks to which server: the credentials file and the variables that come before it.

The file is ``credentials.json`` in RISEML_CONFIG_DIR or in the platform's configuration folder,
readable by its owner only. RISEML_SERVER and RISEML_API_KEY override it. A key from the file is
never sent to a server that the file does not name.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from riseml.errors import CredentialsError, NotLoggedIn

DEFAULT_PORT: Final = 7433
FILE_NAME: Final = "credentials.json"


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a client needs to reach a server as somebody."""

    server: str
    """``host:port``."""
    api_key: str = field(repr=False)
    user: str = ""
    """Whose key it is, as far as known; for showing only."""
    ca_pem: str = field(default="", repr=False)
    """The certificate that the server's own must be signed by; empty: the system's authorities."""

    @property
    def host(self) -> str:
        """The server without its port, and without brackets around an IPv6 address."""
        return split_address(self.server)[0]

    @property
    def loopback(self) -> bool:
        """Whether the server is this machine; only then may the connection be plain text."""
        return is_loopback(self.host)


def split_address(address: str) -> tuple[str, int]:
    """Host and port of ``host``, ``host:port`` or ``[::1]:port``. Raises CredentialsError."""
    text = address.strip()
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        port = rest.removeprefix(":")
        valid = bool(bracket) and (not rest or rest.startswith(":"))
    elif text.count(":") > 1:
        host, port, valid = text, "", True
    else:
        host, _, port = text.partition(":")
        valid = True
    if not valid or not host or "/" in host or (port and not _is_port(port)):
        raise CredentialsError(f"{address!r} is no address of a server; write it like host:7433")
    return host, int(port) if port else DEFAULT_PORT


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) < 65536


def normalize_address(address: str) -> str:
    """``host:port`` with the default port where none is given. Raises CredentialsError."""
    host, port = split_address(address)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    """Whether a host names this machine and cannot lead anywhere else."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def config_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """RISEML_CONFIG_DIR, else the platform's folder for a user's configuration."""
    named = environ.get("RISEML_CONFIG_DIR")
    if named:
        return Path(named)
    import platformdirs

    return Path(platformdirs.user_config_dir("riseml", appauthor=False))


def credentials_file(environ: Mapping[str, str] = os.environ) -> Path:
    """Where the credentials lie."""
    return config_dir(environ) / FILE_NAME


def load(environ: Mapping[str, str] = os.environ, *, server: str = "") -> Credentials:
    """The credentials to use: ``server`` before RISEML_SERVER before the file.

    Raises NotLoggedIn where a part is missing, CredentialsError where the file cannot be used.
    """
    stored = read_file(credentials_file(environ))
    wanted = server or environ.get("RISEML_SERVER", "")
    api_key = environ.get("RISEML_API_KEY", "")
    address = normalize_address(wanted) if wanted else (stored.server if stored else "")
    if not address:
        raise NotLoggedIn(
            "No server is known here. Start a cluster on this machine with 'riseml up', "
            "or log in to one with 'riseml user login HOST'."
        )
    same = stored is not None and stored.server == address
    if not api_key and not (same and stored and stored.api_key):
        raise NotLoggedIn(
            f"No API key for {address} is known here. Log in with 'riseml user login {address}', "
            "or set RISEML_API_KEY."
        )
    ca_pem = stored.ca_pem if same and stored else ""
    ca_file = environ.get("RISEML_CA_FILE", "")
    if ca_file:
        try:
            ca_pem = Path(ca_file).read_text("ascii")
        except (OSError, ValueError) as error:
            raise CredentialsError(f"RISEML_CA_FILE: {ca_file} cannot be read: {error}") from error
    if api_key:
        return Credentials(address, api_key, "", ca_pem)
    assert stored is not None
    return Credentials(address, stored.api_key, stored.user, ca_pem)


def read_file(path: Path) -> Credentials | None:
    """What a credentials file holds; None where there is none. Raises CredentialsError."""
    try:
        with path.open(encoding="utf-8") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CredentialsError(f"{path} cannot be read: {error.strerror}") from error
    if os.name == "posix" and mode & 0o077:
        raise CredentialsError(
            f"{path} holds an API key and others may read it. Run 'chmod 600 {path}', "
            "and replace the key if you share this machine."
        )
    try:
        content = json.loads(text)
        return Credentials(
            normalize_address(str(content["server"])),
            str(content["api_key"]),
            str(content.get("user", "")),
            str(content.get("ca_pem", "")),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CredentialsError(
            f"{path} is damaged. Remove it and log in again with 'riseml user login'."
        ) from error


def save(credentials: Credentials, environ: Mapping[str, str] = os.environ) -> Path:
    """Write the credentials file, whole or not at all, readable by its owner only; returns where
    it lies.
    """
    path = credentials_file(environ)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{FILE_NAME}.")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(asdict(credentials), file, indent=2)
                file.write("\n")
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise
    except OSError as error:
        raise CredentialsError(f"{path} cannot be written: {error.strerror}") from error
    return path
