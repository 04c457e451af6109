"""The Helm chart, offline: what it renders is valid, grants little, and fits the control plane."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from controlplane import config
from noded.kubelet.settings import load as load_observer
from tests.e2e.helm.build import build
from tests.e2e.helm.chart import CHART, NAMESPACE, Chart, Manifest, Refused, one, pods

# Helm is built when it is missing; that takes minutes once.
pytestmark = pytest.mark.timeout(1800)

VALUES = Path(__file__).parent / "chart_values"
DOCS = CHART.parents[2] / "docs" / "install-kubernetes.md"
FILES = sorted(VALUES.glob("*.yaml"))
# The oldest that Chart.yaml takes, and the newest of which there are schemas.
VERSIONS = ("1.30.0", "1.37.0")

# Values that Kubernetes defines, and which pass through whole.
OF_KUBERNETES = (
    "resources",
    "noded.resources",
    "affinity",
    "podSecurityContext",
    "securityContext",
)

every_values_file = pytest.mark.parametrize("values", FILES, ids=lambda file: file.stem)


@pytest.fixture(scope="session")
def chart() -> Chart:
    """Fails with a word on what to install where helm can not be had."""
    return Chart(build())


@every_values_file
def test_lint_has_nothing_to_say(chart: Chart, values: Path) -> None:
    assert "0 chart(s) failed" in chart.lint(values)


@every_values_file
@pytest.mark.parametrize("kubernetes", VERSIONS)
def test_every_manifest_is_valid(chart: Chart, values: Path, kubernetes: str) -> None:
    manifests = chart.render(values, kubernetes=kubernetes)
    for manifest in manifests:
        kubernetes_validate.validate(manifest, kubernetes, strict=True)
    names = [_identity(manifest) for manifest in manifests]
    assert len(names) == len(set(names))


@every_values_file
def test_what_has_a_namespace_says_which(chart: Chart, values: Path) -> None:
    for manifest in chart.render(values):
        cluster_wide = manifest["kind"] in ("Namespace", "ClusterRole", "ClusterRoleBinding")
        assert ("namespace" in manifest["metadata"]) is not cluster_wide


def test_a_kubernetes_that_is_too_old_is_refused(chart: Chart) -> None:
    with pytest.raises(Refused, match=r"requires kubeVersion: >=1\.30"):
        chart.render(kubernetes="1.29.0")


# ---- rights ---------------------------------------------------------------------------------


def _control(manifests: list[Manifest]) -> list[Manifest]:
    """Without what is of the daemons."""
    component = "app.kubernetes.io/component"
    return [m for m in manifests if m["metadata"].get("labels", {}).get(component) != "noded"]


def _rights(manifests: list[Manifest]) -> Iterator[tuple[str, str, str]]:
    for manifest in manifests:
        if manifest["kind"] in ("Role", "ClusterRole"):
            for rule in manifest["rules"]:
                assert set(rule) - {"resourceNames"} == {"apiGroups", "resources", "verbs"}
                reviews = rule["resources"] == ["tokenreviews"]
                assert rule["apiGroups"] == ["authentication.k8s.io" if reviews else ""]
                for resource in rule["resources"]:
                    for verb in rule["verbs"]:
                        yield manifest["kind"], resource, verb


def test_rights_are_exactly_those_that_the_docs_give_reasons_for(chart: Chart) -> None:
    row = re.compile(r"^\| (Role|ClusterRole) \| `([a-z/]+)` \| ([a-z`, ]+) \| \S", re.MULTILINE)
    documented = {
        (kind, resource, verb)
        for kind, resource, verbs in row.findall(DOCS.read_text())
        for verb in re.findall("[a-z]+", verbs)
    }
    granted = list(_rights(chart.render()))
    assert set(granted) == documented
    assert len(granted) == len(set(granted))


@every_values_file
def test_no_right_is_a_wildcard_or_leads_to_more(chart: Chart, values: Path) -> None:
    manifests = chart.render(values)
    for _, resource, verb in _rights(manifests):
        assert "*" not in resource + verb
        assert verb not in ("escalate", "bind", "impersonate")
        assert resource.partition("/")[0] not in ("serviceaccounts", "roles")
        # Who may patch or list them can read them.
        assert resource != "secrets" or verb == "create"
        assert resource not in ("pods/exec", "pods/attach", "nodes/proxy")
    roles = {(m["kind"], m["metadata"]["name"]) for m in manifests if "Role" in m["kind"]}
    for manifest in manifests:
        if manifest["kind"].endswith("RoleBinding"):
            reference = manifest["roleRef"]
            assert (reference["kind"], reference["name"]) in roles
            (subject,) = manifest["subjects"]
            assert subject["namespace"] == NAMESPACE


def test_the_role_is_in_the_jobs_namespace_and_its_subject_is_not(chart: Chart) -> None:
    manifests = _control(chart.render(None, "jobs.namespace=training"))
    assert one(manifests, "Role")["metadata"]["namespace"] == "training"
    binding = one(manifests, "RoleBinding")
    assert binding["metadata"]["namespace"] == "training"
    assert binding["subjects"][0]["namespace"] == NAMESPACE
    assert one(manifests, "Deployment")["metadata"]["namespace"] == NAMESPACE


def test_only_the_control_plane_gets_a_token_of_kubernetes(chart: Chart) -> None:
    manifests = _control(chart.render())
    account = one(manifests, "ServiceAccount")
    assert account["automountServiceAccountToken"] is False
    pod = one(manifests, "Deployment")["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is True
    assert pod["serviceAccountName"] == account["metadata"]["name"]
    assert one(manifests, "Pod")["spec"]["automountServiceAccountToken"] is False


@every_values_file
def test_pods_fit_pod_security_restricted(chart: Chart, values: Path) -> None:
    for pod in pods(chart.render(values)):
        assert not pod.keys() & {"hostNetwork", "hostPID", "hostIPC"}
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for volume in pod.get("volumes", ()):
            assert volume.keys() <= {
                "name",
                "configMap",
                "emptyDir",
                "persistentVolumeClaim",
                "secret",
            }
        for container in pod["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


# ---- daemons --------------------------------------------------------------------------------


def test_daemons_can_look_at_their_node_and_do_nothing_to_it(chart: Chart) -> None:
    manifests = chart.render()
    daemons = one(manifests, "DaemonSet")
    pod = daemons["spec"]["template"]["spec"]
    (namespace,) = [m for m in manifests if m["kind"] == "Namespace"]
    assert namespace["metadata"]["name"] == daemons["metadata"]["namespace"] != NAMESPACE
    label = "pod-security.kubernetes.io/enforce"
    assert namespace["metadata"]["labels"][label] == "privileged"
    assert pod["hostPID"] is True and "hostNetwork" not in pod
    (container,) = pod["containers"]
    security = container["securityContext"]
    assert security["allowPrivilegeEscalation"] is False and "privileged" not in security
    assert security["readOnlyRootFilesystem"] is True
    assert security["capabilities"] == {"drop": ["ALL"]}
    folders = {v["name"] for v in pod["volumes"] if "hostPath" in v}
    assert folders == {"pod-logs", "pod-resources", "cgroup"}
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    assert all(mounts[name]["readOnly"] is True for name in folders)


def test_daemons_have_no_right_and_the_control_plane_knows_their_account(chart: Chart) -> None:
    manifests = chart.render()
    daemons = one(manifests, "DaemonSet")
    account = daemons["spec"]["template"]["spec"]["serviceAccountName"]
    assert daemons["spec"]["template"]["spec"]["automountServiceAccountToken"] is False
    where = daemons["metadata"]["namespace"]
    assert one(manifests, "ServiceAccount", account)["metadata"]["namespace"] == where
    for manifest in manifests:
        for subject in manifest.get("subjects", ()):
            assert subject["name"] != account
    table = _settings(manifests)["kubernetes"]
    assert table["daemon_account"] == f"{where}:{account}"
    authority = one(manifests, "ConfigMap", "riseml-ca")
    assert table["ca_config_map"] == f"{where}/{authority['metadata']['name']}"
    assert "data" not in authority
    (rule,) = one(manifests, "Role", "riseml-ca")["rules"]
    assert (rule["resourceNames"], rule["verbs"]) == (["riseml-ca"], ["patch"])
    # Tokens are made out to the name by which the control plane is known.
    (volume,) = [
        v for v in daemons["spec"]["template"]["spec"]["volumes"] if v["name"] == "identity"
    ]
    token = volume["projected"]["sources"][0]["serviceAccountToken"]
    assert token["audience"] == table["control_plane_address"].rpartition(":")[0]


def test_the_daemons_options_are_known(chart: Chart) -> None:
    (container,) = one(chart.render(), "DaemonSet")["spec"]["template"]["spec"]["containers"]
    settings = load_observer(container["args"], {"RISEML_NODE_NAME": "n1"})
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert {str(settings.pod_logs), str(settings.cgroups)} <= mounts
    assert str(settings.pod_resources.parent) in mounts


def test_without_daemons_nothing_is_left_of_them(chart: Chart) -> None:
    manifests = chart.render(None, "noded.enabled=false")
    assert _control(manifests) == manifests
    assert not {"daemon_account", "ca_config_map"} & _settings(manifests)["kubernetes"].keys()
    assert ("ClusterRole", "tokenreviews", "create") not in set(_rights(manifests))


def test_daemons_run_where_jobs_may(chart: Chart) -> None:
    manifests = chart.render(VALUES / "everything.yaml")
    pod = one(manifests, "DaemonSet")["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {"nvidia.com/gpu.present": "true", "observed": "yes"}
    assert pod["tolerations"] == [{"operator": "Exists"}]
    assert pod["runtimeClassName"] == "nvidia"


# ---- configuration --------------------------------------------------------------------------


def _settings(manifests: list[Manifest]) -> dict[str, Any]:
    return tomllib.loads(one(_control(manifests), "ConfigMap")["data"]["controlplane.toml"])


def _file_for_the_control_plane(manifests: list[Manifest], path: Path) -> Path:
    """Its top-level settings: the launcher's table is read by the launcher."""
    text: str = one(_control(manifests), "ConfigMap")["data"]["controlplane.toml"]
    path.write_text(text.partition("\n[kubernetes]")[0])
    return path


