"""Lines that the supervisor in a container (`command.py`) adds to the job's log, and what it writes
elsewhere: what it says to us. They name the attempt, so no job prints them by chance.
"""

from __future__ import annotations

from typing import Final

INSTALL_FAILED_PREFIX: Final = "riseml-install-failed"
"""Begins the container's termination message if an install step failed; its exit code follows."""


def install_marker(attempt_id: str) -> str:
    """The line after the last install step."""
    return f"riseml: {attempt_id} is installed"


def result_marker(attempt_id: str) -> str:
    """Begins a line with a result; ``N {json}`` follows, N counting from 1."""
    return f"riseml-result {attempt_id}"
