"""From a growing file to the control plane: tail, mask, ship with acknowledged offsets.

Bytes pass through whole; no line is looked at unless there are secrets. `shipper.py` knows a
protocol, not gRPC. Nothing here may import the session.
"""

from __future__ import annotations
