"""The reactor's clock."""

from __future__ import annotations

import time

from controlplane.clock import SteadyClock, elapsed_seconds


def test_a_step_of_the_systems_clock_moves_no_time() -> None:
    wall, elapsed = [1_000_000.0], [50.0]
    clock = SteadyClock(lambda: wall[0], lambda: elapsed[0])
    assert clock() == 1_000_000.0
    wall[0] += 3600
    elapsed[0] += 5
    assert clock() == 1_000_005.0


def test_it_tells_the_time() -> None:
    assert abs(SteadyClock()() - time.time()) < 5
    assert elapsed_seconds() <= elapsed_seconds()
