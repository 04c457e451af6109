"""The command line of a daemon that observes."""

from __future__ import annotations

from pathlib import Path

import pytest

from noded.errors import ConfigError
from noded.kubelet.settings import load

NEEDED = ["--kubernetes", "--server", "riseml:7433", "--token-file", "t", "--ca-file", "c"]


def test_places_are_a_kubelets_unless_told() -> None:
    settings = load(NEEDED, {"RISEML_NODE_NAME": "n1"})
    assert settings.node_name == "n1"
    assert settings.pod_logs == Path("/var/log/pods")
    assert settings.pod_resources == Path("/var/lib/kubelet/pod-resources/kubelet.sock")
    assert load([*NEEDED, "--name", "n2"], {"RISEML_NODE_NAME": "n1"}).node_name == "n2"


def test_what_is_missing_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match="RISEML_NODE_NAME"):
        load(NEEDED, {})
    with pytest.raises(ConfigError, match="HOST:PORT"):
        load([*NEEDED, "--server", "riseml"], {"RISEML_NODE_NAME": "n1"})
    with pytest.raises(SystemExit):
        load(["--kubernetes"], {})
    assert "--token-file" in capsys.readouterr().err
