"""When and where room will be, found by counting, against trying it on the room itself."""

from __future__ import annotations

from math import inf
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain.model import PlacementStyle
from controlplane.domain.snapshot import GangRequest, Snapshot
from controlplane.scheduler import lookahead
from controlplane.scheduler.ends import KnownEnds
from controlplane.scheduler.room import Room
from controlplane.scheduler.timeline import Opening, Timeline
from tests.unit.scheduler.clusters import end_of, scenes, snapshot_of
from tests.unit.scheduler.scenes import NOW

PACK = PlacementStyle.PACK


def room_of(picture: Snapshot) -> Room:
    room = Room()
    room.load(picture)
    return room


def timeline_of(room: Room, picture: Snapshot) -> Timeline:
    return Timeline(room, picture.running, KnownEnds(), NOW)


def seconds_of(gang: GangRequest) -> float | None:
    if gang.max_duration_seconds is None:
        return None
    return gang.max_duration_seconds + gang.grace_period_seconds


def start_by_trying(picture: Snapshot, gang: GangRequest) -> float | None:
    """The first end after which it fits."""
    room = room_of(picture)
    for time in sorted({end_of(one) for one in picture.running} - {inf}):
        mark = room.mark()
        for one in picture.running:
            if end_of(one) <= time:
                room.release(one)
        fits = room.place(gang, PACK, None) is not None
        room.undo(mark)
        if fits:
            return time
    return None


def waiting_in_vain(picture: Snapshot) -> list[GangRequest]:
    room = room_of(picture)
    found = []
    for gang in picture.pending:
        mark = room.mark()
        if room.place(gang, PACK, None) is None:
            found.append(gang)
        room.undo(mark)
    return found


@given(scenes(), st.sampled_from([0, lookahead.ENDS_PER_NODE, 1000]))
def test_a_gang_could_start_when_trying_says_so(lines: list[str], ends_per_node: int) -> None:
    """Whether it is looked for node by node, or end by end."""
    picture = snapshot_of(lines)
    room = room_of(picture)
    rows = room.rows()
    timeline = timeline_of(room, picture)
    for gang in waiting_in_vain(picture):
        with patch.object(lookahead, "ENDS_PER_NODE", ends_per_node):
            opening = timeline.earliest(gang, seconds_of(gang))
        assert (None if opening is None else opening.time) == start_by_trying(picture, gang)
    assert room.rows() == rows, "looking ahead leaves the room as it is"


@given(scenes())
def test_those_that_are_in_the_way_are_all_that_has_to_end(lines: list[str]) -> None:
    picture = snapshot_of(lines)
    timeline = timeline_of(room_of(picture), picture)
    for gang in waiting_in_vain(picture):
        opening = timeline.earliest(gang, seconds_of(gang))
        if opening is not None:
            nodes = {member.node_name for member in opening.members}
            assert opening.waits_for == tuple(
                sorted(
                    (
                        one
                        for one in picture.running
                        if end_of(one) <= opening.time
                        and nodes & {member.node_name for member in one.members}
                    ),
                    key=lambda one: (one.end_time, one.experiment_id),
                )
            )
            room = room_of(picture)
            for one in opening.waits_for:
                room.release(one)
            assert room.place(gang, PACK, None) is not None


@given(scenes())
def test_who_would_end_before_a_reservation_sees_it_not(lines: list[str]) -> None:
    """And who would not finds room no sooner than without it."""
    picture = snapshot_of(lines)
    room = room_of(picture)
    timeline = timeline_of(room, picture)
    in_vain = waiting_in_vain(picture)
    if not in_vain:
        return
    first, *others = in_vain
    before = {gang.experiment_id: timeline.earliest(gang, seconds_of(gang)) for gang in others}
    opening = timeline.earliest(first, seconds_of(first))
    if opening is None:
        return
    timeline.keep(first, opening)
    for gang in others:
        was, now = before[gang.experiment_id], timeline.earliest(gang, seconds_of(gang))
        end = ends_by(gang, was)
        if was is None or end <= opening.time:
            assert was is None or (now is not None and now.time == was.time)
        else:
            assert now is None or now.time >= was.time


def ends_by(gang: GangRequest, opening: Opening | None) -> float:
    seconds = seconds_of(gang)
    return inf if opening is None or seconds is None else opening.time + seconds
