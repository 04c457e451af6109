"""Which attempts start together. PURE."""

from __future__ import annotations

from collections.abc import Sequence

from controlplane.domain.model import AttemptOrder
from controlplane.launch.kubernetes.wanted import Wanted
from riseml.spec.ids import AttemptId, JobId, parse_attempt_id


def complete_gangs(wanteds: Sequence[Wanted]) -> list[list[Wanted]]:
    """Of one experiment: its gangs all of whose members are known; a job alone is one of one."""
    by_id = {w.attempt_id: w for w in wanteds if w.order is not None}
    found: dict[int, list[Wanted]] = {}
    for wanted in by_id.values():
        order = wanted.order
        if order is None or order.generation in found:
            continue
        members = [by_id.get(attempt_id) for attempt_id in _member_ids(order)]
        found[order.generation] = [w for w in members if w is not None]
        if len(found[order.generation]) < len(members):
            found[order.generation] = []
    return [gang for gang in found.values() if gang]


def _member_ids(order: AttemptOrder) -> list[str]:
    if not order.peers:
        return [order.attempt_id]
    experiment = parse_attempt_id(order.attempt_id).job.experiment
    return [
        str(AttemptId(JobId(experiment, p.job_type, p.job_number), order.generation))
        for p in order.peers
    ]
