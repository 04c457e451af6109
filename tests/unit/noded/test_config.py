from __future__ import annotations

import json
from pathlib import Path

import pytest

from noded.config import load, normal_fingerprint, read_token
from noded.errors import ConfigError


@pytest.fixture
def token_file(tmp_path: Path) -> str:
    path = tmp_path / "token.json"
    path.write_text(json.dumps({"node_name": "gpu-1", "token": "s3cret", "ca_pem": None}))
    return str(path)


def test_arguments_alone_are_enough(token_file: str, tmp_path: Path) -> None:
    config = load(
        ["--server", "127.0.0.1:7700", "--token-file", token_file, "--labels", "zone=a,rack=7"],
        {"RISEML_HOME": str(tmp_path)},
    )
    assert config.node_name == "gpu-1"
    assert config.node_directory == tmp_path / "node" / "gpu-1"
    assert config.output_root == tmp_path / "output"
    assert config.data_root == tmp_path / "data"
    assert config.labels == (("rack", "7"), ("zone", "a"))
    assert "s3cret" not in repr(config)


def test_arguments_win_over_the_file(token_file: str, tmp_path: Path) -> None:
    file = tmp_path / "noded.toml"
    file.write_text(
        f'server = "10.0.0.1:1"\ntoken_file = "{token_file}"\nfirst_port = 4000\nlast_port = 4001\n'
        f'home = "{tmp_path}"\n[labels]\nzone = "b"\n'
    )
    config = load(["--config", str(file), "--server", "10.0.0.2:2", "--labels", "gpu=yes"], {})
    assert config.server == "10.0.0.2:2"
    assert config.first_port == 4000
    assert config.labels == (("gpu", "yes"), ("zone", "b"))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("sever = 'x:1'", "unknown key 'sever'"),
        ("first_port = 'x'", "must be of type int"),
        ("first_port = true", "must be of type int"),
        ("first_port = 80", "1024 to 65535"),
        ("server = ", "not valid TOML"),
    ],
)
def test_a_wrong_file_is_refused_with_the_key(
    token_file: str, tmp_path: Path, text: str, problem: str
) -> None:
    file = tmp_path / "noded.toml"
    file.write_text(text)
    arguments = ["--config", str(file), "--server", "a:1", "--token-file", token_file]
    with pytest.raises(ConfigError, match=problem):
        load(arguments, {})


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--server", "nowhere"], "must be HOST:PORT"),
        (["--server", "a:1", "--name", "other"], "is the token of node 'gpu-1'"),
        (["--server", "a:1", "--labels", "zone"], "KEY=VALUE"),
        (["--server", "a:1", "--ca-fingerprint", "abc"], "64 hexadecimal digits"),
        (["--server", "a:1", "--ca-file", "/nonexistent/ca.pem"], "cannot be read"),
    ],
)
def test_wrong_arguments_are_refused_in_words(
    token_file: str, arguments: list[str], problem: str
) -> None:
    with pytest.raises(ConfigError, match=problem):
        load([*arguments, "--token-file", token_file], {})


def test_a_bare_token_needs_a_name_from_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("s3cret\n")
    assert read_token(path).token == "s3cret"
    config = load(["--server", "a:1", "--token-file", str(path), "--name", "n1"], {})
    assert config.node_name == "n1"


@pytest.mark.parametrize("text", ["", "two words", "{", '{"node_name": "x"}', '{"token": 7}'])
def test_a_file_without_a_token_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "token"
    path.write_text(text)
    with pytest.raises(ConfigError):
        read_token(path)


def test_fingerprints_are_taken_in_all_usual_forms() -> None:
    plain = "ab" * 32
    assert normal_fingerprint(":".join(["AB"] * 32)) == plain
    assert normal_fingerprint("sha256:" + plain) == plain
    assert normal_fingerprint("") == ""


def test_an_abbreviated_kubernetes_is_not_taken_for_a_daemon_that_runs_jobs() -> None:
    with pytest.raises(ConfigError, match="in full"):
        load(["--kube"], {})
