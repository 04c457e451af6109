"""When telemetry counts as late, in a time that the test makes."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from controlplane.freshness import MOST_DOUBLINGS, SAME_TROUBLE_SECONDS, Freshness

PATIENCE = 10.0


def played(samples: Iterable[float], until: float, late: bool = False) -> list[tuple[float, bool]]:
    """What the reactor is told, and when, of a node that connects at 100 s and sends samples so
    many seconds later; it is looked at each second.
    """
    freshness = Freshness(PATIENCE)
    freshness.connected("n1", late, 100.0)
    coming = sorted(samples)
    told: list[tuple[float, bool]] = []
    for second in range(round(until) + 1):
        while coming and coming[0] <= second:
            freshness.sampled("n1", 100.0 + coming.pop(0))
        for name, is_late in freshness.changes(100.0 + second):
            assert name == "n1"
            told.append((float(second), is_late))
            freshness.told([(name, is_late)])
    return told


def test_a_node_that_sends_its_samples_is_never_late() -> None:
    assert played(range(1, 1000), 1000) == []
    assert played(range(1, 1000, 9), 1000) == []


def test_a_new_node_has_time_for_its_first_sample() -> None:
    assert played([], 60) == [(11.0, True)]
    assert played([8.0], 15) == []


def test_after_a_hiccup_the_first_sample_counts() -> None:
    assert played([*range(1, 20), *range(40, 60)], 60) == [(30.0, True), (40.0, False)]


def test_a_node_that_was_late_before_a_restart_is_good_with_its_first_sample() -> None:
    assert played([], 60, late=True) == []
    assert played([3.0], 5, late=True) == [(3.0, False)]


def test_who_is_late_again_has_to_be_in_time_for_a_while() -> None:
    hiccups = [*range(0, 20), *range(40, 60), *range(80, 120)]
    assert played(hiccups, 120) == [
        (30.0, True),
        (40.0, False),
        (70.0, True),
        (90.0, False),
    ]


def test_a_node_on_the_edge_does_not_swing_to_and_fro() -> None:
    """Each minute it is silent for twelve seconds."""
    edge = [second for second in range(7200) if second % 60 >= 12]
    told = played(edge, 7200)
    assert len(told) <= 2 * MOST_DOUBLINGS
    assert told[-1][1], "in the end it stays late"


def test_old_trouble_is_forgiven() -> None:
    later = round(SAME_TROUBLE_SECONDS) + 100
    samples = [*range(0, 20), *range(40, later), *range(later + 20, later + 40)]
    assert played(samples, later + 40)[2:] == [(later + 10.0, True), (later + 20.0, False)]


def test_what_the_reactor_was_not_told_is_said_again() -> None:
    freshness = Freshness(PATIENCE)
    freshness.connected("n1", False, 0.0)
    for second in range(1, 11):
        assert freshness.changes(float(second)) == []
    assert freshness.changes(11.0) == freshness.changes(12.0) == [("n1", True)]
    freshness.told([("n1", True)])
    assert freshness.changes(13.0) == []


def test_nodes_are_not_late_because_nobody_listened() -> None:
    freshness = Freshness(PATIENCE)
    for name in ("n1", "n2"):
        freshness.connected(name, False, 0.0)
    assert freshness.changes(1.0) == []
    assert freshness.changes(100.0) == [], "their samples wait to be read"
    freshness.sampled("n1", 101.0)
    assert [freshness.changes(100.0 + second) for second in range(2, 7)][-1] == [("n2", True)]


def test_nothing_is_decided_of_nodes_without_a_session() -> None:
    freshness = Freshness(PATIENCE)
    freshness.connected("n1", False, 0.0)
    freshness.disconnected("n1")
    freshness.sampled("n1", 1.0)
    freshness.sampled("n2", 1.0)
    assert freshness.changes(100.0) == []


@given(st.lists(st.floats(0.1, 40.0), max_size=60), st.booleans())
def test_what_is_told_takes_turns_and_is_true(gaps: list[float], late: bool) -> None:
    samples: list[float] = []
    for gap in gaps:
        samples.append((samples[-1] if samples else 0.0) + gap)
    known = late
    for second, is_late in played(samples, 1000.0, late):
        assert is_late is not known, "told twice"
        known = is_late
        heard = max((s for s in samples if s <= second), default=0.0)
        assert (second - heard > PATIENCE) is is_late
