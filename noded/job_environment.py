"""What a job sees: its variables, its command, and the text that lies beside its output.

Only a fixed list of the daemon's own variables passes into jobs: where to find programs, how to
reach package indexes,
how to speak to people. Everything else of the daemon stays with the daemon.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from noded.environments import find_python
from noded.errors import BuildFailed, StartFailed
from noded.sdk import install_sdk
from noded.uids import Identity, can_reach
from riseml.spec.environment import JobPlace, Member, job_environment, mpi_hostfile
from riseml.spec.errors import InvalidId
from riseml.spec.ids import parse_attempt_id
from riseml.spec.model import EnvVar, Parameter
from riseml.v1 import daemon_pb2

DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_PASSED_NAMES: Final = frozenset(
    {
        "LANG",
        "LANGUAGE",
        "TZ",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
        "GIT_SSL_CAINFO",
        "NODE_EXTRA_CA_CERTS",
        "OMP_NUM_THREADS",
        "http_proxy",
        "https_proxy",
        "ftp_proxy",
        "all_proxy",
        "no_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "FTP_PROXY",
        "ALL_PROXY",
        "NO_PROXY",
    }
)
_PASSED_PREFIXES: Final = ("LC_", "PIP_", "UV_", "OPENBLAS_", "MKL_")
# Places of the daemon's user, where jobs may not write or should not look.
_NOT_PASSED: Final = re.compile(
    r"PIP_(CACHE_DIR|CONFIG_FILE|TARGET|PREFIX|ROOT|USER|SRC|LOG|REQUIRE_VIRTUALENV|BUILD)"
    r"|UV_(CACHE_DIR|CONFIG_FILE|PROJECT|PROJECT_ENVIRONMENT|PYTHON.*|TOOL_.*|WORKING_DIR.*)"
)
_NUMBER: Final = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]{1,3})?", re.ASCII)


class JobBase:
    """What all jobs of this node have in common; made once when the daemon starts."""

    def __init__(
        self, node_directory: Path, environment: Mapping[str, str], separate: bool, python: str
    ) -> None:
        self.node_directory = node_directory
        self.python = python
        self._separate = separate
        self._daemon = environment
        self._sdk = install_sdk(node_directory / "sdk")
        self._passed = {k: v for k, v in environment.items() if _passes(k)}
        pip_configuration = self._copy_pip_configuration(node_directory / "pip.conf")
        if pip_configuration:
            self._passed["PIP_CONFIG_FILE"] = pip_configuration
        self._paths: dict[int, str] = {}

    def path(self, identity: Identity) -> str:
        """PATH of jobs of `identity`; `python` is on it wherever some Python 3 is."""
        known = self._paths.get(identity.uid)
        if known is None:
            known = self._paths[identity.uid] = self._find_path(identity)
        return known

    def variables(self, user_name: str, identity: Identity, temporary: str) -> dict[str, str]:
        """What is there before anything of the job itself."""
        return {
            "LANG": "C.UTF-8",
            # Output is read through a pipe; without this a job's lines would come in blocks, late.
            "PYTHONUNBUFFERED": "1",
            "PIP_NO_INPUT": "1",
            **self._passed,
            "PATH": self.path(identity),
            "PYTHONPATH": self._sdk,
            "HOME": str(self.home_of(user_name)),
            "TMPDIR": temporary,
            "USER": user_name,
            "LOGNAME": user_name,
            "SHELL": "/bin/sh",
        }

    def home_of(self, user_name: str) -> Path:
        """The home of a user's jobs: caches there are used again."""
        return self.node_directory / "homes" / user_name

    def _find_path(self, identity: Identity) -> str:
        own = f"{sys.prefix}/bin" if sys.prefix != sys.base_prefix and identity.separate else ""
        given = [*self._daemon.get("PATH", "").split(":"), *DEFAULT_PATH.split(":")]
        directories = [
            d
            for d in dict.fromkeys(given)
            if d.startswith("/") and d != own and can_reach(Path(d), identity)
        ]
        if not any(can_reach(Path(d, "python"), identity) for d in directories):
            directories += self._make_python_name(identity, ":".join(directories))
        return ":".join(directories)

    def _make_python_name(self, identity: Identity, path: str) -> list[str]:
        try:
            python = find_python(self.python, identity, path)
        except BuildFailed:
            return []
        directory = self.node_directory / "bin" / str(identity.uid)
        directory.mkdir(parents=True, exist_ok=True, mode=0o755)
        link = directory / "python"
        link.unlink(missing_ok=True)
        link.symlink_to(python)
        return [str(directory)]

    def _copy_pip_configuration(self, target: Path) -> str:
        """pip's settings of the daemon's user, put where jobs under other uids can read them."""
        home = self._daemon.get("HOME", "/nonexistent")
        for source in (
            self._daemon.get("PIP_CONFIG_FILE", ""),
            f"{self._daemon.get('XDG_CONFIG_HOME') or home + '/.config'}/pip/pip.conf",
            f"{home}/.pip/pip.conf",
        ):
            if source and os.path.isfile(source):
                shutil.copyfile(source, target)
                os.chmod(target, 0o644 if self._separate else 0o600)
                return str(target)
        return ""


