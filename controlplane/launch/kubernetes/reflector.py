"""Keeps a copy of the objects of one kind: list, watch from the list's version, go on after breaks.

The protocol is that of https://kubernetes.io/docs/reference/using-api/api-concepts/ ("Efficient
detection of changes"), and what client-go's reflector does of it:

- a list is read in pages; when the pages expire, in one piece;
- a watch goes on from the newest version seen, which bookmarks keep young; its end is no fault;
- 410 (as an answer, or as an ERROR within the watch) means that this version is forgotten: list
  again. What vanished between two lists is told as deleted, so nothing is ever left behind;
- after other faults the watch is taken up where it was, after pauses that grow up to half a minute.

Versions are opaque: they are compared for equality only. Lists ask for the newest state (no
version): a server's cache could be older than what was seen, and pods that exist would be missed.
"""

from __future__ import annotations

import asyncio
import logging
import random
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from controlplane.launch.kubernetes.api import (
    Api,
    ApiError,
    Gone,
    Kind,
    Object,
    Unavailable,
    WatchEvent,
    error_of_status,
)
from riseml.retry import Backoff

_log = logging.getLogger(__name__)

PAGE_LIMIT: Final = 500
WATCH_SECONDS: Final = 300
"""A watch is to end after one to two times so long: servers spread their load by that."""
BRIEF_SECONDS: Final = 1.0
"""A watch that ends sooner and without an event was not worth the name."""
FAULTS_UNTIL_LIST: Final = 3
"""So many faults in a row, without an event between, and the watch begins with a list again."""
PAUSES: Final = Backoff(first_seconds=0.5, most_seconds=30.0, tries=sys.maxsize)
REMEMBERED_VERSIONS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Added:
    """An object that was not there."""

    object: Object


@dataclass(frozen=True, slots=True)
class Changed:
    """An object in another version than before."""

    object: Object
    before: Object


@dataclass(frozen=True, slots=True)
class Deleted:
    """An object that is gone, or has left the selector; as it was last known."""

    object: Object


@dataclass(frozen=True, slots=True)
class Synced:
    """The copy is what the cluster held at one moment; comes after each list."""


Change: TypeAlias = Added | Changed | Deleted | Synced


class ObjectCache(Mapping[str, Object]):
    """Objects by uid. A name may pass to another object, a uid does not."""

    def __init__(self) -> None:
        self._objects: dict[str, Object] = {}
        self._uids: dict[tuple[str, str], str] = {}

    def __getitem__(self, uid: str) -> Object:
        return self._objects[uid]

    def __iter__(self) -> Iterator[str]:
        return iter(self._objects)

    def __len__(self) -> int:
        return len(self._objects)

    def named(self, name: str, namespace: str = "") -> Object | None:
        """The object that has this name now."""
        uid = self._uids.get((namespace, name))
        return None if uid is None else self._objects[uid]

    def put(self, item: Object) -> Object | None:
        """Keeps an object; returns what it replaces."""
        uid = _uid(item)
        before = self._objects.get(uid)
        self._objects[uid] = item
        self._uids[_name(item)] = uid
        return before

    def drop(self, uid: str) -> Object | None:
        """Forgets an object and returns it, if it was there."""
        dropped = self._objects.pop(uid, None)
        if dropped is not None and self._uids.get(_name(dropped)) == uid:
            del self._uids[_name(dropped)]
        return dropped


