"""GPUs that were sick: what their nodes say of them, and what we make of it until a test passed.

A node forgets with its daemon that a GPU was sick, and some faults come back. So the control plane
remembers each quarantine:

    node says        and we know       the GPU is shown as
    sick             -                 what the node says, since when it began
    healthy          nothing           healthy
    healthy          a quarantine      in probation: only a test of it may use it, some time later
    healthy          a failed test     quarantined until the next test, later each time

A test that passed, or an admin, ends it; where a device plugin chooses the GPUs of jobs, time does.
All here is about values; tests are made in `gpu_tests.py`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from controlplane.core.gpu_words import IN_PROBATION, TEST_FAILED, moment, short_reason
from controlplane.domain.model import (
    Experiment,
    Gpu,
    GpuHealthName,
    GpuQuarantine,
    Node,
    NodeInventory,
)
from controlplane.domain.states import State
from riseml.spec.system_test import gpu_under_test

if TYPE_CHECKING:
    from controlplane.core.draft import Draft

LONGEST_WAIT_SECONDS: Final = 86_400.0

_SICK: Final = frozenset({GpuHealthName.QUARANTINED, GpuHealthName.LOST})


def admit(node: Node, inventory: NodeInventory, now: float, wait_seconds: float) -> Node:
    """The node with this inventory, which its daemon sent, as we see its GPUs.

    `wait_seconds`: how long a GPU has to be healthy before its first test.
    """
    known = {quarantine.uuid: quarantine for quarantine in node.quarantines}
    for gpu in inventory.gpus:
        quarantine = _heard(known.get(gpu.uuid), gpu, now, wait_seconds)
        if quarantine is not None:
            known[gpu.uuid] = quarantine
    return with_quarantines(replace(node, inventory=inventory), known.values())


def _heard(
    known: GpuQuarantine | None, gpu: Gpu, now: float, wait_seconds: float
) -> GpuQuarantine | None:
    """What is remembered after the node's word on one GPU."""
    if gpu.health in _SICK:
        begin = now if gpu.health_time is None else min(gpu.health_time, now)
        if known is None:
            return GpuQuarantine(
                gpu.uuid, gpu.health_reason, gpu.health_message, begin, wait_seconds
            )
        if known.healthy_time is None and known.reason == gpu.health_reason:
            return replace(known, message=gpu.health_message)
        return replace(
            known,
            reason=gpu.health_reason,
            message=gpu.health_message,
            begin_time=begin,
            healthy_time=None,
            test_time=None,
            test_id="",
            failure="",
            failure_time=None,
        )
    if known is None:
        return None
    if gpu.health == GpuHealthName.HEALTHY:
        if known.healthy_time is None:
            return replace(known, healthy_time=now, test_time=now + known.wait_seconds)
    elif not known.test_id:
        # Nothing is heard of it: it has to be healthy for the whole time.
        return replace(known, healthy_time=None, test_time=None)
    return known


def with_quarantines(node: Node, quarantines: Iterable[GpuQuarantine]) -> Node:
    """The node with these instead of those it had, and its GPUs as they are seen then."""
    kept = tuple(sorted(quarantines, key=lambda quarantine: quarantine.uuid))
    by_uuid = {quarantine.uuid: quarantine for quarantine in kept}
    tested = not node.inventory.capabilities.whole_gpus
    gpus = tuple([_seen(gpu, by_uuid.get(gpu.uuid), tested) for gpu in node.inventory.gpus])
    return replace(node, inventory=replace(node.inventory, gpus=gpus), quarantines=kept)


def as_said(gpu: Gpu, healthy_time: float | None = None) -> Gpu:
    """What the node said of a GPU that is in probation, or whose test failed, by our own word."""
    if gpu.health_reason not in (IN_PROBATION, TEST_FAILED):
        return gpu
    return replace(
        gpu,
        health=GpuHealthName.HEALTHY,
        health_reason="",
        health_message="",
        health_time=healthy_time,
    )


def _seen(gpu: Gpu, quarantine: GpuQuarantine | None, tested: bool) -> Gpu:
    gpu = as_said(gpu, None if quarantine is None else quarantine.healthy_time)
    if quarantine is None:
        return gpu
    if gpu.health in _SICK:
        return replace(gpu, health_time=quarantine.begin_time)
    if gpu.health != GpuHealthName.HEALTHY:
        return gpu
    failed = bool(quarantine.failure) and not quarantine.test_id
    return replace(
        gpu,
        health=GpuHealthName.QUARANTINED if failed else GpuHealthName.PROBATION,
        health_reason=TEST_FAILED if failed else IN_PROBATION,
        health_message=_words(quarantine, tested),
        health_time=quarantine.failure_time if failed else quarantine.healthy_time,
    )


def _words(quarantine: GpuQuarantine, tested: bool) -> str:
    was = f"{short_reason(quarantine.reason) or 'a fault'} ({moment(quarantine.begin_time)})"
    if quarantine.test_id:
        return f"well again after {was}; {quarantine.test_id} tests it"
    if not tested and quarantine.test_time is not None:
        return f"well again after {was}; jobs get it from {moment(quarantine.test_time)} on"
    due = "" if quarantine.test_time is None else f", due {moment(quarantine.test_time)}"
    if quarantine.failure:
        return f"{quarantine.failure}; waits for another test{due}"
    return f"well again after {was}; waits for its test{due}"


def find(node: Node, uuid: str) -> GpuQuarantine | None:
    """The quarantine of one of its GPUs."""
    return next((one for one in node.quarantines if one.uuid == uuid), None)


def put(node: Node, quarantine: GpuQuarantine) -> Node:
    """The node with this quarantine, new or changed."""
    others = [one for one in node.quarantines if one.uuid != quarantine.uuid]
    return with_quarantines(node, [*others, quarantine])


def drop(node: Node, uuid: str) -> Node:
    """The node without a quarantine of that GPU: it is what its node says."""
    return with_quarantines(node, [one for one in node.quarantines if one.uuid != uuid])


def note_test_end(draft: Draft, experiment: Experiment, state: State, message: str) -> None:
    """A test of a GPU has come to its end, if this was one that still counts."""
    uuid = gpu_under_test(experiment.spec)
    if not uuid:
        return
    for name in draft.cluster.quarantined:
        node = draft.node(name)
        quarantine = None if node is None else find(node, uuid)
        if node is None or quarantine is None or quarantine.test_id != experiment.id:
            continue
        if state is State.FINISHED:
            draft.put_node(drop(node, uuid))
            draft.wake_scheduler()
            continue
        if state is State.FAILED:
            quarantine = replace(
                quarantine,
                failure=f"its test {experiment.id} failed: {message}",
                failure_time=draft.now,
                wait_seconds=min(2 * quarantine.wait_seconds, LONGEST_WAIT_SECONDS),
            )
        next_time = None
        if quarantine.healthy_time is not None:
            next_time = draft.now + quarantine.wait_seconds
        draft.put_node(put(node, replace(quarantine, test_id="", test_time=next_time)))
