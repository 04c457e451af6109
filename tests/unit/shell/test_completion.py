"""What can come next on a line."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from shell.completion import Known, Suggestion, complete, last_word
from shell.table import TABLE

KNOWN = Known(
    experiments=(("17", "digits RUNNING"), ("18", "digits FINISHED"), ("9", "cats FAILED")),
    nodes=(("n1", "READY"), ("n2", "LOST")),
    taints=(("dedicated", "of n1"), ("spot", "of n1, n2")),
    queues=(("default", ""), ("research", "")),
    users=(("ana", ""), ("bob", "")),
    projects=(("digits", ""), ("cats", "")),
)
FILES = {"": ["train.py", "src/", ".hidden", "a b"], "src/": ["model.py"]}


def list_files(folder: str) -> Iterable[str]:
    return FILES.get(folder, [])


def suggest(line: str) -> list[str]:
    return [s.text for s in complete(line, TABLE, KNOWN, list_files)]


@pytest.mark.parametrize(
    ("line", "texts"),
    [
        ("tr", ["train"]),
        ("user ", ["login", "create", "list", "display", "disable", "enable", "key"]),
        ("user key ", ["create", "delete"]),
        ("user d", ["display", "disable"]),
        ("kill ", ["17", "18", "9"]),
        ("kill 1", ["17", "18"]),
        ("kill 17 ", ["18", "9"]),
        ("logs 17 ", []),
        ("logs -f ", ["17", "18", "9"]),
        ("logs --tail ", []),
        ("logs --tail 5 1", ["17", "18"]),
        ("logs --f", ["--follow", "--format"]),
        ("logs -f --f", ["--format"]),
        ("status --format ", ["table", "json", "csv"]),
        ("status -p ", ["digits", "cats"]),
        ("status -u b", ["bob"]),
        ("node cordon n", ["n1", "n2"]),
        ("queue ", ["list", "show", "create", "update", "delete"]),
        ("queue update ", ["default", "research"]),
        ("queue delete r", ["research"]),
        ("queue create ", []),
        ("queue update default --placement ", ["pack", "spread"]),
        ("node taint n", ["n1", "n2"]),
        ("node taint n1 ", []),
        ("node untaint n1 ", ["dedicated", "spot"]),
        ("node untaint n1 spot ", ["dedicated"]),
        ("train -f ", ["a b", "src/", "train.py"]),
        ("train -f .", [".hidden"]),
        ("train -f src/", ["src/model.py"]),
        ("cp ", ["data://", "output://", "a b", "src/", "train.py"]),
        ("cp tr", ["train.py"]),
        ("cp out", ["output://"]),
        ("cp output://1", ["output://17/", "output://18/"]),
        ("cp 'a ", ["a b"]),
        ("help us", ["user"]),
        ("help user k", ["key"]),
        ("whoami ", []),
        ("nonsense ", []),
    ],
)
def test_suggestions(line: str, texts: list[str]) -> None:
    assert suggest(line) == texts


def test_everything_is_offered_on_an_empty_line() -> None:
    assert set(suggest("")) == {command.path[0] for command in TABLE}


def test_experiments_come_with_what_they_are() -> None:
    found = complete("logs 9", TABLE, KNOWN, list_files)
    assert found == [Suggestion("9")] and found[0].note == "cats FAILED"


@pytest.mark.parametrize(
    ("line", "last"), [("", ""), ("kill ", ""), ("kill 1", "1"), ("cp 'a b", "a b")]
)
def test_word_at_the_cursor(line: str, last: str) -> None:
    assert last_word(line) == last
