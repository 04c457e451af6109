"""status"""

from __future__ import annotations

import itertools
import json
import re
import time

from riseml.errors import RisemlError
from riseml.spec.gpus import format_gpus
from riseml.spec.units import format_duration, format_memory, format_milli
from riseml.states import (
    LIVE,
    attempt_state_name,
    has_ended,
    how_it_ended,
    newest_attempt,
    state_name,
    time_ns_of,
    why,
    why_briefly,
)
from riseml.v1 import experiment_pb2, job_pb2, spec_pb2, state_pb2
from shell.command import Values
from shell.context import Context
from shell.explanation import estimate_lines
from shell.recent import canonical, short
from shell.render import (
    Column,
    age,
    as_mapping,
    json_text,
    local_time,
    show_facts,
    show_list,
    show_rows,
    span,
)


def status(context: Context, values: Values) -> int:
    """A table of experiments, or one in detail."""
    named = values.text("ID")
    if named:
        return _detail(context, canonical(context, named))
    everything = values.flag("all")
    found = context.client.experiments.list(
        user_name=values.text("user"),
        project=values.text("project"),
        states=() if everything else LIVE,
        with_jobs=values.flag("long"),
        page_size=min(values.number("limit"), 500),
    )
    shown = list(itertools.islice(found, values.number("limit")))
    empty = "You have no experiments yet. 'riseml train' starts one."
    if not everything:
        empty = "Nothing is running. 'riseml status -a' shows what has ended."
    show_list(context, shown, _columns(context, long=values.flag("long")), empty=empty)
    if len(shown) == values.number("limit") and next(found, None) is not None:
        context.say(f"There are more; -n {2 * len(shown)} shows up to {2 * len(shown)}.")
    return 0


def _columns(context: Context, *, long: bool) -> list[Column[experiment_pb2.Experiment]]:
    now = time.time()
    columns = [
        Column[experiment_pb2.Experiment]("ID", lambda e: short(context, e.id)),
        Column("PROJECT", lambda e: e.project),
        Column("STATE", lambda e: state_name(e.state)),
        Column("AGE", lambda e: age(e.create_time, now), right=True),
        Column("TIME", lambda e: _run_time(e, now), right=True),
        Column("WHAT", _what),
    ]
    if long:
        columns[5:5] = [
            Column("NODES", lambda e: ",".join(_nodes(e))),
            Column("GEN", lambda e: str(e.generation), right=True),
            Column("PRIO", lambda e: str(e.priority), right=True),
            Column("QUEUE", lambda e: e.queue),
            Column("REVISION", lambda e: e.revision_id[:12]),
        ]
    return columns


def _run_time(experiment: experiment_pb2.Experiment, now: float) -> str:
    if not experiment.HasField("start_time"):
        return ""
    end = time_ns_of(experiment.end_time) / 1e9 if experiment.HasField("end_time") else now
    return span(end - time_ns_of(experiment.start_time) / 1e9)


def _nodes(experiment: experiment_pb2.Experiment) -> list[str]:
    names = {a.node_name for job in experiment.jobs if (a := newest_attempt(job)) is not None}
    return sorted(name for name in names if name)


def _what(experiment: experiment_pb2.Experiment) -> str:
    """Children of a set, why it waits or ended, or its parameters."""
    if experiment.HasField("set"):
        counts = experiment.set
        ended = counts.finished_count + counts.failed_count + counts.killed_count
        text = f"{ended}/{counts.child_count} children ended, {counts.running_count} running"
        return f"{text}, {counts.failed_count} failed" if counts.failed_count else text
    parameters = " ".join(f"{p.name}={_value(p.value)}" for p in experiment.parameters)
    reasons = list(experiment.pending_reasons)
    detail = reasons[0] if reasons else why_briefly(experiment.reason, experiment.message)
    return " | ".join(part for part in (parameters, detail) if part)


def _value(text: str) -> str:
    """A parameter's value; quoted where it would not be seen where it begins and ends."""
    return text if re.fullmatch(r"[^\s\"'|]+", text) else json.dumps(text, ensure_ascii=False)


