"""Credentials of single attempts: a pod's init container fetches its code with one, and opens
nothing else with it.

A token is `riseml-job.ATTEMPT_ID.EXPIRY.MAC`: EXPIRY in seconds since the epoch, MAC the hex
HMAC-SHA256 (RFC 2104) of all that stands before it. Nothing of it is stored, so a start after a
crash issues the same token for the same attempt and expiry, and pods that exist keep theirs. That
the attempt still runs is for whoever serves it to check: a MAC only says that it once did.
"""

from __future__ import annotations

import hmac
import math
from typing import Final

from controlplane.domain.errors import Unauthenticated
from riseml.spec.ids import parse_attempt_id

KEY_BYTES: Final = 32
_PREFIX: Final = "riseml-job."


class JobTokens:
    """Issues and verifies the tokens of jobs under one secret of the control plane."""

    def __init__(self, key: bytes) -> None:
        """ValueError unless the key has KEY_BYTES."""
        if len(key) != KEY_BYTES:
            raise ValueError(f"a key for job tokens has {KEY_BYTES} bytes, not {len(key)}")
        self._key = key

    def issue(self, attempt_id: str, expiry: float) -> str:
        """The token of one attempt, good before `expiry` (seconds since the epoch, rounded up).

        Raises InvalidId for anything but an attempt's canonical id.
        """
        signed = f"{_PREFIX}{parse_attempt_id(attempt_id)}.{math.ceil(expiry)}"
        return f"{signed}.{self._mac(signed)}"

    def verify(self, token: str, now: float) -> str:
        """The attempt that a token was issued for. Raises Unauthenticated."""
        signed, _, mac = token.rpartition(".")
        # Bytes: hmac compares only ASCII text, and a header may hold anything.
        if not hmac.compare_digest(self._mac(signed).encode(), mac.encode()):
            raise Unauthenticated(
                "This job token is not known: it is not from this control plane, or damaged.",
                reason="UNKNOWN_JOB_TOKEN",
            )
        attempt_id, _, expiry = signed.removeprefix(_PREFIX).rpartition(".")
        if now >= int(expiry):
            raise Unauthenticated(
                f"The job token of {attempt_id} has expired: its pod took too long to fetch its "
                "code.",
                reason="JOB_TOKEN_EXPIRED",
                metadata={"attempt": attempt_id},
            )
        return attempt_id

    def _mac(self, signed: str) -> str:
        return hmac.new(self._key, signed.encode(), "sha256").hexdigest()


def is_job_token(credential: str) -> bool:
    """Whether a credential claims to be a job's; other credentials never begin like one."""
    return credential.startswith(_PREFIX)
