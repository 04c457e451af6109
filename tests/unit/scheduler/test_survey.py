"""All nodes at once say what each says alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.domain.model import PlacementStyle
from controlplane.domain.plan import PendingCode
from controlplane.domain.snapshot import Backlog, NodeView, Snapshot
from controlplane.scheduler import survey as survey_module
from controlplane.scheduler.feasibility import EligibleKey, barrier_of
from controlplane.scheduler.obstacles import BARRED, Obstacle, What, find
from controlplane.scheduler.room import Room
from controlplane.scheduler.rows import Row
from riseml.spec.model import GIB, Resources
from tests.unit.scheduler.pictures import NOW, gang, node, resources


def mixed(view: NodeView) -> NodeView:
    """Every second GPU is of another model."""
    gpus = [
        replace(one, gpu=replace(one.gpu, model="A100", name="NVIDIA A100")) if i % 2 else one
        for i, one in enumerate(view.gpus)
    ]
    return replace(view, gpus=tuple(gpus))


def drawn_view(
    free: list[int], cpus: int, model: str, broken: set[int], several: bool, **more: Any
) -> NodeView:
    unusable = [position for position in broken if position < len(free)]
    view = node("n", free, cpus=8, free_cpus=cpus, model=model, unusable=unusable, **more)
    return mixed(view) if several else view


LEVELS = st.sampled_from([0, 300, 500, 1000])
VIEWS = st.builds(
    drawn_view,
    st.lists(LEVELS, max_size=3),
    st.integers(-1, 8),
    st.sampled_from(["H100", "A100"]),
    st.sets(st.integers(0, 2), max_size=1),
    st.booleans(),
    open=st.booleans(),
    labels=st.sampled_from([(), (("zone", "a"),)]),
    only_user=st.sampled_from(["", "bo"]),
    taints=st.sampled_from([(), (("spot", ""),)]),
    runs_images=st.booleans(),
    whole_gpus=st.booleans(),
    free_ports=st.integers(0, 1),
    shm_bytes=st.sampled_from([0, 8 * GIB]),
    free_shm_bytes=st.sampled_from([0, GIB, 8 * GIB]),
)
WANTED = st.builds(
    resources,
    st.sampled_from([0, 300, 500, 1000, 2000]),
    st.integers(0, 9),
    memory_bytes=st.sampled_from([0, GIB, 65 * GIB]),
    gpu_model=st.sampled_from([None, "A100", "A100|H100"]),
    shm_bytes=st.sampled_from([0, 2 * GIB, 9 * GIB]),
)


def alone(row: Row, wanted: Resources, ports: int, key: EligibleKey) -> tuple[Obstacle | None, int]:
    """What stands in the way first, and how many members fit."""
    barrier = barrier_of(row.view, key)
    if barrier:
        return (*BARRED[barrier], 0), 0
    obstacle, ever, now = find(row, wanted, ports)
    if ever and not row.view.open:
        obstacle = PendingCode.NODES_CLOSED, What.NONE, 0
    return obstacle, 0 if obstacle else (min(now, row.free_ports) if ports else now)


@settings(deadline=None)
@given(
    st.lists(VIEWS, max_size=5),
    st.lists(WANTED, min_size=1, max_size=2),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.sampled_from([0, survey_module.FEW]),
)
def test_all_nodes_at_once_say_what_each_says_alone(
    drawn: list[NodeView],
    members: list[Resources],
    selects: bool,
    needs_image: bool,
    holds: bool,
    few: int,
) -> None:
    """Whether they are looked at as arrays, or so few that they are not worth it."""
    nodes = tuple(replace(view, name=f"n{i}") for i, view in enumerate(drawn))
    room = Room()
    room.load(Snapshot(1, nodes, Backlog()))
    asked = gang(
        1, *members, node_selector=(("zone", "a"),) if selects else (), needs_image=needs_image
    )
    if holds:
        mark = room.mark()
        placed = room.place(gang(2, members[0]), PlacementStyle.PACK, None)
        room.undo(mark)
        room.hold(placed or (), "ana.2", NOW)
    rows = room.rows()
    ports = 1 if len(members) > 1 else 0
    with patch.object(survey_module, "FEW", few):
        surveys = room.surveys(asked)
    for survey in surveys:
        found = [alone(row, survey.resources, ports, EligibleKey.of(asked)) for row in rows]
        assert survey.room_now == sum(fit for _, fit in found)
        by_kind: dict[object, list[tuple[str, int]]] = {}
        for row, (obstacle, _) in zip(rows, found, strict=True):
            if obstacle is not None:
                by_kind.setdefault(obstacle[:2], []).append((row.name, obstacle[2]))
        assert {
            kind: ([one.name for one in short.nodes], short.available)
            for kind, short in survey.obstacles.items()
        } == {
            kind: ([name for name, _ in those], max(have for _, have in those))
            for kind, those in by_kind.items()
        }
