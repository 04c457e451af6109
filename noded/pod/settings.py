"""What a pod's manifest tells the program that fetches its code: variables, and nothing else."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from noded.config import host_of, is_loopback
from noded.errors import ConfigError

DEFAULT_DEADLINE_SECONDS: Final = 600.0


@dataclass(frozen=True, slots=True)
class FetchSettings:
    """One attempt's code, from where and to where."""

    server: str
    """RISEML_CONTROL_PLANE, HOST:PORT."""
    token: str = field(repr=False)
    """RISEML_TOKEN."""
    attempt_id: str
    """RISEML_ATTEMPT_ID."""
    revision_id: str
    """RISEML_REVISION; empty: the job has no code of its own."""
    ca_pem: bytes = field(repr=False)
    """RISEML_CA_PEM; empty: in the clear, over loopback only."""
    code_directory: Path
    """RISEML_CODE_DIR; exists."""
    run_directory: Path
    """RISEML_RUN_DIR; exists. The SDK goes to its `sdk`."""
    output_directory: Path | None
    """RISEML_OUTPUT_DIR; needed with a configuration or a path below it."""
    output_path: str
    """RISEML_OUTPUT_PATH: the job's own folder in that directory, which is made and which the job
    may write into; empty: the directory itself."""
    configuration: str
    """RISEML_CONFIGURATION: text of riseml-configuration.yml; empty: there is none to write."""
    deadline_seconds: float
    """RISEML_FETCH_DEADLINE: for so long nothing new may arrive."""


def read_settings(environ: Mapping[str, str]) -> FetchSettings:
    """Raises ConfigError, which names the variable."""
    revision_id = environ.get("RISEML_REVISION", "")
    ca_pem = environ.get("RISEML_CA_PEM", "").encode()
    configuration = environ.get("RISEML_CONFIGURATION", "")
    output_path = environ.get("RISEML_OUTPUT_PATH", "")
    has_output = bool(configuration or output_path)
    settings = FetchSettings(
        server=_needed(environ, "RISEML_CONTROL_PLANE") if revision_id else "",
        token=_needed(environ, "RISEML_TOKEN") if revision_id else "",
        attempt_id=_needed(environ, "RISEML_ATTEMPT_ID"),
        revision_id=revision_id,
        ca_pem=ca_pem,
        code_directory=_directory(environ, "RISEML_CODE_DIR"),
        run_directory=_directory(environ, "RISEML_RUN_DIR"),
        output_directory=_directory(environ, "RISEML_OUTPUT_DIR") if has_output else None,
        output_path=output_path,
        configuration=configuration,
        deadline_seconds=_seconds(environ, "RISEML_FETCH_DEADLINE", DEFAULT_DEADLINE_SECONDS),
    )
    if revision_id and not ca_pem and not _is_loopback(settings.server):
        raise ConfigError(
            f"RISEML_CA_PEM is empty and {settings.server} is not this machine: the connection "
            "must be encrypted, or the token could be read on its way"
        )
    return settings


def _needed(environ: Mapping[str, str], name: str) -> str:
    value = environ.get(name, "")
    if not value:
        raise ConfigError(f"{name} is not set")
    return value


def _directory(environ: Mapping[str, str], name: str) -> Path:
    path = Path(_needed(environ, name))
    if not path.is_absolute():
        raise ConfigError(f"{name}={path}: must be an absolute path")
    return path


def _seconds(environ: Mapping[str, str], name: str, default: float) -> float:
    text = environ.get(name, "")
    try:
        seconds = float(text) if text else default
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds > 0):
        raise ConfigError(f"{name}={text}: must be a number of seconds above 0")
    return seconds


def _is_loopback(server: str) -> bool:
    try:
        return is_loopback(host_of(server))
    except ConfigError:
        raise ConfigError(
            f"RISEML_CONTROL_PLANE={server}: must be HOST:PORT, for example riseml:7433"
        ) from None
