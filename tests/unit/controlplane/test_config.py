"""Settings: a file, overridden by options; what cannot be used is said with what would do."""

from __future__ import annotations

from pathlib import Path

import pytest

from controlplane.config import ConfigError, parse


def test_options_override_the_file(tmp_path: Path) -> None:
    file = tmp_path / "control.toml"
    file.write_text(f'home = "{tmp_path}"\nlease_seconds = 60.0\ntls_names = ["gpu-master"]\n')
    config = parse(["--config", str(file), "--lease-seconds", "5"])
    assert config.lease_seconds == 5.0
    assert config.tls_names == ("gpu-master",)
    assert config.store_url == f"sqlite://{tmp_path}/control/db/riseml.db"


@pytest.mark.parametrize(
    ("listen", "tls"),
    [
        ("127.0.0.1:0", False),
        ("localhost:7433", False),
        ("[::1]:7433", False),
        ("0.0.0.0:7433", True),
        ("gpu-master:7433", True),
        ("10.1.2.3:7433", True),
    ],
)
def test_only_loopback_is_served_in_the_clear(tmp_path: Path, listen: str, tls: bool) -> None:
    assert parse(["--home", str(tmp_path), "--listen", listen]).tls is tls


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("leese_seconds = 3", "unknown setting 'leese_seconds'"),
        ("home = ", "not valid TOML"),
        ('home = "/x"\nlisten = "7433"', "HOST:PORT"),
        ('home = "/x"\nlease_seconds = 1.0', "at least twice"),
        ("debug = true", "--home DIR"),
        ("home = 5", "home must be text"),
        ('home = "/x"\nlease_seconds = "60"', "lease_seconds must be a number"),
        ('home = "/x"\ntls_names = "gpu-master"', "tls_names must be a list"),
        ('home = "/x"\ndebug = "no"', "debug must be true or false"),
        ('home = "/x"\nadmin_name = "ana.b"', "admin_name"),
        ('home = "/x"\nheartbeat_seconds = -1', "heartbeat_seconds must be"),
        ('home = "/x"\nlease_seconds = nan', "numbers of 0 or more"),
        ('home = "/x"\ntelemetry_late_seconds = 1', "telemetry_late_seconds must be 0, or 2"),
        ('home = "/x"\nprobation_seconds = -1', "probation_seconds must be 0 or more"),
        ('home = "/x"\ntelemetry_late_seconds = inf', "telemetry_late_seconds must be 0, or 2"),
        ('home = "/x"\nuse_half_life_days = 0', "use_half_life_days must be 0.001"),
    ],
)
def test_what_cannot_be_used_is_said(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "control.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message):
        parse(["--config", str(file)])


@pytest.mark.parametrize(
    ("options", "seconds"),
    [
        ((), 10.0),
        (("--heartbeat-seconds", "0.1"), 10.0),
        (("--heartbeat-seconds", "10"), 50.0),
        (("--telemetry-late-seconds", "3"), 3.0),
    ],
)
def test_telemetry_is_late_after_ten_seconds_or_five_heartbeats(
    tmp_path: Path, options: tuple[str, ...], seconds: float
) -> None:
    config = parse(["--home", str(tmp_path), "--lease-seconds", "60", *options])
    assert config.late_seconds == seconds


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        parse(["--config", str(tmp_path / "none.toml")])
