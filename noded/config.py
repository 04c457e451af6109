"""What the daemon is told: by arguments, a TOML file, and the token file. Arguments win over the
file."""

from __future__ import annotations

import argparse
import ipaddress
import json
import os
import re
import socket
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from noded.errors import ConfigError

_NODE_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?")
_LABEL: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_./-]{0,61}[A-Za-z0-9])?")

GIB: Final = 1 << 30


@dataclass(frozen=True, slots=True)
class NodeToken:
    """The credential of one node and how to trust the server: what `riseml node token create`
    prints."""

    node_name: str
    token: str = field(repr=False)
    server: str = ""
    ca_pem: str = ""
    ca_fingerprint: str = ""


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that can be set."""

    server: str
    """HOST:PORT of the control plane."""
    token: NodeToken
    node_name: str
    home: Path
    ca_pem: bytes = b""
    ca_fingerprint: str = ""
    """SHA-256 of the CA certificate (DER), lower-case hex."""
    simulate_gpus: str = ""
    output_root: Path = Path()
    output_shared: bool = False
    data_root: Path = Path()
    labels: tuple[tuple[str, str], ...] = ()
    only_user: str = ""
    """The one RiseML user served by a daemon that is not root."""
    python: str = ""
    """Interpreter for environments; empty: one that jobs can reach is looked for."""
    address: str = ""
    """How jobs on other nodes reach this one; empty: found out."""
    first_port: int = 29400
    last_port: int = 29899
    uid_base: int = 200_000
    environments_max_bytes: int = 50 * GIB
    environments_max_age_seconds: int = 30 * 86400
    revisions_max_bytes: int = 10 * GIB
    checkpoint_seconds: int = 15
    """How often the outputs of jobs are looked at for new checkpoints; 0: never."""
    debug: bool = False

    @property
    def node_directory(self) -> Path:
        """Where everything of this node lies."""
        return self.home / "node" / self.node_name


_FILE_KEYS: Final[Mapping[str, type]] = {
    "server": str,
    "token_file": str,
    "name": str,
    "home": str,
    "ca_file": str,
    "ca_fingerprint": str,
    "simulate_gpus": str,
    "output_root": str,
    "output_shared": bool,
    "data_root": str,
    "labels": dict,
    "only_user": str,
    "python": str,
    "address": str,
    "first_port": int,
    "last_port": int,
    "uid_base": int,
    "environments_max_bytes": int,
    "environments_max_age_seconds": int,
    "revisions_max_bytes": int,
    "checkpoint_seconds": int,
    "debug": bool,
}


def parser() -> argparse.ArgumentParser:
    """The command line of riseml-noded."""
    made = argparse.ArgumentParser(
        prog="riseml-noded",
        description="Node daemon of RiseML: runs jobs here and reports on this node.",
    )
    made.add_argument(
        "--config", metavar="FILE", help="TOML file with any of these options (with _)"
    )
    made.add_argument("--server", metavar="HOST:PORT", help="the control plane")
    made.add_argument(
        "--token-file", metavar="FILE", help="made by `riseml node token create NAME`"
    )
    made.add_argument("--name", help="node name (default: the token's)")
    made.add_argument("--home", metavar="DIR", help="where state lies (default: RISEML_HOME)")
    made.add_argument("--ca-file", metavar="FILE", help="CA certificate of the control plane, PEM")
    made.add_argument("--ca-fingerprint", metavar="SHA256", help="trust the CA with this SHA-256")
    made.add_argument(
        "--simulate-gpus", metavar="8xH100", help="add simulated GPUs, for trying out"
    )
    made.add_argument(
        "--output-root", metavar="DIR", help="where jobs' outputs go (default: HOME/output)"
    )
    made.add_argument(
        "--output-shared", action="store_true", default=None, help="all nodes see this output root"
    )
    made.add_argument("--data-root", metavar="DIR", help="shared data of jobs (default: HOME/data)")
    made.add_argument(
        "--labels", metavar="K=V", action="append", help="label of this node; repeatable"
    )
    made.add_argument("--only-user", metavar="USER", help="without root: the RiseML user to serve")
    made.add_argument("--python", metavar="PATH", help="interpreter for environments")
    made.add_argument("--address", help="how jobs on other nodes reach this one")
    made.add_argument("--debug", action="store_true", default=None, help="log more")
    # Read in `kubelet/settings.py`, with options of its own.
    made.add_argument(
        "--kubernetes",
        action="store_true",
        default=None,
        help="observe a node of Kubernetes and run nothing: see --kubernetes --help",
    )
    return made


def load(arguments: Sequence[str], environment: Mapping[str, str]) -> Config:
    """The configuration that these arguments and RISEML_HOME make. Raises ConfigError."""
    given = vars(parser().parse_args(arguments))
    if given.pop("kubernetes"):
        raise ConfigError("write --kubernetes in full: it has options of its own")
    options: dict[str, Any] = {}
    if given["config"]:
        options.update(_read_file(Path(given["config"])))
    labels = dict(options.pop("labels", {}))
    for pair in given.pop("labels") or ():
        for item in pair.split(","):
            key, equals, value = item.partition("=")
            if not equals:
                raise ConfigError(f"--labels {item}: must be KEY=VALUE, for example zone=a")
            labels[key] = value
    options.update(
        {key: value for key, value in given.items() if value is not None and key != "config"}
    )
    return _make(options, labels, environment)


def _make(
    options: dict[str, Any], labels: dict[str, Any], environment: Mapping[str, str]
) -> Config:
    token_file = options.pop("token_file", "")
    if not token_file:
        raise ConfigError("--token-file is needed; `riseml node token create NAME` makes one")
    token = read_token(Path(token_file))
    node_name = options.pop("name", "") or token.node_name or socket.gethostname().lower()
    if not _NODE_NAME.fullmatch(node_name):
        raise ConfigError(f"node name {node_name!r}: use lower-case letters, digits, '-' and '.'")
    if token.node_name and token.node_name != node_name:
        raise ConfigError(
            f"{token_file} is the token of node {token.node_name!r}, not {node_name!r}; make one "
            f"with `riseml node token create {node_name}`"
        )
    server = options.pop("server", "") or token.server
    host_of(server)
    home = Path(
        options.pop("home", "") or environment.get("RISEML_HOME", "") or _default_home(environment)
    )
    home = Path(os.path.abspath(home))
    ca_file = options.pop("ca_file", "")
    ca_pem = _read(Path(ca_file)) if ca_file else token.ca_pem.encode()
    fingerprint = normal_fingerprint(options.pop("ca_fingerprint", "") or token.ca_fingerprint)
    output_root = Path(os.path.abspath(options.pop("output_root", "") or home / "output"))
    data_root = Path(os.path.abspath(options.pop("data_root", "") or home / "data"))
    for key, value in labels.items():
        if (
            not _LABEL.fullmatch(key)
            or not isinstance(value, str)
            or (value and not _LABEL.fullmatch(value))
        ):
            raise ConfigError(f"label {key}={value}: use letters, digits, '-', '_', '.' and '/'")
    config = Config(
        server=server,
        token=token,
        node_name=node_name,
        home=home,
        ca_pem=ca_pem,
        ca_fingerprint=fingerprint,
        output_root=output_root,
        data_root=data_root,
        labels=tuple(sorted(labels.items())),
        **options,
    )
    if not 1024 <= config.first_port <= config.last_port <= 65535:
        raise ConfigError("first_port and last_port: must be 1024 to 65535, in this order")
    if config.checkpoint_seconds < 0:
        raise ConfigError("checkpoint_seconds: must be 0 (never) or more")
    return config


def _read_file(path: Path) -> dict[str, Any]:
    try:
        content = tomllib.loads(_read(path).decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not valid TOML: {error}") from error
    for key, value in content.items():
        expected = _FILE_KEYS.get(key)
        if expected is None:
            raise ConfigError(
                f"{path}: unknown key {key!r}; known are {', '.join(sorted(_FILE_KEYS))}"
            )
        if not isinstance(value, expected) or (expected is int and isinstance(value, bool)):
            raise ConfigError(f"{path}: {key}: must be of type {expected.__name__}, is {value!r}")
    return content


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error


def read_token(path: Path) -> NodeToken:
    """A token file: JSON with node_name, token and optionally server, ca_pem, ca_fingerprint; or
    the bare token."""
    text = _read(path).decode(errors="replace").strip()
    if not text.startswith("{"):
        if not text or len(text.split()) != 1:
            raise ConfigError(f"{path}: holds no node token")
        return NodeToken("", text)
    try:
        content = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{path}: is not valid JSON: {error}") from error
    values = {name: content.get(name) or "" for name in NodeToken.__slots__}
    if not all(isinstance(value, str) for value in values.values()) or not values["token"]:
        raise ConfigError(f"{path}: needs text in `node_name` and `token`")
    return NodeToken(**values)


def normal_fingerprint(text: str) -> str:
    """A SHA-256 as lower-case hex, from forms such as `AB:CD:...`; empty stays empty. Raises
    ConfigError."""
    plain = text.lower().removeprefix("sha256:").replace(":", "")
    if plain and not re.fullmatch(r"[0-9a-f]{64}", plain):
        raise ConfigError(f"ca_fingerprint {text!r}: must be a SHA-256, 64 hexadecimal digits")
    return plain


def host_of(server: str) -> str:
    """The host of HOST:PORT. Raises ConfigError when it is neither."""
    host, colon, port = server.rpartition(":")
    if not colon or not host or not port.isdigit():
        raise ConfigError(f"--server {server!r}: must be HOST:PORT, for example 10.0.0.5:7700")
    return host.strip("[]")


def is_loopback(host: str) -> bool:
    """Whether `host` is this machine by name or number, without asking DNS."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _default_home(environment: Mapping[str, str]) -> Path:
    if os.getuid() == 0:
        return Path("/var/lib/riseml")
    base = environment.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return Path(base) / "riseml"
