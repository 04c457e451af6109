"""The daemon on a node of Kubernetes, put together from its parts."""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from pathlib import Path
from typing import Final

from noded.attempt_dir import boot_id
from noded.convert import report_message
from noded.errors import ConfigError
from noded.kubelet.devices import Devices
from noded.kubelet.log_shipping import LogShipping
from noded.kubelet.observed_node import ObservedNode
from noded.kubelet.settings import ObserverSettings
from noded.session import Metadata, Session, bearer
from noded.telemetry.collector import Collector, CollectorSettings
from noded.telemetry.model import LiveAttempt
from noded.tls import make_channel

log = logging.getLogger(__name__)

AUTHORITY_SECONDS: Final = 120.0
"""A control plane that is installed at the same time has so long to say how it is known."""
SETTLE_SECONDS: Final = 5.0


class Observer:
    """One node's daemon."""

    def __init__(self, settings: ObserverSettings) -> None:
        self._settings = settings
        self._devices = Devices(settings.pod_resources)
        self._shipping = LogShipping(settings.pod_logs, self._metadata)
        self._collector = Collector(
            CollectorSettings(settings.node_name, settings.pod_logs, cgroups=settings.cgroups),
            attempts=self._attempts,
        )
        self._node = ObservedNode(
            settings.node_name, boot_id(), self._collector, self._devices, self._shipping
        )

    async def run(self) -> None:
        """Until cancelled. Raises ConfigError and SessionRefused."""
        authority = await _read_authority(self._settings.ca_file)
        session = Session(
            functools.partial(make_channel, self._settings.server, authority),
            self._token,
            self._node,
            _Nowhere(),
            (self._shipping.serve,),
            report_message,
        )
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._collector.run(), name="telemetry")
            tasks.create_task(self._devices.run(), name="devices")
            tasks.create_task(self._shipping.run(), name="logs")
            await self._settle()
            tasks.create_task(session.run(), name="session")

    async def close(self) -> None:
        """Lets go of everything."""
        self._shipping.close()

    async def _settle(self) -> None:
        """A node that says first that it has no GPUs, and then that it has, confuses its
        scheduler."""
        until = time.monotonic() + SETTLE_SECONDS
        while time.monotonic() < until:
            if self._collector.settled() and self._devices.known:
                return
            await asyncio.sleep(0.05)

    def _attempts(self) -> tuple[LiveAttempt, ...]:
        return self._node.attempts()

    def _metadata(self) -> Metadata:
        return bearer(self._token())

    def _token(self) -> str:
        """As the kubelet wrote it last."""
        try:
            return self._settings.token_file.read_text().strip()
        except OSError as error:
            raise ConfigError(f"{self._settings.token_file}: {error.strerror}") from error


class _Nowhere:
    """Nothing on this node belongs to a cluster."""

    cluster_id = ""

    def remember(self, cluster_id: str) -> None:
        return


async def _read_authority(path: Path) -> bytes:
    until = time.monotonic() + AUTHORITY_SECONDS
    told = False
    while True:
        try:
            authority = await asyncio.to_thread(path.read_bytes)
        except FileNotFoundError:
            authority = b""
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
        if authority.strip():
            return authority
        if time.monotonic() > until:
            raise ConfigError(
                f"{path} does not hold the control plane's authority: does it run, and may it "
                "write the ConfigMap of kubernetes.ca_config_map?"
            )
        if not told:
            log.info("waiting for the control plane's authority in %s", path)
            told = True
        await asyncio.sleep(0.5)
