"""What follows from what happened: verdicts on gangs, states of jobs, experiments and sets.

PURE functions of entities, used by the reactor to advance an experiment and by the invariants to
check that what is stored is what follows. The members of a gang are judged together:

    any member failed by itself      the rest is stopped; FAILED, or all start again if retry allows
    all members but `ps` succeeded   the `ps` are stopped; FINISHED
    any member was interrupted       the rest is stopped; all start again, not counted
    a kill was asked for             all are stopped; KILLED

A member that is done waits for the verdict on its gang: were the gang to start again, so would it.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from controlplane.core.gpu_words import moment
from controlplane.domain import reasons
from controlplane.domain.model import Attempt, Experiment, Job
from controlplane.domain.states import AttemptState, State
from riseml.spec.units import format_duration


class End(enum.Enum):
    """How an attempt stands with regard to its end."""

    LIVE = "LIVE"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    # We stopped it: its exit code says nothing.
    STOPPED = "STOPPED"
    # Preempted or lost through no fault of its own.
    INTERRUPTED = "INTERRUPTED"


class Decision(enum.Enum):
    """What is to become of a gang."""

    GO_ON = "GO_ON"
    FINISH = "FINISH"
    FAIL = "FAIL"
    KILL = "KILL"
    RESTART = "RESTART"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A decision and why."""

    decision: Decision
    reason: str = ""
    message: str = ""
    # Whether a restart counts against `retry.max`.
    counted: bool = False


@dataclass(frozen=True, slots=True)
class Standing:
    """A state with its reason, as it should be."""

    state: State
    reason: str = ""
    message: str = ""


Member = tuple[Job, Attempt | None]

GO_ON = Verdict(Decision.GO_ON)


def members_of(jobs: Iterable[Job], attempts: Iterable[Attempt], generation: int) -> list[Member]:
    """The gang by rank, each with its attempt of this generation."""
    by_job = {a.job_id: a for a in attempts if a.generation == generation}
    return [(job, by_job.get(job.id)) for job in jobs if job.rank >= 0]


def end_of(attempt: Attempt) -> End:
    """How an attempt ended, if it did."""
    if not attempt.state.ended:
        return End.LIVE
    if attempt.stop_reason:
        return End.STOPPED
    if attempt.state is not AttemptState.EXITED or attempt.reason in reasons.INTERRUPTIONS:
        return End.INTERRUPTED
    if attempt.exit_code == 0 and not attempt.exit_signal:
        return End.SUCCEEDED
    return End.FAILED


def short_name(job: Job) -> str:
    """`train.1`."""
    return f"{job.type}.{job.number}"


def failure_of(job: Job, attempt: Attempt) -> tuple[str, str]:
    """Reason and message of an attempt that failed by itself."""
    name = short_name(job)
    if attempt.exit_signal:
        words = f"{name} was ended by signal {attempt.exit_signal}"
        reason = reasons.SIGNAL
    elif attempt.exit_code is not None:
        words = f"{name} ended with exit code {attempt.exit_code}"
        reason = reasons.EXIT_CODE
    else:
        words = f"{name} ended without an exit status"
        reason = reasons.NO_EXIT_STATUS
    if attempt.reason and attempt.reason not in (reasons.EXIT_CODE, reasons.SIGNAL):
        return attempt.reason, attempt.message or f"{words} ({attempt.reason})"
    # What it said last, where somebody kept that.
    return reason, f"{words}: {attempt.message}" if attempt.message else words


def _too_long(experiment: Experiment) -> str:
    spec = experiment.spec
    whose = "its max_duration"
    if spec.max_duration_seconds is None:
        whose = f"the max_duration of queue {spec.queue}"
    return f"ran longer than {whose}, {experiment.max_duration_seconds} s"


def _idle_too_long(experiment: Experiment) -> str:
    policy = experiment.spec.utilization_policy
    if policy is None:
        return "its GPUs stayed idle"
    window = format_duration(policy.time_window_seconds)
    percent = policy.min_gpu_utilization_percent
    return f"all of its GPUs stayed below {percent} % for {window} (utilization_policy)"


def idle_message(experiment: Experiment) -> str:
    """Told at half of the time that its policy allows; "" while there is nothing to tell."""
    policy = experiment.spec.utilization_policy
    if policy is None or experiment.idle_since is None:
        return ""
    return (
        f"all of its GPUs have been below {policy.min_gpu_utilization_percent} % since "
        f"{moment(experiment.idle_since)}: it is stopped when that lasts "
        f"{format_duration(policy.time_window_seconds)}"
    )


