"""Scenarios as data: nodes, who waits, and what comes of it."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from controlplane.domain.snapshot import GangRequest, NodeView
from controlplane.scheduler.cycle import schedule
from riseml.spec.model import GIB
from tests.unit.scheduler.pictures import NOW, gang, node, placed, resources, snapshot, why


@dataclass(frozen=True)
class Scenario:
    name: str
    nodes: list[NodeView]
    pending: list[GangRequest]
    placed: dict[str, list[str]] = field(default_factory=dict)
    why: dict[str, list[str]] = field(default_factory=dict)


WHOLE = [1000, 1000]

SCENARIOS = [
    Scenario("nothing waits", [node("n1")], []),
    Scenario("no nodes", [], [gang(1, resources())], why={"ana.1": ["NO_NODES"]}),
    Scenario(
        "a CPU job leaves the GPU node alone",
        [node("a-gpu", WHOLE), node("b-cpu")],
        [gang(1, resources())],
        {"ana.1": ["b-cpu"]},
    ),
    Scenario(
        "a CPU job takes the GPU node when there is no other",
        [node("a-gpu", WHOLE), node("b-cpu", free_cpus=0)],
        [gang(1, resources())],
        {"ana.1": ["a-gpu"]},
    ),
    Scenario(
        "CPU jobs fill one node before the next",
        [node("n1", cpus=8), node("n2", cpus=8, free_cpus=4)],
        [gang(1, resources(cpus=2)), gang(2, resources(cpus=2)), gang(3, resources(cpus=2))],
        {"ana.1": ["n2"], "ana.2": ["n2"], "ana.3": ["n1"]},
    ),
    Scenario(
        "one GPU goes to the node with the fewest free ones",
        [node("n1", [1000] * 4), node("n2", [0, 0, 1000, 1000])],
        [gang(1, resources(1000))],
        {"ana.1": ["n2:2"]},
    ),
    Scenario(
        "a large job still finds its whole node",
        [node("n1", [1000] * 4), node("n2", [1000] * 4)],
        [gang(1, resources(1000)), gang(2, resources(1000)), gang(3, resources(4000))],
        {"ana.1": ["n1:0"], "ana.2": ["n1:1"], "ana.3": ["n2:0,1,2,3"]},
    ),
    Scenario(
        "a share goes to the shared GPU that it fills best",
        [node("n1", [1000, 600]), node("n2", [500, 1000])],
        [gang(1, resources(500)), gang(2, resources(500)), gang(3, resources(500))],
        {"ana.1": ["n2:0(500)"], "ana.2": ["n1:1(500)"], "ana.3": ["n2:1(500)"]},
    ),
    Scenario(
        "a share lives on one GPU",
        [node("n1", [400, 400])],
        [gang(1, resources(500))],
        why={"ana.1": ["GPUS_BUSY"]},
    ),
    Scenario(
        "whole GPUs are wholly free ones",
        [node("n1", [1000, 900])],
        [gang(1, resources(2000))],
        why={"ana.1": ["GPUS_BUSY"]},
    ),
    Scenario(
        "two halves and a whole share two GPUs",
        [node("n1", WHOLE)],
        [gang(1, resources(500)), gang(2, resources(500)), gang(3, resources(1000))],
        {"ana.1": ["n1:0(500)"], "ana.2": ["n1:0(500)"], "ana.3": ["n1:1"]},
    ),
    Scenario(
        "an unusable GPU is not given",
        [node("n1", WHOLE, unusable=[0])],
        [gang(1, resources(1000)), gang(2, resources(2000))],
        {"ana.1": ["n1:1"]},
        {"ana.2": ["GPUS_UNUSABLE"]},
    ),
    Scenario(
        "a model is matched by its words",
        [node("n1", WHOLE, model="A100-SXM4-40GB"), node("n2", WHOLE, model="H100 80GB HBM3")],
        [gang(1, resources(1000, gpu_model="h100")), gang(2, resources(1000, gpu_model="L4"))],
        {"ana.1": ["n2:0"]},
        {"ana.2": ["!", "NO_MATCHING_GPU"]},
    ),
    Scenario(
        "GPUs without a wish leave the large ones to others",
        [node("n1", WHOLE), node("n2", WHOLE, model="T4", gpu_memory_bytes=16 * GIB)],
        [gang(1, resources(1000)), gang(2, resources(1000, gpu_min_memory_bytes=40 * GIB))],
        {"ana.1": ["n2:0"], "ana.2": ["n1:0"]},
    ),
    Scenario(
        "memory of each GPU counts",
        [node("n1", WHOLE, gpu_memory_bytes=40 * GIB)],
        [gang(1, resources(1000, gpu_min_memory_bytes=80 * GIB))],
        why={"ana.1": ["!", "NO_MATCHING_GPU"]},
    ),
    Scenario(
        "labels choose nodes, a node's name among them",
        [node("n1"), node("n2", labels=[("disk", "ssd")]), node("n3")],
        [
            gang(1, resources(), node_selector=(("disk", "ssd"),)),
            gang(2, resources(), node_selector=(("riseml.com/node", "n3"),)),
            gang(3, resources(), node_selector=(("disk", "tape"),)),
        ],
        {"ana.1": ["n2"], "ana.2": ["n3"]},
        {"ana.3": ["!", "NO_MATCHING_LABELS"]},
    ),
    Scenario(
        "a node of another user is not used",
        [node("n1", only_user="bo")],
        [gang(1, resources()), gang(1, resources(), user="bo")],
        {"bo.1": ["n1"]},
        {"ana.1": ["!", "OTHER_USERS_NODE"]},
    ),
    Scenario(
        "a resumed experiment goes where its output lies",
        [node("n1"), node("n2", free_cpus=0)],
        [gang(1, resources(), only_nodes=("n2",))],
        why={"ana.1": ["CPU_BUSY", "PINNED"]},
    ),
    Scenario(
        "a closed node takes nothing, and may open again",
        [node("n1", open=False, closed_reason="cordoned"), node("n2", free_cpus=0)],
        [gang(1, resources())],
        why={"ana.1": ["CPU_BUSY", "NODES_CLOSED"]},
    ),
    Scenario(
        "too large for every node is impossible, wherever it is closed",
        [node("n1", cpus=4), node("n2", cpus=8, open=False, closed_reason="lost")],
        [gang(1, resources(cpus=9)), gang(2, resources(cpus=8))],
        why={"ana.1": ["!", "TOO_LARGE"], "ana.2": ["NODES_CLOSED", "TOO_LARGE"]},
    ),
    Scenario(
        "memory runs out before CPUs",
        [node("n1", free_memory_bytes=GIB)],
        [gang(1, resources(memory_bytes=2 * GIB))],
        why={"ana.1": ["MEMORY_BUSY"]},
    ),
    Scenario(
        "a gang is placed whole over two nodes",
        [node("n1", WHOLE), node("n2", WHOLE)],
        [gang(1, resources(2000), resources(2000))],
        {"ana.1": ["n1:0,1", "n2:0,1"]},
    ),
    Scenario(
        "a gang waits rather than half starts, and a later small one goes first",
        [node("n1", WHOLE), node("n2", [1000, 0])],
        [gang(1, resources(2000), resources(2000)), gang(2, resources(1000))],
        {"ana.2": ["n2:0"]},
        {"ana.1": ["GANG_INCOMPLETE", "GPUS_BUSY"]},
    ),
    Scenario(
        "the hardest member of a gang is placed first",
        [node("n1", WHOLE)],
        [gang(1, resources(), resources(500), resources(1000))],
        {"ana.1": ["n1", "n1:1(500)", "n1:0"]},
    ),
    Scenario(
        "a gang needs a free port for each member",
        [node("n1", free_ports=1)],
        [gang(1, resources(), resources()), gang(2, resources())],
        {"ana.2": ["n1"]},
        {"ana.1": ["GANG_INCOMPLETE"]},
    ),
    Scenario(
        "a gang of more members than the cluster holds is impossible",
        [node("n1", WHOLE), node("n2", WHOLE)],
        [gang(1, *[resources(2000)] * 3)],
        why={"ana.1": ["!", "TOO_LARGE"]},
    ),
    Scenario(
        "priority goes before age",
        [node("n1", [1000])],
        [gang(1, resources(1000)), gang(2, resources(1000), priority=90)],
        {"ana.2": ["n1:0"]},
        {"ana.1": ["GPUS_BUSY"]},
    ),
    Scenario(
        "children of one moment start in the order of their numbers",
        [node("n1", cpus=2)],
        [
            gang(0, resources(), experiment_id=f"ana.7.{child}", submit_time=1.0)
            for child in (10, 2, 1)
        ],
        {"ana.7.1": ["n1"], "ana.7.2": ["n1"]},
        {"ana.7.10": ["CPU_BUSY"]},
    ),
    Scenario(
        "a node that shrank below what runs on it takes nothing",
        [node("n1", free_cpu_milli=-2000, free_memory_bytes=-GIB)],
        [gang(1, resources())],
        why={"ana.1": ["CPU_BUSY"]},
    ),
    Scenario(
        "small ones pass a large one that has not waited long",
        [node("n1", [1000, 0])],
        [gang(1, resources(2000), waited=100), gang(2, resources(1000))],
        {"ana.2": ["n1:0"]},
        {"ana.1": ["GPUS_BUSY"]},
    ),
    Scenario(
        "room is kept for a large one that has waited long",
        [node("n1", [1000, 0])],
        [gang(1, resources(2000), waited=301), gang(2, resources(1000)), gang(3, resources())],
        {"ana.3": ["n1"]},
        {"ana.1": ["GPUS_BUSY"], "ana.2": ["RESERVED"]},
    ),
    Scenario(
        "kept room is on the node that lacks least, others go on",
        [node("n1", [0, 0]), node("n2", [1000, 0]), node("n3", [1000, 0])],
        [gang(1, resources(2000), waited=301), gang(2, resources(1000)), gang(3, resources(1000))],
        {"ana.2": ["n3:0"]},
        {"ana.1": ["GPUS_BUSY"], "ana.3": ["RESERVED"]},
    ),
    Scenario(
        "kept room is not kept from a higher priority",
        [node("n1", [1000, 0])],
        [gang(1, resources(2000), waited=301), gang(2, resources(1000), priority=51)],
        {"ana.2": ["n1:0"]},
        {"ana.1": ["GPUS_BUSY"]},
    ),
    Scenario(
        "no room is kept for what the open nodes could not hold",
        [node("n1", [1000, 1000, 0], unusable=[2]), node("n2", open=False, closed_reason="lost")],
        [gang(1, resources(3000), waited=9000), gang(2, resources(1000))],
        {"ana.2": ["n1:0"]},
        {"ana.1": ["GPUS_UNUSABLE", "NO_MATCHING_GPU"]},
    ),
    Scenario(
        "room is kept for a gang on each node that it needs",
        [node("n1", [1000, 0]), node("n2", [1000, 1000]), node("n3", [1000])],
        [gang(1, resources(2000), resources(2000), waited=301), gang(2, resources(1000))],
        {"ana.2": ["n3:0"]},
        {"ana.1": ["GANG_INCOMPLETE", "GPUS_BUSY", "TOO_LARGE"]},
    ),
]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_scenario(scenario: Scenario) -> None:
    picture = snapshot(scenario.nodes, scenario.pending)
    plan = schedule(picture, NOW)
    assert plan.version == 7
    assert placed(plan) == scenario.placed
    assert why(plan, picture) == scenario.why


def test_the_large_one_starts_in_the_end_although_small_ones_keep_coming() -> None:
    """Each cycle one small job ends and another comes; without the rule `ana.1` never starts."""
    free = [0, 0, 0, 0]
    small = 100
    for minute in range(30):
        free[minute % 4] = 1000
        small += 1
        plan = schedule(
            snapshot(
                [node("n1", free)],
                [gang(1, resources(3000), waited=minute * 60.0), gang(small, resources(1000))],
            ),
            NOW,
        )
        if "ana.1" in placed(plan):
            assert minute <= 8
            return
        for placement in plan.placements:
            for share in placement.members[0].gpus:
                free[int(share.uuid.removeprefix("n1-"))] -= share.milli
    raise AssertionError("it starved")
