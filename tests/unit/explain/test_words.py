"""Times, spans and lists as a person would say them."""

from __future__ import annotations

from math import inf

import pytest

from controlplane.explain.words import (
    Clock,
    gpu_time,
    gpus_asked,
    listed,
    lower_first,
    resources_asked,
    sentence,
    span,
)
from riseml.spec.model import GIB, Resources
from tests.unit.explain.traces import HOUR, NOON


@pytest.mark.parametrize(
    ("time", "offset", "words"),
    [
        (NOON + 2 * HOUR, 0, "14:00"),
        (NOON + 2 * HOUR, 3600, "15:00"),
        (NOON + 13 * HOUR, 0, "01:00 tomorrow"),
        (NOON + 2 * HOUR, -14 * 3600, "00:00 tomorrow"),
        (NOON - 13 * HOUR, 0, "23:00 yesterday"),
        (NOON + 48 * HOUR, 0, "Wed 12:00"),
        (NOON + 7 * 24 * HOUR, 0, "2026-11-30 12:00"),
        (NOON - 48 * HOUR, 0, "2026-11-21 12:00"),
        (inf, 0, "a time that nobody knows"),
        (1e18, 0, "a time that nobody knows"),
    ],
)
def test_times(time: float, offset: int, words: str) -> None:
    assert Clock(NOON, offset).at(time) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-1, "0s"),
        (0.4, "0s"),
        (59, "59s"),
        (61, "1m"),
        (3599, "1h"),
        (3660, "1h1m"),
        (7200, "2h"),
        (86_399, "1d"),
        (90_000, "1d1h"),
        (3 * 86_400, "3d"),
        (inf, "0s"),
    ],
)
def test_spans(seconds: float, words: str) -> None:
    assert span(seconds) == words


@pytest.mark.parametrize(
    ("gpu_seconds", "words"),
    [
        (0, "no work"),
        (40, "40 GPU-seconds"),
        (720, "12 GPU-minutes"),
        (9000, "2.5 GPU-hours"),
        (3600 * 64, "64 GPU-hours"),
    ],
)
def test_work(gpu_seconds: float, words: str) -> None:
    assert gpu_time(gpu_seconds) == words


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ([], ""),
        (["a"], "a"),
        (["a", "b"], "a and b"),
        (["a", "b", "c", "d"], "a, b, c and d"),
        (["a", "b", "c", "d", "e"], "a, b, c and 2 more"),
    ],
)
def test_lists(names: list[str], words: str) -> None:
    assert listed(names) == words


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (Resources(gpu_milli=500), "0.5 of a GPU"),
        (Resources(gpu_milli=500, gpu_model="H100"), "0.5 of an H100 GPU"),
        (Resources(gpu_milli=1000), "1 GPU"),
        (Resources(gpu_milli=2000, gpu_model="H100|A100"), "2 H100 or A100 GPUs"),
        (Resources(gpu_milli=4000, gpu_min_memory_bytes=80 * GIB), "4 GPUs of 80Gi or more"),
    ],
)
def test_what_is_asked_of_gpus(wanted: Resources, words: str) -> None:
    assert gpus_asked(wanted) == words


def test_what_is_asked() -> None:
    assert resources_asked(Resources()) == "1 CPU and 2Gi"
    assert (
        resources_asked(Resources(2500, 8 * GIB, 2000, shm_bytes=GIB))
        == "2 GPUs, 2.5 CPUs, 8Gi and 1Gi of /dev/shm"
    )


def test_sentences_begin_and_end_as_they_should() -> None:
    assert sentence("It waits") == "It waits."
    assert sentence("It waits.") == "It waits."
    assert lower_first("All 3 nodes") == "all 3 nodes"
    assert lower_first("GPU 3 is lost") == "GPU 3 is lost"
