"""Watchers resume from a change number, learn the newest state, and cost bounded memory."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest

from controlplane import feed as feed_module
from controlplane.domain.errors import ChangesCompacted
from controlplane.domain.model import Experiment
from controlplane.domain.states import State
from controlplane.feed import ChangeFeed
from riseml.spec.model import TrainSpec

SPEC = TrainSpec(project="digits", run=("true",))


def experiment(id: str, set_id: str | None = None) -> Experiment:
    user = id.partition(".")[0]
    return Experiment(
        id, user, int(id.split(".")[1]), 0, set_id, "digits", "", SPEC, (), State.PENDING, 0.0
    )


async def test_a_slow_watcher_gets_the_newest_state_of_each_experiment() -> None:
    feed = ChangeFeed(0)
    first = experiment("ana.1")
    with feed.subscribe("ana", None) as subscription:
        feed.publish(1, [first, experiment("ana.2")])
        feed.publish(2, [dataclasses.replace(first, state=State.RUNNING)])
        taken = await subscription.take()
    assert [(number, e.id, e.state) for number, e in taken] == [
        (1, "ana.2", State.PENDING),
        (2, "ana.1", State.RUNNING),
    ]


async def test_watchers_hear_only_of_what_they_watch() -> None:
    feed = ChangeFeed(0)
    with feed.subscribe("ana", None) as own, feed.subscribe(None, "ana.7") as tree:
        feed.publish(1, [experiment("paul.1"), experiment("ana.7.1", "ana.7")])
        assert [e.id for _, e in await own.take()] == ["ana.7.1"]
        assert [e.id for _, e in await tree.take()] == ["ana.7.1"]
        feed.publish(2, [experiment("ana.8")])
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(tree.take(), 0.01)


def test_a_watch_resumes_where_it_stopped() -> None:
    feed = ChangeFeed(5)
    feed.publish(6, [experiment("ana.1")])
    feed.publish(7, [experiment("ana.2"), experiment("paul.1")])
    feed.publish(8, [experiment("ana.1")])
    assert feed.changed_since(5, "ana", None) == {"ana.2": 7, "ana.1": 8}
    assert feed.changed_since(7, None, None) == {"ana.1": 8}
    assert feed.changed_since(8, "ana", None) == {}


def test_changes_before_a_restart_or_never_made_are_said_to_be_gone() -> None:
    feed = ChangeFeed(5)
    with pytest.raises(ChangesCompacted):
        feed.changed_since(4, "ana", None)
    with pytest.raises(ChangesCompacted):
        feed.changed_since(9, "ana", None)


def test_old_changes_are_compacted_and_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "KEPT_CHANGES", 3)
    feed = ChangeFeed(0)
    for number in range(1, 6):
        feed.publish(number, [experiment(f"ana.{number}")])
    assert feed.changed_since(2, "ana", None) == {"ana.3": 3, "ana.4": 4, "ana.5": 5}
    with pytest.raises(ChangesCompacted) as gone:
        feed.changed_since(1, "ana", None)
    assert gone.value.metadata["oldest"] == "2"
