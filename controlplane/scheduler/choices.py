"""Why members were placed where they were, in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from controlplane.domain.model import PlacementStyle
from controlplane.scheduler.arrays import Floats
from controlplane.scheduler.packing import Spot
from controlplane.scheduler.policy import Placement
from controlplane.scheduler.scoring import FARTHER, GPU_WORTH
from controlplane.scheduler.table import NodeTable

_SHOWN: Final = 3


@dataclass(frozen=True, slots=True)
class Choice:
    """Why a member was placed where it was."""

    job_id: str
    node_name: str
    # How many nodes had room for it; 0: it is told of another member.
    feasible_nodes: int
    # In words.
    reason: str
    # Nodes that came next, each with why it was not taken.
    runners_up: tuple[str, ...] = ()


def tell(
    table: NodeTable,
    placement: Placement,
    style: PlacementStyle,
    jobs: Sequence[str],
    spots: Sequence[Spot],
) -> tuple[Choice, ...]:
    """Of each member; of several equal ones those after the first have no words of their own."""
    by_worth = style is PlacementStyle.PACK and placement in (Placement.RISEML, Placement.FGD)
    found = []
    for job_id, spot in zip(jobs, spots, strict=True):
        if spot.scores is None:
            found.append(Choice(job_id, spot.node.name, int(bool(spot.reason)), spot.reason))
            continue
        chosen = spot.node.index
        scores = spot.scores
        best = float(scores[chosen])
        feasible = int(np.count_nonzero(scores < np.inf))
        lost = _gpus(best) if by_worth else None
        words = _words(placement, style, feasible, lost)
        others = [
            f"{table.nodes[row].name}: {_why_not(score, best, lost)}"
            for row, score in _next(scores, chosen)
        ]
        found.append(Choice(job_id, spot.node.name, feasible, words, tuple(others)))
    return tuple(found)


def _next(scores: Floats, chosen: int) -> list[tuple[int, float]]:
    """Rows of the best others with their scores, best first, of equal ones by name."""
    found = [(chosen, float(scores[chosen]))]
    for _ in range(_SHOWN):
        scores[found[-1][0]] = np.inf
        row = int(scores.argmin())
        score = float(scores[row])
        if score == np.inf:
            break
        found.append((row, score))
    for row, score in found:
        scores[row] = score
    return found[1:]


def _words(placement: Placement, style: PlacementStyle, feasible: int, lost: str | None) -> str:
    if feasible == 1:
        return "the only node with room for it"
    if style is PlacementStyle.SPREAD:
        return f"of {feasible} nodes with room the one with the most left"
    if placement is Placement.RANDOM:
        return f"drawn at random among {feasible} nodes with room"
    if lost is None:
        return f"of {feasible} nodes with room the one that is left with the least"
    return f"of {feasible} nodes with room it takes least there from jobs to come: {lost}"


def _why_not(score: float, best: float, lost: str | None) -> str:
    if score - best >= FARTHER:
        return "its free GPUs are less close to each other"
    if lost is None:
        return "as good" if score == best else "less fitting"
    other = _gpus(score)
    return "as good" if other == lost else f"would take {other}"


def _gpus(score: float) -> str:
    """What is lost in worth, without what stands for the distance between GPUs."""
    lost = score - FARTHER * round(score / FARTHER)
    return f"{max(0.0, lost) / GPU_WORTH:.2f} GPUs"
