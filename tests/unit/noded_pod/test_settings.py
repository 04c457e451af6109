"""What the manifest says is taken as it is, or refused by the name of the variable."""

from __future__ import annotations

import pytest

from noded.errors import ConfigError
from noded.pod.settings import DEFAULT_DEADLINE_SECONDS, read_settings

WHOLE = {
    "RISEML_CONTROL_PLANE": "riseml.riseml.svc:7433",
    "RISEML_TOKEN": "riseml-job.x",
    "RISEML_ATTEMPT_ID": "ana.17.train.1-1",
    "RISEML_REVISION": "abc",
    "RISEML_CA_PEM": "a certificate",
    "RISEML_CODE_DIR": "/riseml/code",
    "RISEML_RUN_DIR": "/riseml/run",
}


def test_the_deadline_has_a_default_and_output_is_asked_for_only_with_a_configuration() -> None:
    settings = read_settings(WHOLE)
    assert settings.deadline_seconds == DEFAULT_DEADLINE_SECONDS
    assert settings.output_directory is None
    assert "riseml-job.x" not in repr(settings) and "certificate" not in repr(settings)
    with pytest.raises(ConfigError, match="RISEML_OUTPUT_DIR is not set"):
        read_settings(WHOLE | {"RISEML_CONFIGURATION": "project: x"})


def test_a_job_without_code_needs_neither_control_plane_nor_token() -> None:
    rest = {k: v for k, v in WHOLE.items() if k not in ("RISEML_CONTROL_PLANE", "RISEML_TOKEN")}
    assert not read_settings(rest | {"RISEML_REVISION": "", "RISEML_CA_PEM": ""}).revision_id


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, "") for name in WHOLE if name not in ("RISEML_REVISION", "RISEML_CA_PEM")),
        ("RISEML_CODE_DIR", "riseml/code"),
        ("RISEML_FETCH_DEADLINE", "soon"),
        ("RISEML_FETCH_DEADLINE", "0"),
        ("RISEML_FETCH_DEADLINE", "nan"),
        ("RISEML_FETCH_DEADLINE", "inf"),
    ],
)
def test_a_wrong_variable_is_named(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=name):
        read_settings(WHOLE | {name: value})


def test_a_token_never_travels_in_the_clear_beyond_this_machine() -> None:
    plain = WHOLE | {"RISEML_CA_PEM": ""}
    with pytest.raises(ConfigError, match="must be encrypted"):
        read_settings(plain)
    with pytest.raises(ConfigError, match="RISEML_CONTROL_PLANE=riseml: must be HOST:PORT"):
        read_settings(plain | {"RISEML_CONTROL_PLANE": "riseml"})
    assert read_settings(plain | {"RISEML_CONTROL_PLANE": "127.0.0.1:7433"}).ca_pem == b""
