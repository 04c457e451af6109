"""How this node introduces itself: what it has, what it can do, what it lacks."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

import psutil

from noded.config import Config, host_of, is_loopback
from noded.telemetry.convert import gpu_to_proto
from noded.telemetry.model import GpuStatus
from riseml.v1 import daemon_pb2, node_pb2


def own_address(server: str) -> str:
    """The address that this node has towards the control plane; nothing is sent to find it out."""
    host, port = host_of(server), server.rpartition(":")[2]
    if is_loopback(host):
        return "127.0.0.1"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, int(port), type=socket.SOCK_DGRAM
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.connect(address)
            return str(probe.getsockname()[0])
    except OSError:
        return socket.gethostname()


def daemon_version() -> str:
    """Of the installed distribution; "unknown" where the code runs without one."""
    try:
        return version("riseml-platform")
    except PackageNotFoundError:
        return "unknown"


def cpu_milli() -> int:
    """CPUs that this daemon may use, in thousandths."""
    return 1000 * len(os.sched_getaffinity(0))


def shm_bytes(path: str = "/dev/shm") -> int:
    """Size of the memory file system that processes share; 0 where there is none."""
    try:
        found = os.statvfs(path)
        return found.f_blocks * found.f_frsize if os.path.ismount(path) else 0
    except OSError:
        return 0


class Inventory:
    """Says what the node is; remembers what it said, so that only changes are told."""

    def __init__(
        self, config: Config, boot_id: str, only_user: str, limits: str, notes: Sequence[str]
    ) -> None:
        self._config = config
        self._boot_id = boot_id
        self._only_user = only_user
        self._limits = limits
        self._notes = tuple(notes)
        self._address = config.address or own_address(config.server)
        self._cpu_milli = cpu_milli()
        self._memory_bytes = int(psutil.virtual_memory().total)
        self._version = daemon_version()
        self._said: daemon_pb2.NodeInventory | None = None

    def describe(self, gpus: Sequence[GpuStatus], notes: Sequence[str]) -> daemon_pb2.NodeInventory:
        """The inventory now; it counts as said."""
        config = self._config
        self._said = daemon_pb2.NodeInventory(
            node_name=config.node_name,
            boot_id=self._boot_id,
            daemon_version=self._version,
            cpu_milli=self._cpu_milli,
            memory_bytes=self._memory_bytes,
            gpus=[gpu_to_proto(gpu) for gpu in gpus],
            labels=dict(config.labels),
            capabilities=node_pb2.NodeCapabilities(
                isolates_users=not self._only_user,
                only_user=self._only_user,
                limits=self._limits,
                output_root="shared" if config.output_shared else "local",
                notes=[*self._notes, *notes],
                runs_images=False,
            ),
            address=self._address,
            first_port=config.first_port,
            last_port=config.last_port,
            # Anew each time: an admin may give it another size.
            shm_bytes=shm_bytes(),
        )
        return self._said

    def changed(
        self, gpus: Sequence[GpuStatus], notes: Sequence[str]
    ) -> daemon_pb2.NodeInventory | None:
        """The inventory if it is another than the one said last."""
        said = self._said
        now = self.describe(gpus, notes)
        return None if said == now else now
