"""Settings of the control plane: a TOML file, overridden by options of the command line."""

from __future__ import annotations

import argparse
import dataclasses
import math
import socket
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, get_args

from controlplane.core.settings import LauncherName
from controlplane.launch.kubernetes.settings import (
    KubernetesSettings,
    SettingsError,
    read_settings,
)
from riseml.spec.errors import InvalidName
from riseml.spec.ids import check_user_name

DEFAULT_PORT: Final = 7433
# Daemons measure so often, and send what they measured with their heartbeats.
SAMPLE_SECONDS: Final = 1.0
LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")


class ConfigError(Exception):
    """The settings cannot be used; the message says which and what would do."""


@dataclass(frozen=True, slots=True)
class Config:
    """All settings; the names are the keys of the file."""

    # Where state lies: control/{db,blobs,logs}, data/, and what `riseml up` keeps.
    home: Path
    # HOST:PORT to serve on; port 0 takes a free one. Beyond loopback TLS is used.
    listen: str = f"127.0.0.1:{DEFAULT_PORT}"
    # `sqlite:///PATH` or `postgresql://...`; empty: SQLite below home.
    store: str = ""
    # A node that was not heard of for so long is LOST.
    lease_seconds: float = 30.0
    heartbeat_seconds: float = 1.0
    # A connected node of which no sample came for so long gets nothing new to run; 0: ten seconds,
    # or five heartbeats if those are longer.
    telemetry_late_seconds: float = 0.0
    # A GPU that was sick has to be healthy for so long before a test decides whether jobs get it.
    probation_seconds: float = 300.0
    # Files of data://; empty: home/data.
    data_root: str = ""
    # Where this host sees what all jobs write (output://); empty: their nodes serve it. Where jobs
    # are pods it is the mount of kubernetes.output_volume.
    output_root: str = ""
    # Logs of experiments that ended longer ago are removed; 0 keeps all.
    log_retention_days: float = 90.0
    # What users and queues used so long ago counts half when it is decided who is next.
    use_half_life_days: float = 7.0
    # Made at first start: the first admin.
    admin_name: str = "admin"
    # Further host names and addresses for the server's certificate.
    tls_names: tuple[str, ...] = ()
    # A folder with tls.crt, tls.key and ca.crt, which others renew; empty: an authority of its own.
    tls_folder: str = ""
    # Writes the token of a node on this host at start (`riseml up`).
    embedded_node: str = ""
    # How jobs run: `daemon`, as processes of noded, or `kubernetes`, as pods.
    launcher: LauncherName = "daemon"
    # The table [kubernetes] of the file; needed for that launcher, and without effect otherwise.
    kubernetes: KubernetesSettings | None = None
    debug: bool = False

    @property
    def control(self) -> Path:
        return self.home / "control"

    @property
    def store_url(self) -> str:
        return self.store or f"sqlite://{self.control / 'db' / 'riseml.db'}"

    @property
    def data_folder(self) -> Path:
        return Path(self.data_root) if self.data_root else self.home / "data"

    @property
    def late_seconds(self) -> float:
        """After how long without a sample telemetry is late."""
        return self.telemetry_late_seconds or max(10.0, 5 * self.heartbeat_seconds)

    @property
    def host(self) -> str:
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        return int(self.listen.rpartition(":")[2])

    @property
    def tls(self) -> bool:
        """Only loopback is served in the clear."""
        return self.host not in LOOPBACK

    @property
    def certificate_names(self) -> tuple[str, ...]:
        """Names and addresses that the certificate is for."""
        own = (socket.gethostname(), "localhost", "127.0.0.1")
        asked = () if self.host in ("", "0.0.0.0", "::") else (self.host,)
        return tuple(dict.fromkeys((*self.tls_names, *asked, *own)))


@dataclass(frozen=True, slots=True)
class _Option:
    help: str
    metavar: str = "X"
    flag: bool = False
    kind: type = field(default=str)


_OPTIONS: Final[dict[str, _Option]] = {
    "home": _Option("where state lives", "DIR", kind=Path),
    "listen": _Option("address to serve on; beyond loopback with TLS", "HOST:PORT"),
    "store": _Option("sqlite:///PATH or postgresql://USER@HOST/NAME", "URL"),
    "lease_seconds": _Option("silence after which a node is LOST", "S", kind=float),
    "heartbeat_seconds": _Option("how often daemons report", "S", kind=float),
    "telemetry_late_seconds": _Option(
        "silence after which a node gets nothing new to run, 0: ten seconds or five heartbeats",
        "S",
        kind=float,
    ),
    "probation_seconds": _Option(
        "how long a GPU that was sick has to be healthy before it is tested", "S", kind=float
    ),
    "data_root": _Option("files of data://", "DIR"),
    "output_root": _Option("where all outputs are seen, else their nodes serve them", "DIR"),
    "log_retention_days": _Option("age at which logs are removed, 0 never", "DAYS", kind=float),
    "use_half_life_days": _Option("age at which use counts half", "DAYS", kind=float),
    "admin_name": _Option("name of the first admin", "NAME"),
    "tls_folder": _Option("tls.crt, tls.key and ca.crt; else it makes its own", "DIR"),
    "launcher": _Option("how jobs run: as processes (daemon) or as pods", "daemon|kubernetes"),
    "embedded_node": _Option("write the token of this node below home", "NAME"),
    "debug": _Option("log more", flag=True),
}


