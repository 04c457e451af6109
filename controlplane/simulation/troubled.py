"""Machines that are honest and unlucky: cut off, rebooted, replaced, sick, late with their samples.

They do what a daemon does: run what they are ordered, remember ends until told to forget them, say
what they run when they connect, and stop what is not wanted. What is sent while a machine has no
session is lost.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from random import Random
from typing import Final

from controlplane.domain.effects import (
    Effect,
    ForgetAttempt,
    SessionOpened,
    StartAttempt,
    StopAttempt,
)
from controlplane.domain.events import (
    AttemptReported,
    CheckpointWritten,
    NodeConnected,
    NodeDisconnected,
    NodeForgotten,
    NodeInventoryChanged,
    NodeLeaseExpired,
    NodeTelemetryLate,
)
from controlplane.domain.model import (
    AttemptOrder,
    AttemptReport,
    GpuHealthName,
    NodeInventory,
)
from controlplane.domain.states import AttemptState
from controlplane.simulation.cluster import Action, VirtualCluster
from controlplane.simulation.machines import SIGTERM, inventory
from controlplane.simulation.traces import TraceNode
from riseml.spec.model import GPU

LEASE_SECONDS: Final = 30.0
SIGKILL: Final = 9
LONG_MEMORY: Final = 4 << 30


class Untrue(AssertionError):
    """The machines saw what must never be; the text says what."""


@dataclass(slots=True)
class Process:
    """An attempt as its machine has it."""

    order: AttemptOrder
    state: AttemptState = AttemptState.ASSIGNED
    end: AttemptReport | None = None
    stopping: bool = False


@dataclass(slots=True)
class Machine:
    """`away_since` is set while it has no session."""

    trace: TraceNode
    boot: int = 1
    epoch: int = 1
    away_since: float | None = 0.0
    late: bool = False
    # GPUs by index that are sick, or used by somebody else.
    sick: set[int] = field(default_factory=set)
    foreign: set[int] = field(default_factory=set)
    processes: dict[str, Process] = field(default_factory=dict)

    def running(self) -> list[Process]:
        return [process for process in self.processes.values() if process.end is None]

    def inventory(self) -> NodeInventory:
        """As its daemon would describe it now."""
        healthy = inventory(self.trace)
        gpus = [
            replace(
                gpu,
                health=GpuHealthName.QUARANTINED if gpu.index in self.sick else gpu.health,
                health_reason="XID_79" if gpu.index in self.sick else "",
                foreign_memory_bytes=LONG_MEMORY if gpu.index in self.foreign else 0,
            )
            for gpu in healthy.gpus
        ]
        return replace(healthy, boot_id=str(self.boot), gpus=tuple(gpus))

    def reports(self) -> tuple[AttemptReport, ...]:
        return tuple(
            process.end or AttemptReport(process.order.attempt_id, process.state)
            for process in self.processes.values()
        )


class TroubledMachines:
    """All machines of a simulation. Jobs take what is drawn for them, and now and then fail."""

    def __init__(self, cluster: VirtualCluster, nodes: list[TraceNode], random: Random) -> None:
        self._cluster = cluster
        self._random = random
        self.machines = {node.name: Machine(node) for node in nodes}
        # On the machines, jobs and GPUs that are in use: nothing may be used twice.
        self._running_jobs: dict[str, str] = {}
        self._held: dict[str, int] = {}
        # Mean time that a job runs.
        self.mean_seconds = 300.0

    # ----------------------------------------------------------------------- what it is told

    def receive(self, effect: Effect) -> None:
        machine = self.machines.get(getattr(effect, "node_name", ""))
        if machine is None or machine.away_since is not None:
            return
        match effect:
            case StartAttempt():
                self._start(machine, effect.order)
            case StopAttempt():
                self._stop(machine, effect.attempt_id)
            case ForgetAttempt():
                self._forget(machine, effect.attempt_id)
            case _:
                pass

    def _start(self, machine: Machine, order: AttemptOrder) -> None:
        if order.attempt_id in machine.processes:
            return
        other = self._running_jobs.get(order.job_id)
        if other is not None:
            raise Untrue(f"{order.attempt_id} was started while {other} runs")
        process = machine.processes[order.attempt_id] = Process(order)
        self._running_jobs[order.job_id] = order.attempt_id
        for share in order.gpus:
            held = self._held[share.uuid] = self._held.get(share.uuid, 0) + share.milli
            if held > GPU:
                raise Untrue(f"{held} thousandths of GPU {share.uuid} are in use")
        self._cluster.call_at(
            self._cluster.now + self._random.uniform(0.1, 3.0), lambda: self._run(machine, process)
        )

    def _run(self, machine: Machine, process: Process) -> None:
        if process.end is not None or process.stopping:
            return
        order, now = process.order, self._cluster.now
        if order.build_attempt_id:
            self._report(machine, AttemptReport(order.build_attempt_id, AttemptState.RUNNING))
            self._report(
                machine,
                AttemptReport(order.build_attempt_id, AttemptState.EXITED, exit_code=0),
            )
        process.state = AttemptState.RUNNING
        self._report(machine, AttemptReport(order.attempt_id, AttemptState.RUNNING, start_time=now))
        seconds = self._random.expovariate(1.0 / self.mean_seconds)
        code = 1 if self._random.random() < 0.05 else 0
        self._cluster.call_at(now + seconds, lambda: self._end(machine, process, exit_code=code))
        if seconds > 60 and self._random.random() < 0.5:
            self._cluster.call_at(now + seconds / 2, lambda: self._save(machine, process))

    def _save(self, machine: Machine, process: Process) -> None:
        if process.end is None and machine.away_since is None:
            self._cluster.send(
                CheckpointWritten(machine.trace.name, process.order.attempt_id, self._cluster.now)
            )

    def _stop(self, machine: Machine, attempt_id: str) -> None:
        process = machine.processes.get(attempt_id)
        if process is None:
            self._report(machine, AttemptReport(attempt_id, AttemptState.LOST))
        elif process.end is None and not process.stopping:
            process.stopping = True
            end = self._cluster.now + self._random.uniform(0.1, 20.0)
            self._cluster.call_at(end, lambda: self._end(machine, process, exit_signal=SIGTERM))

    def _forget(self, machine: Machine, attempt_id: str) -> None:
        process = machine.processes.get(attempt_id)
        if process is not None and process.end is not None:
            del machine.processes[attempt_id]

    def _end(
        self,
        machine: Machine,
        process: Process,
        *,
        exit_code: int | None = None,
        exit_signal: int = 0,
        reason: str = "",
    ) -> None:
        order = process.order
        if process.end is not None or machine.processes.get(order.attempt_id) is not process:
            return
        process.end = AttemptReport(
            order.attempt_id,
            AttemptState.EXITED,
            reason=reason,
            exit_code=exit_code,
            exit_signal=exit_signal,
            end_time=self._cluster.now,
        )
        self._give_back(process)
        self._report(machine, process.end)

    def _give_back(self, process: Process) -> None:
        order = process.order
        if self._running_jobs.get(order.job_id) == order.attempt_id:
            del self._running_jobs[order.job_id]
        for share in order.gpus:
            self._held[share.uuid] -= share.milli

    def _report(self, machine: Machine, report: AttemptReport) -> None:
        if machine.away_since is None:
            self._cluster.send(AttemptReported(machine.trace.name, report))

    # ---------------------------------------------------------------------------- what happens

    def connect(self, machine: Machine) -> None:
        """A session opens; it tells and hears all."""
        if machine.away_since is None:
            return
        machine.away_since = None
        opened = self._cluster.send(
            NodeConnected(machine.inventory(), machine.epoch, machine.reports())
        )
        assert isinstance(opened, SessionOpened)
        wanted = {order.attempt_id for order in opened.desired}
        wanted.update(stop.attempt_id for stop in opened.stopping)
        for attempt_id in opened.forget:
            self._forget(machine, attempt_id)
        for process in machine.running():
            if process.order.attempt_id not in wanted:
                self._end(machine, process, exit_signal=SIGKILL)
        for order in opened.desired:
            self._start(machine, order)
        for stop in opened.stopping:
            self._stop(machine, stop.attempt_id)

    def cut(self, machine: Machine) -> None:
        """Its session ends. Jobs go on, but for those that are to stop without contact."""
        if machine.away_since is not None:
            return
        cluster, since = self._cluster, self._cluster.now
        machine.away_since = since
        cluster.send(NodeDisconnected(machine.trace.name, machine.epoch))
        cluster.call_at(since + LEASE_SECONDS, lambda: self._expire(machine, since))
        for process in machine.running():
            timeout = process.order.contact_timeout_seconds
            if timeout:
                cluster.call_at(since + timeout, self._giving_up(machine, process, since))

    def _giving_up(self, machine: Machine, process: Process, since: float) -> Action:
        def give_up() -> None:
            if machine.away_since == since:
                self._end(machine, process, exit_signal=SIGKILL, reason="NO_CONTACT")

        return give_up

    def _expire(self, machine: Machine, since: float) -> None:
        name = machine.trace.name
        if machine.away_since == since and name in self._cluster.cluster.nodes:
            self._cluster.send(NodeLeaseExpired(name))

    def restart(self, machine: Machine) -> None:
        """Of the daemon: its processes go on."""
        self.cut(machine)
        machine.epoch += 1

    def reboot(self, machine: Machine) -> None:
        """No process survives; ends that were written down do."""
        self.restart(machine)
        machine.boot += 1
        for process in machine.running():
            self._drop(machine, process)

    def burn(self, machine: Machine) -> None:
        """The machine is destroyed, an admin says so, and a new one will get its name."""
        self.reboot(machine)
        machine.processes.clear()
        machine.sick.clear()
        machine.foreign.clear()
        if machine.trace.name in self._cluster.cluster.nodes:
            self._cluster.send(NodeForgotten(machine.trace.name))

    def _drop(self, machine: Machine, process: Process) -> None:
        del machine.processes[process.order.attempt_id]
        self._give_back(process)

    def flap(self, machine: Machine, late: bool) -> None:
        """Its samples stop coming, or come again."""
        if machine.away_since is None and machine.late is not late:
            machine.late = late
            self._cluster.send(NodeTelemetryLate(machine.trace.name, late))

    def set_gpus(self, machine: Machine, sick: set[int], foreign: set[int]) -> None:
        """Some of its GPUs fail or come back, or somebody else uses them."""
        machine.sick, machine.foreign = sick, foreign
        if machine.away_since is None:
            self._cluster.send(NodeInventoryChanged(machine.inventory(), machine.epoch))

    def busy(self) -> list[str]:
        """Attempts that still run somewhere."""
        return [
            process.order.attempt_id
            for machine in self.machines.values()
            for process in machine.running()
        ]
