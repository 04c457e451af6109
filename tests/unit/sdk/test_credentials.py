"""Where a key comes from, and whom it is never sent to."""

from __future__ import annotations

from pathlib import Path

import pytest

from riseml import credentials
from riseml.credentials import Credentials
from riseml.errors import CredentialsError, NotLoggedIn

STORED = Credentials("gpu.example:7433", "secret", "ana", "PEM")


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"RISEML_CONFIG_DIR": str(tmp_path / "config")}


def test_saved_credentials_come_back(environ: dict[str, str]) -> None:
    credentials.save(STORED, environ)
    assert credentials.load(environ) == STORED


def test_file_is_readable_by_its_owner_only(environ: dict[str, str]) -> None:
    path = credentials.save(STORED, environ)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert list(path.parent.iterdir()) == [path]


def test_file_that_others_may_read_is_refused(environ: dict[str, str]) -> None:
    credentials.save(STORED, environ).chmod(0o644)
    with pytest.raises(CredentialsError, match="chmod 600"):
        credentials.load(environ)


def test_nothing_stored_says_how_to_log_in(environ: dict[str, str]) -> None:
    with pytest.raises(NotLoggedIn, match="riseml up"):
        credentials.load(environ)


def test_damaged_file_says_to_log_in_again(environ: dict[str, str]) -> None:
    credentials.save(STORED, environ).write_text("{}")
    with pytest.raises(CredentialsError, match="riseml user login"):
        credentials.load(environ)


def test_environment_comes_before_the_file(environ: dict[str, str]) -> None:
    credentials.save(STORED, environ)
    found = credentials.load(environ | {"RISEML_SERVER": "127.0.0.1:1", "RISEML_API_KEY": "k"})
    assert found == Credentials("127.0.0.1:1", "k")


def test_key_in_the_environment_goes_with_the_stored_server(environ: dict[str, str]) -> None:
    credentials.save(STORED, environ)
    found = credentials.load(environ | {"RISEML_API_KEY": "k"})
    assert found == Credentials("gpu.example:7433", "k", "", "PEM")


def test_stored_key_is_not_sent_to_another_server(environ: dict[str, str]) -> None:
    credentials.save(STORED, environ)
    with pytest.raises(NotLoggedIn, match="elsewhere:7433"):
        credentials.load(environ | {"RISEML_SERVER": "elsewhere"})


def test_key_does_not_show_in_a_representation() -> None:
    assert "secret" not in repr(STORED)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("host", "host:7433"),
        ("host:1", "host:1"),
        ("10.0.0.5", "10.0.0.5:7433"),
        ("[::1]:5", "[::1]:5"),
        ("::1", "[::1]:7433"),
        (" host ", "host:7433"),
    ],
)
def test_addresses_take_the_default_port(text: str, address: str) -> None:
    assert credentials.normalize_address(text) == address


@pytest.mark.parametrize(
    "text", ["", ":1", "host:x", "host:0", "host:99999", "http://host", "[::1"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(CredentialsError, match="host:7433"):
        credentials.normalize_address(text)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("10.0.0.1", False),
        ("localhost.example", False),
    ],
)
def test_only_this_machine_is_loopback(host: str, loopback: bool) -> None:
    assert credentials.is_loopback(host) is loopback
