"""Steadiness, in short: `riseml-simulate steadiness` does it for 100,000 events."""

from __future__ import annotations

from dataclasses import replace

import pytest

from controlplane.domain.plan import Plan
from controlplane.domain.snapshot import Snapshot
from controlplane.scheduler.cycle import Scheduler
from controlplane.scheduler.policy import POLICIES
from controlplane.simulation import steadiness
from controlplane.simulation.steadiness import shake


@pytest.mark.parametrize(("policy", "seed"), [("riseml", 1), ("riseml", 2), ("easy", 3)])
def test_whatever_happens_the_invariants_hold_and_everything_ends(policy: str, seed: int) -> None:
    found = shake(600, seed, policy=POLICIES[policy], node_count=8)
    assert not found.broken, f"seed {seed}: {found.broken}"
    assert found.started > 50 and found.checks >= 2
    assert {"NodeLeaseExpired", "NodeTelemetryLate", "QueueUpdated"} <= found.by_kind.keys()


def test_equal_seeds_give_equal_trouble() -> None:
    first, second = (shake(250, 8, policy=POLICIES["riseml"], node_count=4) for _ in range(2))
    assert first == second


class ForgetsWhatRuns(Scheduler):
    """Plans as though every GPU were free."""

    def schedule(self, snapshot: Snapshot, now: float) -> Plan:
        nodes = tuple(
            replace(node, gpus=tuple([replace(gpu, free_milli=1000) for gpu in node.gpus]))
            for node in snapshot.nodes
        )
        return super().schedule(replace(snapshot, nodes=nodes), now)


def test_a_scheduler_that_gives_a_gpu_twice_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steadiness, "Scheduler", ForgetsWhatRuns)
    found = shake(600, 1, policy=POLICIES["riseml"], node_count=4)
    assert "rejected" in found.broken
