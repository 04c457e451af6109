"""Users, their keys, node tokens, projects and revisions."""

from __future__ import annotations

from dataclasses import replace

from controlplane.core.draft import Draft, Outcome
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
from controlplane.domain.model import ApiKey, NodeToken, Project, User


def user_created(draft: Draft, event: UserCreated) -> Outcome:
    """Reply: User. Repeated under its request id it makes no second user; the new key replaces the
    first one, whose text never arrived."""
    known = draft.cluster.users.get(event.name)
    if known is not None:
        if not event.request_id or known.request_id != event.request_id:
            raise AlreadyExists(
                f"There is a user {event.name!r} already: choose another name.",
                reason="USER_EXISTS",
                metadata={"user": event.name},
            )
        _replace_key(draft, event.key, event.request_id)
        return draft.outcome(known)
    user = User(event.name, event.email, event.admin, True, draft.now, request_id=event.request_id)
    draft.insert_account(user)
    draft.insert_account(replace(event.key, user_name=event.name, request_id=event.request_id))
    return draft.outcome(user)


def _replace_key(draft: Draft, key: ApiKey, request_id: str) -> None:
    for old in draft.cluster.api_keys.values():
        if old.user_name == key.user_name and old.request_id == request_id:
            draft.update_account(replace(old, sha256=key.sha256))
            return
    draft.insert_account(replace(key, request_id=request_id))


def user_updated(draft: Draft, event: UserUpdated) -> Outcome:
    """Reply: User. FailedPrecondition if no enabled admin would be left."""
    user = _user(draft, event.name)
    updated = replace(
        user,
        email=user.email if event.email is None else event.email,
        admin=user.admin if event.admin is None else event.admin,
        enabled=user.enabled if event.enabled is None else event.enabled,
    )
    if user.admin and user.enabled and not (updated.admin and updated.enabled):
        others = (u for u in draft.cluster.users.values() if u.name != user.name)
        if not any(u.admin and u.enabled for u in others):
            raise FailedPrecondition(
                f"{user.name} is the last admin: make another user an admin first.",
                reason="LAST_ADMIN",
                metadata={"user": user.name},
            )
    if updated != user:
        draft.update_account(updated)
    return draft.outcome(updated)


def api_key_created(draft: Draft, event: ApiKeyCreated) -> Outcome:
    """Reply: ApiKey. Repeated under its request id it is the first one, with the new secret: the
    first secret never arrived."""
    key = event.key
    _user(draft, key.user_name)
    if key.request_id:
        for old in draft.cluster.api_keys.values():
            if old.user_name == key.user_name and old.request_id == key.request_id:
                updated = replace(old, sha256=key.sha256)
                if updated != old:
                    draft.update_account(updated)
                return draft.outcome(updated)
    if key.id in draft.cluster.api_keys:
        raise AlreadyExists(f"There is an API key {key.id} already.", reason="KEY_EXISTS")
    draft.insert_account(key)
    return draft.outcome(key)


def api_key_deleted(draft: Draft, event: ApiKeyDeleted) -> Outcome:
    """Reply: None."""
    key = draft.cluster.api_keys.get(event.key_id)
    if key is None:
        raise NotFound(f"There is no API key {event.key_id!r}.", reason="KEY_NOT_FOUND")
    draft.delete(key)
    return draft.outcome()


def node_token_created(draft: Draft, event: NodeTokenCreated) -> Outcome:
    """Reply: None. The node's earlier token is void."""
    token = NodeToken(event.node_name, event.sha256, draft.now)
    if event.node_name in draft.cluster.node_tokens:
        draft.update_account(token)
    else:
        draft.insert_account(token)
    return draft.outcome()


def node_token_deleted(draft: Draft, event: NodeTokenDeleted) -> Outcome:
    """Reply: None."""
    token = draft.cluster.node_tokens.get(event.node_name)
    if token is None:
        raise NotFound(f"Node {event.node_name!r} has no token.", reason="TOKEN_NOT_FOUND")
    draft.delete(token)
    node = draft.node(event.node_name)
    if node is not None:
        # Who came in with it goes; it is asked for a token when it comes back.
        draft.effect(EndSession(node.name, node.epoch))
    return draft.outcome()


def revision_recorded(draft: Draft, event: RevisionRecorded) -> Outcome:
    """Reply: Revision, the first one of that content. The caller asked the store before: here only
    revisions recorded since the start are known."""
    revision = event.revision
    known = draft.cluster.revisions.get((revision.user_name, revision.id))
    _user(draft, revision.user_name)
    if (revision.user_name, revision.project) not in draft.cluster.projects:
        draft.insert_account(Project(revision.user_name, revision.project, draft.now))
    if known is None:
        draft.insert_account(revision)
    return draft.outcome(revision if known is None else known)


def _user(draft: Draft, name: str) -> User:
    user = draft.cluster.users.get(name)
    if user is None:
        raise NotFound(
            f"There is no user {name!r}.", reason="USER_NOT_FOUND", metadata={"user": name}
        )
    return user
