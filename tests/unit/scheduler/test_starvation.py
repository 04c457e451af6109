"""A large gang starts within a bound, however many small jobs keep coming."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field, replace
from itertools import count

import pytest

from controlplane.domain.model import Queue
from controlplane.domain.snapshot import Backlog, GangRequest, QueueView, RunningGang, Snapshot
from controlplane.scheduler.cycle import Scheduler
from controlplane.scheduler.policy import DEFAULT
from controlplane.scheduler.virtual import VirtualCluster, as_running
from riseml.spec.units import parse_duration
from tests.unit.scheduler.scenes import NOW, SceneBuilder

HOUR = 3600.0
PATIENCE = DEFAULT.patience_seconds
SETTLED = DEFAULT.settled_seconds


def waiting(line: str, submit_time: float) -> GangRequest:
    builder = SceneBuilder()
    builder.add(line)
    (gang,) = builder.snapshot().pending
    return replace(gang, submit_time=submit_time)


@dataclass
class Stream:
    """Small jobs of one kind, of which some always wait: one comes whenever one starts."""

    # What a small job asks for, without its name and duration.
    words: str
    durations: tuple[str, ...]
    waiting: int = 12
    numbers: count[int] = field(default_factory=lambda: count(1))

    def next(self, now: float) -> GangRequest:
        number = next(self.numbers)
        duration = self.durations[number % len(self.durations)]
        return waiting(f"wait {self.words} for={duration}".replace("#", str(number)), now)


def start_of_large(
    nodes: list[str], queues: list[Queue], large: GangRequest, streams: list[Stream]
) -> float:
    """Hours that the large gang waits; all else runs as long as it may."""
    builder = SceneBuilder()
    for line in nodes:
        builder.add(line)
    picture = builder.snapshot()
    views = tuple(QueueView(queue) for queue in queues)
    scheduler = Scheduler(replace(DEFAULT, explain=False))
    cluster = VirtualCluster(replace(picture, queues=views), lambda gang: gang.end_time)
    pending: dict[str, GangRequest] = {}
    ends: list[float] = [NOW]
    now = NOW
    while now < NOW + PATIENCE + 100 * HOUR:
        for stream in streams:
            name = stream.words.split(".")[0]
            missing = stream.waiting - sum(one.startswith(name) for one in pending)
            for _ in range(missing):
                gang = stream.next(now)
                pending[gang.experiment_id] = gang
        seen = replace(
            cluster.snapshot(),
            pending=Backlog.of([*pending.values(), large]),
            users=(),
        )
        plan = scheduler.schedule(seen, now)
        started = {one.experiment_id: one for one in plan.placements}
        if large.experiment_id in started:
            return (now - NOW) / HOUR
        again = VirtualCluster(seen, lambda gang: gang.end_time)
        again.apply(plan, now)
        cluster = again
        for name, one in started.items():
            running: RunningGang = as_running(pending.pop(name), one.members, now)
            assert running.end_time is not None
            heapq.heappush(ends, running.end_time)
        while ends and ends[0] <= now:
            heapq.heappop(ends)
        now = ends[0]
        cluster.pass_until(now)
    raise AssertionError("it starved")


NODES = ["node n1 gpus=4", "node n2 gpus=4", "node n3 gpus=4"]


@pytest.mark.parametrize(
    ("durations", "longest"), [(("1h",), 1.0), (("20m", "1h", "3h", "90m"), 3.0)]
)
def test_of_its_own_user_and_queue_it_waits_three_days_and_what_runs_then(
    durations: tuple[str, ...], longest: float
) -> None:
    """All others are shorter and go first, until it has waited too long: it never comes to be among
    the first eight that cannot start, whose room is kept.
    """
    large = waiting("wait ana.0 gpus=3x4 for=2d", NOW)
    stream = Stream("ana.# gpus=1", durations, waiting=40)
    waited = start_of_large(NODES, [], large, [stream])
    assert PATIENCE / HOUR < waited <= PATIENCE / HOUR + longest


@pytest.mark.parametrize(
    ("durations", "longest"), [(("1h",), 1.0), (("20m", "1h", "3h", "90m"), 3.0)]
)
def test_among_the_first_that_cannot_start_it_keeps_its_reservation(
    durations: tuple[str, ...], longest: float
) -> None:
    """Those that come later are shorter, but after an hour they take its room no more: what ran
    then ends, and what its reservation was behind.
    """
    large = waiting("wait ana.0 gpus=3x4 for=2d", NOW)
    stream = Stream("ana.# gpus=1", durations, waiting=6)
    waited = start_of_large(NODES, [], large, [stream])
    assert SETTLED / HOUR < waited <= SETTLED / HOUR + 2 * longest


def test_in_another_queue_it_waits_for_what_runs_then() -> None:
    """The first of every queue has a reservation, so who comes later passes in time or not."""
    large = waiting("wait ana.0 gpus=3x4 for=2d queue=lab", NOW)
    queues = [Queue("default", weight=100), Queue("lab")]
    stream = Stream("bo.# gpus=1", ("1h", "3h", "2h"))
    assert start_of_large(NODES, queues, large, [stream]) <= 3.0


def test_behind_others_of_another_queue_it_waits_three_days_and_what_runs_then() -> None:
    """Its queue always comes last, and never has the first reservation."""
    large = waiting("wait cy.0 gpus=3x4 for=2d queue=lab", NOW)
    queues = [Queue("default", weight=100), Queue("lab")]
    streams = [
        Stream("bo.# gpus=1", ("1h", "3h", "2h")),
        Stream("ana.# gpus=2 queue=lab", ("1h", "4h")),
    ]
    assert start_of_large(NODES, queues, large, streams) <= PATIENCE / HOUR + 4.0


def test_a_whole_node_is_not_kept_from_who_asks_for_one_by_many_who_ask_for_less() -> None:
    large = waiting("wait ana.0 gpus=4 for=2d", NOW)
    stream = Stream("bo.# gpus=0.5", ("1h", "50m", "70m"), waiting=40)
    assert start_of_large(NODES, [], large, [stream]) <= PATIENCE / HOUR + 2.0


def test_snapshots_are_not_changed_by_what_is_tried_on_them() -> None:
    builder = SceneBuilder()
    for line in (*NODES, "run bo.1 n1:0 for=1h", "wait ana.1 gpus=2"):
        builder.add(line)
    picture: Snapshot = builder.snapshot()
    nodes = picture.nodes
    cluster = VirtualCluster(picture, lambda gang: gang.end_time)
    cluster.pass_until(NOW + parse_duration("2h"))
    assert picture.nodes is nodes and cluster.snapshot().nodes != nodes
