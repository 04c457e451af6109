"""What is repeated, and how long it is waited in between."""

from __future__ import annotations

import random

import pytest

from riseml.retry import Backoff, may_repeat


def test_pauses_grow_to_a_ceiling_and_never_beyond_it() -> None:
    backoff = Backoff(first_seconds=1, factor=2, most_seconds=5, tries=7)
    pauses = list(backoff.pauses(random.Random(1)))
    assert len(pauses) == 6
    for pause, ceiling in zip(pauses, (1, 2, 4, 5, 5, 5), strict=True):
        assert ceiling / 2 <= pause <= ceiling


def test_two_clients_do_not_come_back_together() -> None:
    backoff = Backoff()
    assert list(backoff.pauses(random.Random(1))) != list(backoff.pauses(random.Random(2)))


@pytest.mark.parametrize(
    ("method", "has_id", "repeated"),
    [
        ("GetExperiment", False, True),
        ("ListNodes", False, True),
        ("FindMissingBlobs", False, True),
        ("KillExperiment", False, True),
        ("CreateExperiment", True, True),
        ("CreateExperiment", False, False),
        ("CreateNodeToken", False, False),
        ("RemoveFile", False, False),
        ("ForgetNode", False, False),
    ],
)
def test_only_what_is_harmless_twice_is_repeated(method: str, has_id: bool, repeated: bool) -> None:
    assert may_repeat(method, has_id) is repeated
