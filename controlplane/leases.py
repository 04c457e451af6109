"""When each node was last heard of, in monotonic time. A restart begins every lease anew."""

from __future__ import annotations

from collections.abc import Iterable


class Leases:
    """Leases by node name; `now` is always monotonic seconds."""

    def __init__(self, lease_seconds: float) -> None:
        self.lease_seconds = lease_seconds
        self._heard: dict[str, float] = {}

    def start(self, node_names: Iterable[str], now: float) -> None:
        """Nodes known from before a restart get a whole lease to come back."""
        for name in node_names:
            self._heard.setdefault(name, now)

    def renew(self, node_name: str, now: float) -> None:
        self._heard[node_name] = now

    def forget(self, node_name: str) -> None:
        self._heard.pop(node_name, None)

    def expired(self, now: float) -> list[str]:
        """Nodes whose lease ran out; each is named once until it is renewed."""
        gone = [name for name, heard in self._heard.items() if now - heard > self.lease_seconds]
        for name in gone:
            del self._heard[name]
        return gone

    def silent_seconds(self, node_name: str, now: float) -> float | None:
        """Seconds since the node was heard of; None when its lease ran out or it is unknown."""
        heard = self._heard.get(node_name)
        return None if heard is None else now - heard
