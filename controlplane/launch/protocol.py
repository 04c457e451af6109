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
    """Takes effects after their changes are committed. Must not block and must not raise.

    What it says in return comes as AttemptReported. Of an order with `install` steps it reports the
    order's own attempt and the one that `build_attempt_id` names, for which there is no order:

        attempt    PREPARING
        build      RUNNING (with start_time)
        build      EXITED, exit_code 0, final_log_offset
        attempt    RUNNING (with start_time), and so on

    or, where a step fails, the build first and with what it says for the user in `message`:

        build      EXITED, exit_code not 0, reason BUILD_FAILED, message
        attempt    EXITED, without exit_code and start_time, reason BUILD_FAILED, message

    An attempt that ends before its build was reported to have ended ends it as well; then a late
    report of the build adds the length of its log and nothing else. Nobody asks for a build to be
    stopped: it stops with the last attempt that it is for. A ForgetAttempt comes for builds, too.
    """

    # `daemon` or `kubernetes`.
    name: str

    def dispatch(self, effect: LaunchEffect) -> None: ...

    def resync(self) -> None:
        """Effects were lost: compare what should run with what runs, as after a restart."""
