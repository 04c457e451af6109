"""system test: small real jobs on every ready node"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from riseml.client import Client
from riseml.errors import RisemlError
from riseml.follow import past_lines
from riseml.log_merge import safe_text
from riseml.spec.system_test import MARK, spec_of
from riseml.states import JobNames, deciding_attempt, has_ended, how_it_ended, why
from riseml.v1 import experiment_pb2, node_pb2, state_pb2
from shell.command import UsageError, Values
from shell.context import Context
from shell.nodes import node_state
from shell.render import json_text, plain, show_rows, span

PATIENCE_SECONDS: Final = 120.0
"""A job that neither starts nor ends for so long has failed the test."""

_POLL_SECONDS: Final = 0.3


@dataclass(slots=True)
class Trial:
    """One job on one node."""

    node: str
    kind: str
    number: int
    experiment: experiment_pb2.Experiment | None = None
    ok: bool = False
    said: str = ""

    @property
    def id(self) -> str:
        """Of its experiment; empty if it could not be made."""
        return self.experiment.id if self.experiment is not None else ""

    @property
    def is_over(self) -> bool:
        """Whether nothing more comes."""
        return self.experiment is None or has_ended(self.experiment)


def system_test(context: Context, values: Values) -> int:
    """Make the jobs, wait for them, show what they found."""
    client = context.client
    nodes = _nodes(context, client, values.text("nodename"))
    trials = [
        Trial(node.name, kind, number)
        for node in nodes
        for kind in kinds(node)
        for number in range(1, values.number("num_jobs") + 1)
    ]
    context.say(
        f"Running {len(trials)} jobs on {len(nodes)} node{'' if len(nodes) == 1 else 's'} ..."
    )
    try:
        for trial in trials:
            _start(client, trial)
        _wait(client, trials)
    finally:
        _kill_left(client, trials)
    for trial in trials:
        _judge(client, trial)
    _show(context, trials)
    failed = sum(not trial.ok for trial in trials)
    context.say(f"{len(trials) - failed} of {len(trials)} passed." if failed else "All passed.")
    return 1 if failed else 0


def kinds(node: node_pb2.Node) -> tuple[str, ...]:
    """What can be tried on a node."""
    return ("cpu", "memory", "disk", "gpu") if node.gpus else ("cpu", "memory", "disk")


def _nodes(context: Context, client: Client, wanted: str) -> list[node_pb2.Node]:
    found = [node for node in client.nodes.list() if not wanted or node.name == wanted]
    if wanted and not found:
        raise UsageError(f"There is no node {wanted}. 'riseml node list' shows them.")
    ready = []
    for node in found:
        closed = node.cordoned or node.draining or node.telemetry_late
        if node.state == node_pb2.NODE_STATE_READY and not closed:
            ready.append(node)
        else:
            context.say(f"{node.name} is left out: it is {node_state(node)}.")
    if not ready:
        raise UsageError("No node is ready for jobs. 'riseml node list' shows why.")
    return ready


def _start(client: Client, trial: Trial) -> None:
    try:
        trial.experiment = client.experiments.create(spec_of(trial.node, trial.kind)).experiment
    except RisemlError as error:
        trial.said = error.message


def _wait(client: Client, trials: Iterable[Trial]) -> None:
    open_trials = {trial.id: trial for trial in trials if trial.id}
    states: dict[str, int] = {}
    deadline = time.monotonic() + PATIENCE_SECONDS
    while open_trials and time.monotonic() < deadline:
        for id, trial in list(open_trials.items()):
            trial.experiment = client.experiments.get(id).experiment
            if states.get(id) != trial.experiment.state:
                states[id] = trial.experiment.state
                deadline = time.monotonic() + PATIENCE_SECONDS
            if trial.is_over:
                del open_trials[id]
        if open_trials:
            time.sleep(_POLL_SECONDS)


def _kill_left(client: Client, trials: Iterable[Trial]) -> None:
    for trial in trials:
        if not trial.is_over:
            client.experiments.kill(trial.id, force=True)


def _judge(client: Client, trial: Trial) -> None:
    experiment = trial.experiment
    if experiment is None:
        return
    if not has_ended(experiment):
        reasons = "; ".join(experiment.pending_reasons)
        trial.said = f"did not end in {PATIENCE_SECONDS:.0f} s. {reasons}".strip()
        return
    lines = [
        safe_text(line.text).decode("utf-8", "replace")
        for line in past_lines(client, experiment.id, names=JobNames())
        if line.stream != "note"
    ]
    trial.ok = experiment.state == state_pb2.STATE_FINISHED
    if trial.ok:
        trial.said = next((x.removeprefix(MARK) for x in lines if x.startswith(MARK)), "")
        return
    attempt = deciding_attempt(experiment)
    ended = how_it_ended(attempt) if attempt is not None else ""
    said = [why(experiment.reason, experiment.message) or ended, *lines[-1:]]
    trial.said = ": ".join(part for part in said if part)


def _show(context: Context, trials: Iterable[Trial]) -> None:
    rows = [
        [
            trial.node,
            trial.kind,
            trial.id,
            "ok" if trial.ok else "failed",
            _seconds(trial.experiment),
            plain(trial.said),
        ]
        for trial in trials
    ]
    titles = ["NODE", "TEST", "EXPERIMENT", "RESULT", "TIME", "FOUND"]
    if context.format == "json":
        names = [title.lower() for title in titles]
        context.out(json_text([dict(zip(names, row, strict=True)) for row in rows]))
        return
    show_rows(context, titles, rows, right=("TIME",))


def _seconds(experiment: experiment_pb2.Experiment | None) -> str:
    if experiment is None or not experiment.HasField("end_time"):
        return ""
    begin = experiment.create_time
    end = experiment.end_time
    return span(end.seconds - begin.seconds + (end.nanos - begin.nanos) / 1e9)
