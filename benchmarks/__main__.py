"""Runs benchmarks and prints the table; see the package's docstring."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
from pathlib import Path
from typing import Final

from benchmarks import peers, profiles
from benchmarks.harness import BenchmarkError, Options
from benchmarks.report import Report, machine_line, placed

NAMES: Final = (
    "machine",
    "create",
    "throughput",
    "latency",
    "turnover",
    "logs",
    "fanin",
    "memory",
    "scheduler",
)
# Only when it is named: it needs a Kubernetes.
ON_REQUEST: Final = ("pods",)


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"of {', '.join((*NAMES, *ON_REQUEST))}"
    )
    parser.add_argument("--quick", action="store_true", help="fewer and shorter: to try it out")
    parser.add_argument("--repeats", type=int, default=3, metavar="N")
    parser.add_argument("--peers", action="store_true", help="HyperQueue and Slurm beside us")
    parser.add_argument("--profile", metavar="DIR", type=Path, help="control plane under cProfile")
    parser.add_argument("--dir", metavar="DIR", type=Path, help="where homes are made")
    parser.add_argument("--json", metavar="FILE", type=Path)
    parser.add_argument(
        "--markdown",
        metavar="FILE",
        type=Path,
        help="such as docs/performance.md, between its marks",
    )
    given = parser.parse_args(arguments)
    known = (*NAMES, *ON_REQUEST)
    unknown = [name for name in given.names if name not in known]
    if unknown:
        parser.error(f"no benchmark {unknown[0]!r}; there are {', '.join(known)}")
    return given


def main(arguments: list[str]) -> int:
    """Exit status 0 where nothing failed; a missed figure is said, not an error."""
    given = parse(arguments)
    options = Options(quick=given.quick, repeats=given.repeats, profiles=given.profile)
    if given.dir:
        options = Options(given.quick, given.repeats, given.dir, given.profile)
    if given.profile:
        given.profile.mkdir(parents=True, exist_ok=True)
    report = Report(machine_line())
    failed = False
    for name in given.names or NAMES:
        sys.stderr.write(f"{name} ...")
        sys.stderr.flush()
        begin = time.monotonic()
        try:
            report.rows += importlib.import_module(f"benchmarks.{name}").measure(options)
        except BenchmarkError as fault:
            failed = True
            report.remarks.append(f"{name} FAILED: {fault}")
        sys.stderr.write(f" {time.monotonic() - begin:.0f} s\n")
    if given.peers:
        rows, remarks = peers.measure(options)
        report.rows += rows
        report.remarks += remarks
    if report.missed:
        report.remarks.append(f"{len(report.missed)} asked figures were missed")
    sys.stdout.write("\n" + report.text())
    if given.profile:
        sys.stdout.write(profiles.summary(given.profile))
    if given.json:
        given.json.write_text(json.dumps(report.as_json(), indent=2) + "\n")
    if given.markdown:
        page = given.markdown.read_text() if given.markdown.exists() else ""
        given.markdown.write_text(placed(page, report.markdown()))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
