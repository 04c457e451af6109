"""The newest sample of each node, and five minutes of history that costs little."""

from __future__ import annotations

from controlplane.telemetry import HISTORY_SAMPLES, Telemetry


def telemetry() -> Telemetry[str]:
    return Telemetry(str.encode, bytes.decode)


def test_the_newest_sample_of_each_node_is_kept() -> None:
    kept = telemetry()
    kept.record("n2", "b1", 1.0)
    kept.record("n1", "a1", 1.0)
    kept.record("n1", "a2", 2.0)
    assert kept.newest() == ["a2", "b1"]
    assert kept.newest(frozenset({"n2"})) == ["b1"]


def test_history_is_one_sample_in_ten_seconds_and_the_newest() -> None:
    kept = telemetry()
    for second in range(26):
        kept.record("n1", f"s{second}", float(second))
    assert kept.history(25.0, 60.0) == ["s0", "s10", "s20", "s25"]
    assert kept.history(25.0, 10.0) == ["s20", "s25"]


def test_history_is_bounded_and_goes_with_its_node() -> None:
    kept = telemetry()
    for step in range(3 * HISTORY_SAMPLES):
        kept.record("n1", f"s{step}", step * 10.0)
    last = (3 * HISTORY_SAMPLES - 1) * 10.0
    assert len(kept.history(last, 10_000.0)) == HISTORY_SAMPLES
    kept.forget("n1")
    assert kept.history(last, 10_000.0) == []


async def test_a_watch_that_fell_behind_gets_the_newest_of_each_node() -> None:
    kept = telemetry()
    with kept.watch(frozenset()) as watch:
        kept.record("n1", "a1", 1.0)
        kept.record("n1", "a2", 2.0)
        assert await watch.take() == ["a2"]
