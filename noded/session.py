"""The session with the control plane: one bidirectional stream, opened again whenever it breaks.

Each round makes a channel of its own, so that a connection which the network swallowed is never
used again: Hello with
all that is known here, Welcome with all that should run, then orders one way and reports,
heartbeats and samples the
other. What else needs the control plane (logs, code, storage) lives on the same channel and ends
with the round.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

import grpc

from noded.convert import checkpoint_message
from noded.errors import SessionRefused
from noded.model import Report
from noded.reconcile import StopOrder
from riseml.v1 import daemon_pb2, daemon_service_pb2, telemetry_pb2
from riseml.v1.daemon_service_pb2_grpc import DaemonServiceStub

log = logging.getLogger(__name__)

FIRST_DELAY_SECONDS: Final = 0.1
MAX_DELAY_SECONDS: Final = 5.0
OPEN_TIMEOUT_SECONDS: Final = 15.0
DEFAULT_HEARTBEAT_SECONDS: Final = 1.0
SILENT_HEARTBEATS: Final = 8
MIN_SILENCE_SECONDS: Final = 6.0
COMPLAIN_SECONDS: Final = 60.0

_FATAL: Final = {
    grpc.StatusCode.UNAUTHENTICATED: "the daemon's token is refused",
    grpc.StatusCode.PERMISSION_DENIED: "the token is not this node's",
    grpc.StatusCode.UNIMPLEMENTED: "the server there is no control plane of RiseML",
    grpc.StatusCode.ABORTED: "a newer daemon of this node took over",
    grpc.StatusCode.FAILED_PRECONDITION: "the control plane refuses this daemon",
    grpc.StatusCode.INVALID_ARGUMENT: "the control plane does not understand this daemon",
}

_CHANNEL_OPTIONS: Final = (
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.max_receive_message_length", 16 << 20),
    ("grpc.max_send_message_length", 16 << 20),
    ("grpc.enable_retries", 0),
    ("grpc.use_local_subchannel_pool", 1),
)

Metadata = tuple[tuple[str, str], ...]


class Node(Protocol):
    """The rest of the daemon, as the session sees it. All calls are quick and stay on the loop."""

    def hello(self, cluster_id: str) -> daemon_service_pb2.Hello: ...

    def welcome(self, message: daemon_service_pb2.Welcome) -> None: ...

    def obey(self, order: daemon_service_pb2.SessionResponse) -> None:
        """Does what is asked, or begins with it."""
        ...

    def sample(self) -> telemetry_pb2.NodeSample | None:
        """A reading that was not sent yet, if there is one."""
        ...

    def inventory_change(self) -> daemon_pb2.NodeInventory | None:
        """The inventory, if it is another than was said last."""
        ...

    def checkpoints(self) -> Sequence[tuple[str, float]]:
        """Of attempts that run: when the newest checkpoint was written (wall time)."""
        ...

    def contact(self, boot_time: float) -> None:
        """The control plane has heard of us: at `boot_time` (CLOCK_BOOTTIME) we were alive."""
        ...


class ClusterMemory(Protocol):
    """Which cluster this node's attempts belong to."""

    cluster_id: str

    def remember(self, cluster_id: str) -> None: ...


_Call = grpc.aio.StreamStreamCall[
    daemon_service_pb2.SessionRequest, daemon_service_pb2.SessionResponse
]

Companion = Callable[[DaemonServiceStub, Metadata], Awaitable[None]]
"""Runs beside a session for as long as it lasts: log shipping, storage."""

MakeChannel = Callable[[Sequence[tuple[str, int]]], grpc.aio.Channel]


