"""What the shim says of its job: texts of `key value` lines, closed by `end` (see status.c)."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

START_LINE: Final = b"riseml-status 1\n"
END_LINE: Final = b"end\n"


class ShimState(enum.Enum):
    """NOT_STARTED and EXITED are final."""

    RUNNING = "running"
    EXITED = "exited"
    NOT_STARTED = "not_started"


@dataclass(frozen=True, slots=True)
class ShimStatus:
    """Times are nanoseconds since the epoch; ticks count from boot, as in /proc/PID/stat."""

    attempt_id: str
    state: ShimState
    shim_pid: int
    shim_start_ticks: int
    pid: int
    start_ticks: int
    exec_ns: int
    exit_code: int = 0
    exit_signal: int = 0
    end_ns: int = 0
    log_bytes: int = 0
    lost_bytes: int = 0
    oom_kills: int = 0
    user_us: int = 0
    system_us: int = 0
    max_rss_kib: int = 0
    reason: str = ""
    message: str = ""

    @property
    def ended(self) -> bool:
        return self.state is not ShimState.RUNNING


def latest_status(data: bytes) -> ShimStatus | None:
    """The last whole text of a status file."""
    for text in reversed(data.split(START_LINE)[1:]):
        body, closed, _ = text.partition(b"\n" + END_LINE)
        status = parse_status(START_LINE + body + closed)
        if status is not None:
            return status
    return None


def parse_status(data: bytes) -> ShimStatus | None:
    """None for a text that is torn or of another version."""
    if not data.startswith(START_LINE) or not data.endswith(b"\n" + END_LINE):
        return None
    text = data.decode("utf-8", "replace")
    fields = dict(line.split(" ", 1) for line in text.split("\n")[1:-2] if " " in line)

    def number(key: str) -> int:
        return int(fields.get(key, "0"))

    try:
        return ShimStatus(
            attempt_id=fields["attempt"],
            state=ShimState(fields["state"]),
            shim_pid=number("shim_pid"),
            shim_start_ticks=number("shim_start_ticks"),
            pid=number("pid"),
            start_ticks=number("start_ticks"),
            exec_ns=number("exec_ns"),
            exit_code=number("exit_code"),
            exit_signal=number("exit_signal"),
            end_ns=number("end_ns"),
            log_bytes=number("log_bytes"),
            lost_bytes=number("lost_bytes"),
            oom_kills=number("oom_kills"),
            user_us=number("user_us"),
            system_us=number("system_us"),
            max_rss_kib=number("max_rss_kib"),
            reason=fields.get("reason", ""),
            message=fields.get("message", ""),
        )
    except (KeyError, ValueError):
        return None


class StatusStream:
    """Cuts the bytes of the notification pipe, which all shims share, into status texts. A shim
    writes each text in one go, below PIPE_BUF, so texts never mix."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[ShimStatus]:
        *texts, self._rest = (self._rest + data).split(b"\n" + END_LINE)
        parsed = (parse_status(text + b"\n" + END_LINE) for text in texts)
        return [status for status in parsed if status is not None]
