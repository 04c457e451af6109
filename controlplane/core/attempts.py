"""What nodes say of attempts. Repeated and late words are harmless."""

from __future__ import annotations

from dataclasses import replace

from controlplane.core.draft import Draft, Outcome
from controlplane.core.lifecycle import advance
from controlplane.domain import reasons
from controlplane.domain.effects import ForgetAttempt, StopAttempt
from controlplane.domain.events import AttemptReported, CheckpointWritten
from controlplane.domain.model import Attempt, AttemptReport
from controlplane.domain.states import AttemptState, check_attempt_transition

# Of the states that have not ended, the later one is believed.
_PROGRESS = {
    AttemptState.ASSIGNED: 0,
    AttemptState.PREPARING: 1,
    AttemptState.RUNNING: 2,
    AttemptState.STOPPING: 3,
}


def reported(draft: Draft, event: AttemptReported) -> Outcome:
    """Reply: None. An end that is recorded, or that nobody needs, lets the node forget the attempt;
    one that should not run is stopped."""
    report, node_name = event.report, event.node_name
    attempt = draft.attempt(report.attempt_id)
    if attempt is None or attempt.node_name != node_name:
        if report.state.ended:
            draft.effect(ForgetAttempt(node_name, report.attempt_id))
        else:
            draft.effect(StopAttempt(node_name, report.attempt_id, reasons.STOP_UNKNOWN))
        return draft.outcome()
    if attempt.state.ended and not report.state.ended:
        # After a restart of its own a node may find what we gave up. Late words of what it said
        # itself to have ended mean nothing.
        if attempt.state is AttemptState.LOST:
            draft.effect(StopAttempt(node_name, attempt.id, reasons.STOP_UNKNOWN))
        return draft.outcome()
    if record(draft, attempt, report):
        advance(draft, attempt.experiment_id)
    if report.state.ended:
        draft.effect(ForgetAttempt(node_name, attempt.id))
    return draft.outcome()


def checkpoint_written(draft: Draft, event: CheckpointWritten) -> Outcome:
    """Reply: None. Changes nothing that is stored; see `Cluster.note_checkpoint`."""
    attempt = draft.attempt(event.attempt_id)
    if attempt is not None and attempt.node_name == event.node_name and not attempt.state.ended:
        begin = attempt.create_time if attempt.start_time is None else attempt.start_time
        draft.checkpoint = (attempt.id, _within(event.write_time, begin, draft.now))
    return draft.outcome()


def record(draft: Draft, attempt: Attempt, report: AttemptReport) -> bool:
    """Writes down what a report adds. True if the experiment has to be advanced."""
    if attempt.state.ended:
        _record_lengths(draft, attempt, report)
        return False
    start_time = attempt.start_time
    if start_time is None and report.start_time is not None:
        start_time = _within(report.start_time, attempt.create_time, draft.now)
    if report.state.ended:
        _record_end(draft, attempt, report, start_time)
        return True
    state, reason, message = attempt.state, attempt.reason, attempt.message
    if _PROGRESS[report.state] >= _PROGRESS[state]:
        check_attempt_transition(attempt.id, state, report.state)
        state, reason, message = report.state, _reason(attempt, report), report.message
    if report.state is AttemptState.RUNNING and start_time is None:
        start_time = draft.now
    updated = replace(
        attempt,
        state=state,
        reason=reason,
        message=message,
        start_time=start_time,
        node_lost=False,
    )
    if updated == attempt:
        return False
    draft.put_attempt(updated)
    return True


def _record_end(
    draft: Draft, attempt: Attempt, report: AttemptReport, start_time: float | None
) -> None:
    state = report.state
    reason = _reason(attempt, report)
    if attempt.stop_reason:
        reason = reason or attempt.stop_reason.upper()
        if state is AttemptState.EXITED and attempt.stop_reason in reasons.RESTARTING_STOPS:
            state = AttemptState.PREEMPTED
    check_attempt_transition(attempt.id, attempt.state, state)
    end_time = draft.now
    if report.end_time is not None:
        end_time = _within(report.end_time, start_time or attempt.create_time, draft.now)
    draft.put_attempt(
        replace(
            attempt,
            state=state,
            reason=reason,
            message=report.message,
            node_lost=False,
            exit_code=report.exit_code,
            exit_signal=report.exit_signal,
            start_time=start_time,
            end_time=end_time,
            final_log_offset=report.final_log_offset,
            final_results_offset=report.final_results_offset,
        )
    )
    draft.wake_scheduler()


def _reason(attempt: Attempt, report: AttemptReport) -> str:
    """A node repeats the reason that it was given for a stop: it becomes one like all others."""
    if report.reason and report.reason == attempt.stop_reason:
        return report.reason.upper()
    return report.reason


def _record_lengths(draft: Draft, attempt: Attempt, report: AttemptReport) -> None:
    """Of an attempt whose end is recorded: how long its log and results are may come later."""
    log, results = attempt.final_log_offset, attempt.final_results_offset
    updated = replace(
        attempt,
        final_log_offset=log if log >= 0 else report.final_log_offset,
        final_results_offset=results if results >= 0 else report.final_results_offset,
    )
    if updated != attempt:
        draft.put_attempt(updated)


def lose(draft: Draft, attempt: Attempt, reason: str, message: str) -> None:
    """The attempt is gone for certain, without a trace of its end."""
    check_attempt_transition(attempt.id, attempt.state, AttemptState.LOST)
    draft.put_attempt(
        replace(
            attempt,
            state=AttemptState.LOST,
            reason=reason,
            message=message,
            node_lost=False,
            end_time=draft.now,
        )
    )
    draft.wake_scheduler()


def _within(time: float, earliest: float, latest: float) -> float:
    """A node's clock may be wrong; what it says stays between what we know for certain."""
    return max(earliest, min(time, latest))
