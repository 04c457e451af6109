"""Data as a table for people, as JSON with the contract's field names, or as CSV for
spreadsheets.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from shell.context import Context

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from google.protobuf.timestamp_pb2 import Timestamp
    from rich.console import JustifyMethod
    from rich.table import Table

Item = TypeVar("Item", bound="Message")

STATE_COLOURS: Final[Mapping[str, str]] = {
    "CREATED": "bright_black",
    "BUILDING": "cyan",
    "PENDING": "yellow",
    "STARTING": "cyan",
    "RUNNING": "green",
    "FINISHED": "blue",
    "FAILED": "red",
    "KILLED": "magenta",
    "READY": "green",
    "DISCONNECTED": "yellow",
    "LOST": "red",
    "HEALTHY": "green",
    "QUARANTINED": "red",
    "ok": "green",
    "failed": "red",
}
"""Colours of words that are states; rich's names."""

_ANSI: Final = {
    "bright_black": "90",
    "cyan": "36",
    "yellow": "33",
    "green": "32",
    "blue": "34",
    "red": "31",
    "magenta": "35",
}
_WHOLE: Final = frozenset({"ID", "JOB", "NAME", "NODE", "STATE", "RESULT"})
"""Titles of columns whose words are looked up or typed again."""

_BREAK: Final = re.compile(r"\s*[\n\t]\s*")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


# No slots: typing sets an attribute on the instances of Column[Item].
@dataclass(frozen=True)
class Column(Generic[Item]):
    """One column of a table."""

    title: str
    text: Callable[[Item], str]
    right: bool = False


def plain(text: str) -> str:
    """Text that came from elsewhere, without control characters."""
    return _CONTROL.sub("", text)


def coloured(text: str, word: str, colour: bool) -> str:
    """``text`` in the colour of the state ``word``."""
    code = _ANSI.get(STATE_COLOURS.get(word, ""), "")
    return f"\x1b[{code}m{text}\x1b[0m" if colour and code else text


def as_mapping(message: Message) -> dict[str, Any]:
    """A message in the contract's names, as protobuf's JSON mapping has it (64-bit numbers are
    text).
    """
    from google.protobuf.json_format import MessageToDict

    return MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


def json_text(value: object) -> str:
    """Indented JSON."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def csv_text(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """CSV with a line of names: lower case, words joined by ``_``."""
    made = io.StringIO()
    writer = csv.writer(made, lineterminator="\n")
    writer.writerow([title.lower().replace(" ", "_") for title in titles])
    writer.writerows(rows)
    return made.getvalue()


def show_list(
    context: Context,
    items: Iterable[Item],
    columns: Sequence[Column[Item]],
    *,
    empty: str,
) -> None:
    """Print a list in the format that was asked for; ``empty`` tells a person that there is
    nothing.
    """
    found = list(items)
    if context.format == "json":
        context.out(json_text([as_mapping(item) for item in found]))
        return
    show_rows(
        context,
        [column.title for column in columns],
        [[plain(column.text(item)) for column in columns] for item in found],
        right={column.title for column in columns if column.right},
        empty=empty,
    )


def show_rows(
    context: Context,
    titles: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: Iterable[str] = (),
    empty: str = "",
) -> None:
    """Print rows of text as a table or CSV."""
    if context.format == "csv":
        context.stdout.write(csv_text(titles, rows))
        return
    if not rows:
        context.say(empty)
        return
    to_right = set(right)
    rows = [[_BREAK.sub(" ", cell) for cell in row] for row in rows]
    if not context.out_is_terminal:
        context.stdout.write(_aligned(titles, rows, to_right))
        return
    from rich.console import Console

    console = Console(
        file=context.stdout, color_system="auto" if context.colour else None, highlight=False
    )
    console.print(rich_table(titles, rows, to_right))


def rich_table(titles: Sequence[str], rows: Sequence[Sequence[str]], right: Set[str]) -> Table:
    """A table for a terminal: ids, names and states stay whole, the rest is wrapped."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for title in titles:
        justify: JustifyMethod = "right" if title in right else "left"
        table.add_column(title, justify=justify, overflow="fold", no_wrap=title in _WHOLE)
    for row in rows:
        table.add_row(*(Text(cell, style=STATE_COLOURS.get(cell, "")) for cell in row))
    return table


def _aligned(titles: Sequence[str], rows: Sequence[Sequence[str]], right: set[str]) -> str:
    """Columns of even width for programs and files: nothing is cut or wrapped."""
    widths = [
        max(len(title), *(len(row[place]) for row in rows)) for place, title in enumerate(titles)
    ]
    lines = []
    for row in (titles, *rows):
        cells = [
            cell.rjust(width) if title in right else cell.ljust(width)
            for cell, width, title in zip(row, widths, titles, strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines) + "\n"


def show_one(context: Context, message: Message, facts: Sequence[tuple[str, str]]) -> None:
    """Print one object: ``facts`` for people, the whole message as JSON."""
    if context.format == "json":
        context.out(json_text(as_mapping(message)))
    elif context.format == "csv":
        context.stdout.write(csv_text([name for name, _ in facts], [[v for _, v in facts]]))
    else:
        show_facts(context, facts)


def show_facts(context: Context, facts: Sequence[tuple[str, str]]) -> None:
    """``name  value`` lines; those without a value are left out, further lines are indented."""
    width = max((len(name) for name, _ in facts), default=0)
    for name, value in facts:
        if value:
            lines = [plain(line) for line in value.split("\n")]
            shown = ("\n" + " " * (width + 2)).join(lines)
            shown = coloured(shown, lines[0].partition(" ")[0], context.colour)
            context.out(f"{name.ljust(width)}  {shown}")


def age(stamp: Timestamp, now_seconds: float) -> str:
    """How long ago, to one unit: ``12s``, ``5m``, ``3h``, ``4d``."""
    if not stamp.seconds:
        return ""
    return span(now_seconds - stamp.seconds - stamp.nanos / 1e9)


def span(seconds: float) -> str:
    """A time to one or two units: ``12s``, ``5m10s``, ``3h20m``, ``4d``."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02d}h"


def local_time(stamp: Timestamp) -> str:
    """``2026-11-23 20:15:02`` in the reader's time zone; empty for none."""
    if not stamp.seconds:
        return ""
    from datetime import datetime

    return datetime.fromtimestamp(stamp.seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S")
