"""PURE: the orders in which every store gives its objects, and what a page token is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from controlplane.domain.errors import InvalidRequest
from controlplane.domain.model import Attempt, Job


def experiment_of_attempt(attempt_id: str) -> str:
    """`ana.17.3` of `ana.17.3.train.1-2`: type and number of the job are its last two parts."""
    return attempt_id.rsplit(".", 2)[0]


def in_job_order(jobs: Iterable[Job], experiment_ids: Sequence[str]) -> list[Job]:
    """By experiment as asked for; in each the gang's members by rank, then the other jobs."""
    position = {experiment_id: index for index, experiment_id in enumerate(experiment_ids)}
    return sorted(
        jobs,
        key=lambda job: (
            position[job.experiment_id],
            job.rank < 0,
            job.rank,
            job.type,
            job.number,
        ),
    )


def oldest_first(attempts: Iterable[Attempt]) -> list[Attempt]:
    """By creation; equal times by generation and id."""
    return sorted(attempts, key=lambda one: (one.create_time, one.generation, one.id))


def current_attempts(attempts: Iterable[Attempt]) -> list[Attempt]:
    """Of each experiment the newest generation and whatever has not ended, oldest first."""
    found = list(attempts)
    newest: dict[str, int] = {}
    for one in found:
        newest[one.experiment_id] = max(one.generation, newest.get(one.experiment_id, 0))
    return oldest_first(
        one for one in found if one.generation == newest[one.experiment_id] or not one.state.ended
    )


def position_of(page_token: str) -> int | None:
    """The position in a page token; None at the first page. Raises InvalidRequest."""
    if not page_token:
        return None
    if not (page_token.isascii() and page_token.isdigit() and len(page_token) < 19):
        raise InvalidRequest(
            "The page_token is not one that this server gave; start again without one.",
            reason="INVALID_PAGE_TOKEN",
        )
    return int(page_token)
