"""The launcher at work on the fake API server, and what it says to the control plane."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from typing import Any

from controlplane.domain.effects import SessionOpened, StartAttempt
from controlplane.domain.events import AttemptReported, Event, NodeConnected
from controlplane.domain.model import AttemptOrder, AttemptReport, Gpu, GpuShare, Peer
from controlplane.freshness import Freshness
from controlplane.launch.kubernetes.http_api import KubernetesApi
from controlplane.launch.kubernetes.launcher import KubernetesLauncher, Surroundings
from controlplane.launch.kubernetes.observers import Observers
from controlplane.launch.kubernetes.settings import read_settings
from riseml.spec.ids import parse_attempt_id
from tests.unit.kubernetes.fake_api import FakeApi
from tests.unit.kubernetes.fake_sink import FakeSink

NAMESPACE = "riseml"
CLUSTER = "c1"
NODE = "n1"


def order(attempt_id: str = "ana.17.train.1-1", **more: Any) -> AttemptOrder:
    """A plain order."""
    attempt = parse_attempt_id(attempt_id)
    plain: dict[str, Any] = {
        "attempt_id": attempt_id,
        "job_id": str(attempt.job),
        "experiment_id": str(attempt.job.experiment),
        "user_name": attempt.job.experiment.user,
        "project": "digits",
        "generation": attempt.generation,
        "revision_id": "r1",
        "run": ("python train.py",),
        "env": (),
        "secret_env_names": (),
        "parameters": (),
        "cpu_milli": 1000,
        "memory_bytes": 1 << 30,
        "shm_bytes": 0,
        "gpus": (),
        "grace_period_seconds": 30.0,
        "contact_timeout_seconds": 0.0,
        "install": (),
        "build_attempt_id": "",
        "framework": "",
        "peers": (),
        "rank": 0,
        "job_type": attempt.job.type,
        "job_number": attempt.job.number,
        "output_path": "ana/digits/17",
    }
    return AttemptOrder(**{**plain, **more})


def gang(size: int = 2, **more: Any) -> list[AttemptOrder]:
    """The members of a gang."""
    peers = tuple(
        Peer("worker", n, n - 1, f"worker-{n}.ana-17", 29400, 1) for n in range(1, size + 1)
    )
    return [
        order(
            f"ana.17.worker.{n}-1",
            peers=peers,
            rank=n - 1,
            gpus=(GpuShare(f"{NODE}/{n - 1}", 1000),),
            **more,
        )
        for n in range(1, size + 1)
    ]


def node(name: str = NODE, *, ready: bool = True, gpus: int = 2) -> dict[str, Any]:
    """A node's object."""
    resources = {"cpu": "8", "memory": "16Gi", "pods": "110", "nvidia.com/gpu": str(gpus)}
    return {
        "metadata": {"name": name, "labels": {}},
        "spec": {},
        "status": {
            "capacity": resources,
            "allocatable": resources,
            "conditions": [{"type": "Ready", "status": "True" if ready else "Unknown"}],
            "nodeInfo": {"bootID": "b1", "kubeletVersion": "v1.35.4"},
        },
    }


class FakeFacts:
    """Implements `Facts`."""

    def __init__(self) -> None:
        self.over: set[str] = set()
        self.stops: set[str] = set()
        self.epochs: dict[str, int] = {}
        self.known_gpus: dict[str, Sequence[Gpu]] = {}
        self.late: set[str] = set()
        self.secrets: tuple[str, ...] = ()

    def node_epoch(self, node_name: str) -> int:
        return self.epochs.get(node_name, 0)

    def gpus(self, node_name: str) -> Sequence[Gpu]:
        return self.known_gpus.get(node_name, ())

    def telemetry_late(self, node_name: str) -> bool:
        return node_name in self.late

    def held_gpus(self, node_name: str) -> Collection[str]:
        return ()

    def stop_asked(self, attempt_id: str) -> bool:
        return attempt_id in self.stops

    def experiment_over(self, experiment_id: str) -> bool:
        return experiment_id in self.over

    def configuration(self, experiment_id: str) -> str:
        return "project: digits\n"

    async def secret_values(self, attempt_id: str) -> tuple[str, ...]:
        return self.secrets

    def job_token(self, attempt_id: str) -> str:
        return f"token-of-{attempt_id}"


