"""Who comes first: higher priority, then earlier submission, then the id."""

from __future__ import annotations

from collections.abc import Iterable

from controlplane.domain.plan import GangRequest


def in_order(pending: Iterable[GangRequest]) -> list[GangRequest]:
    """The order in which places are given, whatever the order of `pending`."""
    return sorted(pending, key=_key)


def _key(gang: GangRequest) -> tuple[int, float, int, str]:
    # Children of a set are submitted in the same moment; by length first, .2 comes before .10.
    name = gang.experiment_id
    return (-gang.priority, gang.submit_time, len(name), name)
