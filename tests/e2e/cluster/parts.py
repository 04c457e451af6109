"""The parts of the cluster: how each is started, and how one sees that it is ready."""

from __future__ import annotations

import json
import ssl
import sys
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.e2e.cluster.certificates import Authority, Pair
from tests.e2e.cluster.network import NODE_ADDRESS, POD_RANGE, SERVICE_ADDRESS, SERVICE_RANGE
from tests.e2e.cluster.places import NODE, Places
from tests.e2e.cluster.programs import CNI_PLUGINS, DNS, KUBERNETES

API: Final = f"https://{NODE_ADDRESS}:6443"
CONTAINERD_SOCKET: Final = "/run/containerd/containerd.sock"
# That the fake device plugin offers.
GPUS: Final = 2
RESOURCE: Final = "nvidia.com/gpu"
PAUSE_IMAGE: Final = "localhost/riseml-e2e/pause:1"


@dataclass(frozen=True, slots=True)
class Part:
    """One program of the cluster."""

    name: str
    command: tuple[str, ...]
    # Asked again and again while it starts.
    ready: Callable[[], bool]


class Parts:
    """All of them for one run; writes their certificates and settings."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._programs = KUBERNETES.folder
        self._authority = Authority(places.certificates)
        self._accounts = self._authority.signing_key("service-accounts")
        hosts = (
            *("kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost"),
            *(NODE_ADDRESS, SERVICE_ADDRESS, "127.0.0.1"),
        )
        self._server = self._authority.issue("apiserver", "kube-apiserver", hosts=hosts)
        self._admin = self._client("admin", "admin", ("system:masters",), places.kubeconfig)

    def etcd(self) -> Part:
        command = (
            *("etcd", "--data-dir", str(self._places.state / "etcd")),
            *("--listen-client-urls", "http://127.0.0.1:2379"),
            *("--advertise-client-urls", "http://127.0.0.1:2379"),
            *("--listen-peer-urls", "http://127.0.0.1:2380"),
            # Nothing here has to outlive the machine.
            "--unsafe-no-fsync",
        )
        return Part("etcd", command, lambda: _answers("http://127.0.0.1:2379/health"))

    def apiserver(self) -> Part:
        ca = self._authority.pair.certificate
        to_kubelet = self._authority.issue("to-kubelet", "kube-apiserver", ("system:masters",))
        command = (
            str(self._programs / "kube-apiserver"),
            "--etcd-servers=http://127.0.0.1:2379",
            f"--advertise-address={NODE_ADDRESS}",
            f"--service-cluster-ip-range={SERVICE_RANGE}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--allow-privileged=true",
            f"--client-ca-file={ca}",
            f"--tls-cert-file={self._server.certificate}",
            f"--tls-private-key-file={self._server.key}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={self._accounts.certificate}",
            f"--service-account-signing-key-file={self._accounts.key}",
            f"--kubelet-client-certificate={to_kubelet.certificate}",
            f"--kubelet-client-key={to_kubelet.key}",
            f"--kubelet-certificate-authority={ca}",
            "--kubelet-preferred-address-types=InternalIP",
        )
        return Part("kube-apiserver", command, lambda: self.answers("/readyz"))

    def controller_manager(self) -> Part:
        kubeconfig = self._places.settings / "controller-manager.kubeconfig"
        self._client("controller-manager", "system:kube-controller-manager", (), kubeconfig)
        ca = self._authority.pair
        command = (
            str(self._programs / "kube-controller-manager"),
            f"--kubeconfig={kubeconfig}",
            f"--service-account-private-key-file={self._accounts.key}",
            f"--root-ca-file={ca.certificate}",
            "--use-service-account-credentials=true",
            "--leader-elect=false",
            # Tests wait for what it finds.
            "--node-monitor-period=2s",
            "--node-monitor-grace-period=16s",
        )
        # A pod can be made once its namespace has this account.
        account = "/api/v1/namespaces/default/serviceaccounts/default"
        return Part("kube-controller-manager", command, lambda: self.answers(account))

    def scheduler(self) -> Part:
        kubeconfig = self._places.settings / "scheduler.kubeconfig"
        self._client("scheduler", "system:kube-scheduler", (), kubeconfig)
        command = (
            str(self._programs / "kube-scheduler"),
            *(f"--kubeconfig={kubeconfig}", "--leader-elect=false", "--bind-address=127.0.0.1"),
        )
        ready = "https://127.0.0.1:10259/healthz"
        return Part("kube-scheduler", command, lambda: _answers(ready, _no_check()))

    def containerd(self) -> Part:
        settings = self._places.settings / "containerd.toml"
        networks = self._places.settings / "cni"
        networks.mkdir()
        (networks / "10-bridge.conflist").write_text(json.dumps(_pod_network()))
        settings.write_text(_CONTAINERD.format(networks=networks, plugins=CNI_PLUGINS))
        command = ("containerd", "--config", str(settings))
        return Part("containerd", command, lambda: Path(CONTAINERD_SOCKET).exists())

    def kubelet(self) -> Part:
        kubeconfig = self._places.settings / "kubelet.kubeconfig"
        self._client("kubelet-client", f"system:node:{NODE}", ("system:nodes",), kubeconfig)
        serving = self._authority.issue("kubelet", NODE, hosts=(NODE, NODE_ADDRESS))
        settings = self._places.settings / "kubelet.json"
        settings.write_text(json.dumps(self._kubelet_settings(serving), indent=1))
        command = (
            str(self._programs / "kubelet"),
            *(f"--kubeconfig={kubeconfig}", f"--config={settings}"),
            *(f"--hostname-override={NODE}", f"--node-ip={NODE_ADDRESS}"),
        )
        return Part("kubelet", command, self.node_is_ready)

    def _kubelet_settings(self, serving: Pair) -> dict[str, Any]:
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {
                "anonymous": {"enabled": False},
                "x509": {"clientCAFile": str(self._authority.pair.certificate)},
            },
            "tlsCertFile": str(serving.certificate),
            "tlsPrivateKeyFile": str(serving.key),
            "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
            # Machines of tests have version 1 of control groups as well as version 2.
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{self._places.root.name}",
            "cgroupsPerQOS": True,
            "failCgroupV1": False,
            "failSwapOn": False,
            # Whatever else the machine does, tests are not evicted for it.
            "evictionHard": {"memory.available": "64Mi", "nodefs.available": "1%"},
            "imageGCHighThresholdPercent": 100,
            "imageGCLowThresholdPercent": 99,
            "nodeStatusUpdateFrequency": "4s",
            "syncFrequency": "10s",
            "registerNode": True,
            "clusterDNS": [NODE_ADDRESS],
            "clusterDomain": "cluster.local",
            # As usual on nodes, but looked at so often that tests see it happen.
            "containerLogMaxSize": "10Mi",
            "containerLogMaxFiles": 5,
            "containerLogMonitorInterval": "3s",
        }

    def proxy(self) -> Part:
        """Makes Services of pods reachable under their own addresses."""
        kubeconfig = self._places.settings / "proxy.kubeconfig"
        self._client("proxy", "system:kube-proxy", (), kubeconfig)
        command = (
            str(self._programs / "kube-proxy"),
            *(f"--kubeconfig={kubeconfig}", f"--hostname-override={NODE}"),
            *("--proxy-mode=iptables", f"--cluster-cidr={POD_RANGE}"),
            # The machine's own limits of connections are not ours to change.
            *("--conntrack-max-per-core=0", "--conntrack-tcp-timeout-established=0"),
            *("--conntrack-tcp-timeout-close-wait=0", "--healthz-bind-address=127.0.0.1:10256"),
        )
        return Part("kube-proxy", command, lambda: _answers("http://127.0.0.1:10256/healthz"))

    def dns(self) -> Part:
        """Names of Services, and of pods that have one; nothing beyond the cluster."""
        kubeconfig = self._places.settings / "dns.kubeconfig"
        self._client("dns", "dns", ("system:masters",), kubeconfig)
        settings = self._places.settings / "Corefile"
        settings.write_text(_COREFILE.format(kubeconfig=kubeconfig))
        command = (str(DNS.folder / "dns"), "-conf", str(settings))
        return Part("dns", command, lambda: _answers("http://127.0.0.1:8181/ready"))

    def device_plugin(self) -> Part:
        command = (sys.executable, "-m", "tests.e2e.cluster.device_plugin", str(GPUS))
        return Part("device-plugin", command, lambda: self._offered_gpus() == GPUS)

    def answers(self, path: str) -> bool:
        """Whether the API server says yes."""
        return _answers(API + path, self._as_admin())

    def node_is_ready(self) -> bool:
        conditions = self._node_status().get("conditions", [])
        return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)

    def _offered_gpus(self) -> int:
        return int(self._node_status().get("allocatable", {}).get(RESOURCE, 0))

    def _node_status(self) -> dict[str, Any]:
        """Empty until the node is there."""
        url = f"{API}/api/v1/nodes/{NODE}"
        try:
            with urllib.request.urlopen(url, timeout=5, context=self._as_admin()) as answer:
                status: dict[str, Any] = json.load(answer)["status"]
        except OSError:
            return {}
        return status

    def _as_admin(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self._authority.pair.certificate))
        context.load_cert_chain(self._admin.certificate, self._admin.key)
        return context

    def _client(self, file: str, name: str, groups: tuple[str, ...], kubeconfig: Path) -> Pair:
        """A user's certificate, and the file that programs log in with."""
        pair = self._authority.issue(file, name, groups)
        cluster = {"server": API, "certificate-authority": str(self._authority.pair.certificate)}
        user = {"client-certificate": str(pair.certificate), "client-key": str(pair.key)}
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "e2e", "cluster": cluster}],
            "users": [{"name": name, "user": user}],
            "contexts": [{"name": "e2e", "context": {"cluster": "e2e", "user": name}}],
            "current-context": "e2e",
        }
        kubeconfig.write_text(json.dumps(content, indent=1))
        return pair


def _answers(url: str, context: ssl.SSLContext | None = None) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5, context=context) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _no_check() -> ssl.SSLContext:
    """For a part that makes its own certificate, asked on loopback."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _pod_network() -> dict[str, Any]:
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": POD_RANGE}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }
    return {"cniVersion": "0.4.0", "name": "e2e", "plugins": [bridge]}


_COREFILE: Final = f"""\
.:53 {{{{
    bind {NODE_ADDRESS}
    errors
    ready 127.0.0.1:8181
    kubernetes cluster.local {{{{
        kubeconfig {{kubeconfig}}
        # Members of a gang look for each other while they come up.
        ttl 1
    }}}}
    # Nothing beyond the cluster has a name here.
    template ANY ANY {{{{
        rcode NXDOMAIN
    }}}}
}}}}
"""

_CONTAINERD: Final = f"""\
version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  # Else runc ends with "can't get final child's PID from pipe" where scores cannot be lowered.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{{plugins}}"
    conf_dir = "{{networks}}"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
"""
