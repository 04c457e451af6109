"""What holds for every plan, whatever the cluster looks like."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain.plan import GangPlacement, PendingCode
from controlplane.domain.snapshot import Backlog, GangRequest, Line, NodeView, Snapshot
from controlplane.scheduler.cycle import schedule
from riseml.spec.gpus import model_fits
from riseml.spec.model import GIB, Resources
from tests.unit.scheduler.pictures import NOW, gang, node, resources, waiting

FREE_GPUS = st.lists(st.sampled_from([0, 300, 500, 1000, 1000, 1000]), max_size=4)
MODELS = st.sampled_from(["H100", "T4"])
MEMBERS = st.builds(
    resources,
    st.sampled_from([0, 0, 300, 500, 1000, 2000, 3000]),
    st.integers(0, 6),
    memory_bytes=st.integers(0, 20).map(lambda n: n * GIB),
    gpu_model=st.none() | MODELS,
)


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    nodes = [
        node(
            f"n{i}",
            gpus := draw(FREE_GPUS),
            model=draw(MODELS),
            unusable=[p for p in range(len(gpus)) if draw(st.integers(0, 9)) == 0],
            cpus=8,
            free_cpus=draw(st.integers(-1, 8)),
            memory_bytes=32 * GIB,
            labels=[("zone", draw(st.sampled_from("ab")))],
            open=draw(st.integers(0, 4)) > 0,
            closed_reason="cordoned",
            only_user=draw(st.sampled_from(["", "", "ana"])),
            free_ports=draw(st.integers(0, 6)),
            runs_images=draw(st.booleans()),
            whole_gpus=draw(st.booleans()),
        )
        for i in range(draw(st.integers(0, 4)))
    ]
    pending = [
        gang(
            number,
            *draw(st.lists(MEMBERS, min_size=1, max_size=4)),
            user=draw(st.sampled_from(["ana", "bo"])),
            waited=draw(st.sampled_from([0.0, 400.0])),
            priority=draw(st.sampled_from([40, 50])),
            node_selector=draw(st.sampled_from([(), (), (("zone", "a"),)])),
            only_nodes=draw(st.sampled_from([(), (), ("n0",)])),
            needs_image=draw(st.sampled_from([False, False, True])),
        )
        for number in range(draw(st.integers(0, 8)))
    ]
    return Snapshot(3, tuple(nodes), Backlog.of(pending))


def check_member(wanted: Resources, view: NodeView, shares: dict[str, int]) -> None:
    assert sum(shares.values()) == wanted.gpu_milli
    assert len(shares) == wanted.gpu_count
    for one in view.gpus:
        if one.gpu.uuid in shares:
            assert one.usable
            assert wanted.gpu_model is None or model_fits(wanted.gpu_model, one.gpu.model)
    assert shares.keys() <= {one.gpu.uuid for one in view.gpus}


@given(snapshots())
def test_a_plan_applies_on_its_own_snapshot(picture: Snapshot) -> None:
    """Every gang whole, on nodes it may use, and nothing given twice."""
    plan = schedule(picture, NOW)
    requests = {request.experiment_id: request for request in picture.pending}
    nodes = {view.name: view for view in picture.nodes}
    cpu, memory, ports, gpus = Counter[str](), Counter[str](), Counter[str](), Counter[str]()
    for placement in plan.placements:
        request = requests[placement.experiment_id]
        assert [m.job_id for m in placement.members] == [m.job_id for m in request.members]
        for member, asked in zip(placement.members, request.members, strict=True):
            view = nodes[member.node_name]
            assert view.open and view.only_user in ("", request.user_name)
            assert view.runs_images or not request.needs_image
            assert not (view.whole_gpus and asked.resources.gpu_milli % 1000)
            assert set(request.node_selector) <= set(view.labels)
            assert not request.only_nodes or view.name in request.only_nodes
            shares = {share.uuid: share.milli for share in member.gpus}
            check_member(asked.resources, view, shares)
            assert member.cpu_milli == asked.resources.cpu_milli
            assert member.memory_bytes == asked.resources.memory_bytes
            cpu[view.name] += member.cpu_milli
            memory[view.name] += member.memory_bytes
            ports[view.name] += len(request.members) > 1
            gpus.update(shares)
    for name, view in nodes.items():
        if any(m.node_name == name for p in plan.placements for m in p.members):
            assert cpu[name] <= view.free_cpu_milli
            assert memory[name] <= view.free_memory_bytes
            assert ports[name] <= view.free_ports
        assert all(gpus[one.gpu.uuid] <= one.free_milli for one in view.gpus)


@given(snapshots())
def test_each_gang_is_placed_or_waits_with_reasons(picture: Snapshot) -> None:
    plan = schedule(picture, NOW)
    placed = [placement.experiment_id for placement in plan.placements]
    left = [one.experiment_id for one in waiting(plan, picture)]
    assert Counter(placed + left) == Counter(r.experiment_id for r in picture.pending)
    for one in plan.waiting:
        assert one.reasons
        for reason in one.reasons:
            assert reason.message[0].isupper() or reason.message[0].isdigit()
            assert not reason.message.endswith(".")


@given(snapshots(), st.randoms(use_true_random=False))
def test_equal_input_gives_an_equal_plan_in_whatever_order(
    picture: Snapshot, random: Random
) -> None:
    nodes, pending = list(picture.nodes), list(picture.pending)
    random.shuffle(nodes)
    random.shuffle(pending)
    shuffled = Snapshot(picture.version, tuple(nodes), Backlog.of(pending))
    assert schedule(picture, NOW) == schedule(shuffled, NOW) == schedule(picture, NOW)


@given(snapshots())
def test_a_line_is_treated_like_each_of_its_gangs(picture: Snapshot) -> None:
    """What a cycle does not look at, because the first of the line waits, would wait as well."""
    alone = [Line(one.shape, one.priority, [one], 0, 1) for one in picture.pending]
    assert schedule(picture, NOW) == schedule(replace(picture, pending=Backlog(tuple(alone))), NOW)


@given(snapshots())
def test_another_gang_of_a_shape_that_waits_waits_for_the_same_reasons(picture: Snapshot) -> None:
    """So no cycle is needed when the only news are such gangs."""
    plan = schedule(picture, NOW)
    left = apply(picture, plan.placements)
    known = {one.shape: one for one in plan.waiting}
    more = [
        replace(one, experiment_id=f"{one.experiment_id}0", submit_time=NOW)
        for one in left.pending
        if all(r.code is not PendingCode.RESERVED for r in known[one.shape].reasons)
    ]
    again = schedule(replace(left, pending=Backlog.of([*left.pending, *more])), NOW)
    assert not [p for p in again.placements if p.experiment_id in {m.experiment_id for m in more}]
    if not plan.reservations:
        assert not again.placements
        assert {one.shape: one for one in again.waiting} == known


@given(snapshots())
def test_what_is_called_impossible_does_not_fit_an_empty_cluster(picture: Snapshot) -> None:
    empty = tuple(
        replace(
            view,
            open=True,
            free_cpu_milli=view.cpu_milli,
            free_memory_bytes=view.memory_bytes,
            free_ports=100,
            gpus=tuple(replace(one, free_milli=1000, usable=True) for one in view.gpus),
        )
        for view in picture.nodes
    )
    impossible = {
        one.experiment_id for one in waiting(schedule(picture, NOW), picture) if one.impossible
    }
    for request in picture.pending:
        if request.experiment_id in impossible:
            assert not schedule(Snapshot(1, empty, Backlog.of([request])), NOW).placements


@given(snapshots())
def test_who_waits_without_a_reservation_does_not_fit_what_is_left(picture: Snapshot) -> None:
    """No room is wasted: one member alone that waits finds no node with room for it."""
    plan = schedule(picture, NOW)
    if plan.reservations:
        return
    left = apply(picture, plan.placements)
    for request in left.pending:
        if len(request.members) == 1:
            assert not schedule(replace(left, pending=Backlog.of([request])), NOW).placements


@given(snapshots())
def test_an_added_gang_of_lower_rank_changes_nothing_for_those_before_it(
    picture: Snapshot,
) -> None:
    late = gang(999, resources(1000), priority=0)
    with_late = replace(picture, pending=Backlog.of([*picture.pending, late]))
    before = schedule(picture, NOW).placements
    after = schedule(with_late, NOW).placements
    assert [p for p in after if p.experiment_id != late.experiment_id] == list(before)


@given(snapshots())
def test_equal_experiments_start_by_priority_and_age(picture: Snapshot) -> None:
    plan = schedule(picture, NOW)
    started = {placement.experiment_id for placement in plan.placements}

    def kind(one: GangRequest) -> tuple[object, ...]:
        asked = tuple(member.resources for member in one.members)
        return (one.user_name, one.node_selector, one.only_nodes, asked)

    for one in picture.pending:
        for other in picture.pending:
            first = (-one.priority, one.submit_time) < (-other.priority, other.submit_time)
            if first and kind(one) == kind(other) and other.experiment_id in started:
                assert one.experiment_id in started


def apply(picture: Snapshot, placements: tuple[GangPlacement, ...]) -> Snapshot:
    """The snapshot after a plan."""
    members = [
        (member, len(placement.members) > 1)
        for placement in placements
        for member in placement.members
    ]
    held = Counter({s.uuid: 0 for m, _ in members for s in m.gpus})
    for member, _ in members:
        held.update({share.uuid: share.milli for share in member.gpus})
    nodes = []
    for view in picture.nodes:
        here = [(m, in_gang) for m, in_gang in members if m.node_name == view.name]
        nodes.append(
            replace(
                view,
                free_cpu_milli=view.free_cpu_milli - sum(m.cpu_milli for m, _ in here),
                free_memory_bytes=view.free_memory_bytes - sum(m.memory_bytes for m, _ in here),
                free_ports=view.free_ports - sum(in_gang for _, in_gang in here),
                gpus=tuple(
                    replace(one, free_milli=one.free_milli - held[one.gpu.uuid])
                    for one in view.gpus
                ),
            )
        )
    gone = {placement.experiment_id for placement in placements}
    pending = Backlog.of(one for one in picture.pending if one.experiment_id not in gone)
    return Snapshot(picture.version + 1, tuple(nodes), pending)
