"""Why a GPU is given to nobody, in words."""

from __future__ import annotations

import pytest

from controlplane.core.gpu_words import unusable_reason
from controlplane.domain.model import ForeignProcess, Gpu
from riseml.spec.model import GIB
from tests.unit.core.world import gpu

MIB = 1 << 20


def used(held: int, *processes: ForeignProcess) -> Gpu:
    return gpu("g0", foreign_memory_bytes=held, foreign_processes=processes)


ANA = ForeignProcess(812, "ana", 3 * GIB)


@pytest.mark.parametrize(
    ("shown", "words"),
    [
        (gpu("g0"), ""),
        (used(100 * MIB, ForeignProcess(4, "gdm", 100 * MIB)), ""),
        (
            used(3 * GIB + 100 * MIB, ANA),
            "used by process 812 of user ana that RiseML did not start (3.1 GiB)",
        ),
        (
            used(4 * GIB, ANA, ForeignProcess(9, "eve", GIB)),
            "used by process 812 of user ana and others that RiseML did not start (4.0 GiB in all)",
        ),
        (
            used(300 * MIB, ForeignProcess(7, "", 300 * MIB)),
            "used by process 7 that RiseML did not start (300 MiB)",
        ),
        (
            gpu(
                "g0",
                health="QUARANTINED",
                health_reason="xid_48",
                health_message="XID 48: double-bit ECC error; reset the GPU",
                health_time=1_764_065_520.0,
            ),
            "XID 48: double-bit ECC error (since 25 Nov 10:12 UTC)",
        ),
        (gpu("g0", health="UNKNOWN", health_reason="late"), "late"),
        (used(GIB), "used by a process that RiseML did not start (1.0 GiB)"),
    ],
)
def test_a_gpu_that_is_given_to_nobody_says_why(shown: Gpu, words: str) -> None:
    assert unusable_reason(shown) == words