class Reflector:
    """`await run()` in a task of its own; it ends by cancellation only.

    `on_change` is called in the order of events, from the event loop; it must not block, and what
    it raises ends `run`. The cache holds the change already when it is called.
    """

    def __init__(
        self,
        api: Api,
        kind: Kind,
        namespace: str,
        label_selector: str,
        field_selector: str,
        on_change: Callable[[Change], None],
        *,
        resync_seconds: float | None = None,
        page_limit: int = PAGE_LIMIT,
        pauses: Backoff = PAUSES,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        rng: random.Random | None = None,
    ) -> None:
        """`resync_seconds`: how old a list may become before it is read again, against what a
        watch cannot tell, such as a cluster whose storage was restored from a backup."""
        self._api = api
        self._kind = kind
        self.namespace = namespace
        self._label_selector = label_selector
        self._field_selector = field_selector
        self._on_change = on_change
        self._resync_seconds = resync_seconds
        self._page_limit = page_limit
        self._backoff = pauses
        self._clock = clock
        self._sleep = sleep
        self._rng = rng or random.Random()
        self._pauses = self._backoff.pauses(self._rng)
        # In a row, without an event or the good end of a watch between.
        self._faults = self._expired = 0
        self._version: str | None = None
        self._listed_at = 0.0
        self._versions: dict[tuple[str, str], None] = {}
        self._synced = asyncio.Event()
        self.objects = ObjectCache()
        self.disconnected_since: float | None = clock()
        """By the clock given; None while a watch is open, and between one and the next."""
        self.last_error: ApiError | None = None
        """Why it is disconnected."""

    @property
    def connected(self) -> bool:
        return self.disconnected_since is None

    @property
    def synced(self) -> bool:
        """Whether there was a first list."""
        return self._synced.is_set()

    async def until_synced(self) -> None:
        await self._synced.wait()

    async def run(self) -> None:
        while True:
            try:
                if self._version is None or self._resync_due():
                    await self._list()
                await self._watch(self._version or "")
            except Gone as error:
                self._version = None
                self._expired += 1
                # Once is usual. Again, without an event between, would become a storm of lists.
                if self._expired > 1:
                    await self._pause(error)
            except ApiError as error:
                self._faults += 1
                # The version itself may be the fault, such as one that a restored storage lacks.
                if self._faults >= FAULTS_UNTIL_LIST:
                    self._version = None
                await self._pause(error)

    # ------------------------------------------------------------------------------- list
    async def _list(self) -> None:
        try:
            items, version = await self._pages(self._page_limit)
        except Gone:
            # Too many pages for the time that the server keeps them; one piece cannot expire.
            items, version = await self._pages(0)
        self._listed_at = self._clock()
        self._version = version
        self._take_over(items)
        self._synced.set()
        self._on_change(Synced())

    async def _pages(self, limit: int) -> tuple[list[Object], str]:
        items: list[Object] = []
        token = ""
        while True:
            page = await self._api.list_page(
                self._kind,
                namespace=self.namespace,
                label_selector=self._label_selector,
                field_selector=self._field_selector,
                limit=limit,
                continue_token=token,
            )
            items += page.items
            token = page.continue_token
            if not token:
                return items, page.resource_version

    def _take_over(self, items: list[Object]) -> None:
        """Makes the cache what a list says. First what is gone: its name may have passed on."""
        listed = {_uid(item) for item in items}
        for uid in [uid for uid in self.objects if uid not in listed]:
            self._deleted(uid, None)
        self._versions = {_version_key(item): None for item in items}
        for item in items:
            self._put(item)

    def _resync_due(self) -> bool:
        if self._resync_seconds is None:
            return False
        return self._clock() - self._listed_at >= self._resync_seconds

    # ------------------------------------------------------------------------------ watch
    async def _watch(self, version: str) -> None:
        """One watch, to its end."""
        began, events_seen = self._clock(), 0
        async with self._api.watch(
            self._kind,
            namespace=self.namespace,
            label_selector=self._label_selector,
            field_selector=self._field_selector,
            resource_version=version,
            timeout_seconds=self._watch_seconds(),
        ) as events:
            self._answered()
            async for event in events:
                self._take(event)
                events_seen += 1
                self._worked()
        if not events_seen and self._clock() - began < BRIEF_SECONDS:
            raise Unavailable(0, "BriefWatch", "the server ended a watch as soon as it began")
        self._worked()

    def _watch_seconds(self) -> int:
        seconds = WATCH_SECONDS * (1 + self._rng.random())
        if self._resync_seconds is not None:
            until_resync = self._listed_at + self._resync_seconds - self._clock()
            seconds = min(seconds, max(1.0, until_resync))
        return int(seconds)

    def _take(self, event: WatchEvent) -> None:
        if event.type == "ERROR":
            raise error_of_status(event.object)
        self._version = event.object["metadata"]["resourceVersion"]
        if event.type == "BOOKMARK" or not self._is_news(event.object):
            return
        if event.type == "DELETED":
            self._deleted(_uid(event.object), event.object)
        else:
            self._put(event.object)

    def _is_news(self, item: Object) -> bool:
        """Whether this version of the object was not seen since the last list: a repetition, or
        something older than what is cached, changes nothing."""
        key = _version_key(item)
        if key in self._versions:
            return False
        self._versions[key] = None
        while len(self._versions) > REMEMBERED_VERSIONS + 2 * len(self.objects):
            del self._versions[next(iter(self._versions))]
        return True

    # ------------------------------------------------------------------------------ cache
    def _put(self, item: Object) -> None:
        before = self.objects.put(item)
        if before is None:
            self._on_change(Added(item))
        elif _version_key(before) != _version_key(item):
            self._on_change(Changed(item, before))

    def _deleted(self, uid: str, last: Object | None) -> None:
        dropped = self.objects.drop(uid)
        if dropped is not None:
            self._on_change(Deleted(last or dropped))

    # ----------------------------------------------------------------------------- health
    def _answered(self) -> None:
        if self.last_error is not None:
            _log.info("%s: the Kubernetes API answers again", self._kind.value)
        self.disconnected_since = None
        self.last_error = None

    def _worked(self) -> None:
        self._faults = self._expired = 0
        self._pauses = self._backoff.pauses(self._rng)

    async def _pause(self, error: ApiError) -> None:
        if self.disconnected_since is None:
            self.disconnected_since = self._clock()
        if self.last_error is None:
            _log.warning("%s are not being watched: %s", self._kind.value, error)
        self.last_error = error
        asked = error.retry_after if isinstance(error, Unavailable) else 0.0
        await self._sleep(max(next(self._pauses), min(asked, self._backoff.most_seconds)))


def _uid(item: Object) -> str:
    return str(item["metadata"]["uid"])


def _name(item: Object) -> tuple[str, str]:
    return item["metadata"].get("namespace", ""), item["metadata"]["name"]


def _version_key(item: Object) -> tuple[str, str]:
    return item["metadata"]["uid"], item["metadata"]["resourceVersion"]
