"""Words become commands, and typing errors become advice."""

from __future__ import annotations

import pytest

from shell.command import UsageError
from shell.parser import parse, split_line
from shell.table import TABLE


def read(line: str) -> tuple[str, dict[str, object]]:
    found = parse(split_line(line), TABLE)
    return found.command.name, {k: v for k, v in found.values._values.items() if v}


@pytest.mark.parametrize(
    ("line", "name", "values"),
    [
        ("train", "train", {"file": "riseml.yml"}),
        ("train -f x.yml -d", "train", {"file": "x.yml", "detach": True}),
        ("train --file=x.yml --wait", "train", {"file": "x.yml", "wait": True}),
        ("train -fx.yml", "train", {"file": "x.yml"}),
        ("train -dfx.yml", "train", {"file": "x.yml", "detach": True}),
        ("status -al", "status", {"all": True, "long": True, "limit": 100}),
        ("status 17 -a", "status", {"ID": "17", "all": True, "limit": 100}),
        ("--format json status", "status", {"format": "json", "limit": 100}),
        ("status --format json", "status", {"format": "json", "limit": 100}),
        ("logs 17 -f --tail 5", "logs", {"ID": "17", "follow": True, "tail": 5}),
        ("kill 17 18 -f", "kill", {"ID": ("17", "18"), "force": True}),
        ("kill -- -f", "kill", {"ID": ("-f",)}),
        ("user create bob --admin", "user create", {"NAME": "bob", "admin": True}),
        ("user key create", "user key create", {}),
        ("node token create n1 -o f", "node token create", {"NAME": "n1", "output": "f"}),
        (
            "rm -r data://a 'data://b c'",
            "rm",
            {"PLACE": ("data://a", "data://b c"), "recursive": True},
        ),
        (
            "up --tls-name a --tls-name b",
            "up",
            {"tls_name": ("a", "b"), "port": 7433, "listen": "127.0.0.1"},
        ),
        ("up --port 0", "up", {"listen": "127.0.0.1"}),
        ("help user key", "help", {"COMMAND": ("user", "key")}),
        ("cp a data://b", "cp", {"FROM": "a", "TO": "data://b"}),
        ("cp - data://b", "cp", {"FROM": "-", "TO": "data://b"}),
    ],
)
def test_lines_are_read(line: str, name: str, values: dict[str, object]) -> None:
    found_name, found = read(line)
    assert found_name == name
    assert found == {"format": "table"} | values


@pytest.mark.parametrize(
    ("line", "advice"),
    [
        ("trian", "Did you mean 'train'?"),
        ("user lst", "Did you mean 'user list'?"),
        ("user", "'user' needs one more word: create, disable, display, enable, key, list, login."),
        ("xyzzy", "'help' lists the commands."),
        ("status --al", "Did you mean --all?"),
        ("status --zzz", "'help status' lists its options."),
        ("--zzz status", "There is no option --zzz."),
        ("train -f", "-f needs a value: -f FILE."),
        ("train -d=1", "-d takes no value."),
        ("logs 1 2", "'2' is too much. Usage: logs [ID]"),
        ("cp a", "TO is missing."),
        ("rm", "PLACE is missing."),
        ("logs --tail 0", "write a whole number from 1."),
        ("logs --since yesterday", "10m or 2h"),
        ("up --port 70000", "write a port from 0 to 65535."),
        ("status --format xml", "use one of table, json, csv."),
        ("", "Which command?"),
        ("cp 'a", "No closing quotation"),
    ],
)
def test_typing_errors_get_advice(line: str, advice: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(line)
    assert advice in str(caught.value)


def test_help_needs_no_arguments() -> None:
    found = parse(["cp", "--help"], TABLE)
    assert found.values.flag("help") and found.values.text("FROM") == ""


def test_comments_in_scripts_are_skipped() -> None:
    assert split_line("status -a  # all") == ["status", "-a"]
