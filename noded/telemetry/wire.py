"""What the NVML child tells noded: JSON messages, each behind its length (4 bytes, big-endian).
Pure.

The child sends one `Hello` or one `Failed` first; after a `Hello` come `Readings`, one per period,
and `Xid` events as they happen. JSON and not pickle: a sick driver may scribble over the child's
memory, and noded must survive what it says then.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Final, TypeVar

from noded.telemetry.model import GpuInfo, GpuProcess, GpuSample, ReadingFault, XidEvent

MAX_MESSAGE_BYTES: Final = 4 << 20
LENGTH_BYTES: Final = 4


class WireError(ValueError):
    """The child sent something that is no message."""


@dataclass(frozen=True, slots=True)
class Unopened:
    """A GPU that the driver counts but does not open."""

    index: int
    message: str
    lost: bool


@dataclass(frozen=True, slots=True)
class Hello:
    """NVML is open; these GPUs are there."""

    driver_version: str
    gpus: tuple[GpuInfo, ...]
    unopened: tuple[Unopened, ...] = ()
    events: bool = True
    """False: this driver tells no XIDs."""


@dataclass(frozen=True, slots=True)
class Failed:
    """NVML could not be opened; the child exits."""

    code: int
    """nvmlReturn_t."""
    message: str


@dataclass(frozen=True, slots=True)
class Readings:
    """One reading of every GPU. Processes carry no user and no attempt yet."""

    gpus: tuple[GpuSample, ...]


@dataclass(frozen=True, slots=True)
class Xid:
    """One XID event."""

    event: XidEvent


Message = Hello | Failed | Readings | Xid
_Value = TypeVar("_Value")


def encode(message: Message) -> bytes:
    """A message with its length in front."""
    body = json.dumps(
        {"kind": type(message).__name__, **asdict(message)}, separators=(",", ":")
    ).encode()
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


def body_length(prefix: bytes) -> int:
    """Length of the body behind a prefix. Raises WireError where it can't be one of ours."""
    length = int.from_bytes(prefix, "big")
    if not 0 < length <= MAX_MESSAGE_BYTES:
        raise WireError(f"a message of {length} bytes")
    return length


def decode(body: bytes) -> Message:
    """The message in a body. Raises WireError where there is none."""
    try:
        raw = json.loads(body)
        kind = raw.pop("kind")
        if kind == "Readings":
            return Readings(tuple(_sample(gpu) for gpu in raw["gpus"]))
        if kind == "Xid":
            return Xid(_build(XidEvent, raw["event"]))
        if kind == "Failed":
            return _build(Failed, raw)
        if kind == "Hello":
            return Hello(
                raw["driver_version"],
                tuple(_build(GpuInfo, gpu) for gpu in raw["gpus"]),
                tuple(_build(Unopened, gpu) for gpu in raw["unopened"]),
                raw["events"],
            )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WireError(f"no message: {error}") from error
    raise WireError(f"no message of kind {kind!r}")


def _sample(raw: dict[str, Any]) -> GpuSample:
    fault = raw.pop("fault")
    processes = tuple(_build(GpuProcess, process) for process in raw.pop("processes"))
    reasons = tuple(str(reason) for reason in raw.pop("throttle_reasons"))
    return _build(
        GpuSample,
        {
            **raw,
            "fault": None if fault is None else ReadingFault(fault),
            "processes": processes,
            "throttle_reasons": reasons,
        },
    )


def _build(kind: type[_Value], raw: dict[str, Any]) -> _Value:
    """A value from its fields; a wrong or a missing one raises TypeError."""
    return kind(**raw)
