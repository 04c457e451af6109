"""From events to changes and effects: `on_event`, and the table of its handlers.

PURE and synchronous: the cluster is read and never changed here. A DomainError means that the event
was refused and changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from controlplane.core import (
    accounts,
    applier,
    attempts,
    experiments,
    gpu_tests,
    idle,
    nodes,
    queues,
    timers,
)
from controlplane.core.cluster import Cluster
from controlplane.core.draft import Draft, Outcome
from controlplane.core.settings import DEFAULTS, Settings
from controlplane.domain import events
from controlplane.domain.events import Event

__all__ = ["Outcome", "on_event"]

Handler = Callable[[Draft, Any, Settings], Outcome]

_HANDLERS: Final[Mapping[type[Any], Handler]] = {
    events.ExperimentSubmitted: experiments.submitted,
    events.KillRequested: lambda draft, event, _: experiments.kill_requested(draft, event),
    events.UserCreated: lambda draft, event, _: accounts.user_created(draft, event),
    events.UserUpdated: lambda draft, event, _: accounts.user_updated(draft, event),
    events.ApiKeyCreated: lambda draft, event, _: accounts.api_key_created(draft, event),
    events.ApiKeyDeleted: lambda draft, event, _: accounts.api_key_deleted(draft, event),
    events.NodeTokenCreated: lambda draft, event, _: accounts.node_token_created(draft, event),
    events.NodeTokenDeleted: lambda draft, event, _: accounts.node_token_deleted(draft, event),
    events.QueueCreated: lambda draft, event, _: queues.created(draft, event),
    events.QueueUpdated: lambda draft, event, _: queues.updated(draft, event),
    events.QueueDeleted: lambda draft, event, _: queues.deleted(draft, event),
    events.RevisionRecorded: lambda draft, event, _: accounts.revision_recorded(draft, event),
    events.NodeConnected: nodes.connected,
    events.NodeDisconnected: lambda draft, event, _: nodes.disconnected(draft, event),
    events.NodeLeaseExpired: lambda draft, event, _: nodes.lease_expired(draft, event),
    events.NodeTelemetryLate: lambda draft, event, _: nodes.telemetry_late(draft, event),
    events.NodeInventoryChanged: nodes.inventory_changed,
    events.NodeCordoned: lambda draft, event, _: nodes.cordoned(draft, event),
    events.NodeDrained: lambda draft, event, _: nodes.drained(draft, event),
    events.NodeTainted: lambda draft, event, _: nodes.tainted(draft, event),
    events.GpuReleased: lambda draft, event, _: gpu_tests.gpu_released(draft, event),
    events.NodeForgotten: lambda draft, event, _: nodes.forgotten(draft, event),
    events.AttemptReported: lambda draft, event, _: attempts.reported(draft, event),
    events.GpusIdle: lambda draft, event, _: idle.gpus_idle(draft, event),
    events.CheckpointWritten: lambda draft, event, _: attempts.checkpoint_written(draft, event),
    events.PlanMade: applier.plan_made,
    events.ControlPlaneStarted: lambda draft, event, _: nodes.started(draft),
    events.TimePassed: lambda draft, event, settings: timers.time_passed(draft, settings),
}


def on_event(cluster: Cluster, event: Event, now: float, settings: Settings = DEFAULTS) -> Outcome:
    """What an event means for this cluster. Raises the DomainError that refuses it.

    `now` is seconds since the epoch. Whoever calls this applies the outcome's changes (and what it
    has for `Cluster.note_waiting` and `Cluster.note_checkpoint`) before the next event.
    """
    return _HANDLERS[type(event)](Draft(cluster, now), event, settings)
