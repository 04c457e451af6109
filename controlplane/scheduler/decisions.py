"""Decisions in words, compact, for the record: who, where, why, and what else there was."""

from __future__ import annotations

from collections.abc import Sequence
from math import isinf

from controlplane.domain.plan import Decision, DecisionKind, Eviction, Reservation
from controlplane.domain.snapshot import GangRequest, MemberPlacement, RunningGang
from controlplane.scheduler.choices import Choice
from riseml.spec.units import format_duration


def placed(
    gang: GangRequest, members: tuple[MemberPlacement, ...], choices: Sequence[Choice]
) -> Decision:
    """It starts there; what is said of the first member stands for all that are said the same."""
    words = dict.fromkeys(choice.reason for choice in choices if choice.reason)
    others = dict.fromkeys(other for choice in choices for other in choice.runners_up)
    return Decision(
        gang.experiment_id, DecisionKind.PLACED, members, "; ".join(words), tuple(others)
    )


def reserved(reservation: Reservation, waited_seconds: float, now: float) -> Decision:
    """Room is kept for it."""
    if isinf(reservation.start_time):
        waited = about(waited_seconds)
        words = f"it has waited for {waited}, and when others end there is unknown"
    else:
        words = f"it starts there in {about(reservation.start_time - now)} at the latest"
    return Decision(reservation.experiment_id, DecisionKind.RESERVED, reservation.members, words)


def preempted(victim: RunningGang, eviction: Eviction) -> Decision:
    """It has to make room."""
    return Decision(eviction.experiment_id, DecisionKind.PREEMPTED, victim.members, eviction.reason)


def about(seconds: float) -> str:
    """For people: whole minutes from ten minutes on, whole hours from two days on."""
    whole = max(0, round(seconds))
    if whole >= 2 * 86_400:
        whole -= whole % 3600
    elif whole >= 600:
        whole -= whole % 60
    return format_duration(whole)
