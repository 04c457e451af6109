"""The copy of the cluster that gangs are tried on: what it gives, keeps and takes back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain.model import GpuShare, PlacementStyle
from controlplane.domain.snapshot import (
    Backlog,
    GangRequest,
    MemberPlacement,
    NodeView,
    RunningGang,
    Snapshot,
)
from controlplane.scheduler.room import NEVER, Room
from controlplane.scheduler.rows import Row
from riseml.spec.model import GIB, GPU, Resources
from tests.unit.scheduler.pictures import NOW, gang, node, resources, snapshot

PACK = PlacementStyle.PACK
FULL = [0, 0]


def room_of(*nodes: NodeView, room: Room | None = None) -> Room:
    room = Room() if room is None else room
    room.load(Snapshot(1, nodes, Backlog()))
    return room


def member(
    job_id: str, node_name: str, *gpus: int, milli: int = 1000, cpus: int = 1
) -> MemberPlacement:
    shares = tuple(GpuShare(f"{node_name}-{position}", milli) for position in gpus)
    return MemberPlacement(job_id, node_name, shares, cpus * 1000, GIB)


def running(*members: MemberPlacement) -> RunningGang:
    return RunningGang("bo.1", "bo", "default", 50, NOW, None, members)


def free(room: Room) -> dict[str, tuple[int, ...]]:
    """By node what may be given to those that end late: GPUs by position."""
    return {
        row.name: tuple(f - h for f, h in zip(row.gpu_free, row.gpu_held, strict=True))
        for row in room.rows()
    }


def row(room: Room, name: str) -> Row:
    found = room.row(name)
    assert found is not None
    return found


def test_a_gang_that_does_not_fit_takes_nothing() -> None:
    room = room_of(node("n1", [1000, 1000]), node("n2", [1000]))
    before = room.rows()
    assert room.place(gang(1, resources(2000), resources(2000)), PACK, None) is None
    assert room.rows() == before


def test_undo_goes_back_to_a_mark_through_places_releases_and_holds() -> None:
    room = room_of(node("n1", [1000, 0]), node("n2", [0, 0]))
    before = room.rows()
    outer = room.mark()
    assert room.place(gang(1, resources(1000)), PACK, None) is not None
    inner = room.mark()
    placed = room.rows()
    room.release(running(member("bo.1.train.1", "n2", 0, 1), member("bo.1.train.2", "n1", 1)))
    assert free(room) == {"n1": (0, 1000), "n2": (1000, 1000)}
    room.hold([member("ana.2.train.1", "n2", 0)], "ana.2", NOW)
    assert free(room) == {"n1": (0, 1000), "n2": (0, 1000)}
    room.undo(inner)
    assert room.rows() == placed
    room.undo(outer)
    assert room.rows() == before


def test_what_is_held_from_a_later_time_is_there_for_those_that_end_before() -> None:
    room = room_of(node("n1", [1000]))
    room.hold([member("ana.1.train.1", "n1", 0)], "ana.1", NOW + 100)
    one = gang(2, resources(1000))
    assert room.place(one, PACK, None) is None
    assert room.place(one, PACK, NOW + 101) is None
    assert room.place(one, PACK, NOW + 100) is not None


def test_what_is_held_is_available_to_who_never_was() -> None:
    room = room_of(node("n1", [1000]))
    room.hold([member("ana.1.train.1", "n1", 0)], "ana.1", NOW)
    assert room.place(gang(2, resources(1000)), PACK, NEVER) is not None


def test_what_is_held_is_beside_what_is_free() -> None:
    room = room_of(node("n1", [400, 0], cpus=4, free_cpus=3))
    room.hold([member("ana.1.train.1", "n1", 0, milli=300, cpus=2)], "ana.1", NOW + 100)
    found = row(room, "n1")
    assert (found.gpu_free, found.gpu_held) == ([400, 0], [300, 0])
    assert (found.free_cpu_milli, found.held_cpu_milli) == (3000, 2000)
    assert found.held_for == ("ana.1",)
    assert list(found.gpu_held_for) == [("ana.1",), ()]


def test_what_is_kept_for_two_at_different_times_is_kept_until_both_are_lifted() -> None:
    room = room_of(node("n1", [1000]))
    room.hold([member("ana.1.train.1", "n1", 0)], "ana.1", NOW + 200)
    room.hold([member("ana.2.train.1", "n1", 0)], "ana.2", NOW + 100)
    one = gang(3, resources(1000))
    assert room.place(one, PACK, NOW + 150) is None
    assert free(room) == {"n1": (-1000,)}
    assert room.place(one, PACK, NOW + 100) is not None


def test_what_is_released_on_an_unusable_gpu_or_a_node_that_is_gone_frees_nothing() -> None:
    room = room_of(node("n1", [0, 0], unusable=[0]))
    room.release(running(member("bo.1.train.1", "n1", 0), member("bo.1.train.2", "gone", 0)))
    assert free(room) == {"n1": (0, 0)}


def test_a_row_is_found_by_its_name() -> None:
    room = room_of(node("n1", [1000, 1000]), node("n2"))
    room.hold([member("ana.1.train.1", "n1", 1)], "ana.1", NOW)
    assert [room.row("n1"), room.row("n2")] == room.rows()
    assert room.row("n3") is None


def test_kinds_are_equal_for_shapes_that_fit_alike() -> None:
    room = room_of(node("n1"))
    one = gang(1, resources(1000))
    assert room.kind_of(one.shape) == room.kind_of(gang(2, resources(1000), user="bo").shape)
    assert room.kind_of(one.shape) == room.kind_of(gang(2, resources(1000), queue="x").shape)
    assert room.kind_of(one.shape) != room.kind_of(gang(2, resources(2000)).shape)
    picky = gang(2, resources(1000), node_selector=(("zone", "a"),))
    assert room.kind_of(one.shape) != room.kind_of(picky.shape)
    owned = room_of(node("n1", only_user="ana"))
    assert owned.kind_of(one.shape) != owned.kind_of(gang(2, resources(1000), user="bo").shape)
    imaged = gang(2, resources(1000), needs_image=True)
    assert room.kind_of(one.shape) != room.kind_of(imaged.shape)
    able = room_of(node("n1", runs_images=True))
    assert able.kind_of(one.shape) == able.kind_of(imaged.shape)


def test_a_node_that_begins_to_give_whole_gpus_only_is_seen_as_such() -> None:
    room, shares = Room(), gang(1, resources(500))
    before = node("n1", [GPU, GPU])
    room.load(snapshot([before], [shares]))
    assert room.place(shares, PACK, None) is not None
    room.load(snapshot([replace(before, whole_gpus=True)], [shares]))
    assert room.place(shares, PACK, None) is None
    assert not room.could_hold(shares)
    assert not room.capable(shares.shape, resources(500))
    assert room.place(gang(2, resources(GPU)), PACK, None) is not None


def test_a_node_that_begins_to_run_images_opens_for_them() -> None:
    room, imaged = Room(), gang(1, resources(), needs_image=True)
    before = [node("n1"), node("n2")]
    room.load(snapshot(before, [imaged]))
    assert room.place(imaged, PACK, None) is None
    discerned = room.discerns
    room.load(snapshot([replace(one, runs_images=True) for one in before], [imaged]))
    assert room.place(imaged, PACK, None) is not None
    assert room.discerns != discerned


def probe(node_name: str, position: int, **more: Any) -> GangRequest:
    """The test of one GPU, named as `node` names them."""
    wanted = resources(GPU, **more)
    return gang(7, wanted, tests_gpu=f"{node_name}-{position}")


def test_a_gpu_in_probation_is_for_its_test_only() -> None:
    room = room_of(node("n1", [GPU, GPU], probation=[1]), node("n2", [GPU], probation=[0]))
    assert room.place(gang(1, resources(2 * GPU)), PACK, None) is None
    test = probe("n1", 1)
    assert room.could_hold(test)
    assert room.may_fit(test)
    (member,) = room.place(test, PACK, None) or ()
    assert (member.node_name, member.gpus) == ("n1", (GpuShare("n1-1", GPU),))
    (job,) = room.place(gang(1, resources(GPU)), PACK, None) or ()
    assert job.gpus == (GpuShare("n1-0", GPU),)


def test_a_test_finds_no_place_but_on_its_gpu() -> None:
    room = room_of(
        node("n1", [GPU, 0], unusable=[0], probation=[1]), node("n2", [GPU], probation=[0])
    )
    sick, held, unknown = probe("n1", 0), probe("n1", 1), probe("n9", 0)
    for test in (sick, held, unknown):
        assert room.place(test, PACK, None) is None
    assert not room.could_hold(sick)
    assert room.could_hold(held), "once the test before has ended"
    assert room.place(probe("n2", 0, cpus=99), PACK, None) is None


def test_tests_are_no_kind_of_job() -> None:
    room = room_of(node("n1", [GPU, GPU], probation=[0, 1]))
    job = gang(1, resources(GPU))
    kinds = {room.kind_of(one.shape) for one in (job, probe("n1", 0), probe("n1", 1))}
    assert len(kinds) == 3


def test_may_fit_is_false_only_where_there_is_certainly_no_room() -> None:
    room = room_of(node("n1", [1000, 0]), node("n2", [0, 500]))
    assert room.may_fit(gang(1, resources(1000)))
    assert not room.may_fit(gang(1, resources(2000)))
    assert not room.may_fit(gang(1, resources(), resources(cpus=33)))


def test_could_hold_looks_at_open_nodes_as_if_nothing_ran() -> None:
    room = room_of(node("n1", FULL), node("n2", FULL, open=False), node("n3", FULL, unusable=[0]))
    assert room.could_hold(gang(1, resources(2000), resources(1000)))
    assert not room.could_hold(gang(1, resources(2000), resources(2000)))
    assert room.could_hold(gang(1, resources(500), resources(500), resources(2000)))


def test_capacity_is_what_all_nodes_have_together() -> None:
    room = room_of(node("n1", FULL, cpus=4), node("n2", [0], open=False, cpus=2))
    assert room.capacity.gpu_milli == 3000
    assert room.capacity.cpu_milli == 6000
    assert room.capacity.memory_bytes == 128 * GIB


def test_loading_another_snapshot_drops_what_was_taken_and_held() -> None:
    nodes = [node("n1", [1000]), node("n2", [1000])]
    room = room_of(*nodes)
    room.place(gang(1, resources(1000)), PACK, None)
    room.hold([member("ana.2.train.1", "n2", 0)], "ana.2", NOW)
    changed = replace(nodes[1], free_cpu_milli=1)
    again = room_of(nodes[0], changed, room=room).rows()
    assert again == room_of(nodes[0], changed).rows()


SIZES = st.sampled_from([0, 500, 1000, 2000])
MEMBERS = st.lists(st.builds(resources, SIZES, st.integers(0, 8)), min_size=1, max_size=3)


@given(
    st.lists(st.lists(st.sampled_from([0, 500, 1000]), max_size=3), max_size=4),
    st.lists(st.tuples(MEMBERS, st.sampled_from(["place", "hold", "undo"])), max_size=8),
)
def test_undo_restores_all_whatever_was_done(
    gpus: list[list[int]], steps: list[tuple[list[Resources], str]]
) -> None:
    room = room_of(*[node(f"n{i}", free, cpus=8) for i, free in enumerate(gpus)])
    seen = [(room.mark(), room.rows())]
    for number, (wanted, step) in enumerate(steps):
        asked = gang(number, *wanted)
        if step == "undo":
            mark, rows = seen.pop() if len(seen) > 1 else seen[0]
            room.undo(mark)
            assert room.rows() == rows
            continue
        seen.append((room.mark(), room.rows()))
        may_fit = room.may_fit(asked)
        members = room.place(asked, PACK, None)
        assert may_fit or members is None
        if step == "hold" and members is not None:
            room.undo(seen[-1][0])
            room.hold(members, asked.experiment_id, NOW)
    room.undo(seen[0][0])
    assert room.rows() == seen[0][1]
