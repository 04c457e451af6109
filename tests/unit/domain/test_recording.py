"""Recorded cycles: what is read is what was written, and gives the same plan."""

from __future__ import annotations

import enum
import json
from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.domain.model import Gpu, PlacementStyle, Queue
from controlplane.domain.plan import Plan
from controlplane.domain.recording import Recording, UnreadableJson, read, write
from controlplane.domain.snapshot import Backlog, GangRequest, QueueView, Snapshot
from controlplane.scheduler.cycle import schedule
from riseml.spec.model import GIB, Resources
from tests.unit.scheduler.pictures import NOW, gang, node, resources, snapshot


def values(kind: Any) -> st.SearchStrategy[Any]:
    """Any value of a type of the domain, each field filled in, also those that have a default."""
    if kind is float:
        return st.floats(allow_nan=False)
    if kind is int:
        return st.integers(-(2**63), 2**63)
    if kind is str:
        return st.text(max_size=8)
    if kind is bool:
        return st.booleans()
    if kind is Backlog:
        return st.lists(values(GangRequest), max_size=4).map(Backlog.of)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return st.sampled_from(kind)
    if is_dataclass(kind) and isinstance(kind, type):
        hints = get_type_hints(kind)
        return st.builds(
            kind, **{field.name: values(hints[field.name]) for field in fields(kind) if field.init}
        )
    arguments = get_args(kind)
    if get_origin(kind) in (tuple, Sequence):
        if get_origin(kind) is Sequence or arguments[1:] == (Ellipsis,):
            return st.lists(values(arguments[0]), max_size=2).map(tuple)
        return st.tuples(*[values(one) for one in arguments])
    return st.one_of([st.none() if one is NoneType else values(one) for one in arguments])


def comparable(picture: Snapshot) -> tuple[Any, ...]:
    """A snapshot as a value: lines compare by identity, so their gangs stand for them."""
    lines = [(line.shape, line.priority, list(line)) for line in picture.pending.lines]
    return lines, replace(picture, pending=Backlog())


def text(recording: Recording) -> str:
    return "".join(write(recording))


@settings(max_examples=40)
@given(values(Snapshot), values(float), values(Plan | None))
def test_what_is_read_is_what_was_written(picture: Snapshot, now: float, plan: Plan | None) -> None:
    written = text(Recording(picture, now, 9, plan))
    found = read(written)
    assert comparable(found.snapshot) == comparable(picture)
    assert (found.now, found.number, found.plan) == (now, 9, plan)
    assert text(found) == written


@st.composite
def clusters(draw: st.DrawFn) -> Snapshot:
    """Small clusters that a scheduler can do something with."""
    free = st.lists(st.sampled_from([0, 400, 1000, 1000]), max_size=4)
    nodes = [
        node(f"n{i}", draw(free), model=draw(st.sampled_from(["H100", "T4"])), cpus=8)
        for i in range(draw(st.integers(0, 4)))
    ]
    members = st.builds(
        resources,
        st.sampled_from([0, 400, 1000, 2000]),
        st.integers(0, 6),
        gpu_model=st.none() | st.sampled_from(["H100", "T4"]),
    )
    gangs = [
        gang(
            number,
            *draw(st.lists(members, min_size=1, max_size=3)),
            user=draw(st.sampled_from(["ana", "bo"])),
            waited=draw(st.sampled_from([0.0, 400.0])),
            priority=draw(st.sampled_from([40, 50])),
        )
        for number in range(draw(st.integers(0, 8)))
    ]
    return snapshot(nodes, gangs)


@given(clusters())
def test_a_replayed_cycle_gives_the_same_plan(picture: Snapshot) -> None:
    plan = schedule(picture, NOW)
    found = read(text(Recording(picture, NOW, 1, plan)))
    assert schedule(found.snapshot, found.now) == plan == found.plan


OLD = """
{"format":"riseml.snapshot","version":1,"number":4,"now":10000.5,
"snapshot":{"version":7,
"nodes":[{"name":"n1","cpu_milli":4000,"memory_bytes":8,"free_cpu_milli":1,"free_memory_bytes":2,
 "gpus":[{"gpu":{"uuid":"u","index":0,"name":"NVIDIA H100","model":"H100","memory_bytes":9},
          "free_milli":500}]}],
"pending":[{"experiment_id":"ana.1","user_name":"ana","queue":"default","priority":50,
 "submit_time":1.5,"members":[{"job_id":"ana.1.train.1","resources":{"gpu_milli":1000}}]}],
"queues":[{"queue":{"name":"default"}},{"queue":{"name":"x","weight":3,"placement":"SPREAD"}}]}}
"""


def test_a_file_of_version_1_means_for_ever_what_it_meant() -> None:
    """Should this fail, a default has changed: then FORMAT_VERSION has to rise."""
    found = read(OLD)
    assert (found.now, found.number, found.plan) == (10000.5, 4, None)
    (view,) = found.snapshot.nodes
    assert view.open and view.gpus[0].usable and view.free_ports == 0 and view.taints == ()
    assert not view.runs_images and not view.whole_gpus
    assert view.gpus[0].gpu == Gpu("u", 0, "NVIDIA H100", "H100", 9, health="HEALTHY", numa_node=-1)
    (request,) = found.snapshot.pending
    assert not request.needs_image
    assert request.members[0].resources == Resources(
        cpu_milli=1000, memory_bytes=2 * GIB, gpu_milli=1000, gpu_model=None, shm_bytes=0
    )
    assert found.snapshot.queues == (
        QueueView(Queue("default", 1, 0, None, PlacementStyle.PACK, True, None)),
        QueueView(Queue("x", weight=3, placement=PlacementStyle.SPREAD)),
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "x"}, "does not begin with format"),
        ({"version": 2}, "version 2 of the format; this RiseML reads version 1"),
        ({"extra": 1}, "no field 'extra'"),
        ({"now": "soon"}, "now: a number is wanted, not 'soon'"),
        ({"snapshot": []}, "snapshot: an object is wanted"),
        ({"snapshot": {"version": 1, "nodes": []}}, "snapshot: pending is missing"),
        (
            {"snapshot": {"version": 1, "nodes": [{"name": "n"}], "pending": []}},
            r"snapshot.nodes\[0\]: cpu_milli, free_cpu_milli, .* missing",
        ),
        (
            {"snapshot": {"version": True, "nodes": [], "pending": []}},
            "snapshot.version: a whole number is wanted, not True",
        ),
        (
            {"plan": {"version": 1, "decisions": [{"experiment_id": "a.1", "kind": "GONE"}]}},
            r"plan.decisions\[0\].kind: one of PLACED, RESERVED, PREEMPTED is wanted, not 'GONE'",
        ),
        (
            {"plan": {"version": 1, "placement": []}},
            "plan: a Plan has no field 'placement'",
        ),
    ],
)
def test_what_cannot_be_read_is_named(change: dict[str, Any], message: str) -> None:
    good = json.loads(text(Recording(snapshot([], []), NOW)))
    with pytest.raises(UnreadableJson, match=message):
        read(json.dumps({**good, **change}))


def test_what_is_no_json_is_said() -> None:
    with pytest.raises(UnreadableJson, match="no JSON"):
        read("{")


def test_a_large_cluster_is_written_in_many_pieces() -> None:
    """So that a server can send it as it goes."""
    picture = snapshot([node(f"n{i}", [1000] * 8) for i in range(100)], [])
    pieces = list(write(Recording(picture, NOW)))
    assert max(map(len, pieces)) < 4096
