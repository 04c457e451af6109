"""Why an experiment waits, as data: what a cycle saw, and what is said of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf

import pytest

from controlplane.domain.plan import (
    Decision,
    DecisionKind,
    Eviction,
    PendingCode,
    PendingReason,
    Reservation,
)
from controlplane.domain.snapshot import Held, MemberPlacement
from controlplane.domain.states import State
from controlplane.explain.explanation import StartEstimate
from controlplane.explain.waiting import Seen, explain_waiting
from tests.unit.explain.traces import CLOCK, HOUR, NOON, ORDER, node_trace, running, seen
from tests.unit.scheduler.pictures import gang, node, resources

BUSY = PendingReason(
    PendingCode.GPUS_BUSY, "The only node has too few free GPUs: 4 asked for, 2 free", ("n1",)
)
FOUR = gang(17, resources(4000), submit_time=NOON - 700)
N1 = node("n1", [1000, 1000, 0, 0])
NODES = (node_trace(N1, PendingCode.GPUS_BUSY),)
ORDER_LINE = (
    "Nobody came before it in this cycle. Queue default held 4 GPUs, 50 % of the cluster; its "
    "weight of 1 entitles it to 100 %."
)
NODE_LINE = "n1 has 2 of 4 GPUs free: 2 are held."


@dataclass(frozen=True)
class Case:
    name: str
    seen: Seen
    summary: str
    lines: tuple[str, ...]


def kept(name: str, start_time: float) -> Reservation:
    return Reservation(name, start_time, ("n1",), (MemberPlacement("j", "n1"),))


CASES = [
    Case(
        "others hold the GPUs",
        seen(FOUR, [N1], NODES, [BUSY], gangs=[running("bo.1", ("n1", (2, 3)), hours=3)]),
        "ana.17 has waited 12m for 4 GPUs, 1 CPU and 1Gi on one node: the only node has too few "
        "free GPUs: 4 asked for, 2 free.",
        ("n1 has 2 of 4 GPUs free: 2 are held by bo.1 until about 14:00.", ORDER_LINE),
    ),
    Case(
        "no node yet",
        seen(FOUR, [], [], [PendingReason(PendingCode.NO_NODES, "The cluster has no node yet")]),
        "ana.17 has waited 12m for 4 GPUs, 1 CPU and 1Gi on one node: the cluster has no node yet.",
        ("The cluster has no node yet.", ORDER_LINE),
    ),
    Case(
        "impossible",
        seen(
            gang(17, resources(8000)),
            [N1],
            [node_trace(N1, PendingCode.TOO_LARGE)],
            [PendingReason(PendingCode.TOO_LARGE, "The only node has too few GPUs in all")],
            impossible=True,
        ),
        "ana.17 asks for 8 GPUs, 1 CPU and 1Gi on one node, and no node of this cluster could ever "
        "hold it: the only node has too few GPUs in all. It waits in case that changes.",
        ("n1 has 4 GPUs in all where 8 GPUs are asked for.", ORDER_LINE),
    ),
    Case(
        "a gang lacks one place",
        seen(
            gang(17, *[resources(2000)] * 3, submit_time=NOON - 60),
            [N1],
            NODES,
            [
                PendingReason(PendingCode.GANG_INCOMPLETE, "1 of 3 jobs find a place now"),
                replace(BUSY, message="told by the nodes"),
            ],
        ),
        "ana.17 has waited 1m for 3 jobs with 2 GPUs, 1 CPU and 1Gi each, all at once: 1 of 3 jobs "
        "find a place now.",
        (NODE_LINE, ORDER_LINE),
    ),
    Case(
        "the queue is at its limit, and by the way the node is full",
        seen(
            FOUR,
            [N1],
            NODES,
            [
                PendingReason(PendingCode.QUEUE_LIMIT, "Queue default holds 4 of at most 4 GPUs"),
                replace(BUSY, code=PendingCode.SET_CONCURRENCY, message="Something else"),
                BUSY,
            ],
        ),
        "ana.17 has waited 12m for 4 GPUs, 1 CPU and 1Gi on one node: queue default holds 4 of at "
        "most 4 GPUs.",
        ("Something else.", NODE_LINE, ORDER_LINE),
    ),
    Case(
        "room is kept for it from a time on",
        seen(FOUR, [N1], NODES, [BUSY], reservation=kept("ana.17", NOON + HOUR)),
        "ana.17 has waited 12m for 4 GPUs, 1 CPU and 1Gi on one node: the only node has too few "
        "free GPUs: 4 asked for, 2 free.",
        (
            "Room is kept for it on n1 from about 13:00 on; until then others use it only if they "
            "end before.",
            NODE_LINE,
            ORDER_LINE,
        ),
    ),
    Case(
        "room is kept for it, nobody knows until when",
        seen(FOUR, [N1], NODES, [BUSY], reservation=kept("ana.17", inf)),
        "ana.17 has waited 12m for 4 GPUs, 1 CPU and 1Gi on one node: the only node has too few "
        "free GPUs: 4 asked for, 2 free.",
        (
            "What becomes free on n1 is kept for it; nobody knows when that will be enough, for "
            "some that run there name no max_duration.",
            NODE_LINE,
            ORDER_LINE,
        ),
    ),
    Case(
        "the room there is is kept for another",
        seen(
            gang(17, resources(1000)),
            [N1],
            [node_trace(N1, PendingCode.RESERVED, kept={0: "bo.9", 1: "bo.9"})],
            [PendingReason(PendingCode.RESERVED, "The room on n1 is kept for bo.9")],
            more={"reservations": (kept("bo.9", NOON + HOUR), kept("bo.8", NOON))},
        ),
        "ana.17 waits although there is room for it: the room on n1 is kept for bo.9.",
        (
            "n1 has none of 4 GPUs free: 2 are held, 2 are free and kept for bo.9.",
            "Room on n1 is kept for bo.9, which should start at about 13:00.",
            "Room on n1 is kept for bo.8, which should start at about 12:00.",
            ORDER_LINE,
        ),
    ),
    Case(
        "others make room for it",
        seen(
            FOUR,
            [N1],
            NODES,
            [BUSY],
            gangs=[
                running(
                    "bo.1",
                    ("n1", (2, 3)),
                    grace_period_seconds=120.0,
                )
            ],
            evictions=(
                Eviction("bo.1", "ana.17", "ana.17 has the higher priority", 1200.0),
                Eviction("bo.gone", "ana.17", "too", 0.0),
            ),
        ),
        "ana.17 starts as soon as others have made room for it.",
        (
            "bo.1 makes room for it and is gone by 12:02 (lost: 20 GPU-minutes).",
            "bo.gone makes room for it (lost: no work).",
            "n1 has 2 of 4 GPUs free: 2 are held by bo.1 with no known end.",
            ORDER_LINE,
        ),
    ),
    Case(
        "others are on their way out for it",
        seen(
            FOUR,
            [N1],
            NODES,
            [PendingReason(PendingCode.PREEMPTING, "bo.1 makes room for it, within 30s"), BUSY],
        ),
        "ana.17 starts as soon as others have made room for it: bo.1 makes room for it, within "
        "30s.",
        (NODE_LINE, ORDER_LINE),
    ),
    Case(
        "its queue may never hold so much",
        seen(
            FOUR,
            [N1],
            NODES,
            [PendingReason(PendingCode.QUEUE_LIMIT, "Queue default may hold 2 GPUs at once")],
            impossible=True,
        ),
        "ana.17 asks for 4 GPUs, 1 CPU and 1Gi on one node, and its queue may never hold so much: "
        "queue default may hold 2 GPUs at once. It waits in case that changes.",
        (NODE_LINE, ORDER_LINE),
    ),
    Case(
        "its place was gone when it came to it",
        seen(
            FOUR,
            [N1],
            [node_trace(N1)],
            more={"rejected": "node n1 is disconnected"},
            decision=Decision("ana.17", DecisionKind.PLACED),
        ),
        "ana.17 was to start, but the cluster had changed meanwhile: node n1 is disconnected. It "
        "is tried again.",
        ("n1 has 2 of 4 GPUs free: 2 are held.", ORDER_LINE),
    ),
    Case(
        "its place in the order",
        seen(
            FOUR,
            [N1],
            NODES,
            [BUSY],
            order=replace(
                ORDER,
                before=5,
                before_in_queue=2,
                queue_weight=3,
                queue_held=Held(1000),
                queue_share=0.126,
                queue_fair_share=0.75,
                user_recent_seconds=7300.0,
            ),
        ),
        "ana.17 has waited 12m for 4 GPUs, 1 CPU and 1Gi on one node: the only node has too few "
        "free GPUs: 4 asked for, 2 free.",
        (
            NODE_LINE,
            "5 experiments came before it in this cycle, 2 of its own queue. Queue default held 1 "
            "GPU, 13 % of the cluster; its weight of 3 entitles it to 75 %.",
            "ana lately used as much as the whole cluster in 2h2m; of equal priority those who "
            "used less come first.",
        ),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_waiting(case: Case) -> None:
    found = explain_waiting(case.seen, CLOCK)
    assert found.summary == case.summary
    assert found.lines == case.lines
    assert found.state is State.PENDING
    assert (found.cycle_number, found.cycle_time) == (7, NOON)
    assert found.reasons == case.seen.trace.reasons


def test_an_estimate_is_passed_on_unless_it_can_never_start() -> None:
    estimate = StartEstimate(NOON, None, "by what is known")
    picture = seen(FOUR, [N1], NODES, [BUSY])
    assert explain_waiting(picture, CLOCK, estimate, ("x",)).estimate == estimate
    never = replace(picture, trace=replace(picture.trace, impossible=True))
    assert explain_waiting(never, CLOCK, estimate).estimate is None


def test_a_reservation_shows_where_it_would_go() -> None:
    picture = seen(FOUR, [N1], NODES, [BUSY], reservation=kept("ana.17", inf))
    assert [member.node_name for member in explain_waiting(picture, CLOCK).members] == ["n1"]
