"""Commands from their words to their output and exit status."""

from __future__ import annotations

import csv
import io
import json

import grpc
import pytest

from riseml.v1 import node_pb2, state_pb2
from shell.run import FAILED, OK, USAGE
from tests.unit.sdk.fake_cluster import FakeCluster, one
from tests.unit.shell.conftest import CommandLine


def test_whoami(line: CommandLine, address: str) -> None:
    assert line.run("whoami") == OK
    assert line.out == f"user    ana\nrole    admin\nserver  {address}\n"


def test_json_has_the_names_of_the_contract(line: CommandLine) -> None:
    assert line.run("user", "list", "--format", "json") == OK
    assert (
        json.loads(line.out)[0] | {"name": "ana", "admin": True, "enabled": True}
        == json.loads(line.out)[0]
    )


def test_csv_has_a_line_of_names(line: CommandLine) -> None:
    line.run("user", "list", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(line.out)))
    assert [(row["name"], row["role"]) for row in rows] == [("ana", "admin")]


def test_new_key_alone_goes_to_standard_output(line: CommandLine) -> None:
    assert line.run("user", "create", "bob") == OK
    assert line.out == "riseml_new\n"
    assert "never again" in line.err


def test_user_is_disabled_and_enabled(line: CommandLine, cluster: FakeCluster) -> None:
    line.run("user", "disable", "ana")
    assert not cluster.users["ana"].enabled and line.err == "ana is disabled.\n"
    line.run("user", "enable", "ana")
    assert cluster.users["ana"].enabled


def test_status_shows_what_runs(line: CommandLine, cluster: FakeCluster) -> None:
    cluster.put(one("ana.1", state_pb2.STATE_FINISHED))
    cluster.put(one("ana.2", state_pb2.STATE_PENDING, pending_reasons=["no free GPU"]))
    assert line.run("status") == OK
    assert line.out.splitlines()[0].split() == ["ID", "PROJECT", "STATE", "AGE", "TIME", "WHAT"]
    assert line.out.splitlines()[1].split() == ["2", "digits", "PENDING", "no", "free", "GPU"]
    assert "\n1 " not in line.out
    line.run("status", "-a")
    assert "FINISHED" in line.out


def test_status_says_when_there_is_more(line: CommandLine, cluster: FakeCluster) -> None:
    for number in range(1, 4):
        cluster.put(one(f"ana.{number}"))
    line.run("status", "-n", "2")
    assert len(line.out.splitlines()) == 3 and "There are more" in line.err


def test_empty_status_says_what_to_do(line: CommandLine) -> None:
    assert line.run("status") == OK
    assert line.out == "" and "riseml status -a" in line.err


def test_status_of_one_shows_its_jobs(line: CommandLine, cluster: FakeCluster) -> None:
    made = one("ana.1", state_pb2.STATE_FAILED, message="exit code 3")
    made.jobs[0].attempts[0].exit_code = 3
    cluster.put(made)
    assert line.run("status", "1") == OK
    assert "state         FAILED (exit code 3)" in line.out
    assert "1.train.1  FAILED  n1" in line.out


def test_status_of_a_set_shows_children_and_parameters(
    line: CommandLine, cluster: FakeCluster
) -> None:
    root = one("ana.1")
    del root.jobs[:]
    root.set.child_count = 2
    root.set.running_count = 1
    cluster.put(root)
    for number, rate in ((1, "0.1"), (2, "0.01")):
        child = one(f"ana.1.{number}", child_number=number)
        child.parameters.add(name="lr", value=rate)
        cluster.put(child)
    line.run("status", "1")
    assert "lr=0.1" in line.out and "lr=0.01" in line.out
    line.run("status", "1", "--format", "json")
    assert [child["id"] for child in json.loads(line.out)["children"]] == ["ana.1.1", "ana.1.2"]


