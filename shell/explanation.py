"""What the scheduler said, as lines for people and rows for tables. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp

from riseml.spec.units import format_milli
from riseml.v1 import scheduler_pb2
from shell.render import span

NODE_TITLES = ("NODE", "FITS", "GPU", "FREE", "STATUS", "HELD BY", "FREE AT", "WHAT")


def told(explanation: scheduler_pb2.Explanation, now: float) -> list[str]:
    """The whole in lines, most important first."""
    lines = [explanation.summary, *explanation.lines]
    lines += estimate_lines(explanation, now)
    lines += explanation.suggestions
    return lines


def estimate_lines(explanation: scheduler_pb2.Explanation, now: float) -> list[str]:
    """When it should start, on what that rests, and how good earlier estimates were."""
    if not explanation.HasField("estimate"):
        return []
    estimate = explanation.estimate
    basis = f": {estimate.basis}" if estimate.basis else ""
    line = f"It should start {when(estimate, now)}{basis}"
    lines = [line if line.endswith(".") else f"{line}."]
    half = span(estimate.past_median_error_seconds)
    most = span(estimate.past_p90_error_seconds)
    if estimate.past_count == 1:
        lines.append(f"  The one earlier estimate was off by {half}.")
    elif estimate.past_count:
        lines.append(
            f"  Of {estimate.past_count} earlier estimates half were off by {half} or less, nine "
            f"of ten by {most} or less."
        )
    return lines


def when(estimate: scheduler_pb2.StartEstimate, now: float) -> str:
    """``between 13:20 and 14:00``, ``not before 13:20``, ``at about 13:20``."""
    earliest = clock_time(estimate.earliest_time, now)
    if not estimate.HasField("latest_time"):
        return f"not before {earliest}; nobody can say how much later"
    latest = clock_time(estimate.latest_time, now)
    if earliest == latest:
        return f"at about {earliest}"
    # A day is named once.
    day, space, _ = earliest.rpartition(" ")
    return f"between {earliest} and {latest.removeprefix(day + space)}"


def clock_time(stamp: Timestamp, now: float) -> str:
    """``13:20`` today, else ``2026-11-23 13:20``, in the reader's time zone."""
    time = datetime.fromtimestamp(stamp.seconds).astimezone()
    today = datetime.fromtimestamp(now).astimezone().date()
    return time.strftime("%H:%M" if time.date() == today else "%Y-%m-%d %H:%M")


def node_rows(nodes: Iterable[scheduler_pb2.NodeVerdict], now: float) -> list[tuple[str, ...]]:
    """A row for each node and GPU; a node whose GPUs do not matter has one for itself."""
    rows: list[tuple[str, ...]] = []
    for node in nodes:
        fits = "yes" if node.fits else "no"
        if not node.gpus:
            rows.append((node.node_name, fits, "", "", "", "", "", node.message))
        rows += [
            (
                node.node_name,
                fits,
                str(gpu.index),
                format_milli(gpu.free_milli),
                gpu.code,
                ", ".join(gpu.experiment_ids),
                clock_time(gpu.free_time, now) if gpu.HasField("free_time") else "",
                gpu.message,
            )
            for gpu in node.gpus
        ]
    return rows


def where(members: Iterable[scheduler_pb2.PlannedMember]) -> str:
    """``gpu-3 (4 GPUs), gpu-4``."""
    by_node: dict[str, int] = {}
    for member in members:
        milli = sum(share.milli for share in member.gpus)
        by_node[member.node_name] = by_node.get(member.node_name, 0) + milli
    return ", ".join(
        f"{name} ({format_milli(milli)} GPU{'' if milli == 1000 else 's'})" if milli else name
        for name, milli in by_node.items()
    )