# What the file's values have to be; the others are text.
_TEXT: Final[tuple[tuple[type, ...], str]] = ((str,), "text in quotes")
_NUMBER: Final[tuple[tuple[type, ...], str]] = ((int, float), "a number")
_KINDS: Final[dict[str, tuple[tuple[type, ...], str]]] = {
    "lease_seconds": _NUMBER,
    "heartbeat_seconds": _NUMBER,
    "telemetry_late_seconds": _NUMBER,
    "probation_seconds": _NUMBER,
    "log_retention_days": _NUMBER,
    "use_half_life_days": _NUMBER,
    "tls_names": ((list,), 'a list such as ["name"]'),
    "debug": ((bool,), "true or false"),
    "kubernetes": ((dict,), "a table, [kubernetes]"),
}


def parse(arguments: Sequence[str]) -> Config:
    """Settings from the command line and its --config file. Raises ConfigError."""
    parser = argparse.ArgumentParser(
        prog="riseml-controlplane", description="The control plane of RiseML."
    )
    parser.add_argument("--config", metavar="FILE", help="a TOML file with the same settings")
    for name, option in _OPTIONS.items():
        flag = "--" + name.replace("_", "-")
        if option.flag:
            parser.add_argument(
                flag, dest=name, action="store_true", default=None, help=option.help
            )
        else:
            parser.add_argument(
                flag, dest=name, metavar=option.metavar, type=option.kind, help=option.help
            )
    parser.add_argument(
        "--tls-name", dest="tls_names", action="append", help="a further name for the certificate"
    )
    given = vars(parser.parse_args(arguments))
    settings = _read_file(given.pop("config"))
    settings.update({key: value for key, value in given.items() if value is not None})
    if "home" not in settings:
        raise ConfigError("Say where state lives: --home DIR, or `home` in the --config file.")
    settings["home"] = Path(settings["home"]).expanduser().absolute()
    settings["tls_names"] = tuple(settings.get("tls_names", ()))
    settings["kubernetes"] = _kubernetes(settings)
    config = Config(**settings)
    _check(config)
    return config


def _kubernetes(settings: Mapping[str, Any]) -> KubernetesSettings | None:
    if settings.get("launcher", "daemon") != "kubernetes":
        return None
    try:
        return read_settings(settings.get("kubernetes", {}))
    except SettingsError as wrong:
        raise ConfigError(f"{wrong} (in the --config file, under [kubernetes])") from None


def _read_file(path: str | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        settings = tomllib.loads(Path(path).read_text())
    except OSError as fault:
        raise ConfigError(f"{path} cannot be read: {fault.strerror}") from None
    except tomllib.TOMLDecodeError as fault:
        raise ConfigError(f"{path} is not valid TOML: {fault}") from None
    known = {f.name for f in dataclasses.fields(Config)}
    unknown = sorted(set(settings) - known)
    if unknown:
        raise ConfigError(
            f"{path}: unknown setting {unknown[0]!r}; known are {', '.join(sorted(known))}"
        )
    for name, value in settings.items():
        kinds, words = _KINDS.get(name, _TEXT)
        if type(value) not in kinds or (name == "tls_names" and not _all_text(value)):
            raise ConfigError(f"{path}: {name} must be {words}, not {value!r}")
    return settings


def _all_text(values: list[object]) -> bool:
    return all(isinstance(value, str) for value in values)


def _check(config: Config) -> None:
    host, _, port = config.listen.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise ConfigError(f"listen must be HOST:PORT, not {config.listen!r}")
    if config.launcher not in get_args(LauncherName):
        allowed = " or ".join(get_args(LauncherName))
        raise ConfigError(f"launcher must be {allowed}, not {config.launcher!r}")
    try:
        check_user_name(config.admin_name)
    except InvalidName as wrong:
        raise ConfigError(f"admin_name: {wrong}") from None
    if not 0.01 <= config.heartbeat_seconds <= 3600:
        raise ConfigError(
            f"heartbeat_seconds must be 0.01 to 3600, not {config.heartbeat_seconds:g}"
        )
    if not config.lease_seconds < math.inf or not config.log_retention_days >= 0:
        raise ConfigError("lease_seconds and log_retention_days must be numbers of 0 or more")
    if not 0.001 <= config.use_half_life_days <= 36_500:
        raise ConfigError(
            f"use_half_life_days must be 0.001 to 36500, not {config.use_half_life_days:g}"
        )
    if config.lease_seconds < 2 * config.heartbeat_seconds:
        raise ConfigError(
            f"lease_seconds ({config.lease_seconds:g}) must be at least twice heartbeat_seconds "
            f"({config.heartbeat_seconds:g}), or nodes are lost between two heartbeats"
        )
    if not 0 <= config.probation_seconds < math.inf:
        raise ConfigError(f"probation_seconds must be 0 or more, not {config.probation_seconds:g}")
    shortest = 2 * max(config.heartbeat_seconds, SAMPLE_SECONDS)
    if config.telemetry_late_seconds and not shortest <= config.telemetry_late_seconds < math.inf:
        raise ConfigError(
            f"telemetry_late_seconds must be 0, or {shortest:g} or more: daemons send a sample "
            f"every {shortest / 2:g} s, and not {config.telemetry_late_seconds:g}"
        )