def _mounts(manifests: list[Manifest]) -> dict[str, str]:
    """Claims that the control plane mounts, by path."""
    pod = one(manifests, "Deployment")["spec"]["template"]["spec"]
    claims = {
        volume["name"]: volume["persistentVolumeClaim"]["claimName"]
        for volume in pod["volumes"]
        if "persistentVolumeClaim" in volume
    }
    (container,) = pod["containers"]
    return {
        mount["mountPath"]: claims[mount["name"]]
        for mount in container["volumeMounts"]
        if mount["name"] in claims
    }


@every_values_file
def test_the_control_plane_takes_its_settings(chart: Chart, values: Path, tmp_path: Path) -> None:
    manifests = chart.render(values)
    file = _file_for_the_control_plane(manifests, tmp_path / "controlplane.toml")
    settings = config.parse(["--config", str(file)])
    assert settings.tls
    assert str(settings.home) in _mounts(manifests)


@every_values_file
def test_the_certificate_is_for_every_name_of_the_service(chart: Chart, values: Path) -> None:
    manifests = chart.render(values)
    settings = _settings(manifests)
    service = one(manifests, "Service")
    name = service["metadata"]["name"]
    assert {name, f"{name}.{NAMESPACE}", f"{name}.{NAMESPACE}.svc"} <= set(settings["tls_names"])
    host, _, port = settings["kubernetes"]["control_plane_address"].rpartition(":")
    assert host in settings["tls_names"]
    assert int(port) == service["spec"]["ports"][0]["port"]


