"""Takes an experiment where its attempts have brought it: stops, restarts, ends, next children.

Every handler that touched attempts, or asked for a kill, ends with `advance`.
"""

from __future__ import annotations

from dataclasses import replace

from controlplane.core.derive import (
    GO_ON,
    Decision,
    Member,
    Standing,
    Verdict,
    build_standing,
    experiment_standing,
    has_run,
    job_standing,
    judge,
    members_of,
    set_standing,
)
from controlplane.core.draft import Draft
from controlplane.core.quarantine import note_test_end
from controlplane.domain import reasons
from controlplane.domain.effects import StopAttempt
from controlplane.domain.model import Attempt, Experiment, Job
from controlplane.domain.states import AttemptState, State, check_transition


def stop_attempt(
    draft: Draft,
    attempt: Attempt,
    stop_reason: str,
    grace_period_seconds: float | None = None,
    *,
    message: str = "",
    for_experiment_id: str = "",
) -> None:
    """Asks the node to stop it. An attempt that is being stopped keeps its first stop reason."""
    if attempt.state.ended:
        return
    if not attempt.stop_reason:
        stopping = replace(
            attempt,
            state=AttemptState.STOPPING,
            stop_reason=stop_reason,
            stop_message=message,
            stop_time=draft.now,
            stopped_for=for_experiment_id,
        )
        draft.put_attempt(stopping)
    elif grace_period_seconds is None:
        return
    draft.effect(StopAttempt(attempt.node_name, attempt.id, stop_reason, grace_period_seconds))


def advance(draft: Draft, experiment_id: str) -> None:
    """Brings jobs and experiment (and its set) to the states that follow from the attempts."""
    experiment = draft.experiment(experiment_id)
    if experiment is None or experiment.state.ended:
        return
    jobs = draft.jobs_of(experiment_id)
    attempts = draft.attempts_of(experiment_id)
    members = members_of(jobs, attempts, experiment.generation)
    verdict = _verdict(experiment, members)
    if verdict.decision is not Decision.GO_ON:
        members = _stop_members(draft, members, verdict)
    builds: list[Attempt] = []
    if len(members) < len(jobs):
        builds = _advance_builds(draft, jobs, attempts, members, experiment.generation)
    members = [(_advance_job(draft, job, a, verdict), a) for job, a in members]
    standing = experiment_standing(experiment, members, builds)
    retries_used = experiment.retries_used
    if standing.state is State.PENDING and experiment.state is not State.PENDING:
        if verdict.counted:
            retries_used += 1
        draft.wake_scheduler()
    put_standing(draft, experiment, standing, _start_time(experiment, members), retries_used)


def _verdict(experiment: Experiment, members: list[Member]) -> Verdict:
    """Gangs that wait are not judged again by what became of their last attempts."""
    waits = experiment.state in (State.PENDING, State.CREATED)
    if waits and not experiment.kill_requested:
        if all(a is None or a.state.ended for _, a in members):
            return GO_ON
    return judge(experiment, members)


def _stop_members(draft: Draft, members: list[Member], verdict: Verdict) -> list[Member]:
    stopped: list[Member] = []
    for job, attempt in members:
        if attempt is not None and not attempt.state.ended and not attempt.stop_reason:
            stop_attempt(draft, attempt, _STOP_REASONS[verdict.decision])
            attempt = draft.attempt(attempt.id)
        stopped.append((job, attempt))
    return stopped


_STOP_REASONS = {
    Decision.KILL: reasons.STOP_KILLED,
    Decision.FAIL: reasons.STOP_GANG_MEMBER_FAILED,
    Decision.RESTART: reasons.STOP_GANG_RESTART,
    Decision.FINISH: reasons.STOP_WORKERS_FINISHED,
}


def _advance_job(draft: Draft, job: Job, attempt: Attempt | None, verdict: Verdict) -> Job:
    if verdict is GO_ON and (
        attempt is None or (attempt.state.ended and job.state is State.PENDING)
    ):
        return job
    return _put_job_standing(draft, job, job_standing(job, attempt, verdict))


