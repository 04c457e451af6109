"""Starts the control plane: the only place that wires its parts together.

`riseml-controlplane --home DIR [--config FILE] [--listen HOST:PORT] ...`
The address it serves on is written to HOME/control/address once it is ready.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import gc
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Final

from controlplane import bootstrap, config
from controlplane.clock import SteadyClock
from controlplane.code.blobs import Blobs
from controlplane.core.settings import Settings
from controlplane.decisions import DecisionLog
from controlplane.domain.errors import DomainError
from controlplane.domain.events import ControlPlaneStarted
from controlplane.domain.plan import Plan
from controlplane.domain.snapshot import Snapshot
from controlplane.freshness import Freshness
from controlplane.idleness import Idleness
from controlplane.job_tokens import JobTokens
from controlplane.launch.daemon import DaemonLauncher
from controlplane.launch.kubernetes.daemon_identities import DaemonIdentities
from controlplane.launch.kubernetes.launcher import KubernetesLauncher
from controlplane.launch.kubernetes.observers import Observers
from controlplane.leases import Leases
from controlplane.logs.archive import Archive
from controlplane.logs.broker import Broker
from controlplane.logs.writer import ArchiveWriter
from controlplane.private_files import write_private
from controlplane.retention import remove_old_logs
from controlplane.rpc import server as grpc_server
from controlplane.rpc.backend import Backend
from controlplane.rpc.container_logs import ContainerLogs
from controlplane.rpc.daemon_logs import DaemonLogs
from controlplane.rpc.daemon_revisions import DaemonRevisions
from controlplane.rpc.daemon_service import DaemonService
from controlplane.rpc.daemon_session import DaemonSessions, SessionTimes
from controlplane.rpc.daemon_storage import DaemonStorage
from controlplane.rpc.experiment_service import ExperimentService
from controlplane.rpc.explainer import Explainer
from controlplane.rpc.interceptor import Gatekeeper
from controlplane.rpc.log_service import LogService
from controlplane.rpc.node_service import NodeService
from controlplane.rpc.observer_session import ObserverSessions
from controlplane.rpc.project_service import ProjectService
from controlplane.rpc.queue_service import QueueService
from controlplane.rpc.result_service import ResultService
from controlplane.rpc.samples import Samples
from controlplane.rpc.scheduler_service import SchedulerService
from controlplane.rpc.storage_service import Outputs, StorageService
from controlplane.rpc.system_service import SystemFacts, SystemService
from controlplane.rpc.telemetry_service import TelemetryService
from controlplane.rpc.user_service import UserService
from controlplane.runtime import Runtime
from controlplane.store.open import open_store
from controlplane.store.protocol import Store
from controlplane.telemetry import Telemetry
from controlplane.trials import SchedulerTrials
from controlplane.watching import watch_freshness, watch_idleness, watch_leases
from riseml.v1 import telemetry_pb2

if TYPE_CHECKING:
    from controlplane.scheduler.cycle import Scheduler

logger = logging.getLogger("controlplane")

GRACE_SECONDS: Final = 1.0
RETENTION_SECONDS: Final = 3600.0
REPLAN_SECONDS: Final = 5.0
CERTIFICATE_SECONDS: Final = 30.0
# Allocations per collection: the state is many small objects that are not cyclic.
GC_THRESHOLDS: Final = (20_000, 20, 50)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of `riseml-controlplane`. Exit status 0 after a stop by signal, 1 on a fault."""
    try:
        settings = config.parse(sys.argv[1:] if arguments is None else arguments)
    except config.ConfigError as wrong:
        print(f"riseml-controlplane: {wrong}", file=sys.stderr)  # noqa: T201
        return 2
    logging.basicConfig(
        level=logging.DEBUG if settings.debug else logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    try:
        with _home_lock(settings):
            asyncio.run(_serve(settings))
    except DomainError as fault:
        if settings.debug:
            raise
        print(f"riseml-controlplane: {fault.message}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


@contextlib.contextmanager
def _home_lock(settings: config.Config) -> Iterator[None]:
    """One control plane per home: two writers on one store would each believe themselves alone."""
    settings.control.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(settings.control / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DomainError(
                f"Another control plane uses {settings.home}: stop it, or give this one another "
                "--home.",
                reason="HOME_IN_USE",
            ) from None
        yield
    finally:
        os.close(descriptor)


class _Planner:
    """The scheduler, loaded when something waits for the first time: it costs memory."""

    def __init__(self) -> None:
        self._scheduler: Scheduler | None = None

    def load(self) -> None:
        """Takes a good part of a second: not for the event loop."""
        from controlplane.scheduler.cycle import Scheduler

        self._scheduler = Scheduler()

    def schedule(self, snapshot: Snapshot, now: float) -> Plan:
        """Only after `load`."""
        if self._scheduler is None:
            raise RuntimeError("the scheduler is not loaded yet")
        return self._scheduler.schedule(snapshot, now)


async def _serve(settings: config.Config) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)

    identity = None
    if settings.tls:
        # Only where it is needed: the library costs memory.
        from controlplane import tls

        if settings.tls_folder:
            pods_know = () if settings.kubernetes is None else (settings.kubernetes.host,)
            identity = tls.read(Path(settings.tls_folder), pods_know)
        else:
            identity = tls.ensure(settings.control / "tls", settings.certificate_names)

    (settings.control / "db").mkdir(exist_ok=True, mode=0o700)
    store = open_store(settings.store_url)
    daemons = DaemonLauncher()
    freshness = Freshness(settings.late_seconds)
    pods = settings.kubernetes
    observers = Observers(freshness, expected=pods is not None and bool(pods.daemon_account))
    accounts: DaemonIdentities | None = None
    launcher: DaemonLauncher | KubernetesLauncher = daemons
    if settings.kubernetes is not None:
        launcher = KubernetesLauncher(settings.kubernetes, store.cluster_id(), observers)
        if settings.kubernetes.daemon_account:
            accounts = DaemonIdentities(
                settings.kubernetes.daemon_account, settings.kubernetes.host, time.monotonic
            )
    clock = SteadyClock()
    planner = _Planner()
    runtime = Runtime(
        store,
        launcher,
        planner.schedule,
        prepare=planner.load,
        settings=_times(settings),
        clock=clock,
    )
    decisions = DecisionLog(settings.control / "decisions")
    runtime.cycles.last_number = decisions.last_number()
    runtime.cycles.observers.append(decisions.observe)
    running = asyncio.create_task(runtime.run())
    await runtime.submit(ControlPlaneStarted())
    leases = Leases(settings.lease_seconds)
    leases.start(runtime.cluster.nodes, time.monotonic())
    idleness = Idleness(settings.late_seconds)
    archive = Archive(settings.control / "logs")
    writer = ArchiveWriter(archive)
    broker = Broker()
    await bootstrap.make_first_admin(runtime, settings)
    job_tokens = JobTokens(bootstrap.job_token_key(settings))
    if settings.embedded_node:
        ca_pem = identity.ca_pem if identity else b""
        await bootstrap.write_embedded_token(runtime, settings, ca_pem)

    # What is loaded stays: collections need not look at it again, nor run at every turn.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    backend = Backend(runtime, store)
    explainer = Explainer(backend, SchedulerTrials(), decisions, now=clock)
    services = _services(
        settings,
        backend,
        store,
        daemons,
        observers,
        leases,
        freshness,
        idleness,
        archive,
        writer,
        broker,
        identity,
        decisions,
        explainer,
    )
    gatekeeper = Gatekeeper(lambda: runtime.cluster, job_tokens, clock, accounts)
    server, checks = grpc_server.make_server(services, gatekeeper)
    port = grpc_server.bind(
        server,
        settings.listen,
        identity.key_pem if identity else None,
        identity.certificate_pem if identity else None,
    )
    await server.start()
    await grpc_server.mark_serving(checks)
    address = f"{settings.host}:{port}"
    write_private(settings.control / "address", f"{address}\n".encode())
    logger.info("serving on %s%s", address, " with TLS" if identity else "")

    timers = [
        asyncio.create_task(watch_leases(runtime, leases)),
        asyncio.create_task(watch_freshness(runtime, freshness)),
        asyncio.create_task(watch_idleness(runtime, idleness)),
        asyncio.create_task(_replan(runtime)),
        asyncio.create_task(_trim_requests(runtime)),
    ]
    if settings.tls and settings.tls_folder:
        timers.append(asyncio.create_task(_watch_certificate(Path(settings.tls_folder))))
    if settings.log_retention_days > 0:
        retention = _keep_retention(store, archive, settings.log_retention_days)
        timers.append(asyncio.create_task(retention))
    if settings.kubernetes is not None and isinstance(launcher, KubernetesLauncher):
        from controlplane.pods import ArchiveSink, RuntimeFacts, serve_pods

        serving = serve_pods(
            launcher,
            settings.kubernetes,
            accounts,
            runtime,
            RuntimeFacts(runtime, store, job_tokens, clock),
            ArchiveSink(archive, writer, broker),
            leases,
            identity.ca_pem.decode() if identity else "",
            settings.lease_seconds,
        )
        timers.append(asyncio.create_task(serving))
    stopped = asyncio.create_task(stop.wait())
    # None of them ends by itself: one that does has failed, and all of it stops, loudly.
    await asyncio.wait({stopped, running, *timers}, return_when=asyncio.FIRST_COMPLETED)
    logger.info("stopping")
    failed = [timer for timer in timers if timer.done()]
    for timer in timers:
        timer.cancel()
    (settings.control / "address").unlink(missing_ok=True)
    await server.stop(GRACE_SECONDS)
    runtime.stop()
    try:
        await running
        await asyncio.gather(*failed)
    finally:
        writer.close()
        archive.close()
        explainer.close()
        backend.close()
        decisions.close()
        store.close()


def _times(settings: config.Config) -> Settings:
    """A shim that stops by itself does so before its node is LOST, with time to be done."""
    return Settings(
        launcher=settings.launcher,
        contact_timeout_seconds=settings.lease_seconds / 2,
        lost_margin_seconds=settings.lease_seconds / 2,
        probation_seconds=settings.probation_seconds,
        use_half_life_seconds=settings.use_half_life_days * 86_400,
    )


def _outputs(settings: config.Config) -> Outputs:
    root = Path(settings.output_root) if settings.output_root else None
    return Outputs(root, of_pods=settings.launcher == "kubernetes")


def _services(
    settings: config.Config,
    backend: Backend,
    store: Store,
    daemons: DaemonLauncher,
    observers: Observers,
    leases: Leases,
    freshness: Freshness,
    idleness: Idleness,
    archive: Archive,
    writer: ArchiveWriter,
    broker: Broker,
    identity: object,
    decisions: DecisionLog,
    explainer: Explainer,
) -> grpc_server.Services:
    fingerprint: str = getattr(identity, "ca_fingerprint", "")
    blobs = Blobs(settings.control / "blobs")
    blobs.remove_partials()
    telemetry = Telemetry(
        telemetry_pb2.NodeSample.SerializeToString, telemetry_pb2.NodeSample.FromString
    )
    samples = Samples(telemetry, freshness, idleness)
    storage = DaemonStorage()
    projects = ProjectService(backend, blobs)
    cluster_id = store.cluster_id()
    times = SessionTimes(settings.heartbeat_seconds, settings.lease_seconds)
    log_readers = ThreadPoolExecutor(2, thread_name_prefix="log-reader")
    facts = SystemFacts(
        metadata.version("riseml-platform"), cluster_id, (settings.launcher,), settings.tls
    )
    services = grpc_server.Services(
        users=UserService(backend),
        projects=projects,
        experiments=ExperimentService(backend),
        scheduler=SchedulerService(backend, explainer),
        logs=LogService(backend, archive, broker, log_readers),
        results=ResultService(backend, archive),
        nodes=NodeService(backend, leases, freshness, fingerprint),
        queues=QueueService(backend),
        telemetry=TelemetryService(telemetry),
        storage=StorageService(backend, settings.data_folder, storage, _outputs(settings)),
        system=SystemService(backend, facts, decisions),
        daemons=DaemonService(
            ObserverSessions(observers, samples, cluster_id, times)
            if settings.launcher == "kubernetes"
            else DaemonSessions(
                backend.runtime, daemons, leases, freshness, samples, cluster_id, times
            ),
            ContainerLogs(observers),
            DaemonLogs(backend, archive, writer, broker),
            DaemonRevisions(backend, projects, blobs),
            storage,
        ),
    )
    return services


async def _watch_certificate(folder: Path) -> None:
    """Raises DomainError when it was renewed: whoever started us starts us again, with the new one.
    Jobs do not notice, and clients try again."""
    from controlplane import tls

    used = await asyncio.to_thread(tls.digest, folder)
    while True:
        await asyncio.sleep(CERTIFICATE_SECONDS)
        found = await asyncio.to_thread(tls.digest, folder)
        if found and found != used:
            raise DomainError(
                f"the certificate in {folder} was renewed: start again to use it",
                reason="CERTIFICATE_RENEWED",
            )


async def _replan(runtime: Runtime) -> None:
    """A gang that has waited long gets room kept for it, and nothing but the clock says when."""
    while True:
        await asyncio.sleep(REPLAN_SECONDS)
        runtime.wake_scheduler()


async def _trim_requests(runtime: Runtime) -> None:
    while True:
        await asyncio.sleep(RETENTION_SECONDS)
        runtime.cluster.trim(time.time())


async def _keep_retention(store: Store, archive: Archive, days: float) -> None:
    since = 0.0
    while True:
        try:
            since = await asyncio.to_thread(remove_old_logs, store, archive, days, since)
        except (DomainError, OSError) as fault:
            logger.error("old logs are not removed now: %s", fault)
        await asyncio.sleep(RETENTION_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