def test_a_certificate_of_others_comes_from_its_secret(chart: Chart) -> None:
    manifests = chart.render(None, "tls.existingSecret=riseml-tls", "tlsNames={a.example.org}")
    settings = _settings(manifests)
    assert "tls_names" not in settings
    pod = one(manifests, "Deployment")["spec"]["template"]["spec"]
    (volume,) = [v for v in pod["volumes"] if v["name"] == "tls"]
    assert volume["secret"]["secretName"] == "riseml-tls"
    (mount,) = [m for m in pod["containers"][0]["volumeMounts"] if m["name"] == "tls"]
    assert (mount["mountPath"], mount["readOnly"]) == (settings["tls_folder"], True)


def test_every_value_arrives_in_the_launchers_table(chart: Chart) -> None:
    settings = _settings(chart.render(VALUES / "everything.yaml"))
    assert settings["tls_names"] == [
        "ml.ml-platform.svc",
        "ml.ml-platform.svc.example.internal",
        "ml.ml-platform",
        "ml",
        "riseml.example.org",
        "192.0.2.7",
    ]
    assert settings["kubernetes"] == {
        "kubeconfig": "",
        "namespace": "training",
        "control_plane_address": "ml.ml-platform.svc:443",
        "platform_image": "registry.example.org:5000/ml/riseml:1.0",
        "default_image": "python:3.12-slim",
        "image_pull_policy": "Always",
        "image_pull_secrets": ["registry", "other"],
        "data_volume": "hostPath:/mnt/datasets",
        "output_volume": "claim:ml-output",
        "pod_security": "privileged",
        "run_as_user": 1_000_660_000,
        "scheduling": "gates",
        "daemon_account": "observers:ml-noded",
        "ca_config_map": "observers/ml-ca",
        "framework_images": {
            "pytorch": "pytorch/pytorch:{version}",
            "jax": "registry.example.org:5000/ml/jax:{version}",
        },
        "node_selector": {"nvidia.com/gpu.present": "true"},
        "tolerations": [
            {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},
            {
                "key": "slow",
                "operator": "Equal",
                "value": "yes",
                "effect": "NoExecute",
                "tolerationSeconds": 300,
            },
        ],
    }
    assert isinstance(settings["kubernetes"]["run_as_user"], int)


