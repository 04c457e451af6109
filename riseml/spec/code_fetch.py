"""How a pod's init container ends, as whoever started the pod reads it.

The program is `riseml-fetch-code`; the values are those of sysexits(3) where one fits.
"""

from __future__ import annotations

import enum


class FetchExit(enum.IntEnum):
    """Exit codes of `riseml-fetch-code`. Its last line says the same in words."""

    DONE = 0
    # A variable is missing or makes no sense.
    WRONG_ENVIRONMENT = 64
    # The control plane does not give this code to this attempt: one of them is gone.
    REVISION_GONE = 66
    # Nothing new came for the length of the deadline.
    UNREACHABLE = 69
    # Whatever else keeps files from their places.
    NOT_WRITTEN = 73
    NO_SPACE = 74
    # The token has expired or is not the control plane's.
    TOKEN_REFUSED = 77
    # SIGTERM, as shells count it.
    STOPPED = 143
