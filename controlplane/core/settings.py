"""What an operator may set and the reactor has to know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

LauncherName = Literal["daemon", "kubernetes"]
"""How jobs are run: as processes of noded, or as pods. Launchers have these names."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Times are in seconds."""

    # Decides what can be served at all: see `servable.py`.
    launcher: LauncherName = "daemon"

    # What was used so long ago counts half.
    use_half_life_seconds: float = 7 * 86_400.0

    # A GPU that was sick has to be healthy for so long before it is tested.
    probation_seconds: float = 300.0

    # A shim whose experiment opted into `node_lost` stops its job after this long without contact.
    # Has to be shorter than the lease of a node.
    contact_timeout_seconds: float = 10.0
    # After a lease ran out, and beyond the grace period, the time that such a shim is given to be
    # done. Only then its attempt counts as gone.
    lost_margin_seconds: float = 10.0


DEFAULTS = Settings()
