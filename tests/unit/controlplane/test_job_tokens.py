"""Tokens of jobs: good for one attempt until their expiry, and for nobody who changes a letter."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain.errors import Unauthenticated
from controlplane.job_tokens import KEY_BYTES, JobTokens, is_job_token
from riseml.spec.errors import InvalidId

TOKENS = JobTokens(b"k" * KEY_BYTES)
ATTEMPT = "ana.17.3.worker.2-4"
TOKEN = TOKENS.issue(ATTEMPT, 1000.0)


def test_a_token_names_its_attempt_until_it_expires() -> None:
    assert is_job_token(TOKEN)
    assert TOKEN.startswith(f"riseml-job.{ATTEMPT}.1000.")
    assert TOKENS.verify(TOKEN, 999.9) == ATTEMPT
    with pytest.raises(Unauthenticated) as expired:
        TOKENS.verify(TOKEN, 1000.0)
    assert expired.value.reason == "JOB_TOKEN_EXPIRED"
    assert ATTEMPT in expired.value.message


def test_the_same_key_issues_the_same_token_again() -> None:
    assert JobTokens(b"k" * KEY_BYTES).issue(ATTEMPT, 999.1) == TOKEN


def test_another_control_planes_token_is_not_known() -> None:
    with pytest.raises(Unauthenticated) as refused:
        JobTokens(b"x" * KEY_BYTES).verify(TOKEN, 0.0)
    assert refused.value.reason == "UNKNOWN_JOB_TOKEN"


@given(st.integers(0, len(TOKEN) - 1), st.characters(exclude_categories=["Cs"]))
def test_no_letter_of_a_token_can_be_changed(position: int, letter: str) -> None:
    changed = TOKEN[:position] + letter + TOKEN[position + 1 :]
    if changed == TOKEN:
        return
    with pytest.raises(Unauthenticated):
        TOKENS.verify(changed, 0.0)


@pytest.mark.parametrize(
    "token",
    ["", ".", "riseml-job.", "riseml-job...", f"riseml-job.{ATTEMPT}.1000.", TOKEN[:-1], TOKEN * 2],
)
def test_what_is_no_token_is_refused_in_the_same_words(token: str) -> None:
    with pytest.raises(Unauthenticated) as refused:
        TOKENS.verify(token, 0.0)
    assert refused.value.reason == "UNKNOWN_JOB_TOKEN"


@pytest.mark.parametrize("id", ["", "ana.17", "ana.17.train.1", "17.train.1-1", "ana.17.1000"])
def test_only_attempts_have_tokens(id: str) -> None:
    with pytest.raises(InvalidId):
        TOKENS.issue(id, 1000.0)


def test_a_short_key_is_no_key() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        JobTokens(b"short")
