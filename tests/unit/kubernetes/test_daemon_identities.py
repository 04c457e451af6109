"""A daemon on a node is who Kubernetes says it is, and nobody else."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.core.cluster import Cluster
from controlplane.domain.errors import Unauthenticated, Unavailable
from controlplane.job_tokens import JobTokens
from controlplane.launch.kubernetes.api import Unavailable as ApiUnavailable
from controlplane.launch.kubernetes.daemon_identities import (
    NODE_NAME,
    REMEMBERED_SECONDS,
    DaemonIdentities,
)
from controlplane.rpc.access import Access
from controlplane.rpc.caller import Caller, identify, identify_observer
from tests.unit.kubernetes.launching import Clock

TOKEN = "eyJhbGciOi.eyJhdWQi.c2ln"
AUDIENCE = "riseml.riseml.svc"
ACCOUNT = "system:serviceaccount:riseml-noded:riseml-noded"


def status(**more: Any) -> dict[str, Any]:
    good = {
        "authenticated": True,
        "audiences": [AUDIENCE],
        "user": {"username": ACCOUNT, "extra": {NODE_NAME: ["n1"]}},
    }
    return {**good, **more}


class FakeReviews:
    """The one call of an API server that matters here."""

    def __init__(self) -> None:
        self.answer: dict[str, Any] | Exception = status()
        self.asked: list[tuple[str, str]] = []

    async def review_token(self, token: str, audience: str) -> dict[str, Any]:
        self.asked.append((token, audience))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def reviews() -> FakeReviews:
    return FakeReviews()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def identities(reviews: FakeReviews, clock: Clock) -> DaemonIdentities:
    made = DaemonIdentities("riseml-noded:riseml-noded", AUDIENCE, clock)
    made.api = reviews  # type: ignore[assignment]
    return made


async def test_kubernetes_says_which_node_it_is_and_is_not_asked_each_time(
    identities: DaemonIdentities, reviews: FakeReviews, clock: Clock
) -> None:
    assert await identities.node_of(TOKEN) == "n1"
    assert await identities.node_of(TOKEN) == "n1"
    assert reviews.asked == [(TOKEN, AUDIENCE)]
    reviews.answer = status(authenticated=False, error="the pod is gone")
    clock.now += REMEMBERED_SECONDS + 1
    with pytest.raises(Unauthenticated, match="the pod is gone"):
        await identities.node_of(TOKEN)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (status(authenticated=False), "expired"),
        ({}, "expired"),
        (status(audiences=["https://kubernetes.default"]), "another audience"),
        (status(user={"username": "system:serviceaccount:jobs:default"}), "jobs:default"),
        (status(user={"username": ACCOUNT}), "names no node"),
        (status(user={"username": ACCOUNT, "extra": {NODE_NAME: [""]}}), "names no node"),
    ],
)
async def test_others_are_refused(
    identities: DaemonIdentities, reviews: FakeReviews, answer: dict[str, Any], why: str
) -> None:
    reviews.answer = answer
    for _ in range(2):
        with pytest.raises(Unauthenticated, match=why):
            await identities.node_of(TOKEN)
    # What was refused is asked for again.
    assert len(reviews.asked) == 2


async def test_an_api_server_that_is_away_is_no_refusal(
    identities: DaemonIdentities, reviews: FakeReviews
) -> None:
    reviews.answer = ApiUnavailable(0, "Away", "connection refused")
    with pytest.raises(Unavailable, match="connection refused"):
        await identities.node_of(TOKEN)
    identities.api = None
    with pytest.raises(Unavailable, match="no connection"):
        await identities.node_of(TOKEN)


async def test_such_a_token_opens_what_observers_need_and_nothing_else(
    identities: DaemonIdentities,
) -> None:
    header = f"Bearer {TOKEN}"
    for access in Access:
        caller = await identify_observer(identities, header, access)
        assert caller == (Caller(node_name="n1") if access is Access.DAEMON else None), access
        if access not in (Access.ANYONE, Access.DAEMON):
            with pytest.raises(Unauthenticated):
                identify(Cluster(), JobTokens(bytes(32)), header, access, now=0.0)
    assert await identify_observer(None, header, Access.DAEMON) is None
    assert await identify_observer(identities, "Bearer abc", Access.DAEMON) is None
    assert await identify_observer(identities, None, Access.DAEMON) is None
