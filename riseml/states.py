"""States of experiments and jobs in words: names, whether they are final, and lines about their
changes.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from riseml.spec import ids
from riseml.spec.errors import InvalidId
from riseml.v1 import experiment_pb2, job_pb2, state_pb2

ENDED: Final = frozenset({state_pb2.STATE_FINISHED, state_pb2.STATE_FAILED, state_pb2.STATE_KILLED})
LOW_UTILIZATION: Final = "LOW_UTILIZATION"
"""Reason of an experiment that runs, and will be stopped if its GPUs stay idle."""
LIVE: Final = (
    state_pb2.STATE_CREATED,
    state_pb2.STATE_BUILDING,
    state_pb2.STATE_PENDING,
    state_pb2.STATE_STARTING,
    state_pb2.STATE_RUNNING,
)


def state_name(state: state_pb2.State.ValueType) -> str:
    """``RUNNING``; a number that this version does not know gives ``STATE_12``."""
    try:
        return state_pb2.State.Name(state).removeprefix("STATE_")
    except ValueError:
        return f"STATE_{state}"


def attempt_state_name(state: job_pb2.AttemptState.ValueType) -> str:
    """``EXITED``, and so on."""
    try:
        name = job_pb2.AttemptState.Name(state)
    except ValueError:
        return f"STATE_{state}"
    return name.removeprefix("ATTEMPT_STATE_")


def has_ended(experiment: experiment_pb2.Experiment) -> bool:
    """Whether nothing can follow."""
    return experiment.state in ENDED


def time_ns_of(stamp: Timestamp) -> int:
    """Nanoseconds since 1970, 0 for an absent time."""
    return stamp.seconds * 10**9 + stamp.nanos


def how_it_ended(attempt: job_pb2.Attempt) -> str:
    """``exit code 3``, ``SIGKILL``, or empty while it runs or where nobody knows."""
    if attempt.exit_signal:
        try:
            return signal.Signals(attempt.exit_signal).name
        except ValueError:
            return f"signal {attempt.exit_signal}"
    return f"exit code {attempt.exit_code}" if attempt.HasField("exit_code") else ""


def newest_attempt(job: job_pb2.Job) -> job_pb2.Attempt | None:
    """The last one that was made."""
    return job.attempts[-1] if job.attempts else None


def deciding_attempt(experiment: experiment_pb2.Experiment) -> job_pb2.Attempt | None:
    """The attempt that an end of the experiment is due to: the first of the newest that failed."""
    newest = [attempt for job in experiment.jobs if (attempt := newest_attempt(job)) is not None]
    failed = [a for a in newest if a.exit_signal or (a.HasField("exit_code") and a.exit_code)]
    return min(failed or newest, key=lambda a: time_ns_of(a.end_time), default=None)


def why(reason: str, message: str) -> str:
    """Reason and message as one clause, empty if there is neither."""
    return message or reason.replace("_", " ").lower()


def why_briefly(reason: str, message: str) -> str:
    """The first line of ``why``: a failed build's message goes on with its last lines of output."""
    return why(reason, message).partition("\n")[0]


class JobNames:
    """Learns how many jobs of a type there are, so that an only one needs no number:
    ``17.train``.
    """

    def __init__(self) -> None:
        self._crowded: set[str] = set()

    def learn(self, experiment: experiment_pb2.Experiment) -> None:
        """Take notice of an experiment's jobs."""
        for job in experiment.jobs:
            if job.number > 1:
                self._crowded.add(f"{experiment.id}.{job.type}")

    def prefix(self, source: str, caller: str = "") -> str:
        """What stands before a line of an attempt, job or experiment; ``caller``'s name is left
        out.
        """
        try:
            id = ids.parse_id(source)
        except InvalidId:
            return source
        if isinstance(id, ids.AttemptId):
            id = id.job
        lone = isinstance(id, ids.JobId) and str(id.group) not in self._crowded
        return ids.format_id(id, caller=caller or None, drop_first=lone)


