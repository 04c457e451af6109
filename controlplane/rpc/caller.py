"""Who calls: found from the credential, kept for the length of the call."""

from __future__ import annotations

import hashlib
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final, Protocol

from controlplane.core.cluster import Cluster
from controlplane.domain.errors import NotFound, PermissionDenied, Unauthenticated
from controlplane.job_tokens import JobTokens, is_job_token
from controlplane.rpc.access import Access


@dataclass(frozen=True, slots=True)
class Caller:
    """A user, the daemon of a node (`node_name` set), or a job (`attempt_id` set)."""

    name: str = ""
    admin: bool = False
    node_name: str = ""
    attempt_id: str = ""

    def may_see(self, owner: str) -> bool:
        """Whether what belongs to `owner` is open to this caller."""
        return self.admin or self.name == owner

    def check_owner(self, owner: str, what: str) -> None:
        """Raises NotFound for what belongs to others: that it exists is not told."""
        if not self.may_see(owner):
            raise NotFound(f"There is no {what} of yours.", metadata={"name": what})


_OF_NODES: Final = (Access.NODE, Access.DAEMON, Access.NODE_OR_JOB)

_caller: ContextVar[Caller] = ContextVar("caller")


def current_caller() -> Caller:
    """The caller of the RPC being served."""
    return _caller.get()


def set_caller(caller: Caller) -> None:
    _caller.set(caller)


def hash_credential(credential: str) -> str:
    """How API keys and node tokens are kept: hex SHA-256 (they are random, 256 bits)."""
    return hashlib.sha256(credential.encode()).hexdigest()


class DaemonAccounts(Protocol):
    """See `controlplane.launch.kubernetes.daemon_identities`."""

    def is_account_token(self, credential: str) -> bool: ...

    async def node_of(self, token: str) -> str: ...


async def identify_observer(
    accounts: DaemonAccounts | None, authorization: str | None, access: Access
) -> Caller | None:
    """The daemon behind the token of a service account; None: it is no such token, or opens nothing
    like `access`. Raises Unauthenticated, and Unavailable while it cannot be verified.
    """
    credential = _bearer(authorization)
    if accounts is None or access is not Access.DAEMON:
        return None
    if not accounts.is_account_token(credential):
        return None
    return Caller(node_name=await accounts.node_of(credential))


def _bearer(authorization: str | None) -> str:
    scheme, _, credential = (authorization or "").partition(" ")
    return credential.strip() if scheme.lower() == "bearer" else ""


def identify(
    cluster: Cluster,
    job_tokens: JobTokens,
    authorization: str | None,
    access: Access,
    now: float,
) -> Caller:
    """The caller behind an `authorization` header, allowed `access`.

    Raises Unauthenticated without a valid credential, PermissionDenied when it is not enough.
    """
    if access is Access.ANYONE:
        return Caller()
    credential = _bearer(authorization)
    if not credential:
        raise Unauthenticated(
            "No credential: log in with `riseml user login`, or set RISEML_API_KEY."
            if access not in _OF_NODES
            else "No node token: start the daemon with --token-file."
        )
    if access is Access.NODE_OR_JOB and is_job_token(credential):
        return Caller(attempt_id=job_tokens.verify(credential, now))
    digest = hash_credential(credential)
    if access in _OF_NODES:
        token = cluster.node_token_by_hash(digest)
        if token is None:
            raise Unauthenticated(
                "This node token is not known: make one with `riseml node token create NAME`.",
                reason="UNKNOWN_NODE_TOKEN",
            )
        return Caller(node_name=token.node_name)
    key = cluster.api_key_by_hash(digest)
    user = cluster.users.get(key.user_name) if key is not None else None
    if user is None:
        raise Unauthenticated(
            "This API key is not known (it may have been revoked): ask an admin for a new one and "
            "log in with `riseml user login`.",
            reason="UNKNOWN_API_KEY",
        )
    if not user.enabled:
        raise Unauthenticated(
            f"User {user.name} is disabled: ask an admin.", reason="USER_DISABLED"
        )
    if access is Access.ADMIN and not user.admin:
        raise PermissionDenied(
            f"Only admins may do this, and {user.name} is none.", reason="ADMIN_ONLY"
        )
    return Caller(name=user.name, admin=user.admin)
