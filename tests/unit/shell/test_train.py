"""train, logs and init: from a folder to the last line."""

from __future__ import annotations

import json
import threading

import grpc

from riseml.cri import encode
from riseml.spec.config import read_config
from riseml.v1 import experiment_pb2, state_pb2
from shell.commands.train import outcome
from shell.run import FAILED, INTERRUPTED, OK, USAGE
from tests.unit.sdk.fake_cluster import FakeCluster, one
from tests.unit.shell.conftest import CommandLine

ATTEMPT = "ana.1.train.1-1"
SIMPLE = "project: digits\ntrain:\n  run: python train.py\n"


def ended(exit_code: int) -> experiment_pb2.Experiment:
    made = one("ana.1", state_pb2.STATE_FAILED if exit_code else state_pb2.STATE_FINISHED)
    made.jobs[0].attempts[0].exit_code = exit_code
    return made


def end_after_creation(cluster: FakeCluster, exit_code: int) -> threading.Thread:
    """Play the cluster: once the experiment is there it runs, prints and ends."""

    def play() -> None:
        with cluster.changed:
            cluster.changed.wait_for(lambda: "ana.1" in cluster.experiments, 20)
        cluster.put(one("ana.1"))
        cluster.write_log(ATTEMPT, encode(1_001 * 10**9, "stdout", b"loss 0.5\n"), end=True)
        cluster.put(ended(exit_code))

    thread = threading.Thread(target=play)
    thread.start()
    return thread


def write(line: CommandLine, text: str = SIMPLE) -> None:
    (line.folder / "riseml.yml").write_text(text)
    (line.folder / "train.py").write_text("print(1)\n")


def test_init_writes_a_file_that_is_valid(line: CommandLine) -> None:
    assert line.run("init") == OK
    text = (line.folder / "riseml.yml").read_text()
    config = read_config(text, {})
    assert config.spec.project == "digits" and not config.warnings
    assert line.run("init") == USAGE
    assert (line.folder / "riseml.yml").read_text() == text


def test_init_refuses_a_name_that_is_none(line: CommandLine) -> None:
    assert line.run("init", "--project", "a/b") == USAGE
    assert not (line.folder / "riseml.yml").exists()


def test_train_shows_states_and_output_and_ends_with_the_outcome(
    line: CommandLine, cluster: FakeCluster
) -> None:
    write(line)
    player = end_after_creation(cluster, 0)
    assert line.run("train") == OK
    player.join()
    assert "1.train | loss 0.5\n" in line.out
    assert line.out.splitlines()[-1] == "1       | --> FINISHED"
    assert "Code: 2 files" in line.err and "1 is FINISHED" in line.err
    assert "no node has a GPU now" in line.err
    assert cluster.specs[0].run == ["python train.py"]


def test_failed_training_fails_the_command(line: CommandLine, cluster: FakeCluster) -> None:
    write(line)
    player = end_after_creation(cluster, 3)
    assert line.run("train", "-d", "--wait") == FAILED
    player.join()
    assert line.out == ""
    assert "FAILED (exit code 3)" in line.err


def test_json_of_the_end_is_the_only_data(line: CommandLine, cluster: FakeCluster) -> None:
    write(line)
    player = end_after_creation(cluster, 0)
    assert line.run("train", "--wait", "--format", "json") == OK
    player.join()
    assert json.loads(line.out)["state"] == "STATE_FINISHED"


def test_detached_training_prints_only_its_id(line: CommandLine) -> None:
    write(line)
    assert line.run("train", "-d") == OK
    assert line.out == "ana.1\n"


def test_interrupt_leaves_the_experiment_running(line: CommandLine, cluster: FakeCluster) -> None:
    write(line)

    class Interrupted(type(line.context.stdout)):  # type: ignore[misc]
        def write(self, text: str) -> int:
            if "PENDING" in text:
                raise KeyboardInterrupt
            return int(super().write(text))

    line.context.stdout = Interrupted()
    assert line.run("train") == INTERRUPTED
    assert "1 goes on" in line.err and "riseml logs 1 -f" in line.err
    assert "KillExperiment" not in cluster.calls


def test_outcome_without_output_names_the_reason(line: CommandLine, cluster: FakeCluster) -> None:
    made = ended(137)
    made.message = "it used more memory than `mem` allows\nand more"
    assert outcome(line.context, made).startswith(
        "1 is FAILED (it used more memory than `mem` allows). Its output"
    )


def test_wrong_file_is_refused_with_line_and_key(line: CommandLine, cluster: FakeCluster) -> None:
    write(line, "project: digits\ntrain:\n  runn: true\n  resources: {mem: 4}\n")
    assert line.run("train") == FAILED
    assert (
        "riseml.yml:3: train.runn" in line.err and "riseml.yml:4: train.resources.mem" in line.err
    )
    assert not cluster.calls


def test_refusal_of_the_server_names_the_line(line: CommandLine, cluster: FakeCluster) -> None:
    write(line, "project: digits\ntrain:\n  image: a/b\n  run: 'true'\n")
    cluster.violations = (("train.image", "no images here"),)
    cluster.faults["CreateExperiment"] = [(grpc.StatusCode.INVALID_ARGUMENT, "wrong", "SPEC")]
    assert line.run("train") == FAILED
    assert "riseml.yml:3: train.image: no images here" in line.err


def test_missing_file_says_how_to_get_one(line: CommandLine) -> None:
    assert line.run("train") == USAGE
    assert "riseml init" in line.err
    assert line.run("train", "-f", ".") == USAGE


def test_code_is_the_folder_even_if_the_file_lies_deeper(
    line: CommandLine, cluster: FakeCluster
) -> None:
    write(line)
    (line.folder / "configs").mkdir()
    (line.folder / "configs" / "a.yml").write_text(SIMPLE)
    assert line.run("train", "-d", "-f", "configs/a.yml") == OK
    paths = [entry.path for entries in cluster.revisions.values() for entry in entries]
    assert paths == ["configs/a.yml", "riseml.yml", "train.py"]


def test_logs_of_what_has_ended(line: CommandLine, cluster: FakeCluster) -> None:
    cluster.put(ended(3))
    log = encode(1_001 * 10**9, "stdout", b"\x1b[2Jone\xff\n")
    cluster.write_log(ATTEMPT, log, end=True)
    assert line.run("logs", "1") == OK
    assert line.out.splitlines()[0] == "1.train | --> RUNNING (on n1)"
    assert "\x1b[2Jone" in line.out
    line.run("logs", "1", "--raw")
    assert line.out == "\x1b[2Jone\ufffd\n"
    line.at_terminal()
    line.run("logs", "1", "--raw")
    assert line.out == "one\ufffd\n"
    line.run("logs", "1")
    assert "\x1b[2J" not in line.out


def test_logs_follow_to_the_end(line: CommandLine, cluster: FakeCluster) -> None:
    cluster.put(one("ana.1"))
    player = end_after_creation(cluster, 0)
    assert line.run("logs", "1", "-f") == OK
    player.join()
    assert "loss 0.5" in line.out and "--> FINISHED" in line.out


def test_logs_without_an_experiment_says_so(line: CommandLine) -> None:
    assert line.run("logs") == USAGE
    assert "You have no experiment" in line.err
