"""What one node and each of its GPUs mean for an experiment, as data: a picture and its words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from controlplane.domain.plan import PendingCode
from controlplane.domain.snapshot import GangRequest, NodeView, RunningGang
from controlplane.explain.explanation import GpuCode
from controlplane.explain.groups import told
from controlplane.explain.holdings import Holdings
from controlplane.explain.nodes import hardest, judge_node, judge_nodes
from riseml.spec.model import GIB
from tests.unit.explain.traces import (
    CLOCK,
    HOUR,
    NOON,
    foreign,
    node_trace,
    quarantined,
    running,
    seen,
    with_gpu,
)
from tests.unit.scheduler.pictures import gang, node, resources


@dataclass(frozen=True)
class Case:
    name: str
    view: NodeView
    gang: GangRequest
    code: PendingCode | None
    words: str
    running: tuple[RunningGang, ...] = ()
    kept: Mapping[int, str] = field(default_factory=dict)
    given: Mapping[int, str] = field(default_factory=dict)


FOUR = gang(1, resources(4000))
BUSY = PendingCode.GPUS_BUSY

CASES = [
    Case("room", node("n1", [1000] * 4), FOUR, None, "n1 has 4 of 4 GPUs free."),
    Case(
        "everything that can be in the way at once",
        quarantined(
            foreign(node("gpu-3", [1000] * 4 + [0, 0, 1000, 1000]), 7, 812, "ana"),
            6,
            "xid_79",
            NOON - 1.8 * HOUR,
        ),
        gang(1, resources(8000)),
        BUSY,
        "gpu-3 has 4 of 8 GPUs free: 2 are held by paul.17 until about 14:00, 1 is quarantined "
        "(XID 79, 10:12), 1 is used by process 812 of user ana that RiseML did not start (2 GiB).",
        (running("paul.17", ("gpu-3", (4, 5)), hours=3),),
    ),
    Case(
        "all held by one without an end",
        node("n1", [0, 0]),
        FOUR,
        BUSY,
        "n1 has none of 2 GPUs free: all are held by bo.4 with no known end.",
        (running("bo.4", ("n1", (0, 1))),),
    ),
    Case(
        "being stopped",
        node("n1", [0]),
        gang(1, resources(1000)),
        BUSY,
        "n1 has its GPU not free: 1 is held by bo.4, which is being stopped and is gone by 12:01.",
        (running("bo.4", ("n1", (0,)), hours=9, stopping_until=NOON + 60),),
    ),
    Case(
        "being stopped for another",
        node("n1", [0]),
        gang(1, resources(1000)),
        BUSY,
        "n1 has its GPU not free: 1 is held by bo.4, which makes room for ana.9 and is gone by "
        "12:01.",
        (running("bo.4", ("n1", (0,)), stopping_until=NOON + 60, stopping_for="ana.9"),),
    ),
    Case(
        "past its time",
        node("n1", [0, 0]),
        FOUR,
        BUSY,
        "n1 has none of 2 GPUs free: 1 is held by bo.4, which is about to end, 1 is held by bo.5 "
        "until about 12:30 tomorrow.",
        (running("bo.4", ("n1", (0,)), hours=1), running("bo.5", ("n1", (1,)), hours=25.5)),
    ),
    Case(
        "shares of one GPU",
        node("n1", [200, 1000]),
        gang(1, resources(2000)),
        BUSY,
        "n1 has 1 of 2 GPUs free: 1 is shared: 0.5 held by ana.3 until about 13:00, 0.3 held by "
        "bo.4 with no known end and 0.2 free.",
        (
            running("ana.3", ("n1", (0,)), milli=500, hours=2),
            running("bo.4", ("n1", (0,)), milli=300),
        ),
    ),
    Case(
        "no GPU has so large a part free",
        node("n1", [400]),
        gang(1, resources(500)),
        BUSY,
        "n1 has no GPU with 0.5 or more free: 1 is shared: 0.6 held by bo.4 with no known end and "
        "0.4 free.",
        (running("bo.4", ("n1", (0,)), milli=600),),
    ),
    Case(
        "kept for another",
        node("n1", [1000] * 4),
        FOUR,
        PendingCode.RESERVED,
        "n1 has 2 of 4 GPUs free: 2 are free and kept for ana.9.",
        kept={0: "ana.9", 1: "ana.9"},
    ),
    Case(
        "given in the same cycle",
        node("n1", [1000] * 4),
        FOUR,
        BUSY,
        "n1 has 3 of 4 GPUs free: 1 is just given to ana.9.",
        given={0: "ana.9"},
    ),
    Case(
        "lost, in probation, unknown, another's without a name",
        with_gpu(
            with_gpu(
                with_gpu(
                    with_gpu(
                        node("n1", [1000] * 5),
                        0,
                        {"health": "LOST"},
                        usable=False,
                        unusable_reason="fell off the bus",
                    ),
                    1,
                    {"health": "PROBATION"},
                    usable=False,
                    probation=True,
                ),
                2,
                {"health": "UNKNOWN"},
                usable=False,
                unusable_reason="telemetry is late",
            ),
            3,
            {"foreign_memory_bytes": 1 << 30},
            usable=False,
            unusable_reason="used by process 1 of user eve",
        ),
        FOUR,
        PendingCode.GPUS_UNUSABLE,
        "n1 has 1 of 5 GPUs free: 1 is lost (fell off the bus), 1 is in probation: it has to pass "
        "a test first, 1 is used by process 1 of user eve, 1 is in an unknown state (telemetry is "
        "late).",
    ),
    Case(
        "another model",
        node("n1", [1000, 1000], model="T4"),
        gang(1, resources(1000, gpu_model="H100")),
        PendingCode.NO_MATCHING_GPU,
        "n1 has no H100 GPU.",
    ),
    Case(
        "one of two is of another model",
        with_gpu(node("n1", [1000, 1000]), 0, {"model": "T4", "name": "NVIDIA T4"}),
        gang(1, resources(2000, gpu_model="H100")),
        BUSY,
        "n1 has 1 of 2 GPUs free: 1 is no H100 GPU but T4.",
    ),
    Case(
        "GPUs are free but no CPUs",
        node("n1", [1000] * 2, cpus=16, free_cpus=2),
        gang(1, resources(2000, cpus=8)),
        PendingCode.CPU_BUSY,
        "n1 has 2 of 2 GPUs free and 2 of 16 CPUs free where 8 are wanted: bo.4 holds 14 CPUs "
        "until about 14:00.",
        (running("bo.4", ("n1", ()), cpus=14, hours=3),),
    ),
    Case(
        "no CPUs, many holders",
        node("n1", cpus=16, free_cpus=0),
        gang(1, resources(cpus=2)),
        PendingCode.CPU_BUSY,
        "n1 has 0 of 16 CPUs free where 2 are wanted: bo.0 holds 4 CPUs with no known end, bo.1 "
        "holds 4 CPUs with no known end, bo.2 holds 4 CPUs with no known end, 1 more hold the "
        "rest.",
        tuple(running(f"bo.{i}", ("n1", ()), cpus=4) for i in range(4)),
    ),
    Case(
        "no memory, no shared memory",
        node("n1", memory_bytes=8 * GIB, free_memory_bytes=GIB, shm_bytes=4 * GIB),
        gang(1, resources(memory_bytes=2 * GIB, shm_bytes=GIB)),
        PendingCode.MEMORY_BUSY,
        "n1 has 1Gi of 8Gi of memory free where 2Gi are wanted and 0B of 4Gi of /dev/shm free "
        "where 1Gi are wanted.",
    ),
    Case(
        "no ports",
        node("n1", free_ports=0),
        gang(1, resources(), resources()),
        PendingCode.PORTS_BUSY,
        "n1 has no rendezvous port free.",
    ),
    Case(
        "closed",
        node("n1", [1000] * 4, open=False, closed_reason="cordoned"),
        FOUR,
        PendingCode.NODES_CLOSED,
        "n1 is closed: cordoned.",
    ),
    Case(
        "tainted",
        node("n1", [1000] * 4, taints=(("team", "bio"), ("old", ""), ("big", "yes"))),
        gang(1, resources(4000), tolerations=(("big", ""),)),
        PendingCode.TAINTED,
        "n1 has the taints team=bio and old, which it does not tolerate.",
    ),
    Case(
        "labels",
        node("n1", [1000] * 4, labels=[("zone", "a")]),
        gang(1, resources(4000), node_selector=(("zone", "a"), ("disk", "ssd"))),
        PendingCode.NO_MATCHING_LABELS,
        "n1 does not have the label disk=ssd.",
    ),
    Case(
        "somebody's own",
        node("n1", [1000] * 4, only_user="bo"),
        FOUR,
        PendingCode.OTHER_USERS_NODE,
        "n1 runs jobs of bo only.",
    ),
    Case(
        "whole GPUs only",
        node("gpu-3", [1000] * 4, whole_gpus=True),
        gang(1, resources(500)),
        PendingCode.WHOLE_GPUS,
        "gpu-3 gives whole GPUs only: it runs pods, and its device plugin does not share GPUs.",
    ),
    Case(
        "no images",
        node("n1", [1000] * 4),
        gang(1, resources(4000), needs_image=True),
        PendingCode.NO_IMAGES,
        "n1 runs jobs as processes, not in an image.",
    ),
    Case(
        "output elsewhere",
        node("n1", [1000] * 4),
        gang(1, resources(4000), only_nodes=("n2",)),
        PendingCode.PINNED,
        "n1 does not have its earlier output, which lies on n2.",
    ),
    Case(
        "too few GPUs in all",
        node("n1", [1000] * 2),
        FOUR,
        PendingCode.TOO_LARGE,
        "n1 has 2 GPUs in all where 4 GPUs are asked for.",
    ),
    Case(
        "too few CPUs in all",
        node("n1", cpus=4),
        gang(1, resources(cpus=9)),
        PendingCode.TOO_LARGE,
        "n1 has 4 CPUs in all where 9 are asked for.",
    ),
    Case(
        "too little memory in all",
        node("n1", memory_bytes=GIB),
        gang(1, resources(memory_bytes=2 * GIB)),
        PendingCode.TOO_LARGE,
        "n1 has 1Gi of memory in all where 2Gi are asked for.",
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_node(case: Case) -> None:
    trace = node_trace(case.view, case.code, kept=case.kept, given=case.given)
    holdings = Holdings(seen(case.gang, [case.view], [trace], gangs=case.running).snapshot)
    judged = judge_node(case.view, trace, case.gang, hardest(case.gang), holdings, CLOCK)
    assert judged.verdict().message == case.words
    assert judged.verdict().fits is (case.code is None)


def test_each_gpu_has_a_code_and_a_time() -> None:
    view = quarantined(node("n1", [1000, 0, 0, 200, 1000, 1000]), 4, "xid_79")
    held = (
        running("bo.1", ("n1", (1,)), hours=3),
        running("bo.2", ("n1", (2,))),
        running("bo.3", ("n1", (3,)), milli=500, hours=2),
        running("bo.4", ("n1", (3,)), milli=300, hours=4),
    )
    wanted = gang(1, resources(1000))
    trace = node_trace(view, None, kept={5: "ana.9"})
    holdings = Holdings(seen(wanted, [view], [trace], gangs=held).snapshot)
    gpus = judge_node(view, trace, wanted, hardest(wanted), holdings, CLOCK).gpus()
    assert [(one.code, one.free_milli, one.experiment_ids, one.free_time) for one in gpus] == [
        (GpuCode.FREE, 1000, (), NOON),
        (GpuCode.HELD, 0, ("bo.1",), NOON + 2 * HOUR),
        (GpuCode.HELD, 0, ("bo.2",), None),
        (GpuCode.HELD, 200, ("bo.3", "bo.4"), NOON + 3 * HOUR),
        (GpuCode.QUARANTINED, 0, (), None),
        (GpuCode.RESERVED, 0, ("ana.9",), None),
    ]


def test_a_share_is_free_as_soon_as_enough_of_it_is() -> None:
    view = node("n1", [0])
    held = (
        running("bo.1", ("n1", (0,)), milli=400, hours=4),
        running("bo.2", ("n1", (0,)), milli=600, hours=2),
    )
    wanted = gang(1, resources(500))
    trace = node_trace(view, BUSY)
    holdings = Holdings(seen(wanted, [view], [trace], gangs=held).snapshot)
    (gpu,) = judge_node(view, trace, wanted, hardest(wanted), holdings, CLOCK).gpus()
    assert gpu.free_time == NOON + HOUR


def test_nodes_that_are_alike_are_told_together_nearest_first() -> None:
    busy = [node(f"gpu-{i:02}", [0] * 2) for i in range(40)]
    near = node("near", [1000, 0])
    old = [node(f"old-{i}", [1000], model="T4") for i in range(2)]
    wanted = gang(1, resources(2000, gpu_model="H100"))
    held = [running(f"bo.{i}", (view.name, (0, 1)), hours=3) for i, view in enumerate(busy)]
    picture = seen(
        wanted,
        [*old, *busy, near],
        [
            *[node_trace(view, PendingCode.NO_MATCHING_GPU) for view in old],
            *[node_trace(view, BUSY) for view in busy],
            node_trace(near, BUSY),
        ],
        gangs=[*held, running("bo.99", ("near", (1,)), hours=9)],
    )
    judged = judge_nodes(picture.trace, picture.views, Holdings(picture.snapshot), CLOCK)
    assert told(judged) == [
        "near has 1 of 2 GPUs free: 1 is held by bo.99 until about 20:00.",
        "40 nodes like gpu-00: each has none of 2 GPUs free; on gpu-00 all are held by bo.0 until "
        "about 14:00.",
        "  The others: gpu-01, gpu-02, gpu-03 and 36 more.",
        "2 nodes like old-0: each has no H100 GPU.",
        "  The other: old-1.",
    ]


def test_of_equal_lack_the_node_that_is_free_first_comes_first() -> None:
    views = [node(f"n{i}", [0]) for i in range(3)]
    wanted = gang(1, resources(1000))
    held = [
        running("bo.0", ("n0", (0,))),
        running("bo.1", ("n1", (0,)), hours=9),
        running("bo.2", ("n2", (0,)), hours=2),
    ]
    picture = seen(wanted, views, [node_trace(view, BUSY) for view in views], gangs=held)
    judged = judge_nodes(picture.trace, picture.views, Holdings(picture.snapshot), CLOCK)
    assert [one.name for one in judged] == ["n2", "n1", "n0"]


def test_a_long_list_of_kinds_is_cut() -> None:
    views = [node(f"n{i}", [1000] * i) for i in range(1, 13)]
    wanted = gang(1, resources(16_000))
    picture = seen(wanted, views, [node_trace(view, BUSY) for view in views])
    judged = judge_nodes(picture.trace, picture.views, Holdings(picture.snapshot), CLOCK)
    lines = told(judged, most=3)
    assert lines[0].startswith("n12 has 12 of 12 GPUs free")
    assert len(lines) == 4 and lines[-1].startswith("9 more nodes stand in 9 other ways")
