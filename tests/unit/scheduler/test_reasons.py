"""What a user reads when an experiment waits: whole sentences with numbers."""

from __future__ import annotations

import time

from controlplane.domain.plan import PendingCode
from controlplane.domain.snapshot import GangRequest, NodeView
from controlplane.scheduler.cycle import schedule
from riseml.spec.model import GIB
from tests.unit.scheduler.pictures import NOW, gang, node, resources, snapshot, waiting

MIXED = [
    node("n1", [1000, 0, 0, 0]),
    node("n2", [0, 0, 0, 0]),
    node("n3", [1000] * 4, open=False, closed_reason="cordoned"),
    node("n4"),
]


def messages(nodes: list[NodeView], *pending: GangRequest) -> list[str]:
    """Of the last that waits."""
    picture = snapshot(nodes, pending)
    plan = schedule(picture, NOW)
    return [reason.message for reason in waiting(plan, picture)[-1].reasons]


def test_busy_closed_and_missing_gpus_are_told_apart() -> None:
    assert messages(MIXED, gang(1, resources(2000))) == [
        "2 of 4 nodes have too few free GPUs: 2 asked for, at most 1 free",
        "1 of 4 nodes is closed (n3 cordoned)",
        "1 of 4 nodes has no GPU",
    ]


def test_reasons_carry_nodes_and_numbers() -> None:
    reason = schedule(snapshot(MIXED, [gang(1, resources(2000))]), NOW).waiting[0].reasons[0]
    assert reason.code is PendingCode.GPUS_BUSY
    assert reason.node_names == ("n1", "n2")
    assert (reason.needed, reason.available) == (2000, 1000)


def test_an_impossible_wish_is_told_with_what_there_is() -> None:
    assert messages(MIXED, gang(1, resources(8000))) == [
        "3 of 4 nodes have too few GPUs in all: 8 asked for, at most 4 on one node",
        "1 of 4 nodes has no GPU",
    ]
    assert messages([node("n1")], gang(1, resources(memory_bytes=100 * GIB))) == [
        "The only node has too little memory in all: 100Gi asked for, 64Gi on one node"
    ]


def test_a_model_and_a_memory_are_named() -> None:
    wish = resources(1000, gpu_model="L4", gpu_min_memory_bytes=20 * GIB)
    assert messages([node("n1", [1000])], gang(1, wish)) == [
        "The only node has no L4 GPU of 20Gi or more"
    ]


def test_a_share_is_told_as_a_share() -> None:
    assert messages([node("n1", [200]), node("n2", [100])], gang(1, resources(500))) == [
        "All 2 nodes have no GPU with enough of it free: 0.5 asked for, at most 0.2 free"
    ]


def test_cpus_and_memory_are_told_in_their_units() -> None:
    assert messages([node("n1", free_cpus=0)], gang(1, resources(cpus=4))) == [
        "The only node has too few free CPUs: 4 asked for, none free"
    ]
    assert messages(
        [node("n1", free_memory_bytes=3 << 29)], gang(1, resources(memory_bytes=GIB * 2))
    ) == ["The only node has too little free memory: 2Gi asked for, 1.5Gi free"]


def test_unusable_gpus_are_named_with_what_is_wrong() -> None:
    assert messages([node("n1", [1000, 1000], unusable=[1])], gang(1, resources(2000))) == [
        "The only node has too few usable GPUs (n1 GPU 1: XID 79): 2 asked for, 1 usable"
    ]


def test_a_gang_is_told_how_much_of_it_would_fit() -> None:
    assert messages([node("n1", [1000, 1000, 0])], gang(1, *[resources(1000)] * 3))[0] == (
        "2 of 3 jobs with 1 GPU, 1 CPUs, 1Gi find a place now; "
        "all 3 of the experiment start together"
    )
    assert messages([node("n1", [1000])], gang(1, *[resources(1000)] * 3))[0] == (
        "The nodes that it may use hold at most 1 of its 3 jobs with 1 GPU, 1 CPUs, 1Gi, "
        "even when nothing else runs"
    )


def test_kept_room_names_for_whom_and_how_long_it_waited() -> None:
    large = gang(1, resources(2000), waited=720)
    assert messages([node("n1", [1000, 0])], large, gang(2, resources(1000))) == [
        "The room there is on n1 is kept for ana.1, which has waited for 12m"
    ]


def test_labels_users_and_pins_are_named() -> None:
    nodes = [node("n1", only_user="bo"), node("n2"), node("n3")]
    assert messages(nodes, gang(1, resources(), node_selector=(("disk", "ssd"), ("gen", "4")))) == [
        "All 3 nodes have not the labels disk=ssd, gen=4"
    ]
    assert messages(nodes[:1], gang(1, resources())) == ["The only node only runs jobs of bo"]
    assert messages(nodes[1:], gang(1, resources(), only_nodes=("n9",))) == [
        "All 2 nodes have not its earlier output, which lies on n9"
    ]


def test_whole_gpus_and_images_are_told_apart_from_what_is_too_small() -> None:
    nodes = [node("n1", [1000], whole_gpus=True), node("n2", [1000] * 4, whole_gpus=True)]
    assert messages([*nodes, node("n3")], gang(1, resources(500))) == [
        "2 of 3 nodes give whole GPUs only, where 0.5 is asked for",
        "1 of 3 nodes has no GPU",
    ]
    assert messages(nodes[:1], gang(1, resources(500))) == [
        "The only node gives whole GPUs only, where 0.5 is asked for"
    ]
    imaged = gang(1, resources(), needs_image=True)
    assert messages([node("n1"), node("n2")], imaged) == [
        "All 2 nodes run jobs as processes, not in an image"
    ]


def test_many_nodes_are_not_all_named() -> None:
    closed = [node(f"n{i}", open=False, closed_reason="lost") for i in range(5)]
    assert messages(closed, gang(1, resources())) == [
        "All 5 nodes are closed (n0 lost, n1 lost, n2 lost and 2 more)"
    ]


def test_equal_experiments_share_their_reasons() -> None:
    picture = snapshot(MIXED, [gang(n, resources(2000)) for n in range(50)])
    plan = schedule(picture, NOW)
    assert len(plan.waiting) == 1
    assert len(waiting(plan, picture)) == 50


def test_a_thousand_equal_experiments_take_one_short_cycle() -> None:
    picture = snapshot([node("n1", cpus=64)], [gang(n, resources()) for n in range(1000)])
    assert len(schedule(picture, NOW).placements) == 64
    seconds = []
    for _ in range(5):
        begin = time.thread_time()
        schedule(picture, NOW)
        seconds.append(time.thread_time() - begin)
    # About 7 ms of processor time; the bound leaves room for slower machines.
    assert min(seconds) < 0.03
