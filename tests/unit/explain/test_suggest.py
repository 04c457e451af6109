"""What is suggested works: each was tried by the scheduler itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import inf

import pytest

from controlplane.domain.model import Queue
from controlplane.domain.plan import GangPlacement, PendingCode, Plan, Reservation
from controlplane.domain.snapshot import (
    GangRequest,
    MemberPlacement,
    NodeView,
    QueueView,
    Snapshot,
)
from controlplane.explain.suggest import suggest
from controlplane.explain.trial import find_gang, with_gangs, without_gang
from controlplane.scheduler.cycle import schedule
from riseml.spec.model import GIB
from tests.unit.explain.traces import NOON, node_trace, seen
from tests.unit.scheduler.pictures import gang, node, resources, snapshot


@dataclass(frozen=True)
class Case:
    name: str
    nodes: Sequence[NodeView]
    gang: GangRequest
    codes: Sequence[PendingCode | None]
    suggestions: tuple[str, ...]
    reservations: Sequence[Reservation] = field(default_factory=tuple)


CASES = [
    Case(
        "fewer GPUs",
        [node("n1", [1000] * 4 + [0] * 4), node("n2", [1000] * 2)],
        gang(1, resources(8000)),
        [PendingCode.GPUS_BUSY, PendingCode.TOO_LARGE],
        ("With 4 GPUs instead of 8 it would start now on n1 (GPUs 0-3).",),
    ),
    Case(
        "a part of a GPU",
        [node("n1", [300, 480])],
        gang(1, resources(1000)),
        [PendingCode.GPUS_BUSY],
        ("With 0.45 of a GPU instead of 1 it would start now on n1 (0.45 of GPU 1).",),
    ),
    Case(
        "a smaller part of a GPU",
        [node("n1", [300])],
        gang(1, resources(500)),
        [PendingCode.GPUS_BUSY],
        ("With 0.3 of a GPU instead of 0.5 it would start now on n1 (0.3 of GPU 0).",),
    ),
    Case(
        "a whole GPU",
        [node("n1", [1000], whole_gpus=True), node("n2", [0])],
        gang(1, resources(500)),
        [PendingCode.WHOLE_GPUS, PendingCode.GPUS_BUSY],
        ("With 1 GPU instead of 0.5 it would start now on n1 (GPU 0).",),
    ),
    Case(
        "any model",
        [node("n1", [0, 0]), node("n2", [1000, 1000], model="A100")],
        gang(1, resources(2000, gpu_model="H100")),
        [PendingCode.GPUS_BUSY, PendingCode.NO_MATCHING_GPU],
        ("With any GPU model instead of H100 it would start now on n2 (GPUs 0, 1).",),
    ),
    Case(
        "smaller GPUs",
        [node("n1", [0]), node("n2", [1000], gpu_memory_bytes=40 * GIB)],
        gang(1, resources(1000, gpu_min_memory_bytes=80 * GIB)),
        [PendingCode.GPUS_BUSY, PendingCode.NO_MATCHING_GPU],
        ("With GPUs of 40Gi instead of 80Gi it would start now on n2 (GPU 0).",),
    ),
    Case(
        "any model and fewer, where neither helps alone",
        [node("n1", [0] * 4), node("n2", [1000] * 2, model="A100")],
        gang(1, resources(4000, gpu_model="H100")),
        [PendingCode.GPUS_BUSY, PendingCode.NO_MATCHING_GPU],
        ("With 2 GPUs instead of 4, of any kind, it would start now on n2 (GPUs 0, 1).",),
    ),
    Case(
        "fewer CPUs",
        [node("n1", [1000], free_cpus=6), node("n2", [0], free_cpus=12)],
        gang(1, resources(1000, cpus=8)),
        [PendingCode.CPU_BUSY, PendingCode.GPUS_BUSY],
        ("With 6 CPUs instead of 8 it would start now on n1 (GPU 0).",),
    ),
    Case(
        "less memory",
        [node("n1", [1000], free_memory_bytes=5 * GIB + 17)],
        gang(1, resources(1000, memory_bytes=8 * GIB)),
        [PendingCode.MEMORY_BUSY],
        ("With 5Gi of memory instead of 8Gi it would start now on n1 (GPU 0).",),
    ),
    Case(
        "without a label",
        [node("n1", [1000], labels=[("zone", "a")]), node("n2", [0], labels=[("zone", "b")])],
        gang(1, resources(1000), node_selector=(("zone", "b"),)),
        [PendingCode.NO_MATCHING_LABELS, PendingCode.GPUS_BUSY],
        ("Without zone=b in its node_selector it would start now on n1 (GPU 0).",),
    ),
    Case(
        "fewer nodes or fewer GPUs of a gang",
        [node("n1", [1000] * 2), node("n2", [1000] * 2), node("n3", [1000, 0])],
        gang(1, *[resources(2000)] * 3),
        [None, None, PendingCode.GPUS_BUSY],
        (
            "With 1 GPU per job instead of 2 it would start now on n1 (2 jobs, GPUs 0, 1) and n3 "
            "(GPU 0).",
            "With 2 nodes instead of 3 it would start now on n1 (GPUs 0, 1) and n2 (GPUs 0, 1).",
        ),
    ),
    Case(
        "nothing helps",
        [node("n1", [0])],
        gang(1, resources(1000)),
        [PendingCode.GPUS_BUSY],
        (),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_suggestions(case: Case) -> None:
    traces = [node_trace(view, code) for view, code in zip(case.nodes, case.codes, strict=True)]
    picture = seen(case.gang, case.nodes, traces)
    found = suggest(picture.snapshot, NOON, picture.trace, case.reservations, schedule)
    assert found == case.suggestions


def backfilling(snapshot: Snapshot, now: float) -> Plan:
    """Stands for a scheduler that keeps n1 from 100 minutes on for another."""
    placements = [
        GangPlacement(one.experiment_id, (MemberPlacement("j", "n1"),))
        for one in snapshot.pending
        if one.max_duration_seconds is not None and now + one.max_duration_seconds <= now + 6000
    ]
    return Plan(snapshot.version, tuple(placements))


def test_a_shorter_time_fits_before_a_reservation() -> None:
    view = node("n1", [1000])
    traces = [node_trace(view, PendingCode.RESERVED, kept={0: "bo.9"})]
    kept = (Reservation("bo.9", NOON + 6000, ("n1",)), Reservation("bo.8", inf, ("n1",)))
    for limit, instead in ((None, ""), (86_400, " instead of 1d")):
        wanted = gang(1, resources(1000), max_duration_seconds=limit)
        picture = seen(wanted, [view], traces)
        found = suggest(picture.snapshot, NOON, picture.trace, kept, backfilling)
        assert found == (f"With a max_duration of 1h30m{instead} it would start now on n1.",)


def by_queue(snapshot: Snapshot, now: float) -> Plan:
    """Stands for a scheduler for which only one queue has room left."""
    placements = [
        GangPlacement(one.experiment_id, (MemberPlacement("j", "n1"),))
        for one in snapshot.pending
        if one.queue == "research"
    ]
    return Plan(snapshot.version, tuple(placements))


def test_another_queue_is_tried() -> None:
    view = node("n1", [1000])
    picture = seen(gang(1, resources(1000)), [view], [node_trace(view, PendingCode.QUEUE_LIMIT)])
    queues = tuple(QueueView(Queue(name)) for name in ("default", "bio", "research"))
    with_queues = replace(picture.snapshot, queues=queues)
    found = suggest(with_queues, NOON, picture.trace, (), by_queue)
    assert found == ("In queue research instead of default it would start now on n1.",)


def test_it_stops_when_there_is_no_time_left() -> None:
    tried: list[float] = []

    def counting(snapshot: Snapshot, now: float) -> Plan:
        tried.append(now)
        return Plan(snapshot.version)

    view = node("n1", [1000] * 4 + [0] * 4)
    picture = seen(gang(1, resources(8000)), [view], [node_trace(view, PendingCode.GPUS_BUSY)])
    may_go_on = iter([True, True, False, False])
    suggest(picture.snapshot, NOON, picture.trace, (), counting, lambda: next(may_go_on, False))
    assert len(tried) == 2


def test_the_others_still_wait_while_one_is_tried() -> None:
    """Room that others get first is not promised again."""
    view = node("n1", [1000] * 4 + [0] * 4)
    picture = seen(
        gang(9, resources(8000), submit_time=NOON),
        [view],
        [node_trace(view, PendingCode.GPUS_BUSY)],
    )
    other = gang(1, resources(3000), user="bo", submit_time=NOON - 100)
    busy = with_gangs(picture.snapshot, [other])
    found = suggest(busy, NOON, picture.trace, (), schedule)
    assert found == ("With 1 GPU instead of 8 it would start now on n1 (GPU 3).",)


def test_a_gang_joins_the_line_of_its_equals_and_leaves_it() -> None:
    first, second = gang(1, resources(1000)), gang(3, resources(1000))
    between, other = gang(2, resources(1000)), gang(4, resources(2000))
    picture = snapshot([], [first, second])
    more = with_gangs(picture, [between, other])
    assert [[g.experiment_id for g in line] for line in more.pending.lines] == [
        ["ana.1", "ana.2", "ana.3"],
        ["ana.4"],
    ]
    assert find_gang(more, "ana.2") == between and find_gang(more, "ana.9") is None
    assert list(picture.pending) == [first, second]
    less = without_gang(without_gang(more, "ana.2"), "ana.4")
    assert list(less.pending) == [first, second] and len(less.pending.lines) == 1
