"""What was found not to fit in a cycle, so that it is not tried again.

Room only becomes less in a cycle: what did not fit does not fit a moment later, nor does what asks
for as much or more on the same nodes and ends no sooner.
"""

from __future__ import annotations

from math import inf

from controlplane.scheduler.feasibility import wants_share
from riseml.spec.model import Resources


class FullFor:
    """Kinds of gangs for which there is no room. A time of end None is never.

    `some_whole`: some nodes give whole GPUs only, so that there may be room for one where there is
    none for a share.
    """

    def __init__(self, some_whole: bool) -> None:
        self._some_whole = some_whole
        # By kind, and of single jobs by the nodes that they may use: if it ends then or later.
        self._kinds: dict[int, float] = {}
        self._jobs: dict[int, list[tuple[Resources, float]]] = {}

    def note(
        self,
        kind: int,
        eligible: int,
        wanted: tuple[Resources, ...],
        until: float | None,
    ) -> None:
        """A gang that asks for this found no place."""
        end = inf if until is None else until
        self._kinds[kind] = min(end, self._kinds.get(kind, inf))
        if len(wanted) == 1:
            self._jobs.setdefault(eligible, []).append((wanted[0], end))

    def certainly(
        self,
        kind: int,
        eligible: int,
        wanted: tuple[Resources, ...],
        until: float | None,
    ) -> bool:
        """Whether a gang cannot fit, by what was found."""
        end = inf if until is None else until
        known = self._kinds.get(kind)
        if known is not None and known <= end:
            return True
        jobs = self._jobs.get(eligible)
        if jobs is None:
            return False
        for one in dict.fromkeys(wanted) if len(wanted) > 1 else wanted:
            for less, since in jobs:
                if since <= end and _asks_no_less(one, less):
                    if self._some_whole and wants_share(less) and not wants_share(one):
                        continue
                    return True
        return False


def _asks_no_less(wanted: Resources, other: Resources) -> bool:
    """Whether every node with room for the first has room for the second."""
    if (
        wanted.cpu_milli < other.cpu_milli
        or wanted.memory_bytes < other.memory_bytes
        or wanted.shm_bytes < other.shm_bytes
        or wanted.gpu_milli < other.gpu_milli
    ):
        return False
    return not other.gpu_milli or (
        wanted.gpu_min_memory_bytes >= other.gpu_min_memory_bytes
        and (other.gpu_model is None or other.gpu_model == wanted.gpu_model)
    )
