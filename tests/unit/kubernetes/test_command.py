"""The supervisor of a container, run by real shells."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from controlplane.launch.kubernetes.command import RESULT_SECONDS, SUPERVISOR, job_command
from controlplane.launch.kubernetes.markers import INSTALL_FAILED_PREFIX
from tests.unit.kubernetes.launching import order

SHELLS = [["dash"], ["bash", "--posix"], ["busybox", "sh"]]
INSTALLED = "--- installed ---"
RESULT = "riseml-result x"


@pytest.fixture(params=SHELLS, ids=lambda words: words[0])
def shell(request: pytest.FixtureRequest) -> list[str]:
    words: list[str] = request.param
    program = shutil.which(words[0])
    if program is None:
        pytest.skip(f"there is no {words[0]} here")
    return [program, *words[1:]]


class Container:
    """The supervisor under a shell, where /dev/termination-log is a file of the test."""

    def __init__(self, shell: Sequence[str], folder: Path) -> None:
        self._shell = shell
        self.folder = folder
        self.said = folder / "termination-log"
        self.said.touch()
        script = SUPERVISOR.replace("/dev/termination-log", str(self.said))
        script = script.replace(f"sleep {RESULT_SECONDS}", "sleep 0.2")
        self._script = script.replace("/bin/sh", " ".join(shell))

    def start(self, run: str, install: str = "", **variables: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*self._shell, "-c", self._script, "riseml", install, INSTALLED, RESULT, run],
            env={
                "PATH": os.environ["PATH"],
                "HOME": f"{self.folder}/home",
                "TMPDIR": f"{self.folder}/tmp",
                "PYTHONUSERBASE": f"{self.folder}/user",
                "RISEML_RUN_DIR": str(self.folder),
                "RISEML_RESULTS": f"{self.folder}/results",
                **variables,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, run: str, install: str = "", **variables: str) -> tuple[int, str]:
        process = self.start(run, install, **variables)
        output, _ = process.communicate(timeout=20)
        return process.returncode, output


@pytest.fixture
def container(shell: list[str], tmp_path: Path) -> Container:
    return Container(shell, tmp_path)


def test_the_exit_code_is_the_jobs(container: Container) -> None:
    assert container.run("echo hello; exit 7") == (7, "hello\n")
    # Not a word of the shell above it.
    assert container.run("kill -9 $$") == (137, "")


def test_places_are_there_and_on_the_path(container: Container) -> None:
    code, output = container.run('ls -d "$HOME" "$TMPDIR"; echo "$PATH" | cut -d: -f1')
    assert code == 0
    assert output.split() == [f"{container.folder}/{name}" for name in ("home", "tmp", "user/bin")]
    assert container.run("echo $PYTHONPATH") == (0, f"{container.folder}/sdk\n")
    said = container.run("echo $PYTHONPATH", PYTHONPATH="/mine")
    assert said == (0, f"{container.folder}/sdk:/mine\n")


def test_install_steps_come_first_and_are_told_apart(container: Container) -> None:
    assert container.run("echo run", "echo install") == (0, f"install\n{INSTALLED}\nrun\n")


def test_a_failed_install_is_no_failure_of_the_job(container: Container) -> None:
    code, output = container.run("echo run", "echo install; exit 3")
    assert (code, output) == (3, "install\n")
    assert container.said.read_text() == f"{INSTALL_FAILED_PREFIX} 3\n"
    container.said.write_text("")
    container.run("exit 3", "true")
    assert container.said.read_text() == ""


def test_results_are_printed_with_their_numbers(container: Container) -> None:
    report = "echo '{\"loss\": 1}' >> $RISEML_RESULTS; echo epoch; echo '{}' >> $RISEML_RESULTS"
    code, output = container.run(f"{report}; sleep 0.1")
    assert code == 0
    assert sorted(output.splitlines()) == ["epoch", f'{RESULT} 1 {{"loss": 1}}', f"{RESULT} 2 {{}}"]


def test_results_are_printed_while_the_job_runs(container: Container) -> None:
    waits = "echo '{}' >> $RISEML_RESULTS; trap 'exit 0' TERM; while :; do sleep 0.1; done"
    with container.start(waits) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"{RESULT} 1 {{}}\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def test_a_job_hears_of_sigterm_and_its_exit_code_counts(container: Container) -> None:
    process = container.start(
        "trap 'echo saved; exit 5' TERM; echo up; while :; do sleep 0.1; done"
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=20)[0] == "saved\n"
    assert process.returncode == 5


def test_sigterm_between_install_and_run_keeps_the_job_from_starting(container: Container) -> None:
    process = container.start(
        "echo run", "echo up; trap 'exit 0' TERM; while :; do sleep 0.1; done"
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    process.send_signal(signal.SIGTERM)
    output = process.communicate(timeout=20)[0]
    assert "run" not in output
    assert process.returncode == 143


def test_a_hostfile_is_put_in_its_place(container: Container) -> None:
    place = container.folder / "hostfile"
    code, output = container.run(
        "cat $RISEML_HOSTFILE", RISEML_HOSTFILE=str(place), RISEML_HOSTFILE_TEXT="w-1 slots=1\n"
    )
    assert (code, output) == (0, "w-1 slots=1\n")


PID_1 = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc")


def test_as_the_first_process_it_waits_for_all_of_the_job(shell: list[str], tmp_path: Path) -> None:
    """The child of a child hears of SIGTERM as well, and may take its time."""
    if subprocess.run([*PID_1, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no process namespaces for this user")
    container = Container([*PID_1, *shell], tmp_path)
    container._script = container._script.replace(" ".join([*PID_1, *shell]), " ".join(shell))
    (tmp_path / "child.sh").write_text(
        "trap 'sleep 0.3; echo child saved; exit 0' TERM; echo up; while :; do sleep 0.1; done"
    )
    with container.start(f"{' '.join(shell)} {tmp_path}/child.sh & wait") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        inner = int(
            subprocess.run(
                ["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True
            ).stdout.split()[0]
        )
        os.kill(inner, signal.SIGTERM)
        assert "child saved" in process.communicate(timeout=20)[0]


def test_every_command_is_checked() -> None:
    command = job_command(order(run=("false", "echo not reached"), install=("true",)))
    assert command[:2] == ["/bin/sh", "-c"]
    ran = subprocess.run(["sh", "-e", "-c", command[-1]], capture_output=True, text=True)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert command[4] == "true"
