"""The [kubernetes] table: read as the chart writes it, refused with the key and what would do."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from controlplane import config
from controlplane.launch.kubernetes.settings import (
    KubernetesSettings,
    SettingsError,
    Volume,
    read_settings,
)

NEEDED: dict[str, Any] = {
    "namespace": "jobs",
    "control_plane_address": "riseml.ml.svc:7433",
    "platform_image": "riseml/platform:1",
}

# What `helm template` makes of all values.
FROM_THE_CHART = """
[kubernetes]
kubeconfig = ""
namespace = "riseml-jobs"
control_plane_address = "riseml.riseml.svc:7433"
platform_image = "riseml/platform:0.1.0"
default_image = "python:3.12"
image_pull_policy = "IfNotPresent"
image_pull_secrets = ["registry"]
data_volume = "claim:riseml-data"
output_volume = ""
pod_security = "restricted"
run_as_user = 1000
scheduling = "bind"
daemon_account = "riseml-noded:riseml-noded"
ca_config_map = "riseml-noded/riseml-ca"

[kubernetes.framework_images]
"pytorch" = "pytorch/pytorch:{version}"

[kubernetes.node_selector]
"pool" = "gpu"

[[kubernetes.tolerations]]
"effect" = "NoExecute"
"key" = "nvidia.com/gpu"
"operator" = "Exists"
"tolerationSeconds" = 60
"""


def test_the_least_that_is_needed() -> None:
    assert read_settings(NEEDED) == KubernetesSettings(**NEEDED)


def test_what_the_chart_writes_is_read() -> None:
    settings = read_settings(tomllib.loads(FROM_THE_CHART)["kubernetes"])
    assert settings.data_volume == Volume(claim="riseml-data")
    assert settings.output_volume is None
    assert settings.framework_images == {"pytorch": "pytorch/pytorch:{version}"}
    assert settings.node_selector == {"pool": "gpu"}
    assert settings.tolerations[0]["tolerationSeconds"] == 60
    assert settings.daemon_account == "riseml-noded:riseml-noded"
    assert settings.ca_config_map == "riseml-noded/riseml-ca"
    assert settings.host == "riseml.riseml.svc"
    assert (settings.run_as_user, settings.image_pull_secrets) == (1000, ("registry",))


@pytest.mark.parametrize("missing", sorted(NEEDED))
def test_what_is_missing_is_named(missing: str) -> None:
    with pytest.raises(SettingsError, match=rf"kubernetes\.{missing} is missing"):
        read_settings({k: v for k, v in NEEDED.items() if k != missing})


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("namespace", "Jobs", "no namespace's name"),
        ("control_plane_address", "riseml", "HOST:PORT"),
        ("platform_image", "", "is empty"),
        ("image_pull_policy", "Sometimes", "IfNotPresent, Always, Never"),
        ("image_pull_secrets", "registry", "list of names"),
        ("data_volume", "/data", "claim:NAME"),
        ("data_volume", "hostPath:data", "hostPath:/FOLDER"),
        ("output_volume", "hostPath:/output", "allows no hostPath"),
        ("pod_security", "none", "restricted, baseline, privileged"),
        ("run_as_user", "1000", "a uid"),
        ("run_as_user", 0, "refuses root"),
        ("run_as_user", True, "a uid"),
        ("scheduling", "kueue", "bind, gates"),
        ("node_selector", {"a": 1}, "table of texts"),
        ("tolerations", [{"keys": "a"}], "unknown key 'keys'"),
        ("tolerations", {"key": "a"}, "list of tables"),
        ("force_delete_seconds", 0, "seconds"),
        ("foreign_pods", "yes", "true or false"),
        ("daemon_account", "riseml-noded", "NAMESPACE:NAME"),
        ("daemon_account", "riseml-noded:", "NAMESPACE:NAME"),
        ("ca_config_map", "Riseml/ca", "NAMESPACE/NAME"),
        ("ca_config_map", 1, "text in quotes"),
        ("namespaces", "jobs", "unknown setting"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_key(key: str, value: Any, words: str) -> None:
    with pytest.raises(SettingsError) as refused:
        read_settings({**NEEDED, key: value})
    assert f"kubernetes.{key}" in str(refused.value)
    assert words in str(refused.value)


def test_an_admin_may_allow_folders_of_nodes() -> None:
    settings = read_settings(
        {**NEEDED, "output_volume": "hostPath:/output", "pod_security": "privileged"}
    )
    assert settings.output_volume == Volume(host_path="/output")


# ------------------------------------------------------------------------ the file as a whole
def parse(folder: Path, text: str, *options: str) -> config.Config:
    file = folder / "controlplane.toml"
    file.write_text(text)
    return config.parse(["--home", str(folder), "--config", str(file), *options])


def test_the_launcher_brings_its_table(tmp_path: Path) -> None:
    settings = parse(tmp_path, FROM_THE_CHART, "--launcher", "kubernetes")
    assert settings.launcher == "kubernetes"
    assert settings.kubernetes is not None and settings.kubernetes.namespace == "riseml-jobs"


def test_the_table_is_nothing_to_daemons(tmp_path: Path) -> None:
    assert parse(tmp_path, FROM_THE_CHART).kubernetes is None


def test_faults_of_the_table_are_the_files(tmp_path: Path) -> None:
    with pytest.raises(config.ConfigError, match=r"kubernetes\.namespace is missing.*--config"):
        config.parse(["--home", str(tmp_path), "--launcher", "kubernetes"])
    with pytest.raises(config.ConfigError, match="launcher must be daemon or kubernetes"):
        config.parse(["--home", str(tmp_path), "--launcher", "slurm"])


def test_an_address_of_version_6_has_a_host_without_brackets() -> None:
    settings = read_settings({**NEEDED, "control_plane_address": "[fd00::5]:7433"})
    assert settings.host == "fd00::5"
