"""What can go wrong between a client and the control plane: one tree, made from gRPC's rich status.

    RisemlError
    ├── NotLoggedIn           no server or no API key is known here
    ├── CredentialsError      the credentials file cannot be used as it is
    ├── InvalidRequest        what was asked is wrong in itself (with the paths of the fields)
    ├── NotFound
    ├── AlreadyExists
    ├── PermissionDenied
    ├── Unauthenticated
    ├── FailedPrecondition    right in itself, not now
    ├── ChangesCompacted      a watch asked for changes that are no longer kept
    ├── ResourceExhausted
    ├── DataLoss              bytes do not match their hash
    ├── Unavailable           no answer: server down, network cut, wrong TLS
    ├── DeadlineExceeded
    ├── VersionMismatch       the server does not know this call
    ├── ServerFault           the server failed in a way that it did not foresee
    ├── SyncError             the tree cannot be sent as it is (riseml.sync)
    └── TransferError         a copy went wrong on this side (riseml.storage)

Every message says what to do next. ``reason`` is the machine's word for it, ``metadata`` the values
it speaks of.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    import grpc

DOMAIN = "riseml"
"""The domain of our ErrorInfo."""

_DETAILS_KEY = "grpc-status-details-bin"


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One wrong field, under the name that riseml.yml has for it: ``train.resources.gpus``."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class RisemlError(Exception):
    """Base of everything that the SDK raises on purpose."""

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
        violations: tuple[FieldViolation, ...] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.metadata: dict[str, str] = dict(metadata or {})
        self.violations = violations


class NotLoggedIn(RisemlError):
    """No server or no API key is known here."""


class CredentialsError(RisemlError):
    """The credentials file cannot be used as it is."""


class InvalidRequest(RisemlError):
    """What was asked is wrong in itself; ``violations`` names the fields."""


class NotFound(RisemlError):
    """There is no such object, or the caller may not know of it."""


class AlreadyExists(RisemlError):
    """An object of that name exists."""


class PermissionDenied(RisemlError):
    """The caller is known and may not do this."""


class Unauthenticated(RisemlError):
    """The server does not accept the API key."""


class FailedPrecondition(RisemlError):
    """Right in itself, but not in the present state."""


class ChangesCompacted(RisemlError):
    """List again, then watch from there."""


class ResourceExhausted(RisemlError):
    """A limit was reached, or a disk is full."""


class DataLoss(RisemlError):
    """Bytes do not match their hash, or stored bytes are gone."""


class Unavailable(RisemlError):
    """No answer. Calls that may be repeated were repeated before this was raised."""


class DeadlineExceeded(RisemlError):
    """The server did not answer in time; what was asked may still happen."""


class VersionMismatch(RisemlError):
    """The server does not know this call."""


class ServerFault(RisemlError):
    """The server failed in a way that it did not foresee."""


class SyncError(RisemlError):
    """The tree cannot be sent as it is."""


class TransferError(RisemlError):
    """A copy went wrong on this side."""


def from_rpc_error(error: grpc.RpcError, *, server: str, method: str) -> RisemlError:
    """The error of the tree for what a call raised.

    ``server`` (``host:port``) and ``method`` (``CreateExperiment``) go into messages of this side's
    own making.
    """
    if not hasattr(error, "code"):
        return ServerFault(f"The call {method} to {server} failed: {error}")
    call = cast("grpc.Call", error)
    code = call.code()
    said = (call.details() or "").strip()
    reason, metadata, violations = _details(call)
    kind, message = _in_words(code, said, server=server, method=method, reason=reason)
    return kind(message, reason=reason, metadata=metadata, violations=violations)


def _in_words(
    code: grpc.StatusCode, said: str, *, server: str, method: str, reason: str
) -> tuple[type[RisemlError], str]:
    import grpc

    match code:
        case grpc.StatusCode.CANCELLED:
            return Unavailable, f"{server} ended the call; it may be restarting. Try again."
        case grpc.StatusCode.INTERNAL if "RST_STREAM" in said:
            return Unavailable, f"The connection to {server} broke. Try again."
        case grpc.StatusCode.UNAVAILABLE if not reason:
            return Unavailable, _unavailable(server, said)
        case grpc.StatusCode.UNAVAILABLE:
            return Unavailable, said
        case grpc.StatusCode.UNAUTHENTICATED:
            return Unauthenticated, (
                f"{said or f'{server} does not accept this API key'}\n"
                "Log in with 'riseml user login', or set RISEML_API_KEY to a valid key."
            )
        case grpc.StatusCode.UNIMPLEMENTED:
            return VersionMismatch, (
                f"{server} does not know the call {method}: it runs another version of RiseML "
                f"than this client. "
                "Compare 'riseml version' with the server's and update the older one."
            )
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return DeadlineExceeded, (
                f"{server} did not answer {method} in time. It may be busy, and what was asked "
                f"may still happen: "
                "look with 'riseml status' before you repeat it."
            )
        case grpc.StatusCode.OUT_OF_RANGE if reason == "CHANGES_COMPACTED":
            return ChangesCompacted, said
    kind = {
        grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
        grpc.StatusCode.OUT_OF_RANGE: InvalidRequest,
        grpc.StatusCode.NOT_FOUND: NotFound,
        grpc.StatusCode.ALREADY_EXISTS: AlreadyExists,
        grpc.StatusCode.PERMISSION_DENIED: PermissionDenied,
        grpc.StatusCode.FAILED_PRECONDITION: FailedPrecondition,
        grpc.StatusCode.ABORTED: FailedPrecondition,
        grpc.StatusCode.RESOURCE_EXHAUSTED: ResourceExhausted,
        grpc.StatusCode.DATA_LOSS: DataLoss,
    }.get(code)
    if kind is not None:
        return kind, said or f"{server} refused {method} ({code.name}) and did not say why."
    return ServerFault, (
        f"{server} failed at {method} ({code.name}): {said or 'no details'}. "
        "The control plane's log says more."
    )


def _unavailable(server: str, said: str) -> str:
    lower = said.lower()
    if "connection refused" in lower or not said:
        return (
            f"Nothing answers at {server}. Start a cluster on this machine with 'riseml up', "
            "or name another server with 'riseml user login' or RISEML_SERVER."
        )
    if "hostname verification" in lower:
        return (
            f"The certificate of {server} is made for other names. Use the host name that it is "
            "made for, or start the server with this name too ('riseml up --tls-name HOST')."
        )
    if "ssl" in lower or "tls" in lower or "certificate" in lower:
        return (
            f"No secure connection to {server}: {said}. The server may speak another protocol on "
            f"this port, or its "
            "certificate may be new: log in again with 'riseml user login'."
        )
    if "dns" in lower or "name or service not known" in lower or "resolution" in lower:
        return f"The name in {server} cannot be resolved. Check its spelling, and the network."
    return f"No connection to {server}: {said}. Check the network and that the server runs."


def _details(call: grpc.Call) -> tuple[str, dict[str, str], tuple[FieldViolation, ...]]:
    """Reason, metadata and field violations of the rich status that travels beside a plain one."""
    for key, value in call.trailing_metadata() or ():
        if key == _DETAILS_KEY and isinstance(value, bytes):
            return _read_status(value)
    return "", {}, ()


def _read_status(data: bytes) -> tuple[str, dict[str, str], tuple[FieldViolation, ...]]:
    from google.protobuf.message import DecodeError
    from google.rpc import error_details_pb2, status_pb2

    reason = ""
    metadata: dict[str, str] = {}
    violations: tuple[FieldViolation, ...] = ()
    try:
        details = status_pb2.Status.FromString(data).details
        for detail in details:
            info = error_details_pb2.ErrorInfo()
            request = error_details_pb2.BadRequest()
            if detail.Unpack(info) and info.domain == DOMAIN:
                reason, metadata = info.reason, dict(info.metadata)
            elif detail.Unpack(request):
                violations = tuple(
                    FieldViolation(v.field, v.description) for v in request.field_violations
                )
    except DecodeError:
        return "", {}, ()
    return reason, metadata, violations
