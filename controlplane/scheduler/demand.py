"""The mix of jobs that a cluster sees, as arrays: what leftovers of nodes may still be good for.

At most MOST_TYPES kinds of jobs are kept apart. Of each number of GPUs and each wish for a model
the most common kind is among them as long as there is place, for what is rare but large or choosy
is what room has to be kept for; the others are counted under the kind that is most like them.
"""

from __future__ import annotations

from math import log
from typing import Final

import numpy as np

from controlplane.domain.snapshot import Mix
from controlplane.scheduler.arrays import Flags, Floats, Ints
from controlplane.scheduler.mix import GENERIC_MIX
from riseml.spec.model import GPU, Resources

MOST_TYPES: Final = 48


class Demand:
    """Shares of GPUs first, by size, then whole GPUs by their number. Jobs without GPUs count in
    the totals only.
    """

    def __init__(self, mix: Mix) -> None:
        mix = mix or GENERIC_MIX
        # Per thousandth of a GPU that is asked for: thousandths of CPUs, and bytes.
        gpus = sum(part * wanted.gpu_milli for wanted, part in mix)
        self.cpu_per_gpu = sum(part * wanted.cpu_milli for wanted, part in mix) / max(gpus, 1e-9)
        self.memory_per_gpu = sum(part * w.memory_bytes for w, part in mix) / max(gpus, 1e-9)
        kept = sorted(_fewer([(w, p) for w, p in mix if w.gpu_milli]), key=_order)
        if not kept:
            kept = sorted(GENERIC_MIX, key=_order)
        self.types: tuple[Resources, ...] = tuple([wanted for wanted, _ in kept])
        whole = sum(part for _, part in kept)
        self.parts: Floats = np.array([part / whole for _, part in kept])
        self.cpu: Floats = np.array([float(t.cpu_milli) for t in self.types])
        self.memory: Floats = np.array([float(t.memory_bytes) for t in self.types])
        # Of one GPU of the type.
        self.level: Ints = np.array([min(t.gpu_milli, GPU) for t in self.types], dtype=np.int64)
        self.count: Ints = np.array([t.gpu_count for t in self.types], dtype=np.int64)
        self.is_whole: Flags = self.level == GPU
        self.shares = int(np.count_nonzero(~self.is_whole))


def _order(one: tuple[Resources, float]) -> tuple[int, int, int, str, int]:
    wanted = one[0]
    model = wanted.gpu_model or ""
    return (
        wanted.gpu_milli,
        wanted.cpu_milli,
        wanted.memory_bytes,
        model,
        wanted.gpu_min_memory_bytes,
    )


def _fewer(mix: list[tuple[Resources, float]]) -> list[tuple[Resources, float]]:
    found: dict[Resources, float] = {}
    for wanted, part in mix:
        plain = Resources(
            wanted.cpu_milli,
            wanted.memory_bytes,
            wanted.gpu_milli,
            wanted.gpu_model,
            wanted.gpu_min_memory_bytes,
        )
        found[plain] = found.get(plain, 0.0) + part
    ranked = sorted(found.items(), key=lambda one: (-one[1], _order(one)))
    if len(ranked) <= MOST_TYPES:
        return ranked
    kept = _kept(ranked)
    known = [wanted for wanted, _ in ranked if wanted in kept]
    likeness = _Likeness(known)
    for wanted, part in ranked:
        if wanted not in kept:
            kept[known[likeness.nearest(wanted)]] += part
    return [(wanted, kept[wanted]) for wanted in known]


def _kept(ranked: list[tuple[Resources, float]]) -> dict[Resources, float]:
    """Those that stand for themselves, with their parts."""
    groups: dict[tuple[str | None, int, int], list[tuple[Resources, float]]] = {}
    for wanted, part in ranked:
        key = (wanted.gpu_model, wanted.gpu_min_memory_bytes, wanted.gpu_count)
        groups.setdefault(key, []).append((wanted, part))
    heavy = sorted(
        groups.values(),
        key=lambda group: (-sum(p * w.gpu_count for w, p in group), _order(group[0])),
    )
    kept = dict(group[0] for group in heavy[: MOST_TYPES // 2])
    for wanted, part in ranked:
        if len(kept) >= MOST_TYPES:
            break
        kept[wanted] = part
    return kept


class _Likeness:
    def __init__(self, known: list[Resources]) -> None:
        self._known = known
        self._cpu = np.log([w.cpu_milli + 100.0 for w in known])
        self._memory = np.log([w.memory_bytes + 1e8 for w in known])
        self._level = np.array([float(min(w.gpu_milli, GPU)) for w in known])
        self._count = np.log([float(w.gpu_count) for w in known])

    def nearest(self, wanted: Resources) -> int:
        other = np.array(
            [
                8.0
                * (
                    w.gpu_model != wanted.gpu_model
                    or w.gpu_min_memory_bytes != wanted.gpu_min_memory_bytes
                )
                for w in self._known
            ]
        )
        other += np.abs(self._cpu - log(wanted.cpu_milli + 100.0))
        other += 0.5 * np.abs(self._memory - log(wanted.memory_bytes + 1e8))
        other += np.abs(self._level - min(wanted.gpu_milli, GPU)) / 100.0
        other += 3.0 * np.abs(self._count - log(wanted.gpu_count))
        return int(other.argmin())