@every_values_file
def test_claims_that_the_chart_makes_lie_where_they_are_used(chart: Chart, values: Path) -> None:
    manifests = chart.render(values)
    claims = {
        (manifest["metadata"]["namespace"], manifest["metadata"]["name"])
        for manifest in manifests
        if manifest["kind"] == "PersistentVolumeClaim"
    }
    table = _settings(manifests)["kubernetes"]
    used = {
        (table["namespace"], table[key].removeprefix("claim:"))
        for key in ("data_volume", "output_volume")
        if table[key].startswith("claim:")
    }
    assert claims <= used | {(NAMESPACE, name) for name in _mounts(manifests).values()}


def test_claims_of_jobs_are_mounted_where_they_can_be(chart: Chart) -> None:
    settings = ("jobs.data.existingClaim=sets", "jobs.output.size=1Ti")
    here = chart.render(None, *settings)
    assert _settings(here)["data_root"] == "/data"
    assert _mounts(here)["/data"] == "sets"
    assert _mounts(here)["/output"] == "riseml-output"
    elsewhere = chart.render(None, *settings, "jobs.namespace=training")
    assert "data_root" not in _settings(elsewhere)
    assert set(_mounts(elsewhere)) == {"/var/lib/riseml"}


def test_text_is_quoted_as_toml_wants_it(chart: Chart, tmp_path: Path) -> None:
    odd = "a \"quoted\" \\ <text>, 'é' & # and\nmore"
    file = tmp_path / "values.yaml"
    file.write_text(json.dumps({"jobs": {"defaultImage": odd, "nodeSelector": {odd: odd}}}))
    table = _settings(chart.render(file))["kubernetes"]
    assert table["default_image"] == odd
    assert table["node_selector"] == {odd: odd}


def test_another_configuration_is_another_pod(chart: Chart) -> None:
    def checksum(*settings: str) -> str:
        template = one(chart.render(None, *settings), "Deployment")["spec"]["template"]
        text: str = template["metadata"]["annotations"]["checksum/config"]
        return text

    assert checksum() == checksum()
    assert checksum() != checksum("jobs.scheduling=gates")


def test_one_control_plane_stops_before_the_next_starts(chart: Chart) -> None:
    spec = one(chart.render(), "Deployment")["spec"]
    assert spec["replicas"] == 1
    assert spec["strategy"] == {"type": "Recreate"}


def test_the_password_of_the_database_comes_from_its_secret_only(chart: Chart) -> None:
    manifests = chart.render(VALUES / "postgresql.yaml")
    (container,) = one(manifests, "Deployment")["spec"]["template"]["spec"]["containers"]
    (password,) = [entry for entry in container["env"] if entry["name"] == "PGPASSWORD"]
    assert password["valueFrom"] == {"secretKeyRef": {"name": "riseml-db", "key": "db-password"}}
    assert not any(manifest["kind"] == "Secret" for manifest in manifests)
    for url in ("postgresql://riseml:secret@db/riseml", "postgresql://db/riseml?password=secret"):
        with pytest.raises(Refused, match=r"store\.url holds a password"):
            chart.render(None, f"store.url={url}")


