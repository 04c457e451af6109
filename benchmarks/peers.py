"""Others that run many jobs, in the same table: HyperQueue and Slurm, where they are installed.

    HyperQueue   python3 -m venv .venv-peers && .venv-peers/bin/pip install hyperqueue
    Slurm        apt-get install --no-install-recommends slurm-wlm munge     (as root, Debian)

They do less or other things than we do (HyperQueue keeps its state in memory unless asked for a
journal; Slurm writes its state every few seconds), so the rows say where we stand, not who is
better.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Final

from benchmarks import slurm
from benchmarks.harness import ROOT, BenchmarkError, Options
from benchmarks.report import Row, Sample, percentile

HYPERQUEUE: Final = (
    "HyperQueue is not installed: python3 -m venv .venv-peers && "
    ".venv-peers/bin/pip install hyperqueue"
)
SLURM: Final = (
    "Slurm is not installed: apt-get install --no-install-recommends slurm-wlm munge (as root)"
)
SLOTS: Final = 64


def measure(options: Options) -> tuple[list[Row], list[str]]:
    """Rows of those that are installed, and how to install the others."""
    rows: list[Row] = []
    remarks: list[str] = []
    python = _python_with_hyperqueue()
    if python is None:
        remarks.append(HYPERQUEUE)
    else:
        rows += _hyperqueue(python, options)
    if not slurm.installed():
        remarks.append(SLURM)
    else:
        try:
            rows += slurm.measure(options)
        except BenchmarkError as fault:
            remarks.append(f"Slurm FAILED: {fault}")
    return rows, remarks


def _python_with_hyperqueue() -> str | None:
    own = ROOT / ".venv-peers" / "bin" / "python"
    if own.exists():
        return str(own)
    return sys.executable if importlib.util.find_spec("hyperqueue") else None


def _hyperqueue(python: str, options: Options) -> list[Row]:
    count = options.count(1_000, 300)
    rates, half, most, version = [], [], [], ""
    script = Path(__file__).parent / "loads" / "hyperqueue_peer.py"
    for _ in range(options.repeats):
        done = subprocess.run(
            [python, str(script), str(count), str(SLOTS)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=300,
            check=False,
        )
        if done.returncode != 0:
            raise BenchmarkError("HyperQueue's run failed")
        result = json.loads(done.stdout.splitlines()[-1])
        rates.append(count / result["seconds"])
        half.append(percentile(result["start_ms"], 50))
        most.append(percentile(result["start_ms"], 95))
        version = result["version"]
    name = f"HyperQueue {version}"
    return [
        Row(
            f"{name}: {count:,} `true` tasks of one array, 64 slots",
            Sample("/s", tuple(rates)),
            notes=("output to files; no journal: its state is in memory only",),
        ),
        Row(
            f"{name}: submit to the process's own look at the clock, p50",
            Sample("ms", tuple(half)),
        ),
        Row(
            f"{name}: submit to the process's own look at the clock, p95",
            Sample("ms", tuple(most)),
        ),
    ]
