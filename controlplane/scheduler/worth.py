"""What the leftover of a node is worth: how much of it jobs like those seen lately can still use.

For GPU i of a node, of which `level` thousandths are free, q is the part of the mix that could use
it: each type of job t that fits counts with its part of the mix, less (down to half) the sooner the
node's CPUs or memory would run out than its GPUs if only such jobs came. Then

    worth = sum over GPUs of  level * (gain(q) + bonus),
    gain(q) = q * (1 + patience) / (q + patience)

Fragmentation gradient descent (FGD, USENIX ATC 2023) has gain(q) = q: what 2 % of the jobs can use
would be worth a tenth of what 20 % can use. But jobs keep coming, and both will be used; only what
nobody can use is lost. So `gain` rises steeply and then flattens, the more so the smaller the
number `patience` is; if it is large this is FGD again. `patience_of` says when which is right.

`bonus` goes to what choosy jobs can use: those that only few of the cluster's GPUs would do for.
"""

from __future__ import annotations

from math import log
from typing import Final

import numpy as np

from controlplane.scheduler.arrays import Flags, Floats, Ints, Smalls
from controlplane.scheduler.demand import Demand
from controlplane.scheduler.table import NodeTable
from riseml.spec.model import GPU

UNITS: Final = 1024.0
"""Of worth in one thousandth of a GPU. Worths are whole numbers of units, so that sums of them do
not depend on the order in which they are added up.
"""

_FIRST: Final = 0.01
_STEP: Final = 1.6
_SCARCE_WEIGHT: Final = 0.1
_MOST_SCARCE: Final = 100.0
_NEGLIGIBLE: Final = 0.02


def patience_of(free_milli: int, partly_milli: int) -> float:
    """How fast `gain` flattens, given what is free in all and of it on GPUs that are partly used.

    At first whatever is started finds its match later on. The more of what is free lies on partly
    used GPUs, the fewer matches are still to come: were that not looked at, GPUs with a lone share
    would pile up, each in wait of a match. On a ladder, so that what was worked out stays good.
    """
    rho = partly_milli / free_milli if free_milli > 0 else 1.0
    wanted = _FIRST + 0.2 * rho
    return float(_FIRST * _STEP ** round(log(wanted / _FIRST) / log(_STEP)))


class Worth:
    """For one mix and one cluster. `patience` None: FGD."""

    def __init__(self, demand: Demand, table: NodeTable, patience: float | None) -> None:
        self._demand = demand
        self._patience = patience
        types = len(demand.types)
        # By class of GPU and type.
        self._matches: Flags = np.array(
            [
                [kind is not None and kind.serves(wanted) for wanted in demand.types]
                for kind in table.classes
            ],
            dtype=np.bool_,
        ).reshape(len(table.classes), types)
        self._cpu = demand.cpu + 1.0
        self._memory = demand.memory + 1.0
        levels = np.arange(GPU + 1)
        # By level and type: how many such shares fit a GPU, or 1 for a wholly free one.
        self._per_level: Smalls = (levels[:, None] // demand.level[None, :]).astype(np.int16)
        self._need: Smalls = demand.count.astype(np.int16)
        # How many types, in their order, a GPU with this much free could be used by.
        self._within: Ints = np.searchsorted(demand.level[: demand.shares], levels, side="right")
        self._within[GPU] = types
        scarce = np.zeros(types)
        if patience is not None:
            scarce = np.array([table.scarcity(wanted) for wanted in demand.types])
            scarce[scarce < _NEGLIGIBLE] = 0.0
        bonus = UNITS * _SCARCE_WEIGHT * demand.parts * np.minimum(scarce, _MOST_SCARCE)
        self._bonus: Floats | None = bonus if bonus.any() else None
        self._known: Floats = np.full(1024, np.nan)

    def counts(self, levels: Ints) -> Smalls:
        """By row and type: how often the GPUs would do, as `after` takes it."""
        found: Smalls = self._per_level[levels].sum(axis=1, dtype=np.int16)
        return found

    def per_level(self, levels: Ints) -> Smalls:
        """The same of single GPUs."""
        found: Smalls = self._per_level[levels]
        return found

    def known(self, states: Ints, number: int) -> Floats:
        """What was worked out for states of nodes, of which there are so many (`NodeTable.state`),
        NaN where nothing was.
        """
        if number > len(self._known):
            larger = np.full(max(number, 2 * len(self._known)), np.nan)
            larger[: len(self._known)] = self._known
            self._known = larger
        found: Floats = self._known[states]
        return found

    def learn(self, states: Ints, worths: Floats) -> None:
        """To be found by `known` from now on."""
        self._known[states] = worths

    def of(
        self,
        cpu: Floats,
        memory: Floats,
        classes: Ints,
        which: Ints | None,
        levels: Ints,
        counts: Smalls,
    ) -> Floats:
        """Of leftovers, in units. `cpu`, `memory` and the class of the GPUs are given by row;
        `which` says the row of each leftover (None: each row is one), and `levels` and `counts` are
        its own.
        """
        demand, patience = self._demand, self._patience
        shares = demand.shares
        # A type fits where this is 1 or more: exact, for division rounds correctly.
        times = (cpu + 1.0)[:, None] / self._cpu
        np.minimum(times, (memory + 1.0)[:, None] / self._memory, out=times)
        fits = times >= 1.0
        fits &= self._matches[classes]
        part = fits * demand.parts
        if which is not None:
            times, part = times[which], part[which]
        number = len(levels)
        weight = np.empty((number, len(demand.types) + 1))
        weight[:, 0] = 0.0
        body = weight[:, 1:]
        enough = counts[:, shares:] >= self._need[shares:]
        if patience is None:
            body[:] = part
        else:
            times /= np.maximum(counts, 1) / self._need
            np.minimum(times, 1.0, out=times)
            times += 1.0
            np.multiply(times, part, out=body)
        body[:, shares:] *= enough
        np.add.accumulate(weight, axis=1, out=weight)
        index = self._within[levels]
        index += np.arange(0, number * weight.shape[1], weight.shape[1])[:, None]
        gain = weight.ravel()[index]
        if patience is None:
            gain *= UNITS
        else:
            # Weights are twice what they should be.
            gain = gain * (UNITS * (1.0 + patience)) / (gain + 2.0 * patience)
        if self._bonus is not None:
            bonus = fits * self._bonus
            body[:] = bonus if which is None else bonus[which]
            body[:, shares:] *= enough
            np.add.accumulate(weight, axis=1, out=weight)
            gain += weight.ravel()[index]
        gain *= levels
        np.rint(gain, out=gain)
        found: Floats = gain.sum(axis=1)
        return found