def test_a_network_policy_lets_in_jobs_and_the_test(chart: Chart) -> None:
    manifests = chart.render(VALUES / "postgresql.yaml")
    policy = one(manifests, "NetworkPolicy")["spec"]
    (ingress,) = policy["ingress"]
    selected = [peer["podSelector"]["matchLabels"] for peer in ingress["from"][1:]]
    assert selected[0] == {"app.kubernetes.io/name": "riseml-job"}
    daemon = one(manifests, "DaemonSet")["spec"]["template"]["metadata"]["labels"]
    assert selected[1].items() <= daemon.items()
    assert selected[2].items() <= one(manifests, "Pod")["metadata"]["labels"].items()
    ports = [port["port"] for rule in policy["egress"] for port in rule["ports"]]
    assert ports == [53, 53, 443, 6443, 6432]
    labels = one(manifests, "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert policy["podSelector"]["matchLabels"].items() <= labels.items()


@pytest.mark.parametrize(
    ("url", "ports"),
    [
        ("postgresql://riseml@db.example.org/riseml", [5432]),
        ("postgresql://db.example.org:6432?target_session_attrs=any", [6432]),
        ("postgresql://riseml@[2001:db8::1]/riseml", [5432]),
        (r"postgresql://riseml@one:6001\,two:6002\,three/riseml", [6001, 6002, 5432]),
    ],
)
def test_a_network_policy_lets_out_to_every_host_of_the_database(
    chart: Chart, url: str, ports: list[int]
) -> None:
    wanted = ("networkPolicy.enabled=true", "networkPolicy.egress.enabled=true")
    manifests = chart.render(None, f"store.url={url}", *wanted)
    rules = one(manifests, "NetworkPolicy")["spec"]["egress"]
    assert [port["port"] for port in rules[-1]["ports"]] == ports


# ---- what is refused ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("jobs.podSecurty=baseline",), "additional properties 'podSecurty' not allowed"),
        (("replicas=3",), "additional properties 'replicas' not allowed"),
        (("image.digest=latest",), "'/image/digest': 'latest' does not match pattern"),
        (("jobs.scheduling=both",), "'/jobs/scheduling': value must be one of 'bind', 'gates'"),
        (("service.port=http",), "'/service/port': got string, want integer"),
        (("store.url=mysql://db/riseml",), "'/store/url'"),
        (("store.existingSecret=db",), "store.url names no PostgreSQL server"),
        (("store.caSecret=db",), "store.url names no PostgreSQL server"),
        (("serviceAccount.create=false",), "name the account in serviceAccount.name"),
        (("jobs.createNamespace=true",), "helm makes that with --create-namespace"),
        (("jobs.data.hostPath=/mnt",), "at level privileged only"),
        (("noded.namespace=ml-platform",), "noded.namespace is the namespace of the control"),
        (("noded.podLogs=logs",), "'/noded/podLogs'"),
        (("jobs.output.size=1Gi", "jobs.output.existingClaim=out"), "jobs.output: give one of"),
    ],
    ids=lambda value: value[0].partition("=")[0] if isinstance(value, tuple) else "",
)
def test_wrong_values_are_refused_with_a_word(
    chart: Chart, settings: tuple[str, ...], message: str
) -> None:
    with pytest.raises(Refused, match=re.escape(message)):
        chart.render(None, *settings)


# ---- what people read -----------------------------------------------------------------------


def _paths(values: dict[str, Any], above: str = "") -> Iterator[str]:
    for key, value in values.items():
        if isinstance(value, dict) and value and above + key not in OF_KUBERNETES:
            yield from _paths(value, f"{above}{key}.")
        else:
            yield above + key


def _described(schema: dict[str, Any], definitions: dict[str, Any], above: str) -> Iterator[str]:
    """Paths of the schema that are not objects with keys of their own."""
    for key, found in schema["properties"].items():
        entry = definitions[found["$ref"].rpartition("/")[2]] if "$ref" in found else found
        assert entry.get("description"), above + key
        if "properties" in entry:
            assert entry["additionalProperties"] is False, above + key
        if "properties" in entry and above + key not in OF_KUBERNETES:
            yield from _described(entry, definitions, f"{above}{key}.")
        else:
            yield above + key


def test_schema_values_and_readme_name_the_same(chart: Chart) -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    described = set(_described(schema, schema["definitions"], ""))
    values = set(_paths(yaml.safe_load((CHART / "values.yaml").read_text())))
    assert described - {"global"} == values
    readme = (CHART / "README.md").read_text()
    assert set(re.findall(r"^\| `([A-Za-z.]+)` \|", readme, re.MULTILINE)) == values


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ((), ("port-forward service/riseml 7433:7433", "control/admin-key", "fingerprint")),
        (("service.type=LoadBalancer",), ("THAT_ADDRESS:7433", "tlsNames is empty")),
        (("service.type=NodePort",), ("NODE:THAT_PORT", "jobs.output names no volume")),
    ],
)
def test_notes_say_how_to_log_in(
    chart: Chart, tmp_path: Path, settings: tuple[str, ...], words: tuple[str, ...]
) -> None:
    notes = chart.notes(tmp_path, None, *settings)
    assert not [word for word in words if word not in notes]


def test_values_shown_in_the_docs_install(chart: Chart, tmp_path: Path) -> None:
    shown = re.findall(r"```yaml\n# values\.yaml\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert len(shown) >= 3
    for number, text in enumerate(shown):
        file = tmp_path / f"{number}.yaml"
        file.write_text(text)
        for manifest in chart.render(file):
            kubernetes_validate.validate(manifest, VERSIONS[-1], strict=True)


def _identity(manifest: Manifest) -> tuple[str, str, str]:
    metadata = manifest["metadata"]
    return manifest["kind"], metadata.get("namespace", ""), metadata["name"]
