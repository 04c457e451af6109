"""The `[kubernetes]` table of the control plane's configuration file."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

PodSecurity: TypeAlias = Literal["restricted", "baseline", "privileged"]
Scheduling: TypeAlias = Literal["bind", "gates"]
PullPolicy: TypeAlias = Literal["IfNotPresent", "Always", "Never"]
Toleration: TypeAlias = Mapping[str, Any]

_HOST_PORT: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:\[\]]+):[0-9]{1,5}", re.ASCII)
_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?", re.ASCII)
_NAMESPACE: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", re.ASCII)


class SettingsError(ValueError):
    """The table cannot be used; the message names the key and says what would do."""


@dataclass(frozen=True, slots=True)
class Volume:
    """Where files lie that outlive pods: one of the two is set."""

    claim: str = ""
    """A PersistentVolumeClaim of the jobs' namespace."""
    host_path: str = ""
    """A folder that is the same on every node."""


@dataclass(frozen=True, slots=True)
class KubernetesSettings:
    """How and where jobs run as pods; the names are the keys of the table."""

    namespace: str
    """Of the jobs' pods."""
    control_plane_address: str
    """HOST:PORT at which pods reach the control plane; its certificate has to be for that host."""
    platform_image: str
    """The image with `riseml-fetch-code`: deploy/docker/Dockerfile."""
    kubeconfig: str = ""
    """A file; empty: the service account of the pod that the control plane runs in."""
    default_image: str = ""
    """Of jobs that name neither an image nor a framework of the list."""
    framework_images: Mapping[str, str] = field(default_factory=dict)
    """By framework; `{version}` stands for the job's framework_version."""
    image_pull_policy: PullPolicy = "IfNotPresent"
    image_pull_secrets: tuple[str, ...] = ()
    data_volume: Volume | None = None
    """DATA_DIR, read-only."""
    output_volume: Volume | None = None
    """OUTPUT_DIR of each job is a folder of it. None: output goes with its pod."""
    pod_security: PodSecurity = "restricted"
    run_as_user: int | None = None
    """The uid of jobs; None: the image's own."""
    scheduling: Scheduling = "bind"
    node_selector: Mapping[str, str] = field(default_factory=dict)
    """Only nodes with these labels are ours."""
    tolerations: tuple[Toleration, ...] = ()
    force_delete_seconds: float = 60.0
    """For so long a pod may stay after its grace period before it is killed, and after as long
    again removed by force."""
    foreign_pods: bool = True
    """Whether to watch the pods of the whole cluster for what they take of our nodes."""
    daemon_account: str = ""
    """NAMESPACE:NAME of the service account under which daemons observe nodes; empty: none do."""
    ca_config_map: str = ""
    """NAMESPACE/NAME of a ConfigMap that is given the authority of our certificate, as `ca.crt`,
    for those daemons; empty: none is."""

    @property
    def host(self) -> str:
        """By which pods know the control plane: their tokens for it are made out to this name."""
        return self.control_plane_address.rpartition(":")[0].strip("[]")


def read_settings(table: Mapping[str, Any]) -> KubernetesSettings:
    """Raises SettingsError."""
    unknown = sorted(set(table) - set(_READERS))
    if unknown:
        raise SettingsError(
            f"unknown setting kubernetes.{unknown[0]}; known are {', '.join(sorted(_READERS))}"
        )
    for key in ("namespace", "control_plane_address", "platform_image"):
        if key not in table:
            raise SettingsError(f"kubernetes.{key} is missing: {_NEEDED[key]}")
    values = {key: _READERS[key](f"kubernetes.{key}", value) for key, value in table.items()}
    settings = KubernetesSettings(**values)
    _check(settings)
    return settings


_NEEDED: Final = {
    "namespace": 'the namespace of the jobs\' pods, such as "riseml-jobs"',
    "control_plane_address": "HOST:PORT at which pods reach this control plane",
    "platform_image": "the image that brings jobs their code, see deploy/docker/Dockerfile",
}


def _check(settings: KubernetesSettings) -> None:
    if settings.pod_security != "privileged":
        for key, volume in (
            ("data_volume", settings.data_volume),
            ("output_volume", settings.output_volume),
        ):
            if volume is not None and volume.host_path:
                raise SettingsError(
                    f"kubernetes.{key}: Pod Security's level {settings.pod_security} allows no "
                    'hostPath; use claim:NAME, or pod_security = "privileged"'
                )
    if settings.pod_security == "restricted" and settings.run_as_user == 0:
        raise SettingsError(
            "kubernetes.run_as_user is 0, which is root, and Pod Security's level restricted "
            "refuses root: take another uid, such as 1000"
        )


