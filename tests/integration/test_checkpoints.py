"""Whoever has just written a checkpoint loses least, and so makes room first."""

from __future__ import annotations

from dataclasses import replace

from riseml.v1 import state_pb2
from tests.integration.cluster import running_cluster, spec, submit, wait_for, wait_state

RUNNING, FINISHED = state_pb2.STATE_RUNNING, state_pb2.STATE_FINISHED


def test_the_job_with_the_newest_checkpoint_makes_room() -> None:
    with running_cluster(node=False) as cluster:
        config = cluster.home / "noded.toml"
        config.write_text("checkpoint_seconds = 1\n")
        node = cluster.start_node(
            options=("--config", str(config), "--debug", "--simulate-gpus", "2xH100")
        )
        client = cluster.client()
        # The older one has more to lose, but for its checkpoint.
        saving = submit(
            client,
            spec("sleep 4", "echo x > $OUTPUT_DIR/last.ckpt", "sleep 300", gpu_milli=1000),
        )
        wait_state(client, saving, RUNNING)
        other = submit(client, spec("sleep 300", gpu_milli=1000))
        wait_state(client, other, RUNNING)
        wait_for(
            lambda: f"{saving}.train.1-1 wrote a checkpoint" in node.log(), "the daemon to see it"
        )
        urgent = submit(client, replace(spec("true", gpu_milli=1000), priority=90))
        wait_state(client, urgent, FINISHED)
        wait_state(client, saving, RUNNING)
        generations = [client.experiments.get(e).experiment.generation for e in (saving, other)]
        assert generations == [2, 1]