class FakeReactor:
    """Implements `Reactor`: keeps what it hears, and answers sessions as a test wants."""

    def __init__(self, facts: FakeFacts) -> None:
        self.heard: list[Event] = []
        self.reply = SessionOpened((), (), ())
        self.before_reply: Callable[[], None] = lambda: None
        """What else happens in the same commit as the opening of a session."""
        self._facts = facts
        self._changed = asyncio.Condition()

    async def submit(self, event: Event) -> Any:
        self.post(event)
        if isinstance(event, NodeConnected):
            self._facts.epochs[event.inventory.node_name] = event.epoch
            self.before_reply()
            # Others may run before who waits for the reply.
            await asyncio.sleep(0.02)
            return self.reply
        return None

    def post(self, event: Event, *, soon: bool = True) -> None:
        self.heard.append(event)

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.heard if isinstance(event, kind)]

    def reports(self, attempt_id: str) -> list[AttemptReport]:
        return [
            event.report
            for event in self.heard
            if isinstance(event, AttemptReported) and event.report.attempt_id == attempt_id
        ]


class Clock:
    """Wall-clock and monotonic time of a test."""

    def __init__(self) -> None:
        self.now = 1_795_464_000.0

    def __call__(self) -> float:
        return self.now


class Launching:
    """Everything of one test."""

    def __init__(self, server: FakeApi, api: KubernetesApi, **settings: Any) -> None:
        self.server = server
        self.facts = FakeFacts()
        self.reactor = FakeReactor(self.facts)
        self.sink = FakeSink()
        self.clock = Clock()
        self.leases: dict[str, float] = {}
        self._api = api
        self._settings = read_settings(
            {
                "namespace": NAMESPACE,
                "control_plane_address": "riseml:7433",
                "platform_image": "platform:1",
                "default_image": "python:3.12",
                **settings,
            }
        )
        self.launcher = self._launcher()
        self._task: asyncio.Task[None] | None = None

    def _launcher(self) -> KubernetesLauncher:
        self.freshness = Freshness(late_seconds=10.0)
        self.observers = Observers(self.freshness, expected=bool(self._settings.daemon_account))
        return KubernetesLauncher(
            self._settings, CLUSTER, self.observers, clock=self.clock, monotonic=self.clock
        )

    def renew(self, node_name: str, now: float) -> None:
        self.leases[node_name] = now

    async def serve(self) -> None:
        """Starts it, and waits until all that is ready has a session."""
        around = Surroundings(
            api=self._api,
            reactor=self.reactor,
            facts=self.facts,
            sink=self.sink,
            leases=self,
            ca_pem="PEM",
            # Nodes are looked at when they change, and else ten times a second.
            lease_seconds=0.5,
        )
        self._task = asyncio.create_task(self.launcher.serve(around))
        ready = [
            item["metadata"]["name"]
            for (kind, _, _), item in self.server.objects.items()
            if kind == "nodes" and item["status"]["conditions"][0]["status"] == "True"
        ]
        await self.until(lambda: set(ready) <= set(self.leases))

    async def restart(self) -> None:
        """As after kill -9: nothing is remembered but what others have."""
        await self.stop()
        self.reactor.heard.clear()
        self.leases.clear()
        self.launcher = self._launcher()
        await self.serve()

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def until(self, condition: Callable[[], object]) -> None:
        """Waits for what other tasks bring about; the test's own time limit ends it."""
        while not condition():
            assert self._task is None or not self._task.done(), self._task
            await asyncio.sleep(0.005)

    def start(self, *orders: AttemptOrder, node_name: str = NODE) -> None:
        for one in orders:
            self.launcher.dispatch(StartAttempt(node_name, one))

    def pods(self) -> dict[str, Any]:
        return {
            name: item for (kind, _, name), item in self.server.objects.items() if kind == "pods"
        }

    def bound(self) -> set[str]:
        return {name for name, pod in self.pods().items() if pod["spec"].get("nodeName")}


@contextlib.asynccontextmanager
async def launching(
    server: FakeApi, api: KubernetesApi, **settings: Any
) -> AsyncIterator[Launching]:
    made = Launching(server, api, **settings)
    try:
        yield made
    finally:
        await made.stop()


def running() -> dict[str, Any]:
    """A pod's status while its job runs."""
    return {
        "phase": "Running",
        "containerStatuses": [
            {"name": "job", "state": {"running": {"startedAt": "2026-11-23T20:00:05Z"}}}
        ],
    }


def exited(code: int, reason: str = "", message: str = "") -> dict[str, Any]:
    """A pod's status after its job."""
    ended = {
        "exitCode": code,
        "reason": reason or ("Completed" if code == 0 else "Error"),
        "message": message,
        "startedAt": "2026-11-23T20:00:05Z",
        "finishedAt": "2026-11-23T20:00:09Z",
    }
    return {
        "phase": "Succeeded" if code == 0 else "Failed",
        "containerStatuses": [{"name": "job", "state": {"terminated": ended}}],
    }