def _put_job_standing(draft: Draft, job: Job, standing: Standing) -> Job:
    if job.state.ended or (job.state, job.reason, job.message) == (
        standing.state,
        standing.reason,
        standing.message,
    ):
        return job
    check_transition(job.id, job.state, standing.state)
    job = replace(job, state=standing.state, reason=standing.reason, message=standing.message)
    draft.put_job(job)
    return job


def _advance_builds(
    draft: Draft, jobs: list[Job], attempts: list[Attempt], members: list[Member], generation: int
) -> list[Attempt]:
    """Build jobs of this generation. A build ends with the last attempt that it was for."""
    by_job = {a.job_id: a for a in attempts if a.generation == generation}
    builds = []
    for job in jobs:
        attempt = by_job.get(job.id)
        if job.rank >= 0 or attempt is None:
            continue
        if not attempt.state.ended:
            users = [a for _, a in members if a is not None and a.build_attempt_id == attempt.id]
            if all(a.state.ended for a in users):
                attempt = replace(
                    attempt,
                    state=AttemptState.EXITED,
                    reason=reasons.ENDED_WITH_JOB,
                    exit_code=0 if any(has_run(a) for a in users) else None,
                    node_lost=False,
                    end_time=draft.now,
                )
                draft.put_attempt(attempt)
        _put_job_standing(draft, job, build_standing(job, attempt))
        builds.append(attempt)
    return builds


def _start_time(experiment: Experiment, members: list[Member]) -> float | None:
    """When all of its jobs ran for the first time."""
    if experiment.start_time is not None:
        return experiment.start_time
    latest = None
    for _, attempt in members:
        if attempt is None or attempt.start_time is None:
            return None
        if latest is None or attempt.start_time > latest:
            latest = attempt.start_time
    return latest


def put_standing(
    draft: Draft,
    experiment: Experiment,
    standing: Standing,
    start_time: float | None,
    retries_used: int,
) -> None:
    """Gives an experiment or set a new state. IllegalTransition if the table has no such change."""
    state = standing.state
    if (
        state is experiment.state
        and standing.reason == experiment.reason
        and standing.message == experiment.message
        and start_time == experiment.start_time
        and retries_used == experiment.retries_used
    ):
        if experiment.set_id is not None:
            advance_set(draft, experiment.set_id)
        return
    check_transition(experiment.id, experiment.state, state)
    draft.put_experiment(
        replace(
            experiment,
            state=state,
            reason=standing.reason,
            message=standing.message,
            start_time=start_time,
            end_time=draft.now if state.ended else None,
            retries_used=retries_used,
        )
    )
    if state.ended:
        note_test_end(draft, experiment, state, standing.message)
    if experiment.set_id is not None:
        advance_set(draft, experiment.set_id)


def advance_set(draft: Draft, set_id: str) -> None:
    """Starts the next children and gives the set its state."""
    experiment = draft.experiment(set_id)
    if experiment is None or experiment.state.ended:
        return
    if not experiment.kill_requested:
        _start_children(draft, experiment)
    standing = set_standing(experiment, draft.child_counts(set_id))
    start_time = experiment.start_time
    if start_time is None and standing.state is State.RUNNING:
        start_time = draft.now
    put_standing(draft, experiment, standing, start_time, experiment.retries_used)


def _start_children(draft: Draft, experiment: Experiment) -> None:
    """As many as may run at once leave CREATED, in the order of their numbers."""
    progress = draft.cluster.sets.get(experiment.id)
    if progress is None or not progress.waiting:
        return
    counts = draft.child_counts(experiment.id)
    active = sum(
        count for state, count in counts.items() if state is not State.CREATED and not state.ended
    )
    room = experiment.spec.concurrency - active
    if room <= 0:
        return
    for child_id in progress.waiting.values():
        child = draft.experiment(child_id)
        if child is None or child.state is not State.CREATED:
            continue
        for job in draft.jobs_of(child_id):
            draft.put_job(replace(job, state=State.PENDING, reason="", message=""))
        draft.put_experiment(replace(child, state=State.PENDING, reason="", message=""))
        draft.wake_scheduler()
        room -= 1
        if room <= 0:
            return


def is_build(draft: Draft, attempt: Attempt) -> bool:
    """Whether it is a build attempt, which nodes are told of only by the attempts it is for."""
    job = draft.job(attempt.job_id)
    return job is not None and job.rank < 0
