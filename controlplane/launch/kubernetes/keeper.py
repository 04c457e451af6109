"""Keeps the pods of attempts: tells what they say, deletes those that have to go, makes those that
are missing. Every method may be called at any time and as often as one likes.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from controlplane.domain import reasons
from controlplane.domain.model import AttemptReport
from controlplane.launch.kubernetes.api import Api, Kind, NotFound, Object
from controlplane.launch.kubernetes.containers import NoImage
from controlplane.launch.kubernetes.creation import NotEver, NotNow, PodCreator
from controlplane.launch.kubernetes.gangs import complete_gangs
from controlplane.launch.kubernetes.log_pipe import LogNames
from controlplane.launch.kubernetes.log_shipping import LogLengths, LogShipping
from controlplane.launch.kubernetes.log_sources import ContainerLog
from controlplane.launch.kubernetes.markers import install_marker, result_marker
from controlplane.launch.kubernetes.names import JOB_CONTAINER, SCHEDULER_NAME, pod_name
from controlplane.launch.kubernetes.node_sessions import NodeSessions
from controlplane.launch.kubernetes.pod_state import (
    PodReading,
    gone_report,
    obstacle_of,
    obstacle_report,
    read_pod,
    reports,
    still_running,
)
from controlplane.launch.kubernetes.ports import Facts
from controlplane.launch.kubernetes.removal import PodRemover
from controlplane.launch.kubernetes.reporting import (
    Reporter,
    never_started,
    waiting,
    with_lengths,
)
from controlplane.launch.kubernetes.wanted import Wanted

_log = logging.getLogger(__name__)

STUCK_SECONDS: Final = 60.0
"""For so long a pod may wait in a way that does not look as if it would mend by itself."""
LOG_SECONDS: Final = 20.0
"""For so long an end is kept back until its log is complete: who follows a log hears its end with
the last line. A node that does not give the log away holds nothing up for longer. It is more than
what a daemon that may be back has (`observers.ARRIVE_SECONDS`)."""
UNSEEN_SECONDS: Final = 30.0
"""After so long a pod that we made has to be in the watch, or it is asked for by its name."""


@dataclass(slots=True)
class _Kept:
    """What is known of one attempt's pod beside the copy that the watch keeps."""

    pod: Object
    """As it was seen last."""
    node_name: str
    """That it is on, or was made for."""
    gone: bool = False
    bound: bool = False
    """We have bound it, or taken its gate away; the watch may not show it yet."""
    made_at: float = 0.0
    """Monotonic time at which we created it; 0: the watch has shown it."""
    ended_at: float | None = None
    """Monotonic time at which we saw its end."""
    stuck_since: float | None = None
    verdict: tuple[AttemptReport, ...] = field(default=())
    """Decided before it was deleted: what is told once it is gone."""


