"""The daemon's errors: what keeps it from running, and what keeps an attempt from starting."""

from __future__ import annotations


class NodedError(Exception):
    """Base of all errors of ours. Messages say what to do next."""


class ConfigError(NodedError):
    """The daemon cannot start with what it was given."""


class SessionRefused(NodedError):
    """The control plane or we refuse the session for good; trying again changes nothing."""


class WrongUser(NodedError):
    """This daemon runs no jobs of that user."""


class StartFailed(NodedError):
    """An attempt cannot run. `reason` is the code that its report carries."""

    reason = "EXEC_FAILED"


class CodeFetchFailed(StartFailed):
    """The revision's files did not arrive, or not as the manifest says."""

    reason = "CODE_FETCH_FAILED"


class RevisionRefused(CodeFetchFailed):
    """The control plane does not give the revision to this attempt, now or later."""


class CredentialRefused(ConnectionError):
    """The control plane does not know who asks.

    For a daemon no more than the end of its session, which it opens again or is told why not.
    """


class BuildFailed(StartFailed):
    """The environment could not be prepared."""

    reason = "BUILD_FAILED"


class UserNotServed(StartFailed):
    """The order is for a user whose jobs may not run here."""

    reason = "USER_NOT_SERVED"


class PortTaken(StartFailed):
    """Another program listens on the port that the gang would meet at."""

    reason = "PORT_TAKEN"


class NoSpaceLeft(StartFailed):
    """The disk under the node's directories is full."""

    reason = "NO_SPACE"