def judge(experiment: Experiment, members: Sequence[Member]) -> Verdict:
    """What is to become of a gang that was started; see the module's docstring."""
    if experiment.kill_requested:
        return Verdict(Decision.KILL, reasons.KILLED, kill_message(experiment))
    workers = [member for member in members if member[0].type != "ps"] or members
    first: tuple[Job, Attempt] | None = None
    interrupted: tuple[Job, Attempt] | None = None
    for job, attempt in members:
        if attempt is None:
            continue
        stop = attempt.stop_reason
        if stop == reasons.STOP_MAX_DURATION:
            return Verdict(Decision.FAIL, reasons.MAX_DURATION, _too_long(experiment))
        if stop == reasons.STOP_UTILIZATION_POLICY:
            return Verdict(Decision.FAIL, reasons.UTILIZATION_POLICY, _idle_too_long(experiment))
        end = end_of(attempt)
        if end is End.FAILED:
            if first is None or _end_time(attempt) < _end_time(first[1]):
                first = (job, attempt)
        elif end is End.INTERRUPTED or stop in reasons.RESTARTING_STOPS:
            # The member that was interrupted says more than those that were stopped for it.
            if interrupted is None or interrupted[1].stop_reason == reasons.STOP_GANG_RESTART:
                interrupted = (job, attempt)
    if first is not None:
        return _judge_failure(experiment, *first)
    if all(a is not None and end_of(a) is End.SUCCEEDED for _, a in workers):
        return Verdict(Decision.FINISH)
    if interrupted is not None:
        return _judge_interruption(*interrupted)
    return GO_ON


def _end_time(attempt: Attempt) -> float:
    return 0.0 if attempt.end_time is None else attempt.end_time


def _judge_failure(experiment: Experiment, job: Job, attempt: Attempt) -> Verdict:
    reason, message = failure_of(job, attempt)
    retry = experiment.spec.retry
    events = retry.on_events
    outside = attempt.exit_signal in reasons.OUTSIDE_SIGNALS and reason != reasons.OOM_KILLED
    if experiment.retries_used < retry.max_retries and (
        "error" in events or ("interruption" in events and outside)
    ):
        times = f"{experiment.retries_used + 1} of {retry.max_retries}"
        return Verdict(Decision.RESTART, reason, f"{message}; retry {times}", counted=True)
    return Verdict(Decision.FAIL, reason, message)


def _judge_interruption(job: Job, attempt: Attempt) -> Verdict:
    name, node = short_name(job), attempt.node_name
    if attempt.stop_reason == reasons.STOP_DRAINED:
        return Verdict(Decision.RESTART, reasons.DRAINED, f"node {node} is being drained")
    if attempt.stop_reason == reasons.STOP_PREEMPTED:
        words = attempt.stop_message or f"{name} made room on node {node}"
        return Verdict(Decision.RESTART, reasons.PREEMPTED, words)
    if attempt.stop_reason == reasons.STOP_GANG_RESTART:
        return Verdict(Decision.RESTART, reasons.GANG_RESTART, "all of its jobs start again")
    if attempt.state is AttemptState.PREEMPTED:
        reason = attempt.reason or reasons.PREEMPTED
        return Verdict(Decision.RESTART, reason, attempt.message or f"{name} was preempted")
    reason = attempt.reason or reasons.LOST
    return Verdict(
        Decision.RESTART, reason, attempt.message or f"{name} is gone without a trace from {node}"
    )


def kill_message(experiment: Experiment) -> str:
    """Who killed it, kept in the experiment's message since the kill was asked for."""
    if experiment.reason in (reasons.KILL_REQUESTED, reasons.KILLED):
        return experiment.message
    return "killed"


def job_standing(job: Job, attempt: Attempt | None, verdict: Verdict) -> Standing:
    """State of a gang member, given its attempt of this generation and the verdict on the gang."""
    if attempt is None:
        if verdict.decision is Decision.KILL:
            return Standing(State.KILLED, verdict.reason, verdict.message)
        return Standing(job.state, job.reason, job.message)
    end = end_of(attempt)
    if end is End.LIVE:
        state = State.STARTING if attempt.start_time is None else State.RUNNING
        if attempt.node_lost:
            return Standing(state, reasons.NODE_LOST, lost_message(attempt))
        words = attempt.stop_message or attempt.message
        return Standing(state, attempt.stop_reason.upper(), words)
    decision = verdict.decision
    if decision is Decision.RESTART:
        return Standing(State.PENDING, verdict.reason, verdict.message)
    if decision is Decision.GO_ON:
        # Done before the others: not final, for the gang may have to start again.
        return Standing(State.RUNNING, reasons.WAITS_FOR_GANG, "done; waits for the others")
    if end is End.SUCCEEDED:
        return Standing(State.FINISHED)
    if decision is Decision.FINISH:
        return Standing(State.FINISHED, reasons.WORKERS_FINISHED, "stopped: all workers finished")
    if end is End.FAILED:
        return Standing(State.FAILED, *failure_of(job, attempt))
    if decision is Decision.KILL:
        return Standing(State.KILLED, verdict.reason, verdict.message)
    if verdict.reason in (reasons.MAX_DURATION, reasons.UTILIZATION_POLICY):
        return Standing(State.FAILED, verdict.reason, verdict.message)
    return Standing(State.KILLED, reasons.GANG_MEMBER_FAILED, f"stopped: {verdict.message}")


