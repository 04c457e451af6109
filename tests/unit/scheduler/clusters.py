"""Busy clusters for property tests: nodes, queues, who runs, who waits.

Made of scene lines, so that an example that fails can be read, and pasted into a scene.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from hypothesis import strategies as st

from controlplane.domain.plan import GangPlacement, Plan, Reservation
from controlplane.domain.snapshot import (
    Backlog,
    GangRequest,
    MemberPlacement,
    NodeView,
    QueueView,
    RunningGang,
    Snapshot,
)
from tests.unit.scheduler.scenes import NOW, SceneBuilder, held

DURATIONS = ("1m", "1h", "2h", "3h", "9h")


def snapshot_of(lines: Iterable[str]) -> Snapshot:
    builder = SceneBuilder()
    for line in lines:
        builder.add(line)
    return builder.snapshot()


@st.composite
def scenes(draw: st.DrawFn, most_waiting: int = 8, overdue: bool = True) -> list[str]:
    """Lines of a scene; perhaps with some who have waited for too long."""
    lines = []
    free: dict[str, list[str]] = {}
    cpus: dict[str, int] = {}
    for number in range(1, draw(st.integers(1, 4)) + 1):
        name, gpus = f"n{number}", draw(st.integers(0, 4))
        cpus[name] = draw(st.sampled_from([4, 8]))
        closed = draw(st.sampled_from(["", "", "", " closed=lost"]))
        pods = draw(st.sampled_from(["", "", " pods"]))
        lines.append(f"node {name} gpus={gpus} cpus={cpus[name]}{closed}{pods}")
        free[name] = [str(position) for position in range(gpus)]
    queues = draw(st.sampled_from([["default"], ["default", "lab"], ["default", "lab", "prod"]]))
    for name in queues:
        guarantee, weight = draw(st.integers(0, 4)), draw(st.integers(1, 3))
        limit = draw(st.sampled_from(["", "", " limit=2", " limit=4"]))
        style = draw(st.sampled_from(["", "", " spread", " no-priority-preemption"]))
        lines.append(f"queue {name} weight={weight} guarantee={guarantee}{limit}{style}")
    for number in range(draw(st.integers(0, 6))):
        lines += _run(draw, f"{_user(draw)}.{number}", queues, free, cpus)
    for number in range(draw(st.integers(0, most_waiting))):
        waited = ["0s", "10m", "80h"] if overdue else ["0s", "10m"]
        lines.append(_wait(draw, f"{_user(draw)}.{100 + number}", queues, waited))
    return lines


def _user(draw: st.DrawFn) -> str:
    return draw(st.sampled_from(["ana", "bo", "cy"]))


def _run(
    draw: st.DrawFn,
    name: str,
    queues: Sequence[str],
    free: dict[str, list[str]],
    cpus: dict[str, int],
) -> list[str]:
    places = []
    for _ in range(draw(st.sampled_from([1, 1, 2]))):
        node = draw(st.sampled_from(sorted(free)))
        if not cpus[node]:
            return []
        count = draw(st.integers(0, len(free[node])))
        taken, free[node] = free[node][:count], free[node][count:]
        cpus[node] -= 1
        places.append(":".join([node, ",".join(taken)]))
    words = [f"run {name}", *places, f"queue={draw(st.sampled_from(queues))}"]
    words.append(f"priority={draw(st.sampled_from([40, 50, 60]))}")
    words.append(f"started={draw(st.sampled_from(['1m', '1h', '2h']))}")
    words.append(draw(st.sampled_from(["", *(f"for={d}" for d in DURATIONS)])))
    words.append(draw(st.sampled_from(["", "", "stopping=20s"])))
    words.append(draw(st.sampled_from(["", "grace=30s", "checkpoint=1m"])))
    return [" ".join(filter(None, words))]


def _wait(draw: st.DrawFn, name: str, queues: Sequence[str], waited: Sequence[str]) -> str:
    words = [f"wait {name}", f"queue={draw(st.sampled_from(queues))}"]
    words.append(f"gpus={draw(st.sampled_from(['0', '0.5', '1', '2', '3', '4', '2x1', '2x2']))}")
    words.append(f"cpus={draw(st.sampled_from([1, 1, 2, 4]))}")
    words.append(f"priority={draw(st.sampled_from([40, 50, 60]))}")
    words.append(draw(st.sampled_from(["", *(f"for={d}" for d in DURATIONS)])))
    words.append(f"waited={draw(st.sampled_from(waited))}")
    words.append(draw(st.sampled_from(["", "", "grace=30s"])))
    words.append(draw(st.sampled_from(["", "", "", "image"])))
    return " ".join(filter(None, words))


def end_of(gang: RunningGang) -> float:
    """When the scheduler may count on what it holds; infinity: never."""
    return float("inf") if gang.end_time is None else max(gang.end_time, NOW + 1.0)


def as_running(
    request: GangRequest, members: tuple[MemberPlacement, ...], start_time: float
) -> RunningGang:
    return RunningGang(
        request.experiment_id,
        request.user_name,
        request.queue,
        request.priority,
        start_time,
        request.max_duration_seconds,
        members,
        grace_period_seconds=request.grace_period_seconds,
    )


def without(
    picture: Snapshot, running: Iterable[str] = (), pending: Iterable[str] = ()
) -> Snapshot:
    """The snapshot when these have ended, or do not wait; what is free and held follows."""
    gone, left = set(running), set(pending)
    ended = [gang for gang in picture.running if gang.experiment_id in gone]
    return _with_running(
        replace(
            picture,
            pending=Backlog.of(g for g in picture.pending if g.experiment_id not in left),
            preemptors=tuple(name for name in picture.preemptors if name not in left),
        ),
        tuple(gang for gang in picture.running if gang.experiment_id not in gone),
        [member for gang in ended for member in gang.members],
        sign=1,
    )


def applied(picture: Snapshot, placements: Iterable[GangPlacement], now: float) -> Snapshot:
    """The snapshot when these have started."""
    requests = {request.experiment_id: request for request in picture.pending}
    started = [as_running(requests[p.experiment_id], p.members, now) for p in placements]
    return _with_running(
        replace(
            picture,
            version=picture.version + 1,
            pending=Backlog.of(
                request
                for request in picture.pending
                if request.experiment_id not in {gang.experiment_id for gang in started}
            ),
        ),
        (*picture.running, *started),
        [member for gang in started for member in gang.members],
        sign=-1,
    )


def _with_running(
    picture: Snapshot,
    running: tuple[RunningGang, ...],
    moved: Sequence[MemberPlacement],
    sign: int,
) -> Snapshot:
    return replace(
        picture,
        nodes=tuple(_moved(node, moved, sign) for node in picture.nodes),
        running=running,
        queues=tuple(
            QueueView(view.queue, held(g for g in running if g.queue == view.queue.name), view.use)
            for view in picture.queues
        ),
        users=tuple(
            replace(
                view,
                held=held(
                    g for g in running if (g.queue, g.user_name) == (view.queue, view.user_name)
                ),
            )
            for view in picture.users
        ),
    )


def _moved(node: NodeView, members: Sequence[MemberPlacement], sign: int) -> NodeView:
    here = [member for member in members if member.node_name == node.name]
    if not here:
        return node
    milli: dict[str, int] = {}
    for member in here:
        for share in member.gpus:
            milli[share.uuid] = milli.get(share.uuid, 0) + share.milli
    return replace(
        node,
        free_cpu_milli=node.free_cpu_milli + sign * sum(m.cpu_milli for m in here),
        free_memory_bytes=node.free_memory_bytes + sign * sum(m.memory_bytes for m in here),
        gpus=tuple(
            replace(view, free_milli=view.free_milli + sign * milli.get(view.gpu.uuid, 0))
            for view in node.gpus
        ),
    )


def occupants(picture: Snapshot, plan: Plan) -> list[tuple[float, float, RunningGang]]:
    """All that holds room by a plan: from when, until when at the latest, and what."""
    requests = {request.experiment_id: request for request in picture.pending}
    found = [(NOW, end_of(gang), gang) for gang in picture.running]
    stopped = {eviction.experiment_id for eviction in plan.evictions}
    found = [
        (start, min(end, NOW + max(1.0, gang.grace_period_seconds)), gang)
        if gang.experiment_id in stopped
        else (start, end, gang)
        for start, end, gang in found
    ]
    for placement in plan.placements:
        gang = as_running(requests[placement.experiment_id], placement.members, NOW)
        found.append((NOW, end_of(gang), gang))
    for kept in plan.reservations:
        found.append((kept.start_time, *_kept(requests[kept.experiment_id], kept)))
    return found


def _kept(request: GangRequest, kept: Reservation) -> tuple[float, RunningGang]:
    gang = as_running(request, kept.members, kept.start_time)
    return (float("inf") if gang.end_time is None else gang.end_time, gang)
