"""Status codes become errors that say what to do."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from riseml import errors


class Failed(grpc.RpcError):
    """A call that ended so."""

    def __init__(self, code: grpc.StatusCode, said: str, metadata: tuple[Any, ...] = ()) -> None:
        super().__init__()
        self._code, self._said, self._metadata = code, said, metadata

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._said

    def trailing_metadata(self) -> tuple[Any, ...]:
        return self._metadata


def convert(code: grpc.StatusCode, said: str = "", **more: object) -> errors.RisemlError:
    failed = Failed(code, said, **more)  # type: ignore[arg-type]
    return errors.from_rpc_error(failed, server="host:7433", method="GetCaller")


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, errors.InvalidRequest),
        (grpc.StatusCode.NOT_FOUND, errors.NotFound),
        (grpc.StatusCode.ALREADY_EXISTS, errors.AlreadyExists),
        (grpc.StatusCode.PERMISSION_DENIED, errors.PermissionDenied),
        (grpc.StatusCode.UNAUTHENTICATED, errors.Unauthenticated),
        (grpc.StatusCode.FAILED_PRECONDITION, errors.FailedPrecondition),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, errors.ResourceExhausted),
        (grpc.StatusCode.DATA_LOSS, errors.DataLoss),
        (grpc.StatusCode.UNAVAILABLE, errors.Unavailable),
        (grpc.StatusCode.CANCELLED, errors.Unavailable),
        (grpc.StatusCode.DEADLINE_EXCEEDED, errors.DeadlineExceeded),
        (grpc.StatusCode.UNIMPLEMENTED, errors.VersionMismatch),
        (grpc.StatusCode.INTERNAL, errors.ServerFault),
        (grpc.StatusCode.UNKNOWN, errors.ServerFault),
    ],
)
def test_each_code_has_its_error(code: grpc.StatusCode, kind: type[errors.RisemlError]) -> None:
    assert type(convert(code, "said")) is kind


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("ipv4:127.0.0.1:1: Connection refused", "riseml up"),
        ("DNS resolution failed for host", "spelling"),
        ("Ssl handshake failed: certificate verify failed", "riseml user login"),
        ("Hostname Verification Check failed.", "--tls-name"),
        ("Socket closed", "Check the network"),
    ],
)
def test_no_connection_says_what_to_check(said: str, words: str) -> None:
    assert words in convert(grpc.StatusCode.UNAVAILABLE, said).message


def test_broken_stream_counts_as_a_lost_connection() -> None:
    error = convert(grpc.StatusCode.INTERNAL, "Received RST_STREAM with error code 2")
    assert isinstance(error, errors.Unavailable)


def test_silent_refusal_still_says_something() -> None:
    assert "GetCaller" in convert(grpc.StatusCode.NOT_FOUND).message


def test_damaged_details_do_not_hide_the_error() -> None:
    error = convert(
        grpc.StatusCode.NOT_FOUND, "gone", metadata=(("grpc-status-details-bin", b"\xff\xff"),)
    )
    assert error.message == "gone" and error.reason == ""
