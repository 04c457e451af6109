"""A daemon tells its control plane of checkpoints in the output of a job."""

from __future__ import annotations

from riseml.v1 import daemon_pb2
from tests.integration.noded.conftest import MakeOrder, RunningDaemon
from tests.integration.noded.fake_control_plane import FakeControlPlane


async def test_the_daemon_tells_of_checkpoints_and_again_after_a_break(
    control_plane: FakeControlPlane, daemon: RunningDaemon, make_order: MakeOrder
) -> None:
    config = daemon.home / "noded.toml"
    config.write_text("checkpoint_seconds = 1\n")
    await daemon.connected("--config", str(config))
    order = make_order(1, "sleep 0.1; echo x > $OUTPUT_DIR/last.ckpt", "sleep 60")
    control_plane.order(order)

    def told(times: int) -> bool:
        return len(control_plane.checkpoints) >= times

    await control_plane.until(lambda: told(1))
    first: daemon_pb2.CheckpointSeen = control_plane.checkpoints[0]
    assert first.attempt_id == order.attempt_id
    written = (daemon.home / "output" / "ana" / "digits" / "1" / "last.ckpt").stat().st_mtime
    assert abs(first.checkpoint_time.ToNanoseconds() / 1e9 - written) < 0.001
    port = control_plane.port
    await control_plane.stop()
    await control_plane.start(port)
    await control_plane.until(lambda: told(2))
    # A new daemon finds the job and what it wrote.
    await daemon.stop()
    await daemon.connected("--config", str(config))
    await control_plane.until(lambda: told(3))
    assert set(map(str, control_plane.checkpoints)) == {str(first)}
