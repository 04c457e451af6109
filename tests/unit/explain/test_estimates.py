"""Estimates are compared with what came."""

from __future__ import annotations

from controlplane.explain import estimates
from controlplane.explain.estimates import EstimateBook
from controlplane.explain.explanation import StartEstimate

NEW = StartEstimate(0.0, None, "")


def past(book: EstimateBook) -> tuple[int, float, float]:
    found = book.with_past(NEW)
    return (
        found.past_count,
        found.past_median_error_seconds,
        found.past_p90_error_seconds,
    )


def test_without_a_past_nothing_is_claimed() -> None:
    assert EstimateBook().with_past(NEW) == NEW


def test_within_the_range_is_no_error_beyond_it_the_distance() -> None:
    book = EstimateBook()
    for number, start in enumerate((100.0, 150.0, 200.0, 70.0, 260.0)):
        book.foretold(f"ana.{number}", 0.0, 100.0, 200.0)
        book.started(f"ana.{number}", start)
    assert past(book) == (5, 0.0, 60.0)


def test_a_range_without_an_end_is_judged_by_its_beginning() -> None:
    book = EstimateBook()
    book.foretold("ana.1", 0.0, 100.0, None)
    book.started("ana.1", 130.0)
    assert past(book) == (1, 30.0, 30.0)


def test_each_estimate_counts_but_not_each_time_that_it_was_asked_for() -> None:
    book = EstimateBook()
    for second in range(0, 130, 10):
        book.foretold("ana.1", second, 100.0 + second, 100.0 + second)
    book.started("ana.1", 300.0)
    # Those of second 0, 60 and 120.
    assert past(book) == (3, 140.0, 200.0)
    book.started("ana.1", 400.0)
    assert past(book)[0] == 3


def test_what_never_started_counts_for_nothing() -> None:
    book = EstimateBook()
    book.foretold("ana.1", 0.0, 100.0, None)
    book.given_up("ana.1")
    book.started("ana.1", 1e6)
    assert past(book)[0] == 0


def test_memory_is_bounded() -> None:
    book = EstimateBook()
    for number in range(estimates.KEPT_OPEN + 10):
        book.foretold(f"ana.{number}", 0.0, 1.0, None)
    for time in range(100):
        book.foretold("ana.99", 1000.0 * time, 1.0, None)
    for number in range(estimates.KEPT_OPEN + 10):
        book.started(f"ana.{number}", 1.0)
    assert past(book)[0] == estimates.KEPT_ERRORS
