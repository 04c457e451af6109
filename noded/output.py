"""What attempts write, on its way to the control plane: logs and results, followed and shipped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from noded.attempt_dir import AttemptDir
from noded.log_transport import ship
from noded.logs.shipper import Shipped, Shipping, StreamKind
from noded.logs.tailer import FileTailer, SegmentTailer
from noded.logs.watch import Watcher
from noded.session import Metadata
from riseml.masking import Mask
from riseml.v1.daemon_service_pb2_grpc import DaemonServiceStub

LAST_LINES: Final = 10
_LAST_BYTES: Final = 16 << 10
MAX_MESSAGE_CHARACTERS: Final = 2000


@dataclass(slots=True)
class _Followed:
    directory: AttemptDir
    mask: Mask
    open_kinds: set[StreamKind] = field(default_factory=lambda: set(StreamKind))


class ShippedOutput:
    """Follows the output of attempts; says when all of one attempt's is where it should be."""

    def __init__(self, on_shipped: Callable[[str], None]) -> None:
        self._on_shipped = on_shipped
        self._watcher = Watcher()
        self._shipping = Shipping(self._watcher, self._took)
        self._followed: dict[str, _Followed] = {}

    async def serve(self, stub: DaemonServiceStub, metadata: Metadata) -> None:
        """Ships over this session's channel until it breaks."""
        await ship(self._shipping, stub, metadata)

    def follow(self, directory: AttemptDir, secrets: tuple[str, ...]) -> None:
        """From now on, from where the control plane has it."""
        attempt_id = directory.attempt_id
        if attempt_id in self._followed:
            return
        self._followed[attempt_id] = _Followed(directory, Mask(secrets))
        self._shipping.open(
            attempt_id,
            StreamKind.OUTPUT,
            SegmentTailer(directory.log_directory),
            watch_path=directory.log_directory,
            acked_path=f"{directory.path}/log.acked",
            mask=Mask(secrets),
        )
        self._shipping.open(
            attempt_id,
            StreamKind.RESULTS,
            FileTailer(directory.results_path),
            watch_path=directory.results_path,
            acked_path=f"{directory.path}/results.acked",
            mask=Mask(secrets),
        )

    def complete(self, attempt_id: str, log_bytes: int, results_bytes: int) -> None:
        """Nothing is written any more; these are the final lengths."""
        self._shipping.end(attempt_id, StreamKind.OUTPUT, log_bytes)
        self._shipping.end(attempt_id, StreamKind.RESULTS, results_bytes)

    def is_shipped(self, attempt_id: str) -> bool:
        """Whether everything is archived, or nobody wants it."""
        followed = self._followed.get(attempt_id)
        return followed is None or not followed.open_kinds

    def drop(self, attempt_id: str) -> None:
        """Its files are about to go."""
        self._shipping.drop(attempt_id)
        self._followed.pop(attempt_id, None)

    def last_lines(self, attempt_id: str) -> str:
        """The end of an attempt's log as text, masked, for people; empty when there is none."""
        followed = self._followed.get(attempt_id)
        if followed is None:
            return ""
        tailer = SegmentTailer(followed.directory.log_directory)
        try:
            start = max(0, tailer.size() - _LAST_BYTES)
            data = b""
            while chunk := tailer.read(start + len(data), ended=True):
                data += chunk
        except OSError as error:
            return f"(the log cannot be read: {error.strerror})"
        finally:
            tailer.close()
        if start:
            data = data[data.find(b"\n") + 1 :]
        lines = followed.mask.log(data, ended=True).split(b"\n")[:-1][-LAST_LINES:]
        text = b"\n".join(line.split(b" ", 3)[-1] for line in lines)
        return text.decode("utf-8", "replace")[-MAX_MESSAGE_CHARACTERS:]

    def _took(self, shipped: Shipped) -> None:
        followed = self._followed.get(shipped.attempt_id)
        if followed is None:
            return
        followed.open_kinds.discard(shipped.kind)
        if not followed.open_kinds:
            self._on_shipped(shipped.attempt_id)

    async def close(self) -> None:
        """Remembers how far everything is."""
        self._shipping.close()
        self._watcher.close()