# ---------------------------------------------------------------------------- single values
def _text(key: str, value: Any) -> str:
    if not isinstance(value, str):
        raise SettingsError(f"{key} must be text in quotes, not {value!r}")
    return value


def _needed_text(key: str, value: Any) -> str:
    if not _text(key, value):
        raise SettingsError(f"{key} is empty: {_NEEDED[key.partition('.')[2]]}")
    return str(value)


def _namespace(key: str, value: Any) -> str:
    if not _NAMESPACE.fullmatch(_needed_text(key, value)):
        raise SettingsError(f"{key} = {value!r} is no namespace's name: lower-case letters and -")
    return str(value)


def _address(key: str, value: Any) -> str:
    if not _HOST_PORT.fullmatch(_needed_text(key, value)):
        raise SettingsError(f"{key} must be HOST:PORT, not {value!r}")
    return str(value)


def _flag(key: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise SettingsError(f"{key} must be true or false, not {value!r}")
    return value


def _seconds(key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value <= 86_400:
        raise SettingsError(f"{key} must be seconds, 1 to 86400, not {value!r}")
    return float(value)


def _uid(key: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**31:
        raise SettingsError(f"{key} must be a uid such as 1000, not {value!r}")
    return value


def _names(key: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(
        isinstance(name, str) and _NAME.fullmatch(name) for name in value
    ):
        raise SettingsError(f'{key} must be a list of names such as ["registry"], not {value!r}')
    return tuple(value)


def _texts(key: str, value: Any) -> Mapping[str, str]:
    if not isinstance(value, Mapping) or not all(isinstance(v, str) for v in value.values()):
        raise SettingsError(f"{key} must be a table of texts, not {value!r}")
    return dict(value)


def _tolerations(key: str, value: Any) -> tuple[Toleration, ...]:
    known = {"key", "operator", "value", "effect", "tolerationSeconds"}
    if not isinstance(value, list) or not all(isinstance(one, Mapping) for one in value):
        raise SettingsError(f"{key} must be a list of tables, [[{key}]], not {value!r}")
    for one in value:
        if not set(one) <= known:
            raise SettingsError(
                f"{key}: unknown key {sorted(set(one) - known)[0]!r}; known are "
                f"{', '.join(sorted(known))}"
            )
    return tuple(dict(one) for one in value)


def _volume(key: str, value: Any) -> Volume | None:
    kind, _, where = _text(key, value).partition(":")
    if not value:
        return None
    if kind == "claim" and _NAME.fullmatch(where):
        return Volume(claim=where)
    if kind == "hostPath" and where.startswith("/"):
        return Volume(host_path=where)
    raise SettingsError(f'{key} must be "claim:NAME", "hostPath:/FOLDER" or "", not {value!r}')


def _one_of(*allowed: str) -> Callable[[str, Any], str]:
    def read(key: str, value: Any) -> str:
        if value not in allowed:
            raise SettingsError(f"{key} must be one of {', '.join(allowed)}, not {value!r}")
        return str(value)

    return read


def _pair(separator: str) -> Callable[[str, Any], str]:
    def read(key: str, value: Any) -> str:
        namespace, _, name = _text(key, value).partition(separator)
        if value and not (_NAMESPACE.fullmatch(namespace) and _NAME.fullmatch(name)):
            raise SettingsError(f'{key} must be "NAMESPACE{separator}NAME" or "", not {value!r}')
        return str(value)

    return read


_READERS: Final[Mapping[str, Callable[[str, Any], Any]]] = {
    "namespace": _namespace,
    "control_plane_address": _address,
    "platform_image": _needed_text,
    "kubeconfig": _text,
    "default_image": _text,
    "framework_images": _texts,
    "image_pull_policy": _one_of("IfNotPresent", "Always", "Never"),
    "image_pull_secrets": _names,
    "data_volume": _volume,
    "output_volume": _volume,
    "pod_security": _one_of("restricted", "baseline", "privileged"),
    "run_as_user": _uid,
    "scheduling": _one_of("bind", "gates"),
    "node_selector": _texts,
    "tolerations": _tolerations,
    "force_delete_seconds": _seconds,
    "foreign_pods": _flag,
    "daemon_account": _pair(":"),
    "ca_config_map": _pair("/"),
}
