"""The network of the cluster's own namespace: it reaches nothing but itself."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final

NODE_ADDRESS: Final = "10.215.0.1"
POD_RANGE: Final = "10.216.0.0/16"
SERVICE_RANGE: Final = "10.217.0.0/16"
SERVICE_ADDRESS: Final = "10.217.0.1"


def make() -> None:
    """Loopback, and the node's address on a bridge; the parts want a default route to be there."""
    for words in (
        "link set lo up",
        "link add node0 type bridge",
        f"address add {NODE_ADDRESS}/24 dev node0",
        "link set node0 up",
        "route add default dev node0",
    ):
        subprocess.run(["ip", *words.split()], check=True)
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
