"""Whether a cluster could ever hold something: asked at submission, before any cycle has come."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from controlplane.domain.snapshot import GangRequest, NodeView
from controlplane.scheduler.feasibility import Barrier, EligibleKey, barrier_of
from controlplane.scheduler.obstacles import room_when_empty, too_small
from riseml.spec.model import Resources


def could_ever_hold(nodes: Sequence[NodeView], gang: GangRequest) -> bool:
    """Whether these nodes could hold a gang once all that runs there has ended: what a cycle calls
    impossible is not so. A cluster without nodes has everything before it.

    Looks only at as many nodes as it needs.
    """
    counts = Counter([member.resources for member in gang.members])
    key = EligibleKey.of(gang)
    return not nodes or all(_hold(nodes, key, wanted, n) for wanted, n in counts.items())


def _hold(nodes: Sequence[NodeView], key: EligibleKey, wanted: Resources, count: int) -> bool:
    room = 0
    for node in nodes:
        if barrier_of(node, key) is Barrier.NONE and too_small(node, wanted) is None:
            room += room_when_empty(node, wanted)
            if room >= count:
                return True
    return False
