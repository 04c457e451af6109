"""queue ..."""

from __future__ import annotations

from collections.abc import Sequence

from riseml.spec.units import format_duration, format_memory, format_milli
from riseml.v1 import queue_pb2, queue_service_pb2
from shell.command import UsageError, Values
from shell.context import Context
from shell.render import (
    Column,
    as_mapping,
    json_text,
    local_time,
    show_list,
    show_one,
    show_rows,
)

_STYLES = {
    "pack": queue_pb2.PLACEMENT_STYLE_PACK,
    "spread": queue_pb2.PLACEMENT_STYLE_SPREAD,
}


def list_queues(context: Context, values: Values) -> int:
    """A table of queues with what they may have, have and want."""
    show_list(
        context,
        context.client.queues.list(),
        [
            Column[queue_pb2.Queue]("NAME", lambda queue: queue.name),
            Column("WEIGHT", lambda queue: str(queue.weight), right=True),
            Column("GUARANTEE", lambda queue: format_milli(queue.guaranteed_gpu_milli), right=True),
            Column("LIMIT", _limit, right=True),
            Column("ALLOCATED", lambda q: format_milli(q.use.allocated_gpu_milli), right=True),
            Column("BORROWED", lambda q: format_milli(q.use.borrowed_gpu_milli), right=True),
            Column("SHARE", lambda queue: percent(queue.use.share), right=True),
            Column("FAIR SHARE", lambda queue: percent(queue.use.fair_share), right=True),
            Column("RECENT", lambda queue: percent(queue.use.recent_share), right=True),
            Column("RUNNING", lambda queue: str(queue.use.running_count), right=True),
            Column("WAITING", lambda queue: str(queue.use.waiting_count), right=True),
        ],
        empty="There are no queues.",
    )
    return 0


def percent(part: float) -> str:
    """``42%``; what is there and rounds to nothing is ``<1%``."""
    return "<1%" if 0 < part < 0.005 else f"{part:.0%}"


def _limit(queue: queue_pb2.Queue) -> str:
    return format_milli(queue.limit_gpu_milli) if queue.HasField("limit_gpu_milli") else "none"


def _style(queue: queue_pb2.Queue) -> str:
    return next((name for name, style in _STYLES.items() if style == queue.placement), "")


def show(context: Context, values: Values) -> int:
    """One queue with its users."""
    queue = context.client.queues.get(values.text("NAME"))
    show_one(context, queue, queue_facts(queue))
    users = queue.use.users
    if users and context.format == "table":
        context.out()
        _show_users(context, users)
    return 0


def queue_facts(queue: queue_pb2.Queue) -> list[tuple[str, str]]:
    """A queue as names and values for people."""
    use = queue.use
    seconds = queue.default_max_duration_seconds
    held = [
        f"{format_milli(use.allocated_gpu_milli)} GPUs",
        f"{format_milli(use.allocated_cpu_milli)} CPUs",
        format_memory(use.allocated_memory_bytes),
    ]
    waiting = f"{use.waiting_count}"
    if use.waiting_gpu_milli:
        waiting += f", for {format_milli(use.waiting_gpu_milli)} GPUs"
    return [
        ("queue", queue.name),
        ("weight", str(queue.weight)),
        ("guarantee", f"{format_milli(queue.guaranteed_gpu_milli)} GPUs"),
        ("limit", f"{_limit(queue)} GPUs" if queue.HasField("limit_gpu_milli") else "none"),
        ("placement", _style(queue)),
        ("preemption", "on" if queue.preempts_lower_priority else "off"),
        ("max duration", f"{format_duration(seconds)} unless said" if seconds else "none"),
        ("created", local_time(queue.create_time)),
        ("allocated", ", ".join(held)),
        ("borrowed", f"{format_milli(use.borrowed_gpu_milli)} GPUs"),
        ("share", f"{percent(use.share)} of the cluster, fair is {percent(use.fair_share)}"),
        ("recent", f"{percent(use.recent_share)} of all recent use"),
        ("running", str(use.running_count)),
        ("waiting", waiting),
    ]


def _show_users(context: Context, users: Sequence[queue_pb2.UserUse]) -> None:
    titles = ["USER", "ALLOCATED", "SHARE", "RECENT", "RUNNING", "WAITING"]
    rows = [
        [
            user.user_name,
            format_milli(user.allocated_gpu_milli),
            percent(user.share),
            percent(user.recent_share),
            str(user.running_count),
            str(user.waiting_count),
        ]
        for user in users
    ]
    show_rows(context, titles, rows, right=titles[1:])


def create(context: Context, values: Values) -> int:
    """A new queue."""
    queue = context.client.queues.create(values.text("NAME"), _settings(values))
    return _told(context, "Created queue", queue)


def update(context: Context, values: Values) -> int:
    """Change what is given."""
    settings = _settings(values)
    if not settings.ListFields():
        raise UsageError(
            "Nothing to change was said. 'help queue update' lists what a queue can be given."
        )
    queue = context.client.queues.update(values.text("NAME"), settings)
    return _told(context, "Changed queue", queue)


def delete(context: Context, values: Values) -> int:
    """Remove a queue."""
    name = values.text("NAME")
    context.client.queues.delete(name)
    context.say(f"Deleted queue {name}.")
    return 0


def _settings(values: Values) -> queue_service_pb2.QueueSettings:
    """What was given; the rest stays absent."""
    settings = queue_service_pb2.QueueSettings()
    if values.text("weight"):
        settings.weight = values.number("weight")
    if values.text("guarantee"):
        settings.guaranteed_gpu_milli = values.number("guarantee")
    if values.text("limit"):
        settings.limit_gpu_milli = values.number("limit")
    if values.text("placement"):
        settings.placement = _STYLES[values.text("placement")]
    if values.text("preemption"):
        settings.preempts_lower_priority = values.text("preemption") == "on"
    if values.text("max_duration"):
        settings.default_max_duration_seconds = values.number("max_duration")
    return settings


def _told(context: Context, what: str, queue: queue_pb2.Queue) -> int:
    if context.format == "json":
        context.out(json_text(as_mapping(queue)))
    limit = "no limit"
    if queue.HasField("limit_gpu_milli"):
        limit = f"a limit of {format_milli(queue.limit_gpu_milli)}"
    guaranteed = format_milli(queue.guaranteed_gpu_milli)
    context.say(
        f"{what} {queue.name}: weight {queue.weight}, {guaranteed} GPUs guaranteed, {limit}."
    )
    return 0