def _detail(context: Context, id: str) -> int:
    experiment = context.client.experiments.get(id).experiment
    children: list[experiment_pb2.Experiment] = []
    if experiment.HasField("set"):
        children = sorted(context.client.experiments.list(set_id=id), key=lambda e: e.child_number)
    if context.format == "json":
        message = as_mapping(experiment)
        if experiment.HasField("set"):
            message["children"] = [as_mapping(child) for child in children]
        context.out(json_text(message))
        return 0
    if context.format == "table":
        show_facts(context, _facts(experiment, _estimate(context, experiment)))
    if children:
        if context.format == "table":
            context.out()
        show_list(context, children, _columns(context, long=False), empty="")
    elif experiment.jobs:
        if context.format == "table":
            context.out()
        _show_jobs(context, experiment)
    return 0


def _estimate(context: Context, experiment: experiment_pb2.Experiment) -> str:
    """When it should start; empty if it does not wait or nobody can say."""
    if experiment.state != state_pb2.STATE_PENDING:
        return ""
    try:
        found = context.client.scheduler.explain(experiment.id, suggestions=False)
    except RisemlError:
        # What else there is to show is worth more than this.
        return ""
    return "\n".join(estimate_lines(found, time.time()))


def _facts(experiment: experiment_pb2.Experiment, estimate: str) -> list[tuple[str, str]]:
    spec = experiment.spec
    state = state_name(experiment.state)
    detail = why(experiment.reason, experiment.message)
    return [
        ("id", experiment.id),
        ("project", experiment.project),
        ("state", f"{state} ({detail})" if detail else state),
        ("waits", "\n".join(experiment.pending_reasons)),
        ("estimate", estimate),
        ("parameters", "\n".join(f"{p.name} = {_value(p.value)}" for p in experiment.parameters)),
        ("created", local_time(experiment.create_time)),
        ("started", local_time(experiment.start_time)),
        ("ended", local_time(experiment.end_time)),
        ("ran", _run_time(experiment, time.time())),
        ("attempt", str(experiment.generation or "")),
        ("revision", experiment.revision_id[:12]),
        ("priority", f"{experiment.priority}, queue {experiment.queue}"),
        ("runs at most", _limit(experiment)),
        ("jobs ask for", "\n".join(_asked(role) for role in spec.roles)),
        ("install", "\n".join(spec.install)),
        ("run", "\n".join(spec.run)),
        ("output", f"output://{experiment.id}" if not experiment.HasField("set") else ""),
    ]


def _limit(experiment: experiment_pb2.Experiment) -> str:
    seconds = experiment.max_duration_seconds
    if not seconds:
        return ""
    own = experiment.spec.max_duration_seconds
    return format_duration(seconds) + ("" if own else f" (of queue {experiment.queue})")


def _asked(role: spec_pb2.Role) -> str:
    resources = role.resources
    parts = [
        f"{role.count} x {role.name}:",
        f"{format_milli(resources.cpu_milli)} CPU,",
        format_memory(resources.memory_bytes),
    ]
    if resources.gpu_milli:
        gpus = format_gpus(
            resources.gpu_milli, resources.gpu_model or None, resources.gpu_min_memory_bytes
        )
        parts[-1] += ","
        parts.append(f"GPU {gpus}")
    return " ".join(parts)


def _show_jobs(context: Context, experiment: experiment_pb2.Experiment) -> None:
    titles = ["JOB", "STATE", "NODE", "GPUS", "ATTEMPT", "STARTED", "ENDED", "EXIT"]
    rows = []
    for job in experiment.jobs:
        attempt = newest_attempt(job)
        rows.append([short(context, job.id), state_name(job.state), *_attempt_cells(attempt)])
    show_rows(context, titles, rows)
    for job in experiment.jobs:
        for earlier in list(job.attempts)[:-1]:
            if not has_ended(experiment) or earlier.reason:
                ended = why_briefly(earlier.reason, earlier.message) or how_it_ended(earlier)
                state = attempt_state_name(earlier.state)
                context.say(f"Earlier attempt {earlier.generation} of {job.id}: {state}, {ended}.")


def _attempt_cells(attempt: job_pb2.Attempt | None) -> list[str]:
    if attempt is None:
        return [""] * 6
    gpus = format_milli(sum(share.milli for share in attempt.gpus)) if attempt.gpus else ""
    node = f"{attempt.node_name} (lost)" if attempt.node_lost else attempt.node_name
    return [
        node,
        gpus,
        str(attempt.generation),
        local_time(attempt.start_time),
        local_time(attempt.end_time),
        how_it_ended(attempt),
    ]
