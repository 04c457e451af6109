"""Which GPUs attempts have on a node whose device plugin chooses them.

A plan gives GPUs by name, but there only their number reaches the node. Which ones a job got is
seen afterwards, and the names themselves may change: they are made up until a daemon tells the real
ones. So what attempts have is brought in line with what is seen, each as many as before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from controlplane.domain.model import Attempt, Gpu, GpuHealthName, GpuShare


def align(
    gpus: Sequence[Gpu], attempts: Iterable[Attempt], given: Mapping[str, Sequence[str]]
) -> dict[str, tuple[GpuShare, ...]]:
    """What of their GPUs has to change, by attempt.

    `gpus` are the node's, `attempts` all that have not ended there, oldest first, `given` the UUIDs
    that some of them were seen with. Who was not seen keeps what no other was seen with, and takes
    what is free for the rest; where too little is free names stay that the node does not have.
    """
    holding = [attempt for attempt in attempts if attempt.gpus]
    names = {gpu.uuid for gpu in gpus}
    settled: dict[str, list[str]] = {}
    taken: set[str] = set()
    for attempt in holding:
        seen = list(given.get(attempt.id, ()))
        if len(seen) == len(attempt.gpus) and names.issuperset(seen) and taken.isdisjoint(seen):
            settled[attempt.id] = seen
            taken.update(seen)
    unseen = [attempt for attempt in holding if attempt.id not in settled]
    kept: dict[str, set[str]] = {}
    for attempt in unseen:
        kept[attempt.id] = {share.uuid for share in attempt.gpus} & names - taken
        taken |= kept[attempt.id]
    free = iter([uuid for uuid in _likely_first(gpus) if uuid not in taken])
    for attempt in unseen:
        settled[attempt.id] = [
            share.uuid if share.uuid in kept[attempt.id] else next(free, share.uuid)
            for share in attempt.gpus
        ]
    changed: dict[str, tuple[GpuShare, ...]] = {}
    for attempt in holding:
        shares = tuple(
            GpuShare(uuid, share.milli)
            for uuid, share in zip(settled[attempt.id], attempt.gpus, strict=True)
        )
        if {share.uuid for share in shares} != {share.uuid for share in attempt.gpus}:
            changed[attempt.id] = shares
    return changed


def _likely_first(gpus: Iterable[Gpu]) -> list[str]:
    """Those first that a pod may well have been given."""

    def unlikely(gpu: Gpu) -> tuple[bool, bool, int]:
        unavailable = gpu.withheld or gpu.foreign_memory_bytes > 0
        return unavailable, gpu.health != GpuHealthName.HEALTHY, gpu.index

    return [gpu.uuid for gpu in sorted(gpus, key=unlikely)]