class Session:
    """Keeps one session open for as long as the daemon lives."""

    def __init__(
        self,
        make_channel: MakeChannel,
        token: Callable[[], str],
        node: Node,
        cluster: ClusterMemory,
        companions: Sequence[Companion],
        to_report: Callable[[Report], daemon_pb2.AttemptReport],
    ) -> None:
        """`token` is asked for at each round: it may change."""
        self._make_channel = make_channel
        self._token = token
        self._node = node
        self._cluster = cluster
        self._companions = companions
        self._to_report = to_report
        self._outgoing: deque[daemon_service_pb2.SessionRequest] = deque()
        self._waiting = asyncio.Event()
        self._open = False
        self._sent_at: dict[int, float] = {}
        self._sample_sent_at = (0.0, 0.0)
        self._heard_at = 0.0
        self._heartbeat_seconds = DEFAULT_HEARTBEAT_SECONDS

    def report(self, report: Report) -> None:
        """Says how an attempt stands now. While no session is open nothing is queued: Hello says
        it all."""
        if self._open:
            self._send(daemon_service_pb2.SessionRequest(attempt=self._to_report(report)))

    def checkpoint(self, attempt_id: str, write_time: float) -> None:
        """Says that an attempt wrote a checkpoint. While no session is open nothing is queued: all
        of them follow the next Welcome."""
        if self._open:
            self._send(
                daemon_service_pb2.SessionRequest(
                    checkpoint=checkpoint_message(attempt_id, write_time)
                )
            )

    async def run(self) -> None:
        """Until cancelled. Raises SessionRefused when trying again changes nothing."""
        failures = 0
        complained_at = -math.inf
        while True:
            started = time.monotonic()
            try:
                problem = await self._round()
            except grpc.aio.AioRpcError as error:
                problem = _problem(error)
            if time.monotonic() - started > MAX_DELAY_SECONDS:
                failures, complained_at = 0, -math.inf
            delay = min(MAX_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2**failures)
            failures = min(failures + 1, 10)
            if time.monotonic() - complained_at > COMPLAIN_SECONDS:
                complained_at = time.monotonic()
                log.warning("no session with the control plane, trying on: %s", problem)
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))

    async def _round(self) -> str:
        """One connection from Hello to its end; says why it ended."""
        metadata = bearer(self._token())
        channel = self._make_channel(_CHANNEL_OPTIONS)
        stub = DaemonServiceStub(channel)
        tasks: list[asyncio.Task[str]] = []
        try:
            call = stub.Session(metadata=metadata)
            async with asyncio.timeout(OPEN_TIMEOUT_SECONDS):
                await self._introduce(call)
            tasks = [
                asyncio.create_task(self._read(call), name="session-read"),
                asyncio.create_task(self._write(call), name="session-write"),
                asyncio.create_task(self._beat(), name="session-beat"),
            ]
            tasks += [
                asyncio.create_task(self._accompany(companion, stub, metadata))
                for companion in self._companions
            ]
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            return done.pop().result()
        except TimeoutError:
            return f"no answer within {OPEN_TIMEOUT_SECONDS:.0f} s"
        finally:
            self._open = False
            self._outgoing.clear()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await channel.close()

    async def _introduce(
        self,
        call: _Call,
    ) -> None:
        await call.wait_for_connection()
        hello = self._node.hello(self._cluster.cluster_id)
        sent_at = time.clock_gettime(time.CLOCK_BOOTTIME)
        self._outgoing.clear()
        # From here on changes are queued: what Hello does not say follows it.
        self._open = True
        # A stream that ended cannot be written to: reading says why.
        with contextlib.suppress(asyncio.InvalidStateError):
            await call.write(daemon_service_pb2.SessionRequest(hello=hello))
        answer = await call.read()
        if not isinstance(answer, daemon_service_pb2.SessionResponse):
            raise await _rpc_error(call)
        if answer.WhichOneof("order") != "welcome":
            raise SessionRefused(
                "the control plane's first message was no Welcome: versions differ"
            )
        welcome = answer.welcome
        mine = self._cluster.cluster_id
        if mine and welcome.cluster_id != mine:
            raise SessionRefused(
                f"this node belongs to cluster {mine}, but {welcome.cluster_id} answers there; "
                "nothing was touched. Use another --home or --name for another cluster"
            )
        if not mine:
            self._cluster.remember(welcome.cluster_id)
        if welcome.heartbeat_interval_milliseconds > 0:
            self._heartbeat_seconds = welcome.heartbeat_interval_milliseconds / 1000
        self._heard_at = time.monotonic()
        self._node.contact(sent_at)
        log.info("session with cluster %s is open", welcome.cluster_id)
        self._node.welcome(welcome)
        # The control plane keeps them in memory only.
        for attempt_id, write_time in self._node.checkpoints():
            self.checkpoint(attempt_id, write_time)

    def _send(self, request: daemon_service_pb2.SessionRequest) -> None:
        self._outgoing.append(request)
        self._waiting.set()

    async def _write(
        self,
        call: _Call,
    ) -> str:
        """Sends what is queued. A stream that ended cannot be written to: reading says why."""
        with contextlib.suppress(asyncio.InvalidStateError):
            while True:
                while self._outgoing:
                    await call.write(self._outgoing.popleft())
                self._waiting.clear()
                await self._waiting.wait()
        raise await _rpc_error(call)

    async def _read(
        self,
        call: _Call,
    ) -> str:
        while True:
            response = await call.read()
            if not isinstance(response, daemon_service_pb2.SessionResponse):
                raise await _rpc_error(call)
            self._heard_at = time.monotonic()
            if response.HasField("heartbeat_ack"):
                self._acknowledged(response.heartbeat_ack.sequence)
            else:
                self._node.obey(response)

    def _acknowledged(self, sequence: int) -> None:
        # A sample has no number: the one before the newest was surely heard when its answer is
        # here.
        sent_at = self._sent_at.get(sequence) if sequence else self._sample_sent_at[0]
        if sent_at:
            self._sent_at = {s: at for s, at in self._sent_at.items() if s > sequence}
            self._node.contact(sent_at)

    async def _beat(self) -> str:
        """Samples, or heartbeats where there is none; ends when the other side fell silent."""
        sequence = 0
        self._sent_at.clear()
        self._sample_sent_at = (0.0, 0.0)
        while True:
            now = time.clock_gettime(time.CLOCK_BOOTTIME)
            inventory = self._node.inventory_change()
            if inventory is not None:
                self._send(daemon_service_pb2.SessionRequest(inventory=inventory))
            sample = self._node.sample()
            if sample is not None:
                self._sample_sent_at = (self._sample_sent_at[1], now)
                self._send(daemon_service_pb2.SessionRequest(sample=sample))
            else:
                sequence += 1
                self._sent_at[sequence] = now
                heartbeat = daemon_service_pb2.Heartbeat(sequence=sequence)
                self._send(daemon_service_pb2.SessionRequest(heartbeat=heartbeat))
            silence = time.monotonic() - self._heard_at
            if silence > max(MIN_SILENCE_SECONDS, SILENT_HEARTBEATS * self._heartbeat_seconds):
                return f"nothing was heard for {silence:.0f} s"
            await asyncio.sleep(self._heartbeat_seconds)

    async def _accompany(
        self, companion: Companion, stub: DaemonServiceStub, metadata: Metadata
    ) -> str:
        """A companion's trouble is its own: it is started again while the session lasts."""
        delay = FIRST_DELAY_SECONDS
        while True:
            try:
                await companion(stub, metadata)
            except grpc.aio.AioRpcError:
                pass  # the session's own stream tells of it as well
            except Exception:
                log.exception("a stream beside the session failed")
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                # A stream that breaks while it is cancelled may tell of the break only.
                raise asyncio.CancelledError
            await asyncio.sleep(delay)
            delay = min(MAX_DELAY_SECONDS, delay * 2)


def bearer(token: str) -> Metadata:
    """The credential of a call."""
    return (("authorization", f"Bearer {token}"),)


def stop_order(message: daemon_service_pb2.StopAttempt) -> StopOrder:
    """The order that the message carries."""
    grace = message.grace_period_milliseconds
    return StopOrder(message.attempt_id, message.reason, None if grace < 0 else grace)


async def _rpc_error(
    call: _Call,
) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(
        await call.code(),
        await call.initial_metadata(),
        await call.trailing_metadata(),
        await call.details(),
    )


def _problem(error: grpc.aio.AioRpcError) -> str:
    code, details = error.code(), error.details() or ""
    if code in _FATAL:
        raise SessionRefused(f"{_FATAL[code]} ({details})" if details else _FATAL[code]) from error
    return f"{code.name}: {details}" if details else code.name
