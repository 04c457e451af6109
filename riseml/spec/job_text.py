"""What a job is given as text wherever it runs, as a process or in a pod."""

from __future__ import annotations

from collections.abc import Sequence


def join_commands(commands: Sequence[str]) -> str:
    """One script for `sh -e`: the first command that fails ends it with its exit code.

    `-e` alone lets `a && b` fail in the middle of a list of commands; each is checked, therefore. A
    single command is left as it is, so that the shell can put its process in its own place and
    signals reach it.
    """
    return "\ncase $? in 0) ;; *) exit ;; esac\n".join(commands)
