"""Makes ``riseml/v1`` from ``proto/riseml/v1``, or tells whether the two have drifted apart.

``python dev/stubs.py write`` regenerates; ``... check`` regenerates aside and compares.

The types come from mypy-protobuf, not from protoc's own ``--pyi_out``: its message types pass mypy
strict, tell one enum from another, and carry the contract's comments as docstrings. Services are
typed for grpc.aio, which is all that RiseML's own code uses.
"""

from __future__ import annotations

import argparse
import filecmp
import sys
import tempfile
from pathlib import Path

import grpc_tools
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PROTO_ROOT = ROOT / "proto"
PACKAGE = Path("riseml", "v1")


class StubsNotMade(RuntimeError):
    """protoc refused the contract; it has printed why."""


def generate(into: Path) -> None:
    """Writes the stubs of every proto file below ``into``, as ``riseml/v1/...``."""
    beside_python = Path(sys.executable).parent
    arguments = [
        "protoc",
        f"--plugin=protoc-gen-mypy={beside_python / 'protoc-gen-mypy'}",
        f"--plugin=protoc-gen-mypy_grpc={beside_python / 'protoc-gen-mypy_grpc'}",
        f"--proto_path={PROTO_ROOT}",
        f"--proto_path={Path(grpc_tools.__file__).parent / '_proto'}",
        f"--python_out={into}",
        f"--grpc_python_out={into}",
        f"--mypy_out=quiet:{into}",
        f"--mypy_grpc_out=quiet,only_async:{into}",
        *sorted(str(path) for path in (PROTO_ROOT / PACKAGE).glob("*.proto")),
    ]
    if protoc.main(arguments) != 0:
        raise StubsNotMade("protoc refused the contract")
    # A resource file has no service, and protoc's empty *_pb2_grpc.py for it is only clutter.
    for path in (into / PACKAGE).glob("*_pb2_grpc.py*"):
        if not path.name.endswith(("_service_pb2_grpc.py", "_service_pb2_grpc.pyi")):
            path.unlink()


def stubs_in(root: Path) -> dict[str, Path]:
    """The generated files below ``root`` by name."""
    return {path.name: path for path in (root / PACKAGE).glob("*_pb2*.py*") if path.is_file()}


def differences(made: Path) -> list[str]:
    """What separates the committed stubs from those under ``made``, a line for each file."""
    committed, fresh = stubs_in(ROOT), stubs_in(made)
    lines = [f"missing: {PACKAGE / name}" for name in sorted(fresh.keys() - committed.keys())]
    lines += [f"left over: {PACKAGE / name}" for name in sorted(committed.keys() - fresh.keys())]
    for name in sorted(fresh.keys() & committed.keys()):
        if not filecmp.cmp(committed[name], fresh[name], shallow=False):
            lines.append(f"differs: {PACKAGE / name}")
    return lines


def write(made: Path) -> None:
    """Puts the stubs under ``made`` in place of the committed ones; equal files stay untouched."""
    committed, fresh = stubs_in(ROOT), stubs_in(made)
    for name in committed.keys() - fresh.keys():
        committed[name].unlink()
    for name, path in fresh.items():
        target = ROOT / PACKAGE / name
        content = path.read_bytes()
        if not target.exists() or target.read_bytes() != content:
            target.write_bytes(content)


def main() -> int:
    """Runs one of the two actions; the exit status is 1 if the stubs have drifted."""
    parser = argparse.ArgumentParser(description="stubs of the contract")
    parser.add_argument("action", choices=("write", "check"))
    action = parser.parse_args().action
    with tempfile.TemporaryDirectory(prefix="riseml-stubs-") as folder:
        made = Path(folder)
        try:
            generate(made)
        except StubsNotMade as error:
            sys.stderr.write(f"error: {error}\n")
            return 1
        if action == "write":
            write(made)
            return 0
        drift = differences(made)
    if drift:
        sys.stderr.write("\n".join(["stubs are not those of proto/ (run: make proto)", *drift, ""]))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
