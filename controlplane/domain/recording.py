"""A cycle of the scheduler as a file: what it saw, when, and what it answered.

`schedule` is a pure function, so whoever reads the file gets the same plan again:
`riseml system schedule --save FILE` writes one, `riseml-simulate --snapshot FILE` replays it.
The file is one JSON object with the fields of `Recording`; nodes and gangs stand in a line each.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from typing import Any, Final, get_type_hints

from controlplane.domain.json_values import UnreadableJson, decoder, encoder
from controlplane.domain.plan import Plan
from controlplane.domain.snapshot import Backlog, GangRequest, RunningGang, Snapshot

__all__ = ["FORMAT", "FORMAT_VERSION", "Recording", "UnreadableJson", "read", "write"]

FORMAT: Final = "riseml.snapshot"
# Raise it when a field changes its meaning or its default, not when one with a default is added.
FORMAT_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Recording:
    """One cycle. `plan` is what `schedule(snapshot, now)` answered; None: nobody has asked yet."""

    snapshot: Snapshot
    # Seconds since the epoch.
    now: float
    # Of the cycle; 0: none.
    number: int = 0
    plan: Plan | None = None


def write(recording: Recording) -> Iterator[str]:
    """The file in pieces. Equal recordings give equal text."""
    head = {"format": FORMAT, "version": FORMAT_VERSION, "number": recording.number}
    yield f"{_text(head)[:-1]},\n"
    yield f'"now":{_text(encoder(float)(recording.now))},\n"snapshot":{{\n'
    snapshot, kinds = recording.snapshot, _snapshot_kinds()
    for position, (name, kind) in enumerate(kinds.items(), 1):
        yield f'"{name}":'
        value = getattr(snapshot, name)
        if name in ("pending", "running"):
            value = list(value)
        if isinstance(value, tuple | list):
            yield from _lines(value, encoder(_one_of(kind)))
        else:
            yield _text(encoder(kind)(value))
        yield ",\n" if position < len(kinds) else "\n"
    yield f'}},\n"plan":{_text(encoder(Plan | None)(recording.plan))}\n}}\n'


def _lines(values: Iterable[Any], encode: Any) -> Iterator[str]:
    separator = "[\n"
    for value in values:
        yield f"{separator}{_text(encode(value))}"
        separator = ",\n"
    yield "[]" if separator == "[\n" else "]"


def read(text: str | bytes) -> Recording:
    """What `write` wrote. Raises UnreadableJson."""
    try:
        found = json.loads(text)
    except ValueError as wrong:
        raise UnreadableJson(f"this is no JSON: {wrong}") from None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise UnreadableJson(f"this is no snapshot: it does not begin with format {FORMAT!r}")
    if found.get("version") != FORMAT_VERSION:
        raise UnreadableJson(
            f"this snapshot has version {found.get('version')!r} of the format; this RiseML reads "
            f"version {FORMAT_VERSION}: use the one that wrote it"
        )
    unknown = found.keys() - {"format", "version", *(one.name for one in fields(Recording))}
    if unknown:
        raise UnreadableJson(f"a recording has no field {min(unknown)!r}")
    for name in ("snapshot", "now"):
        if name not in found:
            raise UnreadableJson(f"{name} is missing")
    return Recording(
        snapshot=_snapshot(found["snapshot"]),
        now=decoder(float)(found["now"], "now"),
        number=decoder(int)(found.get("number", 0), "number"),
        plan=decoder(Plan | None)(found.get("plan"), "plan"),
    )


def _snapshot(found: Any) -> Snapshot:
    kinds = _snapshot_kinds()
    if not isinstance(found, dict):
        raise UnreadableJson("snapshot: an object is wanted")
    unknown = found.keys() - kinds.keys()
    if unknown:
        raise UnreadableJson(f"snapshot: a Snapshot has no field {min(unknown)!r}")
    for name in ("version", "nodes", "pending"):
        if name not in found:
            raise UnreadableJson(f"snapshot: {name} is missing")
    values = {name: decoder(kinds[name])(one, f"snapshot.{name}") for name, one in found.items()}
    values["pending"] = Backlog.of(values["pending"])
    return Snapshot(**values)


def _snapshot_kinds() -> dict[str, Any]:
    """Types by field; the backlog and what runs stand as their gangs, in their order."""
    hints = get_type_hints(Snapshot)
    kinds = {field.name: hints[field.name] for field in fields(Snapshot)}
    kinds["pending"] = tuple[GangRequest, ...]
    kinds["running"] = tuple[RunningGang, ...]
    return kinds


def _one_of(kind: Any) -> Any:
    """The type of the elements of a tuple of any length."""
    return kind.__args__[0]


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
