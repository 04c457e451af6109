"""monitor"""

from __future__ import annotations

from typing import TYPE_CHECKING

from riseml.errors import Unavailable
from riseml.retry import STREAM
from riseml.v1 import experiment_pb2, node_pb2, telemetry_pb2
from shell.command import Values
from shell.context import Context
from shell.load import Rows, gpu_rows, gpus_of, job_rows, node_rows
from shell.recent import canonical
from shell.render import as_mapping, json_text, plain, rich_table, show_rows

if TYPE_CHECKING:
    from rich.table import Table

REFRESH_SECONDS = 5.0
"""Nodes and jobs are asked for again so often; samples come as they are measured."""


def monitor(context: Context, values: Values) -> int:
    """A picture of the load: once, or again with each sample until Ctrl-C."""
    view = View(context, values.text("ID"), each_gpu=values.flag("gpu"))
    view.refresh()
    view.samples = {sample.node_name: sample for sample in context.client.telemetry.get()}
    if context.format == "json":
        context.out(json_text([as_mapping(sample) for sample in view.samples.values()]))
        return 0
    if values.flag("once") or context.format == "csv" or not context.out_is_terminal:
        rows = view.rows()
        show_rows(
            context,
            rows.titles,
            [[plain(cell) for cell in row] for row in rows.rows],
            right=rows.right,
            empty="There is nothing to show: no node is connected, or no job has started.",
        )
        return 0
    _live(context, view)
    return 0


class View:
    """What is shown: nodes, or the jobs of one experiment."""

    def __init__(self, context: Context, named: str, *, each_gpu: bool) -> None:
        self._client = context.client
        self._id = canonical(context, named) if named else ""
        self._each_gpu = each_gpu
        self._nodes: list[node_pb2.Node] = []
        self._experiments: list[experiment_pb2.Experiment] = []
        self.samples: dict[str, telemetry_pb2.NodeSample] = {}

    def refresh(self) -> None:
        """Ask again which nodes and jobs there are."""
        self._nodes = sorted(self._client.nodes.list(), key=lambda node: node.name)
        if self._id:
            experiment = self._client.experiments.get(self._id).experiment
            self._experiments = [experiment]
            if experiment.HasField("set"):
                self._experiments += self._client.experiments.list(set_id=self._id, with_jobs=True)

    def rows(self) -> Rows:
        """The picture of now."""
        if self._each_gpu:
            uuids = gpus_of(self._experiments) if self._id else None
            return gpu_rows(self._nodes, self.samples, uuids)
        if self._id:
            return job_rows(self._experiments, self._nodes, self.samples)
        return node_rows(self._nodes, self.samples)


def _live(context: Context, view: View) -> None:
    import time

    from rich.console import Console
    from rich.live import Live

    console = Console(
        file=context.stdout, color_system="auto" if context.colour else None, highlight=False
    )
    refreshed = time.monotonic()
    pauses = STREAM.pauses()
    with Live(_table(view.rows()), console=console, screen=False, auto_refresh=False) as live:
        while True:
            try:
                for answer in context.client.telemetry.watch():
                    pauses = STREAM.pauses()
                    view.samples[answer.sample.node_name] = answer.sample
                    if time.monotonic() - refreshed > REFRESH_SECONDS:
                        view.refresh()
                        refreshed = time.monotonic()
                    live.update(_table(view.rows()), refresh=True)
            except KeyboardInterrupt:
                return
            except Unavailable:
                pause = next(pauses, None)
                if pause is None:
                    raise
                time.sleep(pause)


def _table(rows: Rows) -> Table:
    cells = [[plain(cell) for cell in row] for row in rows.rows]
    return rich_table(rows.titles, cells, rows.right)
