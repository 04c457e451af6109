"""UserService: accounts and API keys."""

from __future__ import annotations

import secrets
import time
from typing import Any

from controlplane.domain.errors import InvalidRequest, NotFound
from controlplane.domain.events import ApiKeyCreated, ApiKeyDeleted, UserCreated, UserUpdated
from controlplane.domain.model import ApiKey, User
from controlplane.rpc import convert
from controlplane.rpc.backend import Backend, check_request_id, page_size, paged
from controlplane.rpc.caller import current_caller, hash_credential
from riseml.spec.errors import InvalidName
from riseml.spec.ids import check_user_name
from riseml.v1 import user_service_pb2 as pb
from riseml.v1 import user_service_pb2_grpc

KEY_PREFIX = "riseml_"


def new_credential() -> str:
    """256 random bits, with a prefix by which leaked keys are found."""
    return KEY_PREFIX + secrets.token_urlsafe(32)


def new_key(user_name: str, description: str, request_id: str) -> tuple[ApiKey, str]:
    """A key as it is kept, and its text as it is shown once."""
    text = new_credential()
    digest = hash_credential(text)
    return ApiKey(digest[:12], user_name, digest, description, time.time(), request_id), text


class UserService(user_service_pb2_grpc.UserServiceServicer):
    """See the contract for what each call means."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def _user(self, name: str) -> User:
        user = self._backend.runtime.cluster.users.get(name)
        if user is None:
            raise NotFound(
                f"There is no user {name!r}: `riseml user list` shows all.",
                reason="USER_NOT_FOUND",
                metadata={"user": name},
            )
        return user

    async def GetCaller(self, request: pb.GetCallerRequest, context: Any) -> pb.GetCallerResponse:
        return pb.GetCallerResponse(user=convert.user(self._user(current_caller().name)))

    async def CreateUser(
        self, request: pb.CreateUserRequest, context: Any
    ) -> pb.CreateUserResponse:
        check_request_id(request.request_id)
        try:
            check_user_name(request.name)
        except InvalidName as wrong:
            raise InvalidRequest(str(wrong), reason="INVALID_USER_NAME") from None
        key, text = new_key(request.name, "made with the user", request.request_id)
        user = await self._backend.runtime.submit(
            UserCreated(request.name, request.email, request.admin, key, request.request_id)
        )
        return pb.CreateUserResponse(user=convert.user(user), api_key=text)

    async def GetUser(self, request: pb.GetUserRequest, context: Any) -> pb.GetUserResponse:
        name = request.name or current_caller().name
        current_caller().check_owner(name, f"user {name}")
        return pb.GetUserResponse(user=convert.user(self._user(name)))

    async def ListUsers(self, request: pb.ListUsersRequest, context: Any) -> pb.ListUsersResponse:
        users = self._backend.runtime.cluster.users
        names, token = paged(sorted(users), request.page_token, page_size(request.page_size))
        return pb.ListUsersResponse(
            users=[convert.user(users[name]) for name in names], next_page_token=token
        )

    async def UpdateUser(
        self, request: pb.UpdateUserRequest, context: Any
    ) -> pb.UpdateUserResponse:
        user = await self._backend.runtime.submit(
            UserUpdated(
                request.name,
                request.email if request.HasField("email") else None,
                request.admin if request.HasField("admin") else None,
                request.enabled if request.HasField("enabled") else None,
            )
        )
        return pb.UpdateUserResponse(user=convert.user(user))

    async def CreateApiKey(
        self, request: pb.CreateApiKeyRequest, context: Any
    ) -> pb.CreateApiKeyResponse:
        check_request_id(request.request_id)
        owner = request.user_name or current_caller().name
        current_caller().check_owner(owner, f"user {owner}")
        self._user(owner)
        key, text = new_key(owner, request.description, request.request_id)
        kept = await self._backend.runtime.submit(ApiKeyCreated(key))
        return pb.CreateApiKeyResponse(key=convert.api_key(kept), api_key=text)

    async def ListApiKeys(
        self, request: pb.ListApiKeysRequest, context: Any
    ) -> pb.ListApiKeysResponse:
        owner = request.user_name or current_caller().name
        current_caller().check_owner(owner, f"user {owner}")
        keys = {
            key.id: key
            for key in self._backend.runtime.cluster.api_keys.values()
            if key.user_name == owner
        }
        chosen, token = paged(sorted(keys), request.page_token, page_size(request.page_size))
        return pb.ListApiKeysResponse(
            keys=[convert.api_key(keys[i]) for i in chosen], next_page_token=token
        )

    async def DeleteApiKey(
        self, request: pb.DeleteApiKeyRequest, context: Any
    ) -> pb.DeleteApiKeyResponse:
        key = self._backend.runtime.cluster.api_keys.get(request.id)
        if key is None or not current_caller().may_see(key.user_name):
            raise NotFound(f"There is no API key {request.id!r} of yours.", reason="KEY_NOT_FOUND")
        await self._backend.runtime.submit(ApiKeyDeleted(request.id))
        return pb.DeleteApiKeyResponse()
