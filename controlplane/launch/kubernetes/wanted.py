"""Which attempts should run, by the control plane's word. No I/O: `launcher.py` makes it so."""

from __future__ import annotations

from dataclasses import dataclass, field

from controlplane.domain.effects import SessionOpened, StopAttempt
from controlplane.domain.model import AttemptOrder
from controlplane.domain.reasons import STOP_UNKNOWN


@dataclass(slots=True)
class Stop:
    """That an attempt has to end."""

    reason: str
    grace_seconds: float | None
    """None: as its order says; 0: at once."""


@dataclass(slots=True)
class Wanted:
    """One attempt."""

    attempt_id: str
    experiment_id: str
    node_name: str
    order: AttemptOrder | None = None
    """None: only its pod is known, from before a restart."""
    stop: Stop | None = None
    forgotten: bool = False
    """Its end is recorded: its pod may go."""
    told_end: bool = False
    """Its end was reported."""
    doubtful: bool = field(default=False, repr=False)
    """A session is being opened whose reply has not named it yet."""


class WantedAttempts:
    """Attempts by id."""

    def __init__(self) -> None:
        self._attempts: dict[str, Wanted] = {}
        self._of_experiments: dict[str, dict[str, Wanted]] = {}
        self._on_nodes: dict[str, dict[str, Wanted]] = {}

    def get(self, attempt_id: str) -> Wanted | None:
        return self._attempts.get(attempt_id)

    def of_experiment(self, experiment_id: str) -> list[Wanted]:
        return list(self._of_experiments.get(experiment_id, {}).values())

    def on_node(self, node_name: str) -> list[Wanted]:
        return list(self._on_nodes.get(node_name, {}).values())

    def start(self, node_name: str, order: AttemptOrder) -> Wanted:
        """It should run there."""
        wanted = self._known(order.attempt_id, order.experiment_id, node_name)
        wanted.order = order
        wanted.doubtful = False
        return wanted

    def found(self, attempt_id: str, experiment_id: str, node_name: str) -> Wanted:
        """It has a pod; whether it should run may not be known yet."""
        return self._known(attempt_id, experiment_id, node_name)

    def stop(self, effect: StopAttempt) -> Wanted | None:
        """It should end. None if nothing is known of it, not even a pod."""
        wanted = self._attempts.get(effect.attempt_id)
        if wanted is None:
            return None
        grace = effect.grace_period_seconds
        if wanted.stop is None:
            wanted.stop = Stop(effect.reason, grace)
        elif grace is not None:
            known = wanted.stop.grace_seconds
            wanted.stop.grace_seconds = grace if known is None else min(known, grace)
        return wanted

    def forget(self, attempt_id: str) -> Wanted | None:
        """Its end is recorded."""
        wanted = self._attempts.get(attempt_id)
        if wanted is not None:
            wanted.forgotten = True
        return wanted

    def drop(self, attempt_id: str) -> None:
        """There is neither pod nor order any more."""
        wanted = self._attempts.pop(attempt_id, None)
        if wanted is not None:
            _take_out(self._of_experiments, wanted.experiment_id, attempt_id)
            _take_out(self._on_nodes, wanted.node_name, attempt_id)

    def doubt(self, node_name: str) -> None:
        """A session of the node is about to be opened: its reply says what should run there."""
        for wanted in self.on_node(node_name):
            wanted.doubtful = True

    def opened(self, node_name: str, reply: SessionOpened) -> list[Wanted]:
        """Takes a session's reply; returns what has to be looked at: all of the node.

        What was ordered since the reply was made may have been looked at already, in vain: there
        was no session yet.
        """
        for order in reply.desired:
            self.start(node_name, order)
        for effect in reply.stopping:
            self.stop(effect)
        for attempt_id in reply.forget:
            self.forget(attempt_id)
        touched = self.on_node(node_name)
        for wanted in touched:
            if wanted.doubtful and not wanted.forgotten:
                # Nobody wants it: it was given up, or is another control plane's leftover.
                wanted.order = None
                wanted.stop = wanted.stop or Stop(STOP_UNKNOWN, None)
            wanted.doubtful = False
        return touched

    def _known(self, attempt_id: str, experiment_id: str, node_name: str) -> Wanted:
        wanted = self._attempts.get(attempt_id)
        if wanted is None:
            wanted = Wanted(attempt_id, experiment_id, node_name)
            self._attempts[attempt_id] = wanted
            self._of_experiments.setdefault(experiment_id, {})[attempt_id] = wanted
            self._on_nodes.setdefault(node_name, {})[attempt_id] = wanted
        return wanted


def _take_out(index: dict[str, dict[str, Wanted]], key: str, attempt_id: str) -> None:
    del index[key][attempt_id]
    if not index[key]:
        del index[key]
