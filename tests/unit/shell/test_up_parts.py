"""What `riseml up` is made of: homes, locks, children that are kept up."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from shell.children import Child, Ended, end_leftovers, how_it_died, remember
from shell.command import UsageError
from shell.home import HomeInUse, HomeLock, find_home, node_name, plain_host


def test_home_is_named_by_option_then_variable_then_platform(tmp_path: Path) -> None:
    environ = {"RISEML_HOME": str(tmp_path / "variable")}
    assert find_home(str(tmp_path / "option"), environ, root=True) == tmp_path / "option"
    assert find_home("", environ, root=True) == tmp_path / "variable"
    assert find_home("", {}, root=True) == Path("/var/lib/riseml")
    assert find_home("", {}, root=False).name == "riseml"


@pytest.mark.parametrize(
    ("host", "name"),
    [("vm", "vm"), ("Ana's MacBook.local", "ana-s-macbook.local"), ("_x_", "x"), ("", "node")],
)
def test_any_host_name_makes_a_node_name(host: str, name: str) -> None:
    assert node_name(host) == name


def test_second_up_on_a_home_is_told_who_has_it(tmp_path: Path) -> None:
    with HomeLock(tmp_path / "home"):
        with pytest.raises(HomeInUse, match=rf"pid {os.getpid()}"), HomeLock(tmp_path / "home"):
            pass
        with HomeLock(tmp_path / "other"):
            pass
    with HomeLock(tmp_path / "home"):
        pass


def child(tmp_path: Path, script: str, ended: Callable[[Ended], None]) -> Child:
    return Child("helper", [sys.executable, "-c", script], tmp_path / "log" / "log", ended)


def test_death_is_told_with_its_last_words(tmp_path: Path) -> None:
    news: queue.SimpleQueue[Ended] = queue.SimpleQueue()
    made = child(tmp_path, "import sys; print('last words'); sys.exit(3)", news.put)
    made.start()
    ended = news.get(timeout=20)
    assert ended == Ended(made, 3) and how_it_died(ended.status) == "exit status 3"
    assert made.last_words() == "last words"
    assert (tmp_path / "log" / "log").stat().st_mode & 0o777 == 0o600


def test_stop_is_no_surprise(tmp_path: Path) -> None:
    news: queue.SimpleQueue[Ended] = queue.SimpleQueue()
    made = child(tmp_path, "import time; time.sleep(60)", news.put)
    made.start()
    made.ask_to_stop()
    made.finish()
    assert not made.is_alive and news.empty()


def test_who_does_not_stop_is_forced(tmp_path: Path) -> None:
    script = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "print('ready', flush=True); time.sleep(60)"
    )
    made = child(tmp_path, script, lambda ended: None)
    made.start()
    while made.last_words() != "ready":
        assert made.is_alive
        time.sleep(0.01)
    made.ask_to_stop()
    made.finish(seconds=0.05)
    assert not made.is_alive


def test_ctrl_c_of_the_terminal_does_not_reach_children(tmp_path: Path) -> None:
    made = child(tmp_path, "import time; time.sleep(60)", lambda ended: None)
    made.start()
    assert os.getpgid(made.pid) == made.pid != os.getpgid(0)
    made.ask_to_stop()
    made.finish()


def test_pauses_grow_while_it_keeps_dying(tmp_path: Path) -> None:
    made = child(tmp_path, "", lambda ended: None)
    made.start()
    made.finish()
    pauses = [made.pause_seconds() for _ in range(9)]
    assert pauses[:3] == [0.5, 1.0, 2.0] and max(pauses) == 30.0


def test_long_log_is_put_aside(tmp_path: Path) -> None:
    made = child(tmp_path, "print('new')", lambda ended: None)
    made.log.parent.mkdir()
    made.log.touch()
    os.truncate(made.log, 17 << 20)
    made.start()
    made.finish()
    assert made.log.read_text() == "new\n"
    assert made.log.with_name("log.1").exists()


def test_leftovers_of_a_killed_up_are_ended(tmp_path: Path) -> None:
    script = (
        "import sys, time\nsys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\nfrom shell.children import Child, remember\n"
        "made = Child('helper', [sys.executable, '-c', 'import time; time.sleep(60)'],"
        " Path(sys.argv[2]) / 'log', print)\n"
        "made.start()\nremember(Path(sys.argv[2]) / 'pids', [made])\n"
        "print(made.pid, flush=True)\ntime.sleep(60)\n"
    )
    root = Path(__file__).resolve().parents[3]
    up = subprocess.Popen(
        [sys.executable, "-c", script, str(root), str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert up.stdout is not None
    left = int(up.stdout.readline())
    up.send_signal(signal.SIGKILL)
    up.wait()
    up.stdout.close()
    assert end_leftovers(tmp_path / "pids") == ["helper"]
    stat = Path(f"/proc/{left}/stat")
    assert not stat.exists() or ") Z" in stat.read_text()
    assert not (tmp_path / "pids").exists()


def test_pid_that_now_belongs_to_another_is_left_alone(tmp_path: Path) -> None:
    made = child(tmp_path, "import time; time.sleep(60)", lambda ended: None)
    made.start()
    remember(tmp_path / "pids", [made])
    text = (tmp_path / "pids").read_text()
    ticks = text.rpartition('"start_ticks": ')[2].rstrip("}]")
    (tmp_path / "pids").write_text(text.replace(ticks, "1"))
    assert end_leftovers(tmp_path / "pids") == []
    assert made.is_alive
    made.ask_to_stop()
    made.finish()


@pytest.mark.parametrize("content", ["", "{", "[]"])
def test_damaged_list_of_children_ends_nobody(tmp_path: Path, content: str) -> None:
    (tmp_path / "pids").write_text(content)
    assert end_leftovers(tmp_path / "pids") == []


@pytest.mark.parametrize("text", ["127.0.0.1:7433", "head:0", "", "[::1", "http://head"])
def test_listen_takes_a_host_and_says_where_the_port_goes(text: str) -> None:
    with pytest.raises(UsageError, match="--port"):
        plain_host(text)


@pytest.mark.parametrize(
    ("text", "host"), [("::1", "::1"), ("[::1]", "::1"), ("0.0.0.0", "0.0.0.0"), ("head", "head")]
)
def test_listen_takes_addresses_with_and_without_brackets(text: str, host: str) -> None:
    assert plain_host(text) == host
