"""The best node for a member, found without scoring every node for every member.

For each kind of member the scores of all nodes are kept, and before they are used again those of
the nodes that changed since are made anew. Where many are new, nodes in equal states are scored
once. The numbers that scores depend on beside the node and the member (how patient to be, how tight
CPUs and memory are) move in steps, so that scores last; those of the last few steps are kept.
"""

from __future__ import annotations

from typing import Final, NamedTuple
from zlib import crc32

import numpy as np

from controlplane.domain.model import PlacementStyle
from controlplane.domain.snapshot import Mix
from controlplane.scheduler.arrays import Flags, Floats, Ints
from controlplane.scheduler.demand import Demand
from controlplane.scheduler.policy import Placement, Policy
from controlplane.scheduler.scoring import Ask, Scoring, ask
from controlplane.scheduler.table import NodeTable
from controlplane.scheduler.worth import Worth, patience_of
from riseml.spec.model import Resources

# Of scores and picks that are kept.
_MOST_BYTES: Final = 96 << 20
_FEWEST_KINDS: Final = 64
_MOST_STEPS: Final = 4
_TIGHTEST: Final = 1000.0
_TIGHT_STEPS: Final = 8

Kind = tuple[Resources, PlacementStyle]


class Scores(NamedTuple):
    """Of all nodes for one kind of member, by row. Not to be changed."""

    # Infinity where there is no room.
    scores: Floats
    # The level of free thousandths that a share is taken of.
    picks: Ints


class _Kept:
    __slots__ = ("asked", "picks", "scores", "seen")

    def __init__(self, asked: Ask, scores: Floats, picks: Ints, seen: int) -> None:
        self.asked = asked
        self.scores = scores
        self.picks = picks
        # The table's clock when they were true.
        self.seen = seen


class _Step:
    """What holds as long as the numbers are the same."""

    def __init__(self, scoring: Scoring) -> None:
        self.scoring = scoring
        self.kinds: dict[Kind, _Kept] = {}


class Candidates:
    """For one table. `mix` may change from call to call."""

    def __init__(self, table: NodeTable, policy: Policy) -> None:
        self._table = table
        self._policy = policy
        self._mix: Mix | None = None
        self._demand = Demand(())
        self._worths: dict[float | None, Worth] = {}
        self._steps: dict[tuple[float | None, float], _Step] = {}

    @property
    def at_random(self) -> bool:
        return self._policy.placement is Placement.RANDOM

    def learn(self, mix: Mix) -> None:
        """What jobs ask for; the same object as long as it is the same."""
        if mix is not self._mix:
            self._mix = mix
            self._demand = Demand(mix)
            self._worths.clear()
            self._steps.clear()

    def scores(self, wanted: Resources, style: PlacementStyle) -> Scores:
        """As things are now."""
        table = self._table
        table.sync()
        step = self._step()
        kind = (wanted, style)
        kept = step.kinds.pop(kind, None)
        if kept is None:
            self._make_place(step)
            asked = ask(table, wanted, style)
            first, which = table.distinct()
            scores, picks = step.scoring.score(first, asked)
            kept = _Kept(asked, scores[which], picks[which], table.clock)
        elif kept.seen != table.clock:
            (rows,) = (table.changed > kept.seen).nonzero()
            kept.scores[rows], kept.picks[rows] = step.scoring.score(rows, kept.asked)
            kept.seen = table.clock
        # What was used last is the last to be forgotten.
        step.kinds[kind] = kept
        return Scores(kept.scores, kept.picks)

    def _make_place(self, step: _Step) -> None:
        """For one more kind of member."""
        most = max(_FEWEST_KINDS, _MOST_BYTES // (16 * max(1, len(self._table.nodes))))
        while sum(len(one.kinds) for one in self._steps.values()) >= most:
            oldest = next((one for one in self._steps.values() if one.kinds), step)
            del oldest.kinds[next(iter(oldest.kinds))]

    def best(self, found: Scores, allowed: Flags | None, job_id: str) -> int | None:
        """The row of the best node, None when no node is allowed and has room."""
        scores = found.scores
        if allowed is not None:
            scores = np.where(allowed, scores, np.inf)
        if not len(scores):
            return None
        if self.at_random:
            rows = np.flatnonzero(np.isfinite(scores))
            if not len(rows):
                return None
            seed = (self._policy.seed, crc32(job_id.encode()))
            return int(np.random.default_rng(seed).choice(rows))
        row = int(scores.argmin())
        return None if scores[row] == np.inf else row

    def _step(self) -> _Step:
        placement = self._policy.placement
        patience, tightness = None, _TIGHTEST if placement is Placement.BEST_FIT else 1.0
        if placement is Placement.RISEML:
            table = self._table
            patience = patience_of(table.free_gpu_milli, table.partly_gpu_milli)
            tightness = self._tightness()
        key = (patience, tightness)
        step = self._steps.pop(key, None)
        if step is None:
            worth = None
            if placement in (Placement.RISEML, Placement.FGD):
                worth = self._worths.get(patience)
                if worth is None:
                    worth = self._worths[patience] = Worth(self._demand, self._table, patience)
            step = _Step(Scoring(self._table, worth, tightness))
            while len(self._steps) >= _MOST_STEPS:
                del self._steps[next(iter(self._steps))]
        self._steps[key] = step
        return step

    def _tightness(self) -> float:
        """More than 1 when jobs ask for more CPUs or memory per GPU than is free per GPU."""
        table, demand = self._table, self._demand
        gpus = table.free_gpu_milli + 1.0
        over = max(
            demand.cpu_per_gpu * gpus / (table.free_cpu_milli + 1.0),
            demand.memory_per_gpu * gpus / (table.free_memory_bytes + 1.0),
        )
        part = min(1.0, max(0.0, over - 1.0))
        return max(1.0, _TIGHTEST * round(part * _TIGHT_STEPS) / _TIGHT_STEPS)
