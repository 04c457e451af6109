"""Makes docs/reference from what the pages describe, or tells which page is out of date.

``python dev/reference.py write`` makes the pages; ``... check`` compares and changes nothing.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Final, TypeVar

from google.protobuf import descriptor_pb2

from controlplane.domain.states import ATTEMPT_TRANSITIONS, TRANSITIONS
from riseml.spec.reference import render_reference
from shell.help import command_help, overview
from shell.table import GROUPS

ROOT: Final = Path(__file__).resolve().parent.parent
FOLDER: Final = ROOT / "docs" / "reference"
AnyState = TypeVar("AnyState", bound=Enum)

MADE: Final = "<!-- Made by `make reference`; change {source} instead. -->"


def commands_page() -> str:
    """Every command of the CLI and the prompt, from the table that both share."""
    lines = [
        "# Commands",
        "",
        MADE.format(source="shell/table.py"),
        "",
        "The same words work as `riseml COMMAND` and at the `riseml>` prompt.",
        "",
        *fenced(overview()),
    ]
    for title, commands in GROUPS:
        lines += [f"## {title}", ""]
        for command in commands:
            lines += [f"### {command.name}", "", *fenced(command_help(command))]
    return "\n".join(lines)


def fenced(text: str) -> list[str]:
    """Text as it stands in a terminal."""
    return ["```text", *text.splitlines(), "```", ""]


def states_page() -> str:
    """The life cycle, from the tables of transitions."""
    lines = [
        "# States",
        "",
        MADE.format(source="controlplane/domain/states.py"),
        "",
        "A change that is not in these tables cannot happen: it raises and changes nothing.",
        "",
        "## Experiments and jobs",
        "",
        *transitions(TRANSITIONS),
        "## Attempts",
        "",
        "One try of one job on one node. It never goes back: a new try is a new attempt.",
        "",
        *transitions(ATTEMPT_TRANSITIONS),
    ]
    return "\n".join(lines)


def transitions(table: Mapping[AnyState, frozenset[AnyState]]) -> list[str]:
    """A row for each state and what may follow it."""
    order = list(table)
    rows = ["| state | may become |", "| --- | --- |"]
    for state, followers in table.items():
        names = ", ".join(f.name for f in order if f in followers)
        rows.append(f"| {state.name} | {names or '(final)'} |")
    return [*rows, ""]


def contract_page() -> str:
    """Services and their calls with the contract's own comments."""
    built = subprocess.run(
        [str(Path(sys.executable).parent / "buf"), "build", "--as-file-descriptor-set", "-o", "-"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    files = descriptor_pb2.FileDescriptorSet.FromString(built).file
    lines = [
        "# The contract",
        "",
        MADE.format(source="proto/riseml/v1"),
        "",
        "gRPC package `riseml.v1`. Fields and their meaning stand in the proto files themselves;"
        " health and reflection are served beside these services.",
        "",
    ]
    for file in sorted(files, key=lambda f: f.name):
        if file.package == "riseml.v1":
            lines += services_of(file)
    return "\n".join(lines)


def services_of(file: descriptor_pb2.FileDescriptorProto) -> Iterator[str]:
    """The sections of one proto file."""
    service_field, method_field = 6, 2
    comments = {
        tuple(place.path): " ".join(place.leading_comments.split())
        for place in file.source_code_info.location
    }
    for index, service in enumerate(file.service):
        yield from (f"## {service.name}", "")
        yield from (comments.get((service_field, index), ""), "")
        yield from ("| call | sends | answers | meaning |", "| --- | --- | --- | --- |")
        for number, method in enumerate(service.method):
            meaning = comments.get((service_field, index, method_field, number), "")
            sends = "stream" if method.client_streaming else "one message"
            answers = "stream" if method.server_streaming else "one message"
            yield f"| `{method.name}` | {sends} | {answers} | {meaning.replace('|', '/')} |"
        yield ""


PAGES: Final[Mapping[str, Callable[[], str]]] = {
    "commands.md": commands_page,
    "contract.md": contract_page,
    "riseml-yml.md": render_reference,
    "states.md": states_page,
}


def main() -> int:
    """Runs one of the two actions; the exit status is 1 if a page is out of date."""
    parser = argparse.ArgumentParser(description="pages of docs/reference")
    parser.add_argument("action", choices=("write", "check"))
    action = parser.parse_args().action
    FOLDER.mkdir(parents=True, exist_ok=True)
    stale = []
    for name, make in PAGES.items():
        path, text = FOLDER / name, make()
        if path.exists() and path.read_text("utf-8") == text:
            continue
        stale.append(name)
        if action == "write":
            path.write_text(text, "utf-8")
    if action == "check" and stale:
        sys.stderr.write(f"out of date (run: make reference): {', '.join(stale)}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
