"""What was measured, beside the limit of the machine and what was asked; as a table for people."""

from __future__ import annotations

import math
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Sample:
    """One quantity, measured several times."""

    unit: str
    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def __str__(self) -> str:
        if len(self.values) == 1:
            return f"{short(self.median)} {self.unit}"
        spread = f"[{short(min(self.values))}..{short(max(self.values))}]"
        return f"{short(self.median)} {self.unit} {spread}"


@dataclass(frozen=True, slots=True)
class Bound:
    """What was asked: of the ratio to the machine's limit, or of the measured value itself."""

    value: float
    of_ratio: bool = False
    at_least: bool = True

    def holds(self, value: float) -> bool:
        return value >= self.value if self.at_least else value <= self.value


def at_least(value: float) -> Bound:
    """The measured value may not be lower."""
    return Bound(value)


def at_most(value: float) -> Bound:
    """The measured value may not be higher."""
    return Bound(value, at_least=False)


def ratio_at_least(value: float) -> Bound:
    """The ratio to the limit may not be lower."""
    return Bound(value, of_ratio=True)


def ratio_at_most(value: float) -> Bound:
    """The ratio to the limit may not be higher."""
    return Bound(value, of_ratio=True, at_least=False)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    what: str
    measured: Sample
    # Measured beside each value, in the same order.
    limit: Sample | None = None
    limit_name: str = ""
    asked: Bound | None = None
    # What was checked, and what a reader should know.
    notes: tuple[str, ...] = ()

    @property
    def ratios(self) -> Sample | None:
        """Of each value to the limit that was measured beside it."""
        if self.limit is None:
            return None
        if len(self.limit.values) == len(self.measured.values):
            pairs = zip(self.measured.values, self.limit.values, strict=True)
            return Sample("", tuple(value / limit for value, limit in pairs))
        return Sample("", tuple(v / self.limit.median for v in self.measured.values))

    @property
    def verdict(self) -> str:
        """`met`, `MISSED`, or empty where nothing was asked."""
        if self.asked is None:
            return ""
        ratios = self.ratios
        judged = ratios if self.asked.of_ratio and ratios is not None else self.measured
        return "met" if self.asked.holds(judged.median) else "MISSED"

    def cells(self) -> list[str]:
        """what, measured, limit, ratio, asked, verdict."""
        ratios = self.ratios
        asked = ""
        if self.asked is not None:
            sign = ">=" if self.asked.at_least else "<="
            unit = "" if self.asked.of_ratio else f" {self.measured.unit}"
            asked = f"{sign} {short(self.asked.value)}{unit}"
        return [
            self.what,
            str(self.measured),
            f"{self.limit_name}: {self.limit}" if self.limit is not None else "",
            str(ratios).replace("  ", " ") if ratios is not None else "",
            asked,
            self.verdict,
        ]


@dataclass(slots=True)
class Report:
    """All rows of a run, and what they were measured on."""

    machine: str
    rows: list[Row] = field(default_factory=list)
    # Lines below the table.
    remarks: list[str] = field(default_factory=list)

    @property
    def missed(self) -> list[Row]:
        return [row for row in self.rows if row.verdict == "MISSED"]

    def text(self) -> str:
        """For a terminal."""
        lines = [self.machine, ""]
        lines += _aligned([HEADINGS, *(row.cells() for row in self.rows)])
        for row in self.rows:
            lines += [f"  {row.what}: {note}" for note in row.notes]
        return "\n".join([*lines, *self.remarks]) + "\n"

    def markdown(self) -> str:
        """For docs/performance.md."""
        lines = [f"Machine: {self.machine}", ""]
        lines.append("| " + " | ".join(HEADINGS) + " |")
        lines.append("| " + " | ".join("---" for _ in HEADINGS) + " |")
        for row in self.rows:
            cells = row.cells()
            cells[-1] = f"**{cells[-1]}**" if cells[-1] == "MISSED" else cells[-1]
            lines.append("| " + " | ".join(cells) + " |")
        notes = [f"- {row.what}: {note}" for row in self.rows for note in row.notes]
        notes += [f"- {remark}" for remark in self.remarks]
        return "\n".join([*lines, "", *notes]) + "\n"

    def as_json(self) -> dict[str, Any]:
        """Everything, for programs."""
        rows = [
            {
                **asdict(row),
                "ratios": list(row.ratios.values) if row.ratios is not None else None,
                "verdict": row.verdict,
            }
            for row in self.rows
        ]
        return {"machine": self.machine, "rows": rows, "remarks": self.remarks}


BEGIN = "<!-- measured: begin -->"
END = "<!-- measured: end -->"


def placed(page: str, table: str) -> str:
    """The page with the table between its marks; a page without marks is the table alone."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        return table
    return f"{before}{begin}\n\n{table}\n{end}{after}"


HEADINGS = ["what", "measured", "limit of this machine", "ratio", "asked", "verdict"]


def machine_line() -> str:
    """Processor, cores, kernel, Python, grpcio, and how busy the machine was at the start."""
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    return (
        f"{model}, {os.cpu_count()} cores, {memory:.0f} GiB, Linux {platform.release()}, "
        f"Python {platform.python_version()}, grpcio {metadata.version('grpcio')}, "
        f"load {os.getloadavg()[0]:.2f} at the start"
    )


def short(value: float) -> str:
    """About three digits: `7,120`, `34.5`, `0.271`."""
    if value == 0 or not math.isfinite(value):
        return str(value)
    magnitude = abs(value)
    if magnitude >= 100:
        return f"{value:,.0f}"
    digits = 2 - math.floor(math.log10(magnitude))
    text = f"{value:.{max(digits, 0)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that is not below `percent` of all (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def _aligned(table: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    ]
