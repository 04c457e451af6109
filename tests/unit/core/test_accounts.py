"""Users, keys, tokens, projects, revisions."""

from __future__ import annotations

import pytest

from controlplane.domain.effects import EndSession
from controlplane.domain.errors import AlreadyExists, FailedPrecondition, NotFound
from controlplane.domain.events import (
    ApiKeyCreated,
    ApiKeyDeleted,
    NodeTokenCreated,
    NodeTokenDeleted,
    RevisionRecorded,
    UserCreated,
    UserUpdated,
)
from controlplane.domain.model import ApiKey, Revision
from tests.unit.core.world import World


def key(id: str, sha256: str, user: str = "bob", request_id: str = "") -> ApiKey:
    return ApiKey(id, user, sha256, "laptop", 1000.0, request_id)


def with_bob(admin: bool = False) -> World:
    world = World()
    world.send(UserCreated("bob", "bob@example.com", admin, key("k2", "22"), "request"))
    return world


def test_a_user_comes_with_a_first_key() -> None:
    world = with_bob()
    bob = world.cluster.users["bob"]
    assert (bob.email, bob.admin, bob.enabled) == ("bob@example.com", False, True)
    found = world.cluster.api_key_by_hash("22")
    assert found is not None and found.user_name == "bob"
    assert world.cluster.api_key_by_hash("23") is None


def test_a_users_name_is_taken_once() -> None:
    world = with_bob()
    with pytest.raises(AlreadyExists):
        world.send(UserCreated("bob", "", False, key("k3", "33"), "another request"))
    assert world.cluster.api_key_by_hash("33") is None


def test_creating_a_user_again_under_the_same_request_replaces_the_key_that_never_arrived() -> None:
    world = with_bob()
    bob = world.send(UserCreated("bob", "", False, key("k3", "33"), "request"))
    assert bob is world.cluster.users["bob"]
    assert world.cluster.api_key_by_hash("22") is None
    found = world.cluster.api_key_by_hash("33")
    assert found is not None and found.id == "k2"


def test_a_user_is_updated_field_by_field() -> None:
    world = with_bob()
    bob = world.send(UserUpdated("bob", email="b@example.com"))
    assert (bob.email, bob.admin, bob.enabled) == ("b@example.com", False, True)
    assert world.send(UserUpdated("bob", enabled=False)).enabled is False
    with pytest.raises(NotFound):
        world.send(UserUpdated("eve", admin=True))


@pytest.mark.parametrize(
    "change", [UserUpdated("ana", admin=False), UserUpdated("ana", enabled=False)]
)
def test_the_last_admin_stays(change: UserUpdated) -> None:
    world = with_bob()
    with pytest.raises(FailedPrecondition) as refused:
        world.send(change)
    assert refused.value.reason == "LAST_ADMIN"
    world.send(UserUpdated("bob", admin=True))
    world.send(change)


def test_a_disabled_admin_does_not_count_as_one() -> None:
    world = with_bob(admin=True)
    world.send(UserUpdated("bob", enabled=False))
    with pytest.raises(FailedPrecondition):
        world.send(UserUpdated("ana", admin=False))


def test_a_key_is_made_and_deleted() -> None:
    world = with_bob()
    made = world.send(ApiKeyCreated(key("k3", "33")))
    assert made.id == "k3"
    world.send(ApiKeyDeleted("k3"))
    assert world.cluster.api_key_by_hash("33") is None
    with pytest.raises(NotFound):
        world.send(ApiKeyDeleted("k3"))
    with pytest.raises(NotFound):
        world.send(ApiKeyCreated(key("k4", "44", user="eve")))


def test_a_key_made_again_under_the_same_request_is_the_first_with_the_new_secret() -> None:
    world = with_bob()
    world.send(ApiKeyCreated(key("k3", "33", request_id="r")))
    again = world.send(ApiKeyCreated(key("k4", "44", request_id="r")))
    assert (again.id, again.sha256) == ("k3", "44")
    assert world.cluster.api_key_by_hash("33") is None
    assert len(world.cluster.api_keys) == 3


def test_a_new_node_token_replaces_the_old_one() -> None:
    world = World()
    world.send(NodeTokenCreated("n1", "aa"))
    world.send(NodeTokenCreated("n1", "bb"))
    assert world.cluster.node_token_by_hash("aa") is None
    found = world.cluster.node_token_by_hash("bb")
    assert found is not None and found.node_name == "n1"
    world.send(NodeTokenDeleted("n1"))
    assert world.cluster.node_token_by_hash("bb") is None
    with pytest.raises(NotFound):
        world.send(NodeTokenDeleted("n1"))


def test_a_token_that_is_taken_away_ends_the_session_that_it_opened() -> None:
    world = World()
    world.send(NodeTokenCreated("n1", "aa"))
    world.connect("n1", epoch=3)
    world.send(NodeTokenDeleted("n1"))
    assert EndSession("n1", 3) in world.effects


def test_a_revision_makes_its_project_and_is_recorded_once() -> None:
    world = World()
    first = Revision("abc", "ana", "digits", 3, 100, 1000.0)
    assert world.send(RevisionRecorded(first)) is first
    again = world.send(RevisionRecorded(Revision("abc", "ana", "digits", 3, 100, 2000.0)))
    assert again is first
    assert list(world.cluster.projects) == [("ana", "digits")]
