"""How good each node is for a member that fits there; the lowest score is best.

Under `riseml` and `fgd` it is what the leftovers of the cluster lose in worth (`worth.py`), and of
nodes that lose the same the one that is left with least; when CPUs or memory are scarcer than GPUs
in what jobs ask for, the latter counts more. Members with several GPUs go where these are close
first of all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from controlplane.domain.model import PlacementStyle
from controlplane.scheduler.arrays import Flags, Floats, Ints
from controlplane.scheduler.table import MIXED, NO_GPUS, NodeTable, RoomNode
from controlplane.scheduler.topology import FAR, closest, distance
from controlplane.scheduler.worth import UNITS, Worth
from riseml.spec.model import GPU, Resources

FARTHER: Final = 2.0**50
"""What it costs that the GPUs of a member are one step less close: more than all else.
"""
GPU_WORTH: Final = UNITS * GPU
"""What a whole GPU is worth that all jobs could use."""

_SPREAD: Final = 2.0**30
# Jobs without GPUs stay off nodes with some, where nothing else speaks for these.
_BESIDE_GPUS: Final = 8.0 * UNITS

_WHOLE: Final = np.full(1, GPU)


@dataclass(frozen=True, slots=True)
class Ask:
    """A member as it is scored."""

    cpu_milli: int
    memory_bytes: int
    # Of each GPU, and how many.
    level: int
    count: int
    # By class, which GPUs do.
    fits: Flags
    spread: bool
    # Whether GPUs of any class do.
    any_class: bool

    @property
    def gpu_milli(self) -> int:
        return self.level * self.count


def ask(table: NodeTable, wanted: Resources, style: PlacementStyle) -> Ask:
    """For the nodes of a table."""
    fits = table.fitting(wanted)
    return Ask(
        wanted.cpu_milli,
        wanted.memory_bytes,
        min(wanted.gpu_milli, GPU),
        wanted.gpu_count,
        fits,
        style is PlacementStyle.SPREAD,
        bool(fits[1:].all()),
    )


class Scoring:
    """One way to score. `worth` None: by what is left alone (best fit). `tightness`: what leaving
    all of a largest node free costs, in thousandths of a GPU.
    """

    def __init__(self, table: NodeTable, worth: Worth | None, tightness: float) -> None:
        self._table = table
        self._worth = worth
        self._tightness = tightness * UNITS
        # Memory is rarely what is short; the published best fit leaves it out.
        self._memory_part = 0.0 if worth is None else 0.05

    def score(self, rows: Ints, asked: Ask) -> tuple[Floats, Ints]:
        """By row, infinity where it does not fit; and of which level of free thousandths a share is
        taken there.
        """
        table = self._table
        fit = table.cpu[rows] >= asked.cpu_milli
        fit &= table.memory[rows] >= asked.memory_bytes
        if asked.level:
            width = table.levels.shape[1]
            if asked.count > width:
                fit[:] = False
            else:
                # Levels ascend.
                fit &= table.levels[:, width - asked.count][rows] >= asked.level
            if table.mixed or not asked.any_class:
                # The class MIXED is the last one here, and is looked at below.
                fit &= np.append(asked.fits, False)[table.gpu_class[rows]]
        elif table.mixed:
            fit &= table.gpu_class[rows] != MIXED
        (found,) = fit.nonzero()
        scores = np.empty(len(rows))
        scores.fill(np.inf)
        picks = np.zeros(len(rows), dtype=np.int64)
        if len(found):
            scores[found], picks[found] = self._uniform(rows[found], asked)
        if table.mixed:
            mixed = np.flatnonzero(table.gpu_class[rows] == MIXED)
            for place in mixed.tolist():
                scores[place], picks[place] = self._mixed(int(rows[place]), asked)
        return scores, picks

    def _uniform(self, rows: Ints, asked: Ask) -> tuple[Floats, Ints]:
        """Of rows that fit, whose nodes have GPUs of one class, or none."""
        table, worth = self._table, self._worth
        share = 0 < asked.level < GPU
        alone = len(table.nodes) == 1 or (not asked.level and len(table.classes) == 1)
        if worth is None or asked.spread or (alone and not share):
            # Where there is nothing to choose between, or no GPUs anywhere, worths say nothing.
            cpu, memory = table.cpu[rows] - asked.cpu_milli, table.memory[rows] - asked.memory_bytes
            return self._apart_from_worth(rows, cpu, memory, asked), self._plain_picks(rows, asked)
        number = len(rows)
        states = table.state[rows]
        before = worth.known(states, table.states)
        (unknown,) = np.isnan(before).nonzero()
        # What the leftovers are worth as they are is worked out along with what will be left.
        every = np.concatenate((rows, rows[unknown])) if len(unknown) else rows
        cpu, memory, levels = table.cpu[every], table.memory[every], table.levels[every]
        cpu[:number] -= asked.cpu_milli
        memory[:number] -= asked.memory_bytes
        score = self._apart_from_worth(rows, cpu[:number], memory[:number], asked)
        counts = worth.counts(levels)
        which: Ints | None = None
        taken: Ints | None = None
        if share:
            # One leftover for each different level that a share can be taken of.
            good = levels >= asked.level
            good[:, 1:] &= levels[:, 1:] != levels[:, :-1]
            good[number:] = False
            good[number:, 0] = True
            which, columns = good.nonzero()
            options = len(which) - len(unknown)
            levels, counts = levels[which], counts[which]
            place = np.arange(len(which))
            taken = levels[place, columns]
            left = taken.copy()
            left[:options] -= asked.level
            levels[place, columns] = left
            counts -= worth.per_level(taken)
            counts += worth.per_level(left)
        elif asked.count:
            # Wholly free ones are the last.
            levels[:number, levels.shape[1] - asked.count :] = 0
            counts[:number] -= asked.count * worth.per_level(_WHOLE)
        after = worth.of(cpu, memory, table.gpu_class[every], which, levels, counts)
        if len(unknown):
            news = after[len(after) - len(unknown) :]
            before[unknown] = news
            worth.learn(states[unknown], news)
            after = after[: len(after) - len(unknown)]
        score += before
        if which is None or taken is None:
            return score - after, np.zeros(number, dtype=np.int64)
        if len(after) == number:
            return score - after, taken[:number]
        # Of the levels of one node the one that loses least, of equal ones the fullest.
        which = which[: len(after)]
        starts = np.flatnonzero(np.append(True, which[1:] != which[:-1]))
        most = np.maximum.reduceat(after, starts)
        hits = np.flatnonzero(after == most[which])[::-1]
        picks = np.empty(number, dtype=np.int64)
        picks[which[hits]] = taken[hits]
        return score - most, picks

    def _apart_from_worth(self, rows: Ints, cpu: Floats, memory: Floats, asked: Ask) -> Floats:
        """`cpu` and `memory` are what is left."""
        table = self._table
        left = table.free[rows] - asked.gpu_milli
        score = cpu * (0.5 * self._tightness / table.most_cpu)
        score += left * (0.5 * self._tightness / table.most_gpu_milli)
        score += memory * (self._memory_part * self._tightness / table.most_memory)
        if not asked.level:
            score += _BESIDE_GPUS * (table.gpu_class[rows] != NO_GPUS)
        elif table.has_sizes:
            score += UNITS * table.gpu_memory[table.gpu_class[rows]]
        np.rint(score, out=score)
        if asked.spread:
            score -= _SPREAD * (left if asked.level else cpu)
        if asked.count > 1 and table.has_layouts:
            score += FARTHER * np.array([self._distance(row, asked.count) for row in rows.tolist()])
        return score

    def _plain_picks(self, rows: Ints, asked: Ask) -> Ints:
        """The fullest GPU that does; to spread, the emptiest."""
        if not 0 < asked.level < GPU:
            return np.zeros(len(rows), dtype=np.int64)
        levels = self._table.levels[rows]
        if asked.spread:
            most: Ints = levels[:, -1]
            return most
        columns = (levels >= asked.level).argmax(axis=1)
        least: Ints = levels[np.arange(len(rows)), columns]
        return least

    def _distance(self, row: int, count: int) -> int:
        node = self._table.nodes[row]
        if not node.layout:
            return FAR
        free = [position for position, milli in enumerate(node.gpu_free) if milli == GPU]
        return distance(node.layout, free, count)

    # --- nodes with GPUs of several classes

    def _mixed(self, row: int, asked: Ask) -> tuple[float, int]:
        """Such a node counts as one for each class, which have their CPUs and memory in common."""
        table, worth = self._table, self._worth
        node = table.nodes[row]
        cpu = node.free_cpu_milli - asked.cpu_milli
        memory = node.free_memory_bytes - asked.memory_bytes
        options = _options(node, asked) if min(cpu, memory) >= 0 else []
        if not options:
            return float("inf"), 0
        left = np.array([float(cpu)]), np.array([float(memory)])
        score = float(self._apart_from_worth(np.array([row]), *left, asked)[0])
        if worth is None or asked.spread:
            return score, options[-1 if asked.spread else 0][0]
        before = self._worth_of_mixed(worth, row, float(table.cpu[row]), table.memory[row], None)
        lost = [
            (before - self._worth_of_mixed(worth, row, float(cpu), float(memory), rest), pick)
            for pick, rest in options
        ]
        least, pick = min(lost)
        return score + least, pick

    def _worth_of_mixed(
        self, worth: Worth, row: int, cpu: float, memory: float, gpu_free: list[int] | None
    ) -> float:
        node = self._table.nodes[row]
        free = node.gpu_free if gpu_free is None else gpu_free
        kinds = sorted(set(node.classes))
        levels = np.array(
            [
                [max(0, m) if c == kind else 0 for m, c in zip(free, node.classes, strict=True)]
                for kind in kinds
            ]
        )
        number = len(kinds)
        found = worth.of(
            np.full(number, cpu),
            np.full(number, memory),
            np.array(kinds),
            None,
            levels,
            worth.counts(levels),
        )
        return float(found.sum())


def _options(node: RoomNode, asked: Ask) -> list[tuple[int, list[int]]]:
    """Ways to take the GPUs: the level that a share is taken of, and what is left by position;
    fuller ones first.
    """
    free = node.gpu_free
    if not asked.level:
        return [(0, free)]
    good = [p for p, m in enumerate(free) if m >= asked.level and asked.fits[node.classes[p]]]
    if len(good) < asked.count:
        return []
    if asked.level == GPU:
        gpus = [view.gpu for view in node.view.gpus]
        return [(0, _without(free, closest(node.layout, gpus, good, asked.count), GPU))]
    found: dict[tuple[int, int], int] = {}
    for position in good:
        found.setdefault((free[position], node.classes[position]), position)
    return [(key[0], _without(free, [found[key]], asked.level)) for key in sorted(found)]


def _without(gpu_free: list[int], positions: list[int], milli: int) -> list[int]:
    left = list(gpu_free)
    for position in positions:
        left[position] -= milli
    return left
