"""The mix of jobs that is assumed of a cluster that has not seen any yet. Light: no arrays here."""

from __future__ import annotations

from typing import Final

from controlplane.domain.snapshot import Mix
from riseml.spec.model import CPU, GIB, GPU, Resources

_PARTS: Final = (
    (GPU // 4, 0.1),
    (GPU // 2, 0.15),
    (GPU, 0.5),
    (2 * GPU, 0.1),
    (4 * GPU, 0.08),
    (8 * GPU, 0.07),
)

GENERIC_MIX: Final[Mix] = tuple(
    (
        Resources(
            cpu_milli=4 * CPU * gpu_milli // GPU,
            memory_bytes=16 * GIB * gpu_milli // GPU,
            gpu_milli=gpu_milli,
        ),
        part,
    )
    for gpu_milli, part in _PARTS
)