def test_narrow_terminals_show_ids_and_states_whole(
    line: CommandLine, cluster: FakeCluster
) -> None:
    made = one("ana.1", state_pb2.STATE_FINISHED, message="a long story of many words " * 3)
    made.parameters.add(name="msg", value="a\nb")
    cluster.put(made)
    line.at_terminal()
    line.context.environ = {**line.context.environ, "NO_COLOR": "1"}
    for width in ("60", "80"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("COLUMNS", width)
            line.run("status", "-a")
            assert "FINISHED" in line.out and "digits" in line.out and "…" not in line.out
            line.run("status", "1")
            assert "1.train.1" in line.out and "FINISHED" in line.out and "…" not in line.out


def test_values_of_parameters_stay_on_their_row(line: CommandLine, cluster: FakeCluster) -> None:
    made = one("ana.1")
    made.parameters.add(name="msg", value="a b\nc")
    made.parameters.add(name="lr", value="0.1")
    cluster.put(made)
    line.run("status")
    assert line.out.splitlines()[1].endswith('msg="a b\\nc" lr=0.1')


def test_kill_names_what_it_killed(line: CommandLine, cluster: FakeCluster) -> None:
    cluster.put(one("ana.1"))
    cluster.put(one("ana.2"))
    assert line.run("kill", "1", "ana.2") == OK
    assert cluster.experiments["ana.1"].state == state_pb2.STATE_KILLED
    assert line.err == "1 is KILLED.\n2 is KILLED.\n"


def test_kill_goes_on_after_one_that_is_not_there(line: CommandLine, cluster: FakeCluster) -> None:
    cluster.put(one("ana.2"))
    assert line.run("kill", "1", "2") == FAILED
    assert line.err == "There is no ana.1.\n2 is KILLED.\n"


@pytest.mark.parametrize(("answer", "status"), [("y\n", OK), ("n\n", FAILED), ("", FAILED)])
def test_kill_of_the_last_one_asks(
    line: CommandLine, cluster: FakeCluster, answer: str, status: int
) -> None:
    cluster.put(one("ana.1"))
    line.at_terminal(answer)
    assert line.run("kill") == status
    assert "Kill 1 of project digits, RUNNING? [y/N]" in line.err
    killed = cluster.experiments["ana.1"].state == state_pb2.STATE_KILLED
    assert killed == (status == OK)


def test_kill_without_a_terminal_asks_nobody(line: CommandLine, cluster: FakeCluster) -> None:
    cluster.put(one("ana.1"))
    assert line.run("kill") == USAGE
    assert "name it, or add -f" in line.err
    assert line.run("kill", "-f") == OK


def test_default_is_the_last_one_of_this_project(line: CommandLine, cluster: FakeCluster) -> None:
    cluster.put(one("ana.1"))
    other = one("ana.2")
    other.project = "cats"
    cluster.put(other)
    (line.folder / "riseml.yml").write_text("project: digits\ntrain: {run: 'true', env: {A: }}\n")
    line.run("kill", "-f")
    assert cluster.experiments["ana.1"].state == state_pb2.STATE_KILLED
    assert cluster.experiments["ana.2"].state == state_pb2.STATE_RUNNING


@pytest.mark.parametrize(
    ("code", "message", "status"),
    [
        (grpc.StatusCode.PERMISSION_DENIED, "Only admins may.", FAILED),
        (grpc.StatusCode.UNAUTHENTICATED, "This key is not known.", FAILED),
    ],
)
def test_refusals_are_told_in_words(
    line: CommandLine, cluster: FakeCluster, code: grpc.StatusCode, message: str, status: int
) -> None:
    cluster.faults["GetCaller"] = [(code, message, "")]
    assert line.run("whoami") == status
    assert message in line.err and "Traceback" not in line.err and line.out == ""


def test_debug_shows_where_an_error_comes_from(line: CommandLine, cluster: FakeCluster) -> None:
    cluster.faults["GetCaller"] = [(grpc.StatusCode.PERMISSION_DENIED, "No.", "")] * 2
    line.run("whoami", "--debug")
    assert "Traceback" in line.err
    line.run("whoami")
    assert "Traceback" not in line.err


def test_id_that_is_none_is_a_typing_error(line: CommandLine) -> None:
    assert line.run("status", "17.banana") == USAGE
    assert "banana" in line.err


def test_cordon_tells_the_state(line: CommandLine) -> None:
    assert line.run("node", "cordon", "n1") == OK
    assert line.err.startswith("n1 is ")


def test_nodes_come_with_what_is_given_out(line: CommandLine, cluster: FakeCluster) -> None:
    node = node_pb2.Node(
        name="n1",
        state=node_pb2.NODE_STATE_READY,
        cordoned=True,
        cpu_milli=4000,
        allocated_cpu_milli=1500,
        memory_bytes=8 << 30,
        gpus=[node_pb2.Gpu(uuid="g", model="H100", simulated=True)],
        gpu_allocations=[node_pb2.GpuAllocation(gpu_uuid="g", milli=500)],
    )
    cluster.nodes = [node]
    line.run("node", "list")
    row = line.out.splitlines()[1]
    for part in ("READY, cordoned", "1.5/4", "0B/8Gi", "1 x H100 (simulated)", "0.5/1"):
        assert part in row


def test_token_file_is_private_and_complete(line: CommandLine, address: str) -> None:
    assert line.run("node", "token", "create", "n1", "-o", "n1.json") == OK
    file = line.folder / "n1.json"
    assert file.stat().st_mode & 0o777 == 0o600
    content = json.loads(file.read_text())
    assert content["node_name"] == "n1" and content["token"] == "node-token"
    assert content["server"] == address and content["ca_fingerprint"] == "ab"
    assert line.run("node", "token", "create", "n1", "-o", "n1.json") == USAGE


def test_version_works_without_a_server(line: CommandLine, cluster: FakeCluster) -> None:
    line.run("version")
    assert "server  9.9" in line.out
    cluster.faults["GetSystemInfo"] = [(grpc.StatusCode.PERMISSION_DENIED, "No.", "")]
    assert line.run("version") == OK
    assert "client" in line.out and "server" not in line.out


def test_control_characters_of_others_do_not_reach_the_terminal(
    line: CommandLine, cluster: FakeCluster
) -> None:
    cluster.put(one("ana.1", state_pb2.STATE_PENDING, pending_reasons=["\x1b]0;evil\x07bad"]))
    line.at_terminal()
    line.context.environ = {**line.context.environ, "NO_COLOR": "1"}
    line.run("status")
    assert "\x1b" not in line.out and "\x07" not in line.out
    line.run("status", "1")
    assert "\x1b" not in line.out


def test_colours_only_for_people(line: CommandLine, cluster: FakeCluster) -> None:
    cluster.put(one("ana.1"))
    line.run("status")
    assert "\x1b" not in line.out
    line.at_terminal()
    line.run("status")
    assert "\x1b[" in line.out


def test_files_are_listed_copied_and_removed(line: CommandLine, cluster: FakeCluster) -> None:
    (line.folder / "f").write_bytes(b"hello")
    assert line.run("cp", "f", "data://sub/") == OK
    assert cluster.files == {"sub/f": b"hello"}
    line.run("ls", "data://sub")
    assert line.out.split()[:3] == ["SIZE", "MODIFIED", "NAME"] and line.out.split()[-1] == "f"
    assert line.run("cp", "data://sub/f", "back") == OK
    assert (line.folder / "back").read_bytes() == b"hello"
    assert line.run("rm", "data://sub/f") == OK
    assert not cluster.files


def test_folders_need_r(line: CommandLine, cluster: FakeCluster) -> None:
    (line.folder / "d" / "e").mkdir(parents=True)
    (line.folder / "d" / "e" / "f").write_bytes(b"hello")
    assert line.run("cp", "d", "data://x") == USAGE
    assert line.run("cp", "-r", "d", "data://x") == OK
    assert cluster.files == {"x/e/f": b"hello"}
    assert line.run("cp", "data://x", "y") == USAGE
    assert line.run("cp", "-r", "data://x", "y") == OK
    assert (line.folder / "y" / "e" / "f").read_bytes() == b"hello"
    assert line.run("rm", "-r", "data://x") == USAGE
    assert line.run("rm", "-rf", "data://x") == OK


def test_folder_is_copied_to_the_same_place_each_time(
    line: CommandLine, cluster: FakeCluster
) -> None:
    (line.folder / "d").mkdir()
    (line.folder / "d" / "f").write_bytes(b"hello")
    for target, path in (("data://", "d/f"), ("data://x/", "x/d/f"), ("data://y", "y/f")):
        cluster.files.clear()
        for _ in range(2):
            assert line.run("cp", "-r", "d", target) == OK
            assert list(cluster.files) == [path]
    for target, path in ((".", "y/f"), ("back/", "back/y/f"), ("new", "new/f")):
        for _ in range(2):
            assert line.run("cp", "-r", "data://y", target) == OK
            assert (line.folder / path).read_bytes() == b"hello"
    assert not (line.folder / "new" / "y").exists()


def test_output_of_a_set_is_a_folder_for_each_child(
    line: CommandLine, cluster: FakeCluster
) -> None:
    root = one("ana.7")
    root.set.child_count = 2
    cluster.put(root)
    for number in (1, 2):
        cluster.put(one(f"ana.7.{number}", state_pb2.STATE_FINISHED, child_number=number))
    assert line.run("ls", "output://7") == OK
    assert [row.split()[-1] for row in line.out.splitlines()] == ["NAME", "1/", "2/"]


def test_copy_needs_one_side_here_and_one_there(line: CommandLine) -> None:
    assert line.run("cp", "a", "b") == USAGE
    assert line.run("cp", "data://a", "data://b") == USAGE
    assert line.run("cp", "none", "data://b") == FAILED
    assert line.run("ls", "data://../x") == FAILED


def test_help_is_data(line: CommandLine) -> None:
    assert line.run("help", "train") == OK
    assert "--detach" in line.out
    assert line.run("help", "user") == OK
    assert "user create" in line.out
    assert line.run("help", "usr") == USAGE
    assert "Did you mean 'user'?" in line.err
    assert line.run("train", "--help") == OK
    assert "--detach" in line.out


def test_up_wants_a_terminal_of_its_own(line: CommandLine) -> None:
    line.context.at_prompt = True
    assert line.run("up") == USAGE
