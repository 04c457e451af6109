"""What jobs ask for in this cluster, learned from those that were submitted: `Snapshot.mix`.

Each job counts once when its experiment is created, and half as much whenever HALF_LIFE_JOBS more
have come. What is shown changes in steps, when a good part of what is known is new: caches of the
scheduler last as long as it is the same object. A cluster that is new is taken to be like others
(`GENERIC_MIX`), until its own jobs say otherwise.
"""

from __future__ import annotations

from math import exp2
from typing import Final

from controlplane.domain.snapshot import Mix
from controlplane.scheduler.mix import GENERIC_MIX
from riseml.spec.model import Resources

HALF_LIFE_JOBS: Final = 10_000.0
# So many jobs the generic mix counts at first.
PRIOR_JOBS: Final = 20.0
# Shown anew when so many have come, at least, and such a part of what is known.
FEWEST_NEW: Final = 20.0
NEW_PART: Final = 0.6
MOST_KINDS: Final = 512


class JobMix:
    """Counts jobs by what they ask for."""

    def __init__(self) -> None:
        self._counts = {wanted: PRIOR_JOBS * part for wanted, part in GENERIC_MIX}
        self._known = PRIOR_JOBS
        self._new: dict[Resources, float] = {}
        self._new_jobs = 0.0
        self._shown: Mix = GENERIC_MIX

    def saw(self, wanted: Resources, jobs: float = 1.0) -> None:
        """So many jobs that ask for this were submitted."""
        self._new[wanted] = self._new.get(wanted, 0.0) + jobs
        self._new_jobs += jobs

    def shown(self) -> Mix:
        """By what most jobs asked for first; the same object as long as it is the same."""
        if self._new_jobs >= max(FEWEST_NEW, NEW_PART * self._known):
            self._learn()
        return self._shown

    def _learn(self) -> None:
        fades = exp2(-self._new_jobs / HALF_LIFE_JOBS)
        counts = {wanted: jobs * fades for wanted, jobs in self._counts.items()}
        for wanted, jobs in self._new.items():
            counts[wanted] = counts.get(wanted, 0.0) + jobs
        ranked = sorted(counts.items(), key=lambda one: (-one[1], _order(one[0])))[:MOST_KINDS]
        self._counts = dict(ranked)
        self._known = sum(self._counts.values())
        self._new.clear()
        self._new_jobs = 0.0
        self._shown = tuple([(wanted, jobs / self._known) for wanted, jobs in ranked])


def _order(wanted: Resources) -> tuple[int, int, int, str, int, int]:
    return (
        wanted.gpu_milli,
        wanted.cpu_milli,
        wanted.memory_bytes,
        wanted.gpu_model or "",
        wanted.gpu_min_memory_bytes,
        wanted.shm_bytes,
    )
