"""project ..."""

from __future__ import annotations

import time

from riseml.v1 import project_pb2
from shell.command import Values
from shell.context import Context
from shell.render import Column, age, show_list


def list_projects(context: Context, values: Values) -> int:
    """Projects of the caller, of a user, or all."""
    now = time.time()
    show_list(
        context,
        context.client.projects.list(values.text("user")),
        [
            Column[project_pb2.Project]("NAME", lambda project: project.name),
            Column("USER", lambda project: project.user_name),
            Column("AGE", lambda project: age(project.create_time, now), right=True),
        ],
        empty="There are no projects yet. 'riseml init' and 'riseml train' make one.",
    )
    return 0
