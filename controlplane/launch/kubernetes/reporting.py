"""Tells the control plane what pods say of attempts: every change once."""

from __future__ import annotations

from dataclasses import replace

from controlplane.domain.events import AttemptReported
from controlplane.domain.model import AttemptReport
from controlplane.domain.states import AttemptState
from controlplane.launch.kubernetes.log_shipping import LogLengths
from controlplane.launch.kubernetes.ports import Reactor


class Reporter:
    """Remembers what was told of each attempt."""

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor
        self._told: dict[str, tuple[AttemptReport, ...]] = {}

    def tell(self, attempt_id: str, node_name: str, reports: tuple[AttemptReport, ...]) -> None:
        """`reports` are all that can be said of an attempt and its build, in order."""
        told = self._told.get(attempt_id, ())
        self._told[attempt_id] = reports
        for report in reports:
            if report not in told:
                self._reactor.post(AttemptReported(node_name, report))

    def ended(self, attempt_id: str) -> bool:
        """Whether its end was told."""
        told = self._told.get(attempt_id, ())
        return any(r.attempt_id == attempt_id and r.state.ended for r in told)

    def told(self, attempt_id: str) -> tuple[AttemptReport, ...]:
        """What was told of it last."""
        return self._told.get(attempt_id, ())

    def forget(self, attempt_id: str) -> None:
        self._told.pop(attempt_id, None)

    def lose_memory(self) -> None:
        """What was told may be lost: it is told again when a pod is looked at again."""
        self._told.clear()


def with_lengths(
    reports: tuple[AttemptReport, ...], attempt_id: str, lengths: LogLengths | None
) -> tuple[AttemptReport, ...]:
    """Adds to ends how long the logs are, once that is known."""
    if lengths is None:
        return reports
    return tuple(
        replace(
            report,
            final_log_offset=lengths.output if report.attempt_id == attempt_id else lengths.build,
            final_results_offset=lengths.results if report.attempt_id == attempt_id else 0,
        )
        if report.state.ended
        else report
        for report in reports
    )


def never_started(attempt_id: str, reason: str, message: str) -> tuple[AttemptReport, ...]:
    """The end of an attempt that has no pod, and had none that ran."""
    return (
        AttemptReport(
            attempt_id,
            AttemptState.EXITED,
            reason=reason,
            message=message,
            final_log_offset=0,
            final_results_offset=0,
        ),
    )


def waiting(attempt_id: str, message: str) -> tuple[AttemptReport, ...]:
    """Its pod cannot be made yet."""
    return (AttemptReport(attempt_id, AttemptState.PREPARING, message=message),)
