"""What monitor shows."""

from __future__ import annotations

from riseml.v1 import node_pb2, state_pb2, telemetry_pb2
from shell.load import Rows, gpu_rows, gpus_of, job_rows, node_rows
from shell.run import OK
from tests.unit.sdk.fake_cluster import FakeCluster, one
from tests.unit.shell.conftest import CommandLine

NODE = node_pb2.Node(
    name="n1",
    state=node_pb2.NODE_STATE_READY,
    cpu_milli=4000,
    memory_bytes=8 << 30,
    gpus=[
        node_pb2.Gpu(
            uuid="g0",
            index=0,
            model="H100",
            memory_bytes=80 << 30,
            health=node_pb2.GPU_HEALTH_HEALTHY,
        ),
        node_pb2.Gpu(
            uuid="g1", index=1, model="H100", memory_bytes=80 << 30, health=node_pb2.GPU_HEALTH_LOST
        ),
    ],
    gpu_allocations=[
        node_pb2.GpuAllocation(gpu_uuid="g0", attempt_id="ana.1.train.1-1", milli=500)
    ],
)
SAMPLE = telemetry_pb2.NodeSample(
    node_name="n1",
    host=telemetry_pb2.HostSample(
        cpu_percent=37.5, memory_total_bytes=8 << 30, memory_available_bytes=6 << 30
    ),
    gpus=[
        telemetry_pb2.GpuSample(
            gpu_uuid="g0",
            utilization_percent=90,
            memory_used_bytes=40 << 30,
            power_milliwatts=350_000,
            power_limit_milliwatts=700_000,
            temperature_celsius=61,
            throttle_reasons=["hw_thermal_slowdown"],
        ),
        telemetry_pb2.GpuSample(gpu_uuid="g1"),
    ],
    attempts=[
        telemetry_pb2.AttemptSample(
            attempt_id="ana.1.train.1-1", cpu_percent=150, memory_bytes=1 << 30
        )
    ],
)


def as_dicts(rows: Rows) -> list[dict[str, str]]:
    return [dict(zip(rows.titles, row, strict=True)) for row in rows.rows]


def test_node_shows_load_and_what_is_given_out() -> None:
    (row,) = as_dicts(node_rows([NODE], {"n1": SAMPLE}))
    assert row["CPU"] == "38%" and row["MEMORY USED"] == "2Gi/8Gi"
    assert row["GPU"] == "90%" and row["GPU POWER"] == "350W" and row["HOTTEST"] == "61C"


def test_node_without_a_sample_is_unknown_not_idle() -> None:
    (row,) = as_dicts(node_rows([NODE], {}))
    assert row["CPU"] == row["GPU"] == row["DISK FREE"] == "-"


def test_each_gpu_has_its_row_and_lost_ones_do_not_hide_others() -> None:
    first, second = as_dicts(gpu_rows([NODE], {"n1": SAMPLE}))
    assert first["USED"] == "90%" and first["POWER"] == "350/700W"
    assert first["SLOWED BY"] == "hw_thermal_slowdown"
    assert first["GIVEN TO"] == "ana.1.train.1-1 (0.5)"
    assert second["HEALTH"] == "LOST" and second["USED"] == second["MEMORY"] == "-"


def test_job_shows_what_it_uses_of_what_it_asked_for() -> None:
    made = one("ana.1")
    made.jobs[0].resources.cpu_milli = 2000
    made.jobs[0].resources.memory_bytes = 4 << 30
    made.jobs[0].attempts[0].gpus.add(gpu_uuid="g0", milli=500)
    (row,) = as_dicts(job_rows([made], [NODE], {"n1": SAMPLE}))
    assert (row["CPU"], row["CPUS ASKED"]) == ("150%", "2")
    assert (row["MEMORY"], row["MEMORY ASKED"]) == ("1Gi", "4Gi")
    assert (row["GPU"], row["GPU MEMORY"]) == ("90%", "40Gi/80Gi")
    assert gpus_of([made]) == {"g0"}


def test_job_that_waits_has_no_row() -> None:
    assert not job_rows([one("ana.1", state_pb2.STATE_PENDING)], [NODE], {}).rows


def test_monitor_once_prints_a_picture(line: CommandLine, cluster: FakeCluster) -> None:
    cluster.nodes, cluster.samples = [NODE], [SAMPLE]
    cluster.put(one("ana.1"))
    assert line.run("monitor", "--once") == OK
    assert "38%" in line.out
    assert line.run("monitor", "1", "--once") == OK
    assert "150%" in line.out
    assert line.run("monitor", "--gpu", "--format", "csv") == OK
    assert line.out.startswith("node,gpu,model,")
