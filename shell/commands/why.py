"""why"""

from __future__ import annotations

import time

from riseml.spec import ids
from shell.command import Values
from shell.context import Context
from shell.explanation import NODE_TITLES, node_rows, told
from shell.recent import canonical, last_experiment
from shell.render import as_mapping, json_text, plain, show_rows


def why(context: Context, values: Values) -> int:
    """What the scheduler says of one experiment, in words or node by node."""
    named = values.text("ID")
    id = canonical(context, named) if named else last_experiment(context, running=False).id
    found = context.client.scheduler.explain(str(_experiment(ids.parse_id(id))))
    now = time.time()
    if context.format == "json":
        context.out(json_text(as_mapping(found)))
        return 0
    if context.format == "table":
        for line in told(found, now):
            context.out(plain(line))
        if not values.flag("long"):
            return 0
        if found.nodes:
            context.out()
    show_rows(
        context,
        NODE_TITLES,
        [[plain(cell) for cell in row] for row in node_rows(found.nodes, now)],
        right=("GPU", "FREE"),
        empty="Nodes do not matter for it now.",
    )
    return 0


def _experiment(id: ids.AnyId) -> ids.ExperimentId:
    """Jobs are placed together: what holds for one holds for its experiment."""
    match id:
        case ids.ExperimentId():
            return id
        case ids.JobGroupId() | ids.JobId():
            return id.experiment
        case ids.AttemptId():
            return id.job.experiment
