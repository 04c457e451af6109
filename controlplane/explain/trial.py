"""A snapshot as it would be if others waited: for asking what would become of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from controlplane.domain.snapshot import Backlog, GangRequest, Line, Snapshot


def find_gang(snapshot: Snapshot, experiment_id: str) -> GangRequest | None:
    """The gang that waits under this id."""
    return next((one for one in snapshot.pending if one.experiment_id == experiment_id), None)


def with_gangs(snapshot: Snapshot, gangs: Sequence[GangRequest]) -> Snapshot:
    """The snapshot with these gangs waiting as well; lines that they do not join stay as they
    are.
    """
    if not gangs:
        return snapshot
    joining: dict[tuple[object, int], list[GangRequest]] = {}
    for gang in gangs:
        joining.setdefault((gang.shape, gang.priority), []).append(gang)
    lines: list[Line] = []
    for line in snapshot.pending.lines:
        more = joining.pop((line.shape, line.priority), None)
        lines.append(line if more is None else _line([*line, *more]))
    lines += [_line(equals) for equals in joining.values()]
    return replace(snapshot, pending=Backlog(tuple(lines)))


def without_gang(snapshot: Snapshot, experiment_id: str) -> Snapshot:
    """The snapshot as though this gang did not wait."""
    lines: list[Line] = []
    for line in snapshot.pending.lines:
        rest = [gang for gang in line if gang.experiment_id != experiment_id]
        if len(rest) == len(line):
            lines.append(line)
        elif rest:
            lines.append(_line(rest))
    return replace(snapshot, pending=Backlog(tuple(lines)))


def _line(gangs: list[GangRequest]) -> Line:
    gangs.sort(key=lambda gang: gang.rank)
    return Line(gangs[0].shape, gangs[0].priority, gangs, 0, len(gangs))
