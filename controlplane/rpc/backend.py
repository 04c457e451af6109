"""What the servicers share: the runtime, the store's reading side, and small rules for ids and
pages.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, ParamSpec, TypeVar

from controlplane.core.cluster import Cluster
from controlplane.domain.errors import InvalidRequest, NotFound
from controlplane.domain.model import Attempt, Experiment, Job
from controlplane.rpc.caller import Caller
from controlplane.runtime import Runtime
from controlplane.store.protocol import Store
from riseml.spec import ids
from riseml.spec.errors import InvalidId

DEFAULT_PAGE: Final = 100
LARGEST_PAGE: Final = 1000
MAX_REQUEST_ID: Final = 64
# Of so many experiments that ended, watchers find the jobs without asking the store.
JUST_ENDED: Final = 512

Args = ParamSpec("Args")
Answer = TypeVar("Answer")


class Backend:
    """Reads go to memory for what is live and to the store, in a thread, for what has ended."""

    def __init__(self, runtime: Runtime, store: Store) -> None:
        self.runtime = runtime
        self._store = store
        self._readers = ThreadPoolExecutor(1, thread_name_prefix="reader")
        self._just_ended: OrderedDict[str, tuple[list[Job], list[Attempt]]] = OrderedDict()
        runtime.feed.observers.append(self._note_ended)

    @property
    def store(self) -> Store:
        """For use inside `read` only."""
        return self._store

    async def read(
        self, function: Callable[Args, Answer], *args: Args.args, **kwargs: Args.kwargs
    ) -> Answer:
        """Runs a reading function of the store in the reader's thread."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._readers, lambda: function(*args, **kwargs))

    async def experiment(self, experiment_id: str) -> Experiment:
        """From memory or the store. NotFound if there is none."""
        live = (await self.runtime.committed()).experiments.get(experiment_id)
        if live is not None:
            return live
        stored = await self.read(self._store.experiment, experiment_id)
        if stored is None:
            raise NotFound(
                f"There is no experiment {experiment_id}: `riseml status -a` lists yours.",
                reason="EXPERIMENT_NOT_FOUND",
                metadata={"id": experiment_id},
            )
        return stored

    async def own_experiment(self, caller: Caller, experiment_id: str) -> Experiment:
        """The same, NotFound also for what the caller may not see."""
        if not caller.may_see(experiment_id.partition(".")[0]):
            raise NotFound(
                f"There is no experiment {experiment_id} of yours.",
                reason="EXPERIMENT_NOT_FOUND",
                metadata={"id": experiment_id},
            )
        return await self.experiment(experiment_id)

    async def jobs_of(
        self, experiment_ids: Sequence[str]
    ) -> tuple[dict[str, list[Job]], dict[str, list[Attempt]]]:
        """Jobs by experiment and attempts by job, all that were ever made.

        From memory where it holds them all, which is where it matters: a watch asks at each change.
        """
        cluster = await self.runtime.committed()
        found_jobs: list[Job] = []
        found_attempts: list[Attempt] = []
        stored: list[str] = []
        for experiment_id in experiment_ids:
            known = _in_memory(cluster, experiment_id) or self._just_ended.get(experiment_id)
            if known is None:
                stored.append(experiment_id)
            else:
                found_jobs += known[0]
                found_attempts += known[1]
        if stored:
            found_jobs += await self.read(self._store.jobs, stored)
            found_attempts += await self.read(self._store.attempts, stored)
        jobs: dict[str, list[Job]] = {}
        attempts: dict[str, list[Attempt]] = {}
        for job in found_jobs:
            jobs.setdefault(job.experiment_id, []).append(job)
        for attempt in found_attempts:
            attempts.setdefault(attempt.job_id, []).append(attempt)
        return jobs, attempts

    def _note_ended(self, changed: Collection[Experiment]) -> None:
        """Keeps what is about to leave memory for those who are just being told of it."""
        for experiment in changed:
            if not experiment.state.ended:
                continue
            known = _in_memory(self.runtime.cluster, experiment.id)
            if known is not None:
                self._just_ended[experiment.id] = known
                self._just_ended.move_to_end(experiment.id)
        while len(self._just_ended) > JUST_ENDED:
            self._just_ended.popitem(last=False)

    def close(self) -> None:
        self._readers.shutdown()


def _in_memory(cluster: Cluster, experiment_id: str) -> tuple[list[Job], list[Attempt]] | None:
    """Jobs and attempts, where memory has all: of earlier generations it has none."""
    experiment = cluster.experiments.get(experiment_id)
    if experiment is None or experiment.generation > 1:
        return None
    return cluster.jobs_of(experiment_id), cluster.attempts_of(experiment_id)


def read_id(text: str, caller: Caller) -> ids.AnyId:
    """Any id of the contract; a missing user is the caller. InvalidRequest if it is none."""
    try:
        return ids.parse_id(text, caller.name)
    except InvalidId as wrong:
        raise InvalidRequest(str(wrong), reason="INVALID_ID", metadata={"id": text}) from None


def read_experiment_id(text: str, caller: Caller) -> str:
    """The canonical id of an experiment or set."""
    parsed = read_id(text, caller)
    if not isinstance(parsed, ids.ExperimentId):
        raise InvalidRequest(
            f"{text} names jobs; an experiment's id is wanted, such as 17.",
            reason="INVALID_ID",
            metadata={"id": text},
        )
    return str(parsed)


def page_size(asked: int) -> int:
    """Within limits; 0 means the default. InvalidRequest if negative."""
    if asked < 0:
        raise InvalidRequest("page_size must be >= 0", reason="INVALID_PAGE_SIZE")
    return min(asked or DEFAULT_PAGE, LARGEST_PAGE)


def paged(keys: Sequence[str], token: str, size: int) -> tuple[list[str], str]:
    """One page of sorted keys after `token`, and the token of the next page."""
    rest = [key for key in keys if key > token]
    page = rest[:size]
    return page, page[-1] if len(rest) > size else ""


def check_request_id(request_id: str) -> None:
    """Creating calls need one, so that a retry makes nothing twice."""
    if not request_id or len(request_id) > MAX_REQUEST_ID:
        raise InvalidRequest(
            f"request_id must have 1 to {MAX_REQUEST_ID} characters: make a random one per "
            "creation and send the same one again when you retry.",
            reason="REQUEST_ID_REQUIRED",
        )