class PodKeeper:
    """Pods by attempt."""

    def __init__(
        self,
        api: Api,
        namespace: str,
        creator: PodCreator,
        remover: PodRemover,
        reporter: Reporter,
        shipping: LogShipping,
        sessions: NodeSessions,
        facts: Facts,
        *,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        again: Callable[[str, float], None],
        close_node: Callable[[str, str], Awaitable[None]],
    ) -> None:
        """`again(experiment, seconds)`: look at it again then. `close_node(node, why)` keeps new
        work away from a node whose kubelet refused a pod."""
        self._api = api
        self._namespace = namespace
        self._creator = creator
        self._remover = remover
        self._reporter = reporter
        self._shipping = shipping
        self._sessions = sessions
        self._facts = facts
        self._clock = clock
        self._monotonic = monotonic
        self._again = again
        self._close_node = close_node
        self._kept: dict[str, _Kept] = {}
        # Attempts whose creation was asked for, and of which nobody knows what became.
        self._doubtful: set[str] = set()
        # Pods that were deleted before they had a node: their end means nothing.
        self._discarded: set[str] = set()

    # ----------------------------------------------------------------------- from the watch
    def seen(self, pod: Object, *, gone: bool) -> PodReading | None:
        """Takes what the watch says of a pod. None: it is not an attempt's."""
        reading = read_pod(pod)
        if not reading.attempt_id:
            return None
        if reading.uid in self._discarded:
            if gone:
                self._discarded.discard(reading.uid)
            return None
        kept = self._kept.get(reading.attempt_id)
        if kept is None or kept.pod["metadata"]["uid"] != reading.uid:
            if kept is not None and gone:
                # An older one of that name; ours is another.
                return None
            kept = self._kept[reading.attempt_id] = _Kept(pod, reading.planned_node)
        kept.pod, kept.gone, kept.made_at = pod, gone, 0.0
        kept.node_name = reading.node_name or reading.planned_node
        if reading.job_started and not self._shipping.following(reading.uid):
            self._shipping.follow(
                ContainerLog(
                    kept.node_name, self._namespace, reading.name, reading.uid, JOB_CONTAINER
                ),
                _log_names(reading),
            )
        if gone or reading.job_ended:
            self._shipping.container_ended(reading.uid, pod_gone=gone)
        return reading

    # ------------------------------------------------------------------------ one attempt
    async def look_at(self, wanted: Wanted) -> None:
        """Tells what its pod says, and deletes it if it has to go."""
        kept = self._kept.get(wanted.attempt_id)
        if kept is None:
            await self._without_pod(wanted)
            return
        if kept.made_at and self._monotonic() - kept.made_at >= UNSEEN_SECONDS:
            await self._ask_for(kept)
        # After a restart the first to know of a stop is who asked for it.
        stopping = wanted.stop is not None or self._facts.stop_asked(wanted.attempt_id)
        said = await self._what_it_says(wanted.attempt_id, kept, stopping)
        refusal = next((r for r in said if r.reason == reasons.PLACEMENT_REFUSED), None)
        if refusal is not None and not self._reporter.ended(wanted.attempt_id):
            # First, or the scheduler would give the node the next pod at once.
            await self._close_node(wanted.node_name, refusal.message)
        self._reporter.tell(wanted.attempt_id, wanted.node_name, said)
        if not kept.gone:
            await self._remove_if_due(wanted, kept)

    async def reports_of(self, node_name: str) -> tuple[AttemptReport, ...]:
        """All that is known of attempts on a node, for its new session."""
        found: list[AttemptReport] = []
        for attempt_id, kept in list(self._kept.items()):
            if kept.node_name == node_name:
                stopping = self._facts.stop_asked(attempt_id)
                found += await self._what_it_says(attempt_id, kept, stopping)
        return tuple(found)

    def is_done_with(self, wanted: Wanted) -> bool:
        """Nobody needs to know of it any more."""
        kept = self._kept.get(wanted.attempt_id)
        if not wanted.forgotten or (kept is not None and not kept.gone):
            return False
        return kept is None or self._log_is_complete(kept.pod["metadata"]["uid"])

    def drop(self, wanted: Wanted) -> None:
        """Forgets it."""
        self._doubtful.discard(wanted.attempt_id)
        kept = self._kept.pop(wanted.attempt_id, None)
        if kept is not None:
            self._shipping.forget(kept.pod["metadata"]["uid"])
        self._reporter.forget(wanted.attempt_id)

    async def remove_owner(self, experiment_id: str) -> None:
        """Of an experiment that is over: what is left of it goes."""
        await self._creator.remove_owner(experiment_id)

    async def _without_pod(self, wanted: Wanted) -> None:
        if wanted.stop is None or self._reporter.ended(wanted.attempt_id):
            return
        if wanted.attempt_id in self._doubtful:
            # A creation of which nobody knows what became.
            try:
                name = pod_name(wanted.attempt_id)
                self.seen(await self._api.get(Kind.POD, self._namespace, name), gone=False)
                self._again(wanted.experiment_id, 0.0)
                return
            except NotFound:
                self._doubtful.discard(wanted.attempt_id)
        said = never_started(wanted.attempt_id, wanted.stop.reason, "stopped before it had a pod")
        self._reporter.tell(wanted.attempt_id, wanted.node_name, said)

    async def _ask_for(self, kept: _Kept) -> None:
        """The watch has not shown a pod that we made: perhaps it was gone before it could."""
        about = kept.pod["metadata"]
        try:
            found = await self._api.get(Kind.POD, self._namespace, about["name"])
        except NotFound:
            found = None
        gone = found is None or found["metadata"]["uid"] != about["uid"]
        self.seen(kept.pod if gone or found is None else found, gone=gone)

    async def _what_it_says(
        self, attempt_id: str, kept: _Kept, stopping: bool
    ) -> tuple[AttemptReport, ...]:
        reading = read_pod(kept.pod)
        if self._waits_for_its_log(attempt_id, kept, reading):
            installed_at = await self._shipping.installed_at(reading.uid)
            return still_running(reading, installed_at=installed_at)
        if kept.verdict and (kept.gone or reading.ended):
            # Whichever is seen first, the phase that its deletion leads to or that it is gone.
            said = kept.verdict
        elif kept.gone and not reading.ended:
            said = gone_report(reading, stopping=stopping)
        else:
            installed_at = await self._shipping.installed_at(reading.uid)
            said = reports(reading, installed_at=installed_at, stopping=stopping)
        return with_lengths(said, attempt_id, self._lengths(reading, kept.gone))

    def _waits_for_its_log(self, attempt_id: str, kept: _Kept, reading: PodReading) -> bool:
        if not reading.job_started or not (kept.gone or reading.ended):
            return False
        if self._log_is_complete(reading.uid) or self._reporter.ended(attempt_id):
            return False
        now = self._monotonic()
        if kept.ended_at is None:
            kept.ended_at = now
        left = kept.ended_at + LOG_SECONDS - now
        if left > 0:
            self._again(reading.experiment_id, left)
        return left > 0

    def _lengths(self, reading: PodReading, gone: bool) -> LogLengths | None:
        if self._shipping.following(reading.uid):
            return self._shipping.lengths(reading.uid)
        # Its container never wrote anything.
        return LogLengths(0, 0, 0) if gone or reading.ended else None

    def _log_is_complete(self, uid: str) -> bool:
        return not self._shipping.following(uid) or self._shipping.lengths(uid) is not None

    async def _remove_if_due(self, wanted: Wanted, kept: _Kept) -> None:
        reading = read_pod(kept.pod)
        if reading.ended:
            # The log goes with the pod.
            if wanted.forgotten and self._log_is_complete(reading.uid):
                await self._remover.discard(kept.pod)
            return
        if wanted.stop is None and not wanted.forgotten and not kept.verdict:
            if not self._is_hopeless(wanted, kept, reading):
                return
        grace = None if wanted.stop is None else wanted.stop.grace_seconds
        ready = self._sessions.connected(reading.node_name)
        after = await self._remover.remove(kept.pod, grace, ready, self._clock())
        self._again(wanted.experiment_id, after)

    def _is_hopeless(self, wanted: Wanted, kept: _Kept, reading: PodReading) -> bool:
        """Whether it has waited long enough for what will hardly come; its end is decided then."""
        obstacle = obstacle_of(reading)
        if obstacle is None:
            kept.stuck_since = None
            return False
        now = self._monotonic()
        if kept.stuck_since is None:
            kept.stuck_since = now
        left = kept.stuck_since + STUCK_SECONDS - now
        if left > 0:
            self._again(wanted.experiment_id, left)
            return False
        kept.verdict = obstacle_report(reading, obstacle)
        return True

    # ----------------------------------------------------------------------------- a gang
    async def start(self, wanteds: Sequence[Wanted]) -> None:
        """Makes the pods of gangs all of whose members should run, and gives them their nodes."""
        for gang in complete_gangs(wanteds):
            if self._may_start(gang):
                await self._start_gang(gang)

    def _may_start(self, gang: Sequence[Wanted]) -> bool:
        settled = True
        for wanted in gang:
            kept = self._kept.get(wanted.attempt_id)
            if wanted.stop is not None or wanted.forgotten:
                return False
            if self._reporter.ended(wanted.attempt_id) or (kept is not None and kept.gone):
                return False
            if not self._sessions.connected(wanted.node_name):
                return False
            settled = settled and kept is not None and _is_placed(kept)
        return not settled

    async def _start_gang(self, gang: Sequence[Wanted]) -> None:
        missing = [w for w in gang if w.attempt_id not in self._kept]
        existing = [self._kept[w.attempt_id].pod for w in gang if w.attempt_id in self._kept]
        placed = [(w.order, w.node_name) for w in missing if w.order is not None]
        self._doubtful.update(w.attempt_id for w in missing)
        try:
            made = await self._creator.create(placed, existing, self._discard)
        except (NoImage, NotEver) as refused:
            reason = reasons.NO_IMAGE if isinstance(refused, NoImage) else reasons.POD_REFUSED
            for wanted in gang:
                # A member that has a pod says its end itself.
                if wanted.attempt_id not in self._kept:
                    said = never_started(wanted.attempt_id, reason, str(refused))
                    self._reporter.tell(wanted.attempt_id, wanted.node_name, said)
            return
        except NotNow as refused:
            for wanted in gang:
                said = waiting(wanted.attempt_id, str(refused))
                self._reporter.tell(wanted.attempt_id, wanted.node_name, said)
            raise
        for wanted, pod in zip(missing, made, strict=True):
            self._doubtful.discard(wanted.attempt_id)
            # The watch may have been faster.
            if wanted.attempt_id not in self._kept:
                self._kept[wanted.attempt_id] = _Kept(
                    pod, wanted.node_name, made_at=self._monotonic()
                )
                self._again(wanted.experiment_id, UNSEEN_SECONDS)
        for wanted in gang:
            kept = self._kept[wanted.attempt_id]
            if not _is_placed(kept):
                await self._creator.bind(kept.pod, wanted.node_name)
                kept.bound = True

    def _discard(self, pod: Object) -> None:
        """It is being deleted before it had a node."""
        uid = pod["metadata"]["uid"]
        self._discarded.add(uid)
        for attempt_id, kept in list(self._kept.items()):
            if kept.pod["metadata"]["uid"] == uid:
                del self._kept[attempt_id]


def _is_placed(kept: _Kept) -> bool:
    """Whether nothing of ours keeps it from its node any more."""
    spec = kept.pod.get("spec", {})
    if kept.bound or spec.get("nodeName"):
        return True
    return spec.get("schedulerName") != SCHEDULER_NAME and not spec.get("schedulingGates")


def _log_names(reading: PodReading) -> LogNames:
    return LogNames(
        reading.attempt_id,
        reading.build_attempt_id,
        install_marker(reading.attempt_id),
        result_marker(reading.attempt_id),
    )