def lost_message(attempt: Attempt) -> str:
    """Of an attempt whose node's lease ran out."""
    return f"node {attempt.node_name} is not heard of; whether it still runs there is unknown"


def build_standing(job: Job, attempt: Attempt) -> Standing:
    """State of a build job, which has just one attempt."""
    if not attempt.state.ended:
        begun = attempt.state is not AttemptState.ASSIGNED
        return Standing(State.RUNNING if begun else State.CREATED, "", attempt.message)
    if attempt.exit_code == 0 and not attempt.exit_signal:
        return Standing(State.FINISHED, "", attempt.message)
    if attempt.state is AttemptState.EXITED and attempt.reason != reasons.ENDED_WITH_JOB:
        return Standing(State.FAILED, *failure_of(job, attempt))
    return Standing(State.KILLED, attempt.reason, attempt.message)


def has_run(attempt: Attempt) -> bool:
    """Whether its process ever ran, as far as we know."""
    return attempt.start_time is not None or attempt.exit_code is not None


def experiment_standing(
    experiment: Experiment, members: Sequence[Member], builds: Iterable[Attempt]
) -> Standing:
    """State of an experiment that is no set, from its jobs and their attempts."""
    live = [a for _, a in members if a is not None and not a.state.ended]
    if not live:
        return _settled(experiment, members)
    if all(a is not None and has_run(a) for _, a in members):
        state = State.RUNNING
    elif any(
        not b.state.ended and b.state is not AttemptState.ASSIGNED for b in builds
    ) and not any(a is not None and has_run(a) for _, a in members):
        state = State.BUILDING
    else:
        state = State.STARTING
    verdict = judge(experiment, members)
    if verdict.decision is Decision.KILL:
        return Standing(state, reasons.KILL_REQUESTED, verdict.message)
    for attempt in live:
        if attempt.node_lost:
            return Standing(state, reasons.NODE_LOST, lost_message(attempt))
    if experiment.idle_since is not None and verdict.decision is Decision.GO_ON:
        return Standing(state, reasons.LOW_UTILIZATION, idle_message(experiment))
    return Standing(state, verdict.reason, verdict.message)


def _settled(experiment: Experiment, members: Sequence[Member]) -> Standing:
    """Of an experiment none of whose jobs has a live attempt."""
    jobs = [job for job, _ in members]
    for waiting in (State.CREATED, State.PENDING):
        if all(job.state is waiting for job in jobs):
            return Standing(waiting, jobs[0].reason, jobs[0].message)
    if experiment.kill_requested:
        return Standing(State.KILLED, reasons.KILLED, kill_message(experiment))
    for state in (State.FAILED, State.KILLED):
        ended = [member for member in members if member[0].state is state]
        if ended:
            job, _ = min(ended, key=lambda m: 0.0 if m[1] is None else _end_time(m[1]))
            return Standing(state, job.reason, job.message)
    return Standing(State.FINISHED)


def set_standing(experiment: Experiment, counts: Mapping[State, int]) -> Standing:
    """State of a set, from how many of its children are in which state."""

    def count(*states: State) -> int:
        return sum(counts.get(state, 0) for state in states)

    finished, failed, killed = count(State.FINISHED), count(State.FAILED), count(State.KILLED)
    waiting, starting = (
        count(State.CREATED, State.PENDING),
        count(State.STARTING, State.BUILDING),
    )
    if finished + failed + killed < experiment.child_count:
        if experiment.kill_requested:
            reason, message = reasons.KILL_REQUESTED, kill_message(experiment)
        else:
            reason = message = ""
        if waiting == experiment.child_count:
            return Standing(State.PENDING, reason, message)
        if waiting + starting == experiment.child_count:
            return Standing(State.STARTING, reason, message)
        return Standing(State.RUNNING, reason, message)
    if experiment.kill_requested:
        return Standing(State.KILLED, reasons.KILLED, kill_message(experiment))
    if finished:
        unfinished = f"{failed} of {experiment.child_count} experiments failed" if failed else ""
        return Standing(State.FINISHED, "", unfinished)
    if failed:
        return Standing(State.FAILED, reasons.CHILDREN_FAILED, f"{failed} experiments failed")
    return Standing(State.KILLED, reasons.KILLED, "all of its experiments were killed")
