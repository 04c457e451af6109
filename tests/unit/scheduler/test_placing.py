"""Where single jobs go: caches change nothing, and each rule of the score shows."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.domain.model import Gpu, PlacementStyle
from controlplane.domain.snapshot import Backlog, GpuView, Mix, NodeView, Snapshot
from controlplane.scheduler.policy import POLICIES
from controlplane.scheduler.room import Room
from riseml.spec.model import GIB, Resources
from tests.unit.scheduler.pictures import gang, node, resources

PACK, SPREAD = PlacementStyle.PACK, PlacementStyle.SPREAD


def place(
    nodes: list[NodeView],
    *wanted: Resources,
    mix: Mix = (),
    style: PlacementStyle = PACK,
    policy: str = "riseml",
) -> list[str] | None:
    """`n1:0,1` by member."""
    room = Room(POLICIES[policy])
    room.load(Snapshot(1, tuple(nodes), Backlog(), mix=mix))
    members = room.place(gang(1, *wanted), style, None)
    if members is None:
        return None
    return [
        f"{m.node_name}:" + ",".join(s.uuid.removeprefix(f"{m.node_name}-") for s in m.gpus)
        for m in members
    ]


@dataclass(frozen=True)
class Case:
    """One job or one gang, and where it goes."""

    name: str
    nodes: list[NodeView]
    wanted: list[Resources]
    placed: list[str] | None
    mix: Mix = ()
    style: PlacementStyle = PACK


WHOLE = resources(1000, cpus=4)
THIRD = resources(300, cpus=1)
CASES = [
    Case(
        "a share goes where what is left is still of use",
        [node("n1", [1000]), node("n2", [600])],
        [THIRD],
        ["n2:0"],
        ((WHOLE, 0.5), (THIRD, 0.5)),
    ),
    Case(
        "a share that leaves a rest that nobody can use takes a fresh GPU while matches may come",
        [node("n1", [1000]), node("n2", [500])],
        [resources(400, cpus=1)],
        ["n1:0"],
        ((resources(400, cpus=1), 0.5), (resources(500, cpus=1), 0.5)),
    ),
    Case(
        "a job that needs many CPUs goes where GPUs do not run out of them",
        [node("n1", [1000] * 2, cpus=8), node("n2", [1000] * 2, cpus=32)],
        [resources(1000, cpus=8)],
        ["n2:0"],
        ((WHOLE, 1.0),),
    ),
    Case(
        "models that choosy jobs need are left to them",
        [node("n1", [1000], model="A100"), *[node(f"n{i}", [1000]) for i in range(2, 6)]],
        [WHOLE],
        ["n2:0"],
        ((WHOLE, 0.9), (replace(WHOLE, gpu_model="A100"), 0.1)),
    ),
    Case(
        "whole nodes are left to those who need them",
        [node("n1", [1000] * 4, cpus=64), node("n2", [1000] * 3 + [0], cpus=64)],
        [WHOLE],
        ["n2:0"],
        ((WHOLE, 0.9), (resources(4000, cpus=16), 0.1)),
    ),
    Case(
        "jobs without GPUs stay off nodes with GPUs",
        [node("n1", [1000]), node("n2")],
        [resources(0, cpus=2)],
        ["n2:"],
    ),
    Case(
        "to spread, the emptiest",
        [node("n1", [1000, 500]), node("n2", [1000, 1000])],
        [THIRD],
        ["n2:0"],
        style=SPREAD,
    ),
    Case(
        "to spread, each member on another node as long as there are some",
        [node("n1", [1000] * 4), node("n2", [1000] * 2)],
        [WHOLE, WHOLE, WHOLE],
        ["n1:0", "n2:0", "n1:1"],
        style=SPREAD,
    ),
    Case(
        "a gang takes few nodes",
        [node("n1", [1000]), node("n2", [1000]), node("n3", [1000] * 4)],
        [WHOLE] * 3,
        ["n3:0", "n3:1", "n3:2"],
    ),
    Case(
        "a gang that needs two nodes takes them in one rack",
        [
            node("n1", [1000] * 2, labels=[("riseml.com/rack", "a")]),
            node("n2", [1000] * 2, labels=[("riseml.com/rack", "b")]),
            node("n3", [1000] * 2, labels=[("riseml.com/rack", "b")]),
        ],
        [resources(2000)] * 2,
        ["n2:0,1", "n3:0,1"],
    ),
    Case(
        "a gang that fits in no rack is placed all the same",
        [node(f"n{i}", [1000], labels=[("riseml.com/rack", str(i))]) for i in range(3)],
        [WHOLE] * 3,
        ["n0:0", "n1:0", "n2:0"],
    ),
    Case(
        "shared memory counts where its size is known",
        [
            node("n1", [1000], shm_bytes=8 * GIB, free_shm_bytes=1 * GIB),
            node("n2", [1000], shm_bytes=8 * GIB, free_shm_bytes=4 * GIB),
        ],
        [replace(WHOLE, shm_bytes=2 * GIB)],
        ["n2:0"],
    ),
    Case(
        "taints keep away who does not tolerate them",
        [node("n1", [1000], taints=(("spot", ""),)), node("n2", [1000])],
        [WHOLE],
        ["n2:0"],
    ),
    Case("what fits nowhere is not placed", [node("n1", [500, 500])], [WHOLE], None),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_where_it_goes(case: Case) -> None:
    assert place(case.nodes, *case.wanted, mix=case.mix, style=case.style) == case.placed


def with_groups(view: NodeView, nvlink: list[int], pcie: list[int]) -> NodeView:
    gpus = [
        replace(one, gpu=replace(one.gpu, nvlink_group=n, pcie_group=p))
        for one, n, p in zip(view.gpus, nvlink, pcie, strict=True)
    ]
    return replace(view, gpus=tuple(gpus))


def test_several_gpus_come_from_one_nvlink_group_and_then_from_one_switch() -> None:
    nvlink = with_groups(node("n1", [1000] * 4), [0, 1, 0, 1], [0, 0, 1, 1])
    assert place([nvlink], resources(2000)) == ["n1:0,2"]
    switch = with_groups(node("n1", [1000] * 4), [-1] * 4, [0, 1, 1, 0])
    assert place([switch], resources(2000)) == ["n1:0,3"]


def test_several_gpus_go_to_the_node_where_they_are_closest() -> None:
    far = with_groups(node("n1", [1000, 0, 1000, 0]), [0, 0, 1, 1], [0, 0, 1, 1])
    near = with_groups(node("n2", [1000] * 4), [0, 0, 1, 1], [0, 0, 1, 1])
    assert place([far, near], resources(2000)) == ["n2:0,1"]
    assert place([far, near], resources(1000)) != ["n2:0"]


def test_a_single_gpu_comes_from_the_group_that_is_broken_already() -> None:
    broken = with_groups(node("n1", [1000, 1000, 0, 1000]), [0, 0, 1, 1], [0, 0, 1, 1])
    assert place([broken], resources(1000)) == ["n1:3"]


def test_on_a_node_with_several_models_only_those_asked_for_are_taken() -> None:
    one = node("n1", [1000, 1000, 400])
    gpus = tuple(
        replace(view, gpu=Gpu(f"n1-{i}", i, "NVIDIA A100", "A100", 40 * GIB)) if i else view
        for i, view in enumerate(one.gpus)
    )
    mixed = replace(one, gpus=gpus)
    assert place([mixed], resources(1000, gpu_model="A100")) == ["n1:1"]
    assert place([mixed], resources(2000, gpu_model="A100")) is None
    assert place([mixed], resources(2000)) == ["n1:0,1"]
    assert place([mixed], resources(300, gpu_model="A100")) == ["n1:2"]
    assert place([mixed], resources(300, gpu_model="H100")) == ["n1:0"]


def test_a_test_of_a_gpu_is_not_started_twice() -> None:
    room = Room()
    room.load(Snapshot(1, (node("n1", [1000, 1000], probation=[0]),), Backlog()))
    tested = gang(1, resources(1000), tests_gpu="n1-0")
    assert room.place(tested, PACK, None) is not None
    assert [choice.reason for choice in room.choices()] == ["it tests this GPU"]
    assert room.place(tested, PACK, None) is None


def test_why_a_node_was_chosen_and_others_were_not() -> None:
    room = Room()
    nodes = (node("n1", [1000]), node("n2", [500]), node("n3", [1000]), node("n4", [0]))
    room.load(Snapshot(1, nodes, Backlog()))
    assert room.place(gang(1, resources(500)), PACK, None) is not None
    (choice,) = room.choices()
    assert (choice.node_name, choice.feasible_nodes) == ("n2", 3)
    assert choice.reason.startswith("of 3 nodes with room it takes least there from jobs to come")
    assert [other.partition(":")[0] for other in choice.runners_up] == ["n1", "n3"]
    assert room.place(gang(2, resources(1000), resources(1000)), PACK, None) is not None
    assert [choice.node_name for choice in room.choices()] == ["n1", "n3"]


@pytest.mark.parametrize("policy", ["riseml", "best-fit", "fgd", "random"])
def test_no_policy_leaves_a_job_waiting_that_fits(policy: str) -> None:
    nodes = [node("n1", [400, 0]), node("n2", [0, 300]), node("n3", [200])]
    assert place(nodes, resources(400), policy=policy) == ["n1:0"]


def test_best_fit_takes_the_fullest_gpu_that_does() -> None:
    nodes = [node("n1", [1000, 700]), node("n2", [500, 1000])]
    assert place(nodes, resources(400), policy="best-fit") == ["n2:0"]


# --- caches

LEVELS = st.sampled_from([0, 190, 400, 530, 1000])
WANTED = st.builds(
    resources,
    st.sampled_from([0, 160, 400, 530, 810, 1000, 2000]),
    st.integers(1, 6),
    gpu_model=st.sampled_from([None, None, "H100", "A100"]),
)
NODE = st.tuples(
    st.lists(LEVELS, max_size=4), st.sampled_from(["H100", "A100", "mixed"]), st.integers(1, 16)
)


def view_of(name: str, free: list[int], model: str, cpus: int) -> NodeView:
    view = node(name, free, cpus=16, free_cpus=cpus, model="H100" if model == "mixed" else model)
    if model != "mixed":
        return view
    gpus = [
        replace(one, gpu=replace(one.gpu, model="A100", name="NVIDIA A100")) if i % 2 else one
        for i, one in enumerate(view.gpus)
    ]
    return replace(view, gpus=tuple(gpus))


@settings(deadline=None)
@given(
    st.lists(NODE, min_size=1, max_size=5),
    st.lists(st.tuples(st.lists(WANTED, min_size=1, max_size=2), st.booleans()), max_size=12),
    st.sampled_from(["riseml", "fgd", "best-fit", "random"]),
    st.sampled_from([PACK, SPREAD]),
)
def test_a_room_that_saw_much_decides_like_a_new_one(
    drawn: list[tuple[list[int], str, int]],
    steps: list[tuple[list[Resources], bool]],
    policy: str,
    style: PlacementStyle,
) -> None:
    nodes = [view_of(f"n{i}", *one) for i, one in enumerate(drawn)]
    mix: Mix = ((resources(400), 0.4), (resources(1000, cpus=4), 0.5), (resources(2000), 0.1))
    old = Room(POLICIES[policy])
    for number, (wanted, stays) in enumerate(steps):
        asked = gang(number, *wanted)
        picture = Snapshot(number, tuple(nodes), Backlog(), mix=mix)
        old.load(picture)
        new = Room(POLICIES[policy])
        new.load(replace(picture, nodes=tuple(reversed(nodes))))
        members = new.place(asked, style, None)
        assert old.place(asked, style, None) == members
        assert old.choices() == new.choices()
        assert [row.gpu_free for row in old.rows()] == [row.gpu_free for row in new.rows()]
        for member in members or () if stays else ():
            index = int(member.node_name[1:])
            nodes[index] = without(nodes[index], {s.uuid: s.milli for s in member.gpus}, member)


def without(view: NodeView, taken: dict[str, int], member: object) -> NodeView:
    return replace(
        view,
        free_cpu_milli=view.free_cpu_milli - getattr(member, "cpu_milli", 0),
        free_memory_bytes=view.free_memory_bytes - getattr(member, "memory_bytes", 0),
        gpus=tuple(
            GpuView(one.gpu, one.free_milli - taken.get(one.gpu.uuid, 0), one.usable)
            for one in view.gpus
        ),
    )
