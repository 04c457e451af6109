"""The table is whole: every command can be loaded, explained and told apart."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

from shell.command import Command, Count
from shell.help import WIDTH, command_help, group_help, overview
from shell.parser import GLOBAL_OPTIONS
from shell.table import GROUPS, TABLE

EXPECTED = """
up init train status logs kill monitor whoami ls cp rm pull version help
system_info system_test user_create user_list user_disable user_enable user_display user_login
project_list node_list node_show node_cordon node_uncordon node_drain node_forget node_token_create
""".split()


@pytest.mark.parametrize("name", EXPECTED)
def test_command_is_there(name: str) -> None:
    assert any("_".join(command.path) == name for command in TABLE)


@pytest.mark.parametrize("command", TABLE, ids=lambda command: command.name)
def test_command_has_a_function_that_takes_context_and_values(command: Command) -> None:
    assert list(inspect.signature(command.load()).parameters) == ["context", "values"]


@pytest.mark.parametrize("command", TABLE, ids=lambda command: command.name)
def test_help_fits_and_names_every_option(command: Command) -> None:
    text = command_help(command)
    for option in (*command.options, *GLOBAL_OPTIONS):
        assert option.flags[-1] in text
    body = text.split("\n", 1)[1]
    assert all(len(line) <= WIDTH for line in body.splitlines())


@pytest.mark.parametrize("command", TABLE, ids=lambda command: command.name)
def test_flags_and_names_are_unique(command: Command) -> None:
    flags = [f for option in (*command.options, *GLOBAL_OPTIONS) for f in option.flags]
    assert len(flags) == len(set(flags))
    names = [o.name for o in command.options] + [a.name for a in command.arguments]
    assert len(names) == len(set(names))
    open_ended = [a for a in command.arguments if a.count in (Count.ANY, Count.SOME)]
    assert len(open_ended) <= 1


def test_paths_are_unique() -> None:
    assert len({command.path for command in TABLE}) == len(TABLE)


def test_overview_names_every_command() -> None:
    text = overview()
    assert all(command.name in text for _, commands in GROUPS for command in commands)
    assert "node token create" in group_help("node", [c for c in TABLE if c.path[0] == "node"])


def test_help_and_typing_errors_load_nothing_heavy() -> None:
    script = (
        "import sys\n"
        "from shell.__main__ import main\n"
        "status = main(['help']), main(['trian'])\n"
        "heavy = {'grpc', 'google.protobuf', 'rich', 'prompt_toolkit', 'yaml'} & set(sys.modules)\n"
        "sys.exit(0 if status == (0, 2) and not heavy else f'{status} {heavy}')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
