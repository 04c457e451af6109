"""Slurm on one node, for comparison: munge, slurmctld and slurmd with a small configuration in a
temporary folder, tuned for many short jobs as far as its documentation goes
(https://slurm.schedmd.com/high_throughput.html)."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from benchmarks.harness import BenchmarkError, Options, wait_for
from benchmarks.report import Row, Sample, percentile

PROGRAMS: Final = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "sinfo")
SLOTS: Final = 64
CONFIG: Final = """
ClusterName=bench
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CredType=cred/munge
CryptoType=crypto/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmctldDebug=error
SlurmdDebug=error
SlurmdParameters=config_overrides
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
MaxJobCount=20000
MinJobAge=300
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/builtin
SchedulerParameters=sched_interval=1,sched_min_interval=0,batch_sched_delay=0,max_rpc_cnt=0
NodeName={host} NodeAddr=127.0.0.1 CPUs={slots} RealMemory=1000 State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
"""


def installed() -> bool:
    """Whether all of it is here, and we may run it (as root)."""
    paths = os.environ["PATH"] + ":/usr/sbin:/sbin"
    return os.geteuid() == 0 and all(shutil.which(p, path=paths) for p in PROGRAMS)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        ports = []
        for _ in range(count):
            listener = stack.enter_context(socket.socket())
            listener.bind(("127.0.0.1", 0))
            ports.append(int(listener.getsockname()[1]))
        return ports


def _run(*command: str, env: dict[str, str]) -> str:
    done = subprocess.run(
        command, env=env, capture_output=True, text=True, check=False, timeout=120
    )
    if done.returncode != 0:
        raise BenchmarkError(f"{command[0]}: {done.stderr.strip()}")
    return done.stdout


@contextlib.contextmanager
def running() -> Iterator[tuple[Path, dict[str, str]]]:
    """A Slurm of our own: its folder and the environment that reaches it."""
    folder = Path(tempfile.mkdtemp(prefix="riseml-bench-slurm-"))
    folder.chmod(0o755)
    for name in ("munge", "state", "spool", "out"):
        (folder / name).mkdir(mode=0o755)
    key = folder / "munge" / "key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    host = socket.gethostname().partition(".")[0]
    ports = _free_ports(2)
    (folder / "slurm.conf").write_text(
        CONFIG.format(host=host, folder=folder, ports=ports, slots=SLOTS)
    )
    env = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}
    env["PATH"] = env["PATH"] + ":/usr/sbin:/sbin"
    munge = ["munged", "-F", f"--key-file={key}", f"--socket={folder}/munge/socket", "--force"]
    munge += [f"--pid-file={folder}/munge/pid", f"--log-file={folder}/munge/log"]
    munge += [f"--seed-file={folder}/munge/seed"]
    started: list[subprocess.Popen[bytes]] = []
    try:
        with (folder / "output").open("wb") as output:
            for command in (munge, ["slurmctld", "-D"], ["slurmd", "-D", "-N", host]):
                started.append(
                    subprocess.Popen(
                        command, env=env, stdout=output, stderr=output, start_new_session=True
                    )
                )
                time.sleep(0.5)

            def ready() -> bool:
                if any(process.poll() is not None for process in started):
                    raise BenchmarkError((folder / "output").read_text()[-1000:])
                answer = subprocess.run(
                    ["sinfo", "-h", "-o", "%t"],
                    env=env,
                    capture_output=True,
                    text=True,
                    check=False,
                )
                return answer.stdout.strip() == "idle"

            wait_for(ready, "Slurm's node to be idle", 30)
            yield folder, env
    finally:
        for process in reversed(started):
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _wait_empty(env: dict[str, str]) -> None:
    wait_for(lambda: not _run("squeue", "-h", "-o", "%i", env=env).strip(), "Slurm's queue", 240)


def _array(folder: Path, env: dict[str, str], count: int) -> float:
    script = folder / "true.sh"
    script.write_text("#!/bin/sh\ntrue\n")
    begin = time.perf_counter()
    output = f"{folder}/out/%A-%a"
    _run("sbatch", f"--array=1-{count}", "-n1", "-o", output, str(script), env=env)
    _wait_empty(env)
    return time.perf_counter() - begin


def _single(folder: Path, env: dict[str, str]) -> float:
    script = folder / "date.sh"
    script.write_text("#!/bin/sh\nexec date +%s.%N\n")
    file = folder / "out" / "single"
    file.unlink(missing_ok=True)
    begin = time.time()
    _run("sbatch", "-n1", "-o", str(file), str(script), env=env)
    wait_for(lambda: file.exists() and file.read_text().strip(), "the job", 60)
    return (float(file.read_text()) - begin) * 1e3


def measure(options: Options) -> list[Row]:
    """An array of `true`, and single jobs."""
    count = options.count(1_000, 100)
    rates, half, most = [], [], []
    with running() as (folder, env):
        version = _run("sinfo", "--version", env=env).strip()
        for _ in range(options.repeats):
            rates.append(count / _array(folder, env, count))
            started = [_single(folder, env) for _ in range(options.count(15, 5))]
            half.append(percentile(started, 50))
            most.append(percentile(started, 95))
    return [
        Row(f"{version}: {count:,} `true` jobs of one array, 64 slots", Sample("/s", tuple(rates))),
        Row(
            f"{version}: submit to the job's own look at the clock, p50", Sample("ms", tuple(half))
        ),
        Row(
            f"{version}: submit to the job's own look at the clock, p95", Sample("ms", tuple(most))
        ),
    ]
