"""system schedule"""

from __future__ import annotations

import itertools
import os
from pathlib import Path

from riseml.v1 import scheduler_pb2
from shell.command import UsageError, Values
from shell.context import Context
from shell.explanation import where
from shell.recent import short
from shell.render import (
    Column,
    as_mapping,
    json_text,
    local_time,
    plain,
    show_facts,
    show_list,
    show_rows,
)


def schedule(context: Context, values: Values) -> int:
    """A table of cycles, one in detail, or one as a file."""
    number = _number(values.text("CYCLE"))
    if values.text("save"):
        return _save(context, number, context.folder / values.text("save"))
    if number:
        return _one(context, context.client.scheduler.cycle(number))
    cycles = itertools.islice(context.client.scheduler.cycles(), values.number("limit"))
    show_list(
        context,
        cycles,
        [
            Column[scheduler_pb2.SchedulerCycle]("CYCLE", lambda c: str(c.number), right=True),
            Column("TIME", lambda c: local_time(c.start_time)),
            Column("TOOK", _took, right=True),
            Column("NODES", lambda c: str(c.node_count), right=True),
            Column("CONSIDERED", lambda c: str(c.considered_count), right=True),
            Column("PLACED", lambda c: str(c.placed_count), right=True),
            Column("EVICTED", lambda c: str(c.evicted_count), right=True),
            Column("RESERVED", lambda c: str(c.reserved_count), right=True),
            Column("REJECTED", lambda c: str(c.rejected_count), right=True),
        ],
        empty="The scheduler had nothing to do since the control plane started.",
    )
    return 0


def _number(text: str) -> int:
    """Of a cycle; 0 for none."""
    if not text:
        return 0
    if not text.isascii() or not text.isdecimal() or not 0 < int(text) < 1 << 63:
        raise UsageError(f"'{text}' is no number of a cycle. 'riseml system schedule' lists them.")
    return int(text)


def _took(cycle: scheduler_pb2.SchedulerCycle) -> str:
    milliseconds = cycle.duration_milliseconds
    return f"{milliseconds:.0f}ms" if milliseconds >= 10 else f"{milliseconds:.1f}ms"


def _one(context: Context, cycle: scheduler_pb2.SchedulerCycle) -> int:
    if context.format == "json":
        context.out(json_text(as_mapping(cycle)))
        return 0
    if context.format == "table":
        show_facts(
            context,
            [
                ("cycle", str(cycle.number)),
                ("time", local_time(cycle.start_time)),
                ("took", _took(cycle)),
                ("saw", f"{cycle.node_count} nodes, {cycle.considered_count} waiting"),
                ("placed", str(cycle.placed_count)),
                ("evicted", str(cycle.evicted_count or "")),
                ("reserved", str(cycle.reserved_count or "")),
                ("rejected", str(cycle.rejected_count or "")),
            ],
        )
        context.out()
    rows = [
        [
            one.kind,
            short(context, one.experiment_id),
            where(one.members),
            plain(one.message),
            plain("; ".join(one.alternatives)),
        ]
        for one in cycle.decisions
    ]
    show_rows(
        context,
        ["KIND", "ID", "WHERE", "WHY", "NEXT BEST"],
        rows,
        empty="It decided nothing, or its decisions are not kept any more.",
    )
    return 0


def _save(context: Context, number: int, file: Path) -> int:
    cycle, content = context.client.scheduler.recording(number)
    try:
        # It shows what everybody asks for: not for others to read.
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError as error:
        raise UsageError(f"{file} is there already. Remove it first, or name another.") from error
    with os.fdopen(descriptor, "wb") as opened:
        opened.write(content)
    context.say(
        f"Wrote cycle {cycle.number} to {file}. Decide again: riseml-simulate --snapshot "
        f"{file.name}"
    )
    return 0
