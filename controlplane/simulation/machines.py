"""Honest machines that run what they are told for as long as it takes, or until it is stopped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final

from controlplane.domain.effects import Effect, StartAttempt, StopAttempt
from controlplane.domain.events import AttemptReported, CheckpointWritten, NodeConnected
from controlplane.domain.model import (
    AttemptReport,
    Gpu,
    NodeCapabilities,
    NodeInventory,
)
from controlplane.domain.states import AttemptState
from controlplane.simulation.cluster import VirtualCluster
from controlplane.simulation.traces import TraceNode
from riseml.spec.model import GIB

FIRST_PORT: Final = 20_000
LAST_PORT: Final = 20_999

# What is known of the models in the traces; others count as the smallest.
GPU_MEMORY_BYTES: Final = {
    "P100": 16 * GIB,
    "T4": 16 * GIB,
    "V100M16": 16 * GIB,
    "V100M32": 32 * GIB,
    "A10": 24 * GIB,
}
LEAST_GPU_MEMORY_BYTES: Final = 16 * GIB

SIGTERM: Final = 15


def inventory(node: TraceNode) -> NodeInventory:
    """A machine as its daemon would introduce it."""
    memory = GPU_MEMORY_BYTES.get(node.gpu_model, LEAST_GPU_MEMORY_BYTES)
    return NodeInventory(
        node_name=node.name,
        boot_id="1",
        daemon_version="simulated",
        cpu_milli=node.cpu_milli,
        memory_bytes=node.memory_bytes,
        gpus=tuple(
            Gpu(f"{node.name}-{index}", index, node.gpu_model, node.gpu_model, memory)
            for index in range(node.gpu_count)
        ),
        capabilities=NodeCapabilities(output_root="shared"),
        address=node.name,
        first_port=FIRST_PORT,
        last_port=LAST_PORT,
    )


def connect_all(cluster: VirtualCluster, nodes: Sequence[TraceNode]) -> None:
    """Each introduces itself, in this order."""
    for node in nodes:
        cluster.send(NodeConnected(inventory(node), 1))


def renamed(nodes: Sequence[TraceNode], random: Random) -> list[TraceNode]:
    """The same machines with other names, in another order: what is decided by name or place is
    decided at random then.
    """
    shuffled = list(nodes)
    random.shuffle(shuffled)
    names = [f"node-{number:05}" for number in range(len(nodes))]
    random.shuffle(names)
    return [
        TraceNode(name, node.cpu_milli, node.memory_bytes, node.gpu_count, node.gpu_model)
        for name, node in zip(names, shuffled, strict=True)
    ]


@dataclass(slots=True)
class Run:
    """A gang that runs: its attempts by id, with the node of each."""

    start_time: float
    nodes: dict[str, str] = field(default_factory=dict)
    gpu_milli: int = 0
    # When all that it had done was written down last; its start before the first time.
    saved_time: float = 0.0
    # Asked to stop: whatever ends it then, the control plane lets it start anew.
    stopping: bool = False


class Machines:
    """All nodes of a simulation, as one. Jobs run from the moment in which they are ordered."""

    def __init__(
        self,
        cluster: VirtualCluster,
        seconds_to_run: Callable[[str], float],
        *,
        stop_seconds: float = 10.0,
        checkpoint_seconds: float | None = None,
    ) -> None:
        """`seconds_to_run`: how long an experiment would still run if it started now.

        `stop_seconds`: from SIGTERM to the end. `checkpoint_seconds`: a run writes a checkpoint
        each time it has gone on for so long; None: never.
        """
        self._cluster = cluster
        self._seconds_to_run = seconds_to_run
        self._stop_seconds = stop_seconds
        self._checkpoint_seconds = checkpoint_seconds
        # By experiment.
        self.running: dict[str, Run] = {}
        # Thousandths of GPUs that jobs hold.
        self.held_gpu_milli = 0
        # Told just before a gang starts, and before it ends: by itself (True), or being stopped.
        self.on_start: Callable[[str, Run], None] = lambda experiment_id, run: None
        self.on_end: Callable[[str, Run, bool], None] = lambda experiment_id, run, done: None

    def receive(self, effect: Effect) -> None:
        """What a daemon would be told; all but starts and stops means nothing here."""
        if isinstance(effect, StartAttempt):
            self._start(effect)
        elif isinstance(effect, StopAttempt):
            self._stop(effect.attempt_id)

    def _start(self, effect: StartAttempt) -> None:
        order, cluster = effect.order, self._cluster
        attempt_id, experiment_id = order.attempt_id, order.experiment_id
        run = self.running.get(experiment_id)
        if run is None:
            run = self.running[experiment_id] = Run(cluster.now, saved_time=cluster.now)
            end = cluster.now + self._seconds_to_run(experiment_id)
            cluster.call_at(end, lambda: self._end(experiment_id, run, None))
            self._expect_checkpoint(experiment_id, run)
            self.on_start(experiment_id, run)
        held = sum(share.milli for share in cluster.cluster.attempts[attempt_id].gpus)
        run.nodes[attempt_id] = effect.node_name
        run.gpu_milli += held
        self.held_gpu_milli += held
        report = AttemptReport(attempt_id, AttemptState.RUNNING, start_time=cluster.now)
        cluster.send(AttemptReported(effect.node_name, report))

    def _expect_checkpoint(self, experiment_id: str, run: Run) -> None:
        if self._checkpoint_seconds is not None:
            then = self._cluster.now + self._checkpoint_seconds
            self._cluster.call_at(then, lambda: self._write_checkpoint(experiment_id, run))

    def _write_checkpoint(self, experiment_id: str, run: Run) -> None:
        """Of all members in the same moment; what is being stopped writes no more."""
        if self.running.get(experiment_id) is not run or run.stopping:
            return
        run.saved_time = self._cluster.now
        for attempt_id, node_name in run.nodes.items():
            self._cluster.send(CheckpointWritten(node_name, attempt_id, run.saved_time))
        self._expect_checkpoint(experiment_id, run)

    def _stop(self, attempt_id: str) -> None:
        attempt = self._cluster.cluster.attempts.get(attempt_id)
        run = None if attempt is None else self.running.get(attempt.experiment_id)
        if attempt is None or run is None or attempt_id not in run.nodes:
            return
        run.stopping = True
        experiment_id = attempt.experiment_id
        end = self._cluster.now + self._stop_seconds
        self._cluster.call_at(end, lambda: self._end(experiment_id, run, SIGTERM))

    def _end(self, experiment_id: str, run: Run, exit_signal: int | None) -> None:
        """Of all members at once; whatever ends a run first counts."""
        if self.running.get(experiment_id) is not run:
            return
        self.on_end(experiment_id, run, exit_signal is None and not run.stopping)
        del self.running[experiment_id]
        self.held_gpu_milli -= run.gpu_milli
        for attempt_id, node_name in run.nodes.items():
            report = AttemptReport(
                attempt_id,
                AttemptState.EXITED,
                end_time=self._cluster.now,
                exit_code=0 if exit_signal is None else None,
                exit_signal=exit_signal or 0,
            )
            self._cluster.send(AttemptReported(node_name, report))
