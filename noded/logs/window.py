"""How far one stream has been sent and acknowledged. Pure.

Requests of a stream are answered once each and in order. An answer names the archive's end: where a
request's bytes were taken it lies at or behind their end; otherwise they were refused, and after
the answers to what is still under way the stream goes on from where the last one says.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

MAX_IN_FLIGHT_BYTES: Final = 1 << 20


@dataclass(slots=True)
class AckWindow:
    """Offsets of one stream, in bytes from its beginning."""

    acked: int = 0
    sent: int = 0
    final_acked: bool = False
    rewound: bool = False
    _in_flight: deque[tuple[int, bool]] = field(default_factory=deque)
    _refused: bool = False

    def room(self) -> bool:
        """Whether another chunk may be sent now."""
        return not self._refused and self.sent - self.acked < MAX_IN_FLIGHT_BYTES

    @property
    def in_flight(self) -> int:
        """Requests without an answer."""
        return len(self._in_flight)

    def send(self, length: int, *, final: bool) -> None:
        """A chunk that begins at `sent` is on its way."""
        self.sent += length
        self._in_flight.append((self.sent, final))

    def answer(self, next_offset: int, *, error: bool = False) -> None:
        """Takes the answer to the oldest request. An answer to none only moves the end."""
        end, final = self._in_flight.popleft() if self._in_flight else (next_offset, False)
        if error or next_offset < end:
            self._refused = True
        elif not self._refused:
            self.final_acked = self.final_acked or final
            if next_offset > max(end, self.sent):  # it has more than we sent: an earlier life did
                self._refused = True
        self.acked = next_offset if self._refused else max(self.acked, next_offset)
        if self._refused and not self._in_flight:
            self.sent = self.acked
            self.final_acked = False
            self.rewound = True
            self._refused = False

    def disconnected(self) -> None:
        """Answers under way are lost: go on from the last that came."""
        self._in_flight.clear()
        self._refused = False
        self.sent = self.acked
        self.rewound = True

    def take_rewound(self) -> bool:
        """Whether the next chunk is not the one that follows the last; asked once."""
        rewound, self.rewound = self.rewound, False
        return rewound
