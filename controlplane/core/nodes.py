"""Sessions of nodes: what they run against what they should run, leases, cordon and drain."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from controlplane.core.attempts import lose, record
from controlplane.core.derive import members_of
from controlplane.core.devices import align
from controlplane.core.draft import Draft, Outcome
from controlplane.core.gpu_tests import give_up_tests
from controlplane.core.lifecycle import advance, is_build, stop_attempt
from controlplane.core.orders import build_order, peers_of, run_commands
from controlplane.core.quarantine import admit
from controlplane.core.settings import Settings
from controlplane.domain import reasons
from controlplane.domain.effects import EndSession, SessionOpened, StopAttempt
from controlplane.domain.errors import FailedPrecondition, NotFound
from controlplane.domain.events import (
    NodeConnected,
    NodeCordoned,
    NodeDisconnected,
    NodeDrained,
    NodeForgotten,
    NodeInventoryChanged,
    NodeLeaseExpired,
    NodeTainted,
    NodeTelemetryLate,
)
from controlplane.domain.model import Attempt, AttemptOrder, AttemptReport, Node, NodeStateName
from controlplane.domain.states import AttemptState

SICK_AGAIN: Final = "the GPU that it tests is not healthy any more"


def connected(draft: Draft, event: NodeConnected, settings: Settings) -> Outcome:
    """Reply: SessionOpened. FailedPrecondition STALE_EPOCH for a daemon that another replaced."""
    inventory = event.inventory
    name = inventory.node_name
    old = draft.node(name)
    if old is not None and event.epoch < old.epoch:
        raise FailedPrecondition(
            f"A newer daemon of node {name} has connected (epoch {old.epoch}, yours "
            f"{event.epoch}): two daemons must not serve one node.",
            reason="STALE_EPOCH",
            metadata={"node": name, "epoch": str(old.epoch)},
        )
    if old is not None and event.epoch > old.epoch and old.state == NodeStateName.READY:
        draft.effect(EndSession(name, old.epoch))
    node = Node(
        name=name,
        inventory=inventory,
        epoch=event.epoch,
        state=NodeStateName.READY,
        cordoned=old is not None and old.cordoned,
        draining=old is not None and old.draining,
        taints=() if old is None else old.taints,
        # A new session says nothing of its samples.
        telemetry_late=old is not None and old.telemetry_late,
        connect_time=draft.now,
        last_seen_time=draft.now,
        quarantines=() if old is None else old.quarantines,
    )
    node = admit(node, inventory, draft.now, settings.probation_seconds)
    draft.put_node(node)
    # Pods may outlive a reboot, and whoever watches them tells of each: their node's says nothing.
    rebooted = (
        old is not None
        and old.inventory.boot_id != inventory.boot_id
        and not inventory.capabilities.pod_network
    )
    forget = _reconcile(draft, node, event.attempts, rebooted)
    _align_gpus(draft, node, event.given)
    if old is not None:
        give_up_tests(draft, old, draft.node(name), SICK_AGAIN)
    draft.wake_scheduler()
    desired, stopping = _desired(draft, node, settings)
    return draft.outcome(SessionOpened(desired, stopping, forget))


def _reconcile(
    draft: Draft, node: Node, reports: Iterable[AttemptReport], rebooted: bool
) -> tuple[str, ...]:
    """Takes over what the node reports and gives up what it does not know of.

    Returns reported attempts whose end is recorded, or that nobody knows and that have ended.
    """
    said = {report.attempt_id: report for report in reports}
    touched: dict[str, None] = {}
    forget: list[str] = []
    for report in said.values():
        attempt = draft.attempt(report.attempt_id)
        if report.state.ended:
            forget.append(report.attempt_id)
        if attempt is None or attempt.node_name != node.name:
            continue
        if attempt.state.ended and not report.state.ended:
            continue
        if record(draft, attempt, report):
            touched[attempt.experiment_id] = None
    for attempt in draft.attempts_on(node.name):
        if attempt.id in said or attempt.state.ended:
            continue
        touched[attempt.experiment_id] = None
        if is_build(draft, attempt):
            # It begins anew, or ends, with the attempt that needs it.
            draft.put_attempt(replace(attempt, node_lost=False))
        elif rebooted:
            lose(draft, attempt, reasons.LOST, f"node {node.name} was started anew")
        elif attempt.state is not AttemptState.ASSIGNED:
            lose(draft, attempt, reasons.LOST, _gone(node))
        else:
            draft.put_attempt(replace(attempt, node_lost=False))
    for experiment_id in touched:
        advance(draft, experiment_id)
    return tuple(forget)


def _gone(node: Node) -> str:
    if node.inventory.capabilities.pod_network:
        return f"its pod on node {node.name} is gone"
    return f"node {node.name} does not know of it any more"


def _desired(
    draft: Draft, node: Node, settings: Settings
) -> tuple[tuple[AttemptOrder, ...], tuple[StopAttempt, ...]]:
    """Orders for all that the node should run, and which of it is being stopped."""
    desired: list[AttemptOrder] = []
    stopping: list[StopAttempt] = []
    nodes = {**draft.cluster.nodes, node.name: node}
    for attempt in draft.attempts_on(node.name):
        experiment = draft.experiment(attempt.experiment_id)
        job = draft.job(attempt.job_id)
        if attempt.state.ended or experiment is None or job is None or job.rank < 0:
            continue
        members = members_of(
            draft.jobs_of(experiment.id), draft.attempts_of(experiment.id), attempt.generation
        )
        peers, run = peers_of(members, nodes), run_commands(experiment.spec, experiment.parameters)
        desired.append(build_order(experiment, job, attempt, peers, run, settings))
        if attempt.stop_reason:
            stopping.append(StopAttempt(node.name, attempt.id, attempt.stop_reason))
    return tuple(desired), tuple(stopping)


def disconnected(draft: Draft, event: NodeDisconnected) -> Outcome:
    """Reply: None. The end of an older session than the present one means nothing."""
    node = draft.node(event.node_name)
    if node is not None and node.epoch == event.epoch and node.state == NodeStateName.READY:
        draft.put_node(replace(node, state=NodeStateName.DISCONNECTED, last_seen_time=draft.now))
    return draft.outcome()


def started(draft: Draft) -> Outcome:
    """Reply: None. After a restart no node has a session, and lost ones get their time again."""
    for node in draft.cluster.nodes.values():
        if node.state == NodeStateName.READY:
            draft.put_node(replace(node, state=NodeStateName.DISCONNECTED))
        elif node.state == NodeStateName.LOST:
            draft.put_node(replace(node, lost_time=draft.now))
    draft.wake_scheduler()
    return draft.outcome()


def lease_expired(draft: Draft, event: NodeLeaseExpired) -> Outcome:
    """Reply: None. What runs there is unknown from now on: it keeps its allocation."""
    node = draft.node(event.node_name)
    if node is None or node.state == NodeStateName.LOST:
        return draft.outcome()
    draft.put_node(
        replace(
            node,
            state=NodeStateName.LOST,
            message="not heard of for longer than its lease",
            lost_time=draft.now,
        )
    )
    # Should the daemon be heard again, it has to introduce itself anew.
    draft.effect(EndSession(node.name, node.epoch))
    touched: dict[str, None] = {}
    for attempt in draft.attempts_on(node.name):
        draft.put_attempt(replace(attempt, node_lost=True))
        touched[attempt.experiment_id] = None
    for experiment_id in touched:
        advance(draft, experiment_id)
    return draft.outcome()


def telemetry_late(draft: Draft, event: NodeTelemetryLate) -> Outcome:
    """Reply: None. What runs there goes on; nothing new starts while its telemetry is late."""
    node = draft.node(event.node_name)
    if node is not None and node.telemetry_late is not event.late:
        draft.put_node(replace(node, telemetry_late=event.late))
        if not event.late:
            draft.wake_scheduler()
    return draft.outcome()


def inventory_changed(draft: Draft, event: NodeInventoryChanged, settings: Settings) -> Outcome:
    """Reply: None. From an older session it means nothing."""
    node = draft.node(event.inventory.node_name)
    if node is None or node.epoch != event.epoch:
        return draft.outcome()
    after = admit(node, event.inventory, draft.now, settings.probation_seconds)
    if after != node:
        draft.put_node(after)
        give_up_tests(draft, node, after, SICK_AGAIN)
        draft.wake_scheduler()
    _align_gpus(draft, after, event.given)
    return draft.outcome()


def _align_gpus(draft: Draft, node: Node, given: Iterable[tuple[str, tuple[str, ...]]]) -> None:
    """Where a device plugin chooses, attempts have the GPUs that they were seen with."""
    if not node.inventory.capabilities.whole_gpus:
        return
    attempts = draft.attempts_on(node.name)
    for attempt_id, gpus in align(node.inventory.gpus, attempts, dict(given)).items():
        attempt = draft.attempt(attempt_id)
        if attempt is not None:
            draft.put_attempt(replace(attempt, gpus=gpus))
            draft.wake_scheduler()


def cordoned(draft: Draft, event: NodeCordoned) -> Outcome:
    """Reply: Node. Opening it again ends a drain as well."""
    node = _known(draft, event.node_name)
    draining = node.draining and event.cordoned
    node = replace(node, cordoned=event.cordoned, draining=draining)
    draft.put_node(node)
    draft.wake_scheduler()
    return draft.outcome(node)


def drained(draft: Draft, event: NodeDrained) -> Outcome:
    """Reply: Node. What runs there is stopped and waits for another place, uncounted."""
    node = replace(_known(draft, event.node_name), cordoned=True, draining=True)
    draft.put_node(node)
    touched: dict[str, None] = {}
    for attempt in draft.attempts_on(node.name):
        if not is_build(draft, attempt) and not attempt.stop_reason:
            stop_attempt(draft, attempt, reasons.STOP_DRAINED)
            touched[attempt.experiment_id] = None
    for experiment_id in touched:
        advance(draft, experiment_id)
    return draft.outcome(node)


def tainted(draft: Draft, event: NodeTainted) -> Outcome:
    """Reply: Node."""
    node = replace(_known(draft, event.node_name), taints=tuple(sorted(set(event.taints))))
    draft.put_node(node)
    draft.wake_scheduler()
    return draft.outcome(node)


def forgotten(draft: Draft, event: NodeForgotten) -> Outcome:
    """Reply: None. What ran there is gone; FailedPrecondition while the node has a session."""
    node = _known(draft, event.node_name)
    if node.state == NodeStateName.READY:
        raise FailedPrecondition(
            f"Node {node.name} is connected: stop its daemon and what it runs, or drain it.",
            reason="NODE_CONNECTED",
            metadata={"node": node.name},
        )
    lose_all(draft, draft.attempts_on(node.name), f"node {node.name} was given up by an admin")
    give_up_tests(draft, node, None, f"node {node.name} was given up by an admin")
    draft.delete(node)
    draft.wake_scheduler()
    return draft.outcome()


def lose_all(draft: Draft, attempts: Iterable[Attempt], message: str) -> None:
    """These attempts are gone, and their experiments move on."""
    touched: dict[str, None] = {}
    for attempt in attempts:
        if not attempt.state.ended:
            lose(draft, attempt, reasons.NODE_LOST, message)
            touched[attempt.experiment_id] = None
    for experiment_id in touched:
        advance(draft, experiment_id)


def _known(draft: Draft, name: str) -> Node:
    node = draft.node(name)
    if node is None:
        raise NotFound(
            f"There is no node {name!r}: `riseml node list` shows all.",
            reason="NODE_NOT_FOUND",
            metadata={"node": name},
        )
    return node
