"""Domain errors as gRPC status, in one place: code, ErrorInfo and BadRequest details."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

from controlplane.domain import errors

DOMAIN: Final = "riseml"
STATUS_DETAILS_KEY: Final = "grpc-status-details-bin"

# The most derived class that matches decides.
STATUS_OF: Final[Mapping[type[errors.DomainError], grpc.StatusCode]] = {
    errors.InvalidRequest: grpc.StatusCode.INVALID_ARGUMENT,
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.AlreadyExists: grpc.StatusCode.ALREADY_EXISTS,
    errors.PermissionDenied: grpc.StatusCode.PERMISSION_DENIED,
    errors.Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    errors.FailedPrecondition: grpc.StatusCode.FAILED_PRECONDITION,
    errors.ChangesCompacted: grpc.StatusCode.OUT_OF_RANGE,
    errors.ResourceExhausted: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.DataLoss: grpc.StatusCode.DATA_LOSS,
    errors.Unavailable: grpc.StatusCode.UNAVAILABLE,
    errors.DomainError: grpc.StatusCode.INTERNAL,
}

INTERNAL_MESSAGE: Final = (
    "The control plane failed on this request; its log has the details. Nothing was changed."
)


def status_code(error: errors.DomainError) -> grpc.StatusCode:
    """The gRPC code of an error."""
    for kind in type(error).__mro__:
        code = STATUS_OF.get(kind)
        if code is not None:
            return code
    raise AssertionError("DomainError itself is in the table")


def rich_status(error: errors.DomainError) -> status_pb2.Status:
    """The error as google.rpc.Status, with ErrorInfo and, for wrong fields, BadRequest."""
    code: int = status_code(error).value[0]
    status = status_pb2.Status(code=code, message=error.message)
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=error.metadata)
    packed = any_pb2.Any()
    packed.Pack(info)
    status.details.append(packed)
    if isinstance(error, errors.InvalidRequest) and error.violations:
        bad_request = error_details_pb2.BadRequest(
            field_violations=[
                error_details_pb2.BadRequest.FieldViolation(field=v.path, description=v.message)
                for v in error.violations
            ]
        )
        packed = any_pb2.Any()
        packed.Pack(bad_request)
        status.details.append(packed)
    return status


def trailing_metadata(error: errors.DomainError) -> tuple[tuple[str, bytes], ...]:
    """What carries the rich status beside code and message."""
    return ((STATUS_DETAILS_KEY, rich_status(error).SerializeToString()),)
