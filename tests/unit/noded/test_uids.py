from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from noded.errors import ConfigError, WrongUser
from noded.uids import Identity, SingleUser, UidMap, acting_as, can_reach, check_reachable

needs_root = pytest.mark.skipif(os.getuid() != 0, reason="needs root")


def test_every_user_has_a_uid_that_stays(tmp_path: Path) -> None:
    first = UidMap(tmp_path / "uids.json")
    ana, bob = first.of("ana"), first.of("bob")
    assert ana.uid != bob.uid
    assert min(ana.uid, bob.uid) >= 200_000
    assert ana.gid == ana.uid and ana.separate
    again = UidMap(tmp_path / "uids.json")
    assert again.of("bob") == bob and again.of("ana") == ana


def test_daemons_that_share_the_file_agree(tmp_path: Path) -> None:
    maps = [UidMap(tmp_path / "uids.json") for _ in range(4)]
    found: list[dict[str, int]] = [{} for _ in maps]

    def ask(index: int) -> None:
        for name in ("ana", "bob", "cem", "dia"):
            found[index][name] = maps[index].of(name).uid

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(len(maps))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(f == found[0] for f in found)
    assert len(set(found[0].values())) == 4


@pytest.mark.parametrize("content", ['{"ana": 0}', '{"ana": 999}', '{"ana": "200000"}', "not json"])
def test_a_map_with_a_system_uid_or_damage_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "uids.json").write_text(content)
    with pytest.raises(ConfigError):
        UidMap(tmp_path / "uids.json").of("ana")


def test_a_base_among_system_users_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        UidMap(tmp_path / "uids.json", base=0)


def test_a_daemon_that_is_not_root_serves_one_user() -> None:
    single = SingleUser("ana")
    assert single.only_user == "ana"
    assert single.of("ana").uid == os.getuid()
    with pytest.raises(WrongUser, match="serves only 'ana'"):
        single.of("bob")


@needs_root
def test_acting_as_a_user_makes_files_of_that_user_and_ends(tmp_path: Path) -> None:
    os.chmod(tmp_path, 0o777)
    for parent in tmp_path.parents[:2]:
        os.chmod(parent, 0o711)
    identity = Identity(200_123, 200_123, separate=True)
    secret = tmp_path / "secret"
    secret.write_text("s")
    secret.chmod(0o600)
    with acting_as(identity):
        (tmp_path / "made").write_text("x")
        with pytest.raises(PermissionError):
            secret.read_text()
    assert os.stat(tmp_path / "made").st_uid == 200_123
    assert secret.read_text() == "s"


@needs_root
def test_acting_as_a_user_is_for_one_thread_only(tmp_path: Path) -> None:
    os.chmod(tmp_path, 0o777)
    entered, leave = threading.Event(), threading.Event()

    def act() -> None:
        with acting_as(Identity(200_123, 200_123, separate=True)):
            entered.set()
            leave.wait(10)

    thread = threading.Thread(target=act)
    thread.start()
    entered.wait(10)
    (tmp_path / "of-root").write_text("x")
    leave.set()
    thread.join()
    assert os.stat(tmp_path / "of-root").st_uid == 0


@needs_root
def test_a_closed_directory_on_the_way_is_named(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    (closed / "home").mkdir(parents=True)
    for parent in (tmp_path, *tmp_path.parents[:2]):
        os.chmod(parent, 0o711)
    check_reachable(closed / "home")
    closed.chmod(0o700)
    identity = Identity(200_123, 200_123, separate=True)
    assert not can_reach(closed / "home", identity)
    with pytest.raises(ConfigError, match=f"chmod o\\+x {closed}"):
        check_reachable(closed / "home")


def test_what_is_missing_cannot_be_reached() -> None:
    assert not can_reach(Path("/nonexistent/python"), Identity(os.getuid(), os.getgid(), False))
    assert can_reach(Path("/bin/sh"), Identity(os.getuid(), os.getgid(), False))
