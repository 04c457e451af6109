"""What uploads leave behind."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest

from controlplane.code.blobs import Blobs, BlobWriter
from controlplane.domain.errors import DataLoss
from controlplane.rpc.backend import Backend
from controlplane.rpc.caller import Caller, set_caller
from controlplane.rpc.project_service import ProjectService
from riseml.v1 import project_service_pb2 as pb


def test_a_refused_blob_takes_no_room_any_more_when_its_sender_hears_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    close = BlobWriter.close

    def close_slowly(writer: BlobWriter) -> None:
        time.sleep(0.1)
        close(writer)

    monkeypatch.setattr(BlobWriter, "close", close_slowly)
    # Uploads need nothing of the cluster's state.
    service = ProjectService(cast(Backend, None), Blobs(tmp_path))

    async def chunks() -> AsyncIterator[pb.UploadBlobsRequest]:
        yield pb.UploadBlobsRequest(sha256=b"\0" * 32, size_bytes=5, data=b"other", last=True)

    def left() -> list[Path]:
        return [path for path in tmp_path.rglob("*") if path.is_file()]

    async def upload() -> list[Path]:
        set_caller(Caller("ana"))
        with pytest.raises(DataLoss):
            await service.UploadBlobs(chunks(), None)
        return left()

    assert asyncio.run(upload()) == []
