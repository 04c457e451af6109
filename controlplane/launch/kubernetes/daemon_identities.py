"""Who a daemon on a node is: Kubernetes verifies the token of its service account.

The kubelet gives each pod a token that is bound to it and short-lived, and writes the name of its
node into it (KEP 4193, Kubernetes 1.30 and newer). So a daemon can say nothing of other nodes, and
no secret has to be made or kept for it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, Final

from controlplane.domain.errors import Unauthenticated, Unavailable
from controlplane.launch.kubernetes.api import Api, ApiError
from controlplane.launch.kubernetes.pod_status import mapping, text

NODE_NAME: Final = "authentication.kubernetes.io/node-name"
REMEMBERED_SECONDS: Final = 60.0
"""A token that was good counts as good for so long: a pod that is gone may speak for as long."""
_MOST_REMEMBERED: Final = 10_000


class DaemonIdentities:
    """Tokens of service accounts, verified. `now` is monotonic seconds."""

    def __init__(self, account: str, audience: str, monotonic: Callable[[], float]) -> None:
        """`account`: NAMESPACE:NAME. `audience`: for whom tokens have to be made."""
        self._user = f"system:serviceaccount:{account}"
        self._audience = audience
        self._monotonic = monotonic
        self._known: dict[bytes, tuple[str, float]] = {}
        self.api: Api | None = None
        """Set while there is a Kubernetes to ask."""

    def is_account_token(self, credential: str) -> bool:
        """Whether it looks like one: a JSON web token."""
        return credential.startswith("eyJ") and credential.count(".") == 2

    async def node_of(self, token: str) -> str:
        """The node of the daemon whose token it is. Raises Unauthenticated, and Unavailable
        while that cannot be found out."""
        digest = hashlib.sha256(token.encode()).digest()
        now = self._monotonic()
        node_name, until = self._known.get(digest, ("", 0.0))
        if until > now:
            return node_name
        node_name = self._verified(await self._review(token))
        if len(self._known) >= _MOST_REMEMBERED:
            self._known.clear()
        self._known[digest] = (node_name, now + REMEMBERED_SECONDS)
        return node_name

    async def _review(self, token: str) -> Any:
        if self.api is None:
            raise _try_again("the control plane has no connection to it yet")
        try:
            return await self.api.review_token(token, self._audience)
        except ApiError as error:
            raise _try_again(error.message) from error

    def _verified(self, status: Any) -> str:
        if not status.get("authenticated") or self._audience not in status.get("audiences", ()):
            raise _refused(
                f"Kubernetes does not know this token for {self._audience} "
                f"({status.get('error') or 'it is expired, or made for another audience'})"
            )
        user = text(status, "user", "username")
        if user != self._user:
            raise _refused(f"{user} is not the daemons' account {self._user}")
        names = list(mapping(status, "user", "extra").get(NODE_NAME) or ())
        if len(names) != 1 or not names[0]:
            raise _refused(
                "the token names no node: it has to be that of a pod, given by Kubernetes 1.30 or "
                "newer"
            )
        return str(names[0])


def _refused(why: str) -> Unauthenticated:
    return Unauthenticated(f"{why}.", reason="UNKNOWN_DAEMON")


def _try_again(why: str) -> Unavailable:
    return Unavailable(
        f"Kubernetes cannot be asked who this daemon is ({why}): try again.",
        reason="NO_KUBERNETES",
    )
