"""Puts the Kubernetes launcher into the control plane: what it asks of the runtime, and where logs
go."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

from controlplane.domain.errors import DomainError, ResourceExhausted
from controlplane.domain.model import Gpu
from controlplane.job_tokens import JobTokens
from controlplane.launch.kubernetes.api import ApiError
from controlplane.launch.kubernetes.authority import publish_authority
from controlplane.launch.kubernetes.daemon_identities import DaemonIdentities
from controlplane.launch.kubernetes.http_api import KubernetesApi
from controlplane.launch.kubernetes.launcher import KubernetesLauncher, Surroundings
from controlplane.launch.kubernetes.ports import Leases, LogKind
from controlplane.launch.kubernetes.settings import KubernetesSettings
from controlplane.logs.archive import Archive, Kind
from controlplane.logs.broker import Broker
from controlplane.logs.writer import ArchiveWriter
from controlplane.runtime import Runtime
from controlplane.store.protocol import Store
from riseml.spec.configuration import render_configuration
from riseml.spec.ids import parse_attempt_id, parse_experiment_id
from riseml.spec.model import Parameter

TOKEN_SECONDS: Final = 7200.0
"""A pod has at least so long to be given its node, to pull the images and to fetch its code."""
TOKEN_STEP_SECONDS: Final = 3600.0
"""Tokens of one attempt are the same for so long: who tries again makes nothing new."""
FULL_DISK_SECONDS: Final = 1.0

_KINDS: Final[Mapping[LogKind, Kind]] = {
    LogKind.OUTPUT: Kind.OUTPUT,
    LogKind.RESULTS: Kind.RESULTS,
}


class RuntimeFacts:
    """What the launcher asks about nodes and experiments; implements `Facts`."""

    def __init__(
        self, runtime: Runtime, store: Store, tokens: JobTokens, clock: Callable[[], float]
    ) -> None:
        self._runtime = runtime
        self._store = store
        self._tokens = tokens
        self._clock = clock

    def node_epoch(self, node_name: str) -> int:
        node = self._runtime.cluster.nodes.get(node_name)
        return 0 if node is None else node.epoch

    def gpus(self, node_name: str) -> Sequence[Gpu]:
        node = self._runtime.cluster.nodes.get(node_name)
        return () if node is None else node.inventory.gpus

    def telemetry_late(self, node_name: str) -> bool:
        node = self._runtime.cluster.nodes.get(node_name)
        return node is not None and node.telemetry_late

    def held_gpus(self, node_name: str) -> Collection[str]:
        return {
            share.uuid
            for attempt in self._runtime.cluster.attempts_on(node_name)
            if not attempt.state.ended
            for share in attempt.gpus
        }

    def stop_asked(self, attempt_id: str) -> bool:
        attempt = self._runtime.cluster.attempts.get(attempt_id)
        return attempt is not None and bool(attempt.stop_reason)

    def experiment_over(self, experiment_id: str) -> bool:
        experiment = self._runtime.cluster.experiments.get(experiment_id)
        return experiment is None or experiment.state.ended

    def configuration(self, experiment_id: str) -> str:
        experiment = self._runtime.cluster.experiments.get(experiment_id)
        if experiment is None:
            return ""
        return render_configuration(
            experiment.spec,
            parse_experiment_id(experiment.id),
            experiment.revision_id or None,
            tuple(Parameter(name, value) for name, value in experiment.parameters),
        )

    async def secret_values(self, attempt_id: str) -> tuple[str, ...]:
        experiment_id = str(parse_attempt_id(attempt_id).job.experiment)
        experiment = self._runtime.cluster.experiments.get(experiment_id)
        if experiment is None:
            experiment = await asyncio.to_thread(self._store.experiment, experiment_id)
        if experiment is None:
            return ()
        return tuple(variable.value for variable in experiment.spec.env if variable.secret)

    def job_token(self, attempt_id: str) -> str:
        step = math.ceil((self._clock() + TOKEN_SECONDS) / TOKEN_STEP_SECONDS)
        return self._tokens.issue(attempt_id, step * TOKEN_STEP_SECONDS)


class ArchiveSink:
    """Implements `LogSink` over the archive."""

    def __init__(self, archive: Archive, writer: ArchiveWriter, broker: Broker) -> None:
        self._archive = archive
        self._writer = writer
        self._broker = broker

    def end(self, attempt_id: str, kind: LogKind) -> int:
        return self._archive.end(attempt_id, _KINDS[kind])

    def read(self, attempt_id: str, kind: LogKind, offset: int, length: int) -> bytes:
        return self._archive.read(attempt_id, _KINDS[kind], offset, length)

    async def append(self, attempt_id: str, kind: LogKind, offset: int, data: bytes) -> None:
        end = offset + len(data)
        while True:
            try:
                await self._writer.append(attempt_id, _KINDS[kind], offset, data)
                break
            except ResourceExhausted:
                # What got through is kept, and skipped the next time.
                await asyncio.sleep(FULL_DISK_SECONDS)
        if self._archive.end(attempt_id, _KINDS[kind]) < end:
            raise RuntimeError(f"the log of {attempt_id} ended before {offset}")
        if kind is LogKind.OUTPUT:
            self._broker.grew(attempt_id)

    async def finish(self, attempt_id: str) -> None:
        for kind in Kind:
            end = self._archive.end(attempt_id, kind)
            try:
                await self._writer.append(attempt_id, kind, end, b"", final=True)
            except ResourceExhausted:
                # It is all written; only that it is on the disk is not certain.
                continue
        self._broker.grew(attempt_id)


async def serve_pods(
    launcher: KubernetesLauncher,
    settings: KubernetesSettings,
    accounts: DaemonIdentities | None,
    runtime: Runtime,
    facts: RuntimeFacts,
    sink: ArchiveSink,
    leases: Leases,
    ca_pem: str,
    lease_seconds: float,
) -> None:
    """Runs the launcher until cancelled. Raises DomainError without credentials for Kubernetes."""
    async with contextlib.AsyncExitStack() as stack:
        api = await _connect(stack, settings.kubeconfig)
        if accounts is not None:
            accounts.api = api
        around = Surroundings(
            api=api,
            reactor=runtime,
            facts=facts,
            sink=sink,
            leases=leases,
            ca_pem=ca_pem,
            lease_seconds=lease_seconds,
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(launcher.serve(around))
            if settings.ca_config_map and ca_pem:
                group.create_task(publish_authority(api, settings.ca_config_map, ca_pem))


async def _connect(stack: contextlib.AsyncExitStack, kubeconfig: str) -> KubernetesApi:
    try:
        return await stack.enter_async_context(KubernetesApi(kubeconfig))
    except ApiError as error:
        raise DomainError(
            f"{error.message}. Set kubernetes.kubeconfig, or run the control plane in a pod with a "
            "service account.",
            reason="NO_KUBERNETES",
        ) from error
