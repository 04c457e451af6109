"""What happens because time passes."""

from __future__ import annotations

from dataclasses import replace

from controlplane.core.derive import Decision, judge, members_of
from controlplane.core.draft import Draft, Outcome
from controlplane.core.gpu_tests import start_due_tests
from controlplane.core.lifecycle import advance, stop_attempt
from controlplane.core.nodes import lose_all
from controlplane.core.settings import Settings
from controlplane.domain import reasons
from controlplane.domain.model import Attempt, Node, NodeStateName


def time_passed(draft: Draft, settings: Settings) -> Outcome:
    """Reply: None. Ends what ran too long, gives up what stopped by itself on lost nodes, and now
    and then writes down recent use."""
    for experiment_id in draft.cluster.limited:
        _limit(draft, experiment_id)
    for node in draft.cluster.nodes.values():
        if node.state == NodeStateName.LOST:
            _give_up(draft, node, settings)
    start_due_tests(draft)
    _save_use(draft)
    return draft.outcome()


def _limit(draft: Draft, experiment_id: str) -> None:
    """`max_duration` counts from when the newest attempts began to run: waiting costs nothing."""
    experiment = draft.experiment(experiment_id)
    if experiment is None or experiment.max_duration_seconds is None:
        return
    if not experiment.generation:
        # It was never started; thousands may wait.
        return
    members = members_of(
        draft.jobs_of(experiment_id), draft.attempts_of(experiment_id), experiment.generation
    )
    begun = [a.start_time for _, a in members if a is not None and a.start_time is not None]
    if not begun or draft.now - min(begun) < experiment.max_duration_seconds:
        return
    live = [a for _, a in members if a is not None and not a.state.ended]
    if not live or judge(experiment, members).decision is not Decision.GO_ON:
        return
    for attempt in live:
        stop_attempt(draft, attempt, reasons.STOP_MAX_DURATION)
    advance(draft, experiment_id)


def _give_up(draft: Draft, node: Node, settings: Settings) -> None:
    """Attempts that opted into `node_lost`: their shims have stopped them for want of contact.

    Pods have no shim: one counts as gone when whoever watches it says so.
    """
    if node.inventory.capabilities.pod_network:
        return
    if node.lost_time is None:
        draft.put_node(replace(node, lost_time=draft.now))
        return
    silent = draft.now - node.lost_time
    gone: list[Attempt] = []
    for attempt in draft.attempts_on(node.name):
        experiment = draft.experiment(attempt.experiment_id)
        if experiment is None or "node_lost" not in experiment.spec.retry.on_events:
            continue
        if silent >= settings.lost_margin_seconds + experiment.spec.grace_period_seconds:
            gone.append(attempt)
    if gone:
        lose_all(draft, gone, f"node {node.name} was lost, and its jobs have stopped by themselves")


def _save_use(draft: Draft) -> None:
    """What a restart may forget of it is little; what nobody would miss is forgotten for good."""
    cluster = draft.cluster
    due = cluster.use.due(draft.now)
    for record in due:
        if (record.queue, record.user_name) in cluster.use_records:
            draft.update_account(record)
        else:
            draft.insert_account(record)
    if due:
        saved = {(record.queue, record.user_name) for record in due}
        for key in cluster.use.negligible(draft.now):
            if key in cluster.use_records and key not in saved:
                draft.delete(cluster.use_records[key])
