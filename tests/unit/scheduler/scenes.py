"""Scenes of the scheduler as text: what there is, and after `--` what the plan makes of it.

# Words that say what is shown
policy easy                                  the default is riseml
node n1 gpus=4 cpus=16                       also model=T4, taint=spot, closed=cordoned, and pods:
                                             it runs images and gives whole GPUs only
queue prod weight=2 guarantee=4 limit=8      also default=2h, spread, no-priority-preemption
used ana 0.2 queue=prod                      the part of the cluster that she lately used
run bo.1 n1:0,1 for=1h started=10m           holds two GPUs of n1, and a CPU; also cpus=4,
                                             checkpoint=5m (ago), stopping=20s (from now),
                                             stopping-for=ana.3, and two places for a gang
wait ana.2 gpus=2 for=1h waited=5m           gpus=2x2: two jobs with two each; also cpus=4,
                                             priority=60, queue=prod, tolerates=spot, on=n1,
                                             and image: its jobs run in one
stopped bo.3 for=ana.2                       bo.3 waits, or leaves, to make room for it
reserved ana.3                               room was kept for it by the plan before
--
start ana.2 n1:2,3
reserve ana.3 n1:0,1 in 50m
stop bo.1 for ana.3
why ana.3 GPUS_BUSY
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import isinf, log
from pathlib import Path
from typing import Any

from controlplane.domain.model import Gpu, GpuShare, PlacementStyle, Queue
from controlplane.domain.plan import Plan
from controlplane.domain.snapshot import (
    Backlog,
    GangRequest,
    GpuView,
    Held,
    MemberPlacement,
    MemberRequest,
    NodeView,
    QueueView,
    RecentUse,
    RunningGang,
    Snapshot,
    UserView,
)
from controlplane.scheduler.decisions import about
from controlplane.scheduler.policy import POLICIES, Policy
from riseml.spec.model import GIB, Resources
from riseml.spec.taints import parse_taint
from riseml.spec.units import parse_duration

NOW = 1_000_000.0
HALF_LIFE = 7 * 86_400.0


@dataclass(frozen=True)
class Scene:
    name: str
    snapshot: Snapshot
    policy: Policy
    expected: tuple[str, ...]


def read(path: Path) -> list[Scene]:
    """All scenes of a file."""
    found: list[list[str]] = []
    for line in path.read_text().splitlines():
        if line.startswith("# "):
            found.append([])
        if line.strip() and found:
            found[-1].append(" ".join(line.split()))
    return [_scene(lines) for lines in found]


def _scene(lines: Sequence[str]) -> Scene:
    middle = lines.index("--")
    builder = SceneBuilder()
    for line in lines[1:middle]:
        builder.add(line)
    return Scene(
        lines[0].removeprefix("# "),
        builder.snapshot(),
        builder.policy,
        tuple(sorted(lines[middle + 1 :])),
    )


class SceneBuilder:
    """Puts a snapshot together from lines; what is free and held follows from who runs."""

    def __init__(self) -> None:
        self.policy = POLICIES["riseml"]
        self._nodes: dict[str, NodeView] = {}
        self._queues: dict[str, Queue] = {"default": Queue("default")}
        self._running: list[RunningGang] = []
        self._pending: list[GangRequest] = []
        self._used: dict[tuple[str, str], float] = {}
        self._made_room: dict[str, str] = {}
        self._reserved: list[str] = []

    def add(self, line: str) -> None:
        kind, name, *words = line.split()
        options = dict(word.split("=", 1) for word in words if "=" in word)
        plain = [word for word in words if "=" not in word]
        match kind:
            case "policy":
                self.policy = POLICIES[name]
            case "node":
                self._nodes[name] = _node(name, options, plain)
            case "queue":
                self._queues[name] = _queue(name, options, plain)
            case "used":
                self._used[options.get("queue", "default"), name] = float(plain[0])
            case "run":
                self._running.append(_running(name, plain, options))
            case "wait":
                self._pending.append(_waiting(name, options, plain, len(self._pending)))
            case "stopped":
                self._made_room[name] = options["for"]
            case "reserved":
                self._reserved.append(name)
            case _:
                raise ValueError(line)

    def snapshot(self) -> Snapshot:
        for gang in self._running:
            for member in gang.members:
                self._nodes[member.node_name] = _less(self._nodes[member.node_name], member)
            if gang.stopping_for:
                self._made_room[gang.experiment_id] = gang.stopping_for
        waiting = {gang.experiment_id for gang in self._pending}
        users = {(gang.queue, gang.user_name) for gang in self._running} | self._used.keys()
        return Snapshot(
            1,
            tuple(self._nodes[name] for name in sorted(self._nodes)),
            Backlog.of(self._pending),
            tuple(self._running),
            tuple(
                QueueView(
                    queue,
                    held(gang for gang in self._running if gang.queue == name),
                    _use(sum(u for (q, _), u in self._used.items() if q == name)),
                )
                for name, queue in sorted(self._queues.items())
            ),
            tuple(
                UserView(
                    queue,
                    user,
                    held(g for g in self._running if (g.queue, g.user_name) == (queue, user)),
                    _use(self._used.get((queue, user), 0.0)),
                )
                for queue, user in sorted(users)
            ),
            preemptors=tuple(sorted(waiting.intersection(self._made_room.values()))),
            reserved=tuple(self._reserved),
            made_room=tuple(sorted(self._made_room.items())),
        )


def held(gangs: Iterable[RunningGang]) -> Held:
    members = [member for gang in gangs for member in gang.members]
    return Held(
        sum(share.milli for member in members for share in member.gpus),
        sum(member.cpu_milli for member in members),
        sum(member.memory_bytes for member in members),
    )


def _use(part: float) -> RecentUse:
    """Of who always held this part of the cluster until now."""
    return RecentUse(part * HALF_LIFE / log(2.0), NOW, 0.0, HALF_LIFE)


def _node(name: str, options: dict[str, str], plain: Sequence[str]) -> NodeView:
    gpus = int(options.get("gpus", "0"))
    cpus = int(options.get("cpus", "64")) * 1000
    model = options.get("model", "H100")
    closed = options.get("closed", "")
    return NodeView(
        name,
        cpus,
        512 * GIB,
        cpus,
        512 * GIB,
        tuple(
            GpuView(Gpu(f"{name}:{i}", i, f"NVIDIA {model}", model, 80 * GIB), 1000)
            for i in range(gpus)
        ),
        (("riseml.com/node", name),),
        not closed,
        closed,
        free_ports=100,
        taints=(parse_taint(options["taint"]),) if "taint" in options else (),
        runs_images="pods" in plain,
        whole_gpus="pods" in plain,
    )


def _less(node: NodeView, member: MemberPlacement) -> NodeView:
    taken = {share.uuid: share.milli for share in member.gpus}
    return replace(
        node,
        free_cpu_milli=node.free_cpu_milli - member.cpu_milli,
        free_memory_bytes=node.free_memory_bytes - member.memory_bytes,
        gpus=tuple(
            replace(view, free_milli=view.free_milli - taken.get(view.gpu.uuid, 0))
            for view in node.gpus
        ),
    )


def _queue(name: str, options: dict[str, str], plain: Sequence[str]) -> Queue:
    limit, default = options.get("limit"), options.get("default")
    return Queue(
        name,
        int(options.get("weight", "1")),
        int(options.get("guarantee", "0")) * 1000,
        None if limit is None else int(limit) * 1000,
        PlacementStyle.SPREAD if "spread" in plain else PlacementStyle.PACK,
        "no-priority-preemption" not in plain,
        None if default is None else parse_duration(default),
    )


def _seconds(options: dict[str, str], name: str) -> int | None:
    text = options.get(name)
    return None if text is None else parse_duration(text)


def _shares(node: str, positions: str) -> tuple[GpuShare, ...]:
    """`0,1` and `2(500)`."""
    shares = []
    for word in filter(None, positions.split(",")):
        position, _, milli = word.removesuffix(")").partition("(")
        shares.append(GpuShare(f"{node}:{position}", int(milli or 1000)))
    return tuple(shares)


def _running(name: str, places: Sequence[str], options: dict[str, str]) -> RunningGang:
    members = []
    for number, place in enumerate(places, 1):
        node, _, positions = place.partition(":")
        cpus = int(options.get("cpus", "1")) * 1000
        members.append(
            MemberPlacement(f"{name}.train.{number}", node, _shares(node, positions), cpus, GIB)
        )
    stopping = _seconds(options, "stopping")
    checkpoint = _seconds(options, "checkpoint")
    return RunningGang(
        name,
        name.partition(".")[0],
        options.get("queue", "default"),
        int(options.get("priority", "50")),
        NOW - (_seconds(options, "started") or 0),
        _seconds(options, "for"),
        tuple(members),
        None if stopping is None else NOW + stopping,
        None if checkpoint is None else NOW - checkpoint,
        grace_period_seconds=float(_seconds(options, "grace") or 0),
        stopping_for=options.get("stopping-for", ""),
    )


def _waiting(name: str, options: dict[str, str], plain: Sequence[str], number: int) -> GangRequest:
    gpus = options.get("gpus", "0")
    count, _, each = gpus.rpartition("x")
    wanted = Resources(
        cpu_milli=int(options.get("cpus", "1")) * 1000,
        memory_bytes=GIB,
        gpu_milli=round(float(each) * 1000),
        gpu_model=options.get("model"),
    )
    on = options.get("on")
    return GangRequest(
        name,
        name.partition(".")[0],
        options.get("queue", "default"),
        int(options.get("priority", "50")),
        NOW - (_seconds(options, "waited") or 0) - 1 + number / 1000,
        tuple(MemberRequest(f"{name}.train.{i}", wanted) for i in range(1, int(count or 1) + 1)),
        () if on is None else (("riseml.com/node", on),),
        max_duration_seconds=_seconds(options, "for"),
        tolerations=(parse_taint(options["tolerates"]),) if "tolerates" in options else (),
        grace_period_seconds=float(_seconds(options, "grace") or 0),
        needs_image="image" in plain,
    )


def told(plan: Plan, snapshot: Snapshot) -> tuple[str, ...]:
    """A plan in the same words."""
    return tuple(sorted(_told(plan, snapshot)))


def _told(plan: Plan, snapshot: Snapshot) -> Iterator[str]:
    for placement in plan.placements:
        yield f"start {placement.experiment_id} {_places(placement.members)}"
    for kept in plan.reservations:
        when = "some time" if isinf(kept.start_time) else f"in {about(kept.start_time - NOW)}"
        yield f"reserve {kept.experiment_id} {_places(kept.members)} {when}"
    for eviction in plan.evictions:
        yield f"stop {eviction.experiment_id} for {eviction.for_experiment_id}"
    started = {placement.experiment_id for placement in plan.placements}
    own = {kept.experiment_id: kept.reason for kept in plan.reservations}
    reasons = {one.shape: one for one in plan.waiting}
    for gang in snapshot.pending:
        if gang.experiment_id not in started:
            waiting = reasons[gang.shape]
            first = own.get(gang.experiment_id)
            said = ([first] if first is not None else []) + list(waiting.reasons)
            codes = [reason.code.value for reason in said]
            yield " ".join(["why", gang.experiment_id, *["never"] * waiting.impossible, *codes])


def _places(members: Sequence[MemberPlacement]) -> str:
    places = []
    for member in members:
        positions = [
            share.uuid.partition(":")[2] + ("" if share.milli == 1000 else f"({share.milli})")
            for share in member.gpus
        ]
        places.append(":".join([member.node_name, ",".join(positions)]).removesuffix(":"))
    counted = Counter(places)
    return " ".join(f"{n}x{place}" if n > 1 else place for place, n in counted.items())


def value_of(plan: Plan) -> Any:
    """Of plans that decide alike, whatever they say."""
    return plan.placements, plan.evictions, [r.members for r in plan.reservations]
