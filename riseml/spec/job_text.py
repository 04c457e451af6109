"""What a job is given as text wherever it runs, as a process or in a pod: its script, and the file
that says beside its output what made it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Final

CONFIGURATION_NAME: Final = "riseml-configuration.yml"
"""The file in the output directory; see ``configuration_text``."""

_NUMBER: Final = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]{1,3})?", re.ASCII)
_PLAIN: Final = re.compile(r"[A-Za-z][\w/ -]*[\w-]")


def join_commands(commands: Sequence[str]) -> str:
    """One script for `sh -e`: the first command that fails ends it with its exit code.

    `-e` alone lets `a && b` fail in the middle of a list of commands; each is checked, therefore.
    A single command
    is left as it is, so that the shell can put its process in its own place and signals reach it.
    """
    return "\ncase $? in 0) ;; *) exit ;; esac\n".join(commands)


def configuration_text(
    experiment_id: str,
    project: str,
    revision_id: str,
    framework: str,
    parameters: Mapping[str, str],
    install: Sequence[str],
    run: Sequence[str],
) -> str:
    """riseml-configuration.yml: which code and which parameters made what lies here."""
    lines = [
        f"# Written by RiseML for {experiment_id}.",
        f"project: {_quoted(project)}",
        f"experiment: {_quoted(experiment_id)}",
    ]
    if revision_id:
        lines.append(f"revision: {_quoted(revision_id)}")
    if framework:
        lines.append(f"framework: {_quoted(framework)}")
    lines.append("parameters:" if parameters else "parameters: {}")
    for name, value in sorted(parameters.items()):
        lines.append(f"  {_quoted(name)}: {_scalar(value)}")
    if install:
        lines.append("install:")
        lines += [f"- {_quoted(step)}" for step in install]
    lines.append("run:")
    lines += [f"- {_quoted(command)}" for command in run]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return text if _PLAIN.fullmatch(text) and not _is_word(text) else _json(text)


def _is_word(text: str) -> bool:
    return text.lower() in ("true", "false", "null", "yes", "no", "on", "off")


def _scalar(value: str) -> str:
    return value if _NUMBER.fullmatch(value) or value in ("true", "false") else _json(value)


def _json(text: str) -> str:
    # JSON's strings are YAML's double-quoted ones.
    return json.dumps(text, ensure_ascii=False)
