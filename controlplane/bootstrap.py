"""What is made at first start: the first admin with a key, the secret of job tokens, and the token
of an embedded node.
"""

from __future__ import annotations

import json
import logging
import secrets
from pathlib import Path

from controlplane.config import Config
from controlplane.domain.errors import FailedPrecondition
from controlplane.domain.events import NodeTokenCreated, UserCreated
from controlplane.job_tokens import KEY_BYTES
from controlplane.private_files import write_private
from controlplane.rpc.caller import hash_credential
from controlplane.rpc.user_service import new_credential, new_key
from controlplane.runtime import Runtime

logger = logging.getLogger(__name__)


async def make_first_admin(runtime: Runtime, config: Config) -> None:
    """Only where there is no user yet. The key is written to home/control/admin-key, mode 0600."""
    if runtime.cluster.users:
        return
    path = config.control / "admin-key"
    key, text = new_key(config.admin_name, "made at the first start", "")
    # Written first: a crash in between leaves a file with a useless key, which the next start
    # replaces, and never an admin whose key nobody knows.
    write_private(path, f"{text}\n".encode())
    await runtime.submit(UserCreated(config.admin_name, "", True, key))
    logger.info("made the first admin %s; the key is in %s", config.admin_name, path)


def job_token_key(config: Config) -> bytes:
    """The secret under which tokens of jobs are made: home/control/job-token-key, mode 0600.

    Whoever wants all of them to be worthless removes the file. Raises FailedPrecondition for a
    damaged one: a new one would take the code from pods that are just starting.
    """
    path = config.control / "job-token-key"
    try:
        key = path.read_bytes()
    except FileNotFoundError:
        key = secrets.token_bytes(KEY_BYTES)
        write_private(path, key)
    if len(key) != KEY_BYTES:
        raise FailedPrecondition(
            f"{path} is damaged: it has {len(key)} bytes, not {KEY_BYTES}. Restore it, or remove "
            "it to have a new one; pods that are starting then fail to fetch their code.",
            reason="JOB_TOKEN_KEY_DAMAGED",
        )
    return key


async def write_embedded_token(runtime: Runtime, config: Config, ca_pem: bytes) -> None:
    """The token of the node that `riseml up` starts beside us; kept while it is good."""
    name = config.embedded_node
    folder = config.home / "node" / name
    folder.mkdir(parents=True, exist_ok=True, mode=0o711)
    path = folder / "token"
    authority = ca_pem.decode() or None
    known = runtime.cluster.node_tokens.get(name)
    if known is not None and path.exists():
        kept = json.loads(path.read_bytes())
        token = kept.get("token", "")
        if hash_credential(token) == known.sha256:
            # Whether there is TLS may have changed since: the node goes by what stands here.
            if kept.get("ca_pem") != authority:
                _write_token(path, name, token, authority)
            return
    token = new_credential()
    _write_token(path, name, token, authority)
    await runtime.submit(NodeTokenCreated(name, hash_credential(token)))


def _write_token(path: Path, node_name: str, token: str, ca_pem: str | None) -> None:
    content = {"node_name": node_name, "token": token, "ca_pem": ca_pem}
    write_private(path, (json.dumps(content) + "\n").encode())
