"""A node that is connected and does not say how it is gets nothing new to run."""

from __future__ import annotations

import contextlib

from riseml.v1 import node_pb2, state_pb2
from tests.integration.cluster import running_cluster, spec, submit, wait_for, wait_state
from tests.integration.scripted_daemon import ScriptedDaemon


def test_a_silent_node_gets_nothing_new_until_its_samples_come_again() -> None:
    options = ("--telemetry-late-seconds", "2", "--heartbeat-seconds", "0.2")
    with running_cluster(*options, node=False) as cluster:
        client = cluster.client()
        daemon = ScriptedDaemon(cluster, "n9")
        with contextlib.closing(daemon):

            def late(*, sampling: bool) -> node_pb2.Node:
                """The node, after another word of it."""
                if sampling:
                    daemon.sample()
                daemon.heartbeat()
                return client.nodes.get("n9")

            assert not late(sampling=False).telemetry_late, "it just came"
            silent = wait_for(
                lambda: node if (node := late(sampling=False)).telemetry_late else None,
                "its telemetry to be late",
            )
            assert silent.state == node_pb2.NODE_STATE_READY, "its heartbeats are heard"
            waiting = submit(client, spec("true"))

            def reasons() -> list[str]:
                late(sampling=False)
                return list(client.experiments.get(waiting).experiment.pending_reasons)

            (reason, *_) = wait_for(reasons, "a reason to wait")
            assert "n9 late with its telemetry" in reason
            wait_for(lambda: not late(sampling=True).telemetry_late, "its samples to count")
            wait_state(client, waiting, state_pb2.STATE_STARTING)


def test_a_real_node_without_gpus_is_never_late() -> None:
    options = ("--telemetry-late-seconds", "4")
    with running_cluster(*options) as cluster:
        client = cluster.client()
        # Longer than its patience: each of these jobs takes a second and a bit.
        for _ in range(5):
            experiment = submit(client, spec("sleep 1"))
            wait_state(client, experiment, state_pb2.STATE_FINISHED)
            assert not client.nodes.get("n1").telemetry_late
        assert "is late" not in cluster.control_plane.log()
