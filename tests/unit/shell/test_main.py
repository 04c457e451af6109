"""The program as it is started: one command, a line, a script, the prompt."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document
from prompt_toolkit.history import FileHistory

from riseml.credentials import load
from shell.completion import Known
from shell.known import KnownNames, ask
from shell.prompt import TableCompleter, open_history, run_line, toolbar
from shell.run import FAILED, OK, USAGE
from tests.unit.sdk.fake_cluster import API_KEY, FakeCluster, one
from tests.unit.shell.conftest import CommandLine

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def environ(address: str, tmp_path: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "RISEML_CONFIG_DIR": str(tmp_path / "config"),
        "RISEML_SERVER": address,
        "RISEML_API_KEY": API_KEY,
    }


def riseml(
    environ: dict[str, str], *words: str, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "shell", *words],
        env=environ,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=50,
    )


def test_command_ends_with_its_status(environ: dict[str, str]) -> None:
    done = riseml(environ, "whoami")
    assert (done.returncode, done.stderr) == (OK, "")
    assert done.stdout.startswith("user    ana\n")
    assert riseml(environ, "whomi").returncode == USAGE


def test_line_after_c_is_run(environ: dict[str, str]) -> None:
    assert riseml(environ, "-c", "user list --format csv").stdout.startswith("name,role,")
    assert riseml(environ, "-c").returncode == USAGE


def test_script_on_standard_input_stops_at_the_first_failure(environ: dict[str, str]) -> None:
    script = "# who\nwhoami\n\nstatus banana.x\nwhoami\n"
    done = riseml(environ, stdin=script)
    assert done.returncode == USAGE and done.stdout.count("user    ana") == 1
    assert riseml(environ, stdin="exit\nwhomi\n").returncode == OK


def test_nobody_there_is_told_without_a_traceback(environ: dict[str, str]) -> None:
    done = riseml(environ | {"RISEML_SERVER": "127.0.0.1:1"}, "status")
    assert done.returncode == FAILED
    assert "riseml up" in done.stderr and "Traceback" not in done.stderr


def test_closed_pipe_ends_quietly(environ: dict[str, str]) -> None:
    done = subprocess.run(
        ["sh", "-c", f"{sys.executable} -P -m shell help | true"],
        env=environ,
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""


def test_closed_streams_are_no_error_of_ours(environ: dict[str, str]) -> None:
    """As where a service manager or ``>&-`` starts us."""
    for closed, shown in ((">&-", ""), ("2>&-", "user    ana\n"), ("<&-", "user    ana\n")):
        done = subprocess.run(
            ["sh", "-c", f'"$0" -P -m shell whoami {closed}', sys.executable],
            env=environ,
            capture_output=True,
            text=True,
            timeout=50,
        )
        assert (done.returncode, done.stderr) == (OK, "")
        assert done.stdout.startswith(shown)


def test_what_the_encoding_lacks_is_replaced(environ: dict[str, str], cluster: FakeCluster) -> None:
    made = one("ana.1")
    made.parameters.add(name="name", value="ü")
    cluster.put(made)
    done = riseml(environ | {"PYTHONIOENCODING": "ascii"}, "status")
    assert done.returncode == OK and "name=?" in done.stdout


def test_login_tries_the_key_and_stores_it(environ: dict[str, str], address: str) -> None:
    for name in ("RISEML_SERVER", "RISEML_API_KEY"):
        del environ[name]
    wrong = riseml(environ, "user", "login", address, stdin="wrong\n")
    assert wrong.returncode == FAILED and "not known" in wrong.stderr
    done = riseml(environ, "user", "login", address, stdin=f"{API_KEY}\n")
    assert done.returncode == OK and API_KEY not in done.stdout + done.stderr
    found = load(environ)
    assert (found.server, found.api_key, found.user) == (address, API_KEY, "ana")
    assert riseml(environ, "user", "login", address, stdin="").returncode == USAGE


def test_prompt_line_survives_whatever_goes_wrong(line: CommandLine) -> None:
    run_line(line.context, "whoami 'open")
    assert "quotation" in line.err
    run_line(line.context, "riseml whoami")
    assert "user    ana" in line.out


def test_known_names_come_from_the_cluster(line: CommandLine, cluster: FakeCluster) -> None:
    cluster.put(one("ana.17"))
    names = KnownNames(line.context)
    assert toolbar(names) == "not connected: 'user login' or, in another terminal, 'riseml up'"
    names.now = Known(experiments=(("17", "digits RUNNING"),), user="ana", server="host:1")
    assert toolbar(names) == "ana at host:1"
    (line.folder / "a b").touch()
    completer = TableCompleter(line.context, names)

    def texts(text: str) -> list[tuple[str, int]]:
        found = completer.get_completions(Document(text), CompleteEvent())
        return [(c.text, c.start_position) for c in found]

    assert texts("kill 1") == [("17 ", -1)]
    assert texts("train -f a") == [("'a b' ", -1)]
    assert texts("train -f 'a ") == [("a b", -2)]


def test_names_are_asked_for_in_one_go(line: CommandLine, cluster: FakeCluster) -> None:
    cluster.put(one("ana.17"))
    known = ask(line.context)
    assert known.experiments == (("17", "digits RUNNING"),) and known.user == "ana"


def test_history_is_private(line: CommandLine) -> None:
    history = open_history(line.context)
    assert isinstance(history, FileHistory)
    assert Path(str(history.filename)).stat().st_mode & 0o777 == 0o600
