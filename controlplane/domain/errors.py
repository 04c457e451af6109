"""The errors of the control plane: one tree, mapped to gRPC status in `rpc/errors.py` only.

    DomainError
    ├── InvalidRequest        what was asked is wrong in itself (with field paths)
    ├── NotFound
    ├── AlreadyExists
    ├── PermissionDenied
    ├── Unauthenticated
    ├── FailedPrecondition    right in itself, not now
    │   └── IllegalTransition
    ├── ChangesCompacted      a watch asked for changes that are no longer kept
    ├── ResourceExhausted     a limit or a full disk
    ├── DataLoss              bytes do not match their hash
    └── StoreUnavailable      the store failed; nothing was changed

Every error has a machine-readable `reason`, a message that tells the reader what to do next, and
`metadata` with the values it speaks of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One wrong field: `train.resources.gpus` and what is wrong with it."""

    path: str
    message: str


class DomainError(Exception):
    """Base of all errors that a caller may see."""

    reason = "ERROR"

    def __init__(
        self,
        message: str,
        *,
        reason: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        if reason is not None:
            self.reason = reason
        self.metadata: dict[str, str] = dict(metadata or {})


class InvalidRequest(DomainError):
    """What was asked is wrong in itself; `violations` names the fields."""

    reason = "INVALID_REQUEST"

    def __init__(
        self,
        message: str,
        violations: tuple[FieldViolation, ...] = (),
        *,
        reason: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, reason=reason, metadata=metadata)
        self.violations = violations


def invalid_spec(violations: Sequence[FieldViolation]) -> InvalidRequest:
    """Refuses what was asked for, with all that is wrong with it (at least one thing)."""
    first, more = violations[0], len(violations) - 1
    return InvalidRequest(
        f"{first.path}: {first.message}" + (f" (and {more} more)" if more else ""),
        tuple(violations),
        reason="INVALID_SPEC",
    )


class NotFound(DomainError):
    """There is no such object, or the caller may not know of it."""

    reason = "NOT_FOUND"


class AlreadyExists(DomainError):
    """An object of that name exists."""

    reason = "ALREADY_EXISTS"


class PermissionDenied(DomainError):
    """The caller is known and may not do this."""

    reason = "PERMISSION_DENIED"


class Unauthenticated(DomainError):
    """The call carries no valid credential."""

    reason = "UNAUTHENTICATED"


class FailedPrecondition(DomainError):
    """Right in itself, but not in the present state."""

    reason = "FAILED_PRECONDITION"


class IllegalTransition(FailedPrecondition):
    """A change of state that the tables in `states.py` do not have."""

    reason = "ILLEGAL_TRANSITION"

    def __init__(self, subject: str, old: str, new: str) -> None:
        super().__init__(
            f"{subject} cannot go from {old} to {new}",
            metadata={"subject": subject, "from": old, "to": new},
        )


class ChangesCompacted(DomainError):
    """A watch asked for changes that are no longer kept: list again, then watch from there."""

    reason = "CHANGES_COMPACTED"


class ResourceExhausted(DomainError):
    """A limit was reached, or a disk is full."""

    reason = "RESOURCE_EXHAUSTED"


class DataLoss(DomainError):
    """Bytes do not match their hash, or stored bytes are gone."""

    reason = "DATA_LOSS"


class Unavailable(DomainError):
    """Something that is needed cannot be reached now. Nothing was changed; the same request may be
    sent again.
    """

    reason = "UNAVAILABLE"


class StoreUnavailable(Unavailable):
    """The store failed."""

    reason = "STORE_UNAVAILABLE"
