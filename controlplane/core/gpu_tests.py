"""Tests of GPUs that come back after a quarantine: made, given up, and what an admin says instead.

What follows from their ends stands in `quarantine.py`. Where a device plugin chooses the GPU of a
job none can be aimed at one: there a GPU is open again after it was healthy for long enough.
"""

from __future__ import annotations

from dataclasses import replace

from controlplane.core.draft import Draft, Outcome
from controlplane.core.experiments import create, kill
from controlplane.core.gpu_words import IN_PROBATION, TEST_FAILED
from controlplane.core.quarantine import drop, find, with_quarantines
from controlplane.core.views import closed_reason, node_taints
from controlplane.domain.errors import FailedPrecondition, NotFound
from controlplane.domain.events import ExperimentSubmitted, GpuReleased
from controlplane.domain.model import Node, User
from riseml.spec.system_test import gpu_test


def start_due_tests(draft: Draft) -> None:
    """Submits the test that is due for longest, if any: one at a time, for each takes a number of
    its user. Opens GPUs that are due and cannot be tested.
    """
    due: list[tuple[float, str, str]] = []
    for name in draft.cluster.quarantined:
        node = draft.node(name)
        if node is None or closed_reason(node):
            continue
        for quarantine in node.quarantines:
            time = quarantine.test_time
            if time is not None and time <= draft.now and not quarantine.test_id:
                due.append((time, name, quarantine.uuid))
    for _, name, uuid in sorted(due):
        node = draft.node(name)
        if node is not None and node.inventory.capabilities.whole_gpus:
            draft.put_node(drop(node, uuid))
            draft.wake_scheduler()
            continue
        owner = None if node is None else _owner(draft, node)
        if node is not None and owner is not None:
            _start(draft, node, uuid, owner)
            return


def _owner(draft: Draft, node: Node) -> User | None:
    """Whose test it is: an admin's, or that of the only user whose jobs the node runs."""
    only = node.inventory.capabilities.only_user
    users = [
        user
        for user in draft.cluster.users.values()
        if user.enabled and (user.name == only if only else user.admin)
    ]
    return min(users, key=lambda user: (user.create_time, user.name), default=None)


def _start(draft: Draft, node: Node, uuid: str, owner: User) -> None:
    spec = gpu_test(node.name, uuid, node_taints(node))
    experiment = create(draft, ExperimentSubmitted(owner.name, "", spec))
    tested = [
        replace(one, test_id=experiment.id, test_time=None) if one.uuid == uuid else one
        for one in node.quarantines
    ]
    draft.put_node(with_quarantines(node, tested))
    draft.wake_scheduler()


def give_up_tests(draft: Draft, before: Node, after: Node | None, message: str) -> None:
    """Kills tests that `before` had and `after` has not."""
    kept = {quarantine.test_id for quarantine in after.quarantines} if after is not None else set()
    for quarantine in before.quarantines:
        if quarantine.test_id and quarantine.test_id not in kept:
            experiment = draft.experiment(quarantine.test_id)
            if experiment is not None and not experiment.state.ended:
                kill(draft, experiment, message, force=False)


def gpu_released(draft: Draft, event: GpuReleased) -> Outcome:
    """Reply: Node. An admin says that a GPU is well. FailedPrecondition while its node itself says
    that it is not.
    """
    node = draft.node(event.node_name)
    if node is None:
        raise NotFound(
            f"There is no node {event.node_name!r}: `riseml node list` shows all.",
            reason="NODE_NOT_FOUND",
            metadata={"node": event.node_name},
        )
    gpu = next((gpu for gpu in node.inventory.gpus if gpu.uuid == event.uuid), None)
    quarantine = find(node, event.uuid)
    if gpu is None and quarantine is None:
        raise NotFound(
            f"Node {node.name} has no GPU {event.uuid}.",
            reason="GPU_NOT_FOUND",
            metadata={"node": node.name, "gpu": event.uuid},
        )
    if quarantine is None:
        return draft.outcome(node)
    if gpu is not None and gpu.health_reason not in (IN_PROBATION, TEST_FAILED):
        raise FailedPrecondition(
            f"GPU {gpu.index} of node {node.name} is {gpu.health.lower()} by its driver "
            f"({gpu.health_message or gpu.health_reason}): that has to be over first.",
            reason="GPU_SICK",
            metadata={"node": node.name, "gpu": event.uuid},
        )
    after = drop(node, event.uuid)
    draft.put_node(after)
    give_up_tests(draft, node, after, f"GPU released by {event.by_user}")
    draft.wake_scheduler()
    return draft.outcome(after)
