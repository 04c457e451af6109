"""What the sessions of all daemons have in common: Hello first, then orders one way while words
come the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from typing import Any, TypeVar

from controlplane.domain.errors import InvalidRequest
from controlplane.launch.outbox import Outbox
from riseml.v1 import daemon_service_pb2 as pb

Order = TypeVar("Order")


async def read_hello(requests: AsyncIterator[pb.SessionRequest]) -> pb.Hello:
    """The first message of a session. Raises InvalidRequest if it is another."""
    first = await anext(aiter(requests), None)
    if first is None or not first.HasField("hello"):
        raise InvalidRequest("A session begins with Hello.", reason="HELLO_EXPECTED")
    return first.hello


async def orders_while(
    listening: Coroutine[Any, Any, None], outbox: Outbox[Order]
) -> AsyncGenerator[Order, None]:
    """What is put into the outbox, until it is closed or there is nobody to listen to any more.
    Raises what listening failed of."""
    reader = asyncio.create_task(listening)
    reader.add_done_callback(lambda _: outbox.close())
    try:
        while True:
            orders = await outbox.take()
            for order in orders:
                yield order
            if outbox.closed and not orders:
                break
        if reader.done():
            reader.result()
    finally:
        reader.cancel()
        # What it failed of was raised above, if anybody still wants to hear it.
        await asyncio.gather(reader, return_exceptions=True)