class StateNotes:
    """Turns messages about an experiment and its children into lines about what changed.

    Messages may repeat or skip states. The end of the experiment itself is kept back for
    ``last_words``, since its last output comes later.
    """

    def __init__(self, root_id: str) -> None:
        self._root_id = root_id
        self._seen: dict[str, tuple[int, str]] = {}
        self._last: list[tuple[str, str]] = []

    def changes(
        self, experiment: experiment_pb2.Experiment, now_ns: int
    ) -> Iterator[tuple[int, str, str]]:
        """Lines as (time, id that it is about, text)."""
        crew = [job for job in experiment.jobs if job.type not in ("build", "tensorboard")]
        if len(crew) > 1:
            for job in crew:
                yield from self._job_change(job, now_ns)
        detail = why_briefly(experiment.reason, experiment.message)
        if experiment.state == state_pb2.STATE_PENDING and experiment.pending_reasons:
            detail = experiment.pending_reasons[0]
        before, _ = self._seen.get(experiment.id, (-1, ""))
        told = experiment.state == state_pb2.STATE_PENDING or experiment.reason == LOW_UTILIZATION
        mark = detail if told else ""
        if before in ENDED or not self._is_new(experiment.id, experiment.state, mark):
            return
        text = f"--> {state_name(experiment.state)}"
        attempts = [attempt for job in crew if (attempt := newest_attempt(job)) is not None]
        if has_ended(experiment):
            self._end(experiment, detail)
            if experiment.id != self._root_id:
                yield time_ns_of(experiment.end_time) or now_ns, *self._last.pop()
            return
        if experiment.state == state_pb2.STATE_RUNNING:
            time_ns = max((time_ns_of(a.start_time) for a in attempts), default=0)
            if before == experiment.state or mark:
                # What it does while it runs: its GPUs are idle, or used again.
                time_ns = now_ns
            yield time_ns or now_ns, experiment.id, f"{text} ({mark})" if mark else text
            return
        if experiment.state == state_pb2.STATE_STARTING and attempts:
            nodes = sorted({attempt.node_name for attempt in attempts if attempt.node_name})
            detail = detail or (f"on {', '.join(nodes)}" if nodes else "")
        first = experiment.state == state_pb2.STATE_CREATED or before == -1
        time_ns = time_ns_of(experiment.create_time) if first else 0
        yield time_ns or now_ns, experiment.id, f"{text} ({detail})" if detail else text

    def last_words(self) -> list[tuple[str, str]]:
        """How the experiment itself ended, as (id, text); empty while it runs."""
        return self._last

    def _is_new(self, id: str, state: int, detail: str) -> bool:
        mark = (state, detail)
        if self._seen.get(id) == mark:
            return False
        self._seen[id] = mark
        return True

    def _job_change(self, job: job_pb2.Job, now_ns: int) -> Iterator[tuple[int, str, str]]:
        if not self._is_new(job.id, job.state, ""):
            return
        attempt = newest_attempt(job)
        time_ns = now_ns
        detail = why_briefly(job.reason, job.message)
        if attempt is not None:
            if job.state == state_pb2.STATE_RUNNING:
                time_ns = time_ns_of(attempt.start_time) or now_ns
                detail = f"on {attempt.node_name}"
            elif job.state in ENDED:
                time_ns = time_ns_of(attempt.end_time) or now_ns
                detail = detail or how_it_ended(attempt)
        text = f"--> {state_name(job.state)}"
        yield time_ns, job.id, f"{text} ({detail})" if detail else text

    def _end(self, experiment: experiment_pb2.Experiment, detail: str) -> None:
        self._last.append((experiment.id, _end_text(experiment, detail)))


def _end_text(experiment: experiment_pb2.Experiment, detail: str) -> str:
    attempt = deciding_attempt(experiment)
    ended = how_it_ended(attempt) if attempt is not None else ""
    if experiment.state == state_pb2.STATE_FINISHED:
        ended = ""
    parts = [part for part in (detail, ended if ended not in detail else "") if part]
    text = f"--> {state_name(experiment.state)}"
    return f"{text} ({', '.join(parts)})" if parts else text


def history(experiment: experiment_pb2.Experiment) -> Iterator[tuple[int, str, str]]:
    """Lines about what an experiment went through, as far as its attempts tell."""
    for job in experiment.jobs:
        newest = newest_attempt(job)
        for attempt in job.attempts:
            if attempt.HasField("start_time"):
                text = f"--> RUNNING (on {attempt.node_name})"
                yield time_ns_of(attempt.start_time), job.id, text
            if attempt.HasField("end_time") and newest is not None and attempt.id != newest.id:
                detail = why_briefly(attempt.reason, attempt.message) or how_it_ended(attempt)
                text = f"--> {attempt_state_name(attempt.state)} ({detail})"
                yield time_ns_of(attempt.end_time), job.id, text
    if has_ended(experiment) and experiment.HasField("end_time"):
        detail = why_briefly(experiment.reason, experiment.message)
        yield time_ns_of(experiment.end_time), experiment.id, _end_text(experiment, detail)
