"""What a launcher is: it takes effects to where attempts run. Effects may come twice; order per
attempt is kept.
"""

from __future__ import annotations

from typing import Protocol

from controlplane.domain.effects import (
    EndSession,
    ForgetAttempt,
    StartAttempt,
    StopAttempt,
)

LaunchEffect = StartAttempt | StopAttempt | ForgetAttempt | EndSession


class Launcher(Protocol):
    """Takes effects after their changes are committed. Must not block and must not raise."""

    # `daemon` or `kubernetes`.
    name: str

    def dispatch(self, effect: LaunchEffect) -> None: ...

    def resync(self) -> None:
        """Effects were lost: compare what should run with what runs, as after a restart."""