def _passes(name: str) -> bool:
    if _NOT_PASSED.fullmatch(name):
        return False
    return name in _PASSED_NAMES or name.startswith(_PASSED_PREFIXES)


def order_variables(
    order: daemon_pb2.AttemptOrder, output_dir: str, data_dir: str, results: str, hostfile: str
) -> dict[str, str]:
    """The variables of one attempt, as the reference lists them. Raises StartFailed for a bad
    order."""
    try:
        attempt = parse_attempt_id(order.attempt_id)
    except InvalidId as error:
        raise StartFailed(f"the order is not understood: {error}") from error
    secret = frozenset(order.secret_env_names)
    return job_environment(
        JobPlace(
            attempt=attempt,
            output_dir=output_dir,
            data_dir=data_dir,
            results_path=results,
            gpu_uuids=tuple(g.gpu_uuid for g in order.gpus),
            resume_dir=output_dir if order.generation > 1 else None,
            parameters=tuple(Parameter(k, v) for k, v in sorted(order.parameters.items())),
            env=tuple(EnvVar(k, v, k in secret) for k, v in sorted(order.env.items())),
            framework=order.framework or None,
            members=members_of(order),
            hostfile_path=hostfile or None,
        )
    )


def members_of(order: daemon_pb2.AttemptOrder) -> tuple[Member, ...]:
    """The gang; empty for a job alone."""
    return tuple(Member(p.job_type, p.job_number, p.host, p.port, p.gpu_count) for p in order.peers)


def hostfile_of(order: daemon_pb2.AttemptOrder) -> str:
    """MPI's hostfile; empty where none is needed."""
    return mpi_hostfile(members_of(order)) if order.framework == "mpi" and order.peers else ""


def configuration_text(order: daemon_pb2.AttemptOrder) -> str:
    """riseml-configuration.yml: which code and which parameters made what lies here."""
    lines = [
        f"# Written by RiseML for {order.experiment_id}.",
        f"project: {_quoted(order.project)}",
        f"experiment: {_quoted(order.experiment_id)}",
    ]
    if order.revision_id:
        lines.append(f"revision: {_quoted(order.revision_id)}")
    if order.framework:
        lines.append(f"framework: {_quoted(order.framework)}")
    lines.append("parameters:" if order.parameters else "parameters: {}")
    for name, value in sorted(order.parameters.items()):
        lines.append(f"  {_quoted(name)}: {_scalar(value)}")
    if order.environment.install:
        lines.append("install:")
        lines += [f"- {_quoted(step)}" for step in order.environment.install]
    lines.append("run:")
    lines += [f"- {_quoted(command)}" for command in order.run]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return (
        text if re.fullmatch(r"[A-Za-z][\w/ -]*[\w-]", text) and not _is_word(text) else _json(text)
    )


def _is_word(text: str) -> bool:
    return text.lower() in ("true", "false", "null", "yes", "no", "on", "off")


def _scalar(value: str) -> str:
    return value if _NUMBER.fullmatch(value) or value in ("true", "false") else _json(value)


def _json(text: str) -> str:
    # JSON's strings are YAML's double-quoted ones.
    return json.dumps(text, ensure_ascii=False)
