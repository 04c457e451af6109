"""The command line of `riseml-noded --kubernetes`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from noded.config import host_of
from noded.errors import ConfigError

FLAG: Final = "--kubernetes"
NAME_VARIABLE: Final = "RISEML_NODE_NAME"


@dataclass(frozen=True, slots=True)
class ObserverSettings:
    """Everything that can be set."""

    server: str
    """HOST:PORT of the control plane."""
    node_name: str
    """As Kubernetes calls the node."""
    token_file: Path
    """A token of the pod's service account, made out to the control plane's host; the kubelet
    writes a new one before it expires."""
    ca_file: Path
    """The authority of the control plane's certificate."""
    pod_logs: Path
    """Where the container runtime writes the logs of the node's pods."""
    pod_resources: Path
    """The kubelet's socket."""
    cgroups: Path
    """Where the control groups of the host are mounted."""
    debug: bool = False


def parser() -> argparse.ArgumentParser:
    """The options; all that names a place has the place that a kubelet uses unless told."""
    made = argparse.ArgumentParser(
        prog=f"riseml-noded {FLAG}",
        description="Node daemon of RiseML on a node of Kubernetes: observes it and reads logs.",
    )
    made.add_argument(FLAG, action="store_true", help=argparse.SUPPRESS)
    made.add_argument("--server", metavar="HOST:PORT", required=True, help="the control plane")
    made.add_argument("--name", help=f"name of the node (default: {NAME_VARIABLE})")
    made.add_argument(
        "--token-file", metavar="FILE", required=True, type=Path, help="token of a service account"
    )
    made.add_argument(
        "--ca-file",
        metavar="FILE",
        required=True,
        type=Path,
        help="CA certificate of the control plane, PEM",
    )
    made.add_argument(
        "--pod-logs", metavar="DIR", type=Path, default=Path("/var/log/pods"), help="logs of pods"
    )
    made.add_argument(
        "--pod-resources",
        metavar="SOCKET",
        type=Path,
        default=Path("/var/lib/kubelet/pod-resources/kubelet.sock"),
        help="where the kubelet tells which pod has which device",
    )
    made.add_argument(
        "--cgroups",
        metavar="DIR",
        type=Path,
        default=Path("/sys/fs/cgroup"),
        help="control groups of the host",
    )
    made.add_argument("--debug", action="store_true", help="log more")
    return made


def load(arguments: Sequence[str], environ: Mapping[str, str]) -> ObserverSettings:
    """Raises ConfigError."""
    given = parser().parse_args(arguments)
    node_name = given.name or environ.get(NAME_VARIABLE, "")
    if not node_name:
        raise ConfigError(f"which node is this? Give --name, or set {NAME_VARIABLE}")
    host_of(given.server)
    return ObserverSettings(
        server=given.server,
        node_name=node_name,
        token_file=given.token_file,
        ca_file=given.ca_file,
        pod_logs=given.pod_logs,
        pod_resources=given.pod_resources,
        cgroups=given.cgroups,
        debug=given.debug,
    )
